#!/usr/bin/python3
"""Makes the demo's corpus out of WordNet: JSON Lines, one synset a line.

Reads the four data files of Debian's wordnet-base (format: wndb(5WN)) and writes, for each chosen
synset, `id` (part of speech and offset), `text` ("lemma: definition.", the first lemma only) and
`meta`: the other lemmas, and what WordNet's pointers say, the facts a passage can be asked for.

The choice: every instance synset (the real people, places and events), then others drawn by a
seeded generator until --count are there; --count 0 takes everything. Written in order of id, so the
same options give the same bytes.
"""

import argparse
import json
import os
import random
import sys
import tempfile

FILES = ("noun", "verb", "adj", "adv")

# lexnames(5WN): the name of each lexicographer file, by number.
LEXNAMES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute "
    "noun.body noun.cognition noun.communication noun.event noun.feeling noun.food noun.group "
    "noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant "
    "noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication "
    "verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion "
    "verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl"
).split()

# Pointers that are kept, and what meta calls them.
POINTERS = {"@i": "instance_of", "#p": "part_of", "#m": "member_of", ";r": "region"}


def clean_lemma(word):
    """'beautiful(p)' -> 'beautiful', 'New_York' -> 'New York'."""
    return word.split("(")[0].replace("_", " ")


def definition_of(gloss):
    """The definition alone: a gloss goes on with quoted example sentences."""
    parts = []
    for part in gloss.strip().split("; "):
        if part.startswith('"'):
            break
        parts.append(part.strip().rstrip(";"))
    return "; ".join(part for part in parts if part)


def parse_line(line):
    """One data line as a dict, or None for a licence line."""
    if line.startswith(" "):
        return None
    data, _, gloss = line.partition(" | ")
    fields = data.split()
    words = int(fields[3], 16)
    lemmas = [clean_lemma(fields[4 + 2 * i]) for i in range(words)]
    at = 4 + 2 * words
    pointers = []
    for i in range(int(fields[at])):
        symbol, offset, pos = fields[at + 1 + 4 * i : at + 4 + 4 * i]
        pointers.append((symbol, pos + offset))
    # 's' (satellite adjective) is stored under 'a' by every pointer.
    pos = "a" if fields[2] == "s" else fields[2]
    return {
        "id": pos + fields[0],
        "pos": fields[2],
        "lexname": LEXNAMES[int(fields[1])],
        "lemmas": list(dict.fromkeys(lemmas)),
        "pointers": pointers,
        "definition": definition_of(gloss),
    }


def read_synsets(folder):
    synsets = {}
    for name in FILES:
        with open(os.path.join(folder, "data." + name), encoding="utf-8") as lines:
            for line in lines:
                synset = parse_line(line)
                if synset:
                    synsets[synset["id"]] = synset
    return synsets


def passage(synset, synsets):
    first, *others = synset["lemmas"]
    meta = {"pos": synset["pos"], "lemma": first, "lexname": synset["lexname"]}
    if others:
        meta["also"] = others
    for symbol, target in synset["pointers"]:
        if symbol in POINTERS and target in synsets:
            meta.setdefault(POINTERS[symbol], []).append(synsets[target]["lemmas"][0])
    return {"id": synset["id"], "text": f"{first}: {synset['definition']}.", "meta": meta}


def choose(synsets, count, seed):
    ids = sorted(name for name in synsets if synsets[name]["definition"])
    if count == 0 or count >= len(ids):
        return ids
    instances = [
        name for name in ids if any(symbol == "@i" for symbol, _ in synsets[name]["pointers"])
    ]
    if count < len(instances):
        sys.exit(f"wordnet.py: --count {count}: the {len(instances)} instances are always taken")
    rest = sorted(set(ids) - set(instances))
    random.Random(seed).shuffle(rest)
    return sorted(instances + rest[: count - len(instances)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", default="/usr/share/wordnet", help="folder of data.noun etc.")
    parser.add_argument("--count", type=int, default=20000, help="passages; 0 = all (117,659)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice among non-instances")
    parser.add_argument("--out", required=True, help="the JSON Lines file")
    args = parser.parse_args()
    try:
        synsets = read_synsets(args.wordnet)
    except OSError as error:
        sys.exit(f"wordnet.py: {error} (package wordnet-base)")
    chosen = choose(synsets, args.count, args.seed)
    folder = os.path.dirname(os.path.abspath(args.out))
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=folder, prefix=".wordnet-", delete=False
    ) as out:
        for name in chosen:
            out.write(json.dumps(passage(synsets[name], synsets), ensure_ascii=False) + "\n")
    os.chmod(out.name, 0o644)
    os.replace(out.name, args.out)
    print(f"wordnet: {len(chosen)} passages in {args.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
