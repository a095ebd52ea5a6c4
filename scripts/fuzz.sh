#!/usr/bin/env bash
# Runs every fuzz target for SECONDS, one after the other, and prints executions and coverage of each.
# Usage: fuzz.sh SECONDS [TARGET...]. Crashes are written to tests/fuzz/artifacts/TARGET; the exit code is then 1.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=$1
shift
# If there is no nightly compiler, use the default compiler with nightly features enabled. It runs the same targets.
toolchain=+nightly
if ! rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    toolchain=
    export RUSTC_BOOTSTRAP=1
    echo 'No nightly compiler: fuzzing with the default compiler and RUSTC_BOOTSTRAP=1' >&2
fi
# Do not use a sanitizer: it would halve the speed, and the code is Rust without unsafe, and SQLite, which other projects fuzz.
# Everything after `--` goes to the target, so the options of cargo-fuzz come first.
fuzz() {
    local command=$1
    shift
    (cd tests/fuzz && cargo ${toolchain:+"$toolchain"} fuzz "$command" --fuzz-dir . --sanitizer none "$@")
}
fuzz build
mapfile -t targets < <(if (($#)); then printf '%s\n' "$@"; else cd tests/fuzz && cargo ${toolchain:+"$toolchain"} fuzz list --fuzz-dir .; fi)

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=()
printf '\n| target | seconds | executions | per second | coverage (edges) | corpus (inputs) |\n|---|---|---|---|---|---|\n' >"$logs/table"
for target in "${targets[@]}"; do
    mkdir -p "tests/fuzz/corpus/$target" "tests/fuzz/artifacts/$target"
    arguments=(-max_total_time="$seconds" -print_final_stats=1 -timeout=20 -rss_limit_mb=2048 -max_len=16384
        -artifact_prefix="artifacts/$target/")
    [[ -f tests/fuzz/dictionaries/$target.dict ]] && arguments+=(-dict="dictionaries/$target.dict")
    fuzz run "$target" "corpus/$target" "seeds/$target" -- "${arguments[@]}" >"$logs/$target" 2>&1 || failed+=("$target")
    tail -n 15 "$logs/$target"
    awk -v target="$target" -v seconds="$seconds" '
        / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "corp:") corpus = $(i + 1) } }
        /stat::number_of_executed_units/ { runs = $2 }
        /stat::average_exec_per_sec/ { pace = $2 }
        END { sub("/.*", "", corpus); printf "| `%s` | %d | %d | %d | %d | %d |\n", target, seconds, runs, pace, cov, corpus }
    ' "$logs/$target" >>"$logs/table"
done
cat "$logs/table"
if ((${#failed[@]})); then
    printf 'Targets with crashes, see tests/fuzz/artifacts: %s\n' "${failed[*]}" >&2
    exit 1
fi
