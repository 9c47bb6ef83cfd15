"""Ranges of times and positions in queries of the audit API."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ledger.audit.moments import POSITION_MAX
from ledger.audit.search.filters import COMPARISONS

_TIME = "Unix time or ISO 8601 time. A time without a fraction includes its whole second."
_Time = Annotated[str | None, Field(max_length=64, description=_TIME, examples=["2026-11-27T12:00:00Z"])]
_Position = Annotated[int | None, Field(ge=0, le=POSITION_MAX)]


class TimeRangeParams(BaseModel):
    """A range of times; each bound may be left out."""

    model_config = ConfigDict(extra="forbid")

    time_gt: _Time = Field(None, alias="time[gt]")
    time_gte: _Time = Field(None, alias="time[gte]")
    time_lt: _Time = Field(None, alias="time[lt]")
    time_lte: _Time = Field(None, alias="time[lte]")

    def get_times(self) -> dict[str, str]:
        """The bounds that are set, by comparison."""
        return self._get_bounds("time")

    def _get_bounds(self, name: str) -> dict[str, Any]:
        bounds = {comparison: getattr(self, f"{name}_{comparison}") for comparison in COMPARISONS}
        return {comparison: bound for comparison, bound in bounds.items() if bound is not None}


class RangeParams(TimeRangeParams):
    """A range of times and one of positions."""

    position_gt: _Position = Field(None, alias="position[gt]")
    position_gte: _Position = Field(None, alias="position[gte]")
    position_lt: _Position = Field(None, alias="position[lt]")
    position_lte: _Position = Field(None, alias="position[lte]")

    def get_positions(self) -> dict[str, int]:
        """The bounds that are set, by comparison."""
        return self._get_bounds("position")
