"""Fetch an account's balance transactions with beangulp-stripe and book them, as its README says.

    book_balance.py FETCHED ENTRIES: writes what was fetched, and the beancount file made of it.
Settings: STRIPE_KEY and STRIPE_BASE.
"""

import datetime as dt
import json
import os
import sys

from beancount.parser import printer
from beangulp_stripe import Importer, StripeClient, correlate_invoices

CURRENCIES = ("USD", "EUR", "JPY")


def main(fetched, ledger):
    client = StripeClient(os.environ["STRIPE_KEY"], host=os.environ["STRIPE_BASE"])
    today = dt.datetime.now(dt.UTC).date()
    document = {
        "account": client.account(),
        "balance": {**client.balance(), "as_of": today.isoformat()},
        "data": client.balance_transactions(page_size=5),
    }
    with open(fetched, "w") as file:
        json.dump(document, file)
    importer = Importer(
        {currency: f"Assets:Stripe:{currency}" for currency in CURRENCIES},
        fees_account="Expenses:Fees",
        account_id=document["account"]["id"],
        payee_rules=[(".", "Income:Sales", "*")],
    )
    assert importer.identify(fetched)
    with open(ledger, "w") as file:
        for account in ("Income:Sales", "Expenses:Fees", *(f"Assets:Stripe:{one}" for one in CURRENCIES)):
            file.write(f"2020-01-01 open {account}\n")
        printer.print_entries(importer.extract(fetched, []), file=file)
    matches, ambiguities = correlate_invoices(document["data"], client.invoices())
    print(json.dumps({"matches": [vars(match) for match in matches], "ambiguities": ambiguities}))


if __name__ == "__main__":
    main(*sys.argv[1:])
