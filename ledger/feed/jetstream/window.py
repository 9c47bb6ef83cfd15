"""Messages that are sent to the stream and not acknowledged yet: many at once, each fenced by its position.

The stream refuses a message unless the one before it is there. So after the first that is lost or refused,
all that follow are refused too: what is under way can never make a hole, a double or another order. Only
a message of somebody else, which has taken the place of one of ours, lets those behind it pass: therefore
whoever begins, and whoever was refused, looks at the last IN_FLIGHT_MAX messages (`comparison`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from ledger.errors import LedgerError
from ledger.feed.jetstream.connection import NatsUnavailable, describe
from ledger.feed.jetstream.messages import Message
from ledger.feed.jetstream.stream import WRONG_LAST_SEQUENCE, ApiError, CallRefused

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

IN_FLIGHT_MAX = 512
"""Never raise it in a release that may run beside an older one: that one looks back only so far."""
IN_FLIGHT_BYTES_MAX = 8 * 1024 * 1024
ACKNOWLEDGEMENT_SECONDS_MAX = 5.0
DRAIN_SECONDS_MAX = 1.0
NO_RESPONDERS = "503"


class Refused(LedgerError):
    """The stream does not take a message at this position: its last sequence is another one."""

    def __init__(self, position: int) -> None:
        super().__init__(f"the last sequence of the stream is not {position - 1}")
        self.position = position


class _Acknowledgement(msgspec.Struct):
    seq: int = 0
    error: ApiError | None = None


class Window:
    """What is under way on one connection, since the place in the stream was found out last."""

    def __init__(self, client: Client, *, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self._client = client
        self._in_flight_max = in_flight_max
        self._inbox = client.new_inbox()
        self._sizes: dict[int, int] = {}
        self._bytes = 0
        self._changed = asyncio.Event()
        self._failure: LedgerError | None = None
        self._decode = msgspec.json.Decoder(_Acknowledgement).decode

    async def open(self) -> None:
        """Begin to receive acknowledgements. Raises NatsUnavailable."""
        try:
            await self._client.subscribe(f"{self._inbox}.*", cb=self._acknowledge)
        except Exception as error:
            raise NatsUnavailable(describe(error)) from error

    def fail(self, failure: LedgerError) -> None:
        """Send no more, and raise `failure` to who does; the first one counts."""
        self._failure = self._failure or failure
        self._changed.set()

    async def send(self, message: Message) -> None:
        """Send a message, once there is room for it. Raises Refused and NatsUnavailable, of any message."""
        while len(self._sizes) >= self._in_flight_max or self._bytes > IN_FLIGHT_BYTES_MAX:
            await self._wait()
        self._check()
        if message.size > self._client.max_payload:
            raise NatsUnavailable(
                f"the message of position {message.position} has {message.size} bytes, and the server takes "
                f"{self._client.max_payload} at most: raise its max_payload"
            )
        self._sizes[message.position] = len(message.body)
        self._bytes += len(message.body)
        try:
            await self._client.publish(
                message.subject,
                message.body,
                reply=f"{self._inbox}.{message.position}",
                headers=message.headers,
            )
        except Exception as error:
            raise NatsUnavailable(describe(error)) from error

    async def wait_until_empty(self) -> None:
        """Wait until all is acknowledged. Raises as `send`."""
        while self._sizes:
            await self._wait()
        self._check()

    async def drain(self) -> None:
        """Wait for a while until all is acknowledged or refused: what comes later could be taken for the
        message of another publisher."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                while self._sizes:
                    self._changed.clear()
                    await self._changed.wait()

    @property
    def first_position(self) -> int | None:
        """The first position that is not acknowledged; None when all are."""
        return min(self._sizes, default=None)

    async def _wait(self) -> None:
        """Wait for the next acknowledgement."""
        self._check()
        self._changed.clear()
        try:
            async with asyncio.timeout(ACKNOWLEDGEMENT_SECONDS_MAX):
                await self._changed.wait()
        except TimeoutError as error:
            what = f"position {self.first_position} is not acknowledged"
            reason = describe(error, self._client)
            raise NatsUnavailable(f"{what} after {ACKNOWLEDGEMENT_SECONDS_MAX:g} s: {reason}") from None
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _acknowledge(self, message: Msg) -> None:
        """Take an acknowledgement, whose subject ends with the position of its message."""
        position = int(message.subject.rpartition(".")[2])
        size = self._sizes.pop(position, None)
        if size is None:
            return
        self._bytes -= size
        self._changed.set()
        try:
            answer = self._decode(message.data) if message.data else None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            answer = None
        if answer is None:
            self.fail(NatsUnavailable("no stream takes the messages: it is missing, or JetStream is off"))
        elif answer.error is not None:
            is_place = answer.error.err_code == WRONG_LAST_SEQUENCE
            self.fail(Refused(position) if is_place else CallRefused(f"position {position}", answer.error))
        elif answer.seq != position:
            self.fail(Refused(position))
