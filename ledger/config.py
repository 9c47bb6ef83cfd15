"""Settings: read once from the environment (`LEDGER_…`), checked and frozen.

Nothing else reads settings from the environment. A setting that cannot be used raises a `SettingError` of one
line that names the variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ledger.errors import SettingError

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Milliseconds = Annotated[int, Field(ge=1)]
Seconds = Annotated[int, Field(ge=1)]
RETRIES_MAX = 100
SECRET_KEY_LENGTH_MIN = 32
PREFIX = "LEDGER_"


def _parse_schedule(value: object) -> object:
    """A schedule as the environment has it: numbers separated by commas, or none."""
    if not isinstance(value, str):
        return value
    try:
        numbers = tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError:
        numbers = (0.0,)
    if len(numbers) > RETRIES_MAX or not all(0 < number < 1e9 for number in numbers):
        raise ValueError("must be seconds separated by commas, as in 600,3600")
    return numbers


def _count_default_workers() -> int:
    """A worker process needs a core of its own: on one core, it would only cost its memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if cores > 1 else 0


def check_origin(value: str) -> str:
    """A name for a log, which is also that of its keys (C2SP signed-note). Raises ValueError."""
    is_clean = not any(char.isspace() or char == "+" or not char.isprintable() for char in value)
    if not is_clean or not 0 < len(value.encode()) <= 255:
        raise ValueError("must be 1 to 255 bytes without spaces and +, as in ledger.example.com/log")
    return value


Schedule = Annotated[tuple[float, ...], NoDecode, BeforeValidator(_parse_schedule)]


class Settings(BaseSettings):
    """Every setting of the service, with its default. The name of a time ends with its unit."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    database_url: SecretStr | None = Field(
        None, description="Postgres 15 or newer; default: an embedded server"
    )
    replica_url: SecretStr | None = Field(
        None, description="a streaming replica of the database, for lists and audits; default: none"
    )
    secret_key: SecretStr | None = Field(
        None, description="32 characters or more; signs client secrets, seals personal data"
    )
    previous_secret_key: SecretStr | None = Field(
        None, description="the key that secret_key replaces, until `ledger secrets rotate` has ended"
    )
    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        Path(".ledger"), description="directory of the embedded database and the dev keys"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(4242, description="port to listen on")
    unix_socket: Annotated[Path, AfterValidator(Path.expanduser)] | None = Field(
        None, description="path of a Unix socket on which the API listens as well; default: none"
    )
    stripe_cli_login: bool | None = Field(
        None,
        description="whether `stripe login` gets keys; default: with an embedded database, a loopback "
        "address and no public URL",
    )
    health_port: Port | None = Field(
        None, description="port of a worker's /healthz, /readyz and /metrics; default: none"
    )
    console: bool = Field(True, description="whether there is a page for people at /console")
    console_session_seconds: Annotated[int, Field(ge=60, le=86_400)] = Field(
        14_400, description="after so long somebody has to sign in to the console again"
    )
    nats_url: SecretStr | None = Field(
        None, description="NATS server that `ledger feed publish` publishes to, perhaps with a password"
    )
    nats_creds: Annotated[Path, AfterValidator(Path.expanduser)] | None = Field(
        None, description="file with the credentials of a NATS user; default: none"
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        default_factory=_count_default_workers,
        description="API processes beside the worker; 0: one process does all; default: 1, on one core 0",
    )
    test_clock: bool = Field(False, description="whether tests may move the clock")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level logged")
    log_requests: Literal["all", "errors", "none"] = Field("errors", description="which requests are logged")
    request_log: Literal["all", "errors", "none"] = Field(
        "errors", description="which requests the database keeps for operators; none: not even counts"
    )

    append_queue_max: Count = Field(
        4096, description="commands that may wait to be appended; one more gets 429"
    )
    append_batch_max: Count = Field(512, description="commands in one transaction")
    append_timeout_ms: Milliseconds = Field(
        10_000, description="how long an append waits while the database is lost"
    )
    request_timeout_ms: Milliseconds = Field(
        10_000, description="longest time until an answer begins, also while the database is lost"
    )
    decide_attempts_max: Count = Field(16, description="decisions of a command that loses races, before 429")
    cached_streams_max: Count = Field(10_000, description="aggregates cached in each process")
    list_wait_ms: Milliseconds = Field(2_000, description="how long a list waits for its projection")
    poll_ms: Milliseconds = Field(
        100, description="how often projections look for events when no notification arrives"
    )
    deadline_poll_ms: Milliseconds = Field(1_000, description="how often a sweep looks for due dates")
    projection_batch_max: Count = Field(2000, description="events in one transaction of a projection")
    seal_ms: Milliseconds = Field(500, description="least time between two signed checkpoints of the log")
    checkpoint_seconds: Seconds = Field(60, description="least time between two checkpoints that are kept")
    log_origin: Annotated[str, AfterValidator(check_origin)] | None = Field(
        None,
        description="name of the log in its checkpoints, fixed at its first start; default: random",
    )
    log_mldsa: bool = Field(False, description="whether the log also signs its checkpoints by ML-DSA-44")
    witnesses: str | None = Field(
        None,
        description="who cosigns checkpoints: VERIFIER_KEY=URL, separated by commas, or a file of them",
    )
    checkpoint_file: Annotated[Path, AfterValidator(Path.expanduser)] | None = Field(
        None, description="file to which each kept checkpoint is copied"
    )
    verify_pause_seconds: Annotated[int, Field(ge=0)] = Field(
        60, description="pause between two samples of live rows, compared with a replay; 0: no samples"
    )
    key_requests_per_second: Annotated[int, Field(ge=0)] = Field(
        0, description="rate limit of an API key, in each process; 0: none"
    )
    account_requests_per_second: Annotated[int, Field(ge=0)] = Field(
        0, description="rate limit of an account, in each process; 0: none"
    )
    body_bytes_max: Annotated[int, Field(ge=1, le=8_000_000)] = Field(
        2_000_000, description="largest form or JSON body"
    )
    file_bytes_max: Count = Field(16_777_216, description="largest uploaded file, in bytes")
    public_url: str | None = Field(
        None, description="start of the URLs of files; default: that of the request"
    )
    drain_seconds: Seconds = Field(8, description="how long SIGTERM waits for requests under way")

    session_seconds: Seconds = Field(1800, description="lifetime of a customer session")
    dispute_due_days: Count = Field(8, description="days to respond to a dispute")
    webhook_endpoints_max: Count = Field(16, description="webhook endpoints an account may have per mode")
    dispute_fee_credited: bool = Field(False, description="whether a won dispute's fee is credited back")

    stripe_cli_connection_seconds: Seconds = Field(
        3600, description="after so long the Stripe CLI connects anew, for which it takes a second"
    )

    alert_stalled_seconds: Annotated[int, Field(ge=2)] = Field(
        5, description="an alert is raised of what is behind and has not moved for so long"
    )
    alert_critical_seconds: Seconds = Field(
        60, description="it is critical once it has not moved for so long"
    )
    alert_endpoint_failures: Count = Field(
        3, description="failed attempts in a row after which an alert is raised of a webhook endpoint"
    )
    alert_due_hours: Annotated[int, Field(ge=1, le=8760)] = Field(
        72, description="hours before its due date in which an alert is raised of a dispute without evidence"
    )
    alert_due_critical_hours: Annotated[int, Field(ge=1, le=8760)] = Field(
        24, description="hours before its due date in which that alert is critical"
    )
    alert_private_addresses: bool = Field(
        True, description="whether receivers of alerts may have private and loopback addresses"
    )

    webhooks: Literal["on", "off"] = Field(
        "on", description="off: this process sends no webhooks, whatever the database says"
    )
    webhook_retry_seconds_live: Schedule = Field(
        (300, 1800, 7200, 18_000, 36_000, 43_200, 43_200, 43_200, 43_200),
        description="pauses after failed attempts of a delivery, in live mode",
    )
    webhook_retry_seconds_test: Schedule = Field((600, 3600, 10_800), description="the same in test mode")
    webhook_timeout_ms: Milliseconds = Field(20_000, description="longest time of one attempt")
    webhook_attempts_max: Count = Field(
        256, description="deliveries that a process holds: attempted, waiting for that, or being recorded"
    )
    webhook_poll_ms: Milliseconds = Field(500, description="how often the sender looks for due retries")
    webhook_disable_after_seconds: Annotated[int, Field(ge=0)] = Field(
        0, description="an endpoint that accepts nothing for so long is disabled; 0: never"
    )
    webhook_private_addresses: Literal["never", "test", "always"] = Field(
        "test", description="modes in which endpoints may have private and loopback addresses"
    )


def load_settings(**overrides: object) -> Settings:
    """The settings of this process: `overrides` by name, then the environment, then defaults.

    Raises SettingError, one line, for a setting that cannot be used.
    """
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        first_error = error.errors(include_url=False, include_input=False)[0]
        name = get_variable("_".join(str(part) for part in first_error["loc"]))
        raise SettingError(f"{name}: {first_error['msg']}") from None
    for name in ("secret_key", "previous_secret_key"):
        key = getattr(settings, name)
        if key is not None and len(key.get_secret_value()) < SECRET_KEY_LENGTH_MIN:
            raise SettingError(f"{get_variable(name)}: must be at least {SECRET_KEY_LENGTH_MIN} characters")
    if settings.previous_secret_key is not None and settings.secret_key is None:
        raise SettingError("LEDGER_PREVIOUS_SECRET_KEY: needs LEDGER_SECRET_KEY, the key that replaces it")
    if settings.database_url is not None:
        _check_database_url("database_url", settings.database_url.get_secret_value())
    if settings.replica_url is not None:
        _check_database_url("replica_url", settings.replica_url.get_secret_value(), is_refused=True)
        if settings.database_url is None:
            raise SettingError("LEDGER_REPLICA_URL: needs LEDGER_DATABASE_URL, of which it is a replica")
    if settings.database_url is not None and settings.secret_key is None:
        raise SettingError(
            f"LEDGER_SECRET_KEY: required together with LEDGER_DATABASE_URL{name_unknown_settings()}"
        )
    return settings


def has_stray_password(parts: Mapping[str, Any]) -> bool:
    """Whether a part of a password was taken for the host, the port or the database of a connection string: a
    password with @ or / in it that is not escaped."""
    ports = str(parts.get("port") or "").split(",")
    places = (str(parts.get(name) or "") for name in ("host", "dbname"))
    has_wrong_port = any(port and not port.isdecimal() for port in ports)
    return has_wrong_port or any("@" in place[1:] for place in places)  # a socket may be @name


def _check_database_url(name: str, url: str, *, is_refused: bool = False) -> None:
    """Raises SettingError for a stray password: errors of a connection name the host, the port and the
    database. What is no connection string at all is refused by whoever connects, or here if `is_refused`."""
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except Error:
        if is_refused:
            raise SettingError(f"{get_variable(name)}: not a valid connection string") from None
        return
    if has_stray_password(parts):
        raise SettingError(
            f"{get_variable(name)}: not a valid connection string. Escape special characters of the "
            "password: @ is %40, / is %2F, : is %3A, ? is %3F, # is %23, % is %25"
        )


class UnknownSetting(NamedTuple):
    """A variable that begins as a setting does and is none, and the setting that is spelt most like it."""

    variable: str
    nearest: str | None

    def __str__(self) -> str:
        """One line. It does not have the value, which may be a secret."""
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.variable}: unknown setting{hint}"


def find_unknown_settings() -> list[UnknownSetting]:
    """The variables of the environment that begin with LEDGER_ and are no settings, by name."""
    variables = sorted(name for name in os.environ if name.upper().startswith(PREFIX))
    known = list_variables()
    return [
        UnknownSetting(name, find_nearest_variable(name)) for name in variables if name.upper() not in known
    ]


def name_unknown_settings() -> str:
    """The unknown settings as the end of an error that one of them may be the reason of; else nothing."""
    unknown = find_unknown_settings()
    return f" ({', '.join(map(str, unknown))})" if unknown else ""


def find_nearest_variable(name: str) -> str | None:
    """The variable of the setting that is spelt most like `name`, a variable or what follows its prefix; None
    if none is like it."""
    nearest = get_close_matches(name.upper().removeprefix(PREFIX).lower(), Settings.model_fields, n=1)
    return get_variable(nearest[0]) if nearest else None


def list_variables() -> dict[str, str]:
    """The name of each setting by its variable, in the order in which they are declared."""
    return {get_variable(name): name for name in Settings.model_fields}


def get_variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()
