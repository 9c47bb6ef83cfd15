"""Ids: of one form, sorted by time, carrying it; those derived from the log always the same."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.ids import derive_id, encode_base62, encode_digest, new_id, parse_id_time

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
NOW = 1_700_000_000.123
TIMES = st.integers(0, 2**40).map(lambda milliseconds: milliseconds / 1000)
FORM = re.compile(r"[a-z]+_[0-9A-Za-z]{22}")


def test_an_id_is_a_prefix_and_22_letters_and_digits() -> None:
    assert FORM.fullmatch(new_id("cus", NOW))
    assert FORM.fullmatch(derive_id("evt", NOW, "dp_1", 3))


def test_fresh_ids_of_one_moment_differ() -> None:
    assert len({new_id("cus", NOW) for _ in range(10_000)}) == 10_000


@given(TIMES)
def test_an_id_carries_its_time(at: float) -> None:
    assert parse_id_time(new_id("cus", at)) == pytest.approx(at, abs=0.0005)
    assert parse_id_time(derive_id("evt", at, "dp_1", 3)) == pytest.approx(at, abs=0.0005)


@given(TIMES, TIMES)
def test_ids_sort_as_their_times_do(one: float, other: float) -> None:
    if one < other:
        assert new_id("cus", one) < new_id("cus", other)


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_base62_sorts_as_the_numbers_do(one: int, other: int) -> None:
    assert (encode_base62(one) < encode_base62(other)) == (one < other)
    assert len(encode_base62(one)) == 22


@given(st.integers(0, 2**128 - 1))
def test_base62_is_the_number_divided_digit_by_digit(number: int) -> None:
    digits = ""
    rest = number
    for _ in range(22):
        rest, digit = divmod(rest, 62)
        digits = DIGITS[digit] + digits
    assert encode_base62(number) == digits


@given(st.binary(min_size=4, max_size=64).filter(lambda digest: len(digest) % 2 == 0))
def test_each_two_bytes_of_a_digest_are_two_digits(digest: bytes) -> None:
    pairs = [int.from_bytes(digest[at : at + 2], "big") % 3844 for at in range(0, len(digest), 2)]
    assert encode_digest(digest) == "".join(DIGITS[pair // 62] + DIGITS[pair % 62] for pair in pairs)


def test_base62_of_the_least_and_the_greatest() -> None:
    assert encode_base62(0) == "0" * 22
    assert encode_base62(61) == "0" * 21 + "z"
    assert encode_base62(62) == "0" * 20 + "10"


def test_a_forked_process_makes_other_ids_than_its_parent() -> None:
    """The processes of a service are forked from one that has made ids already."""
    new_id("cus", NOW)
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_fd, new_id("cus", NOW).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read_fd, 100).decode() != new_id("cus", NOW)
    os.close(read_fd)
    os.close(write_fd)


def test_a_derived_id_follows_from_its_source_and_nothing_else() -> None:
    assert derive_id("evt", NOW, "dp_1", 3) == derive_id("evt", NOW, "dp_1", 3)
    others = [("dp_1", 4), ("dp_2", 3), ("dp_13",), ("dp_1", 3, 0), ("dp", "_13"), ("3", "dp_1")]
    made = {derive_id("evt", NOW, *source) for source in [("dp_1", 3), *others]}
    assert len(made) == len(others) + 1


def test_derived_ids_are_the_same_for_ever() -> None:
    """They are in webhooks already sent: a change here would send every Event a second time."""
    assert derive_id("evt", 1_700_000_000, "dp_1", 3) == "evt_02usyDNX9NDJI8ZK5XVdgS"


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "cus",
        "cus_",
        "cus_1",
        "cus_NffrFeUfNV2Hib",
        "cus_" + "!" * 22,
        "cus_" + "é" * 22,
        "cus_" + "0" * 22,
    ],
    ids=ascii,
)
def test_an_id_of_another_form_has_no_time(foreign: str) -> None:
    assert parse_id_time(foreign) is None
