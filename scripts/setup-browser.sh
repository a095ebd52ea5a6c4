#!/usr/bin/env bash
# Sets up the browser tests: uses an installed Chromium, or installs Debian's if the user has permission, and installs the
# packages of tests/browser from their lock file.
set -euo pipefail
cd "$(dirname "$0")/.."

find_chromium() {
    local name
    for name in "${OMF_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        if [[ -n $name ]] && command -v "$name" >/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

if ! find_chromium >/dev/null; then
    as_root=()
    if ((EUID != 0)); then
        as_root=(sudo -n)
    fi
    if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
        echo 'Installing Chromium with apt-get'
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            chromium fonts-liberation >/dev/null
    fi
fi
if ! find_chromium >/dev/null; then
    echo 'The browser tests require Chromium: install it, or set OMF_CHROMIUM=/path/to/chromium.' >&2
    exit 1
fi
npm ci --prefix tests/browser --no-progress --loglevel=error
