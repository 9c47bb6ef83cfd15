"""What the commands of erasure and legal holds share: the commands of the API, run by an operator's shell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import msgspec

from ledger.api.composition import build_execution, build_queries
from ledger.api.errors import STATUS_OK
from ledger.call import Call, Cause
from ledger.cli.shell import CLI_ACTOR, Deployment, open_deployment
from ledger.clock import Clock
from ledger.commands import redaction_jobs
from ledger.commands.execution import Decide, Execution
from ledger.commands.redaction_validation import survey_with_holds, validate
from ledger.domain import redaction_job_decisions
from ledger.domain.aggregate import State
from ledger.domain.redaction_job import ERROR, FIX, VALIDATING, RedactionJob
from ledger.domain.redaction_job_decisions import ROOT_TYPES, Scope
from ledger.domain.redaction_roots import get_root_type
from ledger.errors import InvalidState, RequestError, SettingError
from ledger.ids import new_id
from ledger.postgres.connections import Pool
from ledger.queries.context import QueryContext
from ledger.queries.redaction_scope import survey
from ledger.store.codec import fold
from ledger.store.seals import clear_rows
from ledger.store.store import Store

VALIDATION_PAUSE_SECONDS = 0.2
REASON_LENGTH_MAX = 500

ReturnValue = TypeVar("ReturnValue")


class Shell(NamedTuple):
    """What commands run on: the log, queries, and the execution of commands."""

    store: Store
    queries: QueryContext
    execution: Execution

    async def find(self, object_id: str) -> State:
        """The object with this id, of any account and mode. Raises SettingError."""
        state = await self.store.streams.read(object_id)
        if state is None:
            raise SettingError(f"there is no object {object_id}")
        return state

    async def find_job(self, job_id: str) -> RedactionJob:
        """The redaction job with this id. Raises SettingError."""
        state = await self.store.streams.read(job_id)
        if not isinstance(state, RedactionJob):
            raise SettingError(f"there is no redaction job {job_id}")
        return state

    async def run(self, state: State, decide: Decide, target: str = "", **parameters: Any) -> dict[str, Any]:
        """Run a command for the account and mode of `state`; returns its answer. Raises SettingError with the
        message of a refusal."""
        cause = Cause(state.account, state.livemode, CLI_ACTOR, new_id("req", time.time()), None)
        try:
            result = await self.execution.run(Call(cause, target, parameters), decide, fingerprint="")
        except RequestError as refusal:
            raise SettingError(refusal.message) from None
        answer: dict[str, Any] = msgspec.json.decode(result.body)
        if result.status != STATUS_OK:
            raise SettingError(answer["error"]["message"])
        return answer


def run_in_shell(action: Callable[[Shell], Awaitable[ReturnValue]]) -> ReturnValue:
    """Run `action` on the configured deployment, and return its result. Raises SettingError, Unavailable."""

    async def run(deployment: Deployment) -> ReturnValue:
        async with open_shell(deployment) as shell:
            return await action(shell)

    with open_deployment() as deployment:
        return asyncio.run(run(deployment))


@asynccontextmanager
async def open_shell(deployment: Deployment) -> AsyncIterator[Shell]:
    """What commands run on, until the block ends. Raises Unavailable."""
    settings = deployment.settings
    store = Store(deployment.dsn, deployment.service_keys, settings, Clock(movable=settings.test_clock))
    pool = Pool(deployment.dsn)
    await pool.open()
    try:
        async with pool.connection() as conn:
            await store.clock.refresh(conn)
        await store.start()
        queries = build_queries(store, pool, settings)
        try:
            yield Shell(store, queries, build_execution(store, queries, settings))
        finally:
            await store.close()
            await queries.pages.close()
    finally:
        await pool.close()


async def preview_erasure(shell: Shell, state: State, *, fix: bool) -> Scope:
    """What the erasure of the object would reach, and what stands in its way; nothing is changed. Raises
    SettingError."""
    now = shell.store.clock.now()
    events = redaction_job_decisions.create(
        job_id=new_id("prj", now),
        account=state.account,
        livemode=state.livemode,
        objects={_find_list(state): [state.id]},
        validation_behavior=FIX if fix else ERROR,
        requested_by="an operator",
        now=int(now),
    )
    job = fold(events)
    assert isinstance(job, RedactionJob)
    async with shell.queries.pool.connection() as conn:
        return await survey_with_holds(conn, shell.store, survey, job)


async def list_clear_generations(shell: Shell, objects: Sequence[str]) -> list[str]:
    """The generations of read models whose files may keep data of these objects in the clear."""
    async with shell.queries.pool.connection() as conn:
        return await clear_rows.list_clear_generations(conn, objects)


async def request_erasure(
    shell: Shell,
    object_id: str,
    reason: str,
    requested_by: str,
    *,
    fix: bool,
    first_requested_at: int | None = None,
) -> RedactionJob:
    """A new job that erases the object, validated; it does not run yet. `first_requested_at`: unix seconds,
    when the same erasure was requested before a restore. Raises SettingError."""
    state = await shell.find(object_id)
    answer = await shell.run(
        state,
        redaction_jobs.create,
        objects={_find_list(state): [object_id]},
        validation_behavior=FIX if fix else ERROR,
        reason=reason,
        requested_by=requested_by,
        first_requested_at=first_requested_at,
    )
    while (job := await shell.find_job(answer["id"])).status == VALIDATING:
        async with shell.queries.pool.connection() as conn:
            if not await validate(conn, shell.store, survey, job.id):  # another process may be at it
                await asyncio.sleep(VALIDATION_PAUSE_SECONDS)
    return job


def check_ready(job: RedactionJob) -> None:
    """Raises SettingError for a job that cannot be run."""
    try:
        redaction_job_decisions.check_ready(job)
    except InvalidState as refusal:
        raise SettingError(refusal.message) from None


async def run_erasure(shell: Shell, job: RedactionJob) -> RedactionJob:
    """Let a validated job run: running processes do the rest. Raises SettingError."""
    await shell.run(job, redaction_jobs.run, job.id)
    return await shell.find_job(job.id)


async def cancel_erasure(shell: Shell, job: RedactionJob) -> None:
    """Abandon a job that does not run yet. Raises SettingError."""
    await shell.run(job, redaction_jobs.cancel, job.id)


def check_reason(reason: str, option: str) -> None:
    """Raises SettingError for a reason that cannot be kept."""
    if not reason.strip() or len(reason) > REASON_LENGTH_MAX or not reason.isprintable():
        raise SettingError(f"{option}: one line of at most {REASON_LENGTH_MAX} characters is needed")


def _find_list(state: State) -> str:
    """The list of a redaction job that takes this object. Raises SettingError."""
    object_type = get_root_type(state)
    for name, each in ROOT_TYPES.items():
        if each == object_type:
            return name
    raise SettingError(f"{state.id} cannot be erased by itself: name the customer that it belongs to")
