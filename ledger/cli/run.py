"""Runs the command line, and ends it: what became of a command is its exit status and at most one line."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

from ledger.cli.groups import explain_usage_error
from ledger.cli.shell import flush_output, make_printable
from ledger.errors import LedgerError, RequestError, SettingError
from ledger.logs import OwnWords
from ledger.tlog.merkle import ProofError


def run_cli(cli: typer.Typer) -> None:
    """Run the command line. An error that the caller can correct is one line on standard error and exit
    status 1; 2 for arguments that the command does not take. So is an answer that cannot be written; whoever
    has stopped to read it is told nothing."""
    if sys.stdout is None:  # as after `>&-`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (it stays open)
    try:
        _run_command(cli)
    except SystemExit as end:
        failure = flush_output()
        if failure is None or end.code:
            raise
        sys.exit(1 if failure.errno == errno.EPIPE else f"ledger: {failure.strerror}")


def _run_command(cli: typer.Typer) -> NoReturn:
    try:
        sys.exit(cli(standalone_mode=False))
    except typer.TyperException as error:
        print(f"ledger: {make_printable(explain_usage_error(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit("ledger: nothing was changed")
    except (SettingError, RequestError, ProofError) as error:
        sys.exit(f"ledger: {make_printable(error)}")
    except LedgerError as error:
        kind = "" if isinstance(error, OwnWords) else f"{type(error).__name__}: "
        sys.exit(f"ledger: {kind}{make_printable(error)}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        sys.exit(f"ledger: {error.strerror}")
    except UnicodeEncodeError:
        malformed = [argument for argument in sys.argv[1:] if not _is_utf8(argument)]
        if not malformed:
            raise
        sys.exit(f"ledger: not UTF-8: {malformed[0]!a}")


def _is_utf8(argument: str) -> bool:
    """Whether an argument was valid UTF-8. A file may have any name: so none is refused for this alone."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
