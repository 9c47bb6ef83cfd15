"""Files and file links."""

from __future__ import annotations

from ledger.wire.schemas.fields import (
    Fields,
    boolean,
    constant,
    identifier,
    integer,
    list_object,
    livemode,
    metadata,
    nullable_text,
    text,
    unix_time,
    unused,
)

FILE: Fields = {
    "id": text("Id of the file.", "file_1Mr4LDLkdIwHu7ixFCz0dZiH"),
    "object": constant("file"),
    "created": unix_time("When it was uploaded."),
    "expires_at": unused("Files do not expire."),
    "filename": nullable_text("Its name as it was sent.", "receipt.pdf"),
    "links": list_object(
        "The newest ten links.", "file_link_list", "/v1/file_links?file=file_1Mr4LDLkdIwHu7ixFCz0dZiH"
    ),
    "purpose": text("What it is for.", "dispute_evidence"),
    "size": integer("Bytes.", 8429),
    "title": unused(),
    "type": nullable_text("pdf, jpg, png, csv and so on, by its content.", "pdf"),
    "url": nullable_text("Where its bytes are, for the account's secret key."),
}
FILE_LINK: Fields = {
    "id": text("Id of the link.", "link_1Mr23jLkdIwHu7ix8UhKXgFz"),
    "object": constant("file_link"),
    "created": unix_time("When it was created."),
    "expired": boolean("Whether it has expired."),
    "expires_at": unix_time("When it expires; null: never.").or_null(),
    "file": identifier("The file.", "file_1Mr4LDLkdIwHu7ixFCz0dZiH"),
    "livemode": livemode(),
    "metadata": metadata(),
    "url": nullable_text("Where the bytes are, without a key."),
}
