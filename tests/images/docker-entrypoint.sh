#!/bin/sh
# Entry point of the test images: keeps the promises of Docker's official `postgres` and `redis` images that
# Provado relies on (variables, steps as root then as the server's user, PGDATA, arguments to the server).
set -eu

case "${1:-}" in
-*) set -- "$DEFAULT_SERVER" "$@" ;;
esac

become() { # run this script again as the server's own user
    user=$1
    shift
    exec setpriv --reuid="$user" --regid="$user" --clear-groups "$0" "$@"
}

if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . ! -user redis -exec chown redis '{}' +
    become redis "$@"
fi

if [ "$1" = postgres ]; then
    if [ "$(id -u)" = 0 ]; then
        mkdir -p "$PGDATA" /var/run/postgresql
        chown -R postgres "$PGDATA" /var/run/postgresql
        chmod 700 "$PGDATA"
        become postgres "$@"
    fi
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        user=${POSTGRES_USER:-postgres}
        method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
        if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$method" != trust ]; then
            echo "POSTGRES_PASSWORD is not set" >&2
            exit 1
        fi
        printf '%s\n' "${POSTGRES_PASSWORD:-}" >/tmp/password
        # shellcheck disable=SC2086 # the variable holds several words
        initdb --username="$user" --pwfile=/tmp/password -D "$PGDATA" --auth-local=trust ${POSTGRES_INITDB_ARGS:-}
        rm /tmp/password
        echo "host all all all $method" >>"$PGDATA/pg_hba.conf"
        echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
        database=${POSTGRES_DB:-$user}
        if [ "$database" != postgres ]; then
            echo "CREATE DATABASE \"$database\"" | postgres --single -D "$PGDATA" -j postgres >/dev/null
        fi
    fi
fi

exec "$@"
