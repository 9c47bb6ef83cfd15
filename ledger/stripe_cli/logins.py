"""Logins of the Stripe CLI: a program asks for keys, a person confirms it on a page, the program gets them.

Two secrets belong to a login: with one the program asks whether it is confirmed, with the other the person's
browser opens the page. The database has a digest of each, and no key: keys are made for whoever asks first
after the confirmation, once. A login that is not confirmed or not fetched in LOGIN_SECONDS is gone.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

from ledger.accounts import Account, create_key, find_account
from ledger.errors import InvalidParameter, RateLimited, UnknownRoute
from ledger.postgres.connections import Conn, fetch_all, fetch_one

LOGIN_SECONDS = 300
LOGINS_MAX = 20
"""Of these seconds: so a program that begins one after another gets no more, and a guess meets few."""
KEY_SECONDS = 90 * 86_400
"""How long the keys work. The CLI assumes so, and asks to log in again then."""
DEVICE_LENGTH_MAX = 100
ACCOUNTS_SHOWN_MAX = 100

_CONSONANTS, _VOWELS = "bdfghjklmnprstvz", "aeiou"

# Makes the limit exact: logins that begin wait for each other, and nobody else waits.
_LOCK = "LOCK TABLE stripe_cli.logins IN SHARE ROW EXCLUSIVE MODE"
_DELETE_OLD = """
DELETE FROM stripe_cli.logins WHERE created_at <= now() - make_interval(secs => %(seconds)s)
"""
_INSERT = """
INSERT INTO stripe_cli.logins (poll_hash, page_hash, code, device)
SELECT %(poll)s, %(page)s, %(code)s, %(device)s
WHERE (SELECT count(*) FROM stripe_cli.logins) < %(max)s
RETURNING code
"""
_SELECT_OPEN = """
SELECT code, device FROM stripe_cli.logins
WHERE page_hash = %(page)s AND account IS NULL AND created_at > now() - make_interval(secs => %(seconds)s)
"""
_CONFIRM = """
UPDATE stripe_cli.logins SET account = %(account)s
WHERE page_hash = %(page)s AND account IS NULL AND created_at > now() - make_interval(secs => %(seconds)s)
RETURNING device
"""
_REDEEM = """
UPDATE stripe_cli.logins SET redeemed = true
WHERE poll_hash = %(poll)s AND account IS NOT NULL AND NOT redeemed
AND created_at > now() - make_interval(secs => %(seconds)s)
RETURNING account, device
"""
_IS_OPEN = """
SELECT 1 FROM stripe_cli.logins
WHERE poll_hash = %(poll)s AND account IS NULL AND created_at > now() - make_interval(secs => %(seconds)s)
"""
# Connected accounts are their platforms' affair: whoever confirms is none of them.
_ACCOUNTS = (
    "SELECT id, name FROM ledger.accounts WHERE platform IS NULL ORDER BY created_at, id LIMIT %(max)s"
)


class NewLogin(NamedTuple):
    """A login that has begun: the secret of its program, that of its page, and the code that both show."""

    poll_secret: str
    page_secret: str
    code: str


class OpenLogin(NamedTuple):
    """A login that nobody has confirmed yet."""

    code: str
    device: str


class Confirmed(NamedTuple):
    """What the program of a confirmed login gets, once. The keys are of test mode."""

    account: Account
    secret: str
    publishable: str


class NamedAccount(NamedTuple):
    """An account that a login can be for."""

    id: str
    name: str


async def begin_login(conn: Conn, device: str) -> NewLogin:
    """Begin a login of a program on `device`, the name that it gives its machine.

    Raises InvalidParameter for a name that cannot be shown, RateLimited when too many have begun.
    """
    device = device.strip()
    if not device or len(device) > DEVICE_LENGTH_MAX or not device.isprintable():
        message = f"Invalid device_name: must be 1 to {DEVICE_LENGTH_MAX} printable characters."
        raise InvalidParameter(message, param="device_name")
    login = NewLogin(secrets.token_urlsafe(32), secrets.token_urlsafe(32), _make_code())
    values = {
        "poll": _digest(login.poll_secret),
        "page": _digest(login.page_secret),
        "code": login.code,
        "device": device,
        "max": LOGINS_MAX,
    }
    async with conn.transaction():
        await conn.execute(_LOCK)
        await conn.execute(_DELETE_OLD, {"seconds": LOGIN_SECONDS})
        if await fetch_one(conn, _INSERT, values) is None:
            raise RateLimited(
                f"Too many logins have begun in the last {LOGIN_SECONDS // 60} minutes. Try again later.",
                code="rate_limit",
            )
    return login


async def find_open_login(conn: Conn, page_secret: str) -> OpenLogin | None:
    """The login of a page, unless it is confirmed or too old."""
    row = await fetch_one(conn, _SELECT_OPEN, {"page": _digest(page_secret), "seconds": LOGIN_SECONDS})
    return None if row is None else OpenLogin(*row)


async def list_login_accounts(conn: Conn) -> list[NamedAccount]:
    """The accounts that a login can be for, oldest first."""
    return [NamedAccount(*row) for row in await fetch_all(conn, _ACCOUNTS, {"max": ACCOUNTS_SHOWN_MAX})]


async def confirm_login(conn: Conn, page_secret: str, account: str) -> bool:
    """Let the program of this page's login have keys of `account`; False if the login is not open."""
    values = {"page": _digest(page_secret), "account": account, "seconds": LOGIN_SECONDS}
    return await fetch_one(conn, _CONFIRM, values) is not None


async def redeem_login(conn: Conn, poll_secret: str, now: float) -> Confirmed | None:
    """The keys of a confirmed login, made now (unix seconds of the ledger's clock); None while nobody has
    confirmed it. Raises UnknownRoute for one that does not exist, is too old, or has got its keys."""
    values = {"poll": _digest(poll_secret), "seconds": LOGIN_SECONDS}
    async with conn.transaction():
        row = await fetch_one(conn, _REDEEM, values)
        if row is None:
            if await fetch_one(conn, _IS_OPEN, values) is None:
                raise UnknownRoute("This login has expired or is used. Run `stripe login` again.")
            return None
        account_id, device = row
        account = await find_account(conn, account_id)
        assert account is not None, "the login refers to it"
        name, expires_at = f"Stripe CLI on {device}", now + KEY_SECONDS
        _, secret = await create_key(
            conn, account_id, "sk", livemode=False, name=name, expires_at=expires_at, who="stripe login"
        )
        _, publishable = await create_key(
            conn, account_id, "pk", livemode=False, name=name, expires_at=expires_at, who="stripe login"
        )
    return Confirmed(account, secret, publishable)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _make_code() -> str:
    """Four syllable pairs that a person compares at a glance: `kodu-nami-resa-tilo`."""
    pairs = ("".join(secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in "12") for _ in range(4))
    return "-".join(pairs)
