"""Reads a dashboard (the argument) into Grafana's own model, and prints as JSON what that understood."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

plugins.register_default_plugins()
print(JSONEncoder().encode(Dashboard.from_json(json.loads(Path(sys.argv[1]).read_text()))))
