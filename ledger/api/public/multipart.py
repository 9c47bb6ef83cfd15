"""Receives a multipart body: its fields become a form, its file is stored while it arrives.

Guarantees: no more than one chunk of the file is in memory; a body over the limits is refused as soon as that
is known, without reading it if its Content-Length is over them; nothing of a refused request remains stored.
"""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import unquote, urlencode

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ledger.api.exchange import Exchange
from ledger.clock import Clock
from ledger.errors import InvalidParameter
from ledger.files.storage import FileStorage, IncomingFile, Upload
from ledger.ids import new_id
from ledger.wire.parameters import unknown_parameter_error
from ledger.wire.suggestions import find_nearest

MULTIPART_CONTENT_TYPE = b"multipart/form-data"
FILE_FIELD = "file"
FILENAME_LENGTH_MAX = 255
PREAMBLE_BYTES_MAX = 65_536
MEGABYTE = 1024 * 1024

_find_extended_filename = re.compile(
    rb";\s*filename\*\s*=\s*(utf-8|iso-8859-1)'[^']*'([^;\s]*)", re.IGNORECASE
).search
_empty_quoted_strings = partial(re.compile(rb'"(?:\\.|[^"\\])*"').sub, b'""')


class UploadReceiver:
    """Receives multipart bodies into `storage`. Limits in bytes: of the file, and of all fields together."""

    def __init__(
        self, storage: FileStorage, clock: Clock, *, file_bytes_max: int, fields_bytes_max: int
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._file_bytes_max = file_bytes_max
        self._fields_bytes_max = fields_bytes_max

    def start_upload(self) -> IncomingFile:
        """An empty file under a new id, to receive into."""
        return self._storage.begin(new_id("file", self._clock.now()))

    async def receive(self, exchange: Exchange, incoming: IncomingFile) -> tuple[bytes, dict[str, Upload]]:
        """The fields as a urlencoded form, and the stored file by the name of its part.

        Raises InvalidParameter for a body that is too large, malformed or cut off.
        """
        bytes_max = self._file_bytes_max + self._fields_bytes_max
        if exchange.content_length > bytes_max:
            raise self._too_large_error()
        content_type = exchange.request_headers[b"content-type"]
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise InvalidParameter("Invalid request: the multipart body has no boundary.")
        collector = _PartCollector(incoming)
        preamble = _PreambleFilter(boundary)
        try:
            parser = MultipartParser(boundary, collector.callbacks())  # type: ignore[arg-type]  # a TypedDict
        except FormParserError:
            raise InvalidParameter("Invalid request: the multipart boundary is too long.") from None
        received_bytes, more_body = 0, True
        while more_body:
            chunk, more_body = await exchange.source.receive_chunk()
            received_bytes += len(chunk)
            try:
                parser.write(preamble.remove(chunk))
            except FormParserError:
                raise InvalidParameter("Invalid request: the body is not well-formed multipart.") from None
            if incoming.size > self._file_bytes_max or received_bytes > bytes_max:
                raise self._too_large_error()
            if collector.fields_bytes > self._fields_bytes_max:
                raise InvalidParameter(f"The fields are larger than {self._fields_bytes_max} bytes.")
            await incoming.flush()
        if not collector.complete:
            raise InvalidParameter("Invalid request: the multipart body ends before its last boundary.")
        files = {FILE_FIELD: await incoming.finish(collector.filename)} if collector.has_file else {}
        return urlencode(collector.fields).encode(), files

    def _too_large_error(self) -> InvalidParameter:
        size = f"{self._file_bytes_max / MEGABYTE:g} MB"
        return InvalidParameter(
            f"The file you uploaded was too large. Please upload a file smaller than {size}.",
            param=FILE_FIELD,
        )


class _PreambleFilter:
    """Removes what the parser refuses but RFC 2046, section 5.1.1, allows: text before the first boundary,
    and blanks after that boundary."""

    def __init__(self, boundary: bytes) -> None:
        self._boundary_line = b"--" + boundary + b"\r\n"
        self._find = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"[ \t]*\r\n").search
        self._unread: bytes | None = b""

    def remove(self, chunk: bytes) -> bytes:
        """`chunk` from the first boundary on; empty before it.

        Raises InvalidParameter if there is no boundary within PREAMBLE_BYTES_MAX.
        """
        if self._unread is None:
            return chunk
        # A boundary line that ends in this chunk begins in it, or is the line that was not complete before.
        line_start = max(self._unread.rfind(b"\n") - 1, 0)
        self._unread += chunk
        found = self._find(self._unread, line_start) if b"\n" in chunk else None
        if (len(self._unread) if found is None else found.start()) > PREAMBLE_BYTES_MAX:
            raise InvalidParameter(
                "Invalid request: the multipart body has no boundary in its first "
                f"{PREAMBLE_BYTES_MAX} bytes."
            )
        if found is None:
            return b""
        rest = self._unread[found.end() :]
        self._unread = None
        return self._boundary_line + rest


class _PartCollector:
    """Collects what the parser reports: the file's bytes go to `incoming`, every other part is a field."""

    def __init__(self, incoming: IncomingFile) -> None:
        self._incoming = incoming
        self._header_name = b""
        self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._part_name = b""
        self._in_file = False
        self._field_value = bytearray()
        self.fields: list[tuple[bytes, bytes]] = []
        self.fields_bytes = 0
        self.filename: str | None = None
        self.has_file = False
        self.complete = False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._field_value = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise InvalidParameter("Invalid request: a part of the multipart body has no name.")
        self._part_name = options[b"name"]
        filename = _decode_extended_filename(self._headers[b"content-disposition"])
        if filename is None and b"filename" in options:
            filename = options[b"filename"].decode(errors="replace")
        self._in_file = filename is not None or b"content-type" in self._headers
        if self._in_file:
            name = self._part_name.decode(errors="replace")
            if name != FILE_FIELD:
                raise unknown_parameter_error(name, find_nearest(name, (FILE_FIELD,)))
            if self.has_file:
                raise InvalidParameter("Only one file is allowed per request.", param=FILE_FIELD)
            self.has_file = True
            self.filename = _clean_filename(filename or "")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._incoming.add(data[start:end])
        else:
            self._field_value += data[start:end]
            self.fields_bytes += end - start

    def _on_part_end(self) -> None:
        if not self._in_file:
            self.fields_bytes += len(self._part_name)
            self.fields.append((self._part_name, bytes(self._field_value)))

    def _on_end(self) -> None:
        self.complete = True


def _decode_extended_filename(disposition: bytes) -> str | None:
    """The value of `filename*`, such as `UTF-8''%E2%82%AC.pdf` (RFC 5987, section 3.2). None if
    there is none in one of the two character sets that every recipient knows, or it is no text in it."""
    found = _find_extended_filename(_empty_quoted_strings(disposition))
    if found is None:
        return None
    try:
        return unquote(found[2].decode("latin-1"), found[1].decode(), errors="strict")
    except UnicodeDecodeError:
        return None


def _clean_filename(name: str) -> str | None:
    """The file's name without the sender's folders and unprintable characters; None if nothing is left."""
    name = name.replace("\\", "/").rpartition("/")[2]
    return "".join(filter(str.isprintable, name))[-FILENAME_LENGTH_MAX:] or None
