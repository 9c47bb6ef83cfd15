"""The caches against a naive model, and that an eviction does the same work however many came before."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from ledger.lru import ExpiringCache, LruCache
from tests.work import count_calls

KEYS = st.integers(0, 7)
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("put"), KEYS),
        st.tuples(st.just("discard"), KEYS),
        st.tuples(st.just("clear"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 5)),
    ),
    max_size=60,
)
EXPIRES_AFTER_SECONDS = 10


class Key:
    """A key whose hashing and comparing are calls that a profile counts."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._number == other._number


@given(CALLS, st.integers(1, 5))
def test_an_lru_cache_holds_what_was_used_last(calls: list[tuple[str, int]], entries_max: int) -> None:
    cache: LruCache[int, int] = LruCache(entries_max)
    model: list[tuple[int, int]] = []  # (key, value), least recently used first
    for number, (call, key) in enumerate(calls):
        found = next((value for known, value in model if known == key), None)
        others = [entry for entry in model if entry[0] != key]
        match call:
            case "get":
                assert cache.get(key) == found
                model = [*others, (key, found)] if found is not None else model
            case "put":
                cache.put(key, number)
                model = [*others, (key, number)][-entries_max:]
            case "discard":
                cache.discard(key)
                model = others
        assert len(cache) == len(model)
    for key, value in model:
        assert cache.get(key) == value


@given(CALLS, st.integers(1, 5))
def test_an_expiring_cache_holds_what_was_used_last_until_it_expires(
    calls: list[tuple[str, int]], entries_max: int
) -> None:
    now = 0.0
    cache: ExpiringCache[int, int] = ExpiringCache(
        entries_max, expires_after_seconds=EXPIRES_AFTER_SECONDS, clock=lambda: now
    )
    model: list[tuple[int, int, float]] = []  # (key, value, put at), least recently used first
    for number, (call, key) in enumerate(calls):
        entry = next((entry for entry in model if entry[0] == key), None)
        others = [entry for entry in model if entry[0] != key]
        match call:
            case "get":
                if entry is not None and now < entry[2] + EXPIRES_AFTER_SECONDS:
                    assert cache.get(key) == entry[1]
                    model = [*others, entry]
                else:
                    assert cache.get(key) is None
                    model = others
            case "put":
                cache.put(key, number)
                model = [*others, (key, number, now)][-entries_max:]
            case "wait":
                now += key
        assert len(cache) == len(model) <= entries_max


def test_an_eviction_does_the_same_work_in_a_large_cache_after_many_others() -> None:
    counts = set()
    for entries_max in (4, 4000):
        cache: LruCache[Key, int] = LruCache(entries_max)
        for number in range(3 * entries_max):
            cache.put(Key(number), number)
        assert len(cache) == entries_max
        new = Key(3 * entries_max)
        counts.add(count_calls(partial(cache.put, new, 0)))
        assert len(cache) == entries_max
        # No profile shows how a dict searches for its first key, past the places of all deleted ones.
        assert isinstance(cache._entries, OrderedDict)
    assert len(counts) == 1
