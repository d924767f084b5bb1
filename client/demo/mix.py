#!/usr/bin/python3
"""Makes the demo's corpus: what its model reads, and its answers come from.

    mix.py --out corpus.jsonl [--passages 11000] [--sums 4000] [--everyday 5000]
           [--lessons FILE] [--tasks DIR]

Three sources, told apart by meta.source: `wordnet` (definitions of real people, places and things
of at most 110 characters: wordnet.py), `arithmetic` (arithmetic.py) and `everyday` (everyday.py). No line of arithmetic is one that
the demo's prompts ask for. In order of source, then id: the same options give the same bytes.

--lessons also writes what the model reads: the same, with every short example, which has few words to
be learnt by, as often as REPEATS says. (An id more for each time; training alone sees them.)

--tasks also writes an evaluation set a kind, DIR/facts.jsonl, commonsense.jsonl, arithmetic.jsonl:
prompts with their targets, none of them a prompt of the demo, whose gradients make a task.
"""

import argparse
import json
import os
import random
import sys
import tempfile

import arithmetic
import everyday
import wordnet

PROMPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "prompts")
TASK_SIZE = 200
PASSAGE_MAX = 110  # characters
REPEATS = {"wordnet": 1, "arithmetic": 3, "everyday": 3}


def read_lines(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def write_lines(path, objects):
    """The file appears whole or not at all."""
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=folder, prefix=".mix-", delete=False
    ) as out:
        for one in objects:
            out.write(json.dumps(one, ensure_ascii=False) + "\n")
    os.chmod(out.name, 0o644)
    os.replace(out.name, path)


def passages(count, seed, synsets, asked):
    """What a prompt begins, then real people, places and events, then others drawn at random: short
    ones only, but for the first."""

    def order(example):
        return not example["text"].startswith(asked), "instance_of" not in example["meta"]

    candidates = [wordnet.passage(synset, synsets) for synset in synsets.values()]
    candidates = [
        c for c in candidates if len(c["text"]) <= PASSAGE_MAX or c["text"].startswith(asked)
    ]
    candidates.sort(key=lambda c: c["id"])
    random.Random(seed).shuffle(candidates)
    candidates.sort(key=order)
    if count > len(candidates):
        raise ValueError(f"{count} passages wanted, {len(candidates)} are short enough")
    for example in sorted(candidates[:count], key=lambda c: c["id"]):
        example["meta"] = {"source": "wordnet", **example["meta"]}
        yield example


def lessons(corpus):
    """Each example as often as it is to be read in one pass."""
    for example in corpus:
        for time in range(1, REPEATS[example["meta"]["source"]] + 1):
            id = example["id"] if time == 1 else f"{example['id']}.{time}"
            yield {"id": id, "text": example["text"]}


# ---- evaluation sets -----------------------------------------------------------------------------


def cut(text, words):
    """A prompt and the target that ends the sentence, `words` words long."""
    parts = text.rstrip(".").split(" ")
    return {"prompt": " ".join(parts[:-words]), "target": " " + " ".join(parts[-words:])}


def facts_of(examples):
    """Of a place its country, of a person where or what: the passage up to what a pointer names."""
    for example in examples:
        meta, text = example["meta"], example["text"]
        for name in meta.get("part_of", []) + meta.get("instance_of", []):
            at = text.find(" " + name, len(meta["lemma"]) + 2)
            if at > 0:
                yield {"prompt": text[:at], "target": " " + name}
                break


def last_words(examples, relations):
    """Of everyday statements of these relations the last word."""
    for example in examples:
        if example["meta"]["relation"] in relations and len(example["text"].split(" ")) >= 4:
            yield cut(example["text"], 1)


def results(examples):
    """Of sums the result, where it is the last word."""
    for example in examples:
        result, one = example["meta"]["result"], cut(example["text"], 1)
        if one["target"].strip() in (str(result), arithmetic.in_words(result)):
            yield one


def evaluation_sets(corpus, asked, seed):
    """{name: [{"prompt","target"}]}."""
    of = {source: [x for x in corpus if x["meta"]["source"] == source] for source in SOURCES}
    rng = random.Random(seed)
    sets = {
        "facts": facts_of(of["wordnet"]),
        "commonsense": last_words(of["everyday"], {"use", "can", "at", "is", "opposite", "order"}),
        "arithmetic": results(of["arithmetic"]),
    }
    for name, candidates in sets.items():
        candidates = [c for c in candidates if c["prompt"] not in asked]
        sets[name] = rng.sample(candidates, min(TASK_SIZE, len(candidates)))
    return sets


SOURCES = ("wordnet", "arithmetic", "everyday")


def prompts():
    """All prompts of the demo's sets."""
    files = sorted(name for name in os.listdir(PROMPTS) if name.endswith(".jsonl"))
    return [prompt for name in files for prompt in read_lines(os.path.join(PROMPTS, name))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", default="/usr/share/wordnet", help="folder of data.noun etc.")
    parser.add_argument("--passages", type=int, default=11000, help="of WordNet")
    parser.add_argument("--sums", type=int, default=4000, help="lines of arithmetic")
    parser.add_argument("--everyday", type=int, default=5000, help="everyday statements")
    parser.add_argument("--seed", type=int, default=1, help="of every choice")
    parser.add_argument("--out", required=True, help="the JSON Lines file")
    parser.add_argument("--lessons", help="the JSON Lines file to train on")
    parser.add_argument("--tasks", help="folder for the evaluation sets")
    args = parser.parse_args()
    asked = tuple(prompt["prompt"] for prompt in prompts())
    try:
        synsets = wordnet.read_synsets(args.wordnet)
        corpus = [
            *passages(args.passages, args.seed, synsets, asked),
            *arithmetic.lines(args.sums, args.seed, asked),
            *everyday.lines(args.everyday, args.seed, synsets, args.wordnet),
        ]
    except (OSError, ValueError) as error:
        sys.exit(f"mix.py: {error}")
    write_lines(args.out, corpus)
    if args.lessons:
        write_lines(args.lessons, lessons(corpus))
    if args.tasks:
        os.makedirs(args.tasks, exist_ok=True)
        for name, lines in evaluation_sets(corpus, asked, args.seed).items():
            write_lines(os.path.join(args.tasks, name + ".jsonl"), lines)
    counts = {s: sum(1 for x in corpus if x["meta"]["source"] == s) for s in SOURCES}
    told = ", ".join(f"{n:,} {source}" for source, n in counts.items())
    print(f"mix: {len(corpus):,} examples in {args.out}: {told}", file=sys.stderr)


if __name__ == "__main__":
    main()
