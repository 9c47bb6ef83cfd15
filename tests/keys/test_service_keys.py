"""Service keys wrap under a key id, two side by side; the secrets of purposes stay when a key is replaced."""

from __future__ import annotations

import hmac
import re
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from ledger.errors import ServiceKeyMissing, Unavailable
from ledger.keys.service_keys import PURPOSES, ROOTS, ServiceKeys

OLD = b"an old service key of enough characters"
NEW = b"a new service key of enough characters"
OLD_ID, NEW_ID = ServiceKeys(OLD).current_id, ServiceKeys(NEW).current_id
LABEL = b"ledger/webhook_endpoint/secret/1"


def test_what_is_wrapped_is_unwrapped_under_its_key_and_context() -> None:
    keys = ServiceKeys(OLD)
    wrapped, key_id = keys.wrap(b"data key", "data_key cus_1")
    assert key_id == keys.current_id
    assert b"data key" not in wrapped
    assert keys.unwrap(wrapped, key_id, "data_key cus_1") == b"data key"


def test_the_same_text_is_wrapped_differently_each_time() -> None:
    keys = ServiceKeys(OLD)
    assert keys.wrap(b"data key", "data_key cus_1") != keys.wrap(b"data key", "data_key cus_1")


def test_a_wrap_opens_in_no_other_context_and_not_once_changed() -> None:
    keys = ServiceKeys(OLD)
    wrapped, key_id = keys.wrap(b"data key", "data_key cus_1")
    with pytest.raises(InvalidTag):
        keys.unwrap(wrapped, key_id, "data_key cus_2")
    changed = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
    with pytest.raises(InvalidTag):
        keys.unwrap(changed, key_id, "data_key cus_1")


def test_the_previous_key_unwraps_and_the_current_one_wraps() -> None:
    wrapped_before, old_id = ServiceKeys(OLD).wrap(b"data key", "data_key cus_1")
    both = ServiceKeys(NEW, OLD)
    assert both.ids == (old_id, ServiceKeys(NEW).current_id)
    assert both.to_settings() == {
        "LEDGER_SECRET_KEY": NEW.decode(), "LEDGER_PREVIOUS_SECRET_KEY": OLD.decode()
    }  # fmt: skip
    assert both.unwrap(wrapped_before, old_id, "data_key cus_1") == b"data key"
    wrapped_after, new_id = both.wrap(b"data key", "data_key cus_1")
    assert ServiceKeys(NEW).unwrap(wrapped_after, new_id, "data_key cus_1") == b"data key"


def test_a_wrap_of_a_key_that_the_process_lacks_is_an_outage_not_damage() -> None:
    wrapped, key_id = ServiceKeys(NEW).wrap(b"data key", "data_key cus_1")
    with pytest.raises(ServiceKeyMissing, match=key_id) as raised:
        ServiceKeys(OLD).unwrap(wrapped, key_id, "data_key cus_1")
    assert isinstance(raised.value, Unavailable)  # so that readers wait for the key, and skip nothing
    assert OLD.decode() not in str(raised.value)


def test_secrets_of_purposes_are_those_of_releases_without_service_keys() -> None:
    assert ServiceKeys(OLD).derive(LABEL) == hmac.digest(OLD, LABEL, "sha256")


def test_a_kept_secret_is_the_same_under_another_service_key() -> None:
    secret = ServiceKeys(OLD).derive(LABEL)
    replaced = ServiceKeys(NEW, OLD, {LABEL: secret})
    assert replaced.derive(LABEL) == secret
    with pytest.raises(KeyError):
        replaced.derive(b"a purpose that the database does not keep")


def test_the_roots_of_older_releases_go_with_their_service_key() -> None:
    for root in ROOTS:
        assert ServiceKeys(OLD, None, {}).derive(root) == hmac.digest(OLD, root, "sha256")
        assert ServiceKeys(NEW, OLD, {}).derive(root) != ServiceKeys(OLD).derive(root)


def test_a_process_changes_the_key_that_wraps_while_it_runs() -> None:
    keys = ServiceKeys(OLD, NEW)
    new_id = ServiceKeys(NEW).current_id
    keys.wrap_under(new_id)
    assert keys.wrap(b"data key", "data_key cus_1")[1] == new_id
    with pytest.raises(ServiceKeyMissing):
        keys.wrap_under("another")


def test_every_purpose_in_the_sources_is_kept_or_a_root() -> None:
    files = (file for file in Path("ledger").rglob("*.py") if file.name != "service_keys.py")
    text = "".join(file.read_text() for file in files)
    derived = re.findall(r'(?:ServiceKeys\.of\(\w+\)|service_keys)\.derive\(\s*b"([^"]+)"', text)
    assert {label.encode() for label in derived} <= {*PURPOSES, *ROOTS}
    assert all(label.decode() in text for label in (*PURPOSES, *ROOTS))


def test_an_id_is_short_and_reveals_nothing_of_its_key() -> None:
    ids = {ServiceKeys(key).current_id for key in (OLD, NEW, OLD + b"!")}
    assert len(ids) == 3
    assert all(len(key_id) == 12 and key_id.isalnum() for key_id in ids)
    assert hmac.digest(OLD, b"ledger/service-key/id/1", "sha256").hex()[:12] not in ids


def test_the_text_of_service_keys_has_ids_only() -> None:
    keys = ServiceKeys(NEW, OLD)
    assert repr(keys) == str(keys) == f"ServiceKeys({OLD_ID}, {NEW_ID})"


def test_bytes_stand_for_the_keys_of_a_deployment_with_one() -> None:
    keys = ServiceKeys(OLD)
    assert ServiceKeys.of(keys) is keys
    assert ServiceKeys.of(OLD).current_id == keys.current_id
