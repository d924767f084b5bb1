"""test_protocol.py - docs/protocol.md, as it stands there: routes, scopes, members, examples, codes.

The document is read by the test, so neither can change without the other. Every route is called at
least once through curl: a real client that is not ours.
"""
import hashlib
import json
import os
import re
import struct
import subprocess
import unittest

import numpy as np

import harness as h

with open(os.path.join(h.ROOT, "docs/protocol.md"), encoding="utf-8") as document:
    DOC = document.read()

SCOPES = ["none", "read", "write", "admin"]


def section(title):
    """The text of the document under a heading, down to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#+ |\Z)", DOC, re.M | re.S)
    assert found, f"docs/protocol.md has no section {title}"
    return found.group(1)


def table(text):
    """Rows of the first table in the text, as lists of cells."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def documented_routes():
    """[(method, path, scope)] of the route table. `POST` alone repeats the path before it, `/verify`
    alone the method and all but the last segment."""
    out = []
    for routes, scopes, _ in table(section("Routes")):
        method = path = None
        words, scopes = re.findall(r"`([^`]+)`", routes), scopes.split(" · ")
        for i, word in enumerate(words):
            if word.startswith("/"):
                path = path.rsplit("/", 1)[0] + word
            elif " " in word:
                method, path = word.split(" ")
            else:
                method = word
            out.append((method, path, scopes[i if len(scopes) > 1 else 0]))
    return out


def json_blocks(title):
    """The ```json blocks of a section, as text."""
    return re.findall(r"```json\n(.*?)```", section(title), re.S)


def inline(title, member):
    """The `{...}` in a section's prose that has the member."""
    for text in re.findall(r"`(?:\d+ )?(\{.*?\})`", section(title).replace("\n", " "), re.S):
        if f'"{member}"' in text:
            return text
    raise AssertionError(f"no inline example with {member} in {title}")


def names(text):
    """All member names in an example, which need not be whole JSON ("..." and [...] are allowed)."""
    return set(re.findall(r'"(\w+)"(?=[:,}])', re.sub(r':\s*"[^"]*"', ":0", text)))


def all_names(value, inside=("meta",)):
    """All member names in a JSON value, but for what lies inside people's own objects."""
    if isinstance(value, list):
        return set().union(set(), *(all_names(v, inside) for v in value))
    if not isinstance(value, dict):
        return set()
    out = set(value)
    for name, v in value.items():
        if name not in inside:
            out |= all_names(v, inside)
    return out


class Curl:
    """curl, as people type it. Answers an h.Reply."""

    def __init__(self, server, scratch):
        self.server, self.scratch = server, scratch

    def __call__(self, method, path, *more, body=None, type=None, key=True):
        command = ["curl", "-sS", "--max-time", "60", "-X", method, "-D", self.scratch + "/headers",
                   "-o", self.scratch + "/body"]
        if key:
            command += ["-H", "Authorization: Bearer " + (self.server.key if key is True else key)]
        if body is not None:
            with open(self.scratch + "/send", "wb") as f:
                f.write(body if isinstance(body, bytes) else json.dumps(body).encode())
            kind = type or ("application/octet-stream" if isinstance(body, bytes) else "application/json")
            command += ["--data-binary", "@" + self.scratch + "/send", "-H", "Content-Type: " + kind]
        open(self.scratch + "/body", "wb").close()
        done = subprocess.run(command + list(more) + [self.server.url + path], capture_output=True, text=True)
        assert done.returncode == 0, f"curl {path}: {done.stderr}"
        with open(self.scratch + "/headers", "rb") as f:
            head = f.read().split(b"\r\n\r\n")[-2]  # after any 100 Continue
        with open(self.scratch + "/body", "rb") as f:
            return h.Reply(*(lambda r: (r.status, r.headers))(h.parse_reply(head + b"\r\n\r\n")), f.read())


class Document(unittest.TestCase):
    """What can be checked without a server."""

    def test_codes_are_those_of_the_error_table(self):
        with open(os.path.join(h.ROOT, "storage/base/err.h"), encoding="utf-8") as f:
            source = re.sub(r"\\\n\s*", "", f.read())
        rows = re.findall(r'X\(\w+,\s*"(\w+)",\s*(\d+),\s*(true|false),\s*"([^"]+)"\)', source)
        code = {word: (status, retry == "true", meaning) for word, status, retry, meaning in rows}
        doc = {row[0].strip("`"): (row[1], row[2] == "yes", row[3]) for row in table(section("Codes"))}
        self.assertGreater(len(doc), 30)
        self.assertEqual(doc, code)

    def test_routes_parse(self):
        routes = documented_routes()
        self.assertGreaterEqual(len(routes), 24)
        self.assertEqual(len(routes), len(set(routes)))
        self.assertIn(("POST", "/v1/admin/compact", "admin"), routes)
        self.assertIn(("POST", "/v1/admin/keys", "admin"), routes)
        for method, path, scope in routes:
            self.assertIn(scope, SCOPES, f"{method} {path}")

    def test_every_documented_limit_is_that_of_the_source(self):
        with open(os.path.join(h.ROOT, "server/limits.h"), encoding="utf-8") as f:
            source = f.read()
        value = {}
        for name, text in re.findall(r"#define LIMIT_(\w+)\s+(.*?)\s*/\*", source):
            text = re.sub(r"UINT64_C\((\d+)\)", r"\1", text)
            value[name] = eval(re.sub(r"(\d)u\b", r"\1", text), {})  # constant expressions of our header
        text = section("Limits").replace("\n", " ")
        for phrase, name, unit in ((r"Head (\d+) KiB", "HEAD_BYTES", 1024), (r"(\d+) header fields", "HEADERS", 1),
                                   (r"request target (\d+) KiB", "URI_BYTES", 1024),
                                   (r"JSON (\d+) MiB", "JSON_BODY", 1 << 20), (r"and (\d+) levels", "JSON_DEPTH", 1),
                                   (r"other bodies (\d+) MiB", "BODY_DEFAULT", 1 << 20),
                                   (r"([\d,]+) connections", "CONNECTIONS", 1), (r"(\d+) s for the head", "HEAD_MS", 1000),
                                   (r"(\d+) s idle", "IDLE_MS", 1000), (r"(\d+) KiB/s", "BODY_RATE", 1024),
                                   (r"(\d+) s for one request's work", "DEADLINE_MS", 1000),
                                   (r"together (\d+) GiB", "BUDGET_DEFAULT", 1 << 30)):
            found = re.search(phrase, text)
            self.assertTrue(found, phrase)
            self.assertEqual(int(found.group(1).replace(",", "")) * unit, value[name], name)


class Wire(h.ServerCase):
    """Every route through http.client: status, headers, members, types."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        client = cls.server.client()
        r = np.random.default_rng(1)
        cls.x = r.standard_normal((7, 16)).astype("f4")
        cls.ids = [f"doc-{i}" for i in range(6)] + ["a/b c?é"]
        cls.examples = [{"id": i, "text": f"text of {i}", "meta": {"n": n, "deep": {"a": [1, None, "ü"]}}}
                        for n, i in enumerate(cls.ids)]
        del cls.examples[1]["text"], cls.examples[2]["meta"]
        assert client.put("/v1/corpora/seen", {"dim": 16}).status == 201
        reply = client.put("/v1/corpora/seen/batches/b1", h.batch(cls.x, cls.examples))
        assert reply.status == 201, reply
        cls.oracle = h.Oracle(16)
        cls.oracle.ingest(cls.x, cls.ids)
        cls.fingerprint = client.get("/v1/corpora/seen").json()["fingerprint"]
        client.close()

    def names_equal(self, example, value):
        self.assertEqual(names(example), all_names(value))

    def test_healthz_is_open_and_says_ok(self):
        reply = self.assert_status(self.server.client(key=None).get("/healthz"), 200)
        self.assertEqual(reply.body.strip(), b"ok")
        self.assertTrue(reply.headers["Content-Type"].startswith("text/plain"))

    def test_readyz(self):
        self.assertEqual(self.assert_status(self.client.get("/readyz"), 200).json(), {"ready": True})

    def test_metrics_is_prometheus_text(self):
        reply = self.assert_status(self.client.get("/metrics"), 200)
        self.assertTrue(reply.headers["Content-Type"].startswith("text/plain"))
        self.assertIn(b"# TYPE ", reply.body)

    def test_info(self):
        info = self.assert_status(self.client.get("/v1/info"), 200).json()
        text = json.dumps(info)
        for word in ("version", "simd", "engines", "dtypes", "limits", "uptime"):
            self.assertIn(word, text)
        self.assertEqual(info["engines"], ["flat", "scan", "tiered"])
        self.assertTrue(all(v > 0 for v in info["rates"].values() if not isinstance(v, bool)), info["rates"])
        self.assertEqual((info["key"]["scope"], info["key"]["corpus"]), ("admin", None))
        self.assertEqual(info["key"]["id"], self.server.key.split("_")[1])
        key = self.assert_status(self.client.post("/v1/admin/keys", {"scope": "read", "label": "a \"b\" é"}), 201).json()
        mine = self.server.client(key=key["key"]).get("/v1/info").json()["key"]
        self.assertEqual(mine, {"id": key["id"], "scope": "read", "label": "a \"b\" é", "corpus": None})
        self.assertEqual(sorted(info["dtypes"]), ["bf16", "f16", "f32"])
        self.assertIn(info["simd"], ("generic", "avx2", "avx512", "avx512vnni", "neon"))
        have = {v for v in info["limits"].values() if isinstance(v, int)}
        for limit in (16 << 10, 64, 4 << 10, 8 << 20, 32, 256 << 20, 1024, 10000, 60000, 1 << 30, 1 << 20,
                      65536, 256, 64 << 10, 1000):
            self.assertIn(limit, have, f"limit {limit} in {info['limits']}")

    def test_openapi_lists_exactly_the_documented_routes(self):
        spec = self.assert_status(self.client.get("/openapi.json"), 200).json()
        self.assertRegex(spec["openapi"], r"^3\.1")
        listed = {(method.upper(), path) for path, item in spec["paths"].items() for method in item
                  if method in ("get", "put", "post", "delete", "patch", "head", "options")}
        self.assertEqual(listed, {(m, p) for m, p, _ in documented_routes()})
        for path, item in spec["paths"].items():
            captures = set(re.findall(r"\{(\w+)\}", path))
            for method, operation in item.items():
                if method == "parameters":
                    continue
                self.assertTrue(operation.get("summary"), f"{method} {path}")
                self.assertTrue(operation.get("responses"), f"{method} {path}")
                declared = {p["name"] for p in operation.get("parameters", []) + item.get("parameters", [])
                            if p["in"] == "path"}
                self.assertEqual(declared, captures, f"{method} {path}")

    def test_create_example_of_the_document(self):
        (text,) = json_blocks("Create a corpus")
        definition = json.loads(text)
        reply = self.client.put("/v1/corpora/documented", text.encode(), type="application/json")
        self.assert_status(reply, 201)
        self.assertEqual(reply.headers["Location"], "/v1/corpora/documented")
        corpus = reply.json()
        self.assertEqual(corpus, self.client.get("/v1/corpora/documented").json())
        for member, value in definition.items():
            self.assertEqual(corpus["manifest"][member], value, member)
        again = self.assert_status(self.client.put("/v1/corpora/documented", definition), 200)
        self.assertEqual(again.json()["fingerprint"], corpus["fingerprint"])
        definition["model"] = "another"
        self.assert_problem(self.client.put("/v1/corpora/documented", definition), 409, "corpus_conflict")
        self.assertEqual(self.client.get("/v1/corpora/documented").json(), corpus)

    def test_create_needs_only_dim(self):
        corpus = self.create(self.client, "plain", 3)
        m = corpus["manifest"]
        self.assertEqual((m["dim"], m["dtype"], m["encoded"]), (3, "f32", False))
        self.assertEqual(m["blocks"], [{"name": "all", "dim": 3}])
        # What the defaults say aloud is the same corpus.
        same = {"dim": 3, "dtype": "f32", "encoded": False, "blocks": [{"name": "all", "dim": 3}]}
        self.assert_status(self.client.put("/v1/corpora/plain", same), 200)

    def test_corpus_members(self):
        (text,) = json_blocks("Look at a corpus")
        corpus = self.assert_status(self.client.get("/v1/corpora/seen"), 200).json()
        example = json.loads(re.sub(r'"manifest":\{.*?\},"fit"', '"manifest":{},"fit"', text, flags=re.S))
        self.assertEqual(shape({**corpus, "manifest": {}}), shape(example))
        self.assertEqual((corpus["name"], corpus["whitened"], corpus["examples"], corpus["deleted"]),
                         ("seen", False, 7, 0))
        self.assertEqual((corpus["batches"], corpus["next_sequence"]), (1, 7))
        for member in ("chunks", "shards", "bytes", "generation"):
            self.assertIsInstance(corpus[member], int, member)
            self.assertGreater(corpus[member], 0, member)
        self.assertRegex(corpus["fingerprint"], r"^[0-9a-f]{64}$")

    def test_fit_and_task_examples_of_the_document(self):
        x = np.random.default_rng(9).standard_normal((50, 16)).astype("f4")
        self.create(self.client, "whole", 16, blocks=[{"name": "a", "dim": 10}, {"name": "b", "dim": 6}])
        self.ingest(self.client, "whole", "b", x, [f"e{i}" for i in range(50)])
        job = self.wait_job(self.client, self.client.post("/v1/corpora/whole/fit?damping=0.1&sample=20"))
        (text,) = json_blocks("Fit")
        self.assertEqual((job["kind"], shape(job["result"])), ("fit", shape(json.loads(text))))
        corpus = self.client.get("/v1/corpora/whole").json()
        self.assertEqual((corpus["whitened"], corpus["fit"]), (True, job["result"]))
        body = h.tensors([h.matrix("gradients", x[:5])])
        job = self.wait_job(self.client, self.client.put("/v1/corpora/whole/tasks/facts?downweight=20000", body))
        (text,) = json_blocks("Tasks")
        task = self.client.get("/v1/corpora/whole/tasks/facts").json()
        self.assertEqual(shape(task), shape(json.loads(text)))
        self.assertEqual(job["result"], {k: v for k, v in task.items() if k not in ("state", "fit", "bytes")})

    def test_fingerprint_is_sha256_of_the_canonical_manifest(self):
        for name, definition in (("fp1", {"dim": 5}), ("fp2", {"dim": 6, "dtype": "bf16", "model": "mé/1", "loss": "sum"}),
                                 ("fp3", {"dim": 4, "second_moment": {"kind": "adam", "eps": 1e-8, "b": {"z": 1, "a": 2.5}},
                                          "projection": {"p": 2, "seed": 18446744073709551}})):
            corpus = self.assert_status(self.client.put("/v1/corpora/" + name, definition), 201).json()
            raw = self.client.get("/v1/corpora/" + name).body.decode()
            # Numbers stand as the server writes them: take its text, not Python's.
            manifest = json.loads(raw, parse_float=lambda t: Number(t))["manifest"]
            canonical = write_canonical(manifest)
            self.assertEqual(hashlib.sha256(canonical.encode()).hexdigest(), corpus["fingerprint"], canonical)

    def test_list_of_corpora(self):
        listed = self.assert_status(self.client.get("/v1/corpora"), 200).json()
        self.assertEqual(set(listed), {"corpora"})
        one = self.client.get("/v1/corpora/seen").json()
        for member in ("manifest", "fit", "planes", "ingest"):
            one.pop(member)
        self.assertIn(one, listed["corpora"])
        order = [c["name"] for c in listed["corpora"]]
        self.assertEqual(order, sorted(order))

    def test_drop(self):
        self.create(self.client, "dropped", 4)
        self.ingest(self.client, "dropped", "b", np.eye(4), ["a", "b", "c", "d"])
        reply = self.assert_status(self.client.delete("/v1/corpora/dropped"), 204)
        self.assertEqual(reply.body, b"")
        self.assert_problem(self.client.get("/v1/corpora/dropped"), 404, "unknown_corpus")
        self.assert_problem(self.client.delete("/v1/corpora/dropped"), 404, "unknown_corpus")
        self.assert_problem(self.client.post("/v1/corpora/dropped/query", h.queries(np.ones(4))), 404,
                            "unknown_corpus")
        # The name is free again, with another definition and none of the old rows.
        self.assertEqual(self.create(self.client, "dropped", 5)["examples"], 0)

    def test_ingest_example_of_the_document(self):
        want = json.loads(inline("Ingest", "duplicates"))
        self.create(self.client, "five", 4)
        r = np.random.default_rng(2)
        x, ids = r.standard_normal((want["examples"], 4)), [f"e{i}" for i in range(want["examples"])]
        path = f"/v1/corpora/five/batches/{want['batch']}"
        body = h.batch(x, ids)
        self.assertEqual(self.assert_status(self.client.put(path, body), 201).json(), want)
        before = stands(self.client, "five")
        self.assertEqual(self.assert_status(self.client.put(path, body), 200).json(), want)
        self.assertEqual(stands(self.client, "five"), before)
        self.assert_problem(self.client.put(path, h.batch(x[:1], ["other"])), 409, "batch_conflict")
        # Ids that are there already are skipped, the first stays.
        more = self.client.put("/v1/corpora/five/batches/b2", h.batch(x[:3], ["e1", "new", "e0"]))
        self.assertEqual(self.assert_status(more, 201).json(),
                         {"batch": "b2", "examples": 1, "duplicates": 2, "sequence": want["sequence"] + 1})
        self.assertEqual(self.client.get("/v1/corpora/five/examples/new").json()["sequence"], want["sequence"])
        self.assertEqual(self.client.put("/v1/corpora/five/batches/b2", h.batch(x[:3], ["e1", "new", "e0"])).json(),
                         more.json())

    def test_ingest_takes_both_content_types_and_both_tensor_orders(self):
        self.create(self.client, "types", 2)
        one, two = h.matrix("gradients", [[1, 2]]), h.lines(["a"])
        for i, (type, entries) in enumerate((("application/octet-stream", [one, two]),
                                             ("application/vnd.safetensors", [h.lines(["b"]), one]),
                                             ("Application/Octet-Stream; v=1", [one, h.lines(["c"])]))):
            reply = self.client.put(f"/v1/corpora/types/batches/b{i}", h.tensors(entries, {"made": "by a test"}), type=type)
            self.assert_status(reply, 201)
        self.assertEqual(self.client.get("/v1/corpora/types").json()["examples"], 3)

    def test_fingerprint_of_batch_and_query(self):
        self.create(self.client, "print", 2)
        right = self.client.get("/v1/corpora/print").json()["fingerprint"]
        wrong = "0" * 64
        body, q = h.batch([[1, 2]], ["a"]), h.queries([1, 2])
        for call in (lambda **kw: self.client.put("/v1/corpora/print/batches/b", body, **kw),
                     lambda **kw: self.client.post("/v1/corpora/print/query", q, **kw),
                     lambda **kw: self.client.post("/v1/corpora/print/scores", q, **kw)):
            p = self.assert_problem(call(headers={"X-Ascribe-Fingerprint": wrong}), 409, "fingerprint_mismatch")
            self.assertIn(wrong, p["detail"])
            self.assertIn(right, p["detail"])
        for make in (lambda m: self.client.put("/v1/corpora/print/batches/b", h.batch([[1, 2]], ["a"], metadata=m)),
                     lambda m: self.client.post("/v1/corpora/print/query", h.queries([1, 2], metadata=m))):
            p = self.assert_problem(make({"fingerprint": wrong}), 409, "fingerprint_mismatch")
            self.assertIn(wrong, p["detail"])
            self.assertIn(right, p["detail"])
        self.assertEqual(self.client.get("/v1/corpora/print").json()["examples"], 0)
        self.assert_status(self.client.put("/v1/corpora/print/batches/b", body,
                                           headers={"X-Ascribe-Fingerprint": right}), 201)
        self.assert_status(self.client.post("/v1/corpora/print/query", h.queries([1, 2], metadata={"fingerprint": right})),
                           200)

    def test_examples_page_and_single(self):
        members = names(inline("Examples", "norm")) - {"examples", "next"}
        page = self.assert_status(self.client.get("/v1/corpora/seen/examples"), 200).json()
        self.assertEqual(set(page), {"examples", "next"})
        self.assertIsNone(page["next"])
        self.assertEqual([e["id"] for e in page["examples"]], self.ids)
        for n, e in enumerate(page["examples"]):
            self.assertLessEqual({"id", "sequence", "norm"}, set(e))
            self.assertLessEqual(set(e), members)
            self.assertEqual(e["sequence"], n)
            self.assertEqual(struct.pack("<d", e["norm"]), struct.pack("<d", self.oracle.norms[n]))
            self.assertEqual(e.get("text"), self.examples[n].get("text"))
            self.assertEqual(e.get("meta"), self.examples[n].get("meta"))
            one = self.client.get("/v1/corpora/seen/examples/" + h.quote(e["id"]))
            self.assertEqual(self.assert_status(one, 200).json(), e)
        # Cursor by cursor, every size of page.
        for limit in (1, 2, 3, 7, 1000):
            got, after, pages = [], None, 0
            while True:
                path = f"/v1/corpora/seen/examples?limit={limit}" + (f"&after={h.quote(after)}" if after else "")
                page = self.assert_status(self.client.get(path), 200).json()
                self.assertLessEqual(len(page["examples"]), limit)
                got += [e["id"] for e in page["examples"]]
                after, pages = page["next"], pages + 1
                if after is None:
                    break
                self.assertIsInstance(after, str)
                self.assertLess(pages, 20)
            self.assertEqual(got, self.ids)
        self.assert_problem(self.client.get("/v1/corpora/seen/examples/none"), 404, "unknown_example")

    def test_encoding(self):
        for dtype in ("f32", "f16", "bf16"):
            corpus = "enc-" + dtype
            self.create(self.client, corpus, 16, dtype)
            self.ingest(self.client, corpus, "b", self.x, self.ids)
            fingerprint = self.client.get("/v1/corpora/" + corpus).json()["fingerprint"]
            stored, norms = h.normalise(self.x, dtype)
            for n, i in enumerate(self.ids):
                reply = self.assert_status(self.client.get(f"/v1/corpora/{corpus}/examples/{h.quote(i)}/encoding"), 200)
                found, notes = h.read_tensors(reply.body)
                self.assertEqual(set(found), {"encoding"})
                kind, array = found["encoding"]
                self.assertEqual((kind, array.shape), (h.NAMES[dtype], (16,)))
                self.assertEqual(array.tobytes(), stored[n].tobytes())
                self.assertEqual((notes["id"], notes["sequence"], notes["fingerprint"]), (i, str(n), fingerprint))
                self.assertEqual(float(notes["norm"]), norms[n])

    def test_delete_is_effective_at_once(self):
        self.create(self.client, "gone", 4)
        self.ingest(self.client, "gone", "b", np.eye(4), ["a", "b", "c", "d"])
        reply = self.assert_status(self.client.delete("/v1/corpora/gone/examples/b"), 204)
        self.assertEqual(reply.body, b"")
        got = self.client.post("/v1/corpora/gone/query?k=10", h.queries([0, 1, 0, 0])).json()
        self.assertEqual([p["id"] for p in got["results"][0]["proponents"]], ["a", "c", "d"])
        self.assert_problem(self.client.get("/v1/corpora/gone/examples/b"), 404, "unknown_example")
        self.assert_problem(self.client.get("/v1/corpora/gone/examples/b/encoding"), 404, "unknown_example")
        self.assert_problem(self.client.delete("/v1/corpora/gone/examples/b"), 404, "unknown_example")
        self.assertEqual([e["id"] for e in self.client.get("/v1/corpora/gone/examples").json()["examples"]],
                         ["a", "c", "d"])
        corpus = self.client.get("/v1/corpora/gone").json()
        self.assertEqual((corpus["examples"], corpus["deleted"], corpus["next_sequence"]), (3, 1, 4))
        # The id may come again; it is a new example with a new sequence.
        self.ingest(self.client, "gone", "b2", [[0, 1, 0, 0]], ["b"])
        self.assertEqual(self.client.get("/v1/corpora/gone/examples/b").json()["sequence"], 4)

    def test_query_example_of_the_document(self):
        (text,) = json_blocks("Query")
        want = json.loads(text)
        got = self.assert_status(self.client.post("/v1/corpora/seen/query?k=3&opponents=2", h.queries(self.x[3])), 200).json()
        self.assertEqual(set(got), set(want))
        for word in ("read", "shared"):
            self.assertEqual(set(got[word]), set(want[word]))
        self.assertEqual((got["shared"]["requests"], got["read"]["exact"]), (1, 7))
        self.assertEqual((got["exact"], got["engine"], got["examples"]), ("certified", "scan", 7))
        (result,) = got["results"]
        self.assertEqual(set(result), {"proponents", "opponents"})
        pro, opp = self.oracle.top(self.x[3], 3, 2)
        for hits, right in ((result["proponents"], pro), (result["opponents"], opp)):
            self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in hits], right)
            self.assertEqual([p["rank"] for p in hits], list(range(1, len(hits) + 1)))
            for p in hits:
                self.assertLessEqual(set(p), set(want["results"][0]["proponents"][0]))
                example = self.examples[self.ids.index(p["id"])]
                self.assertEqual(p.get("text"), example.get("text"))
                self.assertEqual(p.get("meta"), example.get("meta"))
        self.assertIsInstance(got["took_ms"], float)
        self.assertEqual(got["generation"], self.client.get("/v1/corpora/seen").json()["generation"])

    def test_query_forms_are_one(self):
        q = self.x[:2]
        body = h.queries(q)
        strip = lambda r: self.assert_status(r, 200).json()["results"]  # noqa: E731
        right = strip(self.client.post("/v1/corpora/seen/query?k=4&opponents=3&text=0", body))
        self.assertNotIn("text", right[0]["proponents"][0])
        rows = [[float(v) for v in row] for row in q]
        for reply in (self.client.post("/v1/corpora/seen/query", {"queries": rows, "k": 4, "opponents": 3, "engine": "auto",
                                                                  "text": False}),
                      self.client.post("/v1/corpora/seen/query?k=9&opponents=9&text=1",
                                       {"queries": rows, "k": 4, "opponents": 3, "engine": "flat", "text": False}),
                      self.client.post("/v1/corpora/seen/query?engine=flat&k=4&opponents=3&text=0", body,
                                       type="application/octet-stream")):
            self.assertEqual(strip(reply), right)
        self.assertEqual(len(strip(self.client.post("/v1/corpora/seen/query", body))[0]["proponents"]), 7)  # k = 10
        self.assertEqual(strip(self.client.post("/v1/corpora/seen/query?k=0", body))[0],
                         {"proponents": [], "opponents": []})

    def test_scores(self):
        for word, dtype in (("f32", "<f4"), ("f64", "<f8")):
            reply = self.client.post(f"/v1/corpora/seen/scores?dtype={word}", h.queries(self.x[:3]))
            self.assert_status(reply, 200)
            self.assertEqual(int(reply.headers["Content-Length"]), len(reply.body))
            found, notes = h.read_tensors(reply.body)
            self.assertEqual(set(found), {"scores", "sequences", "ids"})
            self.assertEqual((found["scores"][0], found["sequences"][0], found["ids"][0]), (word.upper(), "I64", "U8"))
            right = np.stack([self.oracle.scores(q) for q in self.x[:3]]).astype(dtype)
            self.assertEqual(found["scores"][1].tobytes(), right.tobytes())
            self.assertEqual(found["sequences"][1].tolist(), list(range(7)))
            self.assertEqual(found["ids"][1].tobytes().decode(), "".join(i + "\n" for i in self.ids))
            self.assertEqual((notes["corpus"], notes["fingerprint"]), ("seen", self.fingerprint))
            self.assertEqual(notes["generation"], str(self.client.get("/v1/corpora/seen").json()["generation"]))

    def test_jobs(self):
        for kind in ("verify", "backup", "compact"):
            reply = self.client.post(f"/v1/admin/{kind}")
            self.assertEqual(set(self.assert_status(reply, 202).json()), {"job"})
            job = reply.json()["job"]
            self.assertEqual(all_names({"job": job}), names(inline("Jobs and administration", "eta_s")))
            self.assertEqual((job["kind"], job["state"] in ("queued", "running", "succeeded")), (kind, True))
            done = self.wait_job(self.client, reply)
            self.assertEqual(done["state"], "succeeded", done)
            self.assertEqual(done["progress"], 1.0)
            listed = self.assert_status(self.client.get("/v1/jobs"), 200).json()["jobs"]
            self.assertEqual(listed[0], done)  # the newest first
            if kind == "verify":
                self.assertGreater(done["result"]["rows"], 0)
                self.assertEqual([done["result"][n] for n in done["result"] if "damaged" in n or "faults" in n], [0, 0, 0])
            if kind == "backup":
                name = next(v for v in done["result"].values() if isinstance(v, str))
                self.assertRegex(name, r"^[^/]+$")
                self.assertTrue(os.path.isdir(os.path.join(self.server.store, "backups", name)))
            # A job that ended stays as it is.
            self.assert_status(self.client.delete("/v1/jobs/" + job["id"]), 202)
            self.assertEqual(self.client.get("/v1/jobs/" + job["id"]).json().get("job", done)["state"], "succeeded")
        self.assert_problem(self.client.get("/v1/jobs/j999999"), 404, "unknown_job")
        self.assert_problem(self.client.delete("/v1/jobs/j999999"), 404, "unknown_job")
        self.assert_problem(self.client.post("/v1/admin/compact?corpus=nowhere"), 404, "unknown_corpus")
        self.assertEqual(self.wait_job(self.client, self.client.post("/v1/admin/compact?corpus=seen"))["state"], "succeeded")

    def test_keys(self):
        ask = json.loads(inline("Jobs and administration", "scope"))
        made = self.assert_status(self.client.post("/v1/admin/keys", ask), 201).json()
        self.assertEqual(set(made), names(re.findall(r'(\{"key":.*?\})`', section("Jobs and administration"))[0]))
        self.assertRegex(made["key"], r"^asc_[0-9A-Za-z]+_[0-9A-Za-z]+$")
        for member in ("scope", "label", "corpus", "rate"):
            self.assertEqual(made[member], ask[member], member)
        self.assertIn(made["id"], made["key"])
        reply = self.assert_status(self.client.get("/v1/admin/keys"), 200)
        self.assertNotIn(made["key"].rsplit("_", 1)[1].encode(), reply.body)
        mine = [k for k in reply.json()["keys"] if k["id"] == made["id"]]
        self.assertEqual(mine, [{k: v for k, v in made.items() if k != "key"}])
        reader = self.server.client(key=made["key"])
        self.assert_status(reader.get("/v1/info"), 200)
        follows = self.assert_status(self.client.post(f"/v1/admin/keys/{made['id']}/rotate"), 201).json()
        self.assertEqual(set(follows), set(made) | {"replaces"})
        self.assertEqual(set(follows["replaces"]), {"id", "expires"})
        self.assertEqual(follows["replaces"]["id"], made["id"])
        self.assert_status(reader.get("/v1/info"), 200)
        reply = self.assert_status(self.client.delete("/v1/admin/keys/" + made["id"]), 204)
        self.assertEqual(reply.body, b"")
        self.assert_problem(reader.get("/v1/info"), 401, "unauthorized")
        self.assert_problem(self.client.delete("/v1/admin/keys/" + made["id"]), 404, "unknown_key")

    def test_error_example_of_the_document(self):
        want = json.loads(json_blocks("Errors first")[0])
        self.create(self.client, "wrong", 32)
        x = np.ones((5, 32))
        x[want["index"], 17] = np.nan
        p = self.assert_problem(self.client.put("/v1/corpora/wrong/batches/b", h.batch(x, list("abcde"))), want["status"],
                                want["code"], field=want["field"], index=want["index"])
        self.assertEqual(set(p), set(want))
        self.assertEqual((p["detail"], p["title"], p["type"]), (want["detail"], want["title"], want["type"]))

    def test_request_id_is_the_clients_or_ours(self):
        reply = self.client.get("/v1/corpora/none", headers={"X-Request-Id": "trace-17.a_b"})
        self.assertEqual(self.assert_problem(reply, 404, "unknown_corpus")["request_id"], "trace-17.a_b")
        first = self.client.get("/v1/corpora/none").json()["request_id"]
        self.assertNotEqual(first, self.client.get("/v1/corpora/none").json()["request_id"])

    def test_method_not_allowed_names_those_that_are(self):
        paths = {}
        for method, path, _ in documented_routes():
            paths.setdefault(path, set()).add(method)
        for path, methods in paths.items():
            real = re.sub(r"\{\w+\}", "x", path)
            for method in {"GET", "PUT", "POST", "DELETE", "PATCH"} - methods:
                reply = self.client.request(method, real, body=b"" if method in ("PUT", "POST", "PATCH") else None)
                self.assert_problem(reply, 405, "method_not_allowed")
                allow = {m.strip() for m in reply.headers["Allow"].split(",")}
                self.assertEqual(allow - {"HEAD"}, methods, f"{method} {real}")

    def test_head_wherever_get(self):
        for method, path, _ in documented_routes():
            if method != "GET":
                continue
            real = path.replace("{c}", "seen").replace("{id}", "doc-0").replace("{j}", "j0")
            get, head = self.client.get(real), self.client.request("HEAD", real)
            self.assertEqual((head.status, head.headers["Content-Type"]), (get.status, get.headers["Content-Type"]), real)
            self.assertEqual(head.body, b"")
            self.assertIsNotNone(head.headers["Content-Length"], real)
            if path not in ("/metrics", "/v1/info"):
                self.assertEqual(head.headers["Content-Length"], get.headers["Content-Length"], real)

    def test_unknown_routes(self):
        for path in ("/v1", "/v1/", "/v1/corpora/", "/v1/corpora/seen/", "/v1/corpora/seen/none", "/V1/info",
                     "/v1/corpora/seen/examples/doc-0/encoding/x",
                     "//v1/info", "/v1//info", "/healthz/"):
            for method in ("GET", "POST"):
                reply = self.client.request(method, path, body=b"" if method == "POST" else None)
                self.assert_problem(reply, 404, "unknown_route")


def shape(value):
    """Names and kinds of a JSON value, lists by their first entry."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(value[0])]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def stands(client, corpus):
    """A corpus as the server shows it, but for its pace: that is another one at every look."""
    return {**client.get("/v1/corpora/" + corpus).json(), "ingest": None}


class Number(float):
    """A float that remembers how it was written."""

    def __new__(cls, text):
        self = super().__new__(cls, text)
        self.text = text
        return self


def write_canonical(value):
    """Members sorted by their bytes, no spaces, numbers as they were written."""
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(k, ensure_ascii=False) + ":" + write_canonical(value[k])
                              for k in sorted(value, key=lambda k: k.encode())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write_canonical(v) for v in value) + "]"
    return value.text if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


class Scopes(h.ServerCase):
    """Every route against every key: none, unknown, too small, just right."""

    def test_every_route_with_every_key(self):
        keys = {s: self.assert_status(self.client.post("/v1/admin/keys", {"scope": s, "label": s}), 201).json()["key"]
                for s in SCOPES[1:]}
        self.create(self.client, "c", 2)
        clients = {s: self.server.client(key=k) for s, k in keys.items()}
        stranger = self.server.client(key=None)
        flipped = keys["admin"][:-1] + ("0" if keys["admin"][-1] != "0" else "1")
        wrong = ["Bearer " + flipped, "Bearer asc_0000000000000000_" + "0" * 64, "Bearer ", "Bearer x", "Basic YTpi",
                 keys["admin"], "Bearer " + keys["admin"] + "0", "Bearer " + keys["admin"].upper(),
                 "Bearer " + keys["admin"].rsplit("_", 1)[0], "Bearer " + "a" * 5000]
        for method, path, scope in documented_routes():
            real = re.sub(r"\{\w+\}", "none", path)  # nothing there: a right key gets 4xx of its own
            body = b"" if method in ("PUT", "POST") else None
            with self.subTest(route=f"{method} {path}"):
                if scope == "none":
                    self.assert_status(stranger.request(method, real), 200)
                    continue
                reply = stranger.request(method, real, body)
                self.assert_problem(reply, 401, "unauthorized")
                self.assertEqual(reply.headers["WWW-Authenticate"], "Bearer")
                in_url = f"{real}?key={keys['admin']}&access_token={keys['admin']}"
                self.assert_problem(stranger.request(method, in_url, body), 401, "unauthorized")
                for value in wrong[:2] if method != "GET" else wrong:
                    self.assert_problem(stranger.request(method, real, body, headers={"Authorization": value}), 401,
                                        "unauthorized")
                for have in SCOPES[1:]:
                    if SCOPES.index(have) < SCOPES.index(scope):
                        self.assert_problem(clients[have].request(method, real, body), 403, "forbidden")
                    elif real not in ("/v1/admin/verify", "/v1/admin/backup", "/v1/admin/compact"):
                        self.assertNotIn(clients[have].request(method, real, body).status, (401, 403), have)

    def test_admin_key_file(self):
        path = os.path.join(self.server.store, "admin.key")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        with open(path, encoding="ascii") as f:
            self.assertRegex(f.read(), r"\Aasc_[0-9a-f]{16}_[0-9a-f]{64}\n?\Z")
        self.assertNotIn(self.server.key.rsplit("_", 1)[1], self.server.tail(1000))


class Outside(h.ServerCase):
    """Every route through curl, and the curl lines of the README."""

    def test_every_route_by_curl(self):
        curl, called = Curl(self.server, self.scratch()), set()

        def call(route, status, path=None, **kw):
            method, pattern = route.split(" ")
            called.add((method, pattern))
            reply = curl(method, path or pattern, **kw)
            self.assertEqual(reply.status, status, f"{route}: {reply}")
            return reply

        x = np.random.default_rng(3).standard_normal((4, 8)).astype("f4")
        oracle = h.Oracle(8)
        oracle.ingest(x, list("abcd"))
        call("GET /healthz", 200, key=None)
        call("GET /readyz", 200)
        call("GET /metrics", 200)
        call("GET /openapi.json", 200)
        call("GET /v1/info", 200)
        call("PUT /v1/corpora/{c}", 201, "/v1/corpora/mine", body={"dim": 8})
        self.assertEqual(call("GET /v1/corpora", 200).json()["corpora"][0]["name"], "mine")
        call("PUT /v1/corpora/{c}/batches/{b}", 201, "/v1/corpora/mine/batches/b1", body=h.batch(x, list("abcd")))
        self.assertEqual(call("GET /v1/corpora/{c}/batches/{b}", 200, "/v1/corpora/mine/batches/b1").json()["sequence"], 4)
        self.assertEqual(call("GET /v1/corpora/{c}", 200, "/v1/corpora/mine").json()["examples"], 4)
        self.assertEqual(call("GET /v1/corpora/{c}/norms", 200, "/v1/corpora/mine/norms").json()["examples"], 4)
        self.assertEqual(len(call("GET /v1/corpora/{c}/examples", 200, "/v1/corpora/mine/examples").json()["examples"]), 4)
        call("GET /v1/corpora/{c}/examples/{id}", 200, "/v1/corpora/mine/examples/a")
        call("GET /v1/corpora/{c}/examples/{id}/encoding", 200, "/v1/corpora/mine/examples/a/encoding")
        got = call("POST /v1/corpora/{c}/query", 200, "/v1/corpora/mine/query?k=2", body=h.queries(x[0])).json()
        self.assertEqual([(p["id"], p["score"]) for p in got["results"][0]["proponents"]],
                         [(i, s) for i, s, _ in oracle.top(x[0], 2)[0]])
        scores = call("POST /v1/corpora/{c}/scores", 200, "/v1/corpora/mine/scores", body=h.queries(x[0]))
        self.assertEqual(h.read_tensors(scores.body)[0]["scores"][1].shape, (1, 4))
        saved = "/v1/corpora/mine/queries/q1"
        call("PUT /v1/corpora/{c}/queries/{q}", 201, saved, body={"prompt": "p", "gradient": [1.0] + [0.0] * 7})
        self.assertEqual(call("GET /v1/corpora/{c}/queries/{q}", 200, saved).json()["prompt"], "p")
        self.assertEqual(len(call("GET /v1/corpora/{c}/queries", 200, "/v1/corpora/mine/queries").json()["queries"]), 1)
        call("GET /v1/corpora/{c}/queries/{q}/gradient", 200, saved + "/gradient")
        self.assertEqual(call("GET /v1/encoder", 200).json()["state"], "none")
        call("POST /v1/encoder/continue", 404, body={"prompt": "a"})
        call("POST /v1/encoder/encode", 404, body={"prompt": "a", "target": "b"})
        call("POST /v1/corpora/{c}/examples/{id}/explain", 404, "/v1/corpora/mine/examples/a/explain?saved=q1")
        call("DELETE /v1/corpora/{c}/queries/{q}", 204, saved)
        found = call("POST /v1/corpora/{c}/search", 200, "/v1/corpora/mine/search", body={"text": "any words"}).json()
        self.assertEqual(found["results"], [])
        job = call("POST /v1/corpora/{c}/fit", 202, "/v1/corpora/mine/fit?damping=0.5").json()["job"]["id"]
        h.wait_until(lambda: curl("GET", f"/v1/jobs/{job}").json()["state"] == "succeeded", "the fit")
        task = h.tensors([h.matrix("gradients", x[:2])])
        job = call("PUT /v1/corpora/{c}/tasks/{t}", 202, "/v1/corpora/mine/tasks/t?lambda=0.5", body=task).json()["job"]["id"]
        h.wait_until(lambda: curl("GET", f"/v1/jobs/{job}").json()["state"] == "succeeded", "the task")
        self.assertEqual(len(call("GET /v1/corpora/{c}/tasks", 200, "/v1/corpora/mine/tasks").json()["tasks"]), 1)
        call("GET /v1/corpora/{c}/tasks/{t}", 200, "/v1/corpora/mine/tasks/t")
        call("DELETE /v1/corpora/{c}/tasks/{t}", 204, "/v1/corpora/mine/tasks/t")
        call("DELETE /v1/corpora/{c}/examples/{id}", 204, "/v1/corpora/mine/examples/a")
        job = None
        for verb in ("verify", "backup", "compact"):
            job = call(f"POST /v1/admin/{verb}", 202).json()["job"]["id"]
        call("GET /v1/jobs", 200)
        call("GET /v1/jobs/{j}", 200, f"/v1/jobs/{job}")
        call("DELETE /v1/jobs/{j}", 202, f"/v1/jobs/{job}")
        key = call("POST /v1/admin/keys", 201, body={"scope": "write", "label": "curl"}).json()
        call("GET /v1/admin/keys", 200)
        call("POST /v1/admin/keys/{id}/rotate", 201, f"/v1/admin/keys/{key['id']}/rotate", body={"overlap_s": 60})
        call("DELETE /v1/admin/keys/{id}", 204, f"/v1/admin/keys/{key['id']}")
        call("DELETE /v1/corpora/{c}", 204, "/v1/corpora/mine")
        self.assertEqual(called, {(m, p) for m, p, _ in documented_routes()})

    def test_curl_lines_of_the_readme(self):
        with open(os.path.join(h.ROOT, "README.md"), encoding="utf-8") as f:
            commands = [c for c in re.findall(r"```sh\n(.*?)```", f.read(), re.S) if c.startswith("curl")]
        self.assertGreaterEqual(len(commands), 1)
        where = self.scratch()
        dim = 16384
        self.create(self.client, "mine", dim)
        self.addCleanup(self.client.delete, "/v1/corpora/mine")
        with open(os.path.join(where, "batch.safetensors"), "wb") as f:
            f.write(h.batch(np.random.default_rng(4).standard_normal((40, dim)), [f"x{i}" for i in range(40)]))
        for command in commands:
            done = subprocess.run(["sh", "-ec", command], cwd=where, capture_output=True, text=True,
                                  env={**os.environ, "URL": self.server.url, "KEY": self.server.key})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('"examples":40', done.stdout)

    def test_unix_socket(self):
        path = os.path.join(self.scratch(), "s")
        server = self.serve(listen="unix:" + path)
        self.assert_status(server.client().get("/v1/info"), 200)
        done = subprocess.run(["curl", "-sS", "--unix-socket", path, "-H", "Authorization: Bearer " + server.key,
                               "http://localhost/readyz"], capture_output=True, text=True)
        self.assertEqual(json.loads(done.stdout), {"ready": True})
        server.stop()
        self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    h.main()
