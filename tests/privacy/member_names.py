"""The names of the members of Stripe's objects, from the pinned SDK, and of this API's, from its description.

python -m tests.privacy.member_names    writes them to the table that says what of a document stays
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import stripe

from ledger.api.app import create_app
from ledger.config import load_settings
from ledger.domain import redaction

PERSONAL_NUMBERS = {
    "account_trust_score", "device_trust_score",  # how far somebody is trusted
    "color_depth", "screen_height", "screen_width", "timezone_offset",  # what tells a browser
    "day", "month", "year",  # of a birth
    "latitude", "longitude", "odometer",  # where somebody is
    "percent_ownership",
}  # fmt: skip
"""Numbers of Stripe's objects that are said of a person."""
MOSTLY_TEXTS = {"bank_account", "card", "code", "fpx", "id", "number", "value"}
"""A number in few objects; in others a text, or an object, that is a person's: the number of a card."""
OTHER_NAMES = """
account_balance:number aggregate_usage card_brand display_items event_type invoiceitem liability_type
line_item order paid_out_of_band scheme statement_description tax_amounts tax_info tax_percent:number
total_tax_amounts trial_end_behavior unit_amount_excluding_tax
"""
"""Of other versions of Stripe's API; imports may have them."""

LINE_LENGTH = 108
_WRITTEN = """

`python -m tests.privacy.member_names` writes this, from the pinned SDK and the OpenAPI document.
"""
_ABOUT_OTHERS = f"""The names of the members of Stripe's objects and of this API's, but for those of numbers.
A name that is missing may be somebody's.{_WRITTEN}"""
_ABOUT_NUMBERS = f"""The names of members under which a number stays: amounts, counts, times and the like. In
some object it is a number, and in none what is said of a person.{_WRITTEN}"""

_is_name = re.compile(r"[a-z][a-z0-9_]*").fullmatch


@cache
def find_member_names() -> dict[str, bool]:
    """The names, and whether a number stays under each."""
    found: dict[str, bool] = {}
    others = (
        (name, bool(number)) for name, _, number in (each.partition(":") for each in OTHER_NAMES.split())
    )
    for name, is_number in (*others, *_iterate_members_of_stripe(), *_iterate_own_members()):
        found[name] = found.get(name, False) or is_number
    refused = PERSONAL_NUMBERS | MOSTLY_TEXTS
    return {name: found[name] and name not in refused for name in sorted(found) if _is_name(name)}


def format_modules() -> dict[Path, str]:
    """The modules with the names, by their files."""
    names = find_member_names()
    place = Path(redaction.__file__).parent
    others = [name for name in names if not names[name]]
    numbers = [name for name in names if names[name]]
    return {
        place / "member_names.py": _format_module(_ABOUT_OTHERS, "OTHER_NAMES", others),
        place / "number_names.py": _format_module(_ABOUT_NUMBERS, "NUMBER_NAMES", numbers),
    }


def _format_module(about: str, constant: str, names: list[str]) -> str:
    lines = "\n".join(textwrap.wrap(" ".join(names), LINE_LENGTH))
    return f'"""{about}"""\n\nfrom __future__ import annotations\n\n{constant} = """\n{lines}\n"""\n'


def _iterate_members_of_stripe() -> Iterator[tuple[str, bool]]:
    for path in Path(stripe.__file__).parent.rglob("_*.py"):
        if "params" in path.parts or path.name.endswith("_service.py"):
            continue
        for cls in ast.walk(ast.parse(path.read_text())):
            for member in cls.body if isinstance(cls, ast.ClassDef) else ():
                if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    kind = re.sub(r"Literal\[.*?\]", "", ast.unparse(member.annotation))
                    yield member.target.id, re.search(r"\b(int|float)\b", kind) is not None


def _iterate_own_members() -> Iterator[tuple[str, bool]]:
    """Those of the answers that may be kept under an idempotency key."""
    document = create_app(load_settings(), "dbname=none", b"signs nothing").openapi()
    seen: set[str] = set()
    for path in document["paths"].values():
        for method, operation in path.items():
            if method != "get":
                yield from _iterate_properties(document, operation["responses"], seen)


def _iterate_properties(document: dict[str, Any], schema: Any, seen: set[str]) -> Iterator[tuple[str, bool]]:
    if isinstance(schema, list):
        for each in schema:
            yield from _iterate_properties(document, each, seen)
    if not isinstance(schema, dict):
        return
    reference = schema.get("$ref")
    if reference and reference not in seen:
        seen.add(reference)
        target = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        yield from _iterate_properties(document, target, seen)
    for name, member in schema.get("properties", {}).items():
        yield name, bool({"integer", "number"}.intersection(_list_types(member)))
        yield from _iterate_properties(document, member, seen)
    for name, member in schema.items():
        if name not in ("properties", "example", "examples", "default"):
            yield from _iterate_properties(document, member, seen)


def _list_types(schema: dict[str, Any]) -> list[str]:
    types = schema.get("type", [])
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    own = [types] if isinstance(types, str) else list(types)
    return own + [each for other in alternatives for each in _list_types(other)]


if __name__ == "__main__":
    for file, text in format_modules().items():
        file.write_text(text)
