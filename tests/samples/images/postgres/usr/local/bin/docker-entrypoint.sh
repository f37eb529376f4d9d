#!/bin/sh
# Makes a database the first time: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, and *.sql of a folder.
set -eu
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
    echo "${POSTGRES_PASSWORD:?is not set}" >/tmp/password
    initdb --username="$user" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 \
        --locale=C.UTF-8
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --options="-c listen_addresses=''" start
    [ "$database" = postgres ] || createdb --username="$user" "$database"
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -f "$file" ] || psql -qX -v ON_ERROR_STOP=1 --username="$user" --dbname="$database" --file="$file"
    done
    pg_ctl --wait --mode=fast stop
    echo "the database has been made"
fi
exec "$@"
