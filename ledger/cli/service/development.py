"""What a developer is shown when a service starts: keys, which a service with an embedded database makes at
its first start, and commands to try.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from ipaddress import ip_address

from ledger.accounts import create_account, create_key
from ledger.config import Settings
from ledger.console.sessions import OPERATOR_SCOPES
from ledger.errors import SettingError
from ledger.postgres.connections import Conn, open_connection
from ledger.postgres.private_files import write_private_file

DEV_KEYS_FILE = "dev-keys.json"


def load_development_keys(settings: Settings, dsn: str, url: str) -> dict[str, str]:
    """The keys of the embedded database's test account, from a file that its first start writes."""
    file = settings.data_dir / DEV_KEYS_FILE
    if file.exists():
        keys: dict[str, str] = json.loads(file.read_text())
    else:
        keys = asyncio.run(_create_account(dsn))
    if keys.get("url") != url:
        keys = {"url": url, **{name: value for name, value in keys.items() if name != "url"}}
        write_private_file(file, json.dumps(keys, indent=2) + "\n")
    return keys


async def _create_account(dsn: str) -> dict[str, str]:
    async with open_connection(dsn, "ledger_api", name="dev keys") as conn, conn.transaction():
        account = await create_account(conn, "Development")
        return {"account": account, **await _create_keys(conn, account)}


async def _create_keys(conn: Conn, account: str) -> dict[str, str]:
    _, secret = await create_key(conn, account, "sk", livemode=False, name="dev secret")
    _, publishable = await create_key(conn, account, "pk", livemode=False, name="dev publishable")
    _, operator = await create_key(
        conn, account, "rk", livemode=False, name="dev operator", scopes=OPERATOR_SCOPES
    )
    return {"secret": secret, "publishable": publishable, "operator": operator}


def format_welcome(keys: Mapping[str, str], *, listeners: str, has_console: bool) -> str:
    """What a service with these keys says at its start. `listeners`: where it listens."""
    url, secret = keys["url"], keys["secret"]
    pages = f"{url}/docs, console: {url}/console" if has_console else f"{url}/docs"
    stripe_cli = format_stripe_cli_command(url, secret)
    return f"""
Ledger listens on {listeners}   (API description: {pages})

  account      {keys["account"]}
  secret       {secret}
  publishable  {keys["publishable"]}
  operator     {keys["operator"]}

Try it:

  curl {url}/v1/customers -u {secret}: -d name="Jenny Rosen"

  python3 -c 'import stripe; stripe.api_key = "{secret}"; \
stripe.api_base = stripe.upload_api_base = stripe.connect_api_base = stripe.meter_events_api_base = \
"{url}"; \
print(stripe.Charge.create(amount=2000, currency="usd", source="tok_createDispute"))'
""" + (f"\n  {stripe_cli}\n" if stripe_cli else "")


def format_stripe_cli_command(url: str, secret: str) -> str | None:
    """The Stripe CLI's command that shows each Event of the service at `url`; None if the CLI refuses that
    URL. It takes http with a literal loopback address only, and not `localhost`, which has one."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host
    if not is_loopback(host.strip("[]")):
        return None
    return (
        f"STRIPE_API_KEY={secret} stripe listen --all-snapshot --api-base http://{host}:{port}   "
        "(docs/stripe-cli.md)"
    )


def find_login_url(settings: Settings, url: str) -> str | None:
    """The URL at which a person confirms `stripe login` of a service that listens at `url`: only where this
    machine is all that can reach it, and its data is a developer's. None elsewhere, or if it is switched off.

    Raises SettingError when it is switched on where it may not be.
    """
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    reasons = {
        "LEDGER_DATABASE_URL is set": settings.database_url is not None,
        "LEDGER_PUBLIC_URL is set": settings.public_url is not None,
        "LEDGER_HOST is no loopback address": not is_loopback(host),
    }
    found = [reason for reason, is_so in reasons.items() if is_so]
    if found and settings.stripe_cli_login:
        raise SettingError(f"LEDGER_STRIPE_CLI_LOGIN: only for development, and {found[0]}")
    if found or settings.stripe_cli_login is False:
        return None
    return url.replace("//localhost:", "//127.0.0.1:")


def is_loopback(host: str) -> bool:
    """Whether a host is a literal address of this machine's loopback."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
