"""Our checkpoints cosigned by witnesses over HTTP, and what happens when one is away, lies or protests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from ledger.tlog.keys import SignerKey, VerifierKey
from ledger.tlog.notes import parse_note, sign_text, verify_note
from ledger.tlog.signed_messages import SignatureType
from ledger.tlog.submissions import Submission
from ledger.tree.proofs import make_proof_file, prove_consistency
from ledger.tree.witnesses import client
from ledger.tree.witnesses.addresses import WitnessAddress
from ledger.tree.witnesses.cosignatures import WitnessState, record_witness
from ledger.tree.witnesses.service import WitnessService
from ledger.witness.storage import EvidenceKind
from ledger.witness.witness import Outcome
from tests.conftest import Cluster
from tests.tree.witnessed import (
    ASKED_AGAIN_SOON,
    NEVER_ASKED_AGAIN,
    SealedLog,
    open_follower,
    open_log,
    wait_until,
)
from tests.webhooks.receiver import Receiver, ScriptedResponse, run_receiver
from tests.witness.server import open_witness

COSIGNS = WitnessState.COSIGNS
WITNESS_KEY = SignerKey.make("witness.example/1", bytes([5] * 32), SignatureType.COSIGNATURE_ED25519)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def test_every_new_checkpoint_is_cosigned_by_all_witnesses(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(1)
            logs = await log.logs()
            with open_witness(tmp_path / "1", logs) as first, open_witness(tmp_path / "2", logs) as second:
                async with (
                    open_follower(log, first.address) as one,
                    open_follower(log, second.address) as two,
                ):
                    for growth in (0, 1, 2, 5, 248, 300):
                        size = await log.grow(growth) if growth else 1
                        assert [await one.advance(), await two.advance()] == [ASKED_AGAIN_SOON] * 2
                        kept = await log.newest()
                        assert (kept.size, kept.cosignatures) == (size, 2)
                        keys = [*first.keys, *second.keys, await log.key()]
                        assert verify_note(parse_note(kept.note), keys) == keys
                assert await log.states() == [(size, COSIGNS, None)] * 2
                proof = await make_proof_file(log.conn, 100)
                assert all(f"\n\N{EM DASH} {key.name} " in proof for key in (*first.keys, *second.keys))

    asyncio.run(main())


def test_a_follower_that_knows_nothing_asks_for_the_size_and_goes_on(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(3)
            with open_witness(tmp_path, await log.logs()) as witness:
                body = Submission(0, [], (await log.newest()).note).encode()
                # As after a crash that lost the answer: the witness has it, we do not.
                assert witness.witness.add_checkpoint(body).outcome is Outcome.COSIGNED
                async with open_follower(log, witness.address) as follower:
                    await follower.advance()
                    assert (await log.newest()).cosignatures == 1
                await log.grow(4)
                async with open_follower(log, witness.address) as follower:
                    await log.conn.execute("DELETE FROM ledger.witnesses")
                    await follower.advance()
                    assert (await log.newest()).cosignatures == 1
                assert witness.witness.list_logs()[0].evidence == dict.fromkeys(EvidenceKind, 0)

    asyncio.run(main())


def test_one_process_at_a_time_asks_a_witness(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(3)
            with open_witness(tmp_path, await log.logs()) as witness:
                async with open_follower(log, witness.address) as second:
                    async with open_follower(log, witness.address) as first:
                        await first.advance()
                        size = await log.grow(2)
                        await second.advance()
                        assert (await log.newest()).cosignatures == 0
                        await first.advance()
                    assert await log.states() == [(size, COSIGNS, None)]
                    await log.grow(2)
                    await second.advance()
                    assert (await log.newest()).cosignatures == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("grown", "kind"),
    [
        (0, EvidenceKind.ROLLBACK),
        (2, EvidenceKind.ROLLBACK),
        (5, EvidenceKind.FORK),
        (9, EvidenceKind.INCONSISTENT),
    ],
)
def test_a_log_restored_from_a_backup_is_an_alarm_with_evidence(
    dsn: str,
    cluster: Cluster,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    grown: int,
    kind: EvidenceKind,
) -> None:
    async def begin() -> dict[str, list[VerifierKey]]:
        async with open_log(dsn) as log:
            await log.grow(5)
            return await log.logs()

    async def go_on() -> None:
        async with open_log(dsn) as log, open_follower(log, witness.address) as follower:
            await follower.advance()
            await log.grow(5)
            await follower.advance()
            assert await log.states() == [(10, COSIGNS, None)]

    async def go_on_from_the_backup(backup: str) -> None:
        async with open_log(backup) as log:
            await record_witness(log.conn, witness.address.id, 5, COSIGNS, None)
            async with open_follower(log, witness.address) as follower:
                if grown:
                    await log.grow(grown)
                assert await follower.advance() is NEVER_ASKED_AGAIN
            ((size, state, reason),) = await log.states()
            assert (size, state) == (5, WitnessState.CONTRADICTS)
            assert reason is not None
            assert ("the log was rolled back" in reason) == (kind is EvidenceKind.ROLLBACK)
            assert (await log.newest()).cosignatures == 0

    logs = asyncio.run(begin())
    template = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with open_witness(tmp_path, logs) as witness, cluster.create_database(str(template)) as backup:
        asyncio.run(go_on())
        asyncio.run(go_on_from_the_backup(backup))
        assert witness.witness.list_logs()[0].evidence == dict.fromkeys(EvidenceKind, 0) | {kind: 1}
    assert "witness_contradicts_the_log" in "".join(capfd.readouterr())


def test_two_ledgers_watch_each_other(dsn: str, cluster: Cluster, tmp_path: Path) -> None:
    async def main(other_dsn: str) -> None:
        async with open_log(dsn) as one, open_log(other_dsn) as two:
            await one.grow(3)
            await two.grow(4)
            with (
                open_witness(tmp_path / "of one", await two.logs()) as of_one,
                open_witness(tmp_path / "of two", await one.logs()) as of_two,
            ):
                services = [
                    WitnessService(one.store, [of_two.address]),
                    WitnessService(two.store, [of_one.address]),
                ]
                for service in services:
                    await service.start()
                for log, other in ((one, of_two), (two, of_one)):
                    size = await log.grow(5)
                    await wait_until(partial(has_cosigned, log, size))
                    assert verify_note(await log.newest_note(), other.keys) == other.keys
                await asyncio.gather(*(service.close() for service in services))

    with cluster.create_database() as other_dsn:
        asyncio.run(main(other_dsn))


def test_a_witness_that_has_forgotten_is_not_trusted_again(dsn: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(5)
            with open_witness(tmp_path, await log.logs()) as witness:
                async with open_follower(log, witness.address) as follower:
                    await follower.advance()
                (file,) = (tmp_path / "logs").iterdir()
                file.unlink()
            with open_witness(tmp_path, await log.logs()) as witness:
                await log.grow(1)
                async with open_follower(log, witness.address) as follower:
                    await follower.advance()
                ((size, state, reason),) = await log.states()
                assert (size, state) == (5, WitnessState.REFUSES)
                assert reason is not None
                assert "it has lost its state, and needs a new key" in reason

    asyncio.run(main())


async def has_cosigned(log: SealedLog, size: int) -> bool:
    return await log.states() == [(size, COSIGNS, None)]


def cosign(note: str, signer: SignerKey, at: int = 1) -> bytes:
    return sign_text(parse_note(note).text, signer, at).to_line().encode()


def with_wrong_signature(note: str) -> bytes:
    """A line of the witness's key over another text."""
    return cosign(note.replace("\n3\n", "\n4\n"), WITNESS_KEY)


@pytest.mark.parametrize(
    ("status", "answer", "state", "reason"),
    [
        (200, lambda note: cosign(note, WITNESS_KEY), COSIGNS, None),
        (
            200,
            lambda note: cosign(note, SignerKey.make("w", bytes(32), WITNESS_KEY.kind)),
            "refuses",
            "known key",
        ),
        (200, with_wrong_signature, "refuses", "signature of 'witness.example/1' is wrong"),
        (200, lambda note: cosign(note, WITNESS_KEY, at=0), "refuses", "has no time"),
        (200, lambda note: b"nonsense", "refuses", "signature line"),
        (200, lambda note: b"\xff", "unreachable", "not UTF-8"),
        (200, lambda note: b"x" * 100_000, "unreachable", "longer than"),
        (403, lambda note: b"", "refuses", "key of this log"),
        (404, lambda note: b"", "refuses", "does not know this log"),
        (409, lambda note: b"0\n", "unreachable", "not an answer of the protocol"),
        (422, lambda note: b"", "contradicts", "does not continue"),
        (301, lambda note: b"", "unreachable", "301"),
        (500, lambda note: b"", "unreachable", "500"),
    ],
)
def test_an_answer_is_taken_only_if_it_is_right(
    dsn: str, receiver: Receiver, status: int, answer, state: WitnessState, reason: str | None
) -> None:
    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(3)
            note = (await log.newest()).note
            receiver.scripts["/add-checkpoint"] = [ScriptedResponse(status, answer(note))]
            address = WitnessAddress(receiver.url(""), (WITNESS_KEY.verifier,))
            async with open_follower(log, address) as follower:
                await follower.advance()
            ((_, recorded_state, recorded_reason),) = await log.states()
            assert recorded_state == state
            assert reason in (recorded_reason, None) or reason in str(recorded_reason)
            assert (await log.newest()).cosignatures == (state is COSIGNS)
            (request,) = receiver.requests_to("/add-checkpoint")
            assert request.body == Submission(0, await prove_consistency(log.conn, 0, 3), note).encode()

    asyncio.run(main())


def test_a_witness_that_names_sizes_for_ever_is_asked_three_times(dsn: str, receiver: Receiver) -> None:
    of_a_size = (("content-type", "text/x.tlog.size"),)
    answers = [ScriptedResponse(409, b"%d\n" % (number % 4), of_a_size) for number in range(10)]
    receiver.scripts["/add-checkpoint"] = answers

    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(3)
            address = WitnessAddress(receiver.url(""), (WITNESS_KEY.verifier,))
            async with open_follower(log, address) as follower:
                pauses = [await follower.advance() for _ in range(3)]
            assert pauses == [2.0, 4.0, 8.0], "it is asked less and less often"
            assert (await log.states())[0][1] == WitnessState.UNREACHABLE

    asyncio.run(main())
    assert len(receiver.requests_to("/add-checkpoint")) == 9


def test_a_witness_of_the_first_version_of_the_protocol_reports_a_fork(dsn: str, receiver: Receiver) -> None:
    of_a_size = (("content-type", "text/x.tlog.size"),)
    receiver.scripts["/add-checkpoint"] = [ScriptedResponse(409, b"3\n", of_a_size)]

    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(3)
            address = WitnessAddress(receiver.url(""), (WITNESS_KEY.verifier,))
            async with open_follower(log, address) as follower:
                assert await follower.advance() is NEVER_ASKED_AGAIN
            ((_, state, reason),) = await log.states()
            assert (state, reason) == (WitnessState.CONTRADICTS, "it has cosigned another tree of 3 records")

    asyncio.run(main())


def test_a_witness_that_hangs_delays_no_seal(
    dsn: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS_MAX", 0.5)
    release = threading.Event()
    receiver.scripts["/add-checkpoint"] = [ScriptedResponse(release=release)]

    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(3)
            address = WitnessAddress(receiver.url(""), (WITNESS_KEY.verifier,))
            async with open_follower(log, address) as follower:
                asked = asyncio.create_task(follower.advance())
                await asyncio.to_thread(receiver.wait_for, "/add-checkpoint", 1)
                assert await log.grow(3) == 6
                assert not asked.done()
                await asked
            assert await log.states() == [(0, WitnessState.UNREACHABLE, "it did not answer within 0.5 s")]

    asyncio.run(main())
    release.set()
