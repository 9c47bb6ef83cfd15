"""Where files are served: the `url` of files and file links, which only this deployment can tell.

A link's address holds digits derived from its id and the service key. They are never kept, not even in
the reply under an idempotency key: a command's answer tells the one link it made or changed, and its
digits are the answer's secret (README, invariant 7). Links inside it have null for an address.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from ledger.call import Call
from ledger.commands.execution import Decide, Decided, Reading
from ledger.domain.evidence import FILES
from ledger.ids import digits_of
from ledger.pages import Found

LINKS_PATH = "/links/"


class Addresses:
    """Addresses under the service key."""

    def __init__(self, service_key: bytes) -> None:
        self._key = hmac.digest(service_key, b"ledger/file_link/address/1", "sha256")

    def digits(self, link_id: str) -> str:
        """The 32 digits that only the service key can make."""
        return digits_of(hmac.digest(self._key, link_id.encode(), "sha256"))

    def link_of(self, name: str) -> str | None:
        """The id of the link that `name`, the end of an address, is for; None for a forged one."""
        link_id, _, digits = name.partition(".")
        right = hmac.compare_digest(self.digits(link_id).encode(), digits.encode())
        return link_id if right else None

    def telling(self, answer: Callable[[Call], Awaitable[Found]]) -> Callable[[Call], Awaitable[Found]]:
        """The read, with addresses in the files and links it answers with."""

        async def told(call: Call) -> Found:
            found = await answer(call)
            for each in found.body.get("data", ()) if found.body.get("object") == "list" else (found.body,):
                self._fill(each, call.base_url, links=True)
            return found

        return told

    def telling_in(self, decide: Decide) -> Decide:
        """The command, with addresses of files in its answer, and of the link that it is about."""

        async def told(call: Call, reading: Reading, now: int) -> Decided:
            decided = await decide(call, reading, now)
            answer: dict[str, Any] = dict(decided.answer)
            self._fill(answer, call.base_url, links=False)
            about = [answer] if answer.get("object") == "file_link" else []
            if answer.get("object") == "file":
                about = answer["links"]["data"]  # none, or the one that was made with it
            for link in about:
                self._address(link, call.base_url)
                digits = self.digits(link["id"])
                return dataclasses.replace(decided, answer=answer, secret=digits, secret_of=link["id"])
            return dataclasses.replace(decided, answer=answer)

        return told

    def _fill(self, answer: Any, base_url: str, *, links: bool) -> None:
        """Along the members that can hold a file, never into what a caller has named (metadata)."""
        match answer.get("object"):
            case "file":
                answer["url"] = f"{base_url}/v1/files/{answer['id']}/contents"
                for link in answer["links"]["data"]:
                    self._fill(link, base_url, links=links)
            case "file_link":
                if links:
                    self._address(link=answer, base_url=base_url)
                if isinstance(answer["file"], dict):
                    self._fill(answer["file"], base_url, links=links)
            case "dispute":
                for name in FILES:
                    if isinstance(answer["evidence"][name], dict):
                        self._fill(answer["evidence"][name], base_url, links=links)

    def _address(self, link: dict[str, Any], base_url: str) -> None:
        link["url"] = f"{base_url}{LINKS_PATH}{link['id']}.{self.digits(link['id'])}"
