#!/bin/sh
# demo.sh BUILD - the main job on real input: prepare a corpus, train a language model on it, encode
# every passage's gradient, ingest over HTTP, fit, ask which passages made the model say what it says.
#
# Everything lies in build/demo and is reused by the next run, but the store, which is made anew.
# DEMO_PASSAGES (20000) and DEMO_MINUTES (3.5, of training at most) change the size.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/release}
demo=build/demo
passages=${DEMO_PASSAGES:-20000}
minutes=${DEMO_MINUTES:-3.5}
corpus=$demo/corpus-$passages.jsonl
model=$demo/model-$passages.ckpt
batches=$demo/batches-$passages
mkdir -p "$demo"

step() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}

step "1  $passages real passages, from WordNet"
[ -s "$corpus" ] || /usr/bin/python3 client/demo/wordnet.py --count "$passages" --out "$corpus"
[ -s "$corpus" ] && sed -n '7001p' "$corpus"

step "2  a small transformer learns them (at most $minutes minutes)"
if [ -s "$model" ]; then
    echo "trained before: $model"
else
    "$build/ascribe-lm" train --data "$corpus" --out "$model" --minutes "$minutes"
fi

step "3  each passage becomes an encoding: its gradient, second-moment corrected, projected to d = 16,384"
"$build/ascribe-lm" encode --model "$model" --data "$corpus" --out "$batches"

step "4  a server on a scratch store; the encodings go in over HTTP"
rm -rf "$demo/store"
. client/demo/server.sh
server_start "$build" "$demo/store" 127.0.0.1:0 "$demo/server.log"
trap server_stop EXIT
trap 'exit 130' INT TERM
"$build/ascribe" ingest wordnet --create "$batches/corpus.json" "$batches"/*.safetensors

step "5  the Hessian of the corpus is estimated and every encoding whitened by it: TrackStar"
"$build/ascribe" fit wordnet --json | /usr/bin/python3 -c '
import json, sys
fit = json.load(sys.stdin)["result"]
print("{:,} rows, {} blocks, damping {:g}".format(fit["rows"], len(fit["blocks"]), fit["damping"]))'

step "6  why does the model say that?"
echo "proponents: training passages that pushed the model towards its words; opponents: away from them"
"$build/ascribe-lm" query --model "$model" --prompts client/demo/prompts.jsonl \
    --like "$batches/corpus.json" --out "$demo/queries.safetensors" >"$demo/queries.jsonl"
"$build/ascribe" query wordnet "$demo/queries.safetensors" -k 5 --opponents 2 --json >"$demo/answers.json"
/usr/bin/python3 client/demo/show.py "$demo/queries.jsonl" "$demo/answers.json"

step "7  the server stops when asked"
server_stop
trap - EXIT
tail -n 1 "$demo/server.log"
echo "The store stays in $demo/store: \`make serve\` serves it."
