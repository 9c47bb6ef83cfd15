"""The root router of the internal API (JSON under /internal/v1), and the route that moves the test clock."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ledger.api.internal.callers import Callers
from ledger.api.openapi.answers import answers_with
from ledger.clock import Clock
from ledger.config import Settings
from ledger.errors import InvalidParameter
from ledger.postgres.connections import Pool

# The clock cannot move back before the last event: once past the last year that a date can have, it could
# never return.
NOW_MAX = 32_503_680_000  # the year 3000
ADVANCE_SECONDS_MAX = 100 * 366 * 86_400


class MoveClock(BaseModel):
    """The clock's new time: `now`, or `advance_seconds` after its current time."""

    model_config = ConfigDict(extra="forbid")

    now: float | None = Field(None, ge=0, le=NOW_MAX, description="unix seconds", examples=[1795000000])
    advance_seconds: float | None = Field(
        None, gt=0, le=ADVANCE_SECONDS_MAX, description="How far to move it, in seconds.", examples=[86400]
    )

    @model_validator(mode="after")
    def _check_exactly_one(self) -> MoveClock:
        if (self.now is None) == (self.advance_seconds is None):
            raise ValueError("pass exactly one of now and advance_seconds")
        return self


def internal_routes(
    settings: Settings,
    callers: Callers,
    clock: Clock,
    pool: Pool,
    routers: Sequence[APIRouter],
) -> APIRouter:
    """All routes of the internal API: those of `routers`, and with LEDGER_TEST_CLOCK the one that moves the
    clock."""
    router = APIRouter(prefix="/internal/v1")
    for sub_router in routers:
        router.include_router(sub_router)

    if settings.test_clock:

        @router.post(
            "/clock",
            dependencies=[callers.require_scopes("clock")],
            summary="Move the test clock",
            responses=answers_with("clock_time"),
            tags=["clock"],
        )
        async def move_clock(body: MoveClock) -> dict[str, float]:
            """All processes use the new time from their next request or batch on. The clock cannot move
            behind the last event."""
            async with pool.connection() as conn:
                await clock.refresh(conn)
                new_time = clock.now() + body.advance_seconds if body.advance_seconds else body.now
                assert new_time is not None
                if new_time > NOW_MAX:
                    raise InvalidParameter(
                        "The clock cannot move past the year 2999.", param="advance_seconds"
                    )
                await clock.move(conn, new_time)
            return {"now": clock.now()}

    return router
