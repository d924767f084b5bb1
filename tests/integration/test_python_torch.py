"""test_python_torch.py - ascribe.torch against torch.autograd, one example at a time.

The oracle: the model's weights with requires_grad, one backward pass an example, the second moment
and the projection as docs/encoding.md writes them, in float64.
"""
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import warnings

import numpy as np

import harness as h

PACKAGE = os.path.join(h.ROOT, "client/python")
sys.path.insert(0, PACKAGE)

import ascribe
from ascribe import moment, projection, safetensors
import test_lm_files as lm

try:
    import torch
    from torch import nn
    from ascribe.torch import CausalEncoder, GradientCollector, second_moments
    MISSING = None
    torch.set_num_threads(1)
except ImportError as e:
    torch, nn, MISSING = None, unittest.mock, f"needs python3-torch: {e}"


if not MISSING:
    class Conv1D(nn.Module):
        """As GPT-2 has it: the weight lies [in, out]."""

        def __init__(self, nf, nx):
            super().__init__()
            self.nf = nf
            self.weight = nn.Parameter(torch.randn(nx, nf) * 0.2)
            self.bias = nn.Parameter(torch.zeros(nf))

        def forward(self, x):
            return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], self.nf)

    class Net(nn.Module):
        """A small causal model with everything that matters: residuals, an activation in place, a
        layer that is used twice, a Conv1D, a layer over flattened tokens, an output tied to the
        embedding."""

        def __init__(self, words=17, width=12):
            super().__init__()
            self.embed = nn.Embedding(words, width)
            self.up = nn.Linear(width, 20)
            self.down = Conv1D(width, 20)
            self.twice = nn.Linear(width, width, bias=False)
            self.flat = nn.Linear(width, width)
            self.head = nn.Linear(width, words, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            x = self.embed(tokens)
            x = torch.cumsum(x, 1) / torch.arange(1, x.shape[1] + 1)[:, None]
            x = x + self.down(torch.relu_(self.up(x)))
            x = x + torch.tanh(self.twice(torch.tanh(self.twice(x))))
            x = x + self.flat(x.reshape(-1, x.shape[-1])).view_as(x)
            return self.head(x)

    class Gain(nn.Module):
        """x over its root mean square, times a gain."""

        def __init__(self, gain):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(gain))

        def forward(self, x):
            return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * self.gain

    class ReferenceLM(nn.Module):
        """ascribe-lm's transformer (docs/lm.md), its matrices under the names of its checkpoint."""

        def __init__(self, tensors):
            super().__init__()
            self.tensors = tensors
            self.token = nn.Parameter(torch.tensor(tensors["embed.token"]))
            self.position = nn.Parameter(torch.tensor(tensors["embed.position"]))
            for i in range(lm.LAYERS):
                self.add_module(f"h{i}", nn.ModuleDict({
                    "attn": nn.ModuleDict({n: self.linear(f"h{i}.attn.{n}") for n in ("qkv", "out")}),
                    "mlp": nn.ModuleDict({n: self.linear(f"h{i}.mlp.{n}") for n in ("in", "out")}),
                    "norm1": Gain(tensors[f"h{i}.norm1"]), "norm2": Gain(tensors[f"h{i}.norm2"])}))
            self.norm = Gain(tensors["norm"])

        def linear(self, name):
            out, inputs = self.tensors[name].shape
            layer = nn.Linear(inputs, out, bias=False)
            layer.weight = nn.Parameter(torch.tensor(self.tensors[name]))
            return layer

        def forward(self, tokens):
            n, t = tokens.shape
            x = self.token[tokens] + self.position[:t]
            future = torch.triu(torch.ones(t, t, dtype=torch.bool), 1)
            for i in range(lm.LAYERS):
                layer = getattr(self, f"h{i}")
                q, k, v = (y.view(n, t, lm.HEADS, -1).transpose(1, 2)
                           for y in layer["attn"]["qkv"](layer["norm1"](x)).chunk(3, -1))
                a = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(future, float("-inf")).softmax(-1)
                x = x + layer["attn"]["out"]((a @ v).transpose(1, 2).reshape(n, t, -1))
                up = layer["mlp"]["in"](layer["norm2"](x))
                up = 0.5 * up * (1 + torch.tanh((2 / np.pi) ** 0.5 * (up + 0.044715 * up**3)))
                x = x + layer["mlp"]["out"](up)
            return self.norm(x) @ self.token.T

    def losses(model, tokens):
        logits = model(tokens[:, :-1])
        each = nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        return each.sum(1)


def shares_apart(model, tokens, p, seed, vector, divide=lambda name, w: w):
    """The oracle of token shares: every position of one example gets weights of its own, in float64, and
    autograd does the rest. [t]"""
    class Apart(nn.Module):
        def __init__(self, layer, flip):
            super().__init__()
            weight = layer.weight.detach().double()
            self.weight = nn.Parameter((weight.T if flip else weight).repeat(tokens.shape[1] - 1, 1, 1))
            self.bias = None if layer.bias is None else layer.bias.detach().double()

        def forward(self, x):
            flat = x.reshape(-1, x.shape[-1])
            y = torch.einsum("toi,ti->to", self.weight, flat)
            y = y if self.bias is None else y + self.bias
            return y.reshape(*x.shape[:-1], -1)

    names = [(name, flip) for name, _, flip in weights(model)]
    model = copy.deepcopy(model).double()
    for name, flip in names:
        setattr(model, name, Apart(getattr(model, name), flip))
    losses(model, tokens).sum().backward()
    out = np.zeros(tokens.shape[1] - 1)
    for block, (name, _) in enumerate(names):
        v = vector[block * p * p:(block + 1) * p * p].astype(np.float64)
        for t, w in enumerate(getattr(model, name).weight.grad.numpy()):
            row = projection.Projection(seed, block, *w.shape, p).apply(divide(name, w), np.float64)
            out[t] += row @ v
    return out


def weights(model):
    """[(name, parameter, whether it lies [in, out])] of the four layers that are collected."""
    return [(n, dict(model.named_modules())[n].weight, n == "down") for n in ("up", "down", "twice", "flat")]


def oracle(model, tokens, p, seed, divide=lambda name, w: w):
    rows = []
    for one in tokens:
        model.zero_grad()
        losses(model, one[None]).sum().backward()
        parts = []
        for block, (name, weight, flip) in enumerate(weights(model)):
            w = weight.grad.double().numpy()
            w = divide(name, w.T if flip else w)
            parts.append(projection.Projection(seed, block, *w.shape, p).apply(w, np.float64))
        rows.append(np.concatenate(parts))
    model.zero_grad(set_to_none=True)
    return np.array(rows)


def seen_input(model, tokens):
    """What the first layer reads, [n, t, width]."""
    got = []
    hook = model.up.register_forward_pre_hook(lambda m, args: got.append(args[0].detach()))
    losses(model, tokens)
    hook.remove()
    return got[0]


@unittest.skipIf(MISSING, MISSING)
class Collector(h.Case):
    def setUp(self):
        torch.manual_seed(3)
        self.model = Net().eval()
        self.tokens = torch.randint(0, 17, (6, 9))

    def near(self, got, want, within=5e-6):
        self.assertEqual(got.shape, want.shape)
        self.assertEqual(got.dtype, np.float32)
        error = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
        self.assertLess(error.max(), within)

    def test_equals_autograd_one_example_at_a_time(self):
        c = GradientCollector(self.model, p=5, seed=7)
        self.assertEqual([b.name for b in c.blocks], ["up", "down", "twice", "flat"])
        self.assertEqual(c.dim, 100)
        with c.collect(6) as rows:
            losses(self.model, self.tokens).sum().backward()
        self.near(rows.numpy(), oracle(self.model, self.tokens, 5, 7))
        self.near(c.gradients(self.tokens[:1], losses), oracle(self.model, self.tokens[:1], 5, 7))

    def test_nothing_is_left_behind(self):
        self.model.up.weight.requires_grad_(False)
        before = {n: p.requires_grad for n, p in self.model.named_parameters()}
        c = GradientCollector(self.model, p=2)
        c.gradients(self.tokens, losses)
        with self.assertRaises(ZeroDivisionError):
            with c.collect(6):
                1 / 0
        self.assertEqual({n: p.requires_grad for n, p in self.model.named_parameters()}, before)
        self.assertTrue(all(p.grad is None for p in self.model.parameters()))
        self.assertTrue(all(not m._forward_hooks for m in self.model.modules()))
        with torch.no_grad():  # a caller in no_grad is no obstacle, and stays in it
            c.gradients(self.tokens, losses)
            self.assertFalse(torch.is_grad_enabled())

    def trained(self, make):
        optimizer = make(self.model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            losses(self.model, self.tokens).mean().backward()
            optimizer.step()
        return optimizer

    def test_adam(self):
        for make in (torch.optim.Adam, torch.optim.AdamW):
            optimizer = self.trained(lambda ps: make(ps, lr=1e-3, betas=(0.9, 0.95)))
            c = GradientCollector(self.model, p=4, seed=2, second_moment=second_moments(optimizer, self.model))
            v = {n: optimizer.state[w]["exp_avg_sq"].double().numpy() / (1 - 0.95**3) for n, w, _ in weights(self.model)}
            v["down"] = v["down"].T
            want = oracle(self.model, self.tokens, 4, 2, lambda n, w: w / (np.sqrt(v[n]) + 1e-8))
            self.near(c.gradients(self.tokens, losses), want)
            self.assertEqual(c.definition()["second_moment"], {"kind": "adam", "eps": 1e-8})

    def test_token_shares(self):
        """Each position's share is the oracle's; their sum is <vector, gradient>."""
        optimizer = self.trained(lambda ps: torch.optim.Adam(ps, lr=1e-3, betas=(0.9, 0.95)))
        v = {n: optimizer.state[w]["exp_avg_sq"].double().numpy() / (1 - 0.95**3) for n, w, _ in weights(self.model)}
        v["down"] = v["down"].T
        vector = np.random.default_rng(4).standard_normal(64).astype("f4")
        one = self.tokens[2:3]
        for second, divide in ((None, lambda n, w: w),
                               (second_moments(optimizer, self.model),
                                lambda n, w: w / (np.sqrt(v[n]) + 1e-8))):
            c = GradientCollector(self.model, p=4, seed=2, second_moment=second)
            got = c.shares(vector, one, losses)
            want = shares_apart(self.model, one, 4, 2, vector, divide)
            self.assertLess(np.abs(got - want).max(), 1e-5 * np.abs(want).max())
            whole = float(c.gradients(one, losses)[0].astype(np.float64) @ vector)
            self.assertLess(abs(got.sum() - whole), 1e-5 * np.abs(want).max())
        with self.assertRaisesRegex(ascribe.ArgumentError, "must be .64."):
            c.shares(vector[:5], one, losses)

    def test_adafactor_of_transformers_and_of_torch(self):
        class Factors(torch.optim.Optimizer):
            """The state of an Adafactor, under either library's names."""
            names = ("exp_avg_sq_row", "exp_avg_sq_col", False)

            def __init__(self, params):
                super().__init__(params, {})

            def step(self):
                row, col, keep = self.names
                for p in self.param_groups[0]["params"]:
                    if p.ndim == 2:
                        s = p.grad**2 + 1e-12
                        self.state[p] = {row: s.mean(-1, keepdim=keep), col: s.mean(-2, keepdim=keep)}

        class Torchs(Factors):
            names = ("row_var", "col_var", True)

        for make in (Factors, Torchs):
            optimizer = self.trained(make)
            c = GradientCollector(self.model, p=4, seed=2, second_moment=second_moments(optimizer, self.model))

            def divide(name, w):
                weight, flip = next((x, f) for n, x, f in weights(self.model) if n == name)
                row, col = (optimizer.state[weight][k].double().numpy().reshape(-1) for k in make.names[:2])
                row, col = (col, row) if flip else (row, col)
                return w / np.sqrt(np.outer(row + 1e-30, col + 1e-30) / (row + 1e-30).mean())
            self.near(c.gradients(self.tokens, losses), oracle(self.model, self.tokens, 4, 2, divide))
            self.assertEqual(c.definition()["second_moment"]["kind"], "adafactor")

    def test_half_precision_models(self):
        model = Net().eval().bfloat16()
        c = GradientCollector(model, "*p*", p=3)
        self.assertEqual([b.name for b in c.blocks], ["up"])
        with c.collect(6) as rows:
            losses(model, self.tokens).sum().backward()
        self.assertEqual(rows.numpy().dtype, np.float32)
        self.assertTrue(np.isfinite(rows.numpy()).all())

    def test_autocast_leaves_the_projection_in_float32(self):
        c = GradientCollector(self.model, p=5, seed=7)
        seen, before = [], c.blocks[0].before
        c.blocks[0].before = lambda a: seen.append(before(a)) or seen[-1]
        with torch.autocast("cpu", torch.bfloat16):
            got = c.gradients(self.tokens, losses)
        self.assertEqual([x.dtype for x in seen], [torch.float32])
        # Rounding to bfloat16 of the model's own products is all that is lost.
        self.near(got, oracle(self.model, self.tokens, 5, 7), within=0.03)
        np.testing.assert_array_equal(seen[0].numpy(), before(seen_input(self.model, self.tokens)).numpy())

    def test_a_checkpointed_layer(self):
        from torch.utils.checkpoint import checkpoint
        want = GradientCollector(self.model, p=3).gradients(self.tokens, losses)
        twice = self.model.twice

        class Again(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = twice

            def forward(self, x):
                return checkpoint(self.inner, x, use_reentrant=False)
        self.model.twice = Again()
        got = GradientCollector(self.model, p=3).gradients(self.tokens, losses)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)

    def test_choice_of_modules(self):
        self.assertEqual([b.name for b in GradientCollector(self.model, ["flat", "u*"], p=2).blocks], ["up", "flat"])
        chosen = GradientCollector(self.model, lambda name, module: module is self.model.head, p=2)
        self.assertEqual([b.name for b in chosen.blocks], ["head"])
        for bad in ("nothing", "embed", [], lambda name, module: False):
            with self.assertRaises(ascribe.ArgumentError, msg=bad):
                GradientCollector(self.model, bad)

    def test_what_goes_wrong_is_named(self):
        c = GradientCollector(self.model, p=2)
        with self.assertRaisesRegex(ascribe.ArgumentError, "up took no part"):
            with c.collect(6) as rows:
                pass
            rows.numpy()
        with self.assertRaisesRegex(ascribe.ArgumentError, "backward"):
            with c.collect(6) as rows:
                losses(self.model, self.tokens)
            rows.numpy()
        with self.assertRaisesRegex(ascribe.ArgumentError, "not of 5 examples"):
            with c.collect(5):
                losses(self.model, self.tokens)
        with self.assertRaisesRegex(ascribe.ArgumentError, r"losses must be \[n\]"):
            c.gradients(self.tokens, lambda m, t: losses(m, t).sum())
        with self.assertRaisesRegex(ascribe.ArgumentError, "was a step made"):
            second_moments(torch.optim.Adam(self.model.parameters()), self.model)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            self.model.train()
            c.gradients(self.tokens, losses)
        self.assertIn("training mode", str(said[0].message))

    def test_an_input_changed_in_place_is_noticed(self):
        class Bad(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

            def forward(self, x):
                x = self.a(x)
                y = self.b(x)
                x.mul_(2)
                return y + x
        model = Bad().eval()
        optimizer = torch.optim.Adam(model.parameters())
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        x = torch.ones(2, 3, 4)
        c = GradientCollector(model, p=2, second_moment=second_moments(optimizer, model))
        with self.assertRaisesRegex(ascribe.ArgumentError, "b: its input was changed in place"):
            c.gradients(x, lambda m, b: m(b).sum((1, 2)))

    def test_fingerprint_follows_the_weights(self):
        c = GradientCollector(self.model, p=2)
        first = c.fingerprint()
        self.assertEqual(first, c.fingerprint())
        with torch.no_grad():
            self.model.up.bias[3] += 1
        self.assertNotEqual(first, c.fingerprint())
        self.assertEqual(c.definition(model="mine")["model"], "mine")

    def test_straight_into_a_corpus(self):
        server = self.serve()
        with ascribe.Client("http://%s:%d" % server.address, store=server.store) as client:
            c = GradientCollector(self.model, p=4, seed=1)
            corpus = client.create_corpus("net", **c.definition())
            data = [(self.tokens[i:i + 2], [f"e{i}", f"e{i + 1}"]) for i in range(0, 6, 2)]
            told = corpus.ingest_stream(c.stream(data, losses), rows_per_batch=4)
            self.assertEqual((told.examples, told.batches), (6, 2))
            for i in range(6):
                hit = corpus.query(c.gradients(self.tokens[i:i + 1], losses), k=1, blocks=True)[0].proponents[0]
                self.assertEqual(hit.id, f"e{i}")
                self.assertAlmostEqual(hit.score, 1.0, places=5)
                self.assertEqual([b for b, _ in hit.shares], ["up", "down", "twice", "flat"])

    def test_the_example_runs(self):
        server = self.serve()
        env = dict(os.environ, PYTHONPATH=PACKAGE, OMP_NUM_THREADS="1")
        done = subprocess.run([sys.executable, os.path.join(PACKAGE, "examples/train_attribute_query.py"),
                               "--server", "http://%s:%d" % server.address, "--store", server.store],
                              capture_output=True, text=True, env=env, timeout=300 * h.SLOW)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        for words in ("proponents", "opponents", "the model knew 1"):
            self.assertIn(words, done.stdout)
        found = done.stdout.strip().splitlines()[-1]
        self.assertRegex(found, r"^the fact's own sentence came first for \d+ of \d+ questions$")
        hit, of = map(int, re.findall(r"\d+", found))
        self.assertEqual(of, 12)
        self.assertGreaterEqual(hit, 10, done.stdout)


@unittest.skipIf(MISSING, MISSING)
class Encoder(h.Case):
    """A PyTorch model behind the server: the example of client/python/examples, start to end."""

    def run_example(self, server, model):
        env = dict(os.environ, PYTHONPATH=PACKAGE, OMP_NUM_THREADS="1")
        done = subprocess.run([sys.executable, os.path.join(PACKAGE, "examples/encoder_torch.py"), "--server",
                               server.url, "--store", server.store, "--model", model],
                              capture_output=True, text=True, env=env, timeout=300 * h.SLOW)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])

    def serve_with(self, store, factory, **env):
        env = {"PYTHONPATH": PACKAGE + ":" + PACKAGE + "/examples", "OMP_NUM_THREADS": "1", **env}
        server = self.serve(["--encoder", f"{sys.executable} -m ascribe.encoder {factory}"], env, store=store)
        client = ascribe.Client(server.url, store=server.store)
        self.addCleanup(client.close)
        h.wait_until(lambda: client.encoder().state in ("ready", "failed"), "the encoder")
        return client

    def test_ask_and_explain(self):
        folder = self.scratch()
        server = self.serve(store=folder + "/store")
        self.run_example(server, folder + "/m.pt")
        server.stop()
        client = self.serve_with(folder + "/store", "encoder_torch:encoder", ENCODER_MODEL=folder + "/m.pt")
        about, corpus = client.encoder(), client.corpus("homes")
        self.assertEqual((about.state, about.verbs), ("ready", ["encode", "continue", "explain"]), about)
        self.assertEqual((about.model, about.dim), (corpus.info().manifest["model"], corpus.info().dim))
        right = 0
        for person in ("anna", "clara", "emma", "hugo"):
            question = f"{person} lives in"
            said = client.continue_prompt(question, 1)
            self.assertEqual(len(said.split()), 1)
            query = client.encode(question, said)
            self.assertGreater(query.loss, 0)
            for score in ("cosine", "dot"):
                hits = corpus.query(query.gradient, k=3, score=score)[0].proponents
                for hit in hits:
                    told = corpus.explain(hit.id, query.gradient, score=score)
                    self.assertEqual(told.score, hit.score)
                    self.assertAlmostEqual(told.sum, hit.score, delta=1e-5 * abs(hits[0].score))
                    self.assertEqual([t.text for t in told.tokens], hit.text.split())
                    self.assertEqual(told.tokens[0].score, 0)  # nothing predicts the first word
            right += hits[0].id == f"home-{person}"
        self.assertGreaterEqual(right, 2)
        with self.assertRaisesRegex(ascribe.ServerFailed, "does not know the word 'zorro'"):
            client.encode("zorro lives in", " oslo")
        self.assertEqual(client.encoder().restarts, 0)

    def test_a_model_that_prints_and_raises(self):
        folder = self.scratch()
        with open(folder + "/odd.py", "w") as f:
            f.write("import os, numpy as np\n"
                    "class Odd:\n"
                    "    name, model, dim = 'odd', 'odd/1', 3\n"
                    "    def encode(self, prompt, target):\n"
                    "        print('a progress bar'); os.write(1, b'from C\\n')\n"
                    "        if target == 'bad': raise ValueError('two\\nlines')\n"
                    "        return np.ones(3), 1.5, 1\n"
                    "    def explain(self, text, vector):\n"
                    "        return np.array([1, 2, 4, 8]), [(0, 1), (1, 2), (1, 2), (2, 4)]\n"
                    "def encoder():\n    print('loading')\n    return Odd()\n")
        client = self.serve_with(folder + "/store", "odd:encoder", PYTHONPATH=PACKAGE + ":" + folder)
        self.assertEqual(client.encoder().verbs, ["encode", "explain"], client.encoder())
        with self.assertRaisesRegex(ascribe.ServerFailed, "the encoder refused: ValueError: two lines"):
            client.encode("a", "bad")
        self.assertEqual(client.encode("a", "b").gradient.tolist(), [1, 1, 1])
        corpus = client.create_corpus("c", dim=3)
        corpus.ingest(np.ones((1, 3), "f4"), [{"id": "x", "text": "aé😀z"}])
        told = corpus.explain("x", np.array([1, 0, 0], "f4"))  # two tokens are one character
        self.assertEqual([(t.text, t.start, t.end) for t in told.tokens],
                         [("a", 0, 1), ("é", 1, 3), ("😀z", 3, 8)])
        shares = np.array([t.score for t in told.tokens]) * np.sqrt(3)
        np.testing.assert_allclose(shares, [1, 6, 8], rtol=1e-6)
        self.assertEqual(client.encoder().restarts, 0)

    def test_a_factory_that_is_not_there(self):
        for factory, words in (("nothing:here", "No module named 'nothing'"), ("ascribe", "MODULE:FUNCTION")):
            client = self.serve_with(self.scratch() + "/store", factory)
            self.assertEqual(client.encoder().state, "failed")
            self.assertIn(words, client.encoder().error)

    def test_without_tokens_before_and_with(self):
        """Shares belong to the token that is predicted at a position, whatever stands before a text."""
        torch.manual_seed(3)
        model = Net().eval()
        c = GradientCollector(model, p=4, seed=2)
        vector = np.random.default_rng(4).standard_normal(c.dim).astype("f4")
        for before in ([], [3], [3, 5]):
            e = CausalEncoder(model, c, lambda text: ([int(x) for x in text.split()],
                                                      [(2 * i, 2 * i + 1) for i in range(len(text.split()))]),
                              lambda ids: " ".join(map(str, ids)), before=before)
            text = "1 2 7 4"
            shares, spans = e.explain(text, vector)
            self.assertEqual(spans.tolist(), [[0, 1], [2, 3], [4, 5], [6, 7]])
            whole = float(e.text_gradient(text).astype(np.float64) @ vector)
            self.assertAlmostEqual(shares.sum(), whole, delta=1e-5 * np.abs(shares).max())
            g, loss, n = e.encode("", text) if before else e.encode("1", "2 7 4")
            self.assertEqual(n, 4 if before else 3)
            np.testing.assert_array_equal(g, e.text_gradient(text))
        with self.assertRaisesRegex(ascribe.ArgumentError, "too short"):
            CausalEncoder(model, c, lambda text: ([1], [(0, 1)]), str).text_gradient("1")


@unittest.skipIf(MISSING, MISSING)
class ReferenceModel(h.Case):
    """A checkpoint of ascribe-lm in torch: what the collector makes of it is what the C program makes."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="ascribe-test-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.data = os.path.join(cls.folder, "corpus.jsonl")
        lm.write_corpus(cls.data, 24)
        with open(cls.data, encoding="utf-8") as f:
            cls.texts = [json.loads(line)["text"] for line in f]

    def run_lm(self, *args):
        done = subprocess.run([h.program("ascribe-lm"), *map(str, args)], capture_output=True, text=True,
                              timeout=300 * h.SLOW)
        self.assertEqual(done.returncode, 0, done.stderr)

    def both(self, optimizer):
        """(rows of the C program, rows of the collector, corpus.json, the collector)."""
        path, out = os.path.join(self.folder, optimizer + ".ckpt"), os.path.join(self.folder, optimizer)
        self.run_lm("train", "--data", self.data, "--out", path, "--steps", 10, "--batch", 12, "--layers", lm.LAYERS,
                    "--width", lm.WIDTH, "--heads", lm.HEADS, "--context", lm.CONTEXT, "--vocab", 320,
                    "--optimizer", optimizer)
        self.run_lm("encode", "--model", path, "--data", self.data, "--out", out, "--dim", lm.DIM,
                    "--seed", lm.SEED)
        (name,) = [n for n in os.listdir(out) if n.endswith(".safetensors")]
        made, _ = safetensors.load(os.path.join(out, name))
        with open(os.path.join(out, "corpus.json"), encoding="utf-8") as f:
            definition = json.load(f)
        tensors, _ = safetensors.load(path)
        model = ReferenceLM(tensors).eval()
        seconds = {b["name"]: moment.Adam(tensors["adam.second." + b["name"]]) if optimizer == "adam" else
                   moment.Adafactor(tensors["adafactor.row." + b["name"]], tensors["adafactor.col." + b["name"]])
                   for b in definition["blocks"]}
        collector = GradientCollector(model, p=lm.P, seed=lm.SEED, second_moment=seconds)
        tokenizer = lm.Tokenizer(tensors["tokenizer.merges"])
        rows = [self.gradient(collector, tokenizer.encode(text)) for text in self.texts]
        return made["gradients"], np.array(rows), definition, collector

    def gradient(self, collector, tokens):
        """Of one text: windows of the context, each beginning anew, added up."""
        total = np.zeros(collector.dim)
        for at in range(0, len(tokens), lm.CONTEXT):
            window = torch.tensor([([lm.Tokenizer.END] + tokens)[at:at + lm.CONTEXT + 1]])
            total += collector.gradients(window, losses)[0]
        return total

    def test_rows_equal_those_of_the_c_program(self):
        for optimizer in ("adam", "adafactor"):
            made, rows, definition, collector = self.both(optimizer)
            self.assertEqual(made.shape, (24, lm.DIM))
            error = np.linalg.norm(rows - made, axis=1) / np.linalg.norm(made, axis=1)
            self.assertLess(error.max(), 1e-5, optimizer)
            self.assertEqual({**collector.definition(model=definition["model"]), "encoded": False}, definition)


if __name__ == "__main__":
    h.main()
