"""Which tests of the official Python client's own suite run against the service, in which order, and which
do not and why.

The suite was written for a server without state: it uses fixed ids, and several tests end the same object. So
tests that end an object run last; a second test that ends it runs in another round, on a new copy of the
database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

GENERATED = "tests/test_generated_examples.py"
# Files that only test supported resources, and the generated examples of these resources.
WHOLE = (
    "tests/api_resources/test_card.py",
    "tests/api_resources/test_charge.py",
    "tests/api_resources/test_customer.py",
    "tests/api_resources/test_file.py",
    "tests/api_resources/test_file_upload.py",
    "tests/services/test_file_upload.py",
)
ALSO = ("tests/api_resources/test_list_object.py::TestListObject::test_retrieve_maintains_list_properties",)
RESOURCES = (
    "balance_transactions", "charges", "customer_sessions", "customers", "disputes", "events", "file_links",
    "files", "payment_methods", "refunds", "webhook_endpoints",
)  # fmt: skip

_NOT_SERVED = "no such path here (contract §2): "
_NO_REQUEST = "asks no server: "
NOT_RUN: Mapping[str, str] = {
    r"generated.*_service(_non_namespaced)?(_async)?$": _NO_REQUEST + "the test answers its own request",
    r"test_deserializes_from|test_card.*(instance_url|is_not_)": _NO_REQUEST + "the client alone is tested",
    r"_search_get|test_is_searchable": _NOT_SERVED + "search is optional",
    r"customers_sources_(post|delete)|TestCustomerSources::.*(creatable|modifiable|deletable)": _NOT_SERVED
    + "a customer's card is set by its `source`",
    r"test_card.*(is_saveable|is_deletable)": _NOT_SERVED + "cards are not changed",
    r"customers_sources_get_[34]|TestCustomerSources::.*retrievable": "ids of cards are made here",
    r"test_payment_methods_(post|attach|detach)": _NOT_SERVED + "payment methods are only read",
    r"test_payment_methods_get_2": "ids of cards are made here",
    r"customers_balance_transactions_|TestCustomerTransactions": _NOT_SERVED + "customer balances",
    r"customers_cash_balance_|customers_funding_|CashBalance": _NOT_SERVED + "cash balances",
    r"customers_tax_ids_|TestCustomerTaxIds": _NOT_SERVED + "tax ids",
    r"test_can_delete_discount": _NOT_SERVED + "discounts",
    r"test_retrieve_maintains_list_properties": _NOT_SERVED
    + "a refund below its charge; and it asks with a key that is no key",
    r"charges_post(_async)?$|TestCharge::test_is_creatable": "pays with a token that is none (contract §3.4)",
    r"respects_(stripe|api)_version": "asks for the version `foo`, which is refused (contract §1.6)",
    r"balance_transactions_get_2": "ids of balance transactions are derived from the log",
    r"file_links_(get|post)_2": "file links cannot be imported: their ids are made here",
    r"refunds_cancel_post": "only a refund that waits for the customer can be cancelled, and none does here",
}
# The order of tests that change an object: each must find it in a state that allows the change.
ENDS = (
    r"charges_capture_post", r"refunds_post(_async)?$", r"disputes_close_post", r"customers_delete",
    r"webhook_endpoints_delete", r"can_capture", r"TestCustomer::test_(is_deletable|can_delete)$",
)  # fmt: skip


class Selection(NamedTuple):
    """Rounds of tests to run, in order, and for each test that does not run the reason."""

    rounds: Sequence[Sequence[str]]
    not_run: Mapping[str, str]


def select(place: Path) -> Selection:
    """Select from the suite in `place`. Raises AssertionError for a reason or an order that applies to no
    test."""
    concerned = list(_list_concerned_files(place))
    not_run: dict[str, str] = {}
    for pattern, reason in NOT_RUN.items():
        matching = [test for test in concerned if re.search(pattern, test)]
        assert matching, f"{pattern} is the name of no test"
        not_run = dict.fromkeys(matching, reason) | not_run
    run = [test for test in concerned if test not in not_run]
    rounds: list[list[str]] = [[test for test in run if not any(re.search(end, test) for end in ENDS)]]
    for end in ENDS:
        matching = [test for test in run if re.search(end, test)]
        assert matching, f"{end} is the name of no test that is run"
        for number, test in enumerate(matching):
            rounds += [[]] if number == len(rounds) else []
            rounds[number].append(test)
    return Selection(rounds, not_run)


def _list_concerned_files(place: Path) -> Iterator[str]:
    yield from ALSO
    of_resource = re.compile(rf"::test_({'|'.join(RESOURCES)})_")
    for file in (GENERATED, *WHOLE):
        group = ""
        for declared, name in re.findall(
            r"^(class|    (?:async )?def) (\w+)", (place / file).read_text(), re.M
        ):
            if declared == "class":
                group = name
            elif name.startswith("test_"):
                test = f"{file}::{group}::{name}"
                if file != GENERATED or of_resource.search(test):
                    yield test
