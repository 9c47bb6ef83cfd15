"""The witness's rules: what it cosigns, what it refuses with which answer, and what it keeps as evidence."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from ledger.errors import SettingError
from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import EMPTY_ROOT
from ledger.tlog.notes import parse_note, parse_signature_lines, sign_note, verify_note
from ledger.tlog.submissions import Submission
from ledger.witness.storage import EVIDENCE_MAX, EvidenceKind, WitnessStorage, hash_origin
from ledger.witness.witness import Answer, Outcome, Witness, parse_logs
from tests.witness.logs import ORIGIN, SIGNER, SampleLog

LOGS = {ORIGIN: [SIGNER.verifier]}
NOW = 1_800_000_000
NO_EVIDENCE = dict.fromkeys(EvidenceKind, 0)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[WitnessStorage]:
    with closing(WitnessStorage(tmp_path / "witness", with_ml_dsa=True)) as storage:
        yield storage


@pytest.fixture
def witness(storage: WitnessStorage) -> Witness:
    return Witness(LOGS, storage, lambda: NOW)


def assert_cosigned(answer: Answer, note: str, storage: WitnessStorage, at: int = NOW) -> None:
    assert answer.outcome is Outcome.COSIGNED, answer
    lines = parse_signature_lines(answer.text)
    keys = storage.verifiers
    assert verify_note(parse_note(note).merge(lines), keys) == keys
    assert [key.read_time(line.signature) for key, line in zip(keys, lines, strict=True)] == [at] * 2


def test_a_growing_log_is_cosigned_at_every_size(witness: Witness, storage: WitnessStorage) -> None:
    log, size = SampleLog(), 0
    for growth in (0, 1, 1, 5, 1, 0, 56, 200):
        log.append(*(f"entry {len(log.leaves) + number}" for number in range(growth)))
        assert_cosigned(witness.add_checkpoint(log.submit(size)), log.sign(), storage)
        size = len(log.leaves)
    assert witness.list_logs() == [(ORIGIN, size, NO_EVIDENCE)]


def test_another_old_size_is_answered_with_the_known_one(witness: Witness) -> None:
    log = SampleLog("abcdefgh")
    for old_size in (1, 8):
        assert witness.add_checkpoint(log.submit(old_size)) == (Outcome.OTHER_SIZE, "0\n")
    witness.add_checkpoint(log.submit(0, 5))
    for old_size in (0, 4, 6):
        assert witness.add_checkpoint(log.submit(old_size, 8)) == (Outcome.OTHER_SIZE, "5\n")
    assert witness.list_logs()[0].evidence == NO_EVIDENCE


@pytest.mark.parametrize(
    ("old_size", "entries", "kind"),
    [
        (5, "abcdX", EvidenceKind.FORK),
        (0, "abcdX", EvidenceKind.FORK),
        (3, "abc", EvidenceKind.ROLLBACK),
        (5, "abcdXfg", EvidenceKind.INCONSISTENT),
    ],
)
def test_a_contradiction_is_refused_and_kept(
    witness: Witness, storage: WitnessStorage, tmp_path: Path, old_size: int, entries: str, kind: EvidenceKind
) -> None:
    log, other = SampleLog("abcde"), SampleLog(entries)
    witness.add_checkpoint(log.submit(0))
    for _ in range(2):
        answer = witness.add_checkpoint(other.submit(old_size))
        refused = (Outcome.OTHER_SIZE, "5\n") if old_size != 5 else (Outcome.INCONSISTENT, answer.text)
        assert answer == refused
    assert witness.list_logs()[0].evidence == NO_EVIDENCE | {kind: 1}
    (case,) = (tmp_path / "witness" / "evidence" / hash_origin(ORIGIN) / kind).iterdir()
    seen, offered = parse_note((case / "seen").read_bytes()), parse_note((case / "offered").read_bytes())
    assert offered.to_text() == other.sign()
    assert verify_note(seen, storage.verifiers) == storage.verifiers
    assert verify_note(seen, [SIGNER.verifier]) == verify_note(offered, [SIGNER.verifier])
    assert witness.add_checkpoint(log.submit(5)).outcome is Outcome.COSIGNED, "the log itself goes on"


def test_what_is_refused_changes_nothing(witness: Witness) -> None:
    log, other_key = SampleLog("abc"), SampleLog("abc", SignerKey.make(ORIGIN, bytes([1] * 32)))
    unknown = SampleLog("abc", SignerKey.make("log.example/2", bytes(32)))
    wrong = sign_note(Checkpoint(ORIGIN, 3, EMPTY_ROOT).to_text(), [SIGNER])
    stolen = parse_note(log.sign())._replace(text=parse_note(wrong).text).to_text()
    empty = sign_note(Checkpoint(ORIGIN, 0, bytes(32)).to_text(), [SIGNER])
    cases = [
        (unknown.submit(0), Outcome.UNKNOWN_LOG),
        (other_key.submit(0), Outcome.UNTRUSTED),
        (Submission(0, [], stolen).encode(), Outcome.UNTRUSTED),
        (log.submit(4), Outcome.MALFORMED),
        (Submission(0, [bytes(32)], log.sign()).encode(), Outcome.INCONSISTENT),
        (Submission(0, [], empty).encode(), Outcome.INCONSISTENT),
    ]
    for body, outcome in cases:
        assert witness.add_checkpoint(body).outcome is outcome, body
    assert witness.list_logs() == [(ORIGIN, 0, NO_EVIDENCE)]


@pytest.mark.parametrize(
    "change",
    [
        lambda body: b"",
        lambda body: body[4:],
        lambda body: body.replace(b"old 0", b"old  0"),
        lambda body: body.replace(b"old 0", b"old 00"),
        lambda body: body.replace(b"old 0", b"old -1"),
        lambda body: body.replace(b"old 0", b"old 9223372036854775808"),
        lambda body: body.replace(b"old 0", "old \N{ARABIC-INDIC DIGIT THREE}".encode()),
        lambda body: body.replace(b"old 0\n", b"old 0\r\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\nAAAA\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\n" + b"A" * 42 + b"B=\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\n" + (b"A" * 43 + b"=\n") * 64),
        lambda body: body[:-1],
        lambda body: body + b"\xff",
        lambda body: body.replace(b"\n3\n", b"\n03\n"),
        lambda body: body.replace(b"\n3\n", b"\n"),
    ],
)
def test_a_malformed_request_is_refused(witness: Witness, change) -> None:
    body = SampleLog("abc").submit(0)
    assert witness.add_checkpoint(change(body)).outcome is Outcome.MALFORMED
    assert witness.add_checkpoint(body).outcome is Outcome.COSIGNED


def test_one_of_many_concurrent_branches_is_cosigned(witness: Witness, storage: WitnessStorage) -> None:
    witness.add_checkpoint(SampleLog("ab").submit(0))
    branches = [SampleLog([*"ab", f"branch {number}"]) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda branch: witness.add_checkpoint(branch.submit(2)), branches))
    outcomes = [answer.outcome for answer in answers]
    assert outcomes.count(Outcome.COSIGNED) == 1
    assert outcomes.count(Outcome.OTHER_SIZE) == 15
    winner, kept = branches[outcomes.index(Outcome.COSIGNED)], storage.read_checkpoint(ORIGIN)
    assert kept is not None
    assert kept == witness.get_checkpoint(ORIGIN)
    assert kept.text == parse_note(winner.sign()).text
    assert witness.list_logs()[0].evidence[EvidenceKind.FORK] == 15


def test_a_checkpoint_that_cannot_be_written_is_not_cosigned(witness: Witness, tmp_path: Path) -> None:
    log, blocker = SampleLog("abcde"), tmp_path / "witness" / "logs" / f"{hash_origin(ORIGIN)}.new"
    witness.add_checkpoint(log.submit(0, 2))
    blocker.mkdir()
    with pytest.raises(OSError, match="directory"):
        witness.add_checkpoint(log.submit(2))
    blocker.rmdir()
    assert witness.list_logs()[0].size == 2
    assert witness.add_checkpoint(log.submit(2)).outcome is Outcome.COSIGNED


def test_a_clock_that_is_put_back_dates_no_cosignature_back(storage: WitnessStorage) -> None:
    log = SampleLog("abcde")
    Witness(LOGS, storage, lambda: NOW + 60).add_checkpoint(log.submit(0, 2))
    answer = Witness(LOGS, storage, lambda: NOW).add_checkpoint(log.submit(2))
    assert_cosigned(answer, log.sign(), storage, at=NOW + 60)


def test_evidence_is_bounded(witness: Witness) -> None:
    witness.add_checkpoint(SampleLog("a").submit(0))
    for number in range(EVIDENCE_MAX + 2):
        witness.add_checkpoint(SampleLog([f"fork {number}"]).submit(1))
    assert witness.list_logs()[0].evidence[EvidenceKind.FORK] == EVIDENCE_MAX


def test_either_of_two_keys_of_a_log_may_sign(storage: WitnessStorage) -> None:
    new_key = SignerKey.make("new-key.example", bytes([7] * 32))
    witness = Witness(parse_logs([str(SIGNER.verifier), f"{ORIGIN} {new_key.verifier}"]), storage)
    log = SampleLog("abc")
    assert witness.add_checkpoint(log.submit(0)).outcome is Outcome.COSIGNED
    log.append("d")
    by_new_key = Submission(3, log.prove(3, 4), sign_note(parse_note(log.sign()).text, [new_key]))
    assert witness.add_checkpoint(by_new_key.encode()).outcome is Outcome.COSIGNED


def test_the_directory_is_private_and_of_one_process_and_one_name(tmp_path: Path) -> None:
    directory = tmp_path / "witness"
    with closing(WitnessStorage(directory, name="witness.example/1")) as storage:
        keys = storage.verifiers
        with pytest.raises(SettingError, match="another witness uses the directory"):
            WitnessStorage(directory)
        Witness(LOGS, storage).add_checkpoint(SampleLog("abc").submit(0))
    for file in directory.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file
    with closing(WitnessStorage(directory)) as storage:
        assert storage.verifiers == keys
        assert [key.name for key in keys] == ["witness.example/1"]
    with pytest.raises(SettingError, match=r"--name: the key in .* is named witness\.example/1"):
        WitnessStorage(directory, name="witness.example/2")
    with pytest.raises(SettingError, match="the witness's key cannot be made"):
        WitnessStorage(tmp_path / "other", name="two words")


@pytest.mark.parametrize(
    ("part", "message"),
    [("key", "key is missing"), ("logs", "has forgotten what it cosigned"), (None, "damaged")],
)
def test_a_witness_that_lost_a_part_of_its_state_does_not_start(
    tmp_path: Path, part: str | None, message: str
) -> None:
    directory = tmp_path / "witness"
    with closing(WitnessStorage(directory)) as storage:
        Witness(LOGS, storage).add_checkpoint(SampleLog("abc").submit(0))
    if part is None:
        (directory / "logs" / hash_origin(ORIGIN)).write_text(SampleLog("abX").sign())
    else:
        (directory / part).rename(tmp_path / "lost")
    with pytest.raises(SettingError, match=message):
        Witness(LOGS, WitnessStorage(directory))


@pytest.mark.parametrize("texts", [[], ["no key"], [str(SIGNER.verifier)[:-2]]])
def test_logs_that_cannot_be_used_are_refused(texts: list[str]) -> None:
    with pytest.raises(SettingError, match=r"^--log: "):
        parse_logs(texts)
