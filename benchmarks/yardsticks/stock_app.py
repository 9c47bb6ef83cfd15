"""The `eventsourcing` library behind FastAPI, as the tutorials of both write it: customers on Postgres.

Its routes are synchronous, as the library is: FastAPI runs them in threads. The database is named by the
library's own environment variables. Events are those of its notification log.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Form, Query

from benchmarks.yardsticks.stock import StockCustomer, StockCustomers


@asynccontextmanager
async def _run_application(app: FastAPI) -> AsyncIterator[None]:
    app.state.customers = StockCustomers()
    yield
    app.state.customers.close()


app = FastAPI(lifespan=_run_application)


@app.post("/v1/customers")
def create(name: Annotated[str, Form()], email: Annotated[str, Form()]) -> dict[str, Any]:
    """Create a customer."""
    customer_id = app.state.customers.create(name, email)
    return {"id": str(customer_id), "object": "customer", "name": name, "email": email, "metadata": {}}


@app.get("/v1/customers/{customer_id}")
def retrieve(customer_id: UUID) -> dict[str, Any]:
    """Fold a customer's stream."""
    customer: StockCustomer = app.state.customers.repository.get(customer_id)
    return {
        "id": str(customer.id),
        "object": "customer",
        "name": customer.name,
        "email": customer.email,
        "metadata": customer.metadata,
    }


@app.get("/v1/events")
def list_events(limit: Annotated[int, Query(le=100)] = 10) -> dict[str, Any]:
    """The newest notifications, newest first."""
    recorder = app.state.customers.recorder
    start = max((recorder.max_notification_id() or 0) - limit + 1, 1)
    found = recorder.select_notifications(start=start, limit=limit)
    data = [{"id": str(each.id), "type": each.topic, "data": json.loads(each.state)} for each in found]
    return {"object": "list", "data": data[::-1]}
