"""One stream of JetStream: its configuration, what it holds, its consumers.

It speaks JetStream's JSON interface itself, through the connection of nats-py: the dataclasses of the library
leave out what they do not know, and a stream that is made again must have all that an operator has set.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ledger.feed.jetstream.connection import NatsUnavailable, describe

if TYPE_CHECKING:
    from nats.aio.client import Client

CALL_SECONDS_MAX = 5.0
RESPONSE_CHARACTERS_MAX = 200
STREAM_NOT_FOUND = 10059
MESSAGE_NOT_FOUND = 10037
WRONG_LAST_SEQUENCE = 10071

Answer = TypeVar("Answer", bound=msgspec.Struct)


class ApiError(msgspec.Struct, frozen=True):
    """Why JetStream refuses."""

    code: int
    err_code: int = 0
    description: str = ""


class CallRefused(NatsUnavailable):
    """JetStream refuses a call; `err_code` is its number of the reason."""

    def __init__(self, what: str, error: ApiError) -> None:
        text = error.description[:RESPONSE_CHARACTERS_MAX]
        super().__init__(f"JetStream refuses {what}: {text} ({error.err_code or error.code})")
        self.err_code = error.err_code


class StreamState(msgspec.Struct, frozen=True):
    """What a stream holds: the sequences `first_seq` to `last_seq`; when it is empty, the first is the last
    and one."""

    messages: int
    first_seq: int
    last_seq: int
    num_deleted: int = 0

    @property
    def begins_at(self) -> int:
        """The first sequence that it has, or will have."""
        return self.first_seq if self.messages else self.last_seq + 1


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream as it is now."""

    config: dict[str, Any]
    state: StreamState


class StoredMessage(msgspec.Struct, frozen=True):
    """A message that the stream holds."""

    subject: str
    seq: int
    data: bytes = b""


class Place(msgspec.Struct, frozen=True):
    """How far something has come in a stream."""

    stream_seq: int = 0


class Consumer(msgspec.Struct, frozen=True):
    """A consumer of the stream: what it is delivered, and what it has acknowledged without a gap."""

    name: str
    config: dict[str, Any]
    delivered: Place = Place()
    ack_floor: Place = Place()

    @property
    def is_durable(self) -> bool:
        """Whether it stays without anybody who uses it."""
        return bool(self.config.get("durable_name"))

    @property
    def position(self) -> int:
        """Up to here it has read. Without acknowledgements: what was delivered."""
        without_acks = self.config.get("ack_policy") == "none"
        return (self.delivered if without_acks else self.ack_floor).stream_seq


class _MessageAnswer(msgspec.Struct):
    message: StoredMessage


class _ConsumerList(msgspec.Struct):
    consumers: list[Consumer] | None
    total: int


class _Done(msgspec.Struct):
    """An answer of which only matters that it is no error."""


class _Failure(msgspec.Struct):
    error: ApiError | None = None


class Stream:
    """The stream `name`, on this connection. Each call raises NatsUnavailable, and as such CallRefused."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name

    async def read(self) -> StreamInfo | None:
        """The stream as it is now; None when there is none."""
        try:
            return await self.call("the name of the stream", f"STREAM.INFO.{self.name}", {}, StreamInfo)
        except CallRefused as error:
            if error.err_code == STREAM_NOT_FOUND:
                return None
            raise

    async def read_messages(self, first: int, last: int) -> list[StoredMessage | None]:
        """The messages from `first` to `last`; None for each that is not there."""
        return await asyncio.gather(*(self._read_message(sequence) for sequence in range(first, last + 1)))

    async def _read_message(self, sequence: int) -> StoredMessage | None:
        try:
            subject = f"STREAM.MSG.GET.{self.name}"
            answer = await self.call("to show a message", subject, {"seq": sequence}, _MessageAnswer)
        except CallRefused as error:
            if error.err_code == MESSAGE_NOT_FOUND:
                return None
            raise
        return answer.message

    async def create(self, config: dict[str, Any]) -> None:
        """Make the stream. `config` as JetStream has it."""
        await self.call("the stream", f"STREAM.CREATE.{self.name}", {**config, "name": self.name}, _Done)

    async def update(self, config: dict[str, Any]) -> None:
        """Change the configuration to `config`, which is whole."""
        await self.call("the change", f"STREAM.UPDATE.{self.name}", config, _Done)

    async def skip_to(self, sequence: int) -> None:
        """Let an empty stream go on at `sequence`."""
        await self.call("to begin later", f"STREAM.PURGE.{self.name}", {"seq": sequence}, _Done)

    async def delete(self) -> None:
        """Delete the stream with its messages and consumers."""
        await self.call("to delete the stream", f"STREAM.DELETE.{self.name}", {}, _Done)

    async def list_consumers(self) -> list[Consumer]:
        """All consumers, by name."""
        found: list[Consumer] = []
        while True:
            subject = f"CONSUMER.LIST.{self.name}"
            page = await self.call("to list consumers", subject, {"offset": len(found)}, _ConsumerList)
            found += page.consumers or []
            if not page.consumers or len(found) >= page.total:
                return sorted(found, key=lambda consumer: consumer.name)

    async def create_consumer(self, name: str, config: dict[str, Any]) -> None:
        """Make a consumer."""
        body = {"stream_name": self.name, "config": config}
        await self.call("a consumer", f"CONSUMER.DURABLE.CREATE.{self.name}.{name}", body, _Done)

    async def call(self, what: str, subject: str, body: dict[str, Any], answer: type[Answer]) -> Answer:
        """JetStream's answer. A refusal says that it refuses `what`."""
        try:
            request = msgspec.json.encode(body)
            response = await self.client.request(f"$JS.API.{subject}", request, CALL_SECONDS_MAX)
        except Exception as error:  # the library's, of many kinds
            raise NatsUnavailable(self._explain(error)) from error
        try:
            failure = msgspec.json.decode(response.data, type=_Failure).error
            if failure is None:
                return msgspec.json.decode(response.data, type=answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise NatsUnavailable(f"JetStream's answer to {subject} cannot be read") from error
        raise CallRefused(what, failure)

    def _explain(self, error: Exception) -> str:
        if type(error).__name__ == "NoRespondersError":
            return "JetStream is off in this server, or not reached by this user"
        return describe(error, self.client)
