#!/bin/sh
# Whoever can reach it may use it, as long as nobody has said that there is a password.
set -eu
if [ "$1" = redis-server ]; then
    set -- "$@" --protected-mode no
fi
exec "$@"
