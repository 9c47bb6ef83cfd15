"""Settings: from the environment, checked; one that cannot be used is one line that names it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ledger.config import Settings, find_unknown_settings, load_settings
from ledger.errors import SettingError

ROOT = Path(__file__).resolve().parents[1]
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LEDGER_")]:
        monkeypatch.delenv(name)


def load_refusal() -> str:
    with pytest.raises(SettingError) as caught:
        load_settings()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_setting_is_required() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 4242)
    assert settings.data_dir == Path(".ledger")
    assert settings.database_url is None
    assert settings.test_clock is False


def test_a_machine_with_one_core_runs_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in (({3}, 0), ({0, 1}, 1), (set(range(64)), 1)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: cores, raising=False)
        assert load_settings().workers == workers


def test_every_setting_has_a_description_and_a_default() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


@pytest.mark.parametrize("file", ["README.md", "docs/operations.md"])
def test_documented_defaults_are_those_of_the_settings(file: str) -> None:
    rows = re.findall(
        r"^\| `LEDGER_(\w+)` \| `?(\d+|true|false)`? \|", (ROOT / file).read_text(), re.MULTILINE
    )
    assert rows
    for name, default in rows:
        assert default == str(Settings.model_fields[name.lower()].default).lower(), name


def test_a_schedule_is_a_list_of_seconds_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().webhook_retry_seconds_test == (600, 3600, 10_800)
    assert sum(load_settings().webhook_retry_seconds_live) < 3 * 86_400
    for text, seconds in (("1, 2.5", (1.0, 2.5)), ("7", (7.0,)), ("", ())):
        monkeypatch.setenv("LEDGER_WEBHOOK_RETRY_SECONDS_TEST", text)
        assert load_settings().webhook_retry_seconds_test == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEDGER_PORT", "http"),
        ("LEDGER_PORT", "65536"),
        ("LEDGER_PORT", "-1"),
        ("LEDGER_WORKERS", "-1"),
        ("LEDGER_WORKERS", "1.5"),
        ("LEDGER_APPEND_QUEUE_MAX", "0"),
        ("LEDGER_APPEND_TIMEOUT_MS", ""),
        ("LEDGER_LOG_LEVEL", "loud"),
        ("LEDGER_LOG_REQUESTS", "some"),
        ("LEDGER_TEST_CLOCK", "perhaps"),
        ("LEDGER_DRAIN_SECONDS", "soon"),
        ("LEDGER_SESSION_SECONDS", "-1"),
        ("LEDGER_WEBHOOK_RETRY_SECONDS_TEST", "1,soon"),
        ("LEDGER_WEBHOOK_RETRY_SECONDS_TEST", "1;2"),
        ("LEDGER_WEBHOOK_RETRY_SECONDS_LIVE", "1,0"),
        ("LEDGER_WEBHOOK_RETRY_SECONDS_LIVE", "nan"),
        ("LEDGER_WEBHOOK_RETRY_SECONDS_LIVE", "1," * 101),
        ("LEDGER_WEBHOOK_PRIVATE_ADDRESSES", "live"),
    ],
)
def test_an_invalid_value_is_reported_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert load_refusal().startswith(f"{name}: ")


def test_an_invalid_secret_is_not_shown_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_SECRET_KEY", "too short")
    assert load_refusal() == "LEDGER_SECRET_KEY: must be at least 32 characters"


def test_a_database_needs_a_service_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_DATABASE_URL", "postgresql://ada:lovelace@db/ledger")
    line = load_refusal()
    assert line == "LEDGER_SECRET_KEY: required together with LEDGER_DATABASE_URL"
    monkeypatch.setenv("LEDGER_SECRET_KEY", KEY)
    assert load_settings().secret_key is not None


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_DATABASE_URL", "postgresql://ada:lovelace@db/ledger")
    monkeypatch.setenv("LEDGER_SECRET_KEY", KEY)
    assert not re.search("lovelace|abcdef", repr(load_settings()) + str(load_settings().model_dump()))


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_the_command_line_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_PORT", "5000")
    assert load_settings().port == 5000
    assert load_settings(port=6000).port == 6000


def test_unrelated_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_SOMETHING_ELSE", "1")
    monkeypatch.setenv("PORT", "1")
    assert load_settings().port == 4242


@pytest.mark.parametrize(
    ("variable", "line"),
    [
        (
            "LEDGER_WEBHOOK_RETRY_SECOND_LIVE",
            "LEDGER_WEBHOOK_RETRY_SECOND_LIVE: unknown setting; did you mean "
            "LEDGER_WEBHOOK_RETRY_SECONDS_LIVE?",
        ),
        ("ledger_prot", "ledger_prot: unknown setting; did you mean LEDGER_PORT?"),
        ("LEDGER_XQZ", "LEDGER_XQZ: unknown setting"),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, line: str
) -> None:
    monkeypatch.setenv(variable, "a secret")
    monkeypatch.setenv("ledger_port", "1")
    assert [str(unknown) for unknown in find_unknown_settings()] == [line]


@pytest.mark.parametrize("password", ["love@lace", "love/lace", "12/love@lace", "@lovelace", "love#@lace"])
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("LEDGER_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("LEDGER_DATABASE_URL", f"postgresql://ada:{password}@127.0.0.1/ledger")
    with pytest.raises(SettingError, match="Escape special characters of the password: @ is %40") as refusal:
        load_settings()
    assert "love" not in str(refusal.value)
    assert "lace" not in str(refusal.value)


def test_an_escaped_password_and_several_hosts_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_SECRET_KEY", "k" * 32)
    for url in (
        "postgresql://ada:love%40%2Flace@a:5432,b:5433/ledger",
        "postgresql:///x?host=/run/pg",
        "dbname=x",
    ):
        monkeypatch.setenv("LEDGER_DATABASE_URL", url)
        assert load_settings().database_url is not None


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("postgresql://ada:love@lace@b/ledger", "LEDGER_REPLICA_URL: not a valid connection string. Escape"),
        ("love lace", "LEDGER_REPLICA_URL: not a valid connection string"),
    ],
)
def test_a_replica_url_that_is_none_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str, line: str
) -> None:
    monkeypatch.setenv("LEDGER_SECRET_KEY", KEY)
    monkeypatch.setenv("LEDGER_DATABASE_URL", "postgresql://ada:lovelace@a/ledger")
    monkeypatch.setenv("LEDGER_REPLICA_URL", url)
    refusal = load_refusal()
    assert refusal.startswith(line)
    assert "love" not in refusal


def test_a_replica_needs_the_database_that_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_REPLICA_URL", "postgresql://ada:lovelace@b,c/ledger")
    assert load_refusal() == "LEDGER_REPLICA_URL: needs LEDGER_DATABASE_URL, of which it is a replica"
    monkeypatch.setenv("LEDGER_DATABASE_URL", "postgresql://ada:lovelace@a/ledger")
    monkeypatch.setenv("LEDGER_SECRET_KEY", KEY)
    assert "lovelace" not in repr(load_settings())
