"""`ledger audit verify-export`: checks an export without database and network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from ledger.audit.exports import ndjson, parquet
from ledger.audit.exports.content import ExportError
from ledger.audit.exports.verification import OpenNote, VerifiedExport, verify_export
from ledger.cli.groups import JsonOption, print_json
from ledger.cli.shell import format_count, make_printable
from ledger.errors import SettingError
from ledger.tlog.checkpoints import Checkpoint, open_checkpoint, parse_checkpoint
from ledger.tlog.encoding import encode_base64
from ledger.tlog.keys import VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import parse_note
from ledger.tlog.policies import parse_policy

PROGRESS_PARTS = 10_000

KeyOption = Annotated[
    str | None, typer.Option(help="The log's public key, name+id+base64, or a file that holds it.")
]
PolicyOption = Annotated[
    Path | None, typer.Option(help="A C2SP tlog-policy file: trusted logs and witnesses.")
]


def verify_export_file(
    file: Annotated[Path, typer.Argument(help="An export, NDJSON or Parquet.")],
    key: KeyOption = None,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that an export is whole and unchanged.

    It needs neither the database nor the network. Without --key and --policy it cannot tell who signed the
    checkpoint, and says so."""
    trust = choose_trust(key, policy)
    try:
        verified = verify_file(file, trust.open_note)
    except (ExportError, ProofError) as error:
        sys.exit(f"ledger: {file}: {make_printable(error)}")
    if as_json:
        print_json(describe_result(verified, trust))
    else:
        print_result(verified, trust)


class Trust(NamedTuple):
    """How checkpoints are opened. `signers` collects who signed the last one, as a text for people."""

    open_note: OpenNote
    signers: list[str]


def choose_trust(key: str | None, policy: Path | None) -> Trust:
    """How checkpoints are opened with a key, a policy or neither. Raises SettingError for one that cannot be
    used."""
    signers: list[str] = []
    if key is not None and policy is not None:
        raise SettingError("--key: use either --key or --policy")
    try:
        if key is not None:
            return _trust_key(VerifierKey.parse(_read_key(key)), signers)
        if policy is not None:
            return _trust_policy(_read(policy), signers)
    except ProofError as error:
        raise SettingError(f"--{'key' if policy is None else 'policy'}: {error}") from None
    return Trust(lambda note: parse_checkpoint(parse_note(note).text), signers)


def _trust_key(key: VerifierKey, signers: list[str]) -> Trust:
    def open_note(note: str) -> Checkpoint:
        checkpoint = open_checkpoint(note, key)
        signers[:] = [f"the log {key.name}, key {key.key_id.hex()}"]
        return checkpoint

    return Trust(open_note, signers)


def _trust_policy(content: bytes, signers: list[str]) -> Trust:
    policy = parse_policy(content)

    def open_note(note: str) -> Checkpoint:
        trusted = policy.check(note)
        witnesses = [f"the witness {name!a}" for name in trusted.witnesses]
        signers[:] = [f"the log {trusted.log.name}, key {trusted.log.key_id.hex()}", *witnesses]
        return trusted.checkpoint

    return Trust(open_note, signers)


def _read_key(text: str) -> str:
    """A key as it is, or the content of the file of that name."""
    return _read(Path(text)).decode(errors="replace").strip() if text.count("+") < 2 else text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from None


def verify_file(file: Path, open_note: OpenNote) -> VerifiedExport:
    """Check an export of either format. Raises ExportError, ProofError, SettingError."""
    try:
        with file.open("rb") as source:
            is_parquet = source.read(len(parquet.MAGIC)) == parquet.MAGIC
            source.seek(0)
            parts = parquet.read_parts(file) if is_parquet else ndjson.read_parts(source)
            size_bytes = file.stat().st_size
            with _show_progress(None if is_parquet else size_bytes) as progress:
                return verify_export(_follow(parts, progress, source.tell), open_note)
    except OSError as error:
        raise SettingError(f"cannot read {file}: {error.strerror}") from None


@contextmanager
def _show_progress(size_bytes: int | None) -> Iterator[Progress]:
    """A bar on a terminal; of a Parquet file it does not show how much remains."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(),
        console=Console(stderr=True), disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with progress:
        progress.add_task("verifying", total=size_bytes)
        yield progress


def _follow(
    parts: Iterator[tuple[str, ndjson.Part]], progress: Progress, tell: Callable[[], int]
) -> Iterator[tuple[str, ndjson.Part]]:
    for number, part in enumerate(parts):
        if number % PROGRESS_PARTS == 0:
            progress.update(progress.task_ids[0], completed=tell(), description=f"verifying, {part[0]}")
        yield part


def describe_result(verified: VerifiedExport, trust: Trust) -> dict[str, Any]:
    """The result as JSON. `signers` is empty when nobody's key was given to check."""
    header, checkpoint = verified.header, verified.checkpoint
    return {
        "verified": True,
        "records": verified.records,
        "complete": verified.is_complete,
        "after": verified.after,
        "upto": header.upto,
        "account": header.account,
        "livemode": header.livemode,
        "filters": header.filters,
        "checkpoint": {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": encode_base64(checkpoint.root),
        },
        "signers": trust.signers,
    }


def print_result(verified: VerifiedExport, trust: Trust) -> None:
    """Print the result for people."""
    header, checkpoint = verified.header, verified.checkpoint
    mode = {None: "either", True: "live", False: "test"}[header.livemode]
    filters = make_printable(", ".join(f"{name}={value}" for name, value in header.filters.items())) or "none"
    print(f"{format_count(verified.records, 'record')} unchanged and in their places.")
    print(f"positions: {verified.after + 1} to {header.upto}, of {checkpoint.size} in the log")
    owner = "all" if header.account is None else make_printable(header.account)
    print(f"account: {owner}, {mode} mode; filters: {filters}")
    if verified.is_complete:
        print("complete: no record between these positions is left out")
    else:
        print(
            f"partial: {header.upto - verified.after - verified.records} records between these positions are "
            "left out; that none of them fits the filters is not proved"
        )
    origin = make_printable(checkpoint.origin)
    print(f"checkpoint: {origin}, size {checkpoint.size}, root {checkpoint.root.hex()}")
    if trust.signers:
        print(f"signed by: {make_printable('; '.join(trust.signers))}")
    else:
        print("signed by: NOT CHECKED. Name the log's key with --key, or a policy with --policy")
