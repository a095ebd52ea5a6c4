#!/usr/bin/env bash
# Lists all missing tools at once, and how to install them.
set -euo pipefail

missing=0

need() {
    local what=$1 how=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        printf 'missing: %s\n         %s\n' "$what" "$how" >&2
        missing=1
    fi
}

need 'cargo (Rust)' 'install rustup (https://rustup.rs), then: rustup default stable' cargo --version
need 'Python 3 with venv and pip' 'install python3 and, on Debian and Ubuntu, python3-venv' \
    python3 -c 'import ensurepip, venv'
need 'Node.js' 'install nodejs: the core is also tested as WebAssembly under it' node --version
need 'npm' 'install npm: it brings what the browser tests drive Chromium with' npm --version
need 'openssl (the program)' 'install openssl: the tests compare argument hashes with those that it computes' openssl version
need 'a C compiler' 'install gcc or clang (on Debian and Ubuntu: build-essential): SQLite is built from source' \
    cc --version

exit "$missing"
