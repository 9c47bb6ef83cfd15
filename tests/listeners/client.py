"""A listener as the Stripe CLI is one on the wire, by the client of the `websockets` library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import stripe
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

RECEIVE_SECONDS = 60.0
QUIET_SECONDS = 0.3
FRAME_BYTES_MAX = 16 * 1024 * 1024
SUBPROTOCOL = "stripecli-devproxy-v1"
SESSIONS = "/v1/stripecli/sessions"


class Message(NamedTuple):
    """A `webhook_event` or `v2_event`, and the Event in it."""

    frame: dict[str, Any]
    event: dict[str, Any]

    @property
    def rendering(self) -> str | None:
        """`thin`, or the API version of a snapshot if it is not the account's own."""
        return "thin" if self.is_thin else self.frame["endpoint"]["api_version"]

    @property
    def is_thin(self) -> bool:
        return self.frame["type"] == "v2_event"

    @property
    def payload(self) -> str:
        return self.frame["payload" if self.is_thin else "event_payload"]

    @property
    def names(self) -> dict[str, str]:
        """By what the CLI says which message it means."""
        if self.is_thin:
            return {"webhook_id": self.frame["destination_id"], "webhook_conversation_id": ""}
        return {name: self.frame[name] for name in ("webhook_id", "webhook_conversation_id")}

    @property
    def id(self) -> str:
        return self.event["id"]

    def verify(self, secret: str) -> stripe.Event:
        """What the official client makes of it, the signature verified."""
        signature = self.frame["http_headers"]["Stripe-Signature"]
        return stripe.Webhook.construct_event(self.payload, signature, secret)


def ask_for_session(url: str, key: str | None, **fields: Any) -> httpx.Response:
    """The answer to the CLI's request for a session; by default that of `stripe listen`."""
    form = {"device_name": "a laptop", "websocket_features[]": ["webhooks"]} | fields
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    return httpx.post(f"{url}{SESSIONS}", data=form, headers=headers, timeout=30, verify=False)


class Session:
    """A session of the service at `url`."""

    def __init__(self, url: str, key: str, **fields: Any) -> None:
        answer = ask_for_session(url, key, **fields)
        assert answer.status_code == 200, answer.text
        self.answer: dict[str, Any] = answer.json()
        self.secret: str = self.answer["secret"]

    @contextmanager
    def connect(self, **options: Any) -> Iterator[Listener]:
        """A connection as the CLI makes it."""
        query = urlencode({"websocket_feature": self.answer["websocket_authorized_feature"]})
        with connect(
            f"{self.answer['websocket_url']}?{query}",
            additional_headers={"Websocket-Id": self.answer["websocket_id"]},
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            max_size=FRAME_BYTES_MAX,
            proxy=None,
            ping_interval=2,
            close_timeout=0.2,
            **options,
        ) as socket:
            yield Listener(socket)

    def refusal(self) -> tuple[int, str]:
        """Status and message of a refused handshake."""
        try:
            with self.connect():
                raise AssertionError("it was not refused")
        except InvalidStatus as refused:
            body = json.loads(refused.response.body)
            return refused.response.status_code, body["error"]["message"]


class Listener:
    """An open connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def receive(self, count: int, *, acknowledge: bool = True) -> list[Message]:
        """The next messages; each is acknowledged at once, as the CLI does."""
        messages = []
        for _ in range(count):
            frame = json.loads(self.socket.recv(timeout=RECEIVE_SECONDS))
            assert frame["type"] in ("webhook_event", "v2_event"), frame
            message = Message(frame, {})
            messages.append(message._replace(event=json.loads(message.payload)))
            if acknowledge:
                self.acknowledge(messages[-1])
        return messages

    def receive_ids(self, events: int) -> list[str]:
        """Ids of the next Events, each once, in the order in which they come."""
        return list(dict.fromkeys(message.id for message in self.receive(2 * events)))

    def is_quiet(self) -> bool:
        """Whether nothing comes for a while."""
        try:
            self.socket.recv(timeout=QUIET_SECONDS)
        except TimeoutError:
            return True
        return False

    def acknowledge(self, message: Message) -> None:
        self.send(
            {
                "type": "event_ack",
                "event_id": message.id,
                **message.names,
            }
        )

    def respond(self, message: Message, status: int, body: str) -> None:
        """Report what a program responded."""
        self.send(
            {
                "type": "webhook_response",
                **{name: value for name, value in message.names.items() if value},
                "notification_id": message.id,
                "forward_url": "http://localhost:3000/hook",
                "status": status,
                "http_headers": {"Content-Type": "text/plain"},
                "body": body,
                "request_headers": {},
                "request_body": message.payload,
            }
        )

    def send(self, frame: dict[str, Any]) -> None:
        self.socket.send(json.dumps(frame) + "\n")

    def wait_closed(self) -> int | None:
        """The code with which the service closes the connection."""
        with suppress(ConnectionClosed):
            while True:
                self.socket.recv(timeout=RECEIVE_SECONDS)
        return self.socket.close_code


def ids(messages: Sequence[Message]) -> list[str]:
    """Ids of the Events, each once."""
    return list(dict.fromkeys(message.id for message in messages))
