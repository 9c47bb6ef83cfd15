"""The access log and the request metrics, the same for both APIs."""

from __future__ import annotations

import time

import structlog

from ledger.api.errors import FAULT_STATUS_MIN, STATUS_REFUSED_MIN
from ledger.api.exchange import Exchange, LogAccess
from ledger.config import Settings
from ledger.metrics.prometheus import Metrics
from ledger.request_log.errors import clean_path
from ledger.request_log.recorder import RequestRecorder
from ledger.request_log.requests import FinishedRequest
from ledger.stripe_cli.request_filters import RequestFacts
from ledger.stripe_cli.request_tails import LoggedRequest, RequestTails

_OF_STRIPE_CLI = "/v1/stripecli/"
"""What the CLI that shows the requests asks for itself."""

_SESSION_QUESTION = ("GET", "/console/session", 401)
"""How the console asks whether its visitor is signed in: "no" is an answer, and no error to look after."""

log = structlog.get_logger()


def access_log(
    metrics: Metrics,
    settings: Settings,
    recorder: RequestRecorder | None = None,
    request_tails: RequestTails | None = None,
) -> LogAccess:
    """A function that counts each finished request, also for the `recorder`, and logs those that
    LEDGER_LOG_REQUESTS selects. Those of an account go to `request_tails` too, while somebody looks at it:
    else they cost one question. A line never has parameters, body or query: they may hold secrets and
    personal data. Nor has it a part of the path that cannot be an id: somebody may have sent an e-mail
    address in place of one."""
    tails = {} if request_tails is None else request_tails.tails
    log_all, log_none = settings.log_requests == "all", settings.log_requests == "none"

    def log_access(exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.started_at
        answer_seconds = seconds
        if exchange.is_stream and exchange.answered_at is not None:
            answer_seconds = exchange.answered_at - exchange.started_at
        metrics.observe_request(exchange.operation_name, exchange.status, answer_seconds)
        is_question = (exchange.method, exchange.path, exchange.status) == _SESSION_QUESTION
        if recorder is not None and not is_question:
            livemode = exchange.account != "" and exchange.key.livemode
            if exchange.status < STATUS_REFUSED_MIN and not recorder.keeps_all:
                name, status = exchange.operation_name, exchange.status
                recorder.count(exchange.account, livemode, name, status, answer_seconds)
            else:
                recorder.add(_describe(exchange, livemode, answer_seconds))
        if tails and request_tails is not None:
            _show(request_tails, exchange)
        if log_all or (exchange.status >= FAULT_STATUS_MIN and not log_none):
            log.info(
                "request",
                method=exchange.method,
                path=clean_path(exchange.path),
                status=exchange.status,
                ms=round(seconds * 1000, 2),
                request_id=exchange.request_id,
                account=exchange.account or None,
                key=exchange.key_id,
                position=exchange.position,
                reaction_to=exchange.reaction_to,
            )

    return log_access


def _describe(exchange: Exchange, livemode: bool, seconds: float) -> FinishedRequest:
    return FinishedRequest(
        account=exchange.account,
        livemode=livemode,
        key=exchange.key_id,
        request_id=exchange.request_id,
        method=exchange.method,
        path=exchange.path,
        operation=exchange.operation_name,
        status=exchange.status,
        seconds=seconds,
        error_body=exchange.error_body,
    )


def _show(request_tails: RequestTails, exchange: Exchange) -> None:
    if not exchange.account or exchange.path.startswith(_OF_STRIPE_CLI):
        return
    key = exchange.key
    facts = RequestFacts(
        exchange.account, key.account, exchange.method, exchange.path, exchange.status, exchange.source.client
    )
    request_tails.record(LoggedRequest(facts, key.livemode, exchange.request_id, exchange.error_body))
