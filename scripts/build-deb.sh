#!/usr/bin/env bash
# Builds the Debian package omniflow-keys for the processor of this machine:
#     scripts/build-deb.sh OMF FILTER SBOMS FOLDER
# from the program omf, the filter, and the folder of their SBOMs, into FOLDER. Prints the path of the package.
#
# The same input gives the same package, byte for byte: all times are SOURCE_DATE_EPOCH, by default the time of the last commit.
# DEBFULLNAME and DEBEMAIL set the maintainer of the package, by default the committer of the last commit. DPKG_DEB_COMPRESSOR_TYPE and DPKG_DEB_COMPRESSOR_LEVEL are those of
# dpkg-deb.
set -euo pipefail
cd "$(dirname "$0")/.."

omf=$(realpath "$1") filter=$(realpath "$2") sboms=$(realpath "$3") folder=$4
umask 022
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} LC_ALL=C
version=$("$omf" --version)
version=${version#omf }-1
architecture=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-Omniflow Keys} <${DEBEMAIL:-$(git log -1 --format=%ce)}>"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
doc=$tree/usr/share/doc/omniflow-keys

# put MODE FILE TARGET: a file of the package.
put() {
    install -D -m "$1" "$2" "$tree/$3"
}

put 0755 "$omf" usr/bin/omf
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$tree/usr/bin/omf"
put 0644 "$filter" usr/lib/omniflow/omniflow_filter.wasm
put 0644 deploy/systemd/omf.service usr/lib/systemd/system/omf.service
put 0644 deploy/systemd/sysusers.conf usr/lib/sysusers.d/omniflow-keys.conf
put 0644 deploy/systemd/tmpfiles.conf usr/lib/tmpfiles.d/omniflow-keys.conf
put 0644 deploy/debian/omf.toml etc/omniflow/omf.toml

put 0644 deploy/debian/copyright usr/share/doc/omniflow-keys/copyright
put 0644 deploy/debian/README.Debian usr/share/doc/omniflow-keys/README.Debian
put 0644 envoy/operator.yaml usr/share/doc/omniflow-keys/examples/envoy.yaml
put 0644 CHANGELOG.md usr/share/doc/omniflow-keys/changelog
for name in omf omniflow-filter; do
    put 0644 "$sboms/$name.cdx.json" "usr/share/doc/omniflow-keys/$name.cdx.json"
done
cat >"$doc/changelog.Debian" <<CHANGELOG
omniflow-keys ($version) unstable; urgency=medium

  * Release ${version%-*}: see changelog.gz.

 -- $maintainer  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
CHANGELOG

"$omf" man "$tree/usr/share/man/man1" 2>/dev/null
gzip -9 --no-name "$doc/changelog" "$doc/changelog.Debian" "$doc"/*.cdx.json "$tree"/usr/share/man/man1/*
for completion in bash:usr/share/bash-completion/completions/omf zsh:usr/share/zsh/vendor-completions/_omf \
    fish:usr/share/fish/vendor_completions.d/omf.fish; do
    "$omf" completions "${completion%%:*}" >"$work/completion"
    put 0644 "$work/completion" "${completion#*:}"
done

# The libraries that the program needs, with the oldest versions that have the symbols that it uses.
mkdir "$work/debian"
printf 'Source: omniflow-keys\n\nPackage: omniflow-keys\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O -e"$tree/usr/bin/omf" 2>"$work/shlibdeps") || {
    cat "$work/shlibdeps" >&2
    exit 1
}

# In KiB, as dpkg-gencontrol counts: whole KiB for a file, 1 for a directory.
installed_size=$(find "$tree" -printf '%y %s\n' | awk '{ sum += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print sum }')

mkdir "$tree/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@MAINTAINER@/$maintainer/" \
    -e "s/@DEPENDS@/${depends#shlibs:Depends=}/" \
    -e "s/@INSTALLED_SIZE@/$installed_size/" \
    deploy/debian/control >"$tree/DEBIAN/control"
install -m 0755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$tree/DEBIAN"
install -m 0644 deploy/debian/conffiles "$tree/DEBIAN"
(cd "$tree" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) \
    >"$work/md5sums"
install -m 0644 "$work/md5sums" "$tree/DEBIAN/md5sums"

find "$tree" -type d -exec chmod 0755 {} +
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$folder"
dpkg-deb --root-owner-group --build "$tree" "$folder/omniflow-keys_${version}_$architecture.deb" >/dev/null
printf '%s\n' "$folder/omniflow-keys_${version}_$architecture.deb"
