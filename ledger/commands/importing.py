"""Importing: many lines of NDJSON told to the ledger, each taken or refused alone, answered in order.

Many are under way at once, so that they share commits; a line waits for those before it that name the same
object, so order is kept where it matters. At most WINDOW_LINES are held, however long the input: memory is
constant. Each line is idempotent by its ids and reference, so an import that broke off is sent again whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from ledger.call import Call
from ledger.commands import catalogue
from ledger.commands.bodies import Line, refused
from ledger.commands.execution import Decide, Execution
from ledger.domain.money import Terms
from ledger.errors import InvalidParameter
from ledger.store.journal import Cause

WINDOW_LINES = 1024
LINE_BYTES_MAX = 1_048_576

_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="op")])


class Result(NamedTuple):
    """What became of a line. `answer` is a JSON object without its first brace."""

    number: int
    refused: bool
    answer: str

    @property
    def changed(self) -> bool:
        return not self.refused and self.answer.endswith('"changed":true}')

    def json(self) -> str:
        return f'{{"line":{self.number},{self.answer}'


class _Step(NamedTuple):
    """A line understood: how to decide it, on what, and the objects it writes and reads."""

    decide: Decide
    target: str
    parameters: dict[str, object]
    writes: tuple[str, ...]
    reads: tuple[str, ...] = ()


class Import:
    """Tells the lines of one input, on one account and mode, as caused by `cause`."""

    def __init__(
        self,
        execution: Execution,
        terms: Terms,
        cause: Cause,
        *,
        failure: Callable[[Exception], str],
    ) -> None:
        """`failure` gives the error envelope of whatever ends a line."""
        self._execution = execution
        self._cause = cause
        self._failure = failure
        self._customer = catalogue.briefly(catalogue.customer_made)
        self._charge = catalogue.briefly(catalogue.charge_made)
        self._dispute = catalogue.briefly(catalogue.dispute_opened(terms))
        self._fact = catalogue.briefly(catalogue.fact_reported(terms))
        self._writing: dict[str, asyncio.Task[Result]] = {}

    async def results(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[Result]:
        """A result for each line that is not blank, in order, as it becomes known."""
        under_way: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue(WINDOW_LINES)

        async def begin() -> None:
            try:
                async for number, line in _lines(chunks):
                    await under_way.put(self._begin(number, line))
            finally:
                await under_way.put(None)

        beginning = asyncio.create_task(begin(), name="import")
        try:
            while (task := await under_way.get()) is not None:
                yield await task
            await beginning
        finally:
            beginning.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(beginning, return_exceptions=True)

    def _begin(self, number: int, line: bytes | None) -> asyncio.Task[Result]:
        """Start a line. It goes on when those begun before it that write what it touches have ended."""
        step = failed = None
        try:
            step = self._understood(line)
        except InvalidParameter as error:
            failed = error
        if step is None:
            assert failed is not None
            return asyncio.create_task(self._refused(number, failed))
        touched = (*step.writes, *step.reads)
        before = [task for name in touched if (task := self._writing.get(name)) is not None]
        task = asyncio.create_task(self._done(number, step, before))
        for name in step.writes:
            self._writing[name] = task
        task.add_done_callback(lambda ended: self._ended(ended, step.writes))
        return task

    def _ended(self, task: asyncio.Task[Result], writes: tuple[str, ...]) -> None:
        for name in writes:
            if self._writing.get(name) is task:
                del self._writing[name]

    async def _refused(self, number: int, error: Exception) -> Result:
        return Result(number, True, self._failure(error)[1:])

    async def _done(self, number: int, step: _Step, before: list[asyncio.Task[Result]]) -> Result:
        for task in before:
            await task
        account, livemode, actor, request_id, _ = self._cause
        assert actor is not None
        assert request_id is not None
        call = Call(account, livemode, actor, request_id, None, step.target, step.parameters, {})
        try:
            answered = await self._execution.run(self._cause, call, step.decide, fingerprint="")
        except Exception as error:  # the edge of a line: told in its result, the others go on
            return await self._refused(number, error)
        return Result(number, answered.body.startswith('{"error"'), answered.body[1:])

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
                return _Step(self._customer, "", given, (told.id,))
            case "charge":
                reads = () if told.customer is None else (told.customer,)
                return _Step(self._charge, "", given, (told.id,), reads)
            case "dispute":
                return _Step(self._dispute, "", given, (told.id, told.charge))
            case "fact":
                return _Step(self._fact, given.pop("dispute"), given, (told.dispute,))


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[tuple[int, bytes | None]]:
    """Lines with their numbers, from 1; blank ones are left out, None stands for one that is too long."""
    number, rest, too_long = 0, b"", False
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            if too_long or len(line) > LINE_BYTES_MAX:
                too_long = False
                yield number, None
            elif line.strip():
                yield number, line
        if len(rest) > LINE_BYTES_MAX:
            rest, too_long = b"", True
    if too_long or rest.strip():
        yield number + 1, None if too_long else rest
