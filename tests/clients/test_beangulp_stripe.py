"""beangulp-stripe, which books an account's balance transactions: fetched in pages, converted to major units,
and proved by beancount against the balance that the API states."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import stripe

from tests.api.service import Account, Service
from tests.clients.conftest import ListRefused
from tests.clients.program import SCRIPTS, find_python, needs, run_to_success
from tests.clients.shop import Shop

PROGRAM = "beangulp-stripe"
pytestmark = needs(PROGRAM)
DECIMALS = {"usd": 2, "eur": 2, "jpy": 0}


def test_the_books_balance_with_what_the_api_states(
    service: Service,
    account: Account,
    client: stripe.StripeClient,
    shop: Shop,
    list_refused: ListRefused,
    tmp_path: Path,
) -> None:
    python = find_python(PROGRAM)
    fetched, books = tmp_path / "fetched.json", tmp_path / "books.beancount"
    settings = {"STRIPE_KEY": account.secret, "STRIPE_BASE": service.url}
    output = run_to_success([python, SCRIPTS / "book_balance.py", fetched, books], tmp_path, settings)
    # bean-check proves that each entry balances, and the sums against the balance assertions.
    run_to_success([python.with_name("bean-check"), books], tmp_path, {})
    text = books.read_text()
    transactions = list(client.v1.balance_transactions.list({"limit": 100}).auto_paging_iter())
    assert sorted(re.findall(r'stripe_id: "(\w+)"', text)) == sorted(one.id for one in transactions)
    assert _sum_postings(text, "Assets:Stripe") == _sum(transactions, "net")
    assert _sum_postings(text, "Expenses:Fees") == _sum(transactions, "fee")
    assert set(re.findall(r"balance Assets:Stripe:(\w+)", text)) == {"USD", "EUR", "JPY"}
    (matched,) = json.loads(output)["matches"]
    assert (matched["number"], matched["matched_by"]) == ("R-0001", "id")
    assert json.loads(output)["ambiguities"] == []
    assert list_refused() == []


def _sum_postings(books: str, account: str) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for amount, currency in re.findall(rf"^  {account}\S* +(-?[\d.]+) ([A-Z]+)$", books, re.M):
        sums[currency] += Decimal(amount)
    return dict(sums)


def _sum(transactions: list[stripe.BalanceTransaction], field: str) -> dict[str, Decimal]:
    """A field's sums, in the currencies' major units."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for one in transactions:
        sums[one.currency.upper()] += Decimal(one[field]).scaleb(-DECIMALS[one.currency])
    return dict(sums)
