#!/bin/sh
# Begins as root, makes the data the server's own, and goes on as the server's user. Whoever can reach it may use it, as long
# as nobody has said that there is a password.
set -eu
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . ! -user redis -exec chown redis '{}' +
    exec setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
fi
if [ "$1" = redis-server ]; then
    set -- "$@" --protected-mode no
fi
exec "$@"
