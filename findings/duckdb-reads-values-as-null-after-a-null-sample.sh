#!/usr/bin/env bash
# DuckDB 2.0.1 reads every value of a JSON member as null, without an error, if the member was null in the sampled rows.
#
# read_json finds the types of columns in a sample, by default the first 20,480 rows. A member that is null in all of
# them gets the type "NULL", and values that come later are then dropped: count() is 0, a filter by the value finds
# nothing, and a table made from the file has nulls. Before 2.0 such a column had the type JSON and kept its values.
# Exports of payment objects are in the order of creation and look just like this: `customer`, `failure_code` or
# `dispute` are null until the first object that has one. A member that is *missing* in the sample does raise an error.
# What helps: sample_size = -1 (the whole file is read first), or types given by `columns`.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder. No server is reached.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
for version in 2.0.1 1.5.6; do
    python3 -m venv "env-$version"
    "env-$version/bin/python" -m pip install --quiet --disable-pip-version-check "duckdb==$version"
done

cat > run.py <<'EOF'
import json
import sys

import duckdb

with open("charges.ndjson", "w") as file:
    for number in range(30_000):
        file.write(json.dumps({"id": f"ch_{number}", "amount": 2000, "customer": None}) + "\n")
    file.write(json.dumps({"id": "ch_30000", "amount": 2000, "customer": "cus_1"}) + "\n")


def ask(options: str) -> tuple[str, int]:
    """The type of `customer`, and how many rows have one."""
    question = f"SELECT any_value(typeof(customer)), count(customer) FROM read_json('charges.ndjson'{options})"
    return duckdb.sql(question).fetchall()[0]


by_default, whole, given = ask(""), ask(", sample_size=-1"), ask(
    ", columns={id: 'VARCHAR', amount: 'BIGINT', customer: 'VARCHAR'}"
)
print(f"DuckDB {duckdb.__version__}: one customer is in the file")
print("  by default:     type {}, {} found".format(*by_default))
print("  sample_size=-1: type {}, {} found".format(*whole))
print("  columns given:  type {}, {} found".format(*given))
expected = ('"NULL"', 0) if duckdb.__version__.startswith("2.") else ("JSON", 1)
sys.exit(0 if (by_default, whole, given) == (expected, ("VARCHAR", 1), ("VARCHAR", 1)) else 1)
EOF

for version in 1.5.6 2.0.1; do
    "env-$version/bin/python" run.py || { echo "Changed: DuckDB $version behaves otherwise"; exit 1; }
done
echo "As described: 1.5.6 finds the customer, 2.0.1 does not."

# Output seen:
#   DuckDB 1.5.6: one customer is in the file
#     by default:     type JSON, 1 found
#     sample_size=-1: type VARCHAR, 1 found
#     columns given:  type VARCHAR, 1 found
#   DuckDB 2.0.1: one customer is in the file
#     by default:     type "NULL", 0 found
#     sample_size=-1: type VARCHAR, 1 found
#     columns given:  type VARCHAR, 1 found
#   As described: 1.5.6 finds the customer, 2.0.1 does not.
