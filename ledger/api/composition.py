"""Composes the queries and commands of one process: of the HTTP server, and of a command in a shell, which
does not import the server.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ledger.api.errors import encode_answer
from ledger.commands.context import CommandEnvironment
from ledger.commands.execution import Execution
from ledger.commands.intent_secrets import PaymentIntentSecrets
from ledger.commands.session_secrets import SessionSecrets
from ledger.config import Settings
from ledger.domain.money import Terms
from ledger.files.storage import FileStorage
from ledger.files.urls import FileLinkUrls
from ledger.postgres.connections import Pool
from ledger.queries.charges import find_charge_id
from ledger.queries.context import QueryContext
from ledger.queries.page_tokens import PageTokens
from ledger.queries.pages import Pages
from ledger.queries.redaction_scope import survey_redaction
from ledger.store.store import Store
from ledger.webhooks.secrets import WebhookSecrets


def build_queries(store: Store, pool: Pool, settings: Settings) -> QueryContext:
    """What the queries of this process read from."""
    queries = QueryContext(
        store=store,
        pool=pool,
        pages=Pages(
            store.dsn,
            store.clock,
            store.notifier,
            wait_ms=settings.list_wait_ms,
            replica=store.replica,
        ),
        link_urls=FileLinkUrls(store.service_keys),
        page_tokens=PageTokens(store.service_keys),
        derive_intent_secret=PaymentIntentSecrets(store.service_keys).derive,
        blind_index=store.codec.data_keys.blind_index,
    )
    store.durability.on_failover.append(queries.totals.clear)
    return queries


def build_execution(store: Store, queries: QueryContext, settings: Settings) -> Execution:
    """What runs commands and encodes their answers for HTTP."""
    decision_queries = replace(queries, pages=queries.pages.only_from_primary())
    environment = CommandEnvironment(
        terms=build_terms(settings),
        session_secrets=SessionSecrets(store.service_keys),
        derive_endpoint_secret=WebhookSecrets(store.service_keys).derive,
        link_urls=queries.link_urls,
        derive_intent_secret=queries.derive_intent_secret,
        storage=FileStorage(queries.pool, store.codec.data_keys),
        find_charge_id=partial(find_charge_id, decision_queries),
        survey_redaction=partial(survey_redaction, decision_queries),
    )
    return Execution(store, environment, encode=encode_answer, attempts_max=settings.decide_attempts_max)


def build_terms(settings: Settings) -> Terms:
    """The deployment's settings for money, deadlines and limits."""
    return Terms(
        fee_credited_on_win=settings.dispute_fee_credited,
        due_days=settings.dispute_due_days,
        session_seconds=settings.session_seconds,
        webhook_endpoints_max=settings.webhook_endpoints_max,
    )
