"""What the shop's server does: create a customer session and give its client secret to the page.

Needs nothing but Python and the `.ledger/dev-keys.json` that `make serve` has written.
"""

import json
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

keys = json.loads(Path(".ledger/dev-keys.json").read_text())


def post(path: str, **form: str) -> dict[str, str]:
    """POST a form with the secret key."""
    headers = {"Authorization": f"Bearer {keys['secret']}"}
    request = Request(keys["url"] + path, urlencode(form).encode(), headers)  # noqa: S310
    with urlopen(request) as response:  # noqa: S310
        created: dict[str, str] = json.load(response)
        return created


customer = post("/v1/customers", name="Jenny Rosen")
form = {"customer": customer["id"], "components[pricing_table][enabled]": "true"}
session = post("/v1/customer_sessions", **form)
fragment = {"api": keys["url"], "publishable": keys["publishable"], "secret": session["client_secret"]}
print(f"http://127.0.0.1:8000/#{urlencode(fragment)}")
