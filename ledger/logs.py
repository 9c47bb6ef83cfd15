"""Structured logs: one JSON object per line on standard error, without secrets and personal data.

Parameters, bodies and the texts of exceptions are never logged: an exception is logged as its type and the
place where it was raised. The redaction here is a second line of defence.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, MutableMapping
from typing import Any

import msgspec
import psycopg
import structlog

_SECRET_PATTERN = re.compile(
    r"\b(?:(?:sk|rk|pk|ek)_(?:test|live)_|cuss_secret_|pi_[0-9A-Za-z]+_secret_|whsec_|wsid_)[0-9A-Za-z]{4,}"
)

_NOISY_LOGGERS = ("python_multipart", "pypdf", "psycopg.pool")
"""These log each malformed request with its content, or each attempt to connect; what is answered and logged
for the request already reports it."""


def configure(level: str) -> None:
    """Log from `level` (a name as in LEDGER_LOG_LEVEL) up, standard library loggers from `warning` up."""
    level_min = logging.getLevelNamesMapping()[level.upper()]
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _add_process_id,
        _summarize_exception,
        _redact_entry,
    ]
    structlog.configure(
        processors=[*processors, structlog.processors.JSONRenderer(serializer=_encode)],
        wrapper_class=structlog.make_filtering_bound_logger(level_min),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_encode),
            ],
        )
    )
    logging.basicConfig(level=max(level_min, logging.WARNING), handlers=[handler], force=True)
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def warn_of_unknown_settings(settings: Iterable[object]) -> None:
    """Log each variable that begins as a setting does and is none, without its value."""
    for unknown in settings:
        structlog.get_logger().warning("unknown_setting", reason=str(unknown))


def redact(text: str) -> str:
    """`text` with everything that looks like a key or client secret masked."""
    return _SECRET_PATTERN.sub("[secret]", text)


class OwnWords(Exception):
    """An error whose text names the cause for an operator, and quotes nothing: it may be logged."""


def describe_error(error: BaseException) -> str:
    """The error's type and what it is about, in one line that may be logged and shown to operators.

    For Postgres: the SQLSTATE, and the table, column or constraint if there is one. Otherwise: where it was
    raised. Its text, which may quote personal data, only if it is OwnWords.
    """
    if isinstance(error, OwnWords):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        diag = error.diag
        location = ".".join(
            part for part in (diag.table_name, diag.column_name, diag.constraint_name) if part
        )
        return f"{type(error).__name__} ({error.sqlstate})" + (f" at {location}" if location else "")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    module = trace.tb_frame.f_globals.get("__name__", "?")
    return f"{type(error).__name__} at {module}.{code.co_qualname}:{trace.tb_lineno}"


def _add_process_id(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processes of one service write to the same log. Asked for each line: a child is a fork."""
    entry["pid"] = os.getpid()
    return entry


def _redact_entry(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in entry.items():
        if isinstance(value, str):
            entry[name] = redact(value)
    return entry


def _summarize_exception(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = entry.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        entry["exception"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        entry["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return entry


def _encode(entry: MutableMapping[str, Any], **_: Any) -> str:
    return msgspec.json.encode(entry, enc_hook=str).decode()
