"""`ledger erase replay`: requests erasures again in a restored database, from their certificates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ledger.cli.groups import JsonOption, YesOption, format_examples, print_json, require_consent
from ledger.cli.shell import format_count, get_shell_user, print_table
from ledger.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.cli.erasure.requests import Shell
    from ledger.erasure.certificate import Certificate

# Keys may be newer than the log, and from the middle of an erasure that the log does not know of: it would be
# ended by nobody, unless it is requested again.
_ERASED = """
SELECT EXISTS (SELECT FROM ledger.data_keys k
               WHERE k.subject = %(subject)s AND ledger.key_group(k.subject) = ledger.key_group(%(subject)s)
               AND k.erasing_since IS NOT NULL)
AND (EXISTS (SELECT FROM ledger.erasures e WHERE %(subject)s = ANY (e.subjects))
     OR NOT EXISTS (SELECT FROM ledger.data_keys u
                    WHERE u.erasing_since IS NOT NULL AND u.destroyed_at IS NULL))
"""
MICROSECONDS = 1_000_000
REQUESTED, ERASED, ABSENT = "requested", "erased already", "not in this database"


class _Replayed(NamedTuple):
    """What became of one subject of a certificate. `job`: the new redaction job, if there is one;
    `first_requested_at`: unix seconds, when the erasure of the certificate was requested."""

    certificate: str
    subject: str
    outcome: str
    job: str | None
    first_requested_at: int


def add_replay_command(group: typer.Typer) -> None:
    """Add the command to the group."""

    @group.command(
        "replay",
        epilog=format_examples(
            "ledger erase replay prj_1.certificate prj_2.certificate",
            "ledger erase replay /srv/erasures/*.certificate --yes --json",
        ),
    )
    def replay(
        files: Annotated[list[Path], typer.Argument(help="Certificates of erasures.")],
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Request erasures again that a restored database lacks.

        For a backup that was restored with keys from before an erasure. Each certificate has to be signed by
        a key of this log. What is erased already, or not in this database, is left alone. Disputes and legal
        holds that ended before the erasure, but are open in the backup, do not stand in the way."""
        from ledger.cli.erasure import requests

        async def run(shell: Shell) -> list[_Replayed]:
            certificates = await _open(shell, [(file, _read(file)) for file in files])
            planned = [each for one in certificates for each in await _plan(shell, one)]
            wanted = [each for each in planned if each.outcome == REQUESTED]
            if wanted:
                subjects = ", ".join(each.subject for each in wanted)
                require_consent(f"Erased for good, again: {subjects}.", yes=yes)
            return [await _request(shell, each) if each.outcome == REQUESTED else each for each in planned]

        replayed = requests.run_in_shell(run)
        if as_json:
            print_json({"data": [each._asdict() for each in replayed]})
            return
        rows = [(each.certificate, each.subject, each.outcome, each.job or "") for each in replayed]
        print_table(("certificate of", "subject", "outcome", "new job"), rows)
        count = sum(each.outcome == REQUESTED for each in replayed)
        print(f"{format_count(count, 'erasure')} requested; running processes of the service do the rest.")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingError(f"cannot read {file}: {error.strerror}") from None


async def _open(shell: Shell, notes: Sequence[tuple[Path, bytes]]) -> list[Certificate]:
    """The certificates, in the order in which the erasures were completed. Raises ProofError for one that no
    key of this log has signed."""
    from ledger.erasure.certificate import parse_certificate
    from ledger.tlog.merkle import ProofError
    from ledger.tlog.notes import parse_note, verify_note
    from ledger.tree.keys import Keyring

    async with shell.queries.pool.connection() as conn:
        keys = await Keyring(shell.store.service_keys).list_own_keys(conn)
    certificates = []
    for file, content in notes:
        try:
            note = parse_note(content)
            verify_note(note, keys)
            certificates.append(parse_certificate(note.text))
        except ProofError as error:
            raise ProofError(f"{file}: {error}") from None
    return sorted(certificates, key=lambda each: each.completed.position)


async def _plan(shell: Shell, certificate: Certificate) -> list[_Replayed]:
    from ledger.postgres.connections import fetch_one

    planned = []
    for subject in certificate.subjects:
        async with shell.queries.pool.connection() as conn:
            row = await fetch_one(conn, _ERASED, {"subject": subject})
        state = await shell.store.streams.read(subject)
        assert row is not None
        outcome = ERASED if row[0] else ABSENT if state is None else REQUESTED
        at = certificate.requested.recorded_at // MICROSECONDS
        planned.append(_Replayed(certificate.job, subject, outcome, None, at))
    return planned


async def _request(shell: Shell, planned: _Replayed) -> _Replayed:
    """Request one erasure. Raises SettingError for one that something stands in the way of."""
    from ledger.cli.erasure import requests

    reason = f"again after a restore: certificate of {planned.certificate}"
    job = await requests.request_erasure(
        shell,
        planned.subject,
        reason,
        get_shell_user(),
        fix=True,
        first_requested_at=planned.first_requested_at,
    )
    if job.validation_errors:
        message = job.validation_errors[0]["message"]
        raise SettingError(f"{planned.subject} cannot be erased ({job.id}): {message}")
    return planned._replace(job=(await requests.run_erasure(shell, job)).id)
