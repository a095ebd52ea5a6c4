#!/usr/bin/env bash
# Ends an Envoy with the Omniflow filter so that every call has its record: drains its listeners, waits until no request is
# open, no record is on its way and the control plane knows so, then asks it to quit. Needs bash, awk, cat and sleep.
#
# usage: drain-envoy.sh [HOST:PORT of the admin interface] [the most seconds to wait]
set -euo pipefail

admin=${1:-127.0.0.1:9901} limit=${2:-60}

# Before anything is touched: half a drain would leave an Envoy that serves nobody.
if [[ ! $admin =~ ^[^:/]+:[0-9]+$ || ! $limit =~ ^[1-9][0-9]{0,4}$ ]]; then
    printf 'usage: %s [HOST:PORT of the admin interface, 127.0.0.1:9901] [the most seconds to wait, 60]\n' "$0" >&2
    exit 2
fi
if ! (exec 3<>"/dev/tcp/${admin%:*}/${admin##*:}") 2>/dev/null; then
    printf 'there is no admin interface of an Envoy at %s\n' "$admin" >&2
    exit 1
fi

ask() {
    exec 3<>"/dev/tcp/${admin%:*}/${admin##*:}"
    printf '%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "$1" "$2" "$admin" >&3
    cat <&3
    exec 3<&-
}

# What is not done yet: open requests (those of the admin interface do not count), records, and the word that these were
# all: without it the control plane would take the end of this Envoy for a loss.
open() {
    ask GET '/stats?filter=omniflow_audit_records_waiting|omniflow_audit_not_quiescent|downstream_rq_active' |
        awk -F ': ' '/^http\.admin\./ { next }
            /rq_active|records_waiting|audit_not_quiescent/ { sum += $2 } END { print sum + 0 }'
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
    printf 'after %s seconds %s requests and records were still under way; Envoy was asked to quit all the same\n' \
        "$limit" "$left" >&2
    exit 1
fi
