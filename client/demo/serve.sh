#!/bin/sh
# serve.sh BUILD - serves the store that the demo made, until Ctrl-C, with the demo's model as its
# encoder: so the page can be asked in words. DEMO_LISTEN changes the address, DEMO_DIR the folder.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/release}
demo=${DEMO_DIR:-build/demo}
[ -d "$demo/store" ] || {
    echo "there is no $demo/store yet: run make demo first" >&2
    exit 1
}
encoder="$build/ascribe-lm serve --model $demo/model.ckpt --like $demo/batches/corpus.json"
exec "$build/ascribed" --store "$demo/store" --listen "${DEMO_LISTEN:-127.0.0.1:7171}" --memory 4G \
    --encoder "$encoder"
