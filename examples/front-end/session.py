"""What the shop's server does: make a customer session with the secret key, hand over its client secret.

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
    with urlopen(request) as answer:  # noqa: S310
        made: dict[str, str] = json.load(answer)
        return made


customer = post("/v1/customers", name="Jenny Rosen")
form = {"customer": customer["id"], "components[pricing_table][enabled]": "true"}
session = post("/v1/customer_sessions", **form)
handed = {"api": keys["url"], "publishable": keys["publishable"], "secret": session["client_secret"]}
print(f"http://127.0.0.1:8000/#{urlencode(handed)}")
