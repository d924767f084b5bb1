"""The sums of the demo's corpus: small numbers in many manners of speaking.

lines(count, seed, held_out) chooses `count` different lines among all that the tables below can say,
by a seeded generator, and never one that begins with a text of held_out: what the demo asks, its
model must have learnt from other ways of saying it. Every line is true.
"""

import random

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()

NAMES = "Ada Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Leo Mara Nils Olga Paul".split()
GOODS = "apples eggs coins books stones cards pens shells buttons nuts cups keys".split()

# Manners of speaking: {a} and {b} in digits, {A} and {B} in words, {r} and {R} the result.
MANNERS = {
    "sum": (
        "{a} + {b} = {r}.",
        "{a} plus {b} is {r}.",
        "{A} plus {B} is {R}.",
        "{a} and {b} make {r}.",
        "{A} and {B} make {R}.",
        "The sum of {a} and {b} is {r}.",
        "Add {b} to {a} and you get {r}.",
        "{name} has {a} {goods} and gets {b} more. Now {name} has {r} {goods}.",
    ),
    "difference": (
        "{a} - {b} = {r}.",
        "{a} minus {b} is {r}.",
        "{A} minus {B} is {R}.",
        "{a} less {b} leaves {r}.",
        "Take {b} from {a} and {r} are left.",
        "The difference between {a} and {b} is {r}.",
        "{name} has {a} {goods} and gives {b} away. Now {name} has {r} {goods}.",
    ),
    "product": (
        "{a} x {b} = {r}.",
        "{a} times {b} is {r}.",
        "{A} times {B} is {R}.",
        "The product of {a} and {b} is {r}.",
        "{a} rows of {b} {goods} are {r} {goods}.",
        "{name} buys {a} boxes with {b} {goods} each. That is {r} {goods}.",
    ),
    "quotient": (
        "{a} / {b} = {r}.",
        "{a} divided by {b} is {r}.",
        "{A} divided by {B} is {R}.",
        "{b} goes into {a} {r} times.",
        "{name} shares {a} {goods} among {b} friends. Each gets {r} {goods}.",
    ),
    "next": ("After {a} comes {r}.", "After {A} comes {R}.", "{R} is one more than {A}."),
    "double": ("Twice {a} is {r}.", "Double {a} and you get {r}.", "{A} and {A} again is {R}."),
    "half": ("Half of {a} is {r}.", "Half of {A} is {R}.", "Halve {a} and {r} are left."),
}

# So many times a problem is told with names and goods, other ones each time.
STORIES = 6

# Of a thousand lines, so many.
SHARES = {
    "sum": 440,
    "difference": 270,
    "product": 140,
    "quotient": 100,
    "next": 30,
    "double": 10,
    "half": 10,
}


def in_words(n):
    """0 to 999: 'three hundred and twelve'."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")
    rest = n % 100
    return ONES[n // 100] + " hundred" + (" and " + in_words(rest) if rest else "")


def problems():
    """(operation, a, b, result) of everything that may be asked: what is learnt by heart at school."""
    for a in range(1, 13):
        for b in range(1, 13):
            yield "sum", a, b, a + b
            yield "difference", a + b, b, a
    for a in range(2, 10):
        for b in range(2, 10):
            yield "product", a, b, a * b
            yield "quotient", a * b, b, a
    for a in range(1, 61):
        yield "next", a, 1, a + 1
    for a in range(1, 21):
        yield "double", a, 2, 2 * a
        yield "half", 2 * a, 2, a


def says(manner, a, b, result, rng):
    """One problem said in one manner."""
    text = manner.format(
        a=a,
        b=b,
        r=result,
        A=in_words(a),
        B=in_words(b),
        R=in_words(result),
        name=rng.choice(NAMES),
        goods=rng.choice(GOODS),
    )
    return text[0].upper() + text[1:]


def lines(count, seed, held_out=()):
    """`count` examples {"id","text","meta"}; ValueError when there are not so many."""
    rng = random.Random(seed)
    held_out, said = tuple(held_out), {operation: {} for operation in MANNERS}
    for operation, a, b, result in problems():
        for number, manner in enumerate(MANNERS[operation]):
            for _ in range(STORIES if "{goods}" in manner else 1):
                text = says(manner, a, b, result, rng)
                if not text.startswith(held_out):
                    meta = {"a": a, "b": b, "result": result, "manner": number}
                    said[operation].setdefault(text, meta)
    chosen = []
    for operation, share in SHARES.items():
        texts = sorted(said[operation])
        wanted = round(count * share / 1000)
        if wanted > len(texts):
            raise ValueError(f"{wanted} lines of kind {operation} wanted, {len(texts)} can be said")
        for text in rng.sample(texts, wanted):
            chosen.append((text, {"operation": operation, **said[operation][text]}))
    rng.shuffle(chosen)
    return [
        {"id": f"sum-{at:05d}", "text": text, "meta": {"source": "arithmetic", **meta}}
        for at, (text, meta) in enumerate(chosen)
    ]
