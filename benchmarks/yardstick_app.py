"""What HTTP costs here without us: two FastAPI routes as its tutorial writes them, and bare ASGI.

Served by the software that serves us: uvicorn, uvloop, httptools. `raw` shows how fast the load
generator and the server are together when the application does nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Form
from starlette.types import Receive, Scope, Send

app = FastAPI()

_BODY = b'{"id":"du_0000000000000000000000","object":"dispute"}'
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())],
}
_END = {"type": "http.response.body", "body": _BODY}


@app.post("/form")
async def form(customer: Annotated[str, Form()]) -> dict[str, str]:
    """Reads a form field and stores nothing."""
    return {"object": "customer_session", "customer": customer}


@app.get("/constant")
async def constant() -> dict[str, Any]:
    """A dict as large as a small object."""
    return {
        "id": "du_0000000000000000000000",
        "object": "dispute",
        "amount": 1000,
        "status": "needs_response",
    }


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Bytes, whatever was asked."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send(_START)
    await send(_END)
