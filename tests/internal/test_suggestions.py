"""An unknown field of a JSON body is answered with the one that was probably meant."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.commands.models import ChargeBody, CustomerBody, PublishBody, validation_error
from tests.internal.conftest import InternalClient


@pytest.mark.parametrize(
    ("model", "path", "suggestion"),
    [
        (CustomerBody, ["nmae"], "name"),
        (CustomerBody, ["shipping", "adress"], "shipping[address]"),
        (
            CustomerBody,
            ["invoice_settings", "custom_fields", 0, "nam"],
            "invoice_settings[custom_fields][0][name]",
        ),
        (CustomerBody, ["zebra"], None),
        (CustomerBody, ["nothing", "here"], None),
        (ChargeBody, ["ammount"], "amount"),
        (PublishBody | None, ["event_typ"], "event_type"),
        (None, ["nmae"], None),
    ],
)
def test_the_nearest_field_is_named(model: Any, path: list[Any], suggestion: str | None) -> None:
    error = {"type": "extra_forbidden", "loc": ("body", *path), "msg": ""}
    refusal = validation_error(error, skip=1, model=model)
    first, *rest = map(str, path)
    name = first + "".join(f"[{each}]" for each in rest)
    assert refusal.param == name
    told = f". Did you mean {suggestion}?" if suggestion else ""
    assert refusal.message == f"Received unknown parameter: {name}{told}"


def test_a_call_is_answered_so(operator: InternalClient) -> None:
    answer = operator.post("/customers", {"nmae": "Jenny Rosen"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Received unknown parameter: nmae. Did you mean name?"
