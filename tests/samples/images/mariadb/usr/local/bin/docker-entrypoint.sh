#!/bin/sh
# Makes a database the first time: MARIADB_ROOT_PASSWORD, MARIADB_DATABASE, MARIADB_USER, MARIADB_PASSWORD, and *.sql of a
# folder.
set -eu
if [ "$1" = mariadbd ] && [ ! -d "$MARIADB_DATA/mysql" ]; then
    mariadb-install-db --datadir="$MARIADB_DATA" --auth-root-authentication-method=normal --skip-test-db
    mariadbd --skip-networking &
    server=$!
    until mariadb -uroot -e 'SELECT 1' >/dev/null 2>&1; do
        kill -0 "$server"
        sleep 0.1
    done
    mariadb -uroot <<SQL
CREATE DATABASE \`$MARIADB_DATABASE\`;
CREATE USER '$MARIADB_USER'@'%' IDENTIFIED BY '$MARIADB_PASSWORD';
GRANT ALL ON \`$MARIADB_DATABASE\`.* TO '$MARIADB_USER'@'%';
SQL
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -f "$file" ] || mariadb -uroot "$MARIADB_DATABASE" <"$file"
    done
    mariadb -uroot -e "ALTER USER root@localhost IDENTIFIED BY '${MARIADB_ROOT_PASSWORD:?is not set}'"
    kill "$server"
    wait "$server"
    echo "the database has been made"
fi
exec "$@"
