#!/usr/bin/env bash
# Runs the fault-injection tests and writes their results into the table of docs/operations/failures.md.
set -euo pipefail
cd "$(dirname "$0")/.."

rows=$(mktemp -d)
trap 'rm -rf "$rows"' EXIT
locked=()
[[ -n ${CI:-} ]] && locked=(--locked)
# Run the tests one at a time, so that no test disturbs the results of another.
for subject in disasters:: drained_before_it_ends; do
    OMF_FAULTS=$rows cargo test "${locked[@]}" --release -p omniflow-tests --test e2e -- --test-threads 1 \
        --skip every_fault_has_its_row "$subject"
done
python3 - "$rows" docs/operations/failures.md <<'PYTHON'
import pathlib, sys

rows, document = map(pathlib.Path, sys.argv[1:])
start, end = "<!-- faults: made by `make faults` -->\n", "<!-- end of faults -->\n"
head, rest = document.read_text().split(start)
_, tail = rest.split(end)
table = "| fault | calls with a valid key | revoked keys and limits | changes and records |\n|---|---|---|---|\n"
table += "".join(path.read_text() for path in sorted(rows.iterdir()))
document.write_text(head + start + table + end + tail)
PYTHON
