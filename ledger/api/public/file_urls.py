"""The `url` of files and file links in answers, which only the deployment that answers knows.

A command's answer is kept as the reply of its idempotency key, and a link's address is a secret: so it tells
the address of the one link it made or changed, and the digits of that address are the answer's secret. Links
inside it have null for an address.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from ledger.call import Call
from ledger.commands.execution import Decide, Decided, Reading
from ledger.domain.evidence import FILES
from ledger.files.urls import Addresses
from ledger.queries.pages import Found


class FileUrls:
    """Fills the URLs of files into answers."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

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
                digits = self._addresses.digits(link["id"])
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
        link["url"] = base_url + self._addresses.path_of(link["id"])
