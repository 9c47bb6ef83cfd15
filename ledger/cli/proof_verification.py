"""`ledger verify`: checks a proof file against a policy, without database, network or settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ledger.cli.shell import format_time, make_printable
from ledger.errors import SettingError
from ledger.tlog.encoding import encode_base64
from ledger.tlog.merkle import HASH_BYTES, ProofError, hash_leaf
from ledger.tlog.policies import POLICY_BYTES_MAX, Trusted, parse_policy
from ledger.tlog.proof_files import FILE_BYTES_MAX, ProofFile, parse_proof_file, verify_proof_file
from ledger.tree.records import Record, decode_record, derive_leaf_hash

MICROSECONDS = 1_000_000


def verify(file: Path, policy: Path, entry: str | None, record: Path | None, *, as_json: bool) -> str:
    """What a proof file proves, as a text to print.

    entry   the entry in hexadecimal; None: it follows from the record
    record  a file with the record in its canonical form; None: the proof file holds it

    Raises ProofError when it does not prove it, SettingError for options or files that cannot be used.
    """
    if entry is not None and record is not None:
        raise SettingError("--entry and --record exclude each other")
    rules = parse_policy(read_limited(policy, POLICY_BYTES_MAX))
    proof = parse_proof_file(read_limited(file, FILE_BYTES_MAX))
    content = proof.extra if record is None else read_limited(record, FILE_BYTES_MAX)
    if entry is not None:
        proven = None
        leaf_hash = hash_leaf(_parse_entry(entry))
    elif content is None:
        raise ProofError("the proof file does not hold its record: give --entry or --record")
    else:
        proven = decode_record(content)
        leaf_hash = derive_leaf_hash(proven)
    trusted = verify_proof_file(proof, leaf_hash, rules)
    if proven is not None and proven.position != proof.index + 1:
        raise ProofError(f"the record of position {proven.position} is in the place of {proof.index + 1}")
    described = _describe(proof, trusted, proven)
    return json.dumps(described) if as_json else _format(described)


def _describe(proof: ProofFile, trusted: Trusted, record: Record | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"verified": True, "position": proof.index + 1}
    if record is not None:
        facts |= {
            "stream": record.stream,
            "version": record.version,
            "topic": record.topic,
            "account": record.account,
            "livemode": record.livemode,
            "actor": record.actor,
            "request_id": record.request_id,
            "idempotency_key": record.idempotency_key,
            "recorded_at": record.recorded_at / MICROSECONDS,
            "state": record.state.decode(errors="replace"),
        }
    checkpoint = trusted.checkpoint
    facts["checkpoint"] = {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": encode_base64(checkpoint.root),
        "key": str(trusted.log),
        "cosignatures": trusted.witnesses,
    }
    return facts


def _format(facts: dict[str, Any]) -> str:
    checkpoint = facts.pop("checkpoint")
    lines = [
        f"Proven: position {facts['position']} is in the log {make_printable(checkpoint['origin'])}, "
        f"whose tree had {checkpoint['size']} events."
    ]
    facts["recorded_at"] = format_signed_time(facts["recorded_at"]) if "recorded_at" in facts else None
    facts["mode"] = {True: "live", False: "test", None: None}[facts.get("livemode")]
    for name in ("stream", "version", "topic", "account", "mode", "actor", "request_id", "recorded_at"):
        if facts.get(name) is not None:
            lines.append(f"  {name.replace('_', ' '):<12} {make_printable(facts[name])}")
    lines.append(f"  {'root':<12} {checkpoint['root']}")
    lines += (
        f"  {'cosigned by':<12} {make_printable(name)}, {format_signed_time(at)}"
        for name, at in checkpoint["cosignatures"].items()
    )
    return "\n".join(lines)


def format_signed_time(at: float) -> str:
    """Unix seconds as date and time, or as they are: a signed time may be any number."""
    try:
        return format_time(at)
    except (OverflowError, ValueError, OSError):
        return str(at)


def _parse_entry(text: str) -> bytes:
    try:
        entry = bytes.fromhex(text)
    except ValueError:
        entry = b""
    if len(entry) != HASH_BYTES:
        raise SettingError(f"--entry: {2 * HASH_BYTES} hexadecimal digits are needed")
    return entry


def read_limited(file: Path, size_bytes_max: int) -> bytes:
    """The file's bytes, and no more than one above the limit, which its parser then refuses."""
    try:
        with file.open("rb") as source:
            return source.read(size_bytes_max + 1)
    except OSError as error:
        raise SettingError(f"cannot read {file}: {error.strerror}") from None
