"""What the commands of the publisher to NATS share: which server, which stream."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.config import Settings
from ledger.errors import SettingError

if TYPE_CHECKING:
    from ledger.feed.jetstream.connection import NatsAddress

STREAM_DEFAULT = "LEDGER"
PREFIX_DEFAULT = "ledger"
_STREAM = re.compile(r"[0-9A-Za-z_-]{1,255}")
_PREFIX = re.compile(r"[0-9A-Za-z_-]{1,64}(\.[0-9A-Za-z_-]{1,64}){0,7}")

NatsOption = Annotated[
    str | None, typer.Option("--nats", help="URL of the NATS server (LEDGER_NATS_URL, which may be secret).")
]
CredsOption = Annotated[
    Path | None, typer.Option("--creds", help="File with the credentials of a user (LEDGER_NATS_CREDS).")
]
StreamOption = Annotated[str, typer.Option("--stream", help="Name of the stream.")]
PrefixOption = Annotated[str, typer.Option("--prefix", help="Beginning of all subjects.")]


def choose_address(settings: Settings, nats: str | None, creds: Path | None) -> NatsAddress:
    """The server of the options, or of the settings. Raises SettingError."""
    from ledger.feed.jetstream.connection import parse_address

    if nats is None:
        if settings.nats_url is None:
            raise SettingError("--nats: required, or LEDGER_NATS_URL, such as nats://127.0.0.1:4222")
        nats = settings.nats_url.get_secret_value()
    return parse_address(nats, creds or settings.nats_creds)


def check_names(stream: str, prefix: str) -> None:
    """Raises SettingError for a name that NATS does not take."""
    if not _STREAM.fullmatch(stream):
        raise SettingError("--stream: letters, digits, _ and - only")
    if not _PREFIX.fullmatch(prefix) or prefix.startswith("$"):
        raise SettingError("--prefix: letters, digits, _ and - only, in parts separated by dots")
