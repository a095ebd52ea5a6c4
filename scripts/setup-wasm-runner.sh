#!/usr/bin/env bash
# Installs the runner of wasm-bindgen tests into .tools/bin. Its version must match the library exactly.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$1
echo "Building wasm-bindgen-test-runner $version into .tools (a minute or two)"

# The runner runs only for seconds, so a fast build matters more than a fast program.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0
export CARGO_TARGET_DIR=$PWD/.tools/build

install() {
    # Without its default features, the runner cannot fetch browser drivers, which tests under Node do not need.
    cargo install wasm-bindgen-cli --version "$version" --bin wasm-bindgen-test-runner \
        --no-default-features --root .tools --force --quiet "$@"
}

# If the first attempt fails, try again without the lock file: it may contain a crate version that was yanked, or that a
# mirror does not have yet. Any other failure occurs again in the second attempt.
install --locked 2>/dev/null || install
rm -rf .tools/build
