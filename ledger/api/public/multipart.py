"""A multipart body as it comes in: its fields as a form, its file stored while it is received.

Guarantees: no more of the file is in memory than a chunk; a body over the limits is refused as soon as
that is known, by its length before anything is read; of a request that is refused nothing stays stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from ledger.clock import Clock
from ledger.errors import InvalidParameter
from ledger.files.storage import Contents, Incoming, Upload
from ledger.ids import new_id
from ledger.wire.parameters import unknown

MULTIPART = b"multipart/form-data"
FILE = "file"
FILENAME_LENGTH_MAX = 255
MEGABYTE = 1024 * 1024


class Uploads:
    """Receives multipart bodies into `contents`; limits in bytes."""

    def __init__(
        self, contents: Contents, clock: Clock, *, file_bytes_max: int, fields_bytes_max: int
    ) -> None:
        self._contents = contents
        self._clock = clock
        self._file_bytes_max = file_bytes_max
        self._fields_bytes_max = fields_bytes_max

    def begin(self) -> Incoming:
        """A file to be, under a fresh id."""
        return self._contents.begin(new_id("file", self._clock.now()))

    async def receive(
        self, given: Mapping[bytes, bytes], receive: Receive, incoming: Incoming
    ) -> tuple[bytes, dict[str, Upload]]:
        """The fields as an urlencoded form, and what was noted of the file by the name of its part."""
        bytes_max = self._file_bytes_max + self._fields_bytes_max
        length = given.get(b"content-length", b"0")
        if length.isdigit() and int(length) > bytes_max:
            raise self._too_large()
        boundary = parse_options_header(given[b"content-type"])[1].get(b"boundary")
        if not boundary:
            raise InvalidParameter("Invalid request: the multipart body has no boundary.")
        parts = _Parts(incoming)
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # a TypedDict
        received, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidParameter("The connection closed before the request was complete.")
            body: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            received += len(body)
            try:
                parser.write(body)
            except FormParserError:
                raise InvalidParameter("Invalid request: the body is not well-formed multipart.") from None
            if incoming.size > self._file_bytes_max or received > bytes_max:
                raise self._too_large()
            if parts.fields_bytes > self._fields_bytes_max:
                raise InvalidParameter(f"The fields are larger than {self._fields_bytes_max} bytes.")
            await incoming.store()
        if not parts.complete:
            raise InvalidParameter("Invalid request: the multipart body ends before its last boundary.")
        files = {FILE: await incoming.finish(parts.filename)} if parts.has_file else {}
        return urlencode(parts.fields).encode(), files

    def _too_large(self) -> InvalidParameter:
        size = f"{self._file_bytes_max / MEGABYTE:g} MB"
        return InvalidParameter(
            f"The file you uploaded was too large. Please upload a file smaller than {size}.", param=FILE
        )


class _Parts:
    """What the parser tells, gathered: the file's bytes go to `incoming`, everything else is a field."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._header = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._in_file = False
        self._field = bytearray()
        self.fields: list[tuple[bytes, bytes]] = []
        self.fields_bytes = 0
        self.filename: str | None = None
        self.has_file = False
        self.complete = False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._end_all,
        }

    def _begin(self) -> None:
        self._headers = {}
        self._field = bytearray()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise InvalidParameter("Invalid request: a part of the multipart body has no name.")
        self._name = options[b"name"]
        self._in_file = b"filename" in options or b"content-type" in self._headers
        if self._in_file:
            name = self._name.decode(errors="replace")
            if name != FILE:
                raise unknown(name)
            if self.has_file:
                raise InvalidParameter("Send one file in a request.", param=FILE)
            self.has_file = True
            self.filename = _filename(options.get(b"filename", b""))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._incoming.add(data[start:end])
        else:
            self._field += data[start:end]
            self.fields_bytes += end - start

    def _end(self) -> None:
        if not self._in_file:
            self.fields_bytes += len(self._name)
            self.fields.append((self._name, bytes(self._field)))

    def _end_all(self) -> None:
        self.complete = True


def _filename(given: bytes) -> str | None:
    """The name without the folders of the sender's machine, and without what cannot be printed."""
    name = given.decode(errors="replace").replace("\\", "/").rpartition("/")[2]
    return "".join(filter(str.isprintable, name))[-FILENAME_LENGTH_MAX:] or None
