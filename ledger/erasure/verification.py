"""Checks a certificate of erasure and its two proof files offline, against a policy (C2SP tlog-policy)."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ledger.domain.redaction_job import RedactionJobRunRequested, RedactionJobSucceeded
from ledger.erasure.certificate import Certificate, ErasureStep, parse_certificate
from ledger.tlog.keys import VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import parse_note, verify_note
from ledger.tlog.policies import Policy, Trusted
from ledger.tlog.proof_files import parse_proof_file, verify_proof_file
from ledger.tree.records import Record, decode_record, derive_leaf_hash


class _Expected(NamedTuple):
    """What a record must be: a topic, and the field in which it says itself what the certificate says."""

    name: str
    topic: str
    field: str


_REQUEST = _Expected("the request", RedactionJobRunRequested.TOPIC, "subjects")
_COMPLETION = _Expected("the completion", RedactionJobSucceeded.TOPIC, "counts")


class ProvenStep(NamedTuple):
    """A record of the erasure, and the checkpoint that proves that it is in the log."""

    record: Record
    trusted: Trusted


class VerifiedCertificate(NamedTuple):
    """A certificate that a policy's log has signed, and its records, proved to be in this log."""

    certificate: Certificate
    signers: list[VerifierKey]
    requested: ProvenStep
    completed: ProvenStep


def verify_certificate(
    note_text: str | bytes, request_proof: str | bytes, completion_proof: str | bytes, policy: Policy
) -> VerifiedCertificate:
    """Check the signature of the certificate, that both records are in trees that the policy accepts, and
    that they are those of the certificate. Raises ProofError, which says what is missing or wrong."""
    note = parse_note(note_text)
    certificate = parse_certificate(note.text)
    keys = [log.key for log in policy.logs if log.name == certificate.log]
    if not keys:
        raise ProofError(f"the policy has no log named {certificate.log!a}")
    signers = verify_note(note, keys)
    return VerifiedCertificate(
        certificate,
        signers,
        _verify_step(certificate, certificate.requested, request_proof, policy, _REQUEST),
        _verify_step(certificate, certificate.completed, completion_proof, policy, _COMPLETION),
    )


def _verify_step(
    certificate: Certificate,
    step: ErasureStep,
    proof_text: str | bytes,
    policy: Policy,
    expected: _Expected,
) -> ProvenStep:
    what = expected.name
    try:
        proof = parse_proof_file(proof_text)
        if proof.extra is None:
            raise ProofError("the proof file does not hold its record")
        record = decode_record(proof.extra)
        trusted = verify_proof_file(proof, derive_leaf_hash(record), policy)
    except ProofError as error:
        raise ProofError(f"{what}: {error}") from None
    if trusted.checkpoint.origin != certificate.log:
        raise ProofError(f"{what} is in another log than the certificate's: {trusted.checkpoint.origin!a}")
    if (record.position, proof.index + 1) != (step.position, step.position):
        raise ProofError(f"{what} is at position {proof.index + 1}, not at {step.position}")
    if (record.stream, record.account, record.livemode, record.recorded_at) != (
        certificate.job,
        certificate.account,
        certificate.livemode,
        step.recorded_at,
    ):
        raise ProofError(
            f"{what}: the record is of another job, account, mode or time than the certificate's"
        )
    if record.topic != expected.topic:
        raise ProofError(f"{what}: the record is of another event: {record.topic!a}")
    _compare_facts(certificate, record, expected)
    return ProvenStep(record, trusted)


def _compare_facts(certificate: Certificate, record: Record, expected: _Expected) -> None:
    """Check that what the record itself says is what the certificate says."""
    try:
        state = msgspec.json.decode(record.state)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ProofError(f"{expected.name}: the record is no JSON") from None
    said = {"subjects": list(certificate.subjects), "counts": dict(certificate.counts)}
    if not isinstance(state, dict) or state.get(expected.field) != said[expected.field]:
        raise ProofError(f"{expected.name}: the record has other {expected.field} than the certificate")
