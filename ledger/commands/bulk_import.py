"""Importing: many lines of NDJSON told to the ledger, each taken or refused alone, answered in order.

Lines are decided in groups, each line on what those before it decided, and a group is appended as one while
the next is decided. A group that somebody else overtook is decided again on exact reads, then line by line.
Two groups are held at most, however long the input: memory is constant. Each line is idempotent by its ids
and reference, so an import that broke off is sent again whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated, Any, NamedTuple

import psycopg
from pydantic import Field, TypeAdapter, ValidationError

from ledger.call import Call, Cause
from ledger.commands import external_facts
from ledger.commands.execution import Decide, Decision, Execution, GroupContext
from ledger.commands.import_models import ImportLine
from ledger.commands.models import validation_error
from ledger.domain import webhook_endpoint_quota
from ledger.domain.money import Terms
from ledger.errors import InvalidParameter, LedgerError, RequestError
from ledger.files.storage import FileStorage
from ledger.ids import parse_id_time
from ledger.store.journal import VersionConflict

GROUP_LINES_MAX = 256
LINE_BYTES_MAX = 1_048_576

CheckAccount = Callable[[str], Awaitable[object]]
"""Raises RequestError for an account that a line may not act on."""

_LINE_ADAPTER: TypeAdapter[ImportLine] = TypeAdapter(Annotated[ImportLine, Field(discriminator="op")])


class LineResult(NamedTuple):
    """What became of a line. `answer` is a JSON object without its first brace."""

    number: int
    json_tail: str
    changed: bool = False
    refused: bool = False

    def to_json(self) -> str:
        return f'{{"line":{self.number},{self.json_tail}'


class _LineCommand(NamedTuple):
    """A line understood: how to decide it, on what; the object it makes, and others it reads or writes; the
    account it is told on, None for the import's."""

    decide: Decide
    target: str
    parameters: dict[str, object]
    created_id: str | None
    related_ids: tuple[str, ...] = ()
    account: str | None = None


_NumberedLine = tuple[int, _LineCommand | RequestError]


@dataclass(slots=True, eq=False)
class _Group:
    """Lines of one account, decided together. `appended_as_decided`: what was appended is what was decided
    first."""

    lines: Sequence[_NumberedLine]
    context: GroupContext
    decisions: list[Decision] = field(default_factory=list)
    error: LedgerError | None = None
    appended_as_decided: bool = False
    results: asyncio.Future[list[LineResult]] = field(default_factory=asyncio.Future)


class Import:
    """Tells the lines of one input, on one account and mode, as caused by `cause`."""

    def __init__(
        self,
        execution: Execution,
        terms: Terms,
        cause: Cause,
        storage: FileStorage,
        *,
        check_account: CheckAccount,
        render_error: Callable[[Exception], str],
    ) -> None:
        """`render_error` gives the error envelope of whatever ends a line."""
        self._execution = execution
        self._cause = cause
        self._check_account = check_account
        self._render_error = render_error
        self._decide_customer = external_facts.render_summary(external_facts.ingest_customer)
        self._decide_charge = external_facts.render_summary(external_facts.ingest_charge)
        self._decide_dispute = external_facts.render_summary(external_facts.ingest_dispute(terms))
        self._decide_webhook_endpoint = external_facts.render_summary(
            external_facts.ingest_webhook_endpoint(terms)
        )
        self._decide_fact = external_facts.render_summary(external_facts.ingest_dispute_fact(terms))
        self._decide_refund = external_facts.render_summary(external_facts.ingest_refund)
        self._decide_event = external_facts.render_summary(external_facts.ingest_event)
        self._decide_file = external_facts.render_summary(external_facts.ingest_file(storage))
        self._exact = False

    async def run(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[list[LineResult]]:
        """A result for each line that is not blank, in order, in groups as they become known."""
        groups = self._read_groups(chunks)
        next_lines = asyncio.ensure_future(anext(groups, None))
        previous: _Group | None = None
        try:
            while True:
                pending: list[asyncio.Future[Any]] = [previous.results] if previous else []
                await asyncio.wait([next_lines, *pending], return_when=asyncio.FIRST_COMPLETED)
                group = None
                lines = next_lines.result() if next_lines.done() and next_lines.exception() is None else None
                if lines is not None:
                    next_lines = asyncio.ensure_future(anext(groups, None))
                    group = await self._decide_group(lines, previous)
                elif previous is None:
                    await next_lines  # raises what ended the input
                    return
                results = await previous.results if previous else []
                if group is not None:
                    if previous and not previous.appended_as_decided:
                        group = await self._decide_group(group.lines, None)
                    group.results = asyncio.create_task(self._append_group(group), name="import")
                previous = group
                yield results
        finally:
            next_lines.cancel()
            await asyncio.gather(
                next_lines, *([previous.results] if previous else []), return_exceptions=True
            )

    async def _read_groups(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[Sequence[_NumberedLine]]:
        """Lines understood, as many as are there, at most GROUP_LINES_MAX, and of one account."""
        async for lines in _split_lines(chunks):
            for start in range(0, len(lines), GROUP_LINES_MAX):
                slice_lines = lines[start : start + GROUP_LINES_MAX]
                numbered_lines = [(number, self._parse_or_refuse(line)) for number, line in slice_lines]
                for account, group in groupby(numbered_lines, key=_account_of):
                    yield await self._check_account_of_group(account, list(group))

    async def _check_account_of_group(
        self, account: str | None, lines: Sequence[_NumberedLine]
    ) -> Sequence[_NumberedLine]:
        """The lines, refused where they are on an account that is out of reach."""
        try:
            if account is not None:
                await self._check_account(account)
        except RequestError as refusal:
            return [(number, refusal) for number, _ in lines]
        return lines

    def _parse_or_refuse(self, line: bytes | None) -> _LineCommand | RequestError:
        try:
            return self._parse_line(line)
        except InvalidParameter as error:
            return error

    async def _decide_group(self, lines: Sequence[_NumberedLine], previous: _Group | None) -> _Group:
        """The lines, decided one after another on what `previous`, which is being appended, will have
        changed."""
        context = self._execution.begin_group(
            previous.context.changed_states if previous else {}, exact=self._exact
        )
        group = _Group(lines, context)
        now = int(context.decided_at)
        try:
            await context.preload(self._list_streams_to_load(lines))
            for _, command in lines:
                if isinstance(command, RequestError):
                    decision = Decision([], refusal=command)
                else:
                    decision = await self._execution.decide(
                        self._build_call(command), context, command.decide, now
                    )
                context.add(decision.changes)
                group.decisions.append(decision)
        except LedgerError as error:
            group.error = error
        return group

    def _list_streams_to_load(self, lines: Sequence[_NumberedLine]) -> list[str]:
        """What the lines are about and do not make. What they make is thought to be new, until it is not."""
        created: set[str] = set()
        streams: list[str] = []
        for _, command in lines:
            if isinstance(command, _LineCommand):
                if command.created_id is not None:
                    created.add(command.created_id)
                streams += [stream for stream in command.related_ids if stream not in created]
        return [*streams, *created] if self._exact else streams

    async def _append_group(self, group: _Group) -> list[LineResult]:
        """Append the group; when it was overtaken, once more on exact reads, then each line alone."""
        try:
            if await self._try_append(group):
                group.appended_as_decided = True
                return self._render_results(group)
            self._exact = True
            retry = await self._decide_group(group.lines, None)
            if await self._try_append(retry):
                return self._render_results(retry)
        except LedgerError as error:
            return [self._render_refusal(number, error) for number, _ in group.lines]
        return [await self._run_line(number, command) for number, command in group.lines]

    async def _try_append(self, group: _Group) -> bool:
        """False when something that the group relies on has changed, or one of its lines cannot be written:
        nothing was. Raises LedgerError."""
        if group.error is not None:
            raise group.error
        try:
            await self._execution.append(self._build_cause(_account_of(group.lines[0])), group.context)
        except (VersionConflict, psycopg.DataError, psycopg.IntegrityError, TypeError, ValueError):
            return False
        # A file told again, or from a while ago: its objects are there, and not remembered.
        self._exact = self._exact and not all(decision.changes for decision in group.decisions)
        return True

    async def _run_line(self, number: int, command: _LineCommand | RequestError) -> LineResult:
        if isinstance(command, RequestError):
            return self._render_refusal(number, command)
        try:
            result = await self._execution.run(self._build_call(command), command.decide, fingerprint="")
        except Exception as error:  # the edge of a line: told in its result, the others go on
            return self._render_refusal(number, error)
        refused = result.status != 200
        return LineResult(number, result.body[1:], not refused and result.position is not None, refused)

    def _render_results(self, group: _Group) -> list[LineResult]:
        results = []
        for (number, _), decision in zip(group.lines, group.decisions, strict=True):
            _, answer = self._execution.encode(decision.refusal or decision.answer)
            results.append(
                LineResult(number, answer[1:], bool(decision.changes), decision.refusal is not None)
            )
        return results

    def _render_refusal(self, number: int, error: Exception) -> LineResult:
        return LineResult(number, self._render_error(error)[1:], refused=True)

    def _build_cause(self, account: str | None) -> Cause:
        return self._cause if account is None else self._cause._replace(account=account)

    def _build_call(self, command: _LineCommand) -> Call:
        return Call(self._build_cause(command.account), command.target, command.parameters)

    def _parse_line(self, line: bytes | None) -> _LineCommand:
        """Raises InvalidParameter for a line that is too long, no JSON, or not as declared."""
        if line is None:
            raise InvalidParameter(f"The line is longer than {LINE_BYTES_MAX} bytes.")
        try:
            model = _LINE_ADAPTER.validate_json(line)
        except ValidationError as error:
            first_error = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise validation_error(first_error, skip=1 if first_error["loc"] else 0) from None
        params = model.to_params()
        del params["op"]
        match model.op:
            case "customer":
                return _LineCommand(self._decide_customer, "", params, model.id)
            case "charge":
                related_ids = () if model.customer is None else (model.customer,)
                return _LineCommand(self._decide_charge, "", params, model.id, related_ids)
            case "dispute":
                return _LineCommand(self._decide_dispute, "", params, model.id, (model.charge,))
            case "fact":
                return _LineCommand(self._decide_fact, params.pop("dispute"), params, None, (model.dispute,))
            case "refund":
                return _LineCommand(self._decide_refund, "", params, model.id, (model.charge,))
            case "event":
                object_id = model.object.get("id")  # only an id of our form can be that of an Event made here
                related_ids = (
                    (object_id,) if isinstance(object_id, str) and parse_id_time(model.id) is not None else ()
                )
                return _LineCommand(self._decide_event, "", params, model.id, related_ids, model.account)
            case "file":
                return _LineCommand(self._decide_file, "", params, None, (model.id,))
            case "webhook_endpoint":
                account, livemode, *_ = self._cause
                quota_stream = webhook_endpoint_quota.get_stream_id(account, livemode)
                return _LineCommand(self._decide_webhook_endpoint, "", params, model.id, (quota_stream,))


def _account_of(line: _NumberedLine) -> str | None:
    command = line[1]
    return command.account if isinstance(command, _LineCommand) else None


async def _split_lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[list[tuple[int, bytes | None]]]:
    """Lines with their numbers, from 1, those of a chunk at a time; blank ones are left out, None stands for
    one that is too long."""
    number, rest, too_long = 0, b"", False
    async for chunk in chunks:
        *complete, rest = (rest + chunk).split(b"\n")
        lines: list[tuple[int, bytes | None]] = []
        for line in complete:
            number += 1
            if too_long or len(line) > LINE_BYTES_MAX:
                too_long = False
                lines.append((number, None))
            elif line.strip():
                lines.append((number, line))
        if lines:
            yield lines
        if len(rest) > LINE_BYTES_MAX:
            rest, too_long = b"", True
    if too_long or rest.strip():
        yield [(number + 1, None if too_long else rest)]
