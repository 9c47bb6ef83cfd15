"""Publishes the log to a stream of JetStream, from where the stream ends, for as long as it runs.

The stream is the only record of how far it has come: message N is the event at position N. It is asked at the
start, after a lost connection and after each refusal, and its end is compared with the log. So neither a
restart, a crash on either side, a lost acknowledgement nor another publisher can double, reorder or leave out
an event (docs/decisions/0120). Of several publishers one publishes, and the others stand by.
"""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple

import structlog

from ledger.background import BackgroundLoop
from ledger.errors import SettingError
from ledger.feed.jetstream.comparison import StreamConflict, find_place, make_config
from ledger.feed.jetstream.connection import NatsAddress, NatsUnavailable, close, connect
from ledger.feed.jetstream.first_sequence import create_stream_at
from ledger.feed.jetstream.messages import make_message
from ledger.feed.jetstream.stream import CallRefused, Stream
from ledger.feed.jetstream.window import IN_FLIGHT_MAX, Refused, Window
from ledger.feed.source import READ_AT_ONCE, LogSource

STEP_SECONDS = 1.0
"""A connection that has lasted so long counts as a success: the next failure is followed by a short pause."""
POLL_SECONDS = 1.0
WATCH_SECONDS = 0.25
TAKEOVER_SECONDS = (0.75, 1.75)
"""How long the stream may lag behind the log without moving before a publisher that stands by takes over."""
RIVAL_SECONDS = 2.0
"""Refused twice within this time, it has a rival; once, it may have met what it sent before it connected."""
REPORT_SECONDS = 60.0

log = structlog.get_logger()


class StreamTarget(NamedTuple):
    """The stream to publish to, and how to make it if it is not there.

    prefix    the first token of all subjects
    first     the position to begin at
    replicas  servers that keep a copy
    """

    name: str
    prefix: str
    first: int = 1
    replicas: int = 1


class Publisher:
    """Publishes from `start` to `close`, unless an operator is needed (`wait_for_conflict`)."""

    def __init__(
        self,
        source: LogSource,
        address: NatsAddress,
        target: StreamTarget,
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> None:
        self._source = source
        self._address = address
        self._target = target
        self._in_flight_max = in_flight_max
        self._stream: Stream | None = None
        self._window: Window | None = None
        self._has_found_stream = False
        self._sent = self._durable = 0
        self._stands_by = False
        self._refused_at = -RIVAL_SECONDS
        self._lags_since: float | None = None
        self._patience_seconds = 0.0
        self._conflict: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._conflict.add_done_callback(lambda conflict: conflict.cancelled() or conflict.exception())
        self._reported_at = 0.0
        # It ends at once: what is under way is what a crash leaves, and the next publisher finds out.
        self._loop = BackgroundLoop("feed publisher", self._step, close_timeout_seconds=0)
        self.position = 0
        """The last position that the stream has, as far as this publisher knows."""

    async def start(self) -> None:
        """Begin to publish."""
        await self._loop.start()

    async def close(self) -> None:
        """End, and close the connections."""
        await self._loop.close()
        await self._disconnect()
        await self._source.close()

    async def wait_for_conflict(self) -> None:
        """Wait until an operator is needed. Raises SettingError, mostly StreamConflict, which says why."""
        await self._conflict

    async def publish_upto(self, position: int) -> None:
        """Publish until the stream has `position`, without `start`. Raises psycopg.OperationalError,
        Unavailable, NatsUnavailable and StreamConflict."""
        try:
            await self._connect()
            while self.position < position:
                await self._publish_next()
        finally:
            await self._disconnect()

    async def _step(self) -> float | None:
        """Publish for a while, or wait for the next event. What is raised ends the connection."""
        end = asyncio.get_running_loop().time() + STEP_SECONDS
        try:
            if self._window is None:
                await self._connect()
            while asyncio.get_running_loop().time() < end:
                if not await self._publish_next():
                    await self._source.wait_past(self.position, timeout_seconds=POLL_SECONDS)
                    break
            self._report()
            return 0
        except SettingError as error:
            await self._disconnect()
            if not self._conflict.done():
                self._conflict.set_exception(error)
            return None
        except BaseException:
            await self._disconnect()
            raise

    async def _connect(self) -> None:
        """Connect, make the stream if this is the first time and there is none, and find the place in it."""
        await self._source.read_durable()  # of a copy nothing is published, and no stream made
        self._stream = Stream(await connect(self._address, self._report_lost), self._target.name)
        if not self._has_found_stream and await self._stream.read() is None:
            await self._create(self._stream)
        await self._find_place()
        self._has_found_stream = True
        self._reported_at = asyncio.get_running_loop().time()
        names = {"nats": str(self._address), "stream": self._target.name}
        log.info("feed_publisher_connected", **names, position=self.position)

    async def _disconnect(self) -> None:
        stream, self._stream, self._window = self._stream, None, None
        self._stands_by = False
        if stream is not None:
            await close(stream.client)

    def _report_lost(self) -> None:
        if self._window is not None:
            self._window.fail(NatsUnavailable(f"the connection to {self._address} was lost"))

    async def _create(self, stream: Stream) -> None:
        """Make the stream, unless another publisher is faster."""
        head = (await self._source.read_head()).position
        first = self._target.first
        if first > head + 1:
            raise SettingError(f"--from: position {first} is in the future: the log ends at {head}")
        try:
            config = make_config(self._target.prefix, self._target.replicas)
            await create_stream_at(stream, config, first)
        except CallRefused as error:
            if await stream.read() is None:
                raise StreamConflict(str(error)) from error
        log.info("feed_stream_created", stream=stream.name, first_position=first)

    async def _find_place(self) -> None:
        """Find out where the stream ends, and begin a window there."""
        assert self._stream is not None
        self._sent = self.position = await find_place(self._stream, self._source, self._target.prefix)
        self._window = Window(self._stream.client, in_flight_max=self._in_flight_max)
        await self._window.open()

    async def _publish_next(self) -> bool:
        """Publish the next events, or see to it that another publisher does. False when there are none."""
        assert self._window is not None
        if self._stands_by:
            await self._watch()
            return True
        try:
            return await self._publish_batch(self._window)
        except Refused as refusal:
            await self._window.drain()
            await self._find_place()
            if self.position == refusal.position - 1:
                raise NatsUnavailable(
                    f"stream {self._target.name} refuses position {refusal.position} though it ends at "
                    f"{self.position}: see docs/feed.md, A stream that was purged"
                ) from refusal
            if self.position >= refusal.position:
                self._observe_rival()
            return True

    async def _publish_batch(self, window: Window) -> bool:
        """Send the next events; when there are no more, wait until all are acknowledged."""
        if self._sent >= self._durable:
            self._durable = await self._source.read_durable()
        if self._sent >= self._durable:
            await window.wait_until_empty()
            self.position = self._sent
            return False
        bodies = await self._source.read(self._sent, min(self._durable, self._sent + READ_AT_ONCE))
        for body in bodies:
            await window.send(make_message(self._target.name, self._target.prefix, body))
        self._sent += len(bodies)
        self.position = (window.first_position or self._sent + 1) - 1
        return True

    def _observe_rival(self) -> None:
        """Something else has published the position: stand by, if it is another publisher."""
        now = asyncio.get_running_loop().time()
        self._refused_at, before = now, self._refused_at
        if now - before >= RIVAL_SECONDS:
            return
        self._stands_by, self._lags_since = True, None
        self._patience_seconds = random.uniform(*TAKEOVER_SECONDS)  # noqa: S311 (no secret)
        log.info("feed_publisher_stands_by", stream=self._target.name, position=self.position)

    async def _watch(self) -> None:
        """Look after a while whether the other publisher still publishes, and take over if not."""
        assert self._stream is not None
        await asyncio.sleep(WATCH_SECONDS)
        info = await self._stream.read()
        if info is None:
            raise NatsUnavailable(f"there is no stream {self._target.name}")
        moved = info.state.last_seq != self.position
        self.position = info.state.last_seq
        now = asyncio.get_running_loop().time()
        if moved or self.position >= await self._source.read_durable():
            self._lags_since = None
        elif self._lags_since is None:
            self._lags_since = now
        elif now - self._lags_since > self._patience_seconds:
            self._stands_by = False
            await self._find_place()
            log.info("feed_publisher_takes_over", stream=self._target.name, position=self.position)

    def _report(self) -> None:
        """Log from time to time how far the stream is."""
        now = asyncio.get_running_loop().time()
        if now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            lag = max(0, self._durable - self.position)
            state = {"position": self.position, "behind_events": lag, "stands_by": self._stands_by}
            log.info("feed_publisher_progress", stream=self._target.name, **state)
