"""The messages between the service and the Stripe CLI: JSON objects, each in a text frame of the websocket.

A message that the CLI is to acknowledge has an id of its own, made of the key by which we know it, the time
at which it was sent, and random digits. So whichever process gets the acknowledgement knows what it is for.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

RENDERINGS: Mapping[str, tuple[str, ...]] = {"webhooks": ("default", "latest"), "v2_events": ("thin",)}
"""What each Event is sent as, by the feature that a session asks for. A snapshot is sent once in the
account's API version and once in the latest one: the CLI shows one of the two, and does not tell which."""
MESSAGE_ID_LENGTH_MAX = 200


class EventAck(msgspec.Struct, frozen=True, tag="event_ack", tag_field="type"):
    """The CLI has received a message. `event_id` is the id of the Event, or of the request log."""

    event_id: str = ""
    webhook_id: str = ""
    webhook_conversation_id: str = ""

    @property
    def message_id(self) -> str:
        """The id of the message. Of a thin event there is no conversation: its destination is named."""
        return self.webhook_conversation_id or self.webhook_id


class WebhookResponse(msgspec.Struct, frozen=True, tag="webhook_response", tag_field="type"):
    """What a program responded to an Event (`notification_id`) that the CLI has forwarded to it."""

    notification_id: str = ""
    webhook_conversation_id: str = ""
    status: int = 0
    body: str = ""
    webhook_id: str = ""

    @property
    def message_id(self) -> str:
        """As of an EventAck."""
        return self.webhook_conversation_id or self.webhook_id


class MessageId(NamedTuple):
    """The parts of a message's id. `sent_at` is in unix seconds, to the millisecond."""

    key: str
    sent_at: float


_decoder: msgspec.json.Decoder[EventAck | WebhookResponse] = msgspec.json.Decoder(EventAck | WebhookResponse)
_encoder = msgspec.json.Encoder()


def list_renderings(features: Iterable[str]) -> list[str]:
    """What each Event is sent as to a session with these features; [] if it gets no Events."""
    return [rendering for feature in features for rendering in RENDERINGS.get(feature, ())]


def decode_frame(text: str) -> EventAck | WebhookResponse | None:
    """What the CLI says; None for what is neither of the two, or malformed."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):  # a lone surrogate; too many brackets
        return None


def new_message_id(key: str, sent_at: float) -> str:
    """The id of the message with this key (without `_`), sent at `sent_at` (unix seconds)."""
    return f"{key}_{int(sent_at * 1000):x}_{secrets.token_hex(8)}"


def parse_message_id(message_id: str) -> MessageId | None:
    """The parts of an id that `new_message_id` made; None for another text."""
    if len(message_id) > MESSAGE_ID_LENGTH_MAX:
        return None
    key, _, rest = message_id.partition("_")
    sent_at, _, _ = rest.partition("_")
    try:
        return MessageId(key, int(sent_at, 16) / 1000)
    except ValueError:
        return None


def encode_webhook_event(
    *, webhook_id: str, message_id: str, body: str, headers: dict[str, str], api_version: str | None
) -> str:
    """A message with an Event. `body` and `headers` are what the CLI is to POST; `api_version` is None in the
    rendering of the account's own version."""
    message: dict[str, Any] = {
        "type": "webhook_event",
        "webhook_id": webhook_id,
        "webhook_conversation_id": message_id,
        "endpoint": {"api_version": api_version},
        "event_payload": body,
        "http_headers": headers,
    }
    return _encoder.encode(message).decode()


def encode_v2_event(*, message_id: str, body: str, headers: dict[str, str]) -> str:
    """A message with a thin event. The CLI repeats nothing of it but the destination, so that is its id."""
    message = {"type": "v2_event", "destination_id": message_id, "payload": body, "http_headers": headers}
    return _encoder.encode(message).decode()


def encode_request_log_event(*, request_log_id: str, payload: str) -> str:
    """A message with a request to the API. `payload` is JSON; it is acknowledged with this id."""
    message = {"type": "request_log_event", "request_log_id": request_log_id, "event_payload": payload}
    return _encoder.encode(message).decode()
