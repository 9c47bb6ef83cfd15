"""What the operations on files accept (contract §2.9). An upload is multipart: its `file` is a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.domain.file import GENERATED_PURPOSES, UPLOAD_PURPOSES
from ledger.errors import InvalidParameter
from ledger.wire.parameters import EXPAND, PAGINATION, Hash, Metadata, ParameterTable, TimestampFilter
from ledger.wire.scalars import Boolean, Choice, Parameter, Parser, Timestamp


@dataclass(frozen=True, kw_only=True)
class FilePart(Parameter):
    """A part of a multipart body with a file in it; its value is what was noted of it on receipt."""

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
        "file": FilePart(required=True, description="The file; any name and any type."),
        "file_link_data": Hash(
            {
                "create": Boolean(required=True, description="Whether to make a link to the file."),
                "expires_at": Timestamp(description="When the link ends, in unix seconds."),
                "metadata": Metadata(),
            },
            description="Makes a file link together with the file.",
        ),
        "purpose": Choice(UPLOAD_PURPOSES, required=True, description="What the file is for."),
    }
)

RETRIEVE = ParameterTable({"expand": EXPAND})

CONTENTS = ParameterTable({})

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "purpose": Choice(
            tuple(sorted((*UPLOAD_PURPOSES, *GENERATED_PURPOSES))), description="Only files for this purpose."
        ),
    }
)
