"""The access log and the request metrics, the same for both APIs."""

from __future__ import annotations

import re
import time

import structlog

from ledger.api.errors import FAULT_STATUS_MIN
from ledger.api.exchange import Exchange, LogAccess
from ledger.config import Settings
from ledger.metrics.prometheus import Metrics

_NO_ID = re.compile(r"[^/]*[^/A-Za-z0-9_.:*-][^/]*")
"""A part of a path with a character that no id and no route has."""

log = structlog.get_logger()


def access_log(metrics: Metrics, settings: Settings) -> LogAccess:
    """A function that counts each finished request, and logs those that LEDGER_LOG_REQUESTS selects. A line
    never has parameters, body or query: they may hold secrets and personal data. Nor has it a part of the
    path that cannot be an id: somebody may have sent an e-mail address in place of one."""
    log_all, log_none = settings.log_requests == "all", settings.log_requests == "none"

    def log_access(exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.started_at
        metrics.observe_request(exchange.operation_name, exchange.status, seconds)
        if log_all or (exchange.status >= FAULT_STATUS_MIN and not log_none):
            log.info(
                "request",
                method=exchange.method,
                path=_NO_ID.sub("[removed]", exchange.path),
                status=exchange.status,
                ms=round(seconds * 1000, 2),
                request_id=exchange.request_id,
                account=exchange.account or None,
                key=exchange.key_id,
                position=exchange.position,
            )

    return log_access
