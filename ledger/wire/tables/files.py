"""The parameters of the operations on files (contract §2.9). An upload is a multipart body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.domain.file import GENERATED_PURPOSES, UPLOAD_PURPOSES
from ledger.errors import InvalidParameter
from ledger.wire.parameters import EXPAND, PAGINATION, Hash, Metadata, ParameterTable, TimestampFilter
from ledger.wire.scalars import Boolean, Choice, Parameter, Parser, Timestamp


@dataclass(frozen=True, kw_only=True)
class FilePart(Parameter):
    """A file part of a multipart body; its value describes the file as it was received."""

    def compile(self, name: str) -> Parser:
        def parse(raw: Any) -> Any:
            if isinstance(raw, str | dict):
                raise InvalidParameter(
                    f"Invalid {name}: must be a file part of a multipart/form-data body.", param=name
                )
            return raw

        return parse

    def value_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "binary"}


CREATE = ParameterTable(
    {
        "expand": EXPAND,
        "file": FilePart(required=True, description="The file, of any name and type."),
        "file_link_data": Hash(
            {
                "create": Boolean(required=True, description="Whether to create a link to the file."),
                "expires_at": Timestamp(description="When the link expires, in unix seconds."),
                "metadata": Metadata(),
            },
            description="Creates a file link together with the file.",
        ),
        "purpose": Choice(UPLOAD_PURPOSES, required=True, description="Purpose of the file."),
    }
)

RETRIEVE = ParameterTable({"expand": EXPAND})

CONTENTS = ParameterTable({})

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "purpose": Choice(
            tuple(sorted((*UPLOAD_PURPOSES, *GENERATED_PURPOSES))),
            description="Only files with this purpose.",
        ),
    }
)
