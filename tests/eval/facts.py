"""facts.py - the corpus, and the facts that are asked about, out of WordNet's own pointers.

Passages are those of the demo (client/demo/wordnet.py): every instance synset, and others drawn by a
seed. A fact is (subject, relation, object): an instance synset, its pointer instance_of or part_of,
and the first lemma of the pointer's target that stands in the gloss, so that the passage says it.

Everything is chosen by seeds and hashes before any model is trained. "Stands in" means: found with the
same case, and no letter or digit on either side.
"""
import collections
import hashlib
import json
import os
import random
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "client", "demo"))
import wordnet  # noqa: E402

POINTERS = {"@i": "instance_of", "#p": "part_of"}
RELATIONS = ("instance_of", "part_of")

# A prompt leads from the subject to the object in the words of the gloss: a model of glosses knows no
# others. Three wordings for each relation, one for each fact, by a hash.
#   {lead}   the gloss before the object, its last LEAD_WORDS words at most
#   {bare}   the same without an article in front      {a_bare}  with one ("a", "an")
#   {kind}   the subject's instance_of, where the gloss has it, else "place"     {a_kind}  with an article
#   {place}  the gloss from the last preposition before the object: "in western", "of the"
TEMPLATES = {
    "instance_of": ("{s}: {lead}", "{s}: {bare}", "{s}: {a_bare}"),
    "part_of": ("{s}: {lead}", "{s}: {kind} {place}", "{s}: {a_kind} {place}"),
}
LEAD_WORDS = 8
PREPOSITION = re.compile(r".*\b(?=(?:in|of|on|at|from|off|near|between|along|to|for|by|through) )", re.S)
BUCKETS = (10, 100, 1000)  # an object that stands in fewer passages than this; bucket 3: the rest
BUCKET_NAMES = ("1-9", "10-99", "100-999", "1000+")


def stands(phrase):
    """A compiled pattern for a phrase with no letter or digit on either side."""
    return re.compile(r"(?<![^\W_])" + re.escape(phrase) + r"(?![^\W_])")


class Texts:
    """Which passages a phrase stands in. Words narrow the passages down, the pattern decides."""

    def __init__(self, passages):
        self.passages, self.words, self.known = passages, collections.defaultdict(set), {}
        for i, p in enumerate(passages):
            for word in re.findall(r"[^\W_]+", p["text"]):
                self.words[word].add(i)

    def having(self, phrase):
        """Positions, ascending."""
        if phrase not in self.known:
            sets = sorted((self.words[w] for w in re.findall(r"[^\W_]+", phrase)), key=len)
            found = set.intersection(*sets) if sets else range(len(self.passages))
            pattern = stands(phrase)
            self.known[phrase] = [i for i in sorted(found) if pattern.search(self.passages[i]["text"])]
        return self.known[phrase]


def bucket_of(count):
    return sum(count >= limit for limit in BUCKETS)


def pointed_facts(synsets):
    """({(subject, relation, object): synset ids}, {relation: pointers there are}, {relation: pointers
    whose target has no lemma in the gloss}) of all instance synsets."""
    facts, pointers, silent = collections.defaultdict(list), collections.Counter(), collections.Counter()
    for name in sorted(synsets):
        s = synsets[name]
        if not s["definition"] or not any(symbol == "@i" for symbol, _ in s["pointers"]):
            continue
        for symbol, target in s["pointers"]:
            relation = POINTERS.get(symbol)
            if relation is None or target not in synsets:
                continue
            pointers[relation] += 1
            lemma = next((l for l in synsets[target]["lemmas"] if stands(l).search(s["definition"])), None)
            if lemma is None:
                silent[relation] += 1
            elif name not in facts[s["lemmas"][0], relation, lemma]:
                facts[s["lemmas"][0], relation, lemma].append(name)
    return facts, pointers, silent


def given_away(subject, obj):
    """'Lake Erie' says that it is a lake: nothing to ask."""
    return stands(obj.lower()).search(subject.lower()) is not None


def article(word):
    return "an" if word[0] in "aeiouAEIO" else "a"


def with_article(words, following=""):
    """'city' -> 'a city'; nothing in front of the object itself: its article."""
    return f"{article((words or following)[0])} {words}".rstrip()


def prompt_of(seed, subject, relation, obj, passage):
    """(number of the template, prompt) of a fact and the passage that is annotated with it."""
    digest = hashlib.sha256(f"{seed}\t{subject}\t{relation}\t{obj}".encode()).digest()
    at = int.from_bytes(digest[:8], "big") % len(TEMPLATES[relation])
    gloss = passage["text"][len(passage["meta"]["lemma"]) + 2:]
    before = gloss[:stands(obj).search(gloss).start()]
    lead = " ".join(before.split()[-LEAD_WORDS:])
    bare = re.sub(r"^(?:an?|the) |^(?:an?|the)$", "", lead)
    kind = next((k for k in passage["meta"].get("instance_of", ()) if stands(k).search(gloss)), "place")
    prompt = TEMPLATES[relation][at].format(
        s=subject, lead=lead, bare=bare, a_bare=with_article(bare, obj), kind=kind,
        a_kind=with_article(kind), place=PREPOSITION.sub("", before).strip())
    return at, prompt.strip()


def make_facts(synsets, passages, seed):
    """([fact], counts). Each fact has what `ascribe eval` wants of a query, and more."""
    texts, place = Texts(passages), {p["id"]: i for i, p in enumerate(passages)}
    pointed, pointers, silent = pointed_facts(synsets)
    out, told = [], 0
    for (subject, relation, obj), names in sorted(pointed.items()):
        if given_away(subject, obj):
            told += 1
            continue
        having = texts.having(obj)
        both = set(having) & set(texts.having(subject))
        annotated = [n for n in names if n in place]
        gold = annotated + [passages[i]["id"] for i in sorted(both) if passages[i]["id"] not in annotated]
        template, prompt = prompt_of(seed, subject, relation, obj, passages[place[annotated[0]]])
        out.append({"gold": gold, "annotated": annotated, "prompt": prompt, "target": " " + obj,
                    "text": f"{subject} {obj}", "subject": subject, "object": obj, "relation": relation,
                    "template": template, "frequency": len(having), "bucket": bucket_of(len(having))})
    counts = {r: {"pointers": pointers[r], "object_not_in_gloss": silent[r],
                  "facts": sum(f["relation"] == r for f in out),
                  "objects": len({f["object"] for f in out if f["relation"] == r})} for r in RELATIONS}
    counts["told_by_the_subject"] = told
    return out, counts


def draw(facts, per_cell, task, seed):
    """(queries, task facts): up to per_cell of each relation and bucket (no more than half of what a
    cell has, so that the other half is left), then `task` others from the same cells in the same
    shares. No subject is in both."""
    rng, cells = random.Random(seed), collections.defaultdict(list)
    for f in facts:
        cells[f["relation"], f["bucket"]].append(f)
    queries, rest = [], {}
    for cell in sorted(cells):
        rng.shuffle(cells[cell])
        take = min(per_cell, len(cells[cell]) // 2)
        queries += cells[cell][:take]
        rest[cell] = (take, cells[cell][take:])
    asked, share, others = {f["subject"] for f in queries}, task / len(queries), []
    for cell in sorted(rest):
        take, left = rest[cell]
        others += [f for f in left if f["subject"] not in asked][:round(take * share)]
    for prefix, chosen in (("q", queries), ("t", others)):
        chosen.sort(key=lambda f: (f["relation"], f["bucket"], f["subject"], f["object"]))
        for i, f in enumerate(chosen):
            f["id"] = f"{prefix}{i:04d}"
    return queries, others


def write_lines(path, rows):
    """JSON Lines; the file appears whole or not at all."""
    with open(path + ".part", "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(path + ".part", path)


def read_lines(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def make_corpus(folder, passages, seed, repeat):
    """corpus.jsonl, what is attributed to; and train.jsonl, what the model learns: the same, the
    instance passages `repeat` times."""
    synsets = wordnet.read_synsets("/usr/share/wordnet")
    chosen = [wordnet.passage(synsets[n], synsets) for n in wordnet.choose(synsets, passages, seed)]
    write_lines(os.path.join(folder, "corpus.jsonl"), chosen)
    write_lines(os.path.join(folder, "train.jsonl"), (
        dict(p, id=p["id"] + (f"#{i}" if i else "")) for p in chosen
        for i in range(repeat if "instance_of" in p["meta"] else 1)))


def make_facts_files(folder, per_cell, task, seed):
    """Of corpus.jsonl: queries.jsonl, task.jsonl, facts.jsonl (all that could be drawn), objects.json
    and counts.json."""
    passages = read_lines(os.path.join(folder, "corpus.jsonl"))
    facts, counts = make_facts(wordnet.read_synsets("/usr/share/wordnet"), passages, seed)
    queries, others = draw(facts, per_cell, task, seed)
    counts["passages"] = len(passages)
    counts["instances"] = sum("instance_of" in p["meta"] for p in passages)
    counts["cells"] = [{"relation": r, "bucket": b, "name": BUCKET_NAMES[b],
                        **{name: sum(f["relation"] == r and f["bucket"] == b for f in some)
                           for name, some in (("facts", facts), ("queries", queries), ("task", others))}}
                       for r in RELATIONS for b in range(len(BUCKETS) + 1)]
    counts["gold_mean"] = sum(len(q["gold"]) for q in queries) / len(queries)
    objects = {r: sorted({f["object"] for f in facts if f["relation"] == r}) for r in RELATIONS}
    for name, rows in (("queries", queries), ("task", others), ("facts", facts)):
        write_lines(os.path.join(folder, name + ".jsonl"), rows)
    for name, value in (("objects.json", objects), ("counts.json", counts)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            json.dump(value, out, ensure_ascii=False, indent=1)
