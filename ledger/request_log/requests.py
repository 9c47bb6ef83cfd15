"""One request as the request log keeps it: when, which operation, how it ended, and for whom. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from ledger.request_log.errors import REMOVED, clean_parameter, clean_path, describe_error

ErrorKind = tuple[str, str]
"""Code and parameter of an error, which tell errors of one operation and status apart; '' for neither."""
NO_ERROR: ErrorKind = ("", "")
GROUP_PREFIX = "rgr_"
GROUPS_CACHED_MAX = 10_000
CODE_LENGTH_MAX = 100
_ID_IN_PATH = re.compile(r"(?<=/)[a-z]{2,8}_[A-Za-z0-9_.~-]+|(?<=/)[^/]*[0-9][^/]{7,}")


class FinishedRequest(NamedTuple):
    """A request that was answered. `account` is '' and `key` None for one without a valid key; `path` and
    `error_body` are as they were received and sent: they are cleaned before they are kept."""

    account: str
    livemode: bool
    key: str | None
    request_id: str
    method: str
    path: str
    operation: str
    status: int
    seconds: float
    error_body: str | None


class _Error(msgspec.Struct):
    code: str | None = None
    param: str | None = None


class _Envelope(msgspec.Struct):
    error: _Error


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def read_error_kind(body: str) -> ErrorKind:
    """Code and parameter of the error in the body of an answer."""
    try:
        error = _decode_envelope(body).error
    except msgspec.DecodeError:
        return NO_ERROR
    param = "" if error.param is None else clean_parameter(error.param)
    return (error.code or "")[:CODE_LENGTH_MAX], param


def describe_request(request: FinishedRequest, kind: tuple[Any, ...], now: float) -> dict[str, Any]:
    """The row of a request. Nothing that the client sent is in it, apart from ids."""
    path = clean_path(request.path)
    if not request.account:  # an id may be another account's: whoever reads this has no right to it
        path = _ID_IN_PATH.sub(REMOVED, path)
    error: dict[str, Any] = {}
    if request.error_body is not None:
        error = describe_error(request.error_body, request.method, request.path) or {}
        if not request.account:
            error["message"] = _remove_ids(error.get("message"))
    return {
        "at": now,
        "request_id": request.request_id,
        "account": request.account,
        "livemode": request.livemode,
        "key": request.key,
        "method": request.method,
        "path": path,
        "operation": request.operation,
        "status": request.status,
        "milliseconds": round(request.seconds * 1000, 3),
        "grouped_by": make_group_id(request.operation, request.status, *kind),
        "error_type": error.get("type"),
        "code": kind[0] or None,
        "param": kind[1] or None,
        "message": error.get("message"),
    }


@lru_cache(GROUPS_CACHED_MAX)
def make_group_id(operation: str, status: int, code: str, param: str) -> str:
    """The id of a group of requests: those of one operation that ended alike."""
    digest = sha256("\n".join((operation, str(status), code, param)).encode()).hexdigest()
    return GROUP_PREFIX + digest[:20]


def _remove_ids(message: str | None) -> str | None:
    return message and re.sub(r"/v[12]/[^\s)]*", lambda found: _ID_IN_PATH.sub(REMOVED, found[0]), message)
