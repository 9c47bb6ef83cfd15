"""Imports NDJSON: each line is accepted or refused on its own, and has a result, in the order of the lines.

Lines are decided in groups, each line on the outcome of those before it. A group is appended as one while the
next group is decided. If another request changed something that a group relied on, the group is decided again
on reads from the log, and if that fails too, line by line. At most two groups are in memory, however long the
input is. Lines are idempotent by id and reference, so an interrupted import can be sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import psycopg

from ledger.call import Call, Cause
from ledger.commands.context import GroupContext
from ledger.commands.execution import Decision, Execution, refuse_unreadable
from ledger.commands.imports.lines import LineCommand, parse_line, split_lines
from ledger.errors import (
    FailedOver,
    InvalidParameter,
    LedgerError,
    ObjectRedacted,
    RequestError,
    UnreadableRecord,
)
from ledger.store.journal import VersionConflict

GROUP_LINES_MAX = 256

CheckAccount = Callable[[str], Awaitable[object]]
"""Raises RequestError for an account that a line may not act on."""

_NumberedLine = tuple[int, LineCommand | RequestError]
"""A line's number and its command, or why the line is refused."""


class LineResult(NamedTuple):
    """The result of a line. `json_tail` is a JSON object without its opening brace; `position` that of the
    last event that the line recorded, None if it recorded none."""

    number: int
    json_tail: str
    position: int | None = None
    refused: bool = False

    @property
    def changed(self) -> bool:
        """Whether the line was accepted and changed something."""
        return self.position is not None and not self.refused

    def to_json(self) -> str:
        """The result as a JSON object, with the line's number and its position first."""
        position = f'"position":{self.position},' if self.position is not None else ""
        return f'{{"line":{self.number},{position}{self.json_tail}'


@dataclass(slots=True, eq=False)
class _Group:
    """Lines of one account, decided together.

    decisions             one for each line, unless `error` ended the decisions
    appended_as_decided   whether `decisions` were appended; otherwise lines were decided again, or failed
    position              of the last event that was appended
    results               of the lines, once the append has ended
    """

    lines: Sequence[_NumberedLine]
    context: GroupContext
    decisions: list[Decision] = field(default_factory=list)
    error: LedgerError | None = None
    appended_as_decided: bool = False
    position: int = 0
    results: asyncio.Future[list[LineResult]] = field(default_factory=asyncio.Future)


class Import:
    """Imports one input into the account and mode of `cause`.

    `check_account` runs for lines that name another account. `render_error` renders the error envelope for
    the error of a line.
    """

    def __init__(
        self,
        execution: Execution,
        cause: Cause,
        *,
        check_account: CheckAccount,
        render_error: Callable[[Exception], str],
    ) -> None:
        self._execution = execution
        self._cause = cause
        self._check_account = check_account
        self._render_error = render_error
        self._exact = False

    async def run(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[list[LineResult]]:
        """The results of all lines that are not blank, in order, a group at a time as it is appended."""
        groups = self._read_groups(chunks)
        next_lines = asyncio.ensure_future(anext(groups, None))
        previous: _Group | None = None  # the group that is being appended
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
                    await next_lines  # raises the error that ended the input, if there was one
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
        """Parsed lines of one account, as many as have arrived, at most GROUP_LINES_MAX."""
        async for lines in split_lines(chunks):
            for start in range(0, len(lines), GROUP_LINES_MAX):
                slice_lines = lines[start : start + GROUP_LINES_MAX]
                numbered_lines = [(number, self._parse_or_refuse(line)) for number, line in slice_lines]
                for account, group in groupby(numbered_lines, key=_account_of):
                    yield await self._check_account_of_group(account, list(group))

    async def _check_account_of_group(
        self, account: str | None, lines: Sequence[_NumberedLine]
    ) -> Sequence[_NumberedLine]:
        """The lines, or refusals of all of them if the import may not act on the account."""
        try:
            if account is not None:
                await self._check_account(account)
        except RequestError as refusal:
            return [(number, refusal) for number, _ in lines]
        return lines

    def _parse_or_refuse(self, line: bytes | None) -> LineCommand | RequestError:
        try:
            return parse_line(line, account=self._cause.account, livemode=self._cause.livemode)
        except InvalidParameter as error:
            return error

    async def _decide_group(self, lines: Sequence[_NumberedLine], previous: _Group | None) -> _Group:
        """Decide the lines one after another, as if the append of `previous`, which is under way, had
        succeeded."""
        context = self._execution.begin_group(previous.context.changes if previous else (), exact=self._exact)
        group = _Group(lines, context)
        now = int(context.decided_at)
        try:
            await context.preload(self._list_streams_to_load(lines))
            if self._exact:
                await context.preload_events(_list_repeated_streams(lines))
            for _, command in lines:
                decision = await self._decide_line(command, context, now)
                context.add(decision.changes)
                group.decisions.append(decision)
        except LedgerError as error:
            group.error = error
        return group

    async def _decide_line(
        self, command: LineCommand | RequestError, context: GroupContext, now: int
    ) -> Decision:
        if isinstance(command, RequestError):
            return Decision([], refusal=command)
        try:
            return await self._execution.decide(self._build_call(command), context, command.decide, now)
        except UnreadableRecord as error:  # of an object that this line needs, and perhaps no other
            return Decision([], refusal=refuse_unreadable(error))

    def _list_streams_to_load(self, lines: Sequence[_NumberedLine]) -> list[str]:
        """Streams that the lines refer to and do not create themselves. Objects that they create are assumed
        to be new, until an append has failed (`exact`)."""
        created_ids: set[str] = set()
        streams: list[str] = []
        for _, command in lines:
            if isinstance(command, LineCommand):
                if command.created_id is not None:
                    created_ids.add(command.created_id)
                streams += [stream for stream in command.related_ids if stream not in created_ids]
        return [*streams, *created_ids] if self._exact else streams

    async def _append_group(self, group: _Group) -> list[LineResult]:
        """Append the group. If it is outdated, decide it once more on exact reads; then run each line
        alone."""
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
        """Whether the group was appended: not if a stream it relied on has changed, or if one of its lines
        cannot be written. Raises LedgerError."""
        if group.error is not None:
            raise group.error
        try:
            cause = self._build_cause(_account_of(group.lines[0]))
            group.position = await self._execution.append(cause, group.context)
        except (
            VersionConflict,
            FailedOver,
            ObjectRedacted,
            psycopg.DataError,
            psycopg.IntegrityError,
            TypeError,
            ValueError,
        ):
            return False
        # Stay exact while lines change nothing: the input was imported before, and its objects exist.
        self._exact = self._exact and not all(decision.changes for decision in group.decisions)
        return True

    async def _run_line(self, number: int, command: LineCommand | RequestError) -> LineResult:
        if isinstance(command, RequestError):
            return self._render_refusal(number, command)
        try:
            result = await self._execution.run(self._build_call(command), command.decide, fingerprint="")
        except Exception as error:  # the edge of a line: its result reports the error, other lines continue
            return self._render_refusal(number, error)
        refused = result.status != 200
        return LineResult(number, result.body[1:], result.position, refused)

    def _render_results(self, group: _Group) -> list[LineResult]:
        results = []
        position = group.position - len(group.context.changes)  # of the event before the group's
        for (number, _), decision in zip(group.lines, group.decisions, strict=True):
            position += len(decision.changes)
            _, answer = self._execution.encode(decision.refusal or decision.answer)
            line_position = position if decision.changes else None
            results.append(LineResult(number, answer[1:], line_position, decision.refusal is not None))
        return results

    def _render_refusal(self, number: int, error: Exception) -> LineResult:
        return LineResult(number, self._render_error(error)[1:], refused=True)

    def _build_cause(self, account: str | None) -> Cause:
        return self._cause if account is None else self._cause._replace(account=account)

    def _build_call(self, command: LineCommand) -> Call:
        return Call(self._build_cause(command.account), command.target, command.parameters)


def _list_repeated_streams(lines: Sequence[_NumberedLine]) -> set[str]:
    """Streams whose events tell whether a line was imported before with the same content."""
    commands = [command for _, command in lines if isinstance(command, LineCommand)]
    return {command.created_id or command.target for command in commands} - {""}


def _account_of(line: _NumberedLine) -> str | None:
    command = line[1]
    return command.account if isinstance(command, LineCommand) else None
