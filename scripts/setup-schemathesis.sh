#!/usr/bin/env bash
# Installs the pinned Schemathesis into .tools, in a separate virtual environment.
set -euo pipefail
cd "$(dirname "$0")/.."

echo 'Installing Schemathesis into .tools'
python3 -m venv --clear .tools/schemathesis
.tools/schemathesis/bin/python -m pip install --quiet --disable-pip-version-check \
    --require-hashes --only-binary :all: --requirement scripts/requirements-test.txt

# Do not use the schemathesis command: it is a script with absolute paths, so the environment could not be moved.
.tools/schemathesis/bin/python -m schemathesis.cli --version
