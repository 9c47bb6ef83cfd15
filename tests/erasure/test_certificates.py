"""Certificates of erasure: made once, of what the log has, and checked with three files alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import psycopg
import pytest

from ledger.erasure.certificate import MEANING, digest_streams, parse_certificate
from ledger.erasure.issuance import (
    find_certificate,
    list_certificates,
    make_certificate,
    make_certified_proof,
)
from ledger.erasure.verification import verify_certificate
from ledger.errors import DamagedTree
from ledger.tlog.checkpoints import parse_checkpoint
from ledger.tlog.cosignatures import cosign
from ledger.tlog.keys import SignerKey, VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import parse_note, sign_note
from ledger.tlog.policies import parse_policy
from ledger.tlog.signed_messages import SignatureType
from ledger.tree.keys import Keyring, list_keys
from tests.conftest import Cluster
from tests.erasure.erased import ERASURE, JOB, STREAMS, open_completed
from tests.serving.process import run_ledger
from tests.store.stores import KEY

WITNESS = SignerKey.make("witness.example/w1", b"1" * 32, SignatureType.COSIGNATURE_ED25519)


class Issued(NamedTuple):
    """A certificate with its proofs, and what a verifier trusts."""

    note: str
    request_proof: str
    proof: str
    log: VerifierKey
    policy: str


@pytest.fixture(scope="module")
def issued(cluster: Cluster) -> Iterator[Issued]:
    """The certificate of the job, whose records a witness has cosigned."""

    async def issue(dsn: str) -> Issued:
        async with open_completed(dsn) as (conn, _, sealer):
            await sealer.seal()
            kept = await make_certificate(conn, Keyring(KEY), ERASURE, 1_800_000_000)
            assert kept is not None
            row = await (await conn.execute("SELECT note FROM ledger.checkpoints")).fetchone()
            assert row is not None
            note = parse_note(row[0])
            note = note.merge([cosign(note.text, WITNESS, 1_800_000_100)])
            with psycopg.connect(dsn) as owner:
                owner.execute("UPDATE ledger.checkpoints SET note = %s, cosignatures = 1", (note.to_text(),))
            request_proof, proof = [await make_certified_proof(conn, position) for position in (4, 6)]
            [key] = await list_keys(conn)
            policy = f"log {key.verifier}\nwitness w1 {WITNESS.verifier}\nquorum w1\n"
            return Issued(kept.note, request_proof, proof, key.verifier, policy)

    with cluster.create_database() as dsn:
        yield asyncio.run(issue(dsn))


def check(issued: Issued, **changed: Any) -> None:
    text = issued._replace(**changed)
    verify_certificate(text.note, text.request_proof, text.proof, parse_policy(text.policy))


_UPGRADED = """
UPDATE ledger.key_migration SET position = 1;
INSERT INTO projections.checkpoints (projection, generation) VALUES ('customers', 1), ('postings', 1);
INSERT INTO ledger.erasures (job, account, livemode, subjects, requested_position)
    VALUES ('prj_1', 'acct_1', false, '{cus_1}', 4);
INSERT INTO ledger.erasure_streams (job, stream) VALUES ('prj_1', 'cus_1');
"""


_SHARED_KEYS = """
INSERT INTO ledger.erasures (job, account, livemode, subjects, requested_position)
    VALUES ('prj_1', 'acct_1', false, '{cus_1}', 4);
INSERT INTO ledger.erasure_streams (job, stream) SELECT 'prj_1', 'in_' || n FROM generate_series(10, 34) AS n;
INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by)
    SELECT 'in_' || n, 'wrap', 'key' FROM generate_series(10, 34) AS n;
"""


def issue_not_reached(cluster: Cluster, before: LiteralString) -> str:
    """The last of what a certificate says that the erasure has not reached, in a database with these rows."""

    async def issue(dsn: str) -> tuple[str, ...]:
        async with open_completed(dsn) as (conn, _, sealer):
            await sealer.seal()
            kept = await make_certificate(conn, Keyring(KEY), ERASURE, 1_800_000_000)
            assert kept is not None
            return kept.read().not_reached

    with cluster.create_database() as dsn:
        with psycopg.connect(dsn) as conn:
            conn.execute(before)
        return asyncio.run(issue(dsn))[-1]


def test_of_many_keys_that_others_use_some_are_named_and_all_counted(cluster: Cluster) -> None:
    line = issue_not_reached(cluster, _SHARED_KEYS)
    assert line.startswith("what is sealed under the keys of in_10, in_11, in_12,")
    assert line.endswith("in_29 and 5 more: other accounts use them, too")


def test_a_generation_with_rows_in_the_clear_is_named_as_not_reached(cluster: Cluster) -> None:
    line = issue_not_reached(cluster, _UPGRADED)
    assert line.startswith("files of customers_g1, whose rows")
    assert "ledger projections rebuild --all" in line


def test_a_certificate_says_what_was_erased_and_what_it_means(issued: Issued) -> None:
    text = parse_note(issued.note).text
    certificate = parse_certificate(text)
    assert (certificate.job, certificate.subjects) == (JOB, ("cus_1",))
    assert [certificate.requested.position, certificate.completed.position] == [4, 6]
    assert (certificate.data_keys_destroyed, certificate.streams) == (1, 3)
    assert certificate.counts == {"feed": 7, "replies": 2}
    assert certificate.not_reached == (r"an export on host b1: /exports/\x1b[31mall.ndjson",)
    assert text.endswith("".join(f"{line}\n" for line in MEANING))
    assert certificate.streams_digest == sha256(b"ch_1\nch_2\ncus_1\n").digest()


def test_no_certificate_can_be_taken_for_a_checkpoint(issued: Issued) -> None:
    """The same key signs both."""
    text = parse_note(issued.note).text
    with pytest.raises(ProofError):
        parse_checkpoint(text)
    assert not text.startswith(issued.log.name)


def test_a_certificate_is_made_when_its_records_are_sealed_and_only_once(dsn: str) -> None:
    async def main() -> None:
        async with open_completed(dsn) as (conn, store, sealer):
            keyring = Keyring(KEY)
            assert await make_certificate(conn, keyring, ERASURE, store.clock.now()) is None
            await sealer.seal()
            with pytest.raises(DamagedTree):
                await make_certificate(conn, keyring, ERASURE._replace(requested=1), store.clock.now())
            made = await make_certificate(conn, keyring, ERASURE, store.clock.now())
            other = ERASURE._replace(counts={"feed": 0})
            assert await make_certificate(conn, keyring, other, store.clock.now()) == made
            assert await find_certificate(conn, JOB) == made
            assert await list_certificates(conn, "acct_1", livemode=False, before=7, limit=2) == [made]
            assert await list_certificates(conn, "acct_1", livemode=False, before=6, limit=2) == []
            assert await list_certificates(conn, "acct_1", livemode=True, before=7, limit=2) == []
            for change in (
                "UPDATE ledger.erasure_certificates SET note = ''",
                "DELETE FROM ledger.erasure_certificates",
            ):
                with psycopg.connect(dsn) as owner, pytest.raises(psycopg.errors.RestrictViolation):
                    owner.execute(change.encode())

    asyncio.run(main())


def test_a_certificate_and_its_proofs_are_verified_offline(issued: Issued, tmp_path: Path) -> None:
    def run(*options: str) -> tuple[int, str, str]:
        ended = run_ledger(
            tmp_path / "none", "verify-erasure", f"{JOB}.certificate", "--policy", "policy", *options
        )
        assert not (tmp_path / "none").exists()
        return ended.returncode, ended.stdout, ended.stderr

    files: dict[str, str] = {
        f"{JOB}.certificate": issued.note,
        f"{JOB}.tlog-proof": issued.proof,
        f"{JOB}.request.tlog-proof": issued.request_proof,
        "policy": issued.policy,
        "streams": "\n".join(reversed(STREAMS)),
        "others": "cus_1\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    status, text, errors = run("--streams", "streams")
    assert (status, errors) == (0, "")
    assert f"the log {issued.log.name} certifies the erasure of cus_1." in text
    for shown in (
        "position 6 of 7",
        "w1, 2027-01-15",
        "1 data key",
        "the list is the one given",
        "NOT REACHED",
    ):
        assert shown in text
    status, text, _ = run("--json")
    facts: dict[str, Any] = json.loads(text)
    assert (status, facts["signed_by"], facts["counts"]) == (0, [str(issued.log)], {"feed": 7, "replies": 2})
    assert facts["completed"]["cosignatures"] == {"w1": 1_800_000_100}
    assert run("--streams", "others") == (
        1, "", "ledger: others is not the list of streams of the certificate\n",
    )  # fmt: skip
    (tmp_path / f"{JOB}.tlog-proof").unlink()
    assert "cannot read prj_1.tlog-proof" in run()[2]


def test_a_certificate_that_is_not_proved_is_refused_with_the_reason(issued: Issued) -> None:
    check(issued)
    stranger = SignerKey.make(issued.log.name, b"2" * 32)
    text = parse_note(issued.note).text
    forged = sign_note(text.replace("cus_1", "cus_9"), [stranger])
    for reason, changed in (
        ("is wrong", {"note": issued.note.replace("cus_1", "cus_9")}),
        ("not signed by a known key", {"note": forged}),
        ("has no log named", {"policy": f"log {SignerKey.make('other', b'3' * 32).verifier}\nquorum none\n"}),
        ("the completion is at position 4, not at 6", {"proof": issued.request_proof}),
        ("the request: the proof file", {"request_proof": issued.request_proof[:30]}),
        ("the request: the quorum", {"request_proof": _drop_cosignature(issued.request_proof)}),
    ):
        with pytest.raises(ProofError, match=reason):
            check(issued, **changed)


def test_a_certificate_has_one_form_only(issued: Issued) -> None:
    text = parse_note(issued.note).text
    for reason, old, new in (
        ("begin", "ledger/erasure-certificate@v1", "ledger/erasure-certificate@v2"),
        ("'account' where it belongs", "account: acct_1\nmode: test", "mode: test\naccount: acct_1"),
        ("neither live nor test", "mode: test", "mode: tests"),
        ("no position and time", "completed: position 6, 2", "completed: position 6, at 2"),
        ("lines that its form does not have", "reached: replies", "reached: feed"),
        ("lines that its form does not have", "position 4", "4"),
        ("a place in the certificate has no name", "reached: feed", "reached: Feed"),
        ("does not end with the lines", "What stays", "what stays"),
    ):
        assert old in text
        with pytest.raises(ProofError, match=reason):
            parse_certificate(text.replace(old, new))


def test_the_digest_of_streams_is_that_of_standard_programs() -> None:
    assert digest_streams(["a", "b"]).hex() == sha256(b"a\nb\n").hexdigest()


def _drop_cosignature(proof: str) -> str:
    return "".join(line for line in proof.splitlines(keepends=True) if "witness.example" not in line)
