"""Run `ledger witness`: a process of its own, which needs a directory and no database."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import uvicorn

from ledger.cli.service.listener import format_url, open_listener
from ledger.errors import SettingError
from ledger.witness.app import WitnessApp
from ledger.witness.storage import WitnessStorage
from ledger.witness.witness import Witness, parse_logs

CONNECTIONS_MAX = 1000
DRAIN_SECONDS = 5
KEEP_ALIVE_SECONDS = 75


def print_keys(directory: Path, name: str | None, *, with_ml_dsa: bool) -> None:
    """Print the witness's verifier keys, one a line; make them if there are none. Raises SettingError."""
    with closing(WitnessStorage(directory, name=name, with_ml_dsa=with_ml_dsa)) as storage:
        for key in storage.verifiers:
            print(key)


def read_logs(texts: Sequence[str], file: Path | None) -> list[str]:
    """The logs of `--log`, and those of a file, one a line; `#` begins a line that is a comment. Raises
    SettingError."""
    try:
        lines = file.read_text().splitlines() if file is not None else []
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"--logs: cannot read {file}: {error}") from None
    return [*texts, *(line for line in lines if line.strip() and not line.startswith("#"))]


def serve_witness(
    texts: Sequence[str], directory: Path, name: str | None, host: str, port: int, *, with_ml_dsa: bool
) -> None:
    """Run the witness until a signal stops it. Prints its address and its verifier keys.

    texts  the logs, as in `parse_logs`

    Raises SettingError when it cannot listen, or cannot use the directory.
    """
    logs = parse_logs(texts)
    with (
        closing(WitnessStorage(directory, name=name, with_ml_dsa=with_ml_dsa)) as storage,
        open_listener(host, port, hint="--host, --port") as sock,
    ):
        app = WitnessApp(Witness(logs, storage), storage)
        print(f"The witness listens on {format_url(host, sock.getsockname()[1])}", flush=True)
        for key in storage.verifiers:
            print(f"  key  {key}", flush=True)
        config = uvicorn.Config(
            app,
            http="h11",  # it limits the length of a request's head
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        server = uvicorn.Server(config)

        def stop(*_: object) -> None:
            server.should_exit = True

        # uvicorn raises the signal again once it has drained: without a handler that would be an error exit.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        server.run(sockets=[sock])
