"""test_names.py - a thousand names that mean something to a file system, a database, a shell or a log:
in every place where a client may name something. Each is refused as a name, or is nothing but a name.
"""
import json
import os
import re
import unittest

import numpy as np

import harness as h

DIM = 4
STEPS = ["..", ".", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..%00", "..;", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae",
         "%uff0e%uff0e", "..%01", "....", "%20..", "..%20", "~", "~root", "%ef%bc%8e%ef%bc%8e"]
SLASHES = ["/", "%2f", "%2F", "//", "\\", "%5c", "%255c", "%252f", "%c0%af", "%e2%88%95", "/%2e/", "%00/", ";/"]
AIMS = ["etc/passwd", "admin.key", "ledger/data.mdb", "shards/000001/data.mdb", "LOCK"]
ODD = ["", "%00", "%0a", "%0d%0aX:%20y", "con", "nul", "aux.txt", "-rf", "--help", "$(id)", "`id`", "%24%7bHOME%7d", "%25s%25n",
       "'", "%22", "%3Cscript%3E", "a" * 63, "a" * 64, "a" * 255, "a" * 257, "%ff", "%c3%28", "%ed%a0%80", "%f4%90%80%80",
       "%e2%80%ae", "\xff", "CON", "c.", "c ", " c", "c%20", "C", "_", "-", "*", "%2a", "?", "%3f", "#", "%23", "c%3bd", "c:d",
       "0x41", "1e9", "null", "undefined", "%7b%7d", "%5b%5d", "__proto__", "%e2%80%8b", "c%09", "%80", "%", "%4", "%zz"]


def variants():
    """At least a thousand, as they stand in a request target."""
    names = list(ODD)
    for step in STEPS:
        for slash in SLASHES:
            for depth, aim in zip((1, 2, 4, 8, 16), AIMS):
                names.append((step + slash) * depth + aim.replace("/", slash))
    return names


PLACES = ["GET /v1/corpora/%s", "PUT /v1/corpora/%s", "DELETE /v1/corpora/%s", "POST /v1/corpora/%s/query?k=1",
          "GET /v1/corpora/c/examples/%s", "DELETE /v1/corpora/c/examples/%s", "GET /v1/corpora/c/examples/%s/encoding",
          "PUT /v1/corpora/c/batches/%s", "PUT /v1/corpora/c/tasks/%s", "GET /v1/corpora/c/tasks/%s",
          "PUT /v1/corpora/c/queries/%s", "GET /v1/corpora/c/queries/%s", "GET /v1/jobs/%s", "DELETE /v1/admin/keys/%s",
          "GET /page/%s", "GET /%s", "GET /v1/corpora/c/examples?after=%s", "POST /v1/corpora/c/query?k=1&task=%s",
          "POST /v1/corpora/c/query?k=1&engine=%s", "POST /v1/corpora/c/query?k=1&filter=%s"]
SECRETS = re.compile(rb"root:x:0|asc_[0-9a-f]{16}_|\xde\xc0\xef\xbe")  # passwd, a key, LMDB's mark


class Names(h.ServerCase):
    def tree(self):
        """Everything around the store, and the names in it that are no database of its own."""
        found = []
        for folder, folders, files in os.walk(self.base):
            found += [os.path.relpath(os.path.join(folder, x), self.base) for x in folders + files]
        return [x for x in found if not re.fullmatch(
            r"store|store/(LOCK|FORMAT|admin\.key|text\.sqlite(-wal|-shm)?|ledger|shards|ledger/(data|lock)\.mdb"
            r"|shards/\d{6}(/(data|lock)\.mdb)?)", x)]

    def ask(self, place, name):
        method, _, path = (place % name).partition(" ")
        target = path.encode("utf-8", "surrogateescape").decode("latin-1")
        body = next((v for k, v in self.bodies.items() if k in place), b"") if method in ("PUT", "POST") else b""
        head = (f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.server.key}\r\n"
                f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n")
        return h.raw(self.server.address, head.encode("latin-1") + body, timeout=20)

    def test_in_every_place(self):
        names = variants()
        self.assertGreaterEqual(len(names), 1000)
        self.assert_status(self.client.put("/v1/corpora/c", {"dim": DIM}), 201)
        x = np.ones((1, DIM), "f4")
        self.ingest(self.client, "c", "b", x, ["one"])
        self.bodies = {"/batches/": h.batch(x, ["two"]), "/query?": h.queries(x), "/tasks/": h.queries(x),
                       "/queries/": json.dumps({"prompt": "p"}).encode(), "PUT /v1/corpora/%s": b'{"dim": 4}'}
        before, asked, statuses = self.tree(), 0, {}
        for i, name in enumerate(names):
            for k in range(3):  # every name in three places, every place with a hundred names and more
                place = PLACES[(i * 3 + k * 7) % len(PLACES)]
                answer = self.ask(place, name)
                asked += 1
                status = int(answer[9:12] or 0)
                statuses[status] = statuses.get(status, 0) + 1
                self.assertIn(status, (200, 201, 202, 204, 400, 404, 405, 409, 411, 414, 422), (place, name, answer[:300]))
                self.assertIsNone(SECRETS.search(answer), (place, name))
        self.assertEqual(self.tree(), before)
        for corpus in self.client.get("/v1/corpora").json()["corpora"]:
            self.assertRegex(corpus["name"], r"^[a-z0-9][a-z0-9_-]{0,62}$")
        self.assertTrue(self.server.alive())
        print(f"figure: names {len(names)} asked {asked} answers {dict(sorted(statuses.items()))}")

    def test_in_bodies(self):
        """As ids, which may be any text, they come back as they went; as names of corpora they are refused."""
        self.assert_status(self.client.put("/v1/corpora/ids", {"dim": DIM}), 201)
        names = sorted({n for n in variants() if 0 < len(n.encode("utf-8", "replace")) <= 256 and "\xff" not in n})
        x = np.random.default_rng(4).standard_normal((len(names), DIM)).astype("f4")
        self.ingest(self.client, "ids", "b", x, names)
        for name in names[::17]:
            reply = self.assert_status(self.client.get("/v1/corpora/ids/examples/" + h.quote(name)), 200)
            self.assertEqual(reply.json()["id"], name)
        self.assertEqual(self.client.get("/v1/corpora/ids").json()["examples"], len(names))
        for name in names[::29]:
            reply = self.client.post("/v1/admin/keys", {"scope": "read", "corpus": name})
            self.assertIn(reply.status, (400, 404, 422) if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name) else (201,))


if __name__ == "__main__":
    unittest.main(verbosity=2)
