"""`ledger config`: the settings in force, each with its unit and where it comes from; secrets are masked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import pq

from ledger.cli.groups import print_json
from ledger.cli.shell import make_printable, print_table
from ledger.config import (
    Settings,
    find_nearest_variable,
    find_unknown_settings,
    get_variable,
    has_stray_password,
    list_variables,
    load_settings,
)
from ledger.errors import SettingError
from ledger.postgres.deployment import get_key_file, get_previous_key_file

_INVALID_URL = "not a valid connection string"
_UNITS = {"ms": "milliseconds", "seconds": "seconds", "days": "days", "bytes": "bytes"}
"""By the word in the name of a setting."""


def show_settings(name: str | None, *, as_json: bool) -> None:
    """Print every setting, or that of this name, and the variables that are no settings on standard error.

    Raises SettingError for a setting that cannot be used, and a name that is none.
    """
    chosen = None if name is None else _find(name)
    rows = [row for row in describe_settings(load_settings()) if chosen in (None, row["name"])]
    unknown = find_unknown_settings()
    for each in unknown:
        print(f"ledger: {make_printable(each)}", file=sys.stderr)
    if as_json:
        print_json({"data": rows, "unknown": [each._asdict() for each in unknown]})
        return
    print_table(
        ("setting", "value", "unit", "from", "description"),
        [
            (row["name"], _format(row["value"]), row["unit"] or "", row["source"], row["description"])
            for row in rows
        ],
    )


def describe_settings(settings: Settings) -> list[dict[str, Any]]:
    """Every setting as JSON, in the order in which they are declared.

    name         the variable
    value        in force; of a secret, only what may be shown of it; None: not set
    unit         of a number; None: a count, or no number
    source       `environment`, `file` or `default`
    default      what it is when it is not set
    description  what it means
    """
    values = settings.model_dump(mode="json")
    return [
        {
            "name": get_variable(name),
            "value": values[name],
            "unit": _get_unit(name),
            "source": "environment" if name in settings.model_fields_set else "default",
            "default": _to_json(field.get_default(call_default_factory=True)),
            "description": field.description,
            **_describe_secret(name, settings),
        }
        for name, field in Settings.model_fields.items()
    ]


def mask_database_url(url: str) -> str:
    """A connection string as a URL, without its passwords. One that is not valid is not shown at all: nobody
    knows where its password begins."""
    try:
        options = pq.Conninfo.parse(url.encode())
    except psycopg.Error:
        return _INVALID_URL
    # libpq marks passwords with an asterisk; keys of SCRAM and secrets of OAuth are as good as passwords
    shown = {
        option.keyword.decode(): option.val.decode(errors="replace")
        for option in options
        if option.val is not None
        and option.dispchar != b"*"
        and not any(word in option.keyword for word in (b"password", b"secret", b"_key"))
    }
    if has_stray_password(shown):
        return _INVALID_URL
    user, database = shown.pop("user", None), shown.pop("dbname", "")
    hosts, ports = shown.pop("host", "").split(","), shown.pop("port", "").split(",")
    # A password with / or @ in it that is not escaped ends up in a port, a host or the database.
    if any(port and not port.isdecimal() for port in ports) or any(
        "@" in each for each in (*hosts, database)
    ):
        return _INVALID_URL
    places = [
        quote(host, safe=":[]") + (f":{port}" if port else "")
        for host, port in zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=False)
    ]
    rest = "&".join(f"{key}={quote(value, safe='/')}" for key, value in shown.items())
    login = "" if user is None else f"{quote(user, safe='')}@"
    return f"postgresql://{login}{','.join(places)}/{quote(database, safe='')}{'?' if rest else ''}{rest}"


def _describe_secret(name: str, settings: Settings) -> dict[str, str]:
    """What is shown of a secret instead of its value."""
    url = {"database_url": settings.database_url, "replica_url": settings.replica_url}.get(name)
    if url is not None:
        return {"value": mask_database_url(url.get_secret_value())}
    files = {"secret_key": get_key_file, "previous_secret_key": get_previous_key_file}
    if name not in files:
        return {}
    key = getattr(settings, name)
    if key is not None:
        return {"value": f"set, {len(key.get_secret_value())} characters"}
    file = files[name](settings)
    if settings.secret_key is None and file.exists():
        return {"value": f"read from {file}", "source": "file"}
    return {"value": f"made at the first start, in {file}"} if name == "secret_key" else {}


def _find(name: str) -> str:
    """The variable of a setting, for either of its names. Raises SettingError."""
    variable = get_variable(name) if get_variable(name) in list_variables() else name.upper()
    if variable not in list_variables():
        nearest = find_nearest_variable(name)
        hint = f"; did you mean {nearest}?" if nearest else ": see `ledger config`"
        raise SettingError(f"{name}: no such setting{hint}")
    return variable


def _get_unit(name: str) -> str | None:
    words = name.split("_")
    if words[-2:] == ["per", "second"]:
        return "requests per second"
    return next((_UNITS[word] for word in words if word in _UNITS), None)


def _to_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _format(value: Any) -> str:
    """A value as the environment would have it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(f"{number:g}" for number in value)
    return str(value)
