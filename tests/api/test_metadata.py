"""Metadata on everything that has it (contract §1.10)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Caller, assert_refused, ok


@pytest.fixture(params=["customers", "charges", "disputes", "refunds"])
def path(request: pytest.FixtureRequest, raw: Caller) -> str:
    match request.param:
        case "customers":
            made = raw.customer()
        case "charges":
            made = raw.charge()
        case "refunds":
            made = raw.refund()
        case _:
            made = raw.dispute()
    assert made["metadata"] == {}
    return f"/v1/{request.param}/{made['id']}"


def _metadata(raw: Caller, path: str, form: Any) -> Any:
    return ok(raw.post(path, form))["metadata"]


def test_it_merges_removes_and_clears(raw: Caller, path: str) -> None:
    assert _metadata(raw, path, "metadata[a]=1&metadata[b]=2") == {"a": "1", "b": "2"}
    assert _metadata(raw, path, "metadata[b]=&metadata[c]=true&metadata[d]=") == {"a": "1", "c": "true"}
    assert _metadata(raw, path, "") == {"a": "1", "c": "true"}
    assert _metadata(raw, path, "metadata=") == {}
    assert ok(raw.get(path))["metadata"] == {}


def test_its_limits(raw: Caller, path: str) -> None:
    fifty = {f"metadata[key{number}]": "x" for number in range(50)}
    assert len(_metadata(raw, path, fifty)) == 50
    assert_refused(raw.post(path, "metadata[another]=x"), param="metadata")
    assert len(_metadata(raw, path, "metadata[key0]=&metadata[another]=x")) == 50
    assert len(_metadata(raw, path, f"metadata[another]={'v' * 500}")) == 50
    assert_refused(raw.post(path, f"metadata[another]={'v' * 501}"), param="metadata[another]")
    assert "k" * 40 in _metadata(raw, path, {"metadata[another]": "", f"metadata[{'k' * 40}]": "x"})
    assert_refused(raw.post(path, f"metadata[{'k' * 41}]=x"), param=f"metadata[{'k' * 41}]")
    assert len(ok(raw.get(path))["metadata"]) == 50


@pytest.mark.parametrize("form", ["metadata[]=x", "metadata[a][b]=x", "metadata=x", "metadata[a[b]]=x"])
def test_only_names_with_texts(raw: Caller, path: str, form: str) -> None:
    error = raw.post(path, form)
    assert error.status_code == 400
    assert error.json()["error"]["param"].startswith("metadata")


def test_at_creation(raw: Caller) -> None:
    made = raw.customer(**{"metadata[a]": "1", "metadata[b]": "", "metadata[é😀]": "ü"})
    assert made["metadata"] == {"a": "1", "é😀": "ü"}
    assert_refused(
        raw.post("/v1/customers", {f"metadata[{number}]": "x" for number in range(51)}), param="metadata"
    )
