"""Opens what is being erased: for the erasure itself alone, and only until the keys are destroyed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidTag

from ledger.keys.data_keys import DataKey, DataKeys, Keyring, Source, fetch_from, get_wrap_context

# Those of subjects that are being erased, too, which no other statement returns.
_SELECT_KEYS = """
SELECT k.subject, k.wrapped, k.wrapped_by
FROM unnest(%(subjects)s::text[]) AS wanted(subject) JOIN ledger.data_keys k ON k.subject = wanted.subject
"""


class ErasedKeys(DataKeys):
    """The data keys of subjects, also of those that are being erased. Nothing is cached."""

    async def load(self, source: Source, subjects: Iterable[str]) -> Keyring:
        """The keys of the subjects; None for one whose key is destroyed. Raises what reading from `source`
        raises."""
        rows = await fetch_from(source, _SELECT_KEYS, {"subjects": list(dict.fromkeys(subjects))})
        return {subject: self._open(subject, *wrap) for subject, *wrap in rows}

    def _open(self, subject: str, wrapped: bytes | None, wrapped_by: Any) -> DataKey | None:
        if wrapped is None:
            return None
        try:
            return DataKey(self.service_keys.unwrap(wrapped, wrapped_by, get_wrap_context(subject)))
        except (InvalidTag, ValueError):
            return None
