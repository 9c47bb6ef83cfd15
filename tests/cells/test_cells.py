"""The model of cells keeps its promises in whatever order things happen, and needs each of its safeguards.

Clients write and repeat what was not acknowledged, accounts move and stay after all, and whoever moves them
may stop anywhere, go on with what it saw long ago, and do a step twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.cells.model import Cell, Directory, ElsewhereError, Plan, RefusedError, Step, plan_step

CELLS = ("north", "south", "west")
ACCOUNTS = ("acct_1", "acct_2")
STEPS_MAX = 200
WALKS = 1000
WALK_STEPS = 60
NAMES = st.sampled_from(CELLS)
OWNERS = st.sampled_from(ACCOUNTS)
HANDS = st.integers(0, 1)


class Cells(RuleBasedStateMachine):
    """Three cells, two accounts, two routers that remember where accounts were, two processes that move them.

    truth        commands by account, in the order in which any cell first accepted them
    unanswered   commands whose client has no answer, and will repeat them
    """

    cell_class: ClassVar[type[Cell]] = Cell

    def __init__(self) -> None:
        super().__init__()
        self.cells = {name: self.cell_class() for name in CELLS}
        self.directory = Directory()
        self.directory.found(dict.fromkeys(ACCOUNTS, CELLS[0]))
        for account in ACCOUNTS:
            self.cells[CELLS[0]].found(account)
        self.routes = [dict.fromkeys(ACCOUNTS, CELLS[0]) for _ in range(2)]
        self.seen: list[Step | None] = [None, None]
        self.truth: dict[str, list[str]] = {account: [] for account in ACCOUNTS}
        self.acknowledged: set[str] = set()
        self.unanswered: list[tuple[str, str]] = []
        self.count = 0

    def plan(self, account: str) -> Step | None:
        """The next step of the account's move."""
        return plan_step(self.directory, self.cells, account)

    @rule(account=OWNERS, router=HANDS, is_answered=st.booleans())
    def write(self, account: str, router: int, is_answered: bool) -> None:
        self.count += 1
        self._send(account, f"command {self.count}", router, is_answered)

    @rule(router=HANDS, is_answered=st.booleans(), which=st.integers(0, 9))
    def repeat(self, router: int, is_answered: bool, which: int) -> None:
        if self.unanswered:
            self._send(*self.unanswered.pop(which % len(self.unanswered)), router, is_answered)

    def _send(self, account: str, command: str, router: int, is_answered: bool) -> None:
        """One try. A router that is told that the account is elsewhere looks it up for the next one."""
        cell = self.cells[self.routes[router][account]]
        try:
            cell.write(account, command)
        except ElsewhereError:
            self.routes[router][account] = self.directory.places[account].cell
            is_answered = False
        else:
            if command not in self.truth[account]:
                self.truth[account].append(command)
        if is_answered:
            self.acknowledged.add(command)
        else:
            self.unanswered.append((account, command))

    @rule(account=OWNERS, cell=NAMES)
    def begin_move(self, account: str, cell: str) -> None:
        _try(lambda: self.directory.begin(account, cell))

    @rule(account=OWNERS)
    def cancel_move(self, account: str) -> None:
        _try(lambda: self.directory.cancel(account))

    @rule(mover=HANDS, account=OWNERS)
    def look(self, mover: int, account: str) -> None:
        """What it had planned before is forgotten, as after a crash."""
        self.seen[mover] = self.plan(account)

    @rule(mover=HANDS)
    def act(self, mover: int) -> None:
        """It does not forget what it did: it may do it again."""
        _try(self.seen[mover])

    @rule(account=OWNERS)
    def advance(self, account: str) -> None:
        _try(self.plan(account))

    @rule(account=OWNERS)
    def settle(self, account: str) -> None:
        for _ in range(STEPS_MAX):
            step = self.plan(account)
            if step is None:
                return
            step()
        raise AssertionError("the move does not end")

    @invariant()
    def one_cell_at_most_takes_writes(self) -> None:
        for account in ACCOUNTS:
            assert len(self._list_open(account)) <= 1

    @invariant()
    def each_cell_has_the_beginning_in_order_and_the_open_one_everything(self) -> None:
        for account, truth in self.truth.items():
            for cell in self.cells.values():
                share = cell.shares.get(account)
                if share is not None:
                    assert share.commands == truth[: len(share.commands)]
                    assert share.phase != "open" or share.commands == truth

    def teardown(self) -> None:
        """Whatever happened, one process that goes on ends every move; then everything is accepted, once."""
        for account in ACCOUNTS:
            self.settle(account)
            assert self._list_open(account) == [self.directory.places[account].cell]
            self.routes[0][account] = self.directory.places[account].cell
        for account, command in list(self.unanswered):
            self._send(account, command, router=0, is_answered=True)
        kept = [each for account in ACCOUNTS for each in self._find_open(account).shares[account].commands]
        assert sorted(kept) == sorted(f"command {number}" for number in range(1, self.count + 1))
        assert self.acknowledged == set(kept)
        self.each_cell_has_the_beginning_in_order_and_the_open_one_everything()

    def _list_open(self, account: str) -> list[str]:
        return [
            name
            for name, cell in self.cells.items()
            if account in cell.shares and cell.shares[account].phase == "open"
        ]

    def _find_open(self, account: str) -> Cell:
        (name,) = self._list_open(account)
        return self.cells[name]


def _try(step: Step | None) -> None:
    if step is not None:
        with suppress(RefusedError):
            step()


TestCells = Cells.TestCase
TestCells.settings = settings(max_examples=100, stateful_step_count=60)


def open_before_closing(directory: Directory, cells: Mapping[str, Cell], account: str) -> Step | None:
    """The directory alone is to keep writers away from the source: a router may have an old one."""
    place = directory.places[account]
    if place.target is not None:
        target, here = cells[place.target], cells[place.cell].shares[account]
        there = target.shares.get(account)
        if there is not None and there.commands == here.commands and there.phase == "arriving":
            return lambda: target.open(account, place.epoch + 1, len(here.commands))
    return plan_step(directory, cells, account)


def reopen_unasked(directory: Directory, cells: Mapping[str, Cell], account: str) -> Step | None:
    """A cancelled move opens the source again, without a promise of the target."""
    place = directory.places[account]
    source = cells[place.cell]
    if place.is_cancelled and source.shares[account].epoch == place.epoch:
        return lambda: source.reopen(account, place.epoch)
    return plan_step(directory, cells, account)


class TakesCopiesAgain(Cell):
    def receive(self, account: str, epoch: int, after: int, commands: Sequence[str]) -> None:
        share = self.shares.get(account)
        super().receive(account, epoch, 0 if share is None else len(share.commands), commands)


class LeavesRepliesBehind(Cell):
    """Replies stay where they were stored; only events move."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: set[str] = set()

    def write(self, account: str, command: str) -> None:
        share = self.shares.get(account)
        if share is None or share.phase != "open":
            raise ElsewhereError
        if command not in self.replies:
            self.replies.add(command)
            share.commands.append(command)


class ClosesInAnyEpoch(Cell):
    def close(self, account: str, epoch: int) -> None:
        super().close(account, self.shares[account].epoch)


@pytest.mark.parametrize(
    ("cell_class", "plan"),
    [
        (Cell, open_before_closing),
        (Cell, reopen_unasked),
        (TakesCopiesAgain, plan_step),
        (LeavesRepliesBehind, plan_step),
        (ClosesInAnyEpoch, plan_step),
    ],
)
def test_a_model_without_one_of_the_safeguards_is_caught(cell_class: type[Cell], plan: Plan) -> None:
    class Broken(Cells):
        def plan(self, account: str) -> Step | None:
            return plan(self.directory, self.cells, account)

    Broken.cell_class = cell_class
    with pytest.raises((AssertionError, RefusedError)):
        walk_often(Broken)


def test_walks_find_nothing_in_the_model_itself() -> None:
    walk_often(Cells)


def test_hypothesis_catches_a_broken_model_too() -> None:
    class Broken(Cells):
        def plan(self, account: str) -> Step | None:
            return open_before_closing(self.directory, self.cells, account)

    with pytest.raises((AssertionError, RefusedError)):
        run_state_machine_as_test(
            Broken, settings=settings(phases=[Phase.generate], derandomize=True, database=None)
        )


def walk_often(machine_class: type[Cells]) -> None:
    """The same rules at random, without what Hypothesis needs for each: a rare order of steps is found in a
    second."""
    for seed in range(WALKS):
        walk(machine_class(), random.Random(seed))


def walk(machine: Cells, random: random.Random) -> None:
    steps: list[Callable[[], None]] = [
        lambda: machine.write(random.choice(ACCOUNTS), random.randrange(2), random.random() < 0.5),
        lambda: machine.repeat(random.randrange(2), random.random() < 0.5, random.randrange(10)),
        lambda: machine.begin_move(random.choice(ACCOUNTS), random.choice(CELLS)),
        lambda: machine.cancel_move(random.choice(ACCOUNTS)),
        lambda: machine.look(random.randrange(2), random.choice(ACCOUNTS)),
        lambda: machine.act(random.randrange(2)),
        lambda: machine.advance(random.choice(ACCOUNTS)),
        lambda: machine.settle(random.choice(ACCOUNTS)),
    ]
    for _ in range(WALK_STEPS):
        random.choice(steps)()
        machine.one_cell_at_most_takes_writes()
        machine.each_cell_has_the_beginning_in_order_and_the_open_one_everything()
    machine.teardown()
