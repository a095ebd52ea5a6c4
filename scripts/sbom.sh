#!/usr/bin/env bash
# Writes the software bills of materials of omf and the filter, as CycloneDX JSON. Usage:
#     scripts/sbom.sh FOLDER [TARGET]
# FOLDER receives the files. TARGET is the Rust target of omf, by default that of this machine. The files do not depend on the time
# or on the folder of the repository.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$1
mkdir -p "$folder"

# The tool writes a file next to the manifest of every workspace member. Delete the files that are not needed.
remove() {
    find . -path ./target -prune -o -path ./.tools -prune -o -name 'omniflow-sbom.json' -exec rm -f {} +
}
trap remove EXIT

write() {
    local target=$1 from=$2 to=$3
    cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$target" --override-filename omniflow-sbom
    python3 - "$from/omniflow-sbom.json" "$folder/$to" "$PWD" <<'PYTHON'
import json, pathlib, sys

source, target, root = sys.argv[1:]
bom = json.loads(pathlib.Path(source).read_text().replace(root, "/omniflow"))
del bom["serialNumber"], bom["metadata"]["timestamp"]
pathlib.Path(target).write_text(json.dumps(bom, indent=2) + "\n")
PYTHON
    printf '%s: %s components\n' "$folder/$to" "$(grep -c '"purl"' "$folder/$to")"
}

host=$(rustc -vV | awk '/^host:/ { print $2 }')
write "${2:-$host}" control-plane/omf omf.cdx.json
write wasm32-wasip1 . omniflow-filter.cdx.json
