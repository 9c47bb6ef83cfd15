"""Authentication and permissions: the API key of a request (a Bearer token, or the user name of Basic), the
account it acts on, and what a key of its kind may do (contract §1.2, §1.6, §6.3)."""

from __future__ import annotations

import base64
import binascii

from ledger.accounts import ApiKey
from ledger.api.console.cookie import SESSION_SCHEME
from ledger.api.key_cache import KeyCache
from ledger.api.public.operations import Operation
from ledger.errors import Forbidden, InvalidParameter, Unauthenticated
from ledger.wire.expansion import ExpandTree, collect_read_resources
from ledger.wire.forms import decode


async def authenticate(keys: KeyCache, authorization: bytes, now: float) -> ApiKey:
    """The key in an Authorization header, or of the session that stands for one (`console.cookie`). Raises
    Unauthenticated for a missing, unknown or expired one; `now` is in unix seconds."""
    key = keys.get_cached(authorization)
    if authorization.startswith(SESSION_SCHEME):
        key = key or await keys.find_session(authorization)
        if key is None or key.is_expired(now):
            raise Unauthenticated("The session has ended: sign in again.", code="session_expired")
        return key
    if key is None:
        secret = _parse_secret(authorization)
        key = await keys.find(secret)
        if key is None or (key.kind == "ek" and not _is_bearer(authorization)):
            raise Unauthenticated(f"Invalid API Key provided: {_mask_secret(secret)}")
        keys.put(authorization, key)
    if key.is_expired(now):
        masked = _mask_secret(_parse_secret(authorization))
        raise Unauthenticated(f"Expired API Key provided: {masked}", code="api_key_expired")
    return key


async def resolve_account(keys: KeyCache, key: ApiKey, account: str | None, context: str | None) -> str:
    """The account a request acts on: the key's own, or the one that Stripe-Account or Stripe-Context names;
    they mean the same (contract §1.2).

    Raises InvalidParameter for both headers at once, Forbidden for an account that the key cannot access.
    """
    if account is not None and context is not None:
        raise InvalidParameter("Send either Stripe-Account or Stripe-Context, not both.")
    account_id = context if account is None else account
    if account_id is None:
        return key.account
    if not await keys.can_access(key, account_id):
        raise account_access_error(key, account_id)
    return account_id


def account_access_error(key: ApiKey, account: str) -> Forbidden:
    """The refusal of an account that is neither the key's own nor connected to it."""
    return Forbidden(
        f"The provided key '{key.masked}' does not have access to account '{account[:80]}' (or that account "
        "does not exist). Application access may have been revoked.",
        code="account_invalid",
    )


def authorization_from_query(query: bytes) -> bytes:
    """The Authorization header with the same meaning as `key=` in the query. Only a publishable key may be in
    a URL: any other is ignored."""
    key = decode(query, only_names=("key",)).get("key")
    if type(key) is not str or not key.startswith("pk_") or not key.isascii():
        return b""
    return b"Bearer " + key.encode()


def ephemeral_key_error(key: ApiKey) -> Forbidden:
    """The refusal of an ephemeral key. It does not say whether the object exists."""
    return Forbidden(
        f"The provided key '{key.masked}' does not have the required permissions for this endpoint on "
        f"account '{key.account}'. An ephemeral key can only read its own customer."
    )


def check_permission(key: ApiKey, operation: Operation, target: str) -> None:
    """Raises Forbidden unless the key may run the operation on the object `target`."""
    if key.kind == "ek":
        if operation.open_to != "ek" or target != key.customer:
            raise ephemeral_key_error(key)
        return
    if operation.open_to == "pk":
        if key.kind != "pk":
            raise Forbidden(
                "This API call is made with a publishable API key, by a front end. Please keep your secret "
                "API keys on your servers."
            )
        return
    if key.kind == "pk":
        raise Forbidden(
            "This API call cannot be made with a publishable API key. Please use a secret API key. You can "
            "find a list of your API keys at https://dashboard.stripe.com/account/apikeys.",
            code="secret_key_required",
        )
    _check_scope(key, operation.required_scope)


def check_expand_permissions(key: ApiKey, operation: Operation, expand: ExpandTree) -> None:
    """Raises Forbidden for a restricted key that may not read all objects that the answer would expand."""
    for resource in sorted(collect_read_resources(expand, operation.expandable)) if key.kind == "rk" else ():
        _check_scope(key, f"rak_{resource}_read")


def _check_scope(key: ApiKey, scope: str) -> None:
    if not key.allows(scope):
        raise Forbidden(
            f"The provided key '{key.masked}' does not have the required permissions for this endpoint on "
            f"account '{key.account}'. Having the '{scope}' permission would allow this request to continue.",
            code="more_permissions_required",
        )


def _is_bearer(authorization: bytes) -> bool:
    return authorization.partition(b" ")[0].lower() == b"bearer"


def _parse_secret(authorization: bytes) -> str:
    scheme, _, value = authorization.partition(b" ")
    value = value.strip()
    if scheme.lower() == b"basic":
        try:
            value = base64.b64decode(value, validate=True).partition(b":")[0]
        except binascii.Error:
            value = b""
    elif scheme.lower() != b"bearer":
        value = b""
    if not value:
        raise Unauthenticated(
            "You did not provide an API key. You need to provide your API key in the Authorization header, "
            "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    return value.decode("latin-1")


def _mask_secret(secret: str) -> str:
    """The key with only its kind and its end readable: enough to recognize it, too little to use it."""
    prefix = secret[:8] if secret[:3] in ("sk_", "rk_", "pk_", "ek_") else ""
    return f"{prefix}****{secret[-4:] if len(secret) > 16 else ''}"
