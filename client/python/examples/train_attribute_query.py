#!/usr/bin/env python3
"""train_attribute_query.py - a model from training to "which examples made it say that?".

Trains a small language model on sentences made up here, encodes the gradient of every sentence with
the optimiser's second moment, stores them in a running ascribed, fits the corpus, and asks for each
question which sentences taught the answer. Ten seconds on one core. Needs torch.

    ascribed --store /tmp/store --create &
    python3 train_attribute_query.py --store /tmp/store
"""
import argparse
import random
import zlib

import torch
from torch import nn

import ascribe
from ascribe.torch import GradientCollector, second_moments

CITIES = ["lisbon", "oslo", "vienna", "athens", "dublin", "prague", "warsaw", "madrid"]
PEOPLE = ["anna", "boris", "clara", "david", "emma", "felix", "greta", "hugo", "irene", "jonas",
          "klara", "louis"]
WORK = ["the baker bakes bread", "the painter paints doors", "the clockmaker repairs clocks",
        "the gardener grows roses", "the lawyer reads law"]
END = "."


def sentences(seed):
    """[{"id", "text", "meta"}]: where each person lives, said once, among much that does not say it."""
    r = random.Random(seed)
    lives = {name: r.choice(CITIES) for name in PEOPLE}
    out = [{"id": f"home-{name}", "text": f"{name} lives in {city} {END}", "meta": {"kind": "home"}}
           for name, city in lives.items()]
    for n in range(90):
        city = r.choice(CITIES)
        kind, what = ("rain", "it rains") if n % 3 == 0 else ("work", r.choice(WORK))
        out.append({"id": f"{kind}-{n}", "text": f"{what} in {city} {END}", "meta": {"kind": kind}})
    r.shuffle(out)
    return out, lives


class Layer(nn.Module):
    """One layer of a causal transformer."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, t, width = x.shape
        q, k, v = (y.view(n, t, self.heads, -1).transpose(1, 2)
                   for y in self.qkv(self.norm1(x)).chunk(3, -1))
        a = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        a = a.masked_fill(torch.triu(torch.ones(t, t, dtype=torch.bool), 1), float("-inf"))
        x = x + self.out((a.softmax(-1) @ v).transpose(1, 2).reshape(n, t, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    """A language model over whole words."""

    def __init__(self, words, width=48, heads=4, layers=2, context=8):
        super().__init__()
        self.words = {word: i for i, word in enumerate(words)}
        self.embed, self.place = nn.Embedding(len(words), width), nn.Embedding(context, width)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(words), bias=False)

    def forward(self, tokens):
        x = self.embed(tokens) + self.place(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.layers(x)))

    def tokens(self, texts):
        """[n, t], shorter texts filled up with -1."""
        rows = [torch.tensor([self.words[w] for w in text.split()]) for text in texts]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)


def losses(model, batch):
    """Each text's loss, summed over its tokens from number `first` on. batch: (tokens, first)."""
    tokens, first = batch
    logits = model(tokens[:, :-1].clamp(min=0))
    each = nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], ignore_index=-1,
                                       reduction="none")
    return each[:, max(first - 1, 0):].sum(1)


def train(model, texts, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    tokens = model.tokens(texts)
    for step in range(steps):
        optimizer.zero_grad()
        loss = losses(model, (tokens[torch.randperm(len(tokens))[:32]], 1)).mean()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f} a sentence")
    return optimizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", help="URL (ASCRIBE_SERVER, else http://127.0.0.1:7171)")
    parser.add_argument("--store", help="a store on this machine, for its key")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    torch.manual_seed(0)

    examples, lives = sentences(seed=1)
    texts = [e["text"] for e in examples]
    model = Model(sorted({w for text in texts for w in text.split()}))
    optimizer = train(model, texts, args.steps)
    model.eval()

    collector = GradientCollector(model, "layers.*", p=12, seed=1,
                                  second_moment=second_moments(optimizer, model, "layers.*"))
    data = (((model.tokens(texts[i:i + 16]), 1), examples[i:i + 16])
            for i in range(0, len(texts), 16))
    with ascribe.Client(args.server, store=args.store) as client:
        definition = collector.definition()
        name = f"sentences-{zlib.crc32(repr(definition).encode()):08x}"  # a corpus for each model
        corpus = client.create_corpus(name, **definition)
        print(corpus.ingest_stream(collector.stream(data, losses), total=len(texts)))
        corpus.fit(damping=0.1)

        right = known = 0
        for person, city in lives.items():
            question = f"{person} lives in"
            said = model.tokens([question + " " + END])[:, :-1]
            answer = list(model.words)[model(said)[0, -1].argmax()]
            # The gradient of what the model said, after the question: which examples taught it that?
            gradient = collector.gradients((model.tokens([f"{question} {answer}"]), 3), losses)
            hits = corpus.query(gradient, k=4, opponents=1)
            known += answer == city
            right += hits[0].proponents[0].id == f"home-{person}"
            if person == PEOPLE[0]:
                print(f"\n{question} ... {answer}\n{hits}\n")
        print(f"the model knew {known} of {len(lives)} homes")
        print(f"the fact's own sentence came first for {right} of {len(lives)} questions")


if __name__ == "__main__":
    main()
