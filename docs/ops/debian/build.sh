#!/bin/sh
# build.sh BUILD VERSION OUT - makes OUT/ascribe_VERSION_ARCH.deb of what is built in BUILD: programs,
# library, header, manual pages, completion, the service and the samples. Needs dpkg-dev, no root.
# The same tree gives the same bytes (SOURCE_DATE_EPOCH, else the time of the last commit).
set -eu
build=$1 version=$2 out=$3
here=$(dirname "$0")
top=$(cd "$here/../../.." && pwd)
arch=$(dpkg-architecture -qDEB_HOST_ARCH)
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022

cd "$top"
make --no-print-directory -s BUILD="$build" DESTDIR="$root" PREFIX=/usr LIBDIR="/usr/lib/$multiarch" \
    ZSHDIR=/usr/share/zsh/vendor-completions install-files
for f in "$root"/usr/bin/* "$root/usr/lib/$multiarch"/libascribe.so.1; do
    strip --strip-unneeded "$f"
done
strip --strip-debug "$root/usr/lib/$multiarch/libascribe.a"
gzip -9n "$root"/usr/share/man/man*/*

doc=$root/usr/share/doc/ascribe
install -D -m644 docs/ops/systemd/ascribed.service "$root/lib/systemd/system/ascribed.service"
install -D -m644 docs/ops/systemd/ascribed.conf "$root/etc/ascribe/ascribed.conf"
install -d "$doc/examples"
cp -r docs/ops/nginx docs/ops/grafana docs/ops/prometheus docs/ops/slurm "$doc/examples/"
chmod -R u=rwX,go=rX "$doc"
install -m644 docs/ops/README.md docs/cli.md docs/protocol.md "$doc/"
cat LICENSE /usr/share/doc/node-d3/copyright >"$doc/copyright" # d3 is embedded in ascribed
chmod 644 "$doc/copyright"
printf 'ascribe (%s) stable; urgency=medium\n\n  * Built from the sources of this version.\n\n -- ascribe <ascribe@localhost>  %s\n' \
    "$version" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"

# What the programs link says which packages they need.
mkdir -p "$work/debian"
printf 'Source: ascribe\nPackage: ascribe\nArchitecture: any\n' >"$work/debian/control"
(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info -lroot/usr/lib/"$multiarch" root/usr/bin/* \
    root/usr/lib/"$multiarch"/libascribe.so.1 >shlibs 2>shlibs.log) || {
    cat "$work/shlibs.log" >&2
    exit 1
}
depends=$(sed -n 's/^shlibs:Depends=//p' "$work/shlibs")

install -d "$root/DEBIAN"
install -m755 "$here/postinst" "$here/prerm" "$here/postrm" "$root/DEBIAN/"
echo /etc/ascribe/ascribed.conf >"$root/DEBIAN/conffiles"
echo "activate-noawait ldconfig" >"$root/DEBIAN/triggers"
cat >"$root/DEBIAN/control" <<CONTROL
Package: ascribe
Version: $version
Architecture: $arch
Maintainer: ascribe <ascribe@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: $depends, adduser
Suggests: nginx, prometheus
Section: database
Priority: optional
Description: database server for training-data attribution
 ascribe answers one question, exactly: which training examples made the
 model say that? It keeps one encoding for each training example, takes the
 gradient of a model's output, and returns the most influential examples.
 .
 This package has the server ascribed with its service, the client ascribe,
 the reference language model ascribe-lm, and the C library libascribe.
CONTROL
(cd "$root" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0 -r touch --no-dereference --date="@$SOURCE_DATE_EPOCH"
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/ascribe_${version}_$arch.deb" >/dev/null
echo "$out/ascribe_${version}_$arch.deb"
