#!/usr/bin/env bash
# Adds the given targets to the active Rust toolchain if they are missing. Default: the two WebAssembly targets.
set -euo pipefail

(($# > 0)) || set -- wasm32-wasip1 wasm32-unknown-unknown
sysroot=$(rustc --print sysroot)
for target in "$@"; do
    if [[ -d $sysroot/lib/rustlib/$target/lib ]]; then
        continue
    fi
    if ! command -v rustup >/dev/null; then
        echo "missing: the Rust target $target, and rustup to add it" >&2
        exit 1
    fi
    rustup target add "$target"
done
