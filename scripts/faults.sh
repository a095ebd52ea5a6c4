#!/usr/bin/env bash
# Runs the tests that break things, and puts what clients saw into the table of docs/OPERATIONS.md.
set -euo pipefail
cd "$(dirname "$0")/.."

rows=$(mktemp -d)
trap 'rm -rf "$rows"' EXIT
locked=()
[[ -n ${CI:-} ]] && locked=(--locked)
# One at a time: what clients saw is to be the fault's doing, not the neighbour's.
for subject in disasters:: drained_before_it_ends; do
    OMF_FAULTS=$rows cargo test "${locked[@]}" --release -p omniflow-tests --test e2e -- --test-threads 1 \
        --skip every_fault_has_its_row "$subject"
done
python3 - "$rows" docs/OPERATIONS.md <<'PYTHON'
import pathlib, sys

rows, document = map(pathlib.Path, sys.argv[1:])
start, end = "<!-- faults: made by `make faults` -->\n", "<!-- end of faults -->\n"
head, rest = document.read_text().split(start)
_, tail = rest.split(end)
table = "| fault | clients with a good key | revoked keys, and limits | writes and records |\n|---|---|---|---|\n"
table += "".join(path.read_text() for path in sorted(rows.iterdir()))
document.write_text(head + start + table + end + tail)
PYTHON
