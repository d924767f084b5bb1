"""bergson_side.py - runs under the virtual environment that has bergson: makes a small model and texts on
the spot, has bergson build its stores of them, and writes bergson's own scores for several settings.

    bergson_side.py make DIR      model, tokenizer, texts, stores DIR/train and DIR/query
    bergson_side.py scores DIR    DIR/*.npy: scores [queries, examples] by bergson's Attributor
    bergson_side.py read DIR      what bergson reads of DIR/exported, as DIR/read_back.npy
"""
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

PLACES = ["Paris", "Rome", "Madrid", "Vienna", "Oslo", "Athens", "Lisbon", "Warsaw"]
LANDS = ["France", "Italy", "Spain", "Austria", "Norway", "Greece", "Portugal", "Poland"]
FORMS = ["{p} is the capital of {l}.", "The river near {p} runs through {l}.", "Many people in {l} visit {p} in {m}.",
         "In {m} the weather of {p} is mild.", "{n} plus {n} is counted in {p}.", "A train from {p} leaves at {n}."]
MONTHS = ["May", "June", "July", "August"]


def sentences(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        i = rng.randrange(len(PLACES))
        yield rng.choice(FORMS).format(p=PLACES[i], l=LANDS[i], m=rng.choice(MONTHS), n=rng.randrange(2, 30))


def make(folder):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    train, query = list(sentences(240, 1)), list(sentences(12, 2))
    train[7] = train[100] = "A"  # one token: no gradient
    for name, texts in (("train", train), ("query", query)):
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as f:
            f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(train, trainers.WordLevelTrainer(special_tokens=["<unk>", "<eos>", "<pad>"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>",
                                        pad_token="<pad>", model_max_length=64)
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, bos_token_id=1, eos_token_id=1))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    for name in ("train", "query"):
        subprocess.run([sys.executable, "-m", "bergson", "build", str(folder / name), "--model", str(folder / "model"),
                        "--dataset", str(folder / f"{name}.jsonl"), "--precision", "fp32", "--projection_dim", "8",
                        "--token_batch_size", "64", "--nproc_per_node", "1"], check=True)


def hessian(store, out):
    """The mean of g g^T over the rows of a store, per module, saved as bergson saves its own."""
    import torch
    from bergson import GradientProcessor, load_module_gradients

    grads = load_module_gradients(store)
    found, eigen = {}, {}
    for name in grads.keys():
        g = torch.from_numpy(np.array(grads[name])).double()
        found[name] = (g.T @ g / len(g)).float()
        eigen[name] = tuple(t.float() for t in torch.linalg.eigh(found[name].double()))
    replace(GradientProcessor.load(store, skip_hessians=True), hessians=found, hessians_eigen=eigen).save(out)


def scores(folder):
    import torch
    from bergson import Attributor, load_module_gradients
    from bergson.gradients import GradientProcessor
    from bergson.utils.math import compute_lambda

    for name in ("train", "query"):
        hessian(folder / name, folder / f"{name}-hessian")
    grads = load_module_gradients(folder / "query")
    queries = {name: torch.from_numpy(np.array(grads[name])) for name in grads.keys()}
    # TrackStar's mix by bergson's rule, at the place that is in proportion to 1000 of 65,536
    place = max(1, round(1000 * sum(q.shape[1] for q in queries.values()) / 65536))
    query, train = (GradientProcessor.load(folder / f"{n}-hessian") for n in ("query", "train"))
    part = compute_lambda(query.hessians_eigen, train.hessians_eigen, place)
    mixed = {name: part * query.hessians[name] + (1 - part) * train.hessians[name] for name in train.hessians}
    replace(train, hessians=mixed, hessians_eigen={}).save(folder / "mixed-hessian")
    with open(folder / "lambda.json", "w", encoding="utf-8") as f:
        json.dump({"lambda": part, "place": place}, f)
    for name, unit, path in (("dot", False, None), ("cosine", True, None),
                             ("preconditioned", True, "train-hessian"), ("inner", False, "train-hessian"),
                             ("trackstar", True, "mixed-hessian")):
        a = Attributor(folder / "train", unit_norm=unit, hessian_path=folder / path if path else None)
        found, places = a.search({k: v.clone() for k, v in queries.items()}, k=None)
        out = np.zeros(found.shape, "<f4")
        np.put_along_axis(out, places.numpy(), found.numpy(), axis=1)
        np.save(folder / f"{name}.npy", out)


def read(folder):
    from bergson.data import load_scores

    found = load_scores(folder / "exported")
    written = np.stack([found.mmap[f"written_{i}"] for i in range(found.num_scores)])
    np.savez(folder / "read_back.npz", scores=np.asarray(found[:]), written=written)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    {"make": make, "scores": scores, "read": read}[sys.argv[1]](Path(sys.argv[2]))
