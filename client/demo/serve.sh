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

# A path as one word of --encoder, whatever it is called: in '...', a ' of its own as '\''.
word() {
    printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"
}

encoder="$(word "$build/ascribe-lm") serve --model $(word "$demo/model.ckpt")"
encoder="$encoder --like $(word "$demo/batches/corpus.json")"
exec "$build/ascribed" --store "$demo/store" --listen "${DEMO_LISTEN:-127.0.0.1:7171}" --memory 4G \
    --encoder "$encoder"
