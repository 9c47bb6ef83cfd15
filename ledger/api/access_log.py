"""What is told of every request to either API once it is answered: in the metrics, and in the log."""

from __future__ import annotations

import time

import structlog

from ledger.api.public.protocol import Exchange, Observe
from ledger.config import Settings
from ledger.metrics import Metrics

FAULTS_FROM = 500

log = structlog.get_logger()


def observer(metrics: Metrics, settings: Settings) -> Observe:
    """Counts each request, and logs those that LEDGER_LOG_REQUESTS names: no parameter, no body, no query."""
    every, none = settings.log_requests == "all", settings.log_requests == "none"

    def observe(exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.started
        metrics.request(exchange.name, exchange.status, seconds)
        if every or (exchange.status >= FAULTS_FROM and not none):
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

    return observe
