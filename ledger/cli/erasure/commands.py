"""Registers the commands about erasures, which import what only they need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.cli.erasure.group import build_erase_group
from ledger.cli.erasure.holds import build_hold_group
from ledger.cli.groups import JsonOption, format_examples


def add_erasure_commands(cli: typer.Typer) -> None:
    """Add `ledger erase …`, `ledger hold …` and `ledger verify-erasure` to the `ledger` command."""
    cli.add_typer(build_erase_group(), name="erase")
    cli.add_typer(build_hold_group(), name="hold")
    _add_verify_erasure_command(cli)


def _add_verify_erasure_command(cli: typer.Typer) -> None:
    @cli.command(
        "verify-erasure",
        epilog=format_examples(
            "ledger verify-erasure prj_1.certificate --policy policy.txt",
            "ledger verify-erasure prj_1.certificate --policy policy.txt --streams erased-ids.txt --json",
        ),
    )
    def verify_erasure(
        file: Annotated[Path, typer.Argument(help="A certificate of erasure (a signed note).")],
        policy: Annotated[
            Path, typer.Option(help="The keys of the logs and witnesses to trust (C2SP tlog-policy).")
        ],
        proof: Annotated[
            Path | None, typer.Option(help="Proof file of the completion; default: JOB.tlog-proof beside it.")
        ] = None,
        request_proof: Annotated[
            Path | None, typer.Option(help="That of the request; default: JOB.request.tlog-proof beside it.")
        ] = None,
        streams: Annotated[
            Path | None, typer.Option(help="A list of ids, one a line, to compare with the certificate's.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Verify a certificate of erasure.

        It needs no database, network or settings. It checks who signed it, and that the request and the
        completion are in the log at the positions that it names. Prints what it says; exits with 1 when that
        is not proven."""
        from ledger.cli.erasure import verification

        print(verification.verify(file, policy, proof, request_proof, streams, as_json=as_json))
