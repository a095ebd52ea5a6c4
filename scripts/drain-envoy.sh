#!/usr/bin/env bash
# Ends an Envoy with the Omniflow filter so that every call has its record: drains its listeners, waits until no request is
# open and no record is on its way, then asks it to quit. Needs nothing but bash and awk.
#
# usage: drain-envoy.sh [HOST:PORT of the admin interface] [the most seconds to wait]
set -euo pipefail

admin=${1:-127.0.0.1:9901} limit=${2:-60}

ask() {
    exec 3<>"/dev/tcp/${admin%:*}/${admin##*:}"
    printf '%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "$1" "$2" "$admin" >&3
    cat <&3
    exec 3<&-
}

# What is not done yet: open requests (those of the admin interface do not count) and records.
open() {
    ask GET '/stats?filter=omniflow_audit_records_waiting|downstream_rq_active' |
        awk -F ': ' '/^http\.admin\./ { next } /rq_active|records_waiting/ { sum += $2 } END { print sum + 0 }'
}

ask POST '/drain_listeners?graceful' >/dev/null

# The gauge is set ten times a second: three looks in a row see what came right before the first.
deadline=$((SECONDS + limit)) quiet=0 left=0
while ((quiet < 3)); do
    left=$(open)
    if ((left == 0)); then quiet=$((quiet + 1)); else quiet=0; fi
    if ((SECONDS >= deadline)); then break; fi
    sleep 0.5
done

ask POST /quitquitquit >/dev/null
if ((quiet < 3)); then
    printf 'after %s seconds %s requests and records were still under way\n' "$limit" "$left" >&2
    exit 1
fi
