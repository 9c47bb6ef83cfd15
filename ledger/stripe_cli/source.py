"""What a connection of the Stripe CLI sends: messages of several sources."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from ledger.stripe_cli.frames import EventAck


class Source(Protocol):
    """Messages of one kind for one connection.

    The connection sends what `frames` yields as fast as the listener reads it, passes each acknowledgement to
    each source, and calls `save` a moment after an acknowledgement and at the end.
    """

    def frames(self) -> AsyncIterator[str]:
        """The messages, each as the text of a frame; waits for the next one, without an end. Raises
        psycopg.Error; it is then called again after a pause, and continues after what it has yielded."""

    def acknowledge(self, ack: EventAck) -> None:
        """The listener has received a message, perhaps one of another source."""

    async def save(self) -> None:
        """Store how far the listener is. Raises psycopg.Error."""
