#!/usr/bin/env bash
# Adds the two WebAssembly targets to the Rust toolchain in use, if they are missing.
set -euo pipefail

sysroot=$(rustc --print sysroot)
for target in wasm32-wasip1 wasm32-unknown-unknown; do
    if [[ -d $sysroot/lib/rustlib/$target/lib ]]; then
        continue
    fi
    if ! command -v rustup >/dev/null; then
        echo "missing: the Rust target $target, and rustup to add it" >&2
        exit 1
    fi
    rustup target add "$target"
done
