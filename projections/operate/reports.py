"""What operators are told about projections and rebuilds, as JSON shows it (internal API §3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from projections.engine.status import GenerationStatus, describe_projection
from projections.operate.progress import render_json
from projections.read_models.catalog import PROJECTIONS_BY_NAME
from projections.rebuild.records import Rebuild


class RebuildReport(NamedTuple):
    """A rebuild, and the bytes of its new generations (None while unknown)."""

    rebuild: Rebuild
    size_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """The rebuild as a JSON object."""
        return render_json(self.rebuild, self.size_bytes)


class StatusReport(NamedTuple):
    """Every generation of every projection, or of those in `names`, and the rebuilds that have not ended.
    `workers`: how many processes of this release follow the log."""

    generations: list[GenerationStatus]
    rebuilds: list[RebuildReport]
    names: Sequence[str] = tuple(PROJECTIONS_BY_NAME)
    workers: int = 0

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, projections by name."""
        names = {status.lag.projection for status in self.generations} | set(self.names)
        return {
            "data": [describe_projection(name, self.generations) for name in sorted(names)],
            "rebuilds": [report.to_json() for report in self.rebuilds],
            "workers": self.workers,
        }


class ProjectionReport(NamedTuple):
    """One projection: its generations, its open rebuild, and its latest operations, newest first."""

    name: str
    generations: list[GenerationStatus]
    rebuild: RebuildReport | None
    operations: list[dict[str, Any]]
    workers: int

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        rebuild = None if self.rebuild is None else self.rebuild.to_json()
        document = describe_projection(self.name, self.generations)
        return {**document, "rebuild": rebuild, "operations": self.operations, "workers": self.workers}
