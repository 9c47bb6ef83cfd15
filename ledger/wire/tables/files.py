"""What the operations on files accept (CONTRACT 2.9). An upload is multipart: its `file` is a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.domain.file import MADE_PURPOSES, UPLOADED_PURPOSES
from ledger.errors import InvalidParameter
from ledger.wire.parameters import EXPAND, PAGE, Created, Hash, Metadata, Table
from ledger.wire.scalars import Boolean, Choice, Parameter, Parser, Timestamp


@dataclass(frozen=True, kw_only=True)
class Part(Parameter):
    """A part of a multipart body with a file in it; its value is what was noted of it on receipt."""

    def compile(self, name: str) -> Parser:
        def parse(given: Any) -> Any:
            if isinstance(given, str | dict):
                raise InvalidParameter(
                    f"Invalid {name}: must be a file part of a multipart/form-data body.", param=name
                )
            return given

        return parse

    def shape(self) -> dict[str, Any]:
        return {"type": "string", "format": "binary"}


CREATE = Table(
    {
        "expand": EXPAND,
        "file": Part(required=True, description="The file; any name and any type."),
        "file_link_data": Hash(
            {
                "create": Boolean(required=True, description="Whether to make a link to the file."),
                "expires_at": Timestamp(description="When the link ends, in unix seconds."),
                "metadata": Metadata(),
            },
            description="Makes a file link together with the file.",
        ),
        "purpose": Choice(UPLOADED_PURPOSES, required=True, description="What the file is for."),
    }
)

RETRIEVE = Table({"expand": EXPAND})

CONTENTS = Table({})

LIST = Table(
    {
        **PAGE,
        "created": Created(),
        "purpose": Choice(
            tuple(sorted((*UPLOADED_PURPOSES, *MADE_PURPOSES))), description="Only files for this purpose."
        ),
    }
)
