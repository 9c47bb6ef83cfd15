"""Two branches of one log, submitted in any order: a witness never cosigns both, also across its restarts."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ledger.tlog.checkpoints import Checkpoint, parse_checkpoint
from ledger.tlog.notes import parse_note
from ledger.tlog.submissions import parse_submission
from ledger.witness.storage import WitnessStorage
from ledger.witness.witness import Outcome, Witness
from tests.witness.logs import ORIGIN, SIGNER, SampleLog

LOGS = {ORIGIN: [SIGNER.verifier]}


class TwoBranches(RuleBasedStateMachine):
    """Both begin with the same three entries, and both are signed with the log's key."""

    def __init__(self) -> None:
        super().__init__()
        self.place = TemporaryDirectory()
        self.cosigned: list[Checkpoint] = []
        self.branches = [SampleLog("abc"), SampleLog("abc")]
        self.open()

    def open(self) -> None:
        self.storage = WitnessStorage(Path(self.place.name) / "witness")
        self.witness = Witness(LOGS, self.storage)

    def teardown(self) -> None:
        self.storage.close()
        self.place.cleanup()

    @rule(branch=st.integers(0, 1), count=st.integers(1, 9))
    def grow(self, branch: int, count: int) -> None:
        log = self.branches[branch]
        log.append(*(f"branch {branch} entry {len(log.leaves) + number}" for number in range(count)))

    @rule(branch=st.integers(0, 1), old_size=st.integers(0, 12), back=st.integers(0, 12))
    def submit(self, branch: int, old_size: int, back: int) -> None:
        log = self.branches[branch]
        self._submit(log.submit(old_size, max(0, len(log.leaves) - back)))

    @rule(branch=st.integers(0, 1), back=st.integers(0, 3))
    def submit_from_the_known_size(self, branch: int, back: int) -> None:
        log, known = self.branches[branch], self.witness.list_logs()[0].size
        size = max(0, len(log.leaves) - back)
        if known <= size:
            self._submit(log.submit(known, size))

    @rule()
    def restart(self) -> None:
        self.storage.close()
        self.open()

    def _submit(self, body: bytes) -> None:
        if self.witness.add_checkpoint(body).outcome is Outcome.COSIGNED:
            self.cosigned.append(parse_checkpoint(parse_note(parse_submission(body).note).text))

    @invariant()
    def one_branch_has_all_that_was_cosigned(self) -> None:
        sizes = [checkpoint.size for checkpoint in self.cosigned]
        assert sizes == sorted(sizes), "a smaller tree after a larger one"
        assert any(all(has(branch, each) for each in self.cosigned) for branch in self.branches)


def has(log: SampleLog, checkpoint: Checkpoint) -> bool:
    """Whether the log's tree was that of the checkpoint at its size."""
    if checkpoint.size > len(log.leaves):
        return False
    return parse_checkpoint(parse_note(log.sign(checkpoint.size)).text) == checkpoint


TwoBranches.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestTwoBranches = TwoBranches.TestCase
