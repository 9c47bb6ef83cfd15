"""`ledger erase`: erase a person's data, list redaction jobs, show, run and cancel one."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ledger.cli.groups import JsonOption, YesOption, format_examples, print_json, require_consent
from ledger.cli.shell import (
    clean_up_at_signals,
    format_count,
    format_time,
    get_shell_user,
    make_printable,
    print_table,
)
from ledger.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ledger.cli.erasure.requests import Shell
    from ledger.domain.aggregate import State
    from ledger.domain.redaction_job import RedactionJob
    from ledger.domain.redaction_job_decisions import Obstacle, Scope

_CUSTOMER = "cus_0352CZ3z1jWpJM7B8upbma"
_JOB = "prj_0352CZ3z1jWpJM7B8upbma"
_POLL_SECONDS = 0.25
_SHOWN_MAX = 20
# Of all accounts, as an operator of the service sees them.
_NEWEST = """
SELECT j.id FROM projections.live l JOIN projections.redaction_jobs j ON j.generation = l.generation
WHERE l.projection = 'redaction_jobs' AND (%(status)s::text IS NULL OR j.status = %(status)s)
ORDER BY j.position DESC LIMIT %(limit)s
"""

JobArgument = Annotated[str, typer.Argument(help="The id of a redaction job (prj_…).")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until all is erased.")]


class _Shown(NamedTuple):
    """A job, and the generations of read models that keep data of its objects in the clear."""

    job: RedactionJob
    clear_generations: list[str]


def add_job_commands(group: typer.Typer) -> None:
    """Add `object`, `list`, `show`, `run` and `cancel` to the group."""
    _add_object_command(group)
    _add_list_command(group)
    _add_show_command(group)
    _add_run_command(group)
    _add_cancel_command(group)


def _add_object_command(group: typer.Typer) -> None:
    @group.command(
        "object",
        epilog=format_examples(
            f"ledger erase object {_CUSTOMER} --why 'request 4711' --dry-run",
            f"ledger erase object {_CUSTOMER} --why 'request 4711' --fix --yes --wait --json",
        ),
    )
    def erase_object(
        object_id: Annotated[
            str, typer.Argument(metavar="CUSTOMER", help="A customer, or an object that belongs to none.")
        ],
        why: Annotated[str, typer.Option("--why", help="Why; it is kept on record: name no person in it.")],
        fix: Annotated[bool, typer.Option("--fix", help="Cancel open payment intents.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it reaches, no more.")] = False,
        wait: WaitOption = False,
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Erase a customer's data everywhere, for good.

        With it goes all that belongs to the customer. `ledger erase CUSTOMER` is short for it. It makes a
        redaction job, says what that reaches, and asks before it runs. Running processes of the service do
        the work; --wait waits for them. --dry-run ends with 1 if something stands in the way."""
        from ledger.cli.erasure import requests

        requests.check_reason(why, "--why")
        if dry_run:
            _print_preview(object_id, fix=fix, as_json=as_json)
            return

        async def erase(shell: Shell) -> _Shown:
            job = await requests.request_erasure(shell, object_id, why, get_shell_user(), fix=fix)
            if job.validation_errors:
                raise SettingError(_explain_errors(job))
            try:
                with clean_up_at_signals():
                    _ask(job, yes=yes)
            except BaseException:  # also Ctrl-C: a job that is ready locks its objects
                await requests.cancel_erasure(shell, job)
                raise
            return await _look(shell, await requests.run_erasure(shell, job), wait=wait)

        _show(requests.run_in_shell(erase), as_json=as_json)


def _add_list_command(group: typer.Typer) -> None:
    @group.command(
        "list", epilog=format_examples("ledger erase list", "ledger erase list --status redacting --json")
    )
    def list_jobs(
        status: Annotated[str | None, typer.Option(help="Only jobs with this status.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, at most.")] = 20,
        as_json: JsonOption = False,
    ) -> None:
        """List redaction jobs of all accounts, newest first."""
        from ledger.cli.erasure import requests
        from ledger.domain.redaction_job import READY, STATUSES, RedactionJob
        from ledger.postgres.connections import fetch_all

        if status is not None and status not in STATUSES:
            raise SettingError(f"--status: must be one of {', '.join(STATUSES)}")

        async def read(shell: Shell) -> list[RedactionJob]:
            parameters = {"status": status, "limit": limit}
            async with shell.queries.pool.connection() as conn:
                rows = await fetch_all(conn, _NEWEST, parameters)
            states = [await shell.store.streams.read(row[0]) for row in rows]
            return [state for state in states if isinstance(state, RedactionJob)]

        jobs = requests.run_in_shell(read)
        if as_json:
            print_json({"data": [_render(job) for job in jobs]})
            return
        rows = [
            (
                job.id, job.status, job.account, "live" if job.livemode else "test",
                ", ".join(job.object_ids), job.requested_by or "an API key", format_time(job.created),
            )
            for job in jobs
        ]  # fmt: skip
        print_table(("job", "status", "account", "mode", "objects", "requested by", "created"), rows)
        if any(job.status == READY for job in jobs):
            print(
                "A job that is ready keeps other jobs of its objects from running: ledger erase run JOB, or "
                "ledger erase cancel JOB",
                file=sys.stderr,
            )


def _add_show_command(group: typer.Typer) -> None:
    @group.command(
        "show",
        epilog=format_examples(f"ledger erase show {_JOB}", f"ledger erase show {_JOB} --wait --json"),
    )
    def show(
        job_id: JobArgument,
        wait: WaitOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Show a redaction job, and what stands in its way."""
        from ledger.cli.erasure import requests

        async def read(shell: Shell) -> _Shown:
            return await _look(shell, await shell.find_job(job_id), wait=wait)

        _show(requests.run_in_shell(read), as_json=as_json)


def _add_run_command(group: typer.Typer) -> None:
    @group.command(
        "run", epilog=format_examples(f"ledger erase run {_JOB}", f"ledger erase run {_JOB} --yes --wait")
    )
    def run(
        job_id: JobArgument, wait: WaitOption = False, yes: YesOption = False, as_json: JsonOption = False
    ) -> None:
        """Run a redaction job that is ready.

        It is one that a client has made and not run yet, or that a `ledger erase` left when it was killed at
        its question. It asks again, and what stands in the way by now stops it."""
        from ledger.cli.erasure import requests

        async def erase(shell: Shell) -> _Shown:
            job = await shell.find_job(job_id)
            requests.check_ready(job)
            _ask(job, yes=yes)
            return await _look(shell, await requests.run_erasure(shell, job), wait=wait)

        _show(requests.run_in_shell(erase), as_json=as_json)


def _add_cancel_command(group: typer.Typer) -> None:
    @group.command(
        "cancel",
        epilog=format_examples(f"ledger erase cancel {_JOB}", f"ledger erase cancel {_JOB} --json"),
    )
    def cancel(job_id: JobArgument, as_json: JsonOption = False) -> None:
        """Cancel a redaction job that has not been run."""
        from ledger.cli.erasure import requests

        async def abandon(shell: Shell) -> _Shown:
            await requests.cancel_erasure(shell, await shell.find_job(job_id))
            return await _look(shell, await shell.find_job(job_id))

        _show(requests.run_in_shell(abandon), as_json=as_json)


def _ask(job: RedactionJob, *, yes: bool) -> None:
    """Ask whether to run a job that is ready. Raises SettingError when the answer is no."""
    objects = make_printable(", ".join(job.object_ids))
    with _interruptible():
        require_consent(f"{objects} would be erased for good: {_describe(job.reached)}.", yes=yes)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends a question: by default the event loop notes it only once it goes on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def _look(shell: Shell, job: RedactionJob, *, wait: bool = False) -> _Shown:
    """The job as it is shown; if the caller waits, once its status changes no more by itself."""
    from ledger.cli.erasure import requests
    from ledger.domain.redaction_job import REDACTING, VALIDATING

    while wait and job.status in (REDACTING, VALIDATING):
        await asyncio.sleep(_POLL_SECONDS)
        job = await shell.find_job(job.id)
    return _Shown(job, await requests.list_clear_generations(shell, job.object_ids))


def _print_preview(object_id: str, *, fix: bool, as_json: bool) -> None:
    from ledger.cli.erasure import requests

    async def look(shell: Shell) -> tuple[State, Scope, list[str]]:
        state = await shell.find(object_id)
        scope = await requests.preview_erasure(shell, state, fix=fix)
        return state, scope, await requests.list_clear_generations(shell, [object_id])

    state, scope, clear_generations = requests.run_in_shell(look)
    if as_json:
        print_json(
            {
                "object": "erasure_preview",
                "dry_run": True,
                "erased_object": object_id,
                "redaction": state.redaction or None,
                "reached": dict(scope.reached),
                "canceled_payment_intents": list(scope.cancelable),
                "obstacles": [each._asdict() for each in scope.obstacles],
                "clear_generations": clear_generations,
            }
        )
    else:
        _print_scope(state, scope, clear_generations)
    if scope.obstacles:
        raise typer.Exit(1)


def _print_scope(state: State, scope: Scope, clear_generations: Sequence[str]) -> None:
    from ledger.store.seals.clear_rows import describe_clear_generations

    object_id = state.id
    if state.redaction:
        done = "has been erased before" if state.redaction == "redacted" else "is being erased"
        print(f"{object_id} {done}: what came since then would be erased, too.")
    print(f"{object_id} would be erased for good: {_describe(scope.reached)}.")
    if scope.cancelable:
        print(f"{format_count(len(scope.cancelable), 'payment intent')} would be canceled.")
    for line in _list_obstacles(scope.obstacles):
        print(line)
    if clear_generations:
        print(f"Not reached: {describe_clear_generations(clear_generations)}.")


def _show(shown: _Shown, *, as_json: bool) -> None:
    from ledger.store.seals.clear_rows import describe_clear_generations

    job, clear_generations = shown
    if as_json:
        print_json(_render(job) | {"clear_generations": clear_generations})
        return
    print(f"job         {job.id}")
    print(f"status      {job.status}")
    print(f"objects     {make_printable(', '.join(job.object_ids))}")
    print(f"account     {job.account}, {'live' if job.livemode else 'test'} mode")
    print(f"created     {format_time(job.created)}")
    if job.requested_by is not None:
        print(f"by          {make_printable(job.requested_by)}: {make_printable(job.reason or '')}")
    else:
        print(f"by          an API key: see ledger audit history {job.id}")
    if job.reached:
        print(f"reaches     {_describe(job.reached)}")
    if job.counts:
        print(f"erased      {_describe_places(job.counts)}")
    for error in job.validation_errors:
        print(f"error       {make_printable(_name_object(error['object_id']) + error['message'])}")
    if clear_generations and job.status in ("ready", "redacting", "succeeded"):
        print(f"not reached {describe_clear_generations(clear_generations)}")
    if job.status == "succeeded":
        print(f"certificate ledger erase certificate {job.id}")
    elif job.status == "redacting":
        print(f"See how far it is: ledger erase show {job.id}")
    elif job.status == "ready":
        print(f"Nothing is erased yet: ledger erase run {job.id}, or ledger erase cancel {job.id}")


def _render(job: RedactionJob) -> dict[str, Any]:
    """A job as --json shows it: as the API does, and what only an operator sees."""
    from ledger.wire.redaction_jobs import render_objects, render_redaction_job

    return render_redaction_job(job) | {
        "account": job.account,
        "objects": {name: ids for name, ids in render_objects(job).items() if ids},
        "reason": job.reason,
        "requested_by": job.requested_by,
        "reached": job.reached,
        "counts": job.counts,
        "requested_at": job.requested_at,
        "ended_at": job.ended_at,
    }


def _explain_errors(job: RedactionJob) -> str:
    """One line: the first of what stands in the way, and where the rest is."""
    from ledger.domain.redaction_job import LOCKED_BY_OTHER_JOB

    first = job.validation_errors[0]
    others = len(job.validation_errors) - 1
    more = f" (and {format_count(others, 'other')})" if others else ""
    about = _name_object(first["object_id"])
    see = "list" if first["code"] == LOCKED_BY_OTHER_JOB else f"show {job.id}"
    return f"nothing was erased: {about}{first['message']}{more} See: ledger erase {see}"


def _name_object(object_id: str | None) -> str:
    return f"{object_id}: " if object_id else ""


def _list_obstacles(obstacles: Sequence[Obstacle]) -> list[str]:
    lines = [f"In the way: {_name_object(each.object_id)}{each.message}" for each in obstacles[:_SHOWN_MAX]]
    if len(obstacles) > _SHOWN_MAX:
        lines.append(f"… and {len(obstacles) - _SHOWN_MAX} more")
    return [make_printable(line) for line in lines]


def _describe(counts: Mapping[str, int]) -> str:
    """Counts by type in words: `1 customer, 2 charges`."""
    return ", ".join(
        format_count(number, name.replace("_", " ")) for name, number in sorted(counts.items()) if number
    )


def _describe_places(counts: Mapping[str, int]) -> str:
    """Counts by place, under the names that the certificate has: `events 4, rows_feed 5`."""
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()) if number)
