"""Connect to NATS, by nats-py, which is optional (the extra `nats`).

URLs and credentials are secrets: no error and no log line has more of them than hosts and ports. A connection
that is lost stays so: who used it opens another and finds out anew what the stream has, so that nothing is
sent again from a buffer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from ledger.errors import LedgerError, SettingError
from ledger.logs import OwnWords

if TYPE_CHECKING:
    from nats.aio.client import Client

CONNECT_SECONDS_MAX = 5
CLOSE_SECONDS_MAX = 1
PING_SECONDS = 5
PINGS_WITHOUT_ANSWER_MAX = 2
SCHEMES = ("nats", "tls", "ws", "wss")
DEFAULT_PORT = 4222
_REFUSED = "the server refuses the credentials"
_LOST = ("ConnectionClosedError", "ConnectionReconnectingError", "StaleConnectionError", "UnexpectedEOF")


class NatsUnavailable(LedgerError, OwnWords):
    """NATS or the stream cannot be used now; nothing is lost. `str()` says why, without credentials."""


@dataclass(frozen=True, repr=False)
class NatsAddress:
    """Where NATS is, and who connects. `str()` is the servers without credentials, for logs and errors.

    urls   of the servers of one cluster, perhaps with user and password or a token in them
    creds  a file with the credentials of a user; None without one
    """

    urls: tuple[str, ...]
    creds: Path | None = None

    def __str__(self) -> str:
        urls = (urlsplit(url) for url in self.urls)
        return ",".join(f"{url.scheme}://{url.hostname}:{url.port}" for url in urls)


def parse_address(urls: str, creds: Path | None = None) -> NatsAddress:
    """The address of `urls`, which are separated by commas. Raises SettingError, which quotes nothing of
    them."""
    parsed = []
    for number, text in enumerate(urls.split(","), start=1):
        url = _split(text.strip())
        if url is None or url.scheme not in SCHEMES:
            which = f" ({number} of {urls.count(',') + 1})" if "," in urls else ""
            raise SettingError(
                f"--nats, LEDGER_NATS_URL: no URL of a NATS server{which}, such as nats://127.0.0.1:4222; "
                f"schemes: {', '.join(SCHEMES)}"
            )
        parsed.append(url.geturl())
    if creds is not None and not creds.is_file():
        raise SettingError(f"--creds, LEDGER_NATS_CREDS: no such file: {creds}")
    return NatsAddress(tuple(parsed), creds)


def _split(text: str) -> SplitResult | None:
    """The parts of a URL, with a port; None when it cannot be one."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return None
    if not url.hostname or port == 0:
        return None
    return url if port is not None else url._replace(netloc=f"{url.netloc.rstrip(':')}:{DEFAULT_PORT}")


def require_nats() -> Any:
    """The module of nats-py's client. Raises SettingError where it is not installed."""
    try:
        from nats.aio import client
    except ImportError:
        raise SettingError(
            "this needs the package nats-py, which is not installed here: pip install 'ledger[nats]'"
        ) from None
    return client


async def connect(address: NatsAddress, on_lost: Callable[[], None]) -> Client:
    """A connection to one of the servers. `on_lost` is called when it has ended.

    Raises NatsUnavailable, and SettingError without nats-py.
    """
    module = require_nats()

    async def report_lost() -> None:
        on_lost()

    errors: list[Exception] = []

    async def note_error(error: Exception) -> None:  # else the library logs them, perhaps with URLs
        errors.append(error)

    for url in random.sample(address.urls, len(address.urls)):
        client: Client = module.Client()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await client.connect(
                    url,
                    name="ledger feed",
                    allow_reconnect=False,
                    connect_timeout=CONNECT_SECONDS_MAX,
                    ping_interval=PING_SECONDS,
                    max_outstanding_pings=PINGS_WITHOUT_ANSWER_MAX,
                    user_credentials=None if address.creds is None else str(address.creds),
                    closed_cb=report_lost,
                    error_cb=note_error,
                    max_reconnect_attempts=1,  # or it would try a refused connection without end
                    reconnect_time_wait=0,
                )
            return client
        except Exception as error:  # of the library, of TLS, of a file of credentials that is none
            errors.append(error)
            await close(client)
    failure = next((each for each in errors if isinstance(each, OSError)), errors[-1])
    reason = _REFUSED if _REFUSED in map(describe, errors) else describe(failure)
    raise NatsUnavailable(f"no connection to {address}: {reason}")


async def close(client: Client) -> None:
    """End the connection; never raises."""
    closing = asyncio.ensure_future(client.close())
    await asyncio.wait({closing}, timeout=CLOSE_SECONDS_MAX)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)


def describe(error: BaseException, client: Client | None = None) -> str:
    """An error of NATS or of the connection to it in words that quote nothing: texts of the library may have
    URLs in them. Of a call of `client` that had no answer, why, if the server has said it meanwhile."""
    text = str(error).lower()
    if "authorization" in text or "authentication" in text or "nkey" in text:
        return _REFUSED
    if "permissions violation" in text:
        return "the user may not do this (permissions violation)"
    if isinstance(error, TimeoutError):
        said = None if client is None else client.last_error
        return "no answer in time" if said is None else describe(said)
    if type(error).__name__ in _LOST:
        return "the connection was lost"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
