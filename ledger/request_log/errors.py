"""The error of a request as operators and `stripe logs tail` are shown it. Pure.

It is stored and printed, and an error may repeat what the client sent: a name, an e-mail address, a key. Such
texts are cut out: quoted ones unless they are ids, and those of the messages that end with the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

REMOVED = "[removed]"
MESSAGE_LENGTH_MAX = 500
PATH_LENGTH_MAX = 500

_PREFIXES = r"(?:[srpe]k_|whsec_|wsid_)"
# A part of a path with a character that no id and no route has; a secret; what may be the number of a card.
# Each is looked for at the beginning of a part only: else a long path would take very long.
_NOT_IN_PATH = re.compile(
    rf"(?<![^/])(?:[^/]*[^/A-Za-z0-9_.:*-][^/]*|{_PREFIXES}[^/]*|[^/]*_secret_[^/]*|[0-9.:*-]{{9,}})(?![^/])"
)
_OPENING_QUOTE = re.compile(r"(?<!\w)'")
_CLOSING_QUOTE = re.compile(r"'(?!\w)")
_ID = re.compile(r"[a-z]{2,5}_[A-Za-z0-9]{8,}")
_IS_SECRET = re.compile(_PREFIXES)
# What follows is the value, or begins with it.
_ENDS_WITH_VALUE = re.compile(
    r"^(Invalid (?:string|integer|boolean|currency|Stripe API version): |Received unknown parameter: |"
    r"This property cannot be expanded |Unrecognized request URL )(.*)",
    re.DOTALL,
)
_PARAMETER = re.compile(r"[a-z0-9_]{1,40}(\[[a-z0-9_]{0,40}\]){0,6}")
# In a message of any other kind: e-mail addresses, keys, and what may be the number of a card.
_SENSITIVE = re.compile(rf"\S*@\S*|\b{_PREFIXES}\w+|\w*_secret_\w+|(?<!\w)\d(?:[ -]?\d){{8,}}")
# Names of metadata are the client's own.
_METADATA_NAME = re.compile(r"(metadata\]?)\[[^\]]+\]")
_LOOKED_AT_MAX = 4 * MESSAGE_LENGTH_MAX


def clean_path(path: str) -> str:
    """The path without parts that cannot be ids: somebody may have sent an e-mail address or key instead.
    A long path is cut: it would be stored for every run that looks."""
    return _NOT_IN_PATH.sub(REMOVED, path)[:PATH_LENGTH_MAX]


def describe_error(body: str, method: str, path: str) -> dict[str, Any] | None:
    """The error in the body of an answer to a request, None if there is none."""
    try:
        error = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return None
    if not isinstance(error, Mapping):
        return None
    described = {
        name: error[name]
        for name in ("type", "code", "decline_code", "charge")
        if error.get(name) is not None
    }
    parameter = clean_parameter(error["param"]) if isinstance(error.get("param"), str) else None
    described["message"] = _clean_message(str(error.get("message", "")), parameter, method, path)
    if parameter is not None:
        described["param"] = parameter
    return described


def clean_parameter(name: str) -> str:
    """The name of a parameter, unless it is none that one may have: then the client made it up. A misspelt
    one is kept, names of metadata are not."""
    return _METADATA_NAME.sub(rf"\1{REMOVED}", name) if _PARAMETER.fullmatch(name) else REMOVED


def _clean_message(message: str, parameter: str | None, method: str, path: str) -> str:
    found = _ENDS_WITH_VALUE.match(message)
    if found is not None:
        beginning = found[1]
        if beginning.startswith("Received"):
            return f"{beginning}{parameter or REMOVED}"
        if beginning.startswith("Unrecognized"):
            return f"{beginning}({method}: {clean_path(path)})."
        return f"{beginning}{REMOVED}"
    message = _clean_quoted(message, parameter)[:_LOOKED_AT_MAX]
    return _SENSITIVE.sub(REMOVED, message)[:MESSAGE_LENGTH_MAX]


def _clean_quoted(message: str, parameter: str | None) -> str:
    """The message without what it quotes. A value may have quotes itself: so all from the first quote to the
    last one is cut out, unless each text in quotes is an id or the parameter."""
    opening = _OPENING_QUOTE.search(message)
    closings = [found.start() for found in _CLOSING_QUOTE.finditer(message)]
    if opening is None or not closings or closings[-1] <= opening.start():
        return message
    start, end = opening.end(), closings[-1]
    if all(text == parameter or _is_shown_id(text) for text in message[start:end].split("'")[::2]):
        return message
    return f"{message[:start]}{REMOVED}{message[end:]}"


def _is_shown_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None and _IS_SECRET.match(text) is None
