"""The yardsticks of HTTP: two FastAPI routes as its tutorial writes them, and bare ASGI.

uvicorn, uvloop and httptools serve them, as they serve the ledger. `raw` shows how fast the load generator
and the server are together when the application does nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Form
from starlette.types import Receive, Scope, Send

app = FastAPI()

_BODY = b'{"id":"du_0000000000000000000000","object":"dispute"}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())],
}
END = {"type": "http.response.body", "body": _BODY}


@app.post("/form")
async def form(customer: Annotated[str, Form()]) -> dict[str, str]:
    """Read a form field and store nothing."""
    return {"object": "customer_session", "customer": customer}


@app.get("/constant")
async def constant() -> dict[str, Any]:
    """Return a constant dict of the size of a small object."""
    return {
        "id": "du_0000000000000000000000",
        "object": "dispute",
        "amount": 1000,
        "status": "needs_response",
    }


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with the same bytes."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send(START)
    await send(END)
