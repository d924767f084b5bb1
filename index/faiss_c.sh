#!/bin/sh
# faiss_c.sh OUT - makes the FAISS C API available as OUT (libfaiss_c.a).
#
# Debian 13 and later ship libfaiss_c.a: it is linked in place. Debian 12 ships the C API's headers
# without its code; then the few c_api/*.cpp files are compiled from the distribution's own source
# package of the installed version. No C++ enters our tree.
set -eu
out=$1
dir=$(dirname "$out")
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

for lib in /usr/lib/*/libfaiss_c.a /usr/lib/libfaiss_c.a; do
    if [ -e "$lib" ]; then
        ln -sf "$lib" "$out"
        exit 0
    fi
done

version=$(dpkg-query -W -f='${source:Version}' libfaiss-dev)
echo "libfaiss_c.a: building from the source package faiss $version"
work=$dir/src
rm -rf "$work"
mkdir -p "$work/parts" "$work/lists/partial"

# A private list: this machine's own apt sources, asked for source packages.
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$f" ] && sed -n 's/^deb /deb-src /p' "$f" >"$work/parts/$(basename "$f" .list).list"
done
for f in /etc/apt/sources.list.d/*.sources; do
    [ -f "$f" ] && sed 's/^Types:.*/Types: deb-src/' "$f" >"$work/parts/$(basename "$f")"
done
apt_get() {
    apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null \
        -o Dir::Etc::sourceparts="$work/parts" -o Dir::State::lists="$work/lists" "$@"
}
apt_get update
(cd "$work" && apt_get source --download-only "faiss=$version" && dpkg-source --no-check -x ./*.dsc tree >/dev/null)

# Only the wrappers; the library itself is the distribution's.
cd "$work/tree/c_api"
find . -name '*.cpp' | sed 's|^\./||' | grep -v gpu | xargs -P 2 -I{} sh -c \
    'g++ -std=c++11 -O2 -fPIC -fopenmp -I.. -I. -c "$1" -o "'"$work"'/$(echo "$1" | tr / _).o"' _ {}
cd "$work"
rm -f "$dir/libfaiss_c.a.part"
ar rcs "$dir/libfaiss_c.a.part" ./*.o
mv "$dir/libfaiss_c.a.part" "$dir/$(basename "$out")"
rm -rf "$work"
