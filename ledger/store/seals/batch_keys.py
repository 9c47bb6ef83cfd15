"""The data keys that a batch of appends seals under: those of the database, and new ones.

A subject gets its key in the append that first seals something for it: an event, or a reply, which may show
more of others by expansion than the events of its own object have. The key of an object that the batch
creates is assumed to be new: a constraint refuses the batch if it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.domain.subjects import find_subject
from ledger.keys.data_keys import DataKey, DataKeys, Keyring, NewKey, Source


class BatchKeys:
    """The keys of one batch."""

    def __init__(self, data_keys: DataKeys) -> None:
        self._data_keys = data_keys
        self._keys: dict[str, DataKey] = {}
        self._created: dict[str, NewKey] = {}

    async def load(
        self,
        source: Source,
        changes: Iterable[Sequence[Any]],
        *,
        shown: Iterable[str | None] = (),
        look_up_all: bool = False,
    ) -> None:
        """Load or create the keys of all subjects that the changes (an event, the state after it) seal for,
        and of those that replies show: with one statement at most, with none if they are cached or new. With
        `look_up_all` no key is assumed to be new. Raises Unavailable, and ServiceKeyMissing."""
        unknown: dict[str, None] = {}
        for event, state, *_ in changes:
            if not has_personal_data(event):
                continue
            subject = find_subject(state)
            if subject in self._keys or subject in self._created or subject in unknown:
                continue
            if (key := self._data_keys.get_cached(subject)) is not None:
                self._keys[subject] = key
            elif event.originator_version == 1 and subject == event.originator_id and not look_up_all:
                self._created[subject] = self._data_keys.create(subject)
            else:
                unknown[subject] = None
        for each in shown:
            if each is None or each in self._keys or each in self._created or each in unknown:
                continue
            if (key := self._data_keys.get_cached(each)) is not None:
                self._keys[each] = key
            else:
                unknown[each] = None
        if unknown:
            self._add(await self._data_keys.load(source, unknown), unknown)

    def find(self, event: DomainEvent, state: State) -> tuple[str | None, DataKey | None]:
        """The subject that the event is sealed for and its key: no subject if it has nothing to seal, no key
        if the subject is erased."""
        if not has_personal_data(event):
            return None, None
        subject = find_subject(state)
        created = self._created.get(subject)
        return subject, created.key if created is not None else self._keys.get(subject)

    def as_keyring(self, epoch: int) -> Keyring:
        """All of them, as of the erasure epoch `epoch`."""
        created = {subject: new.key for subject, new in self._created.items()}
        return Keyring(epoch, self._keys | created, {})

    def get_created(self, subjects: Iterable[str | None]) -> list[NewKey]:
        """Those of the subjects' keys that are new, each once."""
        return [
            self._created[each] for each in dict.fromkeys(filter(None, subjects)) if each in self._created
        ]

    def remember(self, subjects: Iterable[str]) -> None:
        """Cache the new keys of these subjects: they are committed."""
        for new in self.get_created(subjects):
            self._data_keys.remember(new)

    def _add(self, keyring: Keyring, subjects: Iterable[str]) -> None:
        for subject in subjects:
            if (key := keyring.get(subject)) is not None:
                self._keys[subject] = key
            elif not keyring.is_erased(subject):
                self._created[subject] = self._data_keys.create(subject)


def has_personal_data(event: DomainEvent) -> bool:
    """Whether the event has something to seal."""
    personal = event.PERSONAL
    return bool(personal) and any(getattr(event, name) is not None for name in personal)
