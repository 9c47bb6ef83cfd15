"""Runs a scenario on the database as the service would: each request is decided by the command that answers
it over HTTP, and what follows is what follows there. The Events are those of the log, none is made up.

By the database and not over HTTP: it needs no key and no running service, as `ledger import` does. What it
makes is in the audit log as made by `cli`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from ledger.api.composition import build_execution, build_queries
from ledger.api.errors import STATUS_OK
from ledger.api.public.operations import RouteTable
from ledger.api.public.routes import OPERATIONS
from ledger.call import Call, Cause
from ledger.cli.events.live_events import read_head
from ledger.cli.events.scenarios import SCENARIOS, DueDate, OldAuthorization, Request, Step
from ledger.cli.shell import CLI_ACTOR, Deployment, choose_account
from ledger.clock import Clock
from ledger.commands.execution import CommandResult, Execution
from ledger.commands.external_facts import answer_with_object, ingest_charge
from ledger.deadlines import DeadlineSweeper
from ledger.domain.charge import Charge
from ledger.domain.money import DAY_SECONDS
from ledger.errors import LedgerError
from ledger.ids import new_id
from ledger.postgres.connections import Conn, Pool, open_connection
from ledger.store.log import Recorded, read_log
from ledger.store.store import Store
from ledger.wire.forms import decode
from ledger.wire.public_events import derive_event_id, derive_public_event_types

LOG_PAGE_EVENTS = 500


class MadeEvent(NamedTuple):
    """An Event that the run made: its id, its type, and the id of its object."""

    id: str
    type: str
    object: str


class ScenarioResult(NamedTuple):
    """What a run for an Event of this type made.

    event    the Event itself
    events   all Events, in the order of the log
    objects  type and id of each object, in order
    steps    what was done, in order
    """

    type: str
    event: str
    events: list[MadeEvent]
    objects: list[tuple[str, str]]
    steps: list[str]


class ScenarioFailed(LedgerError):
    """A step was refused, which no step of a scenario expects."""


async def run_scenarios(
    deployment: Deployment, event_types: Sequence[str], account: str | None
) -> AsyncGenerator[ScenarioResult, None]:
    """Make an Event of each of these types in test mode, one after another, in `account` (None: the only
    one). Raises SettingError for the account, ScenarioFailed, Unavailable."""
    settings, dsn, service_keys = deployment
    store = Store(dsn, service_keys, settings, Clock(movable=settings.test_clock))
    pool = Pool(dsn)
    queries = build_queries(store, pool, settings)
    execution = build_execution(store, queries, settings)
    async with open_connection(dsn, "ledger_api", name="trigger") as conn:
        chosen = await choose_account(conn, account)
        await store.start()
        await pool.open()
        try:
            for event_type in event_types:
                await store.clock.refresh(conn)
                head = await read_head(conn)
                run = ScenarioRun(store, execution, chosen)
                for step in SCENARIOS[event_type]:
                    await run.do(step)
                events = await run.find_events(conn, head)
                event = next(each.id for each in events if each.type == event_type)
                yield ScenarioResult(event_type, event, events, run.list_objects(), run.steps)
        finally:
            await store.close()
            await queries.pages.close()
            await pool.close()


class ScenarioRun:
    """One run: knows the objects that its steps have made."""

    def __init__(self, store: Store, execution: Execution, account: str) -> None:
        self.steps: list[str] = []
        self._store = store
        self._execution = execution
        self._account = account
        self._routes = RouteTable(OPERATIONS)
        self._sweeper = DeadlineSweeper(store, poll_ms=1000)
        self._ids: dict[str, str] = {}

    def list_objects(self) -> list[tuple[str, str]]:
        """Type and id of each object made, in order."""
        return list(self._ids.items())

    async def do(self, step: Step) -> None:
        """Do one step. Raises ScenarioFailed, Unavailable."""
        match step:
            case Request():
                await self._request(step)
            case OldAuthorization():
                await self._report_authorization(step)
            case DueDate():
                self.steps.append(f"the due date of {self._ids[step.object_type]}")
                await self._sweeper.expire(self._ids[step.object_type])

    async def find_events(self, conn: Conn, after: int) -> list[MadeEvent]:
        """The Events that the steps made, in the order of the log, behind the position `after`."""
        streams = set(self._ids.values())
        events: list[MadeEvent] = []
        while page := await read_log(conn, self._store.codec, after, LOG_PAGE_EVENTS):
            for recorded in page:
                stream = recorded.event.originator_id
                if stream in streams or (recorded.causation or "").partition("/")[0] in streams:
                    streams.add(stream)
                    events += _list_events(recorded)
            after = page[-1].position
        return events

    async def _request(self, request: Request) -> None:
        path = request.path.format_map(self._ids)
        form = {name: value.format_map(self._ids) for name, value in request.form.items()}
        operation, target, _ = self._routes.find(request.method, path)
        assert operation.decide is not None, "scenarios have commands only"
        call = self._build_call(target, operation.table.parse(decode(urlencode(form).encode())))
        self.steps.append(f"{request.method} {path}")
        result = await self._execution.run(call, operation.decide, fingerprint="")
        await self._keep_ids(result, is_declined=request.is_declined)

    async def _report_authorization(self, report: OldAuthorization) -> None:
        created = int(self._store.clock.now()) - report.days * DAY_SECONDS
        body = {"amount": 2000, "currency": "usd", "captured": False, "created": created}
        self.steps.append(f"report of a charge authorised {report.days} days ago and not captured")
        call = self._build_call("", body)
        await self._keep_ids(
            await self._execution.run(call, answer_with_object(ingest_charge), fingerprint="")
        )

    def _build_call(self, target: str, parameters: dict[str, Any]) -> Call:
        cause = Cause(self._account, False, CLI_ACTOR, new_id("req", time.time()), None)
        return Call(cause, target, parameters)

    async def _keep_ids(self, result: CommandResult, *, is_declined: bool = False) -> None:
        answer = msgspec.json.decode(result.body)
        if (result.status != STATUS_OK) != is_declined:
            raise ScenarioFailed(f"{self.steps[-1]}: {answer.get('error', {}).get('message', result.body)}")
        made = answer["error"] if is_declined else {answer["object"]: answer["id"], **answer}
        for name in ("customer", "payment_intent", "charge", "refund"):
            self._keep_id(name, made.get(name))
        self._keep_id("charge", made.get("latest_charge"))
        if (charge_id := self._ids.get("charge")) is not None:
            charge = await self._store.streams.read(charge_id)
            if isinstance(charge, Charge) and charge.disputes:
                self._keep_id("dispute", next(iter(charge.disputes)))

    def _keep_id(self, name: str, value: str | Mapping[str, Any] | None) -> None:
        """Keep the id of an object that was made: given as its id, or in an error as the object."""
        if value is not None:
            self._ids.setdefault(name, value if isinstance(value, str) else value["id"])


def _list_events(recorded: Recorded) -> list[MadeEvent]:
    return [
        MadeEvent(
            derive_event_id(recorded.event, ordinal, recorded.recorded_at),
            event_type,
            recorded.event.originator_id,
        )
        for ordinal, event_type in enumerate(derive_public_event_types(recorded.event))
    ]
