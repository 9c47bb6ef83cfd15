"""What is told of every request to either API once it is answered: in the metrics, and in the log."""

from __future__ import annotations

import time

import structlog

from ledger.api.public.protocol import Exchange, LogAccess
from ledger.config import Settings
from ledger.metrics import Metrics

FAULT_STATUS_MIN = 500

log = structlog.get_logger()


def access_log(metrics: Metrics, settings: Settings) -> LogAccess:
    """Counts each request, and logs those that LEDGER_LOG_REQUESTS names: no parameter, no body, no query."""
    log_all, log_none = settings.log_requests == "all", settings.log_requests == "none"

    def log_access(exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.started_at
        metrics.observe_request(exchange.operation_name, exchange.status, seconds)
        if log_all or (exchange.status >= FAULT_STATUS_MIN and not log_none):
            log.info(
                "request",
                method=exchange.method,
                path=exchange.path,
                status=exchange.status,
                ms=round(seconds * 1000, 2),
                request_id=exchange.request_id,
                account=exchange.account,
                key=exchange.key.id if exchange.key else None,
                position=exchange.position,
            )

    return log_access
