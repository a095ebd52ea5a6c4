#!/usr/bin/env bash
# Runs all tests, continues after failures, and prints a summary. The last line is "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/.."

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 summary=()

# The sum of all "test result:" lines of cargo's test runners.
count() {
    awk -v word="$1" '/test result:/ { for (i = 2; i <= NF; i++) if ($i ~ "^" word) sum += $(i - 1) }
        END { print sum + 0 }' "$2"
}

part() {
    local title=$1 log=$logs/log status=0 ok bad note=''
    shift
    printf '\n=== %s\n' "$title"
    "$@" </dev/null 2>&1 | tee "$log" || status=$?
    ok=$(count passed "$log")
    bad=$(count failed "$log")
    if ((status != 0 && bad == 0)); then
        bad=1 note=' (did not run to its end)'
    elif ((ok + bad == 0)); then
        bad=1 note=' (no test ran)'
    fi
    passed=$((passed + ok)) failed=$((failed + bad))
    summary+=("$(printf '%-52s %5d passed %4d failed%s' "$title" "$ok" "$bad" "$note")")
}

locked=()
if [[ -n ${CI:-} ]]; then
    locked=(--locked)
fi
cargo_test() {
    cargo test "${locked[@]}" --no-fail-fast "$@"
}

part 'policy' cargo_test -p omniflow-policy
part 'policy as WebAssembly under Node' \
    env CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER="$PWD/.tools/bin/wasm-bindgen-test-runner" \
    cargo test "${locked[@]}" --no-fail-fast -p omniflow-policy --target wasm32-unknown-unknown --lib
part 'filter' cargo_test -p omniflow-filter
# Run these tests with one command, so that shared dependencies are built once, with one set of features.
part 'control plane, harness and end to end' \
    cargo_test --workspace --exclude omniflow-policy --exclude omniflow-filter \
    --exclude omniflow-empty-filter --exclude omniflow-probe-filter
part 'pages in a browser' node tests/browser/run.mjs

printf '\n'
printf '%s\n' "${summary[@]}"
printf '\n%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
