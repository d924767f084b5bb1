"""test_import.py - `ascribe import bergson`: stores made here by numpy as bergson makes them (flat and
structured descriptions, rows of examples and of tokens, shards), texts from Arrow files that Hugging
Face datasets wrote and from JSON Lines; what goes in, what is left out and said, and what is refused."""
import base64
import gzip
import json
import os
import shutil
import signal
import time
import unittest

import numpy as np

import harness
from harness import SLOW
from test_cli import CliCase

# Dataset.from_dict(...).save_to_disk(num_shards=2) of datasets 5.2.0 (pyarrow 26): five rows of text
# (one null), input_ids (lists), length, loss (one null), ok, kind, pos (a struct).
ARROW = [base64.b64decode(text) for text in (
    """
    H4sIAAAAAAACA5VTvYsTQRR/m2ySPY0SMEogFsNWh4iFisg1l0quuMJKLIRjL5kkQ9bdkN1I5LA9rrQQvMLiGsFC8P6EAxtLSwuL
    K+QqCwsLK9c3M2+T2ZHFc+Dt+/rNm7fvI8uy7LgK0AJ5LsBlqEMNPJTwOO7S3sSvS/YTR8roRpJ2D7/S56H8inz7yPd8EQ1jf4Pt
    +UMepPMZT5SS8kWqhEH6fMpR8pN0JqKRf5P5O7npURDOuf8CTSKaztMdMUjMSMX7Ikrv3C65vjRtiyRVlpBHo3T8V4R7d0sihHGS
    FNHDMA7K8fGkiN6N47AEOhHR4D9KMY11IotzJi8PwEXsx3g+GmHcYdDn0KA+dZC+oXyMdID0BHTvDn9nGXb3UhvlDqx6LWcBRwUw
    CzhAzInGVaS9TTgg7ALpp/KD08PPd42ttYyYQFwWQcpfEdPOFK5ux6wgxRP8oP++xlQl5roVS/YKcIY9pDrdHGerPM23pV/PAsBR
    tsr1UOOb8n1m/L+8u4a0HEiUXyL2kxGfWfmIlD8F2hEPK+9RiZiqZ1vl2VBb1KJd0zWy/0vujJZdpeOTWaeiawRqD6/R5jZVNKi6
    Kl/mEAA3t0N7Knd421n1Mz9XDDm/RvlSbroG8twgvgXFs2XhH1v+XGfEF5Y/19eJH1n5vLP8ny3/F0s/teKfWvn9MGoszy8LX6av
    G7Y1o475u1Xrnmvp1RLd+YcO59S7hnwVySd6GMxEwkLBEyYi9mAWRH1+Kwo+fnjG2dnrt2dv3odBkrI44sXYrrEHFcNWoz1q0KzY
    eYOxvybvFqu6Sd3ctK71aLp7XaPW5ozmuQS7fW6+W7Hqkte/RjzT+w5/AB2nTrkABwAA
    """,
    """
    H4sIAAAAAAACA5VTvY7TQBAeO07iOwyyRIRSUFiurqAChCKqlFdcja5AOgzZJFaMNzpvpKATEhW68gqKK3mEe4QreQhKSkpqltnd
    ceIMZxFGmt35+XZ2dmZHa61vOgAxGDqEB9CDLoQoIXnBxh7hGpD91jMyupGNPcTV+EKUv5DvM+4XaV5OZfoyuUinIlOrc1FZRYm1
    ssJEfVgKlNJKneflLH2SpGe16VVWrET6EU15uVyps3xSNSPtns9L9expy/GN6SSvlLUUopyp+V8RXjxviVDIqtpFTwuZtePlYhf9
    VsqiBbrIy8l/lGIpXSLrPZM3BHAP+zFfzWYYd5q9E9CnPg2Rf6B8g3yJ/Bpc765/a43dvT9AeQjbXpu/gF8FMAu4RMytw/nGPiAc
    EHaN/Mv6wRvj8tNhu3EjJtBuimDk74gZaIvr8Zg+slzggv6Rw3QM5jGLZXoF+IdD5B6dnOttns27jd/9BYCvepvrtcNH5v6k8X5z
    9gB58yFRvkLst0b8hOWTK/EeaEZCrHxIJUpsPQc2z76dophmzdWIv8vMjJMDq+OVeui7GoGdw0c0uZGNBp3A5nsFNR2iHm1m+MRz
    /fRhSw+hnSLaY9rpHfaOJg0Z/oj5j1icEfOPmP+Y+Y+Z/5T5Txt/0NAbps9Zfmvm/8Titelxw3bA6gh36ME//Pvq3p54YH0qskol
    shQ1ts6nS3PQJ6x/d7wxVW3cdn9tF+y9Xdq1my/4A8fm0CZwBgAA
    """,
)]
TEXTS = ["Paris lies in France.", "naïve 日本", None, "", "last one"]
META = [{"length": 3, "loss": 1.5, "ok": True, "kind": "a", "row": 0},
        {"length": 1, "loss": 0.25, "ok": False, "kind": "b", "row": 1},
        {"length": 0, "kind": "c", "row": 2},
        {"length": 2, "loss": 2.0, "ok": True, "row": 3},
        {"length": 2, "loss": 3.5, "ok": False, "kind": "e", "row": 4}]
SIZES = {"h.1.mlp": 6, "h.0.attn": 4, "h.0.mlp": 10}  # not in the order of their names


def bf16(x):
    """bfloat16 bits, rounded to nearest even."""
    bits = np.ascontiguousarray(x, "<f4").view("<u4").astype("<u8")
    return ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype("<u2")


def widen(bits):
    return (bits.astype("<u4") << 16).view("<f4")


class ImportCase(CliCase):
    def rows(self, n, sizes=None):
        return self.rng.standard_normal((n, sum((sizes or SIZES).values()))).astype("<f4")

    def write_store(self, name, rows, info):
        os.makedirs(self.path(name), exist_ok=True)
        file = "token_gradients.bin" if info.get("attribute_tokens") else "gradients.bin"
        with open(self.path(f"{name}/{file}"), "wb") as f:
            f.write(np.ascontiguousarray(rows).tobytes())
        with open(self.path(f"{name}/info.json"), "w", encoding="utf-8") as f:
            json.dump(info, f, indent=2)
        return self.path(name)

    def flat_store(self, name, rows, sizes=None, base="float32"):
        """As newer versions describe it: sizes in order and the base type."""
        return self.write_store(name, rows, {"num_grads": len(rows), "grad_sizes": sizes or SIZES,
                                             "base_dtype": base})

    def structured_store(self, name, rows, element="<f4", sizes=None):
        """As older versions do: a structured dtype alone, which numpy reads back."""
        sizes = sizes or SIZES
        dtype = {"names": list(sizes), "formats": [f"({n},){element}" for n in sizes.values()],
                 "itemsize": np.dtype(element).itemsize * sum(sizes.values())}
        path = self.write_store(name, rows, {"num_grads": len(rows), "dtype": dtype})
        if element != "<V2":
            back = np.memmap(os.path.join(path, "gradients.bin"), np.dtype(dtype), "r", shape=(len(rows),))
            np.testing.assert_array_equal(back[list(sizes)[1]][0],
                                          rows[0, list(sizes.values())[0]:][:list(sizes.values())[1]])
        return path

    def token_store(self, name, rows, lengths, base="float32"):
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")
        path = self.write_store(name, rows, {
            "attribute_tokens": True, "total_tokens": len(rows), "total_grad_dim": rows.shape[1],
            "num_items": len(lengths), "grad_sizes": SIZES, "base_dtype": base})
        np.save(os.path.join(path, "offsets.npy"), offsets)
        np.save(os.path.join(path, "num_token_grads.npy"), np.asarray(lengths, "<i8"))
        return path

    def write_arrow(self, store):
        os.makedirs(os.path.join(store, "data.hf"))
        names = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
        for name, packed in zip(names, ARROW):
            with open(os.path.join(store, "data.hf", name), "wb") as f:
                f.write(gzip.decompress(packed))
        with open(os.path.join(store, "data.hf", "state.json"), "w", encoding="utf-8") as f:
            json.dump({"_data_files": [{"filename": n} for n in names], "_fingerprint": "x"}, f)

    def take(self, store, *more, **kw):
        return self.json("import", "bergson", store, *more, "--jobs", 1, **kw)

    def examples(self, corpus):
        return [json.loads(line) for line in self.cli("--json", "example", "list", corpus, "--all")[0].splitlines()]

    def encoding(self, corpus, ident):
        return np.array([float(v) for v in self.cli("example", "encoding", corpus, ident)[0].split()])

    def assert_is(self, corpus, ident, row, atol=1e-6):
        unit = row.astype(np.float64) / np.linalg.norm(row.astype(np.float64))
        np.testing.assert_allclose(self.encoding(corpus, ident), unit, atol=atol)


class TestStores(ImportCase):
    def test_flat_and_structured(self):
        x = self.rows(7)
        for name, path in (("flat", self.flat_store("flat", x)),
                           ("flat-str", self.flat_store("flat-str", x, base="<f4")),
                           ("old", self.structured_store("old", x))):
            with self.subTest(name):
                got = self.take(path, name, "--model", "tiny")
                self.assertEqual((got["examples"], got["zero_rows"], got["bad_rows"], got["stores"]), (7, [], [], 1))
                manifest = self.stored(name)["manifest"]
                self.assertEqual(manifest["blocks"], [{"name": k, "dim": v} for k, v in SIZES.items()])
                self.assertEqual((manifest["dim"], manifest["dtype"], manifest["model"], manifest["encoded"]),
                                 (20, "f32", "tiny", False))
                stored = self.examples(name)
                self.assertEqual([e["id"] for e in stored], [str(i) for i in range(7)])
                for i in (0, 6):
                    self.assert_is(name, str(i), x[i])
                    self.assertAlmostEqual(stored[i]["norm"], np.linalg.norm(x[i].astype(np.float64)), 5)

    def test_types(self):
        x = self.rows(5)
        half, brain = x.astype("<f2"), bf16(x)
        for name, path, rows, dtype in (
                ("half", self.flat_store("half", half, base="float16"), half.astype("<f4"), "f16"),
                ("brain", self.flat_store("brain", brain, base="bfloat16"), widen(brain), "bf16"),
                ("brain-old", self.structured_store("brain-old", brain, "<V2"), widen(brain), "bf16"),
                ("double", self.flat_store("double", x.astype("<f8"), base="float64"), x, "f32")):
            with self.subTest(name):
                self.assertEqual(self.take(path, name)["examples"], 5)
                self.assertEqual(self.stored(name)["manifest"]["dtype"], dtype)
                self.assert_is(name, "3", rows[3], {"f16": 1e-3, "bf16": 8e-3}.get(dtype, 1e-6))
                self.assertAlmostEqual(self.examples(name)[3]["norm"], float(np.linalg.norm(rows[3].astype("<f8"))), 5)
        self.take(self.path("half"), "wider", "--dtype", "f32")
        self.assert_is("wider", "3", half[3].astype("<f4"))

    def test_zero_rows_are_left_out_by_number(self):
        x = self.rows(40)
        for i in (0, 5, 6, 7, 12, 39):
            x[i] = 0
        x[12, 3] = -0.0
        x[8:16] = 0  # a whole batch of nothing
        path = self.flat_store("zeros", x)
        out, _ = self.cli("import", "bergson", path, "--rows-per-batch", 8, "--jobs", 1)
        self.assertRegex(out, r"(?m)^zeros: 27 examples in 4 batches")
        self.assertRegex(out, r"(?m): 13 zero rows left out: 0, 5-15, 39$")
        left = [i for i in range(40) if x[i].any()]
        self.assertEqual([e["meta"]["row"] for e in self.examples("zeros")], left)
        for i in (1, 16, 38):
            self.assert_is("zeros", str(i), x[i])
        # once more: everything stands, and the account is the same
        got = self.take(path, "--rows-per-batch", 8)
        self.assertEqual((got["batches"], got["batches_resent"], got["examples"]), (4, 4, 27))
        self.assertEqual(got["zero_rows"], [[0, 0], [5, 15], [39, 39]])
        self.assertEqual(self.stored("zeros")["examples"], 27)

    def test_tokens(self):
        lengths = [3, 0, 1, 4]
        x = self.rows(8)
        path = self.token_store("tok", x.astype("<f2"), lengths, "float16")
        h = x.astype("<f2").astype(np.float64)
        got = self.take(path, "summed")
        self.assertEqual((got["examples"], got["zero_rows"]), (3, [[1, 1]]))  # no token, no gradient
        self.assertEqual(self.stored("summed")["manifest"]["dtype"], "f32")
        for i, rows in ((0, h[:3]), (2, h[3:4]), (3, h[4:])):
            self.assert_is("summed", str(i), rows.sum(0))
        got = self.take(path, "each", "--tokens", "each", "--rows-per-batch", 3)
        self.assertEqual((got["examples"], got["batches"]), (8, 3))
        stored = self.examples("each")
        self.assertEqual([e["id"] for e in stored], ["0:0", "0:1", "0:2", "2:0", "3:0", "3:1", "3:2", "3:3"])
        self.assertEqual(stored[6]["meta"], {"row": 3, "example": "3", "token": 2})
        self.assert_is("each", "3:2", h[6], 1e-3)
        # the newer layout of the same: the rows in gradients.bin, counted as num_grads
        os.rename(os.path.join(path, "token_gradients.bin"), os.path.join(path, "gradients.bin"))
        os.unlink(os.path.join(path, "num_token_grads.npy"))
        with open(os.path.join(path, "info.json"), "w", encoding="utf-8") as f:
            json.dump({"attribute_tokens": True, "num_items": 4, "num_grads": 8, "grad_sizes": SIZES,
                       "base_dtype": "float16"}, f)
        self.assertEqual(self.take(path, "newer")["zero_rows"], [[1, 1]])
        np.testing.assert_array_equal(self.encoding("newer", "3"), self.encoding("summed", "3"))

    def test_shards_become_one_corpus(self):
        x = self.rows(9)
        os.mkdir(self.path("run"))
        for k, part in enumerate((x[:4], x[4:7], x[7:])):
            self.flat_store(f"run/shard-{k:05d}", part)
        got = self.take(self.path("run"))
        self.assertEqual((got["corpus"], got["stores"], got["examples"]), ("run", 3, 9))
        self.assertEqual([e["id"] for e in self.examples("run")], [str(i) for i in range(9)])
        self.assert_is("run", "8", x[8])
        self.flat_store("run/shard-00003", x[:1], dict(reversed(SIZES.items())))
        self.assertIn("another order", self.cli("import", "bergson", self.path("run"), code=5)[1])

    def test_a_run_that_broke_is_run_again(self):
        x = self.rows(3000)
        x[17] = 0
        path = self.flat_store("big", x)
        process = self.start("import", "bergson", path, "--rows-per-batch", 5, "--jobs", 1)
        deadline = time.monotonic() + 30 * SLOW
        while self.client.get("/v1/corpora/big").status != 200 or not self.stored("big")["examples"]:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = self.finish(process, 130)
        self.assertRegex(err, r"interrupted: [\d,]+ of 600 batches are stored; run the same command again")
        before = self.stored("big")["examples"]
        self.assertLess(before, 2999)
        got = self.take(path, "--rows-per-batch", 5)
        self.assertEqual((got["examples"], got["batches"], got["zero_rows"]), (2999, 600, [[17, 17]]))
        self.assertGreaterEqual(got["batches_resent"], before // 5)
        self.assertEqual(self.stored("big")["examples"], 2999)


class TestTexts(ImportCase):
    def test_arrow(self):
        x = self.rows(5)
        path = self.flat_store("hf", x)
        self.write_arrow(path)
        self.take(path)
        stored = self.examples("hf")
        self.assertEqual([e.get("text") for e in stored], TEXTS)
        self.assertEqual([e["meta"] for e in stored], META)
        self.take(path, "kinds", "--text-column", "kind", "--id-column", "length", "--rows-per-batch", 1,
                  "--id-prefix", "n")
        self.assertEqual([(e["id"], e.get("text")) for e in self.examples("kinds")],
                         [("n3", "a"), ("n1", "b"), ("n0", "c"), ("n2", None)])  # n2 twice: the first stays
        self.assertIn('no flat column "absent"',
                      self.cli("import", "bergson", path, "x", "--text-column", "absent", code=5)[1])
        self.assertIn("no flat column", self.cli("import", "bergson", path, "x", "--id-column", "pos", code=5)[1])
        self.take(path, "bare", "--no-texts")
        self.assertEqual([e.get("text") for e in self.examples("bare")], [None] * 5)

    def test_arrow_that_is_damaged(self):
        """Every byte of the metadata of a file changed, and the file cut at every length: said or taken,
        never a crash; and nothing is sent of a file that is cut."""
        path = self.flat_store("bad", self.rows(5))
        self.write_arrow(path)
        file = os.path.join(path, "data.hf", "data-00000-of-00002.arrow")
        good = gzip.decompress(ARROW[0])
        outcomes = set()
        for trial in range(40):
            at = int(self.rng.integers(0, len(good)))
            broken = bytearray(good)
            if trial % 2:
                broken = broken[:at]
            else:
                broken[at] ^= 1 << int(self.rng.integers(0, 8))
            with open(file, "wb") as f:
                f.write(broken)
            process = self.start("import", "bergson", path, f"bad-{trial}")
            out, err = process.communicate(timeout=30 * SLOW)
            self.assertNotRegex(err, harness.REPORTS)
            self.assertIn(process.returncode, (0, 2, 5), err)
            outcomes.add(process.returncode)
            if trial % 2 and process.returncode == 5:
                self.assertEqual(self.client.get(f"/v1/corpora/bad-{trial}").status, 404)
        self.assertIn(5, outcomes)
        shutil.rmtree(os.path.join(path, "data.hf"))
        os.mkdir(os.path.join(path, "data.hf"))
        self.assertIn("no .arrow file", self.cli("import", "bergson", path, code=5)[1])

    def test_json_lines(self):
        x = self.rows(3)
        path = self.flat_store("j", x)
        lines = self.path("e.jsonl")
        with open(lines, "w", encoding="utf-8") as f:
            f.write('{"id":"a","text":"one","meta":{"s":1}}\n{"text":"two","source":"wiki","list":[1]}\n{"id":7}\n')
        self.take(path, "--examples", lines)
        self.assertEqual([(e["id"], e.get("text"), e["meta"]) for e in self.examples("j")],
                         [("a", "one", {"s": 1, "row": 0}), ("1", "two", {"source": "wiki", "row": 1}), ("7", None, {"row": 2})])
        with open(lines, "a", encoding="utf-8") as f:
            f.write('{"id":"more"}\n')
        self.assertIn("has 4 examples, the gradients are of 3",
                      self.cli("import", "bergson", path, "x", "--examples", lines, code=5)[1])
        with open(lines, "w", encoding="utf-8") as f:
            f.write('{"id":"a"}\n{"id":\n{"id":"c"}\n')
        self.assertIn("line 2", self.cli("import", "bergson", path, "x", "--examples", lines, code=5)[1])
        self.assertEqual(self.stored("x")["examples"], 0)


class TestExport(ImportCase):
    def test_formats(self):
        x, q = self.rows(50), self.rows(3)
        x[[4, 30]] = 0
        self.take(self.flat_store("ex", x), "--rows-per-batch", 7)
        np.save(self.path("q.npy"), q)
        self.cli("scores", "ex", self.path("q.npy"), "--out", self.path("s.npy"))
        want = np.load(self.path("s.npy"))
        ids = [str(i) for i in range(50) if i not in (4, 30)]

        got = self.json("export", "scores", "ex", self.path("q.npy"), "--out", self.path("s.jsonl"))
        self.assertEqual((got["queries"], got["examples"], got["dtype"]), (3, 48, "F32"))
        with open(self.path("s.jsonl"), encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        self.assertEqual([line["id"] for line in lines], ids)
        np.testing.assert_array_equal(np.array([line["scores"] for line in lines], "<f4").T, want)

        # every row of the dataset at its place, those that are not in the corpus unwritten
        for f64, size in (((), 24), (("--f64",), 48)):
            out = self.path(f"run{size}")
            self.cli("export", "scores", "ex", self.path("q.npy"), "--format", "bergson", "--items", 50, "--out", out, *f64)
            info, records = self.read_scores(out)
            self.assertEqual((info["num_items"], info["num_rows"], info["num_scores"], records.dtype.itemsize),
                             (50, 50, 3, size))
            for k in range(3):
                written = records[f"written_{k}"]
                self.assertEqual([i for i in range(50) if not written[i]], [4, 30])
                np.testing.assert_array_equal(records[f"score_{k}"][written].astype("<f4"), want[k])
                self.assertFalse(records[f"score_{k}"][~written].any())
        self.cli("export", "scores", "ex", self.path("q.npy"), "--format", "bergson", "--out", self.path("order"))
        _, records = self.read_scores(self.path("order"))
        np.testing.assert_array_equal(records["score_2"], want[2])
        with open(self.path("order/ids.txt"), encoding="utf-8") as f:
            self.assertEqual(f.read().splitlines(), ids)

        _, err = self.cli("export", "scores", "ex", self.path("q.npy"), "--format", "bergson", "--out", self.path("order"), code=5)
        self.assertIn("is there already", err)
        _, err = self.cli("export", "scores", "ex", self.path("q.npy"), "--format", "bergson", "--items", 49,
                          "--out", self.path("short"), code=5)
        self.assertIn('its id "49" is not the number of a row below 49', err)
        self.assertEqual(sorted(n for n in os.listdir(self.dir) if "part" in n or "short" in n), [])
        self.cli("export", "scores", "ex", self.path("q.npy"), "--out", self.path("x.txt"), code=1)
        self.cli("export", "gradients", "ex", code=1)

    def read_scores(self, path):
        with open(os.path.join(path, "info.json"), encoding="utf-8") as f:
            info = json.load(f)
        return info, np.memmap(os.path.join(path, "scores.bin"), dtype=np.dtype(info["dtype"]), mode="r",
                               shape=(info["num_items"],))


class TestRaw(ImportCase):
    def test_raw_numbers(self):
        x = self.rows(9, {"a": 16})
        with open(self.path("e.jsonl"), "w", encoding="utf-8") as f:
            f.writelines(f'{{"id":"r{i}"}}\n' for i in range(9))
        for kind, rows, back in (("f32", x, x), ("f16", x.astype("<f2"), x.astype("<f2").astype("<f4")),
                                 ("bf16", bf16(x), widen(bf16(x)))):
            corpus = f"raw-{kind}"
            self.corpus(corpus, 16)
            rows.tofile(self.path(kind))
            got = self.json("ingest", corpus, "--gradients", self.path(kind), "--raw", kind, "--dim", 16,
                            "--examples", self.path("e.jsonl"), "--rows-per-batch", 4)
            self.assertEqual((got["examples"], got["batches"]), (9, 3))
            self.assert_is(corpus, "r8", back[8])
        run = ("ingest", "raw-f32", "--gradients", self.path("f32"), "--examples", self.path("e.jsonl"))
        self.assertIn("not a whole number of rows of dim 15",
                      self.cli(*run, "--raw", "f32", "--dim", 15, code=5)[1])
        self.assertIn("has 18 rows", self.cli(*run, "--raw", "f32", "--dim", 8, code=5)[1])
        for wrong in (("--raw", "f32"), ("--dim", 16), ("--raw", "f64", "--dim", 16)):
            self.cli(*run, *wrong, code=1)


class TestWatch(ImportCase):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path("in"))
        os.mkdir(self.path("done"))
        self.lines = []

    def put(self, name, data):
        """As a training job should: written under another name, then renamed."""
        with open(self.path("in/." + name), "wb") as f:
            f.write(data)
        os.rename(self.path("in/." + name), self.path("in/" + name))

    def put_batch(self, name, rows, first):
        self.put(name + ".safetensors", harness.batch(rows, [f"w{first + i}" for i in range(len(rows))]))

    def put_pair(self, name, rows, first):
        np.save(self.path("tmp.npy"), rows)
        with open(self.path("tmp.npy"), "rb") as f:
            self.put(name + ".npy", f.read())
        self.put(name + ".jsonl", "".join(f'{{"id":"w{first + i}"}}\n' for i in range(len(rows))).encode())

    def watch(self, corpus, *more):
        return self.start("--json", "ingest", corpus, "--watch", self.path("in"), *more)

    def expect(self, process, **want):
        line = json.loads(process.stdout.readline())
        self.assertEqual({k: line.get(k) for k in want}, want, line)

    def test_files_are_taken_as_they_come(self):
        x = self.rows(40)
        self.corpus("live", 20)
        self.put_batch("000", x[:10], 0)
        process = self.watch("live", "--done", self.path("done"), "--rows-per-batch", 4)
        self.expect(process, event="stored", file="000.safetensors", examples=10, batches=1, resent=False)
        self.put_pair("001", x[10:20], 10)
        self.expect(process, file="001.npy", examples=10, batches=3)
        self.put_batch("002", x[15:30], 15)
        self.expect(process, file="002.safetensors", examples=10, duplicates=5)
        self.assertEqual(self.stored("live")["examples"], 30)
        process.send_signal(signal.SIGINT)
        out, _ = self.finish(process)
        end = json.loads(out)
        self.assertEqual((end["event"], end["files"], end["examples"], end["duplicates"], end["refused"], end["waiting"]),
                         ("end", 3, 30, 5, 0, 0))
        self.assertEqual(sorted(os.listdir(self.path("done"))),
                         ["000.safetensors", "001.jsonl", "001.npy", "002.safetensors"])
        self.assertEqual(os.listdir(self.path("in")), [])
        self.assert_is("live", "w19", x[19])

    def test_what_stands_is_recognised_and_the_end_is_told(self):
        x = self.rows(20)
        self.corpus("twice", 20)
        self.put_batch("a", x[:10], 0)
        self.put("DONE", b"")
        first, _ = self.finish(self.watch("twice", "--until", "DONE"))
        self.put_batch("b", x[10:], 10)
        second, _ = self.finish(self.watch("twice", "--until", "DONE"))
        events = [[json.loads(line) for line in text.splitlines()] for text in (first, second)]
        self.assertEqual([(e["file"], e["resent"]) for e in events[0][:-1]], [("a.safetensors", False)])
        self.assertEqual([(e["file"], e["resent"]) for e in events[1][:-1]],
                         [("a.safetensors", True), ("b.safetensors", False)])
        self.assertEqual(self.stored("twice")["examples"], 20)

    def test_what_cannot_be_stored_is_said_once_and_left(self):
        x = self.rows(10)
        bad = x.copy()
        bad[3, 3] = np.nan
        self.corpus("some", 20)
        self.put_batch("a-nan", bad, 0)
        self.put_batch("b-narrow", x[:, :19], 0)
        self.put("c-cut.safetensors", harness.batch(x, [f"c{i}" for i in range(10)])[:-9])
        self.put_pair("d-lines", x, 20)
        with open(self.path("in/d-lines.jsonl"), "a", encoding="utf-8") as f:
            f.write('{"id":"more"}\n')
        self.put_batch("e-good", x, 10)
        old = time.time() - 60
        for name in os.listdir(self.path("in")):
            os.utime(self.path("in/" + name), (old, old))  # settled long ago
        process = self.watch("some", "--done", self.path("done"))
        self.expect(process, file="e-good.safetensors", examples=10)
        time.sleep(3)  # another look: nothing is said twice
        self.put_batch("a-nan", x, 0)  # repaired
        self.expect(process, file="a-nan.safetensors", examples=10)
        process.send_signal(signal.SIGINT)
        out, err = self.finish(process, 5)
        self.assertEqual(json.loads(out)["refused"], 4)
        errors = [json.loads(line)["error"] for line in err.splitlines()]
        self.assertEqual([e["code"] for e in errors], ["not_finite", "input", "input", "input"])
        for error, word in zip(errors, ("a-nan", "b-narrow", "c-cut", "d-lines")):
            self.assertIn(word, error["detail"])
        self.assertEqual(sorted(os.listdir(self.path("done"))), ["a-nan.safetensors", "e-good.safetensors"])

    def test_a_file_that_is_still_being_written(self):
        x = self.rows(10)
        body = harness.batch(x, [f"w{i}" for i in range(10)])
        self.corpus("slow", 20)
        process = self.watch("slow")
        with open(self.path("in/s.safetensors"), "wb") as f:
            for i in range(0, len(body), 300):
                f.write(body[i:i + 300])
                f.flush()
                time.sleep(0.2)
        self.expect(process, file="s.safetensors", examples=10)
        process.send_signal(signal.SIGTERM)
        _, err = self.finish(process)
        self.assertEqual(err, "")

    def test_arguments(self):
        self.cli("ingest", "none", "--watch", self.path("in"), code=2)
        self.corpus("args", 20)
        self.cli("ingest", "args", "--watch", self.path("absent"), code=5)
        self.cli("ingest", "args", "--watch", self.path("in"), "--done", self.path("absent"), code=5)
        for wrong in (("--watch", "x", "y.safetensors"), ("--done", "x", "y.safetensors"), ("--until", "x", "y"), ()):
            self.cli("ingest", "args", *wrong, code=1)


class TestRefusals(ImportCase):
    def refused(self, *args, say):
        out, err = self.cli("import", "bergson", *args, code=5)
        self.assertEqual(out, "")
        self.assertIn(say, err)
        return err

    def test_stores_that_are_not_whole(self):
        x = self.rows(6)
        self.refused(self.path("absent"), say="No such file")
        os.mkdir(self.path("empty"))
        self.refused(self.path("empty"), say="not a bergson store")
        path = self.flat_store("s", x)
        with open(os.path.join(path, "info.json"), encoding="utf-8") as f:
            info = json.load(f)

        def with_info(**change):
            with open(os.path.join(path, "info.json"), "w", encoding="utf-8") as f:
                json.dump({k: v for k, v in {**info, **change}.items() if v is not None}, f)

        for change, say in (({"num_grads": 7}, "num_grads in info.json is 7"),
                            ({"num_grads": None}, "(missing)"),
                            ({"grad_sizes": {"a": 7}}, "not a whole number of rows of dim 7"),
                            ({"grad_sizes": {"a": -1}}, "module a has size -1"),
                            ({"grad_sizes": {"a": 1 << 40}}, "1 to 1048576"),
                            ({"grad_sizes": {}}, "no module"),
                            ({"grad_sizes": {"a": "x"}}, "not a number"),
                            ({"base_dtype": "int8"}, 'base_dtype "int8"'),
                            ({"base_dtype": None, "grad_sizes": None}, "neither grad_sizes nor"),
                            ({"grad_sizes": None, "dtype": {"names": ["a"], "formats": ["(20,)<i4"]}},
                             'format "(20,)<i4" is not taken'),
                            ({"dtype": {"itemsize": 84}}, "itemsize 84")):
            with self.subTest(change):
                with_info(**change)
                self.refused(path, say=say)
        with open(os.path.join(path, "info.json"), "w", encoding="utf-8") as f:
            f.write('{"num_grads": ')
        self.refused(path, say="info.json: line 1")
        with_info()
        with open(os.path.join(path, "gradients.bin"), "r+b") as f:
            f.truncate(6 * 80 - 3)
        self.refused(path, say="not a whole number of rows")
        os.unlink(os.path.join(path, "gradients.bin"))
        self.refused(path, say="gradients.bin")
        shutil.move(self.flat_store("t", x), self.path("t.part"))
        self.refused(self.path("t.part"), say="has not finished")
        self.assertEqual(self.take(self.path("t.part"), "t-part", "--unfinished")["examples"], 6)
        self.assertEqual(self.client.get("/v1/corpora/s").status, 404)

    def test_offsets(self):
        path = self.token_store("tok", self.rows(6), [2, 4])
        offsets = os.path.join(path, "offsets.npy")
        for bad, say in ((np.array([0, 2, 5], "<i8"), "ends at row 5"), (np.array([0, 4, 2], "<i8"), "is 2 after 4"),
                         (np.array([1, 2, 6], "<i8"), "entry 0 is 1"), (np.array([0, 2, 6], "<i4"), "not int64")):
            np.save(offsets, bad)
            self.refused(path, say=say)
        os.unlink(offsets)
        self.refused(path, say="a store of tokens needs it")

    def test_rows_that_are_not_finite(self):
        x = self.rows(30)
        x[21, 7] = np.nan
        x[25, 0] = np.inf
        path = self.flat_store("nan", x)
        err = self.refused(path, "--rows-per-batch", 10, "--jobs", 1, say="row 21 is not finite: column 7, module h.0.attn")
        self.assertIn("2 of 3 batches are stored", err)
        got = self.take(path, "--rows-per-batch", 10, "--leave-out-bad")
        self.assertEqual((got["examples"], got["bad_rows"], got["batches_resent"]), (28, [[21, 21], [25, 25]], 2))

    def test_another_corpus_of_that_name(self):
        path = self.flat_store("st", self.rows(4))
        self.corpus("narrow", 19)
        self.refused(path, "narrow", say="dim 20; corpus narrow has 19")
        self.corpus("other", 20, blocks=[{"name": "a", "dim": 10}, {"name": "b", "dim": 10}])
        self.refused(path, "other", say="other blocks")
        self.corpus("one", 20)
        self.assertEqual(self.take(path, "one")["examples"], 4)
        self.assertIn("is not known", self.cli("import", "trak", path, code=1)[1])
        self.assertIn("sum or each", self.cli("import", "bergson", path, "--tokens", "mean", code=1)[1])


if __name__ == "__main__":
    unittest.main()
