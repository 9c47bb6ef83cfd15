#!/usr/bin/env bash
# beangulp-stripe 0.3.0 books amounts in Ugandan shillings (UGX) a hundred times too high.
#
# UGX has no minor unit, so its amounts look like those of JPY. Stripe's documents list it as a special case: for backward
# compatibility its amounts stay in hundredths that are always 00, so 500 means 5 UGX. beangulp-stripe counts UGX among
# the zero-decimal currencies and books the number as it is; dj-stripe 2.11.0, for one, leaves UGX out of its list. ISK, the
# other such case, is booked rightly. The entries balance all the same, so beancount finds nothing wrong.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder. No server is reached.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check \
    beangulp-stripe==0.3.0 beancount==3.2.3 beangulp==0.2.0 requests==2.34.2

cat > run.py <<'EOF'
import json
from importlib.metadata import version

from beancount.parser import printer
from beangulp_stripe import Importer

# 20,000 UGX, 20,000 ISK and 20,000 JPY as the API shows them.
transactions = [
    {"object": "balance_transaction", "id": f"txn_{currency}", "type": "charge", "currency": currency,
     "created": 1795000000, "amount": amount, "net": amount, "fee": 0, "fee_details": [], "source": "ch_1"}
    for currency, amount in (("ugx", 2_000_000), ("isk", 2_000_000), ("jpy", 20_000))
]
with open("fetched.json", "w") as file:
    json.dump({"object": "list", "data": transactions}, file)
importer = Importer({one: f"Assets:Stripe:{one}" for one in ("UGX", "ISK", "JPY")})
entries = importer.extract("fetched.json", [])
print("beangulp-stripe", version("beangulp-stripe"))
printer.print_entries(entries)
booked = {posting.units.currency: int(posting.units.number) for entry in entries for posting in entry.postings}
as_described = booked == {"UGX": 2_000_000, "ISK": 20_000, "JPY": 20_000}
print("As described: 20,000 UGX are booked as 2,000,000." if as_described else f"Changed: {booked}")
raise SystemExit(0 if as_described else 1)
EOF
env/bin/python run.py
