#!/bin/sh
# serve.sh BUILD - serves the store that the demo made, until Ctrl-C. DEMO_LISTEN changes the address.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/release}
store=build/demo/store
[ -d "$store" ] || {
    echo "there is no $store yet: run make demo first" >&2
    exit 1
}
echo "key: \$(cat $store/admin.key); try: $build/ascribe --store $store corpus list"
exec "$build/ascribed" --store "$store" --listen "${DEMO_LISTEN:-127.0.0.1:7171}" --memory 4G
