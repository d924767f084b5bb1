#!/usr/bin/env python3
"""encoder_torch.py - a PyTorch model behind the server: ask in words, see which tokens mattered.

Trains the small model of train_attribute_query.py, saves it, and ingests its sentences. Then the
same file is the encoder:

    ascribed --store /tmp/store --create &
    python3 encoder_torch.py --store /tmp/store --model /tmp/homes.pt       # train and ingest: once
    ENCODER_MODEL=/tmp/homes.pt ascribed --store /tmp/store \
        --encoder 'python3 -m ascribe.encoder encoder_torch:encoder'
    ascribe ask homes 'emma lives in'
"""
import argparse
import os

import torch
from train_attribute_query import END, Model, sentences, train

import ascribe
from ascribe.torch import CausalEncoder, GradientCollector, second_moments


def make(path):
    """The encoder over a saved model."""
    saved = torch.load(path, weights_only=False)
    model = Model(saved["words"])
    model.load_state_dict(saved["weights"])
    model.eval()
    collector = GradientCollector(model, "layers.*", p=12, seed=1, second_moment=saved["moments"])
    words = list(model.words)

    def tokenize(text):
        ids, spans, at = [], [], 0
        for word in text.split():
            at = text.index(word, at)
            if word not in model.words:
                raise ascribe.ArgumentError(f"the model does not know the word {word!r}")
            ids.append(model.words[word])
            spans.append((at, at + len(word)))
            at += len(word)
        return ids, spans

    return CausalEncoder(model, collector, tokenize, lambda ids: "".join(f" {words[i]}" for i in ids),
                         end=model.words[END], context=8, name="homes")


def encoder():
    """What `python3 -m ascribe.encoder encoder_torch:encoder` serves."""
    return make(os.environ["ENCODER_MODEL"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", help="URL (ASCRIBE_SERVER, else http://127.0.0.1:7171)")
    parser.add_argument("--store", help="a store on this machine, for its key")
    parser.add_argument("--model", required=True, help="file for the model")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    torch.manual_seed(0)

    examples, _ = sentences(seed=1)
    texts = [e["text"] for e in examples]
    words = sorted({w for text in texts for w in text.split()})
    model = Model(words)
    optimizer = train(model, texts, args.steps)
    torch.save({"words": words, "weights": model.state_dict(),
                "moments": second_moments(optimizer, model, "layers.*")}, args.model)

    e = make(args.model)
    with ascribe.Client(args.server, store=args.store) as client:
        corpus = client.create_corpus("homes", **e.collector.definition())
        pairs = (([e.text_gradient(x["text"])], [x]) for x in examples)
        print(corpus.ingest_stream(pairs, total=len(examples)))
        corpus.fit()


if __name__ == "__main__":
    main()
