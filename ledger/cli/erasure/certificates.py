"""`ledger erase certificate`: a certificate of erasure, printed or written with its proofs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from ledger.cli.groups import format_examples
from ledger.cli.shell import run_with_connection
from ledger.errors import SettingError
from ledger.postgres.connections import Conn

_JOB = "prj_0352CZ3z1jWpJM7B8upbma"


class _Files(NamedTuple):
    """The texts of the files that show an erasure."""

    certificate: str
    request_proof: str
    proof: str
    streams: str


def add_certificate_command(group: typer.Typer) -> None:
    """Add the command to the group."""

    @group.command(
        "certificate",
        epilog=format_examples(
            f"ledger erase certificate {_JOB}", f"ledger erase certificate {_JOB} --out /srv/erasures"
        ),
    )
    def print_certificate(
        job: Annotated[str, typer.Argument(help="The id of the redaction job (prj_…).")],
        out: Annotated[
            Path | None, typer.Option(help="Write it, its proofs and the list of ids to this folder.")
        ] = None,
    ) -> None:
        """Print or write the certificate of an erasure.

        With --out: JOB.certificate, JOB.tlog-proof, JOB.request.tlog-proof and JOB.streams, which `ledger
        verify-erasure` checks without the database. Files that exist are replaced."""
        files = run_with_connection(lambda conn, _: _read(conn, job))
        if out is None:
            print(files.certificate, end="")
            return
        for path in _write(files, out, job):
            print(path)


async def _read(conn: Conn, job: str) -> _Files:
    from ledger.erasure.issuance import find_certificate, list_streams, make_certified_proof

    kept = await find_certificate(conn, job)
    if kept is None:
        raise SettingError(f"there is no certificate of the job {job}: see `ledger erase show {job}`")
    return _Files(
        kept.note,
        await make_certified_proof(conn, kept.requested),
        await make_certified_proof(conn, kept.completed),
        "".join(f"{stream}\n" for stream in await list_streams(conn, job)),
    )


def _write(files: _Files, folder: Path, job: str) -> list[Path]:
    from ledger.cli.erasure.verification import REQUEST_SUFFIX
    from ledger.erasure.certificate import FILE_SUFFIX
    from ledger.postgres.private_files import write_durable_file
    from ledger.tlog.proof_files import FILE_SUFFIX as PROOF_SUFFIX

    suffixes = (FILE_SUFFIX, REQUEST_SUFFIX, PROOF_SUFFIX, ".streams")
    paths = [folder / f"{job}{suffix}" for suffix in suffixes]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, files, strict=True):
            write_durable_file(path, text)
    except OSError as error:
        raise SettingError(f"--out: {folder} cannot be written: {error.strerror}") from None
    return paths
