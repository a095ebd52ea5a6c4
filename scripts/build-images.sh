#!/usr/bin/env bash
# Builds the OCI images of omf and the filter for the architecture of this machine. Usage:
#     scripts/build-images.sh BUILDER SBOMS TARGET
# BUILDER is the program omniflow-oci, SBOMS the folder with the SBOMs, and TARGET Cargo's target folder. The image layouts are
# written to TARGET/images.
#
# All timestamps are the time of the commit. The images contain no paths of this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

builder=$(realpath "$1") sboms=$(realpath "$2")
mkdir -p "$3/images"
target=$(realpath "$3")
triple=$(uname -m)-unknown-linux-musl
cargo_home=$(realpath "${CARGO_HOME:-$HOME/.cargo}")
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
revision=$(git rev-parse HEAD)
[[ -z $(git status --porcelain) ]] || revision+=-modified
export SOURCE_DATE_EPOCH LC_ALL=C

# Messages of panics contain paths of source files.
prefixes=("$PWD=/omniflow" "$cargo_home=/cargo")
[[ $target == "$PWD"/* ]] || prefixes+=("$target=/omniflow/target")
export CARGO_ENCODED_RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$(printf '\x1f--remap-path-prefix=%s' "${prefixes[@]}")
CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS#$'\x1f'}
name=${triple//-/_}
export "CC_$name=musl-gcc" "CFLAGS_$name=${prefixes[*]/#/-ffile-prefix-map=}"

# With --target, these flags do not apply to build scripts and procedural macros, so Cargo reuses those of other builds.
cargo build --locked --release --target "$triple" --target-dir "$target" -p omf
# In a folder of its own, because `make wasm` builds the same file without these flags.
cargo build --locked --profile wasm --target wasm32-wasip1 --target-dir "$target/images/build" -p omniflow-filter

strip --strip-all -o "$target/images/build/omf" "$target/$triple/release/omf"
"$builder" build --omf "$target/images/build/omf" \
    --filter "$target/images/build/wasm32-wasip1/wasm/omniflow_filter.wasm" \
    --license LICENSE --sboms "$sboms" --revision "$revision" "$target/images"
"$builder" check --max-size 25600 "$3/images/omf"
"$builder" check --max-size 716 "$3/images/omniflow-filter"
