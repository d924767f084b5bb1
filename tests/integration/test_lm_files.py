"""test_lm_files.py - what ascribe-lm writes, judged by a second implementation that shares nothing.

A small model is trained by the program; everything after that is done again here from its files
alone: the checkpoint and batch files are parsed byte by byte, the text is tokenized from the stored
merges, the transformer's forward and backward pass is numpy float64, the projection is Philox in
Python with the standard library's inverse normal. The rows must agree.
"""
import json
import math
import os
import statistics
import struct
import subprocess
import tempfile
import unittest

import numpy as np

import harness

LAYERS, WIDTH, HEADS, CONTEXT, P, SEED = 2, 32, 2, 24, 5, 12345
DIM = 4 * LAYERS * P * P
BLOCKS = ["attn.qkv", "attn.out", "mlp.in", "mlp.out"]
PLACES = ["Norland", "Ostria", "Pell", "Quend", "Rhovan"]


def write_corpus(path, count=60):
    with open(path, "w", encoding="utf-8") as out:
        for i in range(count):
            text = f"Town {i}: a town of {PLACES[i % 5]}; founded in {1900 + i}."
            if i == 7:
                text *= 5  # longer than the context: several windows
            if i == 8:
                text = "Café Zürich — 東京 \U0001F600: any Unicode."
            meta = {"number": i, "part_of": [PLACES[i % 5]]}
            out.write(json.dumps({"id": f"t{i}", "text": text, "meta": meta}) + "\n")


def read_tensors(path):
    """(metadata, {name: array}), insisting on a header without gaps, overlaps or left-over bytes."""
    with open(path, "rb") as f:
        data = f.read()
    (length,) = struct.unpack("<Q", data[:8])
    assert (8 + length) % 8 == 0, "the data is not aligned"
    header = json.loads(data[8 : 8 + length])
    facts = header.pop("__metadata__", {})
    body, tensors, at = data[8 + length :], {}, 0
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = t["data_offsets"]
        assert begin == at, f"{name}: a gap or an overlap"
        kind = np.dtype({"F32": "<f4", "U8": "u1", "U16": "<u2", "BF16": "<u2"}[t["dtype"]])
        assert end - begin == math.prod(t["shape"]) * kind.itemsize, name
        tensors[name] = np.frombuffer(body[begin:end], kind).reshape(t["shape"])
        at = end
    assert at == len(body), "bytes after the last tensor"
    return facts, tensors


class Tokenizer:
    END = 256

    def __init__(self, merges):
        self.rank = {(int(a), int(b)): 257 + i for i, (a, b) in enumerate(merges)
                     if (a, b) != (self.END, self.END)}

    @staticmethod
    def kind(byte):
        if byte == 32 or 9 <= byte <= 13:
            return "space"
        if byte >= 128 or chr(byte).isalpha():
            return "letter"
        return "digit" if chr(byte).isdigit() else "mark"

    def words(self, data):
        at = 0
        while at < len(data):
            end = at
            if data[at] == 32 and at + 1 < len(data) and self.kind(data[at + 1]) != "space":
                end = at + 1
            kind = self.kind(data[end])
            while end < min(len(data), at + 64) and self.kind(data[end]) == kind:
                end += 1
            yield data[at:end]
            at = end

    def encode(self, text):
        tokens = []
        for word in self.words(text.encode()):
            parts = list(word)
            while len(parts) > 1:
                best = min(self.rank.get(pair, 1 << 30) for pair in zip(parts, parts[1:]))
                if best == 1 << 30:
                    break
                joined, i = [], 0
                while i < len(parts):
                    if self.rank.get(tuple(parts[i : i + 2])) == best:
                        joined.append(best)
                        i += 2
                    else:
                        joined.append(parts[i])
                        i += 1
                parts = joined
            tokens += parts
        return tokens


class Model:
    """Forward and backward of one window at a time; gradients of the block matrices only."""

    def __init__(self, tensors):
        self.w = {name: a.astype(np.float64) for name, a in tensors.items() if a.dtype == "<f4"}

    @staticmethod
    def rms(x, gain):
        inverse = 1 / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5)
        return x * inverse * gain, inverse

    @staticmethod
    def rms_back(x, gain, inverse, dy):
        g = dy * gain
        return inverse * g - x * inverse**3 * (g * x).mean(1, keepdims=True)

    @staticmethod
    def gelu(x):
        z = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + np.tanh(z))

    @staticmethod
    def gelu_slope(x):
        c = math.sqrt(2 / math.pi)
        t = np.tanh(c * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)

    def window(self, inputs, targets, weights):
        """(loss, {"h0.attn.qkv": gradient, ...}) of the weighted, summed cross-entropy."""
        w, n, h = self.w, len(inputs), WIDTH // HEADS
        x = w["embed.token"][inputs] + w["embed.position"][:n]
        future = np.triu(np.ones((n, n), bool), 1)
        kept = []
        for layer in range(LAYERS):
            m = {name: w[f"h{layer}.{name}"] for name in BLOCKS}
            a, inv1 = self.rms(x, w[f"h{layer}.norm1"])
            q, k, v = ((a @ m["attn.qkv"].T)[:, i * WIDTH : (i + 1) * WIDTH].reshape(n, HEADS, h)
                       .transpose(1, 0, 2) for i in range(3))
            s = q @ k.transpose(0, 2, 1) / math.sqrt(h)
            s[:, future] = -np.inf
            s = np.exp(s - s.max(2, keepdims=True))
            s /= s.sum(2, keepdims=True)
            mixed = (s @ v).transpose(1, 0, 2).reshape(n, WIDTH)
            y = x + mixed @ m["attn.out"].T
            b, inv2 = self.rms(y, w[f"h{layer}.norm2"])
            up = b @ m["mlp.in"].T
            act = self.gelu(up)
            kept.append((x, a, inv1, q, k, v, s, mixed, y, b, inv2, up, act))
            x = y + act @ m["mlp.out"].T
        out, inverse = self.rms(x, w["norm"])
        logits = out @ w["embed.token"].T
        logits -= logits.max(1, keepdims=True)
        chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        rows = np.arange(n)
        loss = -(weights * np.log(chance[rows, targets])).sum()
        chance[rows, targets] -= 1
        d = self.rms_back(x, w["norm"], inverse, (chance * weights[:, None]) @ w["embed.token"])
        grads = {}
        for layer in reversed(range(LAYERS)):
            x, a, inv1, q, k, v, s, mixed, y, b, inv2, up, act = kept[layer]
            m = {name: w[f"h{layer}.{name}"] for name in BLOCKS}
            grads[f"h{layer}.mlp.out"] = d.T @ act
            d_up = (d @ m["mlp.out"]) * self.gelu_slope(up)
            grads[f"h{layer}.mlp.in"] = d_up.T @ b
            d = d + self.rms_back(y, w[f"h{layer}.norm2"], inv2, d_up @ m["mlp.in"])
            grads[f"h{layer}.attn.out"] = d.T @ mixed
            dm = (d @ m["attn.out"]).reshape(n, HEADS, h).transpose(1, 0, 2)
            dv = s.transpose(0, 2, 1) @ dm
            ds = dm @ v.transpose(0, 2, 1)
            ds = s * (ds - (ds * s).sum(2, keepdims=True)) / math.sqrt(h)
            d_qkv = np.concatenate([t.transpose(1, 0, 2).reshape(n, WIDTH)
                                    for t in (ds @ k, ds.transpose(0, 2, 1) @ q, dv)], 1)
            grads[f"h{layer}.attn.qkv"] = d_qkv.T @ a
            d = d + self.rms_back(x, w[f"h{layer}.norm1"], inv1, d_qkv @ m["attn.qkv"])
        return loss, grads

    def gradient(self, tokens, given=0):
        loss, sums = 0.0, {}
        for at in range(0, len(tokens), CONTEXT):
            targets = np.array(tokens[at : at + CONTEXT])
            inputs = np.array(([Tokenizer.END] + tokens)[at : at + len(targets)])
            weights = (np.arange(at, at + len(targets)) >= given).astype(float)
            part, grads = self.window(inputs, targets, weights)
            loss += part
            for name, g in grads.items():
                sums[name] = sums.get(name, 0) + g
        return loss, sums


def philox(counter, key):
    """One block of Philox4x32-10 (Salmon et al., 2011)."""
    c, k, mask = list(counter), list(key), 0xFFFFFFFF
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def projection(block, side, rows, cols):
    normal, count = statistics.NormalDist(), rows * cols
    words = [word for n in range((count + 3) // 4)
             for word in philox([n, 0, block, side], [SEED & 0xFFFFFFFF, SEED >> 32])]
    values = [normal.inv_cdf((word + 0.5) / 2**32) for word in words[:count]]
    return np.array(values).reshape(rows, cols) / math.sqrt(P)


class LmFiles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lm = harness.program("ascribe-lm")
        cls.scratch = tempfile.TemporaryDirectory(prefix="ascribe-lm-")
        cls.corpus = cls.path("corpus.jsonl")
        cls.model = cls.path("model.ckpt")
        write_corpus(cls.corpus)
        cls.train(cls.model)
        cls.facts, cls.tensors = read_tensors(cls.model)
        cls.tokenizer = Tokenizer(cls.tensors["tokenizer.merges"])
        cls.reference = Model(cls.tensors)
        cls.sides = []
        for b in range(4 * LAYERS):
            rows, cols = cls.tensors[cls.block_name(b)].shape
            cls.sides.append((projection(b, 0, P, rows), projection(b, 1, P, cols)))

    @classmethod
    def train(cls, path, *more):
        cls.run_lm("train", "--data", cls.corpus, "--out", path, "--steps", 40, "--vocab", 320,
                   "--context", CONTEXT, "--layers", LAYERS, "--width", WIDTH, "--heads", HEADS,
                   "--batch", 12, "--rate", "1e-2", *more)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.scratch.name, name)

    @classmethod
    def run_lm(cls, *args, code=0):
        done = subprocess.run([cls.lm, *map(str, args)], capture_output=True, text=True,
                              timeout=60 * harness.SLOW)
        if done.returncode != code:
            raise AssertionError(f"{args}: exit {done.returncode}: {done.stderr}")
        return done.stdout if code == 0 else done.stderr

    @staticmethod
    def block_name(b):
        return f"h{b // 4}.{BLOCKS[b % 4]}"

    @staticmethod
    def root(tensors, name, second):
        """What a gradient is divided by."""
        if second == "none":
            return 1.0
        if second == "adam":
            return np.sqrt(tensors["adam.second." + name].astype(np.float64)) + 1e-8
        row = tensors["adafactor.row." + name].astype(np.float64) + 1e-30
        col = tensors["adafactor.col." + name].astype(np.float64) + 1e-30
        return np.sqrt(np.outer(row, col) / row.mean())

    def row(self, tokens, given=0, second="adam", model=None):
        tensors, reference = model or (self.tensors, self.reference)
        loss, grads = reference.gradient(tokens, given)
        parts = []
        for b, (left, right) in enumerate(self.sides):
            name = self.block_name(b)
            g = grads[name] / self.root(tensors, name, second)
            parts.append((left @ g @ right.T).ravel())
        return loss, np.concatenate(parts)

    def assert_close(self, got, want, bound=1e-5):
        self.assertLess(np.abs(got - want).max() / np.linalg.norm(want), bound)

    def encode(self, folder, *more, model=None):
        self.run_lm("encode", "--model", model or self.model, "--data", self.corpus, "--out", self.path(folder),
                    "--dim", DIM, "--seed", SEED, "--batch-rows", 16, *more)
        names = sorted(n for n in os.listdir(self.path(folder)) if n.endswith(".safetensors"))
        return [read_tensors(os.path.join(self.path(folder), n))[1] for n in names], names

    def test_checkpoint_is_plain_safetensors(self):
        self.assertEqual(self.facts["format"], "ascribe-lm")
        self.assertEqual(int(self.facts["steps"]), 40)
        self.assertEqual(self.tensors["embed.token"].shape, (320, WIDTH))
        for name in self.tensors:
            if name.startswith("adam.second."):
                self.assertTrue((self.tensors[name] >= 0).all(), name)
        self.assertTrue((self.tensors["adam.second.h1.mlp.out"] > 0).any())

    def test_rows_equal_the_second_implementation(self):
        batches, names = self.encode("adam")
        self.assertEqual([len(b["gradients"]) for b in batches], [16, 16, 16, 12])
        for name in names:
            self.assertRegex(name, r"^[a-z0-9][a-z0-9_-]{0,62}\.safetensors$")
        with open(self.corpus, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        examples = [json.loads(line) for b in batches
                    for line in bytes(b["examples"]).decode().splitlines()]
        self.assertEqual(examples, lines)
        rows = np.concatenate([b["gradients"] for b in batches])
        for i in [0, 7, 8, 33, 59]:
            _, want = self.row(self.tokenizer.encode(lines[i]["text"]))
            self.assert_close(rows[i], want)

    def test_without_second_moment(self):
        batches, _ = self.encode("none", "--second-moment", "none")
        with open(self.corpus, encoding="utf-8") as f:
            first = json.loads(f.readline())
        _, want = self.row(self.tokenizer.encode(first["text"]), second="none")
        self.assert_close(batches[0]["gradients"][0], want)

    def adafactor(self):
        """A model trained by Adafactor: (path, facts, tensors)."""
        path = self.path("adafactor.ckpt")
        if not os.path.exists(path):
            self.train(path, "--optimizer", "adafactor")
        return (path, *read_tensors(path))

    def test_adafactor_checkpoint(self):
        _, facts, tensors = self.adafactor()
        self.assertEqual((facts["version"], facts["optimizer"]), ("2", "adafactor"))
        self.assertEqual((self.facts["version"], self.facts.get("optimizer")), ("1", None))
        self.assertFalse([n for n in tensors if n.startswith("adam.")])
        for name in [n for n in tensors if not n.startswith(("adafactor.", "tokenizer."))]:
            if len(tensors[name]) == 1:  # a vector has one row
                self.assertEqual(tensors["adafactor.second." + name].shape, (WIDTH,))
                continue
            row, col = tensors["adafactor.row." + name], tensors["adafactor.col." + name]
            self.assertEqual((row.shape + col.shape), tensors[name].shape)
            self.assertTrue((row > 0).all() and (col > 0).all(), name)
            # both are means of the same squares
            self.assertAlmostEqual(row.mean(dtype=float) / col.mean(dtype=float), 1, places=5)

    def test_adafactor_rows_equal_the_second_implementation(self):
        path, facts, tensors = self.adafactor()
        batches, _ = self.encode("adafactor", model=path)
        asked, _ = self.encode("asked", "--second-moment", "adafactor", model=path)
        rows = np.concatenate([b["gradients"] for b in batches])
        self.assertTrue((np.concatenate([b["gradients"] for b in asked]) == rows).all())
        with open(self.path("adafactor/corpus.json"), encoding="utf-8") as f:
            corpus = json.load(f)
        self.assertEqual(corpus["second_moment"], {"kind": "adafactor", "eps": 1e-30})
        self.assertTrue(corpus["model"].endswith(facts["checksum"]))
        model, tokenizer = (tensors, Model(tensors)), Tokenizer(tensors["tokenizer.merges"])
        with open(self.corpus, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        for i in [0, 7, 8, 33]:
            _, want = self.row(tokenizer.encode(lines[i]["text"]), 0, "adafactor", model)
            self.assert_close(rows[i], want)
        plain, _ = self.encode("plain", "--second-moment", "none", model=path)
        _, want = self.row(tokenizer.encode(lines[0]["text"]), 0, "none", model)
        self.assert_close(plain[0]["gradients"][0], want)
        # a query takes it from the encodings, and is made the same way
        said = json.loads(self.run_lm("query", "--model", path, "--prompt", "Town 4: a", "--target",
                                      " town of", "--like", self.path("adafactor/corpus.json"),
                                      "--out", self.path("af.safetensors")))
        given = tokenizer.encode("Town 4: a")
        loss, want = self.row(given + tokenizer.encode(" town of"), len(given), "adafactor", model)
        self.assert_close(read_tensors(self.path("af.safetensors"))[1]["queries"][0], want)
        self.assertAlmostEqual(said["loss"], loss, places=3)

    def test_a_second_moment_that_is_not_there(self):
        path, _, _ = self.adafactor()
        for model, asked, own in [(path, "adam", "adafactor"), (self.model, "adafactor", "adam")]:
            said = self.run_lm("encode", "--model", model, "--data", self.corpus, "--out",
                               self.path("never"), "--dim", DIM, "--second-moment", asked, code=2)
            self.assertIn(f"second moment {asked}: the checkpoint was trained by {own}", said)
        self.assertFalse(os.path.exists(self.path("never")))
        self.encode("adam")
        self.assertIn("adam/corpus.json: second moment adam",
                      self.run_lm("query", "--model", path, "--prompt", "a", "--like",
                                  self.path("adam/corpus.json"), code=2))

    def test_bf16_is_the_same_rounded(self):
        wide, _ = self.encode("adam")
        narrow, _ = self.encode("bf16", "--dtype", "bf16")
        for a, b in zip(wide, narrow):
            self.assertTrue((harness.narrow(a["gradients"], "bf16") == b["gradients"]).all())

    def test_corpus_json(self):
        self.encode("adam")
        with open(self.path("adam/corpus.json"), encoding="utf-8") as f:
            corpus = json.load(f)
        self.assertEqual(corpus["dim"], DIM)
        self.assertEqual([b["name"] for b in corpus["blocks"]],
                         [self.block_name(b) for b in range(4 * LAYERS)])
        self.assertEqual({b["dim"] for b in corpus["blocks"]}, {P * P})
        self.assertEqual(corpus["projection"], {"kind": "two-sided-gaussian", "seed": SEED, "p": P,
                                                "scale": "1/sqrt(p)", "generator": "philox4x32-10"})
        self.assertEqual(corpus["second_moment"], {"kind": "adam", "eps": 1e-8})
        self.assertEqual((corpus["encoded"], corpus["loss"], corpus["dtype"]), (False, "sum", "f32"))
        self.assertTrue(corpus["model"].endswith(self.facts["checksum"]))

    def test_query_is_the_loss_on_the_target(self):
        prompts = [{"prompt": "Town 3: a town of", "target": " Quend"}, {"prompt": "Town 11: a town"}]
        with open(self.path("prompts.jsonl"), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(p) + "\n" for p in prompts)
        out = self.run_lm("query", "--model", self.model, "--prompts", self.path("prompts.jsonl"), "--dim",
                          DIM, "--seed", SEED, "--out", self.path("q.safetensors"))
        said = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([s["generated"] for s in said], [False, True])
        self.assertEqual(said[1]["continuation"], said[1]["target"])
        self.assertTrue(said[0]["continuation"])
        _, tensors = read_tensors(self.path("q.safetensors"))
        self.assertEqual(tensors["queries"].shape, (2, DIM))
        for s, row in zip(said, tensors["queries"]):
            given = self.tokenizer.encode(s["prompt"])
            loss, want = self.row(given + self.tokenizer.encode(s["target"]), len(given))
            self.assert_close(row, want)
            self.assertAlmostEqual(s["loss"], loss, places=3)

    def test_query_like_a_corpus(self):
        self.encode("none", "--second-moment", "none")
        ask = ["query", "--model", self.model, "--prompt", "Town 4: a", "--target", " town of"]
        self.run_lm(*ask, "--like", self.path("none/corpus.json"), "--out", self.path("a.safetensors"))
        self.run_lm(*ask, "--dim", DIM, "--seed", SEED, "--second-moment", "none", "--out",
                    self.path("b.safetensors"))
        with open(self.path("a.safetensors"), "rb") as a, open(self.path("b.safetensors"), "rb") as b:
            self.assertEqual(a.read(), b.read())
        other = self.path("other.ckpt")
        self.run_lm("train", "--data", self.corpus, "--out", other, "--steps", 1, "--vocab", 320,
                    "--context", CONTEXT, "--layers", LAYERS, "--width", WIDTH, "--heads", HEADS)
        ask[2] = other
        self.assertIn("another model",
                      self.run_lm(*ask, "--like", self.path("none/corpus.json"), code=1))
        self.assertIn("not a corpus.json", self.bad_like('{"dim":5}'))
        self.assertIn("bad.json: ", self.bad_like('{"dim":'))

    def bad_like(self, text):
        with open(self.path("bad.json"), "w", encoding="utf-8") as f:
            f.write(text)
        return self.run_lm("query", "--model", self.model, "--prompt", "a", "--like",
                           self.path("bad.json"), code=1)

    def test_generation_is_the_most_likely_token(self):
        text = "Town 20: a"
        out = self.run_lm("generate", "--model", self.model, "--prompt", text, "--tokens", 4)
        tokens, start = self.tokenizer.encode(text), len(self.tokenizer.encode(text))
        pieces = [bytes([i]) for i in range(256)] + [b""]
        for a, b in self.tensors["tokenizer.merges"]:
            pieces.append(pieces[a] + pieces[b])
        for _ in range(4):
            losses = [self.reference.gradient(tokens + [t], len(tokens))[0] for t in range(320)]
            best = int(np.argmin(losses))
            if best == Tokenizer.END:
                break
            tokens.append(best)
        said = b"".join(pieces[t] for t in tokens[start:]).decode("utf-8", "ignore")
        self.assertEqual(out, text + said + "\n")

    def send(self, server, corpus, *more, code=0):
        with open(self.path("key"), "w", encoding="utf-8") as f:
            f.write(server.key + "\n")
        return self.run_lm("encode", "--model", self.model, "--data", self.corpus, "--dim", DIM,
                           "--seed", SEED, "--batch-rows", 16, "--server", server.url, "--corpus",
                           corpus, "--key-file", self.path("key"), *more, code=code)

    def test_straight_to_a_server(self):
        harness.program("ascribed")
        server = harness.Server(self.path("store")).start()
        self.addCleanup(server.stop)
        for _ in range(2):  # the second time every batch is there already
            said = json.loads(self.send(server, "towns", "--threads", 3))
            self.assertEqual(said["passages"], 60)
            corpus = server.client().get("/v1/corpora/towns").json()
            self.assertEqual((corpus["examples"], corpus["batches"]), (60, 4))
        # what arrived is what the files hold: each row finds itself with a cosine of one
        batches, names = self.encode("adam")
        with open(os.path.join(self.path("adam"), names[1]), "rb") as f:
            answer = server.client().put(f"/v1/corpora/towns/batches/{names[1][:-12]}", f.read())
        self.assertEqual(answer.status, 200, "the same bytes under the same name")
        query = {"queries": batches[1]["gradients"][:2].tolist(), "k": 1}
        found = server.client().post("/v1/corpora/towns/query", query).json()["results"]
        self.assertEqual([r["proponents"][0]["id"] for r in found], ["t16", "t17"])
        for r in found:
            self.assertAlmostEqual(r["proponents"][0]["score"], 1, places=6)
        self.assertIn("corpus_conflict", self.send(server, "towns", "--dtype", "bf16", code=1))

    def test_wrong_use(self):
        for args, code, word in [
            (["encode", "--model", self.model], 2, "--data must be given"),
            (["encode", "--model", self.model, "--data", self.corpus], 2, "give either --out"),
            (["encode", "--model", self.model, "--data", self.corpus, "--server", "unix:/none"], 2,
             "--server and --corpus"),
            (["encode", "--model", self.model, "--data", self.corpus, "--out", self.path("x"), "--dim",
              "1000"], 2, "does not fit"),
            (["encode", "--model", self.corpus, "--data", self.corpus, "--out", self.path("x")], 1,
             "not a checkpoint"),
            (["encode", "--model", self.model, "--data", self.model, "--out", self.path("x")], 1,
             "line 1"),
            (["query", "--model", self.model], 2, "--prompt"),
            (["train", "--data", self.corpus, "--out", self.path("y"), "--batch", "0"], 2, "--batch 0"),
            (["train", "--data", self.corpus, "--outt", "y"], 2, "no option --outt"),
            (["train", "--data", self.corpus, "--out", self.path("y"), "--optimizer", "sgd"], 2,
             "must be adam or adafactor"),
            (["encode", "--model", self.model, "--data", self.corpus, "--out", self.path("x"),
              "--second-moment", "sgd"], 2, "must be none, adam, adafactor or auto"),
            (["fly"], 2, "no verb"),
        ]:
            self.assertIn(word, self.run_lm(*args, code=code))


if __name__ == "__main__":
    unittest.main()
