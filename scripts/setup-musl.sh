#!/usr/bin/env bash
# Sets up the build of static programs: adds the musl target of this processor to the Rust toolchain, and installs musl-gcc, which
# compiles SQLite, with apt-get if it is missing and the user has permission.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup-targets.sh "$(uname -m)-unknown-linux-musl"
if ! command -v musl-gcc >/dev/null; then
    as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
        echo 'Installing musl-tools with apt-get'
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            binutils musl-tools >/dev/null
    fi
fi
if ! command -v musl-gcc >/dev/null; then
    echo 'The images require musl-gcc: install it (on Debian and Ubuntu: musl-tools).' >&2
    exit 1
fi
