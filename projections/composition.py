"""What runs with the ledger's own processes: projections, deadlines, rebuilds, samples, sealing, witnesses
and webhooks beside the API or in a worker, and the operators' routes.
"""

from __future__ import annotations

from pathlib import Path

from ledger.api.app import Extensions, ServiceFactory
from ledger.commands.redaction_validation import RedactionValidator
from ledger.config import Settings
from ledger.deadlines import DeadlineSweeper
from ledger.erasure.service import ErasureService
from ledger.metrics.lag_samples import LagSampler
from ledger.queries.redaction_scope import survey
from ledger.store.seals.key_migration import KeyMigration
from ledger.store.store import Store
from ledger.tree.checkpoint_file import CheckpointFile, read_checkpoint_file
from ledger.tree.keys import make_keyring
from ledger.tree.sealer import Sealer
from ledger.tree.witnesses.addresses import parse_witnesses
from ledger.tree.witnesses.service import WitnessService
from ledger.webhooks.secrets import WebhookSecrets
from ledger.webhooks.service import WebhookService
from projections.engine.engine import Engine
from projections.erased_rows import ErasedRows
from projections.operate.answer_schemas import build_schemas
from projections.operate.operation_log import OperationLog
from projections.operate.rebuild_routes import rebuild_routes
from projections.operate.routes import projection_routes
from projections.operate.stepper.routes import stepper_routes
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild.processes import BackfillProcesses
from projections.worker import ParkedStreamRetry, RebuildSupervisor, Sampler


def make_extensions(settings: Settings) -> Extensions:
    """The services that follow the log in an API or worker process, and the operators' routes. Raises
    SettingError for settings that they cannot use."""
    witnesses = parse_witnesses(settings.witnesses)
    service_factories: list[ServiceFactory] = [
        lambda store: _create_engine(store, settings),
        lambda store: DeadlineSweeper(store, poll_ms=settings.deadline_poll_ms),
        lambda store: RebuildSupervisor(
            store,
            lambda: _create_engine(store, settings),
            BackfillProcesses(store.dsn, store.service_keys).backfill_shard,
        ),
        lambda store: ParkedStreamRetry(store),
        lambda store: KeyMigration(store.dsn, store.codec),
        lambda store: OperationLog(store),
        lambda store: RedactionValidator(store, survey),
        lambda store: LagSampler(store.dsn, store.clock.read),
        lambda store: _create_sealer(store, settings),
        lambda store: WitnessService(store, witnesses),
        lambda store: _create_webhook_service(store, settings),
        lambda store: _create_erasure_service(store, settings),
    ]
    if settings.checkpoint_file is not None:
        service_factories.append(_prepare_checkpoint_file(settings.checkpoint_file))
    if settings.verify_pause_seconds:
        service_factories.append(lambda store: Sampler(store, pause_seconds=settings.verify_pause_seconds))
    names = [projection.name for projection in PROJECTIONS]
    return Extensions(
        service_factories, [projection_routes, stepper_routes, rebuild_routes], names, build_schemas
    )


def _create_engine(store: Store, settings: Settings) -> Engine:
    return Engine(
        store.dsn,
        store.codec,
        store.clock,
        store.notifier,
        projections=PROJECTIONS,
        batch_max=settings.projection_batch_max,
        poll_ms=settings.poll_ms,
        cached_streams_max=settings.cached_streams_max,
    )


def _create_sealer(store: Store, settings: Settings) -> Sealer:
    return Sealer(
        store,
        make_keyring(store.service_keys, settings),
        pause_ms=settings.seal_ms,
        checkpoint_seconds=settings.checkpoint_seconds,
    )


def _prepare_checkpoint_file(path: Path) -> ServiceFactory:
    content = read_checkpoint_file(path)
    return lambda store: CheckpointFile(store, path, content)


def _create_erasure_service(store: Store, settings: Settings) -> ErasureService:
    rows = ErasedRows(store.codec, store.clock, PROJECTIONS)
    return ErasureService(store, make_keyring(store.service_keys, settings), rows=rows)


def _create_webhook_service(store: Store, settings: Settings) -> WebhookService:
    return WebhookService(store, settings, WebhookSecrets(store.service_keys).derive_valid)
