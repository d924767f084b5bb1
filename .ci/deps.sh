#!/bin/sh
# deps.sh [PACKAGE...] - installs the Debian packages that are missing, and says nothing when none is:
# what building and testing need, and any that are named (`make eval` draws with gnuplot-nox).
set -eu
packages="build-essential pkg-config liblmdb-dev libzstd-dev libxxhash-dev libopenblas-dev
  libfaiss-dev libuv1-dev node-llhttp libjansson-dev libinih-dev libsodium-dev libsqlite3-dev
  libcurl4-openssl-dev libcmocka-dev clang strace curl python3 python3-numpy wordnet-base ca-certificates
  node-d3 mandoc zsh python3-jsonschema openapi-specification chromium faketime $*"
# Node from elsewhere brings its npm along, and the distribution's would throw it out.
command -v node >/dev/null && command -v npm >/dev/null || packages="$packages nodejs npm"
missing=""
for p in $packages; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing packages, run as root or install:$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words on purpose
apt-get install -y -qq --no-install-recommends $missing >/dev/null
