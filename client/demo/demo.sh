#!/bin/sh
# demo.sh BUILD - the main job on real input: make a corpus, train a language model on it, encode
# every example's gradient, ingest over HTTP, fit, make tasks, ask which examples made the model say
# what it says, and what one step of training on each does.
#
# Everything lies in build/demo and is reused by the next run, but the store, which is made anew; a
# corpus that has become another one is learnt anew. DEMO_MIX (words for mix.py: --passages 11000 --sums
# 4000 --everyday 5000), DEMO_STEPS (9400), DEMO_MINUTES (3.5, of training at most) and DEMO_DIM (16384)
# change the size, DEMO_LISTEN the address, DEMO_DIR the folder.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/release}
demo=${DEMO_DIR:-build/demo}
corpus=$demo/corpus.jsonl
lessons=$demo/lessons.jsonl # what the model reads: the corpus, short lines more than once
model=$demo/model.ckpt
batches=$demo/batches
mkdir -p "$demo"

step() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}

step "1  a corpus: WordNet's definitions, sums, and what everybody knows"
# shellcheck disable=SC2086 # words on purpose
/usr/bin/python3 -B client/demo/mix.py ${DEMO_MIX:-} \
    --out "$corpus.new" --lessons "$lessons.new" --tasks "$demo/tasks"
if ! cmp -s "$corpus.new" "$corpus" || ! cmp -s "$lessons.new" "$lessons"; then
    rm -rf "$model" "$batches"
fi
mv "$corpus.new" "$corpus"
mv "$lessons.new" "$lessons"
for source in wordnet arithmetic everyday; do
    grep -m 1 "\"source\": \"$source\"" "$corpus"
done

step "2  a small transformer learns it (at most ${DEMO_MINUTES:-3.5} minutes)"
if [ -s "$model" ]; then
    echo "trained before: $model"
else
    "$build/ascribe-lm" train --data "$lessons" --out "$model" --batch 24 \
        --steps "${DEMO_STEPS:-9400}" --minutes "${DEMO_MINUTES:-3.5}"
fi

dim=${DEMO_DIM:-16384}
step "3  each example becomes an encoding: its gradient, second-moment corrected, projected to d = $dim"
"$build/ascribe-lm" encode --model "$model" --data "$corpus" --out "$batches" --dim "$dim"

step "4  a server on a scratch store; the encodings go in over HTTP"
rm -rf "$demo/store"
. client/demo/server.sh
server_start "$build" "$demo/store" "${DEMO_LISTEN:-127.0.0.1:0}" "$demo/server.log"
trap server_stop EXIT
trap 'exit 130' INT TERM
"$build/ascribe" ingest demo --create "$batches/corpus.json" "$batches"/*.safetensors

step "5  the Hessian of the corpus is estimated and every encoding whitened by it: TrackStar"
"$build/ascribe" fit demo --json | /usr/bin/python3 -c '
import json, sys
fit = json.load(sys.stdin)["result"]
print("{:,} rows, {} blocks, damping {:g}".format(fit["rows"], len(fit["blocks"]), fit["damping"]))'

step "6  a task for each kind of question: what 200 others of its kind share is held down"
for task in facts commonsense arithmetic; do
    "$build/ascribe-lm" query --model "$model" --prompts "$demo/tasks/$task.jsonl" \
        --like "$batches/corpus.json" --out "$demo/tasks/$task.safetensors" >"$demo/tasks/$task.said"
    "$build/ascribe" task put demo "$task" "$demo/tasks/$task.safetensors" --json |
        /usr/bin/python3 -c '
import json, sys
task = json.load(sys.stdin)["result"]
print("{}: lambda {:.3f}, of {} prompts".format(task["name"], task["lambda"], task["rows"]))'
done

step "7  why does the model say that?"
echo "▲ proponents: examples that pushed the model towards its words; ▽ opponents: away from them."
echo "Influence score; what one step of training on it does to the words' probability, in points; id."
/usr/bin/python3 -B client/demo/ask.py "$build" "$demo"

step "8  the server stops when asked"
server_stop
trap - EXIT
tail -n 1 "$demo/server.log"
echo "The store stays in $demo/store: \`make serve\` serves it, with a page to ask in words."
