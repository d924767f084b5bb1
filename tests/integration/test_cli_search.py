"""test_cli_search.py - filters, words, saved queries and explanations through the program `ascribe`, against
the server's own answers.
"""
import json

import numpy as np

import harness
from test_cli import CliCase


class TestSearchAndSaved(CliCase):
    def setUp(self):
        super().setUp()
        self.x = self.pair(80, 24)
        self.name = "s" + self.id().rsplit("_", 1)[1]
        self.corpus(self.name, 24, blocks=[{"name": "a", "dim": 8}, {"name": "b", "dim": 16}])
        self.ingest_pair(self.name)
        np.save(self.path("q.npy"), self.x[5:7])

    def ask(self, path, body=None):
        reply = self.client.post(f"/v1/corpora/{self.name}{path}", body)
        self.assertEqual(reply.status, 200, reply)
        return reply.json()

    def test_query_options_reach_the_server(self):
        more = ("--filter", 'meta.i < 40 and not id = "e/5"', "--blocks", "--percentile", "--group", "meta.i")
        got = self.json("query", self.name, self.path("q.npy"), "-k", 3, "-o", 2, *more)
        right = self.ask("/query?k=3&opponents=2&blocks=1&percentile=1&group=meta.i&filter="
                         "meta.i%20%3C%2040%20and%20not%20id%20=%20%22e/5%22", harness.queries(self.x[5:7]))
        self.assertEqual(got["results"], right["results"])
        self.assertEqual(got["examples"], 39)
        self.assertEqual(len(got["results"][0]["proponents"][0]["blocks"]), 2)
        table, _ = self.cli("query", self.name, self.path("q.npy"), "-k", 2, *more)
        hit = right["results"][0]["proponents"][0]
        for part in (f"{hit['score']:+.6f}", f"{hit['blocks'][1]['share']:+.6f}  b", f"{100 * hit['percentile']:.3f}%",
                     "groups", "39 examples"):
            self.assertIn(part, table)
        plain, _ = self.cli("query", self.name, self.path("q.npy"), "-k", 2)
        self.assertNotIn("%", plain)
        self.assertNotIn("groups", plain)
        _, err = self.cli("query", self.name, self.path("q.npy"), "--filter", "meta.i <", code=2)
        self.assertIn("bad_filter", err)
        self.assertIn("byte 8", err)

    def test_scores_and_pages_are_filtered(self):
        self.cli("scores", self.name, self.path("q.npy"), "--out", self.path("o.npy"), "--filter", "meta.i >= 70")
        self.assertEqual(np.load(self.path("o.npy")).shape, (2, 10))
        out, _ = self.cli("--json", "example", "list", self.name, "--all", "--filter", 'id ^= "e/7"')
        self.assertEqual([json.loads(line)["id"] for line in out.splitlines()], ["e/7"] + [f"e/{i}" for i in range(70, 80)])

    def test_search_words(self):
        right = self.ask("/search", {"text": "text 17", "k": 4})
        got = self.json("search", self.name, "text 17", "-k", 4)
        self.assertEqual(got["results"], right["results"])
        self.assertEqual(got["results"][0]["id"], "e/17")
        table, _ = self.cli("search", self.name, "text 17", "-k", 4)
        self.assertIn("80 of 80 examples match", table)
        self.assertIn("e/17", table)
        got = self.json("search", self.name, "text", "--filter", "meta.i < 2", "--no-text")["results"]
        self.assertEqual([r["id"] for r in got], ["e/0", "e/1"])
        self.assertNotIn("text", got[0])
        table, _ = self.cli("search", self.name, "nothing of the kind", "-k", 4, "--filter", "meta.i < 0")
        self.assertIn("0 of 0 examples match", table)
        self.cli("search", self.name, code=1)

    def test_saved_roundtrip(self):
        saved = ("saved", "put", self.name, "q1", self.path("q.npy"), "--row", 1)
        entry = self.json(*saved, "--prompt", "Carmen by", "--target", " Bizet", "--output", " Ver\"di", "--tag", "one,two")
        self.assertEqual((entry["prompt"], entry["target"], entry["output"], entry["tags"], entry["dim"]),
                         ("Carmen by", " Bizet", " Ver\"di", ["one", "two"], 24))
        self.assertEqual(self.json("saved", "get", self.name, "q1"), entry)
        got = self.json("query", self.name, "--saved", "q1", "-k", 7, "-o", 3)["results"]
        self.assertEqual(got, self.ask("/query?k=7&opponents=3", harness.queries(self.x[6]))["results"])
        table, _ = self.cli("query", self.name, "--saved", "q1")
        self.assertIn("query 1 of 1", table)
        for i in range(5):
            self.cli("saved", "put", self.name, f"r{i}", self.path("q.npy"), "--tag", "r")
        names = lambda *more: [json.loads(line)["name"] for line in  # noqa: E731
                               self.cli("--json", "-q", "saved", "list", self.name, *more)[0].splitlines()]
        self.assertEqual(names(), ["q1"] + [f"r{i}" for i in range(5)])
        self.assertEqual(names("--tag", "two"), ["q1"])
        self.assertEqual(names("--limit", 2), ["q1", "r0"])
        _, err = self.cli("saved", "list", self.name, "--limit", 2)
        self.assertIn("more: --after r0", err)
        self.assertEqual(names("--after", "r2"), ["r3", "r4"])
        self.assertIn("Carmen by -> Bizet", self.cli("saved", "list", self.name)[0])
        self.cli("saved", "delete", self.name, "q1")
        _, err = self.cli("saved", "get", self.name, "q1", code=2)
        self.assertIn("unknown_query", err)
        self.cli("query", self.name, "--saved", "q1", code=2)

    def test_nearest_to_an_example(self):
        got = self.json("query", self.name, "--like", "e/5", "-k", 3, "-o", 1)["results"]
        self.assertEqual(got, self.ask("/query?k=3&opponents=1&like=e%2F5")["results"])
        self.assertEqual(got[0]["proponents"][0]["id"], "e/5")
        self.assertIn("e/5", self.cli("query", self.name, "--like", "e/5", "-k", 1)[0])
        _, err = self.cli("query", self.name, "--like", "nobody", code=2)
        self.assertIn("unknown_example", err)
        self.assertRegex(self.cli("corpus", "show", self.name)[0], r"(?m)^planes\.rows +7680$")

    def test_what_is_refused(self):
        self.cli("query", self.name, code=1)
        self.cli("query", self.name, "--like", "e/5", "--saved", "q1", code=1)
        self.cli("query", self.name, self.path("q.npy"), "--saved", "q1", code=1)
        self.cli("saved", "put", self.name, "x", self.path("q.npy"), "--row", 2, code=5)
        self.cli("saved", "put", self.name, "x", self.path("none.npy"), code=5)
        self.cli("saved", "put", self.name, "No", self.path("q.npy"), code=2)
        self.cli("saved", "run", self.name, code=1)
        self.cli("saved", "get", self.name, code=1)


if __name__ == "__main__":
    harness.main()
