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
from ledger.commands.execution import Decide, Decision, DecisionContext
from ledger.domain.evidence import FILE_FIELDS
from ledger.files.urls import FileLinkUrls
from ledger.queries.pages import QueryResult


class FileUrls:
    """Fills the URLs of files into answers."""

    def __init__(self, link_urls: FileLinkUrls) -> None:
        self._link_urls = link_urls

    def add_urls_to_query(
        self, query: Callable[[Call], Awaitable[QueryResult]]
    ) -> Callable[[Call], Awaitable[QueryResult]]:
        """The read, with addresses in the files and links it answers with."""

        async def answer_with_urls(call: Call) -> QueryResult:
            result = await query(call)
            for item in (
                result.body.get("data", ()) if result.body.get("object") == "list" else (result.body,)
            ):
                self._set_urls(item, call.base_url, include_links=True)
            return result

        return answer_with_urls

    def add_urls_to_command(self, decide: Decide) -> Decide:
        """The command, with addresses of files in its answer, and of the link that it is about."""

        async def decide_with_urls(call: Call, context: DecisionContext, now: int) -> Decision:
            decision = await decide(call, context, now)
            answer: dict[str, Any] = dict(decision.answer)
            self._set_urls(answer, call.base_url, include_links=False)
            links = [answer] if answer.get("object") == "file_link" else []
            if answer.get("object") == "file":
                links = answer["links"]["data"]  # none, or the one that was made with it
            for link in links:
                self._set_link_url(link, call.base_url)
                digits = self._link_urls.derive_digits(link["id"])
                return dataclasses.replace(decision, answer=answer, secret=digits, secret_of=link["id"])
            return dataclasses.replace(decision, answer=answer)

        return decide_with_urls

    def _set_urls(self, answer: Any, base_url: str, *, include_links: bool) -> None:
        """Along the members that can hold a file, never into what a caller has named (metadata)."""
        match answer.get("object"):
            case "file":
                answer["url"] = f"{base_url}/v1/files/{answer['id']}/contents"
                for link in answer["links"]["data"]:
                    self._set_urls(link, base_url, include_links=include_links)
            case "file_link":
                if include_links:
                    self._set_link_url(link=answer, base_url=base_url)
                if isinstance(answer["file"], dict):
                    self._set_urls(answer["file"], base_url, include_links=include_links)
            case "dispute":
                for name in FILE_FIELDS:
                    if isinstance(answer["evidence"][name], dict):
                        self._set_urls(answer["evidence"][name], base_url, include_links=include_links)

    def _set_link_url(self, link: dict[str, Any], base_url: str) -> None:
        link["url"] = base_url + self._link_urls.path_of(link["id"])
