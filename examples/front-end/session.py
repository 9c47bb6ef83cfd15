"""What the shop's server does: create a customer session and give its client secret to the page.

Needs nothing but Python and the `dev-keys.json` that `make serve` has written. Its settings:

LEDGER_DATA_DIR: where that file is. It has the service's address, as LEDGER_HOST and LEDGER_PORT made it.
LEDGER_PUBLIC_URL: the address at which browsers reach the service. The one argument is the page's address.
"""

import json
import os
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

keys_file = Path(os.environ.get("LEDGER_DATA_DIR", ".ledger")).expanduser() / "dev-keys.json"
page = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/"


def post(path: str, **form: str) -> dict[str, str]:
    """POST a form with the secret key."""
    headers = {"Authorization": f"Bearer {keys['secret']}"}
    request = Request(keys["url"] + path, urlencode(form).encode(), headers)  # noqa: S310
    with urlopen(request) as response:  # noqa: S310
        created: dict[str, str] = json.load(response)
        return created


try:
    keys = json.loads(keys_file.read_text())
    customer = post("/v1/customers", name="Jenny Rosen")
    form = {"customer": customer["id"], "components[pricing_table][enabled]": "true"}
    session = post("/v1/customer_sessions", **form)
except FileNotFoundError:
    sys.exit(f"there is no {keys_file}: run `make serve` first, or set LEDGER_DATA_DIR as it was for that")
except HTTPError as error:
    sys.exit(f"{error.url} answered {error.code}: {json.load(error)['error']['message']}")
except URLError as error:
    sys.exit(f"nothing answers at {keys['url']} ({error.reason}): run `make serve` first")

api = (os.environ.get("LEDGER_PUBLIC_URL") or keys["url"]).rstrip("/")
fragment = {"api": api, "publishable": keys["publishable"], "secret": session["client_secret"]}
print(f"{page}#{urlencode(fragment)}")
