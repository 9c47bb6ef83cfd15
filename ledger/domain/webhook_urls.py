"""The URLs to which Events may be delivered (contract §5.2)."""

from __future__ import annotations

import ipaddress
import re

from ledger.errors import InvalidParameter

URL_LENGTH_MAX = 2048
HOST_LENGTH_MAX = 253
PORT_MAX = 65_535

_match_url_characters = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+").fullmatch  # RFC 3986
_match_authority = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{0,5}))?").fullmatch
_match_label = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,61}[A-Za-z0-9_])?").fullmatch


def check_url(url: str, *, livemode: bool) -> None:
    """Raises InvalidParameter, code `url_invalid`, for a URL that contract §5.2 refuses.

    The message never repeats the URL, which may contain a token. The host name is resolved at each delivery
    and not here: its address may change, and an error here would reveal names of our own network.
    """
    problem = _find_url_problem(url, livemode)
    if problem:
        raise InvalidParameter(f"Invalid URL: {problem}", code="url_invalid", param="url")


def _find_url_problem(url: str, livemode: bool) -> str | None:
    if len(url) > URL_LENGTH_MAX:
        return f"it must be at most {URL_LENGTH_MAX} characters; yours has {len(url)}."
    if _match_url_characters(url) is None:
        return "it contains characters that are not allowed in a URL; percent-encode them."
    scheme, separator, remainder = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return "an explicit scheme, http or https, must be provided."
    authority = re.split("[/?#]", remainder, maxsplit=1)[0]
    if "@" in authority:
        return "it must not contain a user name or password."
    match = _match_authority(authority)
    if match is None or not 1 <= int(match[3] or 1) <= PORT_MAX:
        return "it must have a host, optionally followed by a port."
    is_local = _is_local_address(match[1]) if match[1] else _is_local_host(match[2])
    if is_local is None:
        return "a valid host must be provided."
    if livemode and scheme.lower() != "https":
        return "an endpoint in live mode must use https."
    if livemode and is_local:
        return "an endpoint in live mode must not have a loopback address."
    return None


def _is_local_host(host: str) -> bool | None:
    """Whether a host name or IPv4 address is the local machine; None if it is neither."""
    labels = host.lower().removesuffix(".").split(".")
    if len(host) > HOST_LENGTH_MAX or not all(map(_match_label, labels)):
        return None
    if labels[-1].isdecimal():  # an address: the last label of a name is never numeric (RFC 3696, 2)
        return _is_local_address(host)
    return labels[-1] == "localhost"


def _is_local_address(host: str) -> bool | None:
    """Whether an IP address is a loopback address; None if it is no IP address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
