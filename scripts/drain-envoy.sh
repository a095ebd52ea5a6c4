#!/usr/bin/env bash
# Stops an Envoy with the Omniflow filter without losing audit records. The script drains the listeners, waits until no
# request is in progress and the control plane has acknowledged all records, and then stops Envoy. It requires bash, awk,
# cat and sleep.
#
# usage: drain-envoy.sh [ADMIN_HOST:PORT] [TIMEOUT_SECONDS]
set -euo pipefail

admin=${1:-127.0.0.1:9901} limit=${2:-60}

# Check the arguments first: an incomplete drain would leave an Envoy that accepts no connections.
if [[ ! $admin =~ ^[^:/]+:[0-9]+$ || ! $limit =~ ^[1-9][0-9]{0,4}$ ]]; then
    printf 'usage: %s [ADMIN_HOST:PORT, default 127.0.0.1:9901] [TIMEOUT_SECONDS, default 60]\n' "$0" >&2
    exit 2
fi
if ! (exec 3<>"/dev/tcp/${admin%:*}/${admin##*:}") 2>/dev/null; then
    printf 'no Envoy admin interface is reachable at %s\n' "$admin" >&2
    exit 1
fi

ask() {
    exec 3<>"/dev/tcp/${admin%:*}/${admin##*:}"
    printf '%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "$1" "$2" "$admin" >&3
    cat <&3
    exec 3<&-
}

# The sum of requests in progress (except those of the admin interface), waiting records, and the gauge for quiescence. Without the
# acknowledgement of quiescence, the control plane would report a gap when this Envoy ends.
open() {
    ask GET '/stats?filter=omniflow_audit_records_waiting|omniflow_audit_not_quiescent|downstream_rq_active' |
        awk -F ': ' '/^http\.admin\./ { next }
            /rq_active|records_waiting|audit_not_quiescent/ { sum += $2 } END { print sum + 0 }'
}

ask POST '/drain_listeners?graceful' >/dev/null

# The gauges are updated ten times a second, so three reads in a row include records that arrived just before the first.
deadline=$((SECONDS + limit)) quiet=0 left=0
while ((quiet < 3)); do
    left=$(open)
    if ((left == 0)); then quiet=$((quiet + 1)); else quiet=0; fi
    if ((SECONDS >= deadline)); then break; fi
    sleep 0.5
done

ask POST /quitquitquit >/dev/null
if ((quiet < 3)); then
    printf 'after %s seconds, %s requests and records were still pending; Envoy was stopped anyway\n' \
        "$limit" "$left" >&2
    exit 1
fi
