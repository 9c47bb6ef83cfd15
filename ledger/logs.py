"""Structured logs: one JSON object a line on standard error, and never a secret in one.

Parameters, bodies and exception texts are not logged at all (an exception is its type and where it was
raised); the redaction here is the net below that.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import msgspec
import structlog

_SECRET_PATTERN = re.compile(r"\b(?:(?:sk|rk|pk|ek)_(?:test|live)_|cuss_secret_|whsec_)[0-9A-Za-z]{4,}")


_NOISY_LOGGERS = ("python_multipart", "pypdf")
"""They warn of every flaw in what callers send, and quote it; the caller is told instead."""


def configure(level: str) -> None:
    """Log from `level` up, standard library loggers included."""
    level_min = logging.getLevelNamesMapping()[level.upper()]
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
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


def redact(text: str) -> str:
    """`text` with whatever looks like a key or client secret masked."""
    return _SECRET_PATTERN.sub("[secret]", text)


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
