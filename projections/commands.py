"""`ledger projections …`: what an operator does to the read models from a shell.

On a terminal a rebuild shows its progress; piped, plain lines; with --json, one JSON document a line. It
ends with status 0 when what was asked for is so, else 1 and the reason on standard error.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Annotated, TypeVar

import psycopg
import typer
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger import cli, serving
from ledger.clock import Clock
from ledger.config import load_settings
from ledger.database import check_schema, connected
from ledger.errors import SettingError
from ledger.metrics import lags
from ledger.store.codec import Codec
from ledger.store.wake import Wake
from projections import filling, rebuilds, switching, verifying
from projections.driving import drive
from projections.engine import Engine
from projections.progress import Progress, plain
from projections.projection import Projection, described
from projections.rebuilds import WORKERS_MAX, Rebuild
from projections.registry import PROJECTIONS
from projections.switching import Operator
from projections.workers import STOPPED, Workers

POLL_SECONDS = 0.5
BY_NAME = {projection.name: projection for projection in PROJECTIONS}

Result = TypeVar("Result")
Name = Annotated[str, typer.Argument(help="The projection.")]
Names = Annotated[list[str] | None, typer.Argument(help="The projections; or --all.")]
All = Annotated[bool, typer.Option("--all", help="Every projection of this release.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Reason = Annotated[str, typer.Option(help="Why: kept on record.")]


@dataclass(frozen=True, slots=True)
class Shell:
    """What a command works with."""

    dsn: str
    key: bytes
    clock: Clock
    conn: AsyncConnection[TupleRow]

    def engine(self) -> Engine:
        return Engine(self.dsn, Codec(self.key), self.clock, Wake(self.dsn, "ledger_projector"))


def build() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help="The read models and the Event feed.", no_args_is_help=True)
    _add_looking(group)
    _add_rebuilding(group)
    _add_switching(group)
    return group


def _add_looking(group: typer.Typer) -> None:
    @group.command()
    def status(as_json: Json = False) -> None:
        """Where each projection stands against the log."""
        standing = cli.with_database(lambda conn: lags(conn, Clock().now()))
        if as_json:
            print(json.dumps([lag._asdict() for lag in standing], indent=2))
            return
        rows = [
            (
                lag.projection,
                lag.generation,
                "live" if lag.live else "building",
                lag.position,
                lag.events,
                f"{lag.seconds:.1f}",
                f"{lag.parked} streams left out" if lag.parked else "complete",
            )
            for lag in standing
        ]
        title = ("projection", "generation", "state", "checkpoint", "lag (events)", "lag (s)", "rows")
        cli.print_table(title, rows)
        for found in _run(_rebuilds_under_way):
            print(plain(found))

    @group.command()
    def verify(
        names: Names = None,
        everything: All = False,
        sample: Annotated[int | None, typer.Option(help="Only so many streams, chosen by chance.")] = None,
        as_json: Json = False,
    ) -> None:
        """Replay the log and compare with the live rows at one position; exit 1 if any differ."""
        chosen = _chosen(names, everything or not names)
        if sample is not None and sample < 1:
            raise SettingError("--sample: must be 1 or more streams")

        async def check(shell: Shell) -> list[verifying.Verified]:
            codec = Codec(shell.key)
            return await verifying.verify(shell.dsn, codec, shell.clock, chosen, sample=sample)

        verified = _run(check)
        if as_json:
            print(json.dumps([asdict(each) for each in verified], indent=2))
        else:
            cli.print_table(
                ("projection", "generation", "position", "rows", "differing", "streams left out"),
                [
                    (each.projection, each.generation, each.position, each.rows, each.differing, each.parked)
                    for each in verified
                ],
            )
            for each in verified:
                for key in each.keys:
                    print(f"{each.projection}: {key} differs")
        if any(each.differing for each in verified):
            raise typer.Exit(1)


def _add_rebuilding(group: typer.Typer) -> None:
    @group.command()
    def rebuild(
        names: Names = None,
        everything: All = False,
        workers: Annotated[int, typer.Option(min=1, max=WORKERS_MAX, help="Processes that fill.")] = 1,
        accept_differences: Annotated[
            bool, typer.Option("--accept-differences", help="Switch also if rows differ from the live ones.")
        ] = False,
        reason: Reason = "",
        as_json: Json = False,
    ) -> None:
        """Build anew beside what is live, compare, and switch to it if it says the same."""
        chosen = _chosen(names, everything)

        async def begin(shell: Shell) -> Rebuild:
            number = await rebuilds.begin(
                shell.conn, chosen, _operator(reason), workers=workers, accept_differences=accept_differences
            )
            return await _driven(shell, number, as_json)

        _end(_run(begin))

    @group.command()
    def resume(name: Name, as_json: Json = False) -> None:
        """Go on with a rebuild that was paused, failed, or lost its process."""

        async def go_on(shell: Shell) -> Rebuild:
            number = await _number(shell, name)
            await rebuilds.resume(shell.conn, number)
            return await _driven(shell, number, as_json)

        _end(_run(go_on))

    @group.command()
    def pause(name: Name) -> None:
        """Have a rebuild stop; nothing it has done is lost."""

        async def stop(shell: Shell) -> None:
            await rebuilds.pause(shell.conn, await _number(shell, name))

        _run(stop)
        print(f"The rebuild of {name} is paused: ledger projections resume {name}")

    @group.command()
    def cancel(name: Name, reason: Reason = "") -> None:
        """End a rebuild and drop what it made."""

        async def end(shell: Shell) -> None:
            await rebuilds.cancel(shell.conn, await _number(shell, name), _operator(reason))

        _run(end)
        print(f"The rebuild of {name} is cancelled; what is live has not changed.")

    @group.command(hidden=True)
    def fill(rebuild: int, share: int) -> None:
        """One worker of a rebuild; `rebuild` starts them."""
        serving.end_with_parent()

        async def one(shell: Shell) -> bool:
            codec = Codec(shell.key)
            return await filling.fill(shell.dsn, codec, shell.clock, PROJECTIONS, rebuild, share)

        try:
            done = _run(one)
        except Exception as error:  # the edge of the process: an error's text may quote personal data
            sys.exit(described(error))
        raise typer.Exit(0 if done else STOPPED)


def _add_switching(group: typer.Typer) -> None:
    @group.command()
    def switch(
        name: Name,
        generation: Annotated[int | None, typer.Option(help="To which; else to what was rebuilt.")] = None,
        accept_differences: Annotated[
            bool, typer.Option("--accept-differences", help="After looking at them.")
        ] = False,
        reason: Reason = "",
    ) -> None:
        """Make another generation the one that readers see; of a rebuild that differs, with all its views."""

        async def to(shell: Shell) -> None:
            if generation is not None:
                await switching.switch(shell.conn, {name: generation}, _operator(reason))
                return
            number = await _number(shell, name)
            if not accept_differences:
                raise SettingError(
                    f"rebuild {number} of {name} differs from what is live: look at `ledger projections diff "
                    f"{name}`, then --accept-differences or `ledger projections cancel {name}`"
                )
            await rebuilds.accept(shell.conn, number, _operator(reason))

        _run(to)
        print(f"{name} is switched; back again: ledger projections rollback {name}")

    @group.command()
    def diff(name: Name, as_json: Json = False) -> None:
        """The first rows in which the last rebuild of a view differed from what was live."""
        compared = _run(lambda shell: switching.last_comparison(shell.conn, name))
        if as_json:
            print(json.dumps(compared, indent=2))
            return
        print(f"{compared['rows']} rows, {compared['live_rows']} live, at position {compared['position']}")
        for difference in compared["differences"]:
            print(difference["key"])
            live, other = difference["live"] or {}, difference["other"] or {}
            for path in {**live, **other}:
                print(f"  {path}: {json.dumps(live.get(path))} → {json.dumps(other.get(path))}")

    @group.command()
    def rollback(name: Name, reason: Reason = "") -> None:
        """Make the generation live again that was before the last switch."""
        generation = _run(lambda shell: switching.rollback(shell.conn, name, _operator(reason)))
        print(f"Generation {generation} of {name} is live again.")

    @group.command()
    def retire(
        name: Name,
        generation: Annotated[int | None, typer.Option(help="Which; else all that are not live.")] = None,
        removed: Annotated[
            bool, typer.Option("--removed", help="The view is gone from every release: drop all of it.")
        ] = False,
        reason: Reason = "",
    ) -> None:
        """Drop generations that nobody needs any more, not even to go back to."""

        async def drop(shell: Shell) -> list[int]:
            operator = _operator(reason)
            if removed:
                if name in BY_NAME:
                    raise SettingError(f"{name} is a projection of this release")
                return await switching.remove(shell.conn, name, operator)
            which = [generation] if generation else await switching.not_live(shell.conn, name)
            for each in which:
                await switching.retire(shell.conn, name, each, operator)
            return which

        dropped = _run(drop)
        print(f"Dropped of {name}: " + (", ".join(map(str, dropped)) or "nothing"))

    @group.command()
    def retry(
        projection: Annotated[str, typer.Argument(help="The projection that leaves the stream out.")],
        stream: Annotated[str, typer.Argument(help="The stream: the id of an object.")],
    ) -> None:
        """Apply what was left out of a parked stream, in order; exit 1 if it had to be left out again."""
        _chosen([projection], False)

        async def again(shell: Shell) -> bool:
            engine = shell.engine()
            try:
                return await engine.retry(projection, stream)
            finally:
                await engine.close()

        if not _run(again):
            raise SettingError(f"{projection} had to leave {stream} out again: its handler still raises")
        print(f"{projection} leaves nothing of {stream} out.")


def _run(do: Callable[[Shell], Awaitable[Result]]) -> Result:
    settings = load_settings()

    @asynccontextmanager
    async def shell(dsn: str, key: bytes) -> AsyncIterator[Shell]:
        async with connected(dsn, "ledger_projector", name="cli") as conn:
            clock = Clock(movable=settings.test_clock)
            await clock.refresh(conn)
            yield Shell(dsn, key, clock, conn)

    async def session(dsn: str, key: bytes) -> Result:
        async with shell(dsn, key) as here:
            return await do(here)

    with serving.database(settings) as (dsn, key):
        check_schema(dsn)
        return asyncio.run(session(dsn, key))


def _chosen(names: Sequence[str] | None, everything: bool) -> list[Projection]:
    """Raises SettingError for a name that is none, or when none is given."""
    if everything:
        return list(PROJECTIONS)
    for name in names or ():
        if name not in BY_NAME:
            raise SettingError(f"no projection {name}: see `ledger projections status`")
    if not names:
        raise SettingError("name the projections, or give --all")
    return [BY_NAME[name] for name in dict.fromkeys(names)]


def _operator(reason: str) -> Operator:
    with suppress(KeyError, OSError):  # no such user in this container: the host still says something
        return Operator(f"{getpass.getuser()}@{socket.gethostname()}", reason)
    return Operator(socket.gethostname(), reason)


async def _number(shell: Shell, name: str) -> int:
    number = await rebuilds.under_way(shell.conn, name)
    if number is None:
        raise SettingError(f"{name} is not being rebuilt")
    return number


async def _rebuilds_under_way(shell: Shell) -> list[Rebuild]:
    return [await rebuilds.load(shell.conn, number) for number in await rebuilds.open_ones(shell.conn)]


async def _driven(shell: Shell, number: int, as_json: bool) -> Rebuild:
    """Drive it, unless another process does, and show how it goes until it stops."""
    engine = shell.engine()
    fill = Workers(shell.dsn, shell.key).fill

    async def driving() -> None:
        while True:
            if await drive(shell.dsn, shell.clock, engine, PROJECTIONS, number, fill):
                return
            await asyncio.sleep(POLL_SECONDS)

    task = asyncio.create_task(driving(), name="rebuild")
    try:
        with Progress(as_json=as_json) as progress:
            while True:
                ended = task.done()
                found = await rebuilds.load(shell.conn, number)
                progress.show(found)
                if found.over or found.paused or found.state == "differing":
                    return found
                if ended:
                    task.result()
                await asyncio.wait([task], timeout=POLL_SECONDS)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, psycopg.Error):
            await task
        await engine.close()


def _end(found: Rebuild) -> None:
    """What is said of a rebuild that stopped. Raises SettingError unless it has switched."""
    if found.state == "switched":
        print(f"{found.names}: switched to what was rebuilt.", file=sys.stderr)
    elif found.state == "differing":
        first = found.builds[0].projection
        raise SettingError(
            f"{found.names}: what was rebuilt differs from what is live, so nothing was switched. Look: "
            f"ledger projections diff {first}; then `switch {first} --accept-differences` or `cancel {first}`"
        )
    elif found.state == "cancelled":
        raise SettingError(f"{found.names}: the rebuild was cancelled")
    else:
        why = f" because of {found.error}" if found.error else ""
        raise SettingError(
            f"{found.names}: paused{why}; go on with: ledger projections resume {found.builds[0].projection}"
        )
