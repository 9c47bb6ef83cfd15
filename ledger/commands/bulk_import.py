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

from ledger.call import Call
from ledger.commands import external_facts
from ledger.commands.execution import Decide, Decided, Execution, Together
from ledger.commands.import_models import AnyLine
from ledger.commands.models import refused
from ledger.domain import webhook_endpoint_quota
from ledger.domain.money import Terms
from ledger.errors import InvalidParameter, LedgerError, Refused
from ledger.files.storage import Contents
from ledger.ids import id_time
from ledger.store.journal import Cause, StaleRead

GROUP_LINES_MAX = 256
LINE_BYTES_MAX = 1_048_576

Reach = Callable[[str], Awaitable[object]]
"""Raises Refused for an account that a line may not act on."""

_LINE: TypeAdapter[AnyLine] = TypeAdapter(Annotated[AnyLine, Field(discriminator="op")])


class Result(NamedTuple):
    """What became of a line. `answer` is a JSON object without its first brace."""

    number: int
    answer: str
    changed: bool = False
    refused: bool = False

    def json(self) -> str:
        return f'{{"line":{self.number},{self.answer}'


class _Step(NamedTuple):
    """A line understood: how to decide it, on what; the object it makes, and others it reads or writes; the
    account it is told on, None for the import's."""

    decide: Decide
    target: str
    parameters: dict[str, object]
    makes: str | None
    needs: tuple[str, ...] = ()
    account: str | None = None


_Line = tuple[int, _Step | Refused]


@dataclass(slots=True, eq=False)
class _Group:
    """Lines of one account, decided together. `as_decided`: what was appended is what was decided first."""

    lines: Sequence[_Line]
    reading: Together
    decided: list[Decided] = field(default_factory=list)
    failed: LedgerError | None = None
    as_decided: bool = False
    results: asyncio.Future[list[Result]] = field(default_factory=asyncio.Future)


class Import:
    """Tells the lines of one input, on one account and mode, as caused by `cause`."""

    def __init__(
        self,
        execution: Execution,
        terms: Terms,
        cause: Cause,
        contents: Contents,
        *,
        reach: Reach,
        failure: Callable[[Exception], str],
    ) -> None:
        """`failure` gives the error envelope of whatever ends a line."""
        self._execution = execution
        self._cause = cause
        self._reach = reach
        self._failure = failure
        self._customer = external_facts.briefly(external_facts.customer_made)
        self._charge = external_facts.briefly(external_facts.charge_made)
        self._dispute = external_facts.briefly(external_facts.dispute_opened(terms))
        self._endpoint = external_facts.briefly(external_facts.endpoint_made(terms))
        self._fact = external_facts.briefly(external_facts.fact_reported(terms))
        self._refund = external_facts.briefly(external_facts.refund_made)
        self._event = external_facts.briefly(external_facts.event_told)
        self._file = external_facts.briefly(external_facts.file_kept(contents))
        self._exact = False

    async def results(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[list[Result]]:
        """A result for each line that is not blank, in order, in groups as they become known."""
        groups = self._groups(chunks)
        coming = asyncio.ensure_future(anext(groups, None))
        last: _Group | None = None
        try:
            while True:
                begun: list[asyncio.Future[Any]] = [last.results] if last else []
                await asyncio.wait([coming, *begun], return_when=asyncio.FIRST_COMPLETED)
                group = None
                lines = coming.result() if coming.done() and coming.exception() is None else None
                if lines is not None:
                    coming = asyncio.ensure_future(anext(groups, None))
                    group = await self._decided(lines, last)
                elif last is None:
                    await coming  # raises what ended the input
                    return
                results = await last.results if last else []
                if group is not None:
                    if last and not last.as_decided:
                        group = await self._decided(group.lines, None)
                    group.results = asyncio.create_task(self._appended(group), name="import")
                last = group
                yield results
        finally:
            coming.cancel()
            await asyncio.gather(coming, *([last.results] if last else []), return_exceptions=True)

    async def _groups(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[Sequence[_Line]]:
        """Lines understood, as many as are there, at most GROUP_LINES_MAX, and of one account."""
        async for lines in _lines(chunks):
            for start in range(0, len(lines), GROUP_LINES_MAX):
                some = lines[start : start + GROUP_LINES_MAX]
                steps = [(number, self._step(line)) for number, line in some]
                for account, group in groupby(steps, key=_account_of):
                    yield await self._reached(account, list(group))

    async def _reached(self, account: str | None, lines: Sequence[_Line]) -> Sequence[_Line]:
        """The lines, refused where they are on an account that is out of reach."""
        try:
            if account is not None:
                await self._reach(account)
        except Refused as refusal:
            return [(number, refusal) for number, _ in lines]
        return lines

    def _step(self, line: bytes | None) -> _Step | Refused:
        try:
            return self._understood(line)
        except InvalidParameter as error:
            return error

    async def _decided(self, lines: Sequence[_Line], last: _Group | None) -> _Group:
        """The lines, decided one after another on what `last`, which is being appended, will have changed."""
        reading = self._execution.together(last.reading.decided if last else {}, exact=self._exact)
        group = _Group(lines, reading)
        now = int(reading.at)
        try:
            await reading.find(self._to_find(lines))
            for _, step in lines:
                if isinstance(step, Refused):
                    decided = Decided([], refusal=step)
                else:
                    decided = await self._execution.decided(self._call(step), reading, step.decide, now)
                reading.take(decided.changes)
                group.decided.append(decided)
        except LedgerError as error:
            group.failed = error
        return group

    def _to_find(self, lines: Sequence[_Line]) -> list[str]:
        """What the lines are about and do not make. What they make is thought to be new, until it is not."""
        made: set[str] = set()
        streams: list[str] = []
        for _, step in lines:
            if isinstance(step, _Step):
                if step.makes is not None:
                    made.add(step.makes)
                streams += [stream for stream in step.needs if stream not in made]
        return [*streams, *made] if self._exact else streams

    async def _appended(self, group: _Group) -> list[Result]:
        """Append the group; when it was overtaken, once more on exact reads, then each line alone."""
        try:
            if await self._append(group):
                group.as_decided = True
                return self._told(group)
            self._exact = True
            again = await self._decided(group.lines, None)
            if await self._append(again):
                return self._told(again)
        except LedgerError as error:
            return [self._refused(number, error) for number, _ in group.lines]
        return [await self._alone(number, step) for number, step in group.lines]

    async def _append(self, group: _Group) -> bool:
        """False when something that the group relies on has changed, or one of its lines cannot be written:
        nothing was. Raises LedgerError."""
        if group.failed is not None:
            raise group.failed
        try:
            await self._execution.append(self._cause_on(_account_of(group.lines[0])), group.reading)
        except (StaleRead, psycopg.DataError, psycopg.IntegrityError, TypeError, ValueError):
            return False
        # A file told again, or from a while ago: its objects are there, and not remembered.
        self._exact = self._exact and not all(decided.changes for decided in group.decided)
        return True

    async def _alone(self, number: int, step: _Step | Refused) -> Result:
        if isinstance(step, Refused):
            return self._refused(number, step)
        try:
            cause = self._cause_on(step.account)
            answered = await self._execution.run(cause, self._call(step), step.decide, fingerprint="")
        except Exception as error:  # the edge of a line: told in its result, the others go on
            return self._refused(number, error)
        refused = answered.status != 200
        return Result(number, answered.body[1:], not refused and answered.position is not None, refused)

    def _told(self, group: _Group) -> list[Result]:
        results = []
        for (number, _), decided in zip(group.lines, group.decided, strict=True):
            _, answer = self._execution.encode(decided.refusal or decided.answer)
            results.append(Result(number, answer[1:], bool(decided.changes), decided.refusal is not None))
        return results

    def _refused(self, number: int, error: Exception) -> Result:
        return Result(number, self._failure(error)[1:], refused=True)

    def _cause_on(self, account: str | None) -> Cause:
        return self._cause if account is None else self._cause._replace(account=account)

    def _call(self, step: _Step) -> Call:
        account, livemode, actor, request_id, _ = self._cause_on(step.account)
        assert actor is not None
        assert request_id is not None
        return Call(account, livemode, actor, request_id, None, step.target, step.parameters, {})

    def _understood(self, line: bytes | None) -> _Step:
        """Raises InvalidParameter for a line that is too long, no JSON, or not as declared."""
        if line is None:
            raise InvalidParameter(f"The line is longer than {LINE_BYTES_MAX} bytes.")
        try:
            told = _LINE.validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise refused(first, outer=1 if first["loc"] else 0) from None
        given = told.given()
        del given["op"]
        match told.op:
            case "customer":
                return _Step(self._customer, "", given, told.id)
            case "charge":
                needs = () if told.customer is None else (told.customer,)
                return _Step(self._charge, "", given, told.id, needs)
            case "dispute":
                return _Step(self._dispute, "", given, told.id, (told.charge,))
            case "fact":
                return _Step(self._fact, given.pop("dispute"), given, None, (told.dispute,))
            case "refund":
                return _Step(self._refund, "", given, told.id, (told.charge,))
            case "event":
                about = told.object.get("id")  # only an id of our form can be that of an Event made here
                needs = (about,) if isinstance(about, str) and id_time(told.id) is not None else ()
                return _Step(self._event, "", given, told.id, needs, told.account)
            case "file":
                return _Step(self._file, "", given, None, (told.id,))
            case "webhook_endpoint":
                account, livemode, *_ = self._cause
                roster = webhook_endpoint_quota.stream_of(account, livemode)
                return _Step(self._endpoint, "", given, told.id, (roster,))


def _account_of(line: _Line) -> str | None:
    step = line[1]
    return step.account if isinstance(step, _Step) else None


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[list[tuple[int, bytes | None]]]:
    """Lines with their numbers, from 1, those of a chunk at a time; blank ones are left out, None stands for
    one that is too long."""
    number, rest, too_long = 0, b"", False
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        lines: list[tuple[int, bytes | None]] = []
        for line in whole:
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
