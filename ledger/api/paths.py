"""The path of a request: split at its slashes before it is percent-decoded (contract §1.2; RFC 3986, 2.2).
And its method, where HEAD is answered."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.types import Scope

ENCODED_SLASH = "%2F"
KEYS_PREFIX = "/stripecli/"


def keep_encoded_slashes(scope: Scope) -> None:
    """Put `%2F` back where the server decoded it in `scope["path"]`. An encoded slash belongs to an id: the
    path `/v1/disputes/du_1%2Fclose` names the dispute `du_1/close`, not the route that closes `du_1`.

    No id of an object has a slash or a percent sign, so such a path leads to no object.
    """
    raw_path: bytes = scope["raw_path"]
    if b"%" in raw_path and ENCODED_SLASH in raw_path.decode("latin-1").upper():
        segments = raw_path.decode("latin-1").split("/")
        scope["path"] = "/".join(unquote(segment).replace("/", ENCODED_SLASH) for segment in segments)


def answer_head_as_get(scope: Scope) -> Scope:
    """The scope for an application that has routes for GET only: the server sends the headers of its
    response to a HEAD and leaves out the body, because it goes by the scope that it made. Not where a GET
    hands out keys once: nobody would get them."""
    if scope["method"] != "HEAD" or scope["path"].startswith(KEYS_PREFIX):
        return scope
    return {**scope, "method": "GET"}
