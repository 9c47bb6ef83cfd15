"""`ledger verify-erasure`: checks a certificate of erasure without database, network or settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ledger.cli.proof_verification import format_signed_time, read_limited
from ledger.cli.shell import format_count, format_time, make_printable
from ledger.erasure.certificate import FILE_SUFFIX, Certificate, digest_streams
from ledger.erasure.verification import ProvenStep, VerifiedCertificate, verify_certificate
from ledger.tlog.encoding import encode_base64
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import NOTE_BYTES_MAX
from ledger.tlog.policies import POLICY_BYTES_MAX, parse_policy
from ledger.tlog.proof_files import FILE_BYTES_MAX
from ledger.tlog.proof_files import FILE_SUFFIX as PROOF_SUFFIX

MICROSECONDS = 1_000_000
STREAMS_BYTES_MAX = 1 << 30
REQUEST_SUFFIX = f".request{PROOF_SUFFIX}"


def verify(
    file: Path,
    policy: Path,
    proof: Path | None,
    request_proof: Path | None,
    streams: Path | None,
    *,
    as_json: bool,
) -> str:
    """What a certificate says and what of it is proved, as a text to print.

    proof, request_proof  the proof files of its two records; None: those beside it, named as it is
    streams               a file of ids, one a line, whose digest the certificate has; None: not checked

    Raises ProofError when it is not proved, SettingError for files that cannot be read.
    """
    stem = file.with_name(file.name.removesuffix(FILE_SUFFIX))
    verified = verify_certificate(
        read_limited(file, NOTE_BYTES_MAX),
        read_limited(request_proof or stem.with_name(stem.name + REQUEST_SUFFIX), FILE_BYTES_MAX),
        read_limited(proof or stem.with_name(stem.name + PROOF_SUFFIX), FILE_BYTES_MAX),
        parse_policy(read_limited(policy, POLICY_BYTES_MAX)),
    )
    if streams is not None:
        _check_streams(verified.certificate, streams)
    described = _describe(verified, with_streams=streams is not None)
    return json.dumps(described, indent=2) if as_json else "\n".join(_format(described))


def _check_streams(certificate: Certificate, file: Path) -> None:
    lines = read_limited(file, STREAMS_BYTES_MAX).decode(errors="replace").split("\n")
    streams = sorted({line.strip() for line in lines} - {""})
    if (len(streams), digest_streams(streams)) != (certificate.streams, certificate.streams_digest):
        raise ProofError(f"{file} is not the list of streams of the certificate")


def _describe(verified: VerifiedCertificate, *, with_streams: bool) -> dict[str, Any]:
    certificate = verified.certificate
    return {
        "verified": True,
        "log": certificate.log,
        "job": certificate.job,
        "account": certificate.account,
        "livemode": certificate.livemode,
        "subjects": list(certificate.subjects),
        "data_keys_destroyed": certificate.data_keys_destroyed,
        "streams": certificate.streams,
        "streams_digest": encode_base64(certificate.streams_digest),
        "streams_checked": with_streams,
        "counts": dict(certificate.counts),
        "not_reached": list(certificate.not_reached),
        "signed_by": [str(key) for key in verified.signers],
        "requested": _describe_step(verified.requested),
        "completed": _describe_step(verified.completed),
    }


def _describe_step(step: ProvenStep) -> dict[str, Any]:
    checkpoint = step.trusted.checkpoint
    return {
        "position": step.record.position,
        "topic": step.record.topic,
        "actor": step.record.actor,
        "recorded_at": step.record.recorded_at / MICROSECONDS,
        "checkpoint": {"size": checkpoint.size, "root": encode_base64(checkpoint.root)},
        "cosignatures": step.trusted.witnesses,
    }


def _format(facts: dict[str, Any]) -> list[str]:
    lines = [
        f"Signed: the log {make_printable(facts['log'])} certifies the erasure of "
        f"{make_printable(', '.join(facts['subjects']))}."
    ]
    mode = "live" if facts["livemode"] else "test"
    lines.append(
        f"  job         {make_printable(facts['job'])}, {make_printable(facts['account'])}, {mode} mode"
    )
    for name in ("requested", "completed"):
        step = facts[name]
        at = format_time(step["recorded_at"])
        lines.append(
            f"  {name:<11} {at}, proved: position {step['position']} of {step['checkpoint']['size']}"
        )
        lines += (
            f"  {'cosigned by':<11} {make_printable(witness)}, {format_signed_time(signed_at)}"
            for witness, signed_at in step["cosignatures"].items()
        )
    checked = "the list is the one given" if facts["streams_checked"] else "list not checked (--streams)"
    lines.append(f"  destroyed   {format_count(facts['data_keys_destroyed'], 'data key')}")
    lines.append(f"  streams     {facts['streams']}, {checked}")
    lines += (f"  reached     {name} {count}" for name, count in facts["counts"].items() if count)
    lines += (f"  NOT REACHED {make_printable(text)}" for text in facts["not_reached"])
    lines.append("What a certificate means, and what not, is in its last lines, and in docs/erasure.md.")
    return lines
