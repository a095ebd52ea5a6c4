#!/usr/bin/env bash
# Writes the bills of materials of omf and of the filter, in CycloneDX JSON, into the folder that is given.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$1
mkdir -p "$folder"

# The tool writes a file beside the manifest of every member of the workspace. Those that are not asked for go again.
remove() {
    find . -path ./target -prune -o -path ./.tools -prune -o -name 'omniflow-sbom.json' -exec rm -f {} +
}
trap remove EXIT

write() {
    local target=$1 from=$2 to=$3
    cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$target" --override-filename omniflow-sbom
    mv "$from/omniflow-sbom.json" "$folder/$to"
    printf '%s: %s components\n' "$folder/$to" "$(grep -c '"purl"' "$folder/$to")"
}

host=$(rustc -vV | awk '/^host:/ { print $2 }')
write "$host" control-plane/omf omf.cdx.json
write wasm32-wasip1 . omniflow-filter.cdx.json
