#!/usr/bin/env bash
# Checks licenses, sources and bans of all dependencies, and known vulnerabilities if their database is reachable.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny --log-level error check bans licenses sources

output=$(mktemp)
trap 'rm -f "$output"' EXIT
if cargo deny --log-level error check advisories >"$output" 2>&1; then
    cat "$output"
    exit 0
fi
# Matches the messages for an unreachable database, not those about its content.
if grep -qiE 'failed to (fetch|load|clone|acquire|open).*advisor|advisory database.*(fetch|clone)|failed to fetch' "$output"; then
    cat >&2 <<'END'
Known vulnerabilities were not checked: the advisory database is not reachable
(https://github.com/RustSec/advisory-db). Run make deny on a machine with access, or clone the database to
~/.cargo/advisory-dbs and run cargo deny check --disable-fetch.
END
    # On CI, a skipped check is a failure.
    [ -z "${CI:-}" ]
    exit
fi
cat "$output" >&2
exit 1
