"""The store of one process, built from the settings: clock, codec, streams, journal, head notifier and
durability.
"""

from __future__ import annotations

from ledger.clock import Clock
from ledger.config import Settings
from ledger.keys.announcements import KeyAnnouncement
from ledger.keys.data_keys import DataKeys
from ledger.keys.erasure_watch import CHANNEL, ErasureWatch
from ledger.keys.service_keys import ServiceKeys
from ledger.store.codec import Codec
from ledger.store.durability import Durability
from ledger.store.journal import Journal
from ledger.store.log import StreamReader
from ledger.store.notifications import HeadNotifier
from ledger.store.past_streams import PastStreams
from ledger.store.replication.replica import Replica


class Store:
    """What commands and queries work with. `dsn` and `service_keys` are the deployment's. A process that
    answers many reads starts `replica`, if there is one."""

    def __init__(self, dsn: str, service_keys: ServiceKeys | bytes, settings: Settings, clock: Clock) -> None:
        self.dsn = dsn
        self.service_keys = ServiceKeys.of(service_keys)
        self.clock = clock
        self.watch = ErasureWatch()
        self.codec = Codec(DataKeys(self.service_keys, self.watch))
        self.notifier = HeadNotifier(dsn, "ledger_api")
        self.durability = Durability(dsn, "ledger_api", self.notifier)
        self.streams = StreamReader(
            dsn, self.codec, self.notifier, cached_streams_max=settings.cached_streams_max
        )
        self.notifier.on_listen += [
            self.durability.note_failover,  # of each new connection
            KeyAnnouncement(self.service_keys).refresh,
        ]
        self.notifier.subscribe(CHANNEL, self.watch.wake)
        replica_url = settings.replica_url
        self.replica = None if replica_url is None else Replica(replica_url.get_secret_value(), dsn)
        self.past_streams = PastStreams(dsn, self.codec, self.streams, self.replica)
        # Caches may have what was visible on the server that is lost, and on no standby.
        self.durability.on_failover += [
            self.watch.forget,
            self.streams.forget_all,
            self.past_streams.forget_all,
        ]
        self.journal = Journal(
            dsn,
            self.codec,
            clock,
            self.streams,
            self.notifier,
            batch_max=settings.append_batch_max,
            queue_max=settings.append_queue_max,
            timeout_ms=settings.append_timeout_ms,
            note_failover=self.durability.note_failover,
        )

    async def start(self) -> None:
        """Begin to read and append. Does not need the database: a call raises Unavailable while it is
        lost."""
        await self.notifier.start()
        await self.streams.start()
        await self.watch.start(self.streams.source)
        await self.past_streams.start()
        await self.journal.start()

    async def close(self) -> None:
        """Commit what was submitted, then close all connections."""
        await self.journal.close()
        await self.past_streams.close()
        await self.watch.close()
        await self.streams.close()
        await self.durability.close()
        await self.notifier.close()
