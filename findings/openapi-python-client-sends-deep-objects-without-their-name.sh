#!/usr/bin/env bash
# openapi-python-client 0.29.1 sends a query parameter of the style deepObject without the parameter's name.
#
# OpenAPI's style deepObject is how APIs in the manner of Stripe filter by a range: `created` with the member `gt` is
# `created[gt]=1795000000`. The generated client takes such a parameter as a typed model, and sends `gt=1795000000`. Of two
# such filters with the same member, only the last one's is sent. There is no warning when the client is generated. A server
# that ignores unknown parameters then answers with everything, unfiltered.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder. Only a server on 127.0.0.1 is reached.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check \
    openapi-python-client==0.29.1 httpx==0.28.1 attrs python-dateutil

cat > openapi.json <<'EOF'
{"openapi": "3.1.0", "info": {"title": "shop", "version": "1"}, "paths": {"/v1/charges": {"get": {
  "operationId": "list_charges",
  "parameters": [
    {"name": "created", "in": "query", "style": "deepObject", "explode": true,
     "schema": {"$ref": "#/components/schemas/Bounds"}},
    {"name": "captured", "in": "query", "style": "deepObject", "explode": true,
     "schema": {"$ref": "#/components/schemas/Bounds"}}],
  "responses": {"204": {"description": "none"}}}}},
 "components": {"schemas": {"Bounds": {"type": "object", "additionalProperties": false,
   "properties": {"gt": {"type": "integer"}, "lt": {"type": "integer"}}}}}}
EOF
echo "post_hooks: []" > config.yaml
env/bin/openapi-python-client generate --path openapi.json --meta none --output-path shop_client --config config.yaml

cat > run.py <<'EOF'
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

from shop_client import Client
from shop_client.api.default import list_charges
from shop_client.models.bounds import Bounds

asked = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = Client(base_url=f"http://127.0.0.1:{server.server_port}")
list_charges.sync_detailed(client=client, created=Bounds(gt=1795000000))
list_charges.sync_detailed(client=client, created=Bounds(gt=1795000000), captured=Bounds(gt=1796000000))
server.shutdown()
print("openapi-python-client", version("openapi-python-client"))
print("created after 1795000000:                                ", asked[0])
print("created after 1795000000 and captured after 1796000000:  ", asked[1])
as_described = asked == ["/v1/charges?gt=1795000000", "/v1/charges?gt=1796000000"]
print("As described: the parameter's name is not sent." if as_described else "Changed.")
raise SystemExit(0 if as_described else 1)
EOF
env/bin/python run.py

# Output seen:
#   Generating shop_client
#   openapi-python-client 0.29.1
#   created after 1795000000:                                 /v1/charges?gt=1795000000
#   created after 1795000000 and captured after 1796000000:   /v1/charges?gt=1796000000
#   As described: the parameter's name is not sent.
