"""`ledger erase exports …`: the files in the clear that `ledger export --unseal` has written."""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.cli.groups import JsonOption, YesOption, build_group, format_examples, print_json, require_consent
from ledger.cli.shell import format_count, format_time, print_table, run_change, run_with_connection
from ledger.clock import Clock
from ledger.errors import SettingError
from ledger.postgres.connections import Conn


def build_exports_group() -> typer.Typer:
    """The group with all its commands."""
    group = build_group(
        "See the exports in the clear, and erase in copies of them.",
        "ledger erase exports list",
        "ledger erase exports rewrite /backups/all.ndjson",
    )
    _add_list_command(group)
    _add_rewrite_command(group)
    _add_forget_command(group)
    return group


def _add_list_command(group: typer.Typer) -> None:
    @group.command(
        "list", epilog=format_examples("ledger erase exports list", "ledger erase exports list --json")
    )
    def list_command(as_json: JsonOption = False) -> None:
        """List the exports in the clear, and the erasures that they lack."""
        from ledger.erasure.exports import list_erasures_since, list_exports

        async def read(conn: Conn, _: Clock) -> list[dict[str, Any]]:
            data = []
            for each in await list_exports(conn):
                lacks = [job for job, done in await list_erasures_since(conn, each) if not done]
                data.append(each._asdict() | {"digest": each.digest.hex(), "lacks": lacks})
            return data

        found = run_with_connection(read)
        if as_json:
            print_json({"data": found})
            return
        header = ("number", "account", "made", "host", "file", "lacks the erasures")
        rows = [
            (
                each["id"], each["account"], format_time(each["made_at"]), each["host"],
                each["path"] or "(standard output)", ", ".join(each["lacks"]),
            )
            for each in found
        ]  # fmt: skip
        print_table(header, rows)


def _add_rewrite_command(group: typer.Typer) -> None:
    @group.command(
        "rewrite",
        epilog=format_examples(
            "ledger erase exports rewrite /backups/all.ndjson",
            "ledger erase exports rewrite /backups/all.ndjson --number 3",
        ),
    )
    def rewrite(
        file: Annotated[Path, typer.Argument(help="An export in the clear, wherever it is now.")],
        number: Annotated[
            int | None, typer.Option(min=1, help="Which export it is; default: the one with its digest.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Erase in a copy of an export what was erased since it was made.

        The file is replaced as a whole. Do so with every copy on other hosts that a certificate names as not
        reached."""
        jobs = run_change(lambda conn, *_: _rewrite(conn, file, number))
        if as_json:
            print_json({"file": str(file), "erasures": jobs})
            return
        print(f"{file}: {format_count(len(jobs), 'erasure')} applied.")


def _add_forget_command(group: typer.Typer) -> None:
    @group.command("forget", epilog=format_examples("ledger erase exports forget 3 --yes"))
    def forget(
        number: Annotated[int, typer.Argument(min=1, help="Its number in the list.")],
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Record that an export was removed, with all its copies."""
        from ledger.erasure.exports import forget_export

        require_consent(f"No erasure looks for the export {number} any more.", yes=yes)
        run_change(lambda conn, *_: forget_export(conn, number))
        if as_json:
            print_json({"number": number, "removed": True})
            return
        print(f"Export {number} counts as removed.")


async def _rewrite(conn: Conn, file: Path, number: int | None) -> list[str]:
    from ledger.erasure.exports import apply_erasure, find_exports, list_erasures_since

    digest = None if number is not None else _read_digest(file)
    found = await find_exports(conn, number=number, digest=digest)
    if len(found) != 1:
        which = "more than one" if found else "none"
        raise SettingError(
            f"{file} is {which} of the exports on record: name it with --number (ledger erase exports list)"
        )
    jobs = [job for job, _ in await list_erasures_since(conn, found[0])]
    for job in jobs:
        obstacle = await apply_erasure(conn, found[0], file, job)
        if obstacle is not None:
            raise SettingError(f"{file}: {obstacle}")
    return jobs


def _read_digest(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            return file_digest(source, "sha256").digest()
    except OSError as error:
        raise SettingError(f"cannot read {file}: {error.strerror}") from None
