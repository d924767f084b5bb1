"""The everyday statements of the demo's corpus: what a knife is for, what comes after Monday.

Two sources: everyday.txt, written by hand, whose facts are said here in several ways; and WordNet's
pointers between words in common use ("An oak is a kind of tree."). lines() gives all of the first
and fills up with the second to the count that is asked for.
"""

import os
import random

import wordnet

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "everyday.txt")

# How a fact is said. {s}: the thing with its article, {n}: without, {v}: the value. The first way is
# always said, of the others some.
WAYS = {
    "use": (
        "{s} is used for {v}.",
        "For {v} you need {s}.",
        "People use {s} for {v}.",
        "What is {s} for? It is for {v}.",
    ),
    "at": ("You find {s} {v}.", "{s} is {v}.", "Where is {s}? It is {v}."),
    "of": ("{s} is made of {v}.", "What is {s} made of? It is made of {v}."),
    "has": ("{s} has {v}.", "What has {v}? {s} has {v}."),
    "is": ("{s} is {v}.", "What is {s} like? It is {v}."),
    "from": ("{s} comes from {v}.", "Where does {s} come from? It comes from {v}."),
    "can": ("{s} can {v}.", "What can {s} do? It can {v}."),
    "eats": ("{s} eats {v}.", "What does {s} eat? It eats {v}.", "{s} likes to eat {v}."),
    "lives": ("{s} lives {v}.", "Where does {s} live? It lives {v}."),
    "young": ("A young {n} is called {v}.", "{v} is a young {n}."),
    "kind": ("{s} is a kind of {v}.", "What is {s}? It is a kind of {v}."),
    "does": ("{s} {v}.", "What does {s} do? The {n} {v}.", "Somebody who {v} is {s}."),
    "with": ("{s} works with {v}.",),
    "works": ("{s} works {v}.", "Where does {s} work? The {n} works {v}."),
}
OPPOSITES = (
    "The opposite of {a} is {b}.",
    "The opposite of {b} is {a}.",
    "What is not {a} is {b}.",
    "{a} and {b} are opposites.",
)
ORDERS = (
    "After {a} comes {b}.",
    "Before {b} comes {a}.",
    "{a} is followed by {b}.",
    "Of the {what}, {b} comes after {a}.",
)
COUNTS = (
    "{s} has {v}.",
    "How many {unit} does {s} have? It has {v}.",
    "The number of {unit} of {s} is {number}.",
)


def article(noun):
    return ("an " if noun[0].lower() in "aeiou" and not noun.startswith("use") else "a ") + noun


def capital(text):
    return text[0].upper() + text[1:]


def sections():
    """{title: [line, ...]} of the table."""
    out, here = {}, None
    with open(TABLE, encoding="utf-8") as lines:
        for line in map(str.strip, lines):
            if line.startswith("= "):
                here = out.setdefault(line[2:], [])
            elif line and not line.startswith("#"):
                here.append(line)
    return out


def facts(line, mass):
    """(subject with article, bare name, relation, value) of one line of a table of things."""
    name, _, rest = line.partition(": ")
    bare = name.lstrip("*")
    subject = bare if mass or name.startswith("*") else article(bare)
    for part in rest.split("; "):
        relation, _, values = part.partition(" ")
        for value in values.split(", "):
            yield subject, bare, relation, value


def things(titles, rng):
    """Every fact in its first way and in some of the others."""
    for title, mass in (("things", 0), ("stuff", 1), ("animals", 0), ("plants", 0), ("people", 0)):
        for line in titles[title]:
            for subject, bare, relation, value in facts(line, mass):
                first, *others = WAYS[relation]
                for way in [first] + [w for w in others if rng.random() < 0.55]:
                    text = way.format(s=subject, n=bare, v=value)
                    yield text, {"relation": relation, "about": bare}


def pairs(titles, rng):
    for line in titles["opposites"]:
        for pair in line.split(", "):
            a, b = pair.split(" ")
            for way in OPPOSITES:
                yield way.format(a=a, b=b), {"relation": "opposite", "about": a}
    for line in titles["orders"]:
        what, _, names = line.partition(": ")
        names = names.split(", ")
        for a, b in zip(names, names[1:]):
            for way in ORDERS:
                yield way.format(a=a, b=b, what=what), {"relation": "order", "about": what}
    for line in titles["counts"]:
        for entry in line.split("; "):
            subject, _, value = entry.partition(": ")
            number, _, unit = value.rpartition(" ")
            for way in COUNTS:
                about = {"relation": "count", "about": subject.split(" ", 1)[1]}
                yield way.format(s=subject, v=value, unit=unit, number=number), about


def by_hand(seed):
    """Every statement of the table, {text: meta}."""
    rng, titles = random.Random(seed), sections()
    said = {}
    for text, meta in [*things(titles, rng), *pairs(titles, rng)]:
        said.setdefault(capital(text), meta)
    for text in titles["sentences"]:
        said.setdefault(text, {"relation": "saying"})
    return said


# ---- out of WordNet ------------------------------------------------------------------------------

POINTED = {
    ("n", "@"): ("{x} is a kind of {y}.", "kind"),
    ("n", "#p"): ("{x} is a part of {y}.", "part"),
    ("v", "@"): ("To {x} is to {y} in some way.", "manner"),
    ("v", "*"): ("To {x} you have to {y}.", "entails"),
    ("v", ">"): ("To {x} something makes it {y}.", "causes"),
    ("a", "!"): ("The opposite of {x} is {y}.", "opposite"),
}
# What can be counted and shown, or done and seen: of the rest, "a ... is a kind of" reads badly.
PLAIN = set(
    "noun.animal noun.artifact noun.body noun.food noun.object noun.person noun.plant "
    "verb.body verb.communication verb.consumption verb.contact verb.creation verb.motion "
    "verb.perception verb.weather adj.all adj.ppl".split()
)
# Kinds so wide that naming them says nothing.
TOO_WIDE = set(
    "entity object thing whole artifact unit matter abstraction attribute relation group act action event state "
    "process psychological_feature communication measure substance part condition property instrumentality "
    "change move make get act be have do travel connect cause block ground device adult "
    "ass contraceptive drug prostitute".split()
)


def common_words(folder, least):
    """{synset id: lemma} of first senses that were counted at least so often in the texts WordNet
    was tagged with: what most people mean by a word they use. Where several words of a synset are so,
    it is the one counted most."""
    counted, common = {}, {}
    with open(os.path.join(folder, "cntlist.rev"), encoding="utf-8") as lines:
        for line in lines:
            key, sense, count = line.split(" ")
            lemma, _, rest = key.partition("%")
            if int(sense) == 1 and int(count) >= least and lemma.isalpha():
                counted[lemma, "-nvara"[int(rest[0])]] = int(count)
    for name in wordnet.FILES:
        with open(os.path.join(folder, "index." + name), encoding="utf-8") as lines:
            for line in lines:
                if line.startswith(" "):  # the licence
                    continue
                lemma, pos, senses, *fields = line.split()
                count, synset = counted.get((lemma, pos), 0), pos + fields[-int(senses)]
                if count > counted.get((common.get(synset), pos), 0):
                    common[synset] = lemma
    return common


def out_of_wordnet(synsets, folder, least=2):
    """Statements between common words, {text: meta}, in order of synset and pointer."""
    common, said = common_words(folder, least), {}
    for name in sorted(common.keys() & synsets.keys()):
        pos, x = name[0], common[name]
        for symbol, target in synsets[name]["pointers"]:
            way, relation = POINTED.get((pos, symbol), (None, None))
            y = common.get(target)
            if not way or not y or target[0] != pos or x == y or not TOO_WIDE.isdisjoint((x, y)):
                continue
            if not {synsets[name]["lexname"], synsets[target]["lexname"]} <= PLAIN:
                continue
            if x not in synsets[name]["lemmas"] or y not in synsets[target]["lemmas"]:
                continue  # a name: the counts have no capitals
            subject = article(x) if pos == "n" and relation in ("kind", "part") else x
            text = way.format(x=subject, y=article(y) if relation == "part" else y)
            said.setdefault(capital(text), {"relation": relation, "about": x})
    return said


def lines(count, seed, synsets, folder):
    """`count` examples {"id","text","meta"}: what was written by hand, and of WordNet's what is still
    wanted. ValueError when there are not so many."""
    said, more = by_hand(seed), out_of_wordnet(synsets, folder)
    rest = sorted(text for text in more if text not in said)
    if count > len(said) + len(rest):
        raise ValueError(f"{count} statements wanted, {len(said) + len(rest)} can be had")
    rng = random.Random(seed)
    filling = rng.sample(rest, max(0, count - len(said)))
    texts = [*said.items(), *((text, more[text]) for text in filling)]
    rng.shuffle(texts)
    return [
        {"id": f"day-{at:05d}", "text": text, "meta": {"source": "everyday", **meta}}
        for at, (text, meta) in enumerate(texts[:count])
    ]
