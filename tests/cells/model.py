"""A model of cells: accounts over several whole ledgers, and how one moves while it is written to.

This simulates what docs/scaling.md describes. The service has no cells. Each method of `Cell` and `Directory`
is one transaction of one database: it happens wholly or not at all, and its conditions are looked at inside
it. Whoever calls them may stop after any of them, and may act on what it saw long ago.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

TAIL_MAX = 1
"""A source that still takes writes is closed once the target lacks no more than this."""
COPY_MAX = 2

Phase = Literal["arriving", "open", "closed", "cancelled"]


class RefusedError(Exception):
    """The transaction changed nothing: its conditions do not hold (any more)."""


class ElsewhereError(RefusedError):
    """The account is not open here."""


@dataclass
class Share:
    """What a cell has of an account.

    commands  the commands that changed it, in order; each stands for its events and for its stored reply
    epoch     grows with every change of who may write; a share is open in at most one epoch
    """

    phase: Phase
    epoch: int
    commands: list[str] = field(default_factory=list)


class Cell:
    """One ledger."""

    def __init__(self) -> None:
        self.shares: dict[str, Share] = {}

    def found(self, account: str) -> None:
        """A new account begins here."""
        self.shares[account] = Share("open", 0)

    def write(self, account: str, command: str) -> None:
        """Append a command's events, unless its reply is stored already. Raises ElsewhereError."""
        share = self.shares.get(account)
        if share is None or share.phase != "open":
            raise ElsewhereError
        if command not in share.commands:
            share.commands.append(command)

    def receive(self, account: str, epoch: int, after: int, commands: Sequence[str]) -> None:
        """Append copies of the commands that follow the first `after` ones, for a move to the epoch."""
        share = self.shares.setdefault(account, Share("arriving", epoch))
        if share.phase == "open" or share.epoch > epoch or after != len(share.commands):
            raise RefusedError
        if share.epoch == epoch and share.phase != "arriving":
            raise RefusedError
        share.phase, share.epoch = "arriving", epoch
        share.commands += commands

    def close(self, account: str, epoch: int) -> None:
        """Take no more writes: what was written until now is all there is in this epoch."""
        share = self.shares[account]
        if (share.phase, share.epoch) != ("open", epoch):
            raise RefusedError
        share.phase = "closed"

    def open(self, account: str, epoch: int, count: int) -> None:
        """Take writes, if all `count` commands have arrived."""
        share = self.shares.get(account)
        if share is None or (share.phase, share.epoch) != ("arriving", epoch):
            raise RefusedError
        if len(share.commands) != count:
            raise RefusedError
        share.phase = "open"

    def cancel(self, account: str, epoch: int) -> None:
        """Promise never to open in this epoch. Refused once it was open: then the move has happened."""
        share = self.shares.setdefault(account, Share("arriving", epoch))
        if share.phase == "open" or share.epoch > epoch or (share.epoch == epoch and share.phase == "closed"):
            raise RefusedError
        share.phase, share.epoch = "cancelled", epoch

    def reopen(self, account: str, epoch: int) -> None:
        """Take writes again in a later epoch, after the target of the move has cancelled it."""
        share = self.shares[account]
        if share.epoch != epoch:
            raise RefusedError
        share.phase, share.epoch = "open", epoch + 2


class Place(NamedTuple):
    """Where an account is, by the directory; `target` while it moves."""

    cell: str
    epoch: int
    target: str | None = None
    is_cancelled: bool = False


class Directory:
    """Says where accounts are. It routes, and it remembers moves; it does not decide who may write."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}

    def found(self, cells: Mapping[str, str]) -> None:
        """Record in which cell each new account begins."""
        self.places |= {account: Place(cell, 0) for account, cell in cells.items()}

    def begin(self, account: str, target: str) -> None:
        """Record that the account is to move."""
        place = self.places[account]
        if place.target is not None or place.cell == target:
            raise RefusedError
        self.places[account] = place._replace(target=target)

    def cancel(self, account: str) -> None:
        """Record that it is to stay, if it still can."""
        place = self.places[account]
        if place.target is None:
            raise RefusedError
        self.places[account] = place._replace(is_cancelled=True)

    def finish(self, account: str, epoch: int, place: Place) -> None:
        """Record where it is, and that no move is under way."""
        if self.places[account].epoch != epoch:
            raise RefusedError
        self.places[account] = place


Step = Callable[[], None]
Plan = Callable[[Directory, Mapping[str, Cell], str], Step | None]


def plan_step(directory: Directory, cells: Mapping[str, Cell], account: str) -> Step | None:
    """The next step of an account's move, from what the databases say; None when it does not move.

    Any process may plan, at any time: the step refuses to happen if it is not the next one any more.
    """
    place = directory.places[account]
    if place.target is None:
        return None
    epoch, source, target = place.epoch, cells[place.cell], cells[place.target]
    here = source.shares[account]
    there = target.shares.get(account) or Share("arriving", epoch + 1)
    arrived = Place(place.target, epoch + 1)
    if there.epoch == epoch + 1 and there.phase == "open":
        return lambda: directory.finish(account, epoch, arrived)
    if there.epoch == epoch + 1 and there.phase == "cancelled":
        if here.epoch == epoch:
            return lambda: source.reopen(account, epoch)
        return lambda: directory.finish(account, epoch, Place(place.cell, epoch + 2))
    if place.is_cancelled:
        return lambda: target.cancel(account, epoch + 1)
    after, count = len(there.commands), len(here.commands)
    copies = here.commands[after : after + COPY_MAX]
    if here.phase == "open" and count - after <= TAIL_MAX:
        return lambda: source.close(account, epoch)
    if copies:
        return lambda: target.receive(account, epoch + 1, after, copies)
    if there.epoch != epoch + 1 or account not in target.shares:
        return lambda: target.receive(account, epoch + 1, after, [])
    return lambda: target.open(account, epoch + 1, count)
