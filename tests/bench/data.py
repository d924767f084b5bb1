"""data.py - the rows that are scanned: real encodings, made by the product itself and kept.

real(rows, dim) gives a Data: unit float32 rows and queries as raw files (for the engines and
their peers), the same rows as finished batches (for ingest), and a store whose corpus `real` was
ingested as gradients and fitted (for tasks). What is missing is made, by the programs of the build:
passages and model as `make demo` makes them, gradients by ascribe-lm, whitening by a server's fit.
Queries are gradients of prompts about facts the passages hold, whitened by the same fit: they go in as
a batch, are fetched back, and are deleted.
"""
import glob
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np

from book import h

ROOT = os.path.join(h.ROOT, "build/bench/data")
QUERIES = 512
CHUNK = 250  # rows of a finished batch


class Data:
    def __init__(self, where, rows, dim):
        self.where, self.count, self.dim = where, rows, dim
        self.rows, self.queries = f"{where}/rows.f32", f"{where}/queries.f32"
        self.raw_queries, self.store = f"{where}/gradients.f32", f"{where}/store"
        self.batches = f"{where}/batches"

    def batch_paths(self):
        return sorted(glob.glob(self.batches + "/*.safetensors"))

    def ids(self):
        with open(self.where + "/passages.jsonl", encoding="utf-8") as f:
            return [json.loads(line)["id"] for line in f]

    def about(self):
        return {"rows": self.count, "dim": self.dim, "dtype": "f32", "data": "real"}


def say(text):
    print(f"  making {text}", flush=True)


def run(*command, **kw):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def model():
    """Corpus and checkpoint of `make demo`, made if they are not there."""
    demo = os.path.join(h.ROOT, "build/demo")
    corpus, checkpoint = f"{demo}/corpus-20000.jsonl", f"{demo}/model-20000.ckpt"
    os.makedirs(demo, exist_ok=True)
    if not os.path.exists(corpus):
        say("20,000 passages")
        run("/usr/bin/python3", os.path.join(h.ROOT, "client/demo/wordnet.py"), "--count", "20000", "--out", corpus)
    if not os.path.exists(checkpoint):
        say("a trained model (3.5 minutes)")
        run(f"{h.BUILD}/ascribe-lm", "train", "--data", corpus, "--out", checkpoint, "--minutes", "3.5")
    return corpus, checkpoint


def prompts(corpus, path):
    """QUERIES prompts whose targets are facts of the passages, evenly spaced over two relations."""
    forms = {"part_of": "{}: located in", "instance_of": "{}: a"}
    facts = {relation: [] for relation in forms}
    with open(corpus, encoding="utf-8") as f:
        for line in f:
            meta = json.loads(line)["meta"]
            for relation, form in forms.items():
                if meta.get(relation):
                    facts[relation].append({"prompt": form.format(meta["lemma"]), "target": " " + meta[relation][0]})
    with open(path, "w", encoding="utf-8") as f:
        for of in facts.values():
            want = QUERIES // len(facts)
            for i in range(want):
                f.write(json.dumps(of[i * len(of) // want]) + "\n")


def tensor(path, name):
    with open(path, "rb") as f:
        return h.read_tensors(f.read())[0][name][1]


def write_batches(where, rows, dim, examples):
    """The finished rows as batch files of CHUNK rows, with ids and texts."""
    os.makedirs(where + "/batches", exist_ok=True)
    x = np.memmap(where + "/rows.f32", np.float32, "r", shape=(rows, dim))
    for at in range(0, rows, CHUNK):
        with open(f"{where}/batches/b{at // CHUNK:05d}.safetensors", "wb") as f:
            f.write(h.batch(x[at:at + CHUNK], examples[at:at + CHUNK]))


def fetch(client, ids, path):
    """Stored encodings of examples, in order, to a raw file."""
    with open(path + ".part", "wb") as f:
        for name in ids:
            reply = client.get(f"/v1/corpora/real/examples/{h.quote(name)}/encoding")
            assert reply.status == 200, reply
            f.write(h.read_tensors(reply.body)[0]["encoding"][1].tobytes())
    os.rename(path + ".part", path)


def wait(client, reply):
    assert reply.status == 202, reply
    where = reply.headers["Location"]
    while True:
        state = client.get(where).json()
        state = state.get("job", state)
        if state["state"] in ("succeeded", "failed", "cancelled"):
            assert state["state"] == "succeeded", state
            return state
        time.sleep(0.05)


def whiten(where, gradients, definition, examples, asked):
    """Ingest, fit; then the queries as one more batch: rows.f32 and queries.f32."""
    server = h.Server(where + "/store", ("--body-limit", "512M"))
    server.start()
    client = server.client(timeout=600)
    try:
        say("a store of their gradients, fitted")
        address = f"http://{server.address[0]}:{server.address[1]}"
        env = {**os.environ, "ASCRIBE_SERVER": address, "ASCRIBE_STORE": where + "/store"}
        run(f"{h.BUILD}/ascribe", "-q", "ingest", "real", "--create", definition, *gradients, env=env)
        run(f"{h.BUILD}/ascribe", "-q", "fit", "real", env=env)
        names = [f"query-{i}" for i in range(len(asked))]
        part = max(1, (128 << 20) // asked[0].nbytes)
        for at in range(0, len(names), part):
            reply = client.put(f"/v1/corpora/real/batches/queries-{at}", h.batch(asked[at:at + part], names[at:at + part]))
            assert reply.status == 201, reply
        say("files of their encodings")
        fetch(client, names, where + "/queries.f32")
        fetch(client, [e["id"] for e in examples], where + "/rows.f32")
        for name in names:
            assert client.delete(f"/v1/corpora/real/examples/{name}").status == 204
        wait(client, client.post("/v1/admin/compact"))
        client.close()
    finally:
        server.stop()


def real(rows, dim):
    """Data of that size, from build/bench/data or made now."""
    where = f"{ROOT}/{rows}x{dim}"
    data = Data(where, rows, dim)
    if os.path.exists(where + "/complete"):
        return data
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    corpus, checkpoint = model()
    with open(corpus, encoding="utf-8") as f:
        texts = [next(f) for _ in range(rows)]
    with open(where + "/passages.jsonl", "w", encoding="utf-8") as f:
        f.writelines(texts)
    demo = os.path.join(h.ROOT, f"build/demo/batches-{rows}")
    gradients = f"{where}/gradients"
    if dim == 16384 and len(glob.glob(demo + "/*.safetensors")) * 256 >= rows:
        gradients = demo
    else:
        say(f"gradients, {rows:,} x {dim:,}")
        run(f"{h.BUILD}/ascribe-lm", "encode", "--model", checkpoint, "--data", where + "/passages.jsonl", "--dim", str(dim), "--out", gradients)
    prompts(corpus, where + "/prompts.jsonl")
    run(f"{h.BUILD}/ascribe-lm", "query", "--model", checkpoint, "--prompts", where + "/prompts.jsonl",
        "--like", gradients + "/corpus.json", "--out", where + "/queries.safetensors")
    asked = tensor(where + "/queries.safetensors", "queries")
    with open(data.raw_queries, "wb") as f:
        f.write(asked.tobytes())
    examples = [json.loads(line) for line in texts]
    whiten(where, sorted(glob.glob(gradients + "/*.safetensors")), gradients + "/corpus.json", examples, asked)
    say("batches of them")
    write_batches(where, rows, dim, examples)
    if gradients != demo:
        shutil.rmtree(gradients)
    open(where + "/complete", "w", encoding="utf-8").close()
    return data


if __name__ == "__main__":
    real(int(sys.argv[1]), int(sys.argv[2]))
