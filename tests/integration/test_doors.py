"""test_doors.py - who may come in: every route of the server's table against every kind of wrong key,
refused before a byte of the body; keys of one corpus, keys that end, rotation, rates; the audit; and
that no secret stays in the server's memory, its files or its logs.

The table of routes is read out of the sources that define it and held against /openapi.json, so a
new route is in every test here from its first day.
"""
import glob
import json
import os
import re
import signal
import socket
import threading
import time
import unittest

import numpy as np

import harness as h
from harness import Case, ServerCase

# What a key of one corpus may ask though the path names none. A new one wants a reason here: it shows
# nothing of other corpora.
COMMON = {
    ("GET", "/readyz"),             # one word
    ("GET", "/openapi.json"),       # the same for everybody
    ("GET", "/v1/info"),            # version and limits
    ("GET", "/v1/corpora"),         # its own row alone
    ("GET", "/v1/jobs"),            # those of its corpus
    ("GET", "/v1/jobs/{j}"),
    ("GET", "/v1/encoder"),         # the model, which is nobody's corpus
    ("POST", "/v1/encoder/continue"),
    ("POST", "/v1/encoder/encode"),
}


def routes_of_source():
    """[(method, path, scope bits as text)] of every row in the sources of the server."""
    rows = []
    for path in sorted(glob.glob(os.path.join(h.ROOT, "server/*.[ch]"))):
        with open(path, encoding="utf-8") as f:
            text = re.sub(r"\\\n\s*", " ", f.read())
        rows += re.findall(r'\{"(GET|PUT|POST|DELETE)",\s*"(/[^"]*)",\s*(SCOPE_\w+(?:\s*\|\s*SCOPE_\w+)*),\s*BODY_',
                           text)
    return rows


def filled(path, corpus="none"):
    """The path with names in it: nothing is there under them."""
    return re.sub(r"\{\w+\}", "none", path.replace("{c}", corpus))


class Door(ServerCase):
    """One request head at a time, on a socket of its own, with a huge body announced and never sent."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        client = cls.server.client()
        cls.keys = {}
        for name, ask in (("read", {"scope": "read"}), ("write", {"scope": "write"}), ("admin", {"scope": "admin"}),
                          ("revoked", {"scope": "admin"}), ("expired", {"scope": "admin", "expires_s": 1}),
                          ("rotated", {"scope": "admin"}), ("mine", {"scope": "write", "corpus": "mine"})):
            reply = client.post("/v1/admin/keys", ask)
            assert reply.status == 201, reply
            cls.keys[name] = reply.json()
        assert client.delete("/v1/admin/keys/" + cls.keys["revoked"]["id"]).status == 204
        assert client.post(f"/v1/admin/keys/{cls.keys['rotated']['id']}/rotate", {"overlap_s": 0}).status == 201
        for corpus in ("mine", "other"):
            assert client.put("/v1/corpora/" + corpus, {"dim": 4}).status == 201
        cls.spec = client.get("/openapi.json").json()
        cls.routes = [(method, path, scope.split("|")[0].strip()[6:].lower())
                      for method, path, scope in routes_of_source()]
        client.close()
        while time.time() < cls.epoch(cls.keys["expired"]["expires"]):
            time.sleep(0.05)

    @staticmethod
    def epoch(text):
        import calendar
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))

    def secret(self, name):
        return self.keys[name]["key"]

    def ask(self, method, target, *fields):
        """The answer to a head that announces 200 MB, of which none is sent; and that nothing came before it."""
        head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", "Content-Length: 200000000",
                            "Content-Type: application/octet-stream", "Expect: 100-continue", *fields]) + "\r\n\r\n"
        with socket.create_connection(self.server.address, timeout=20 * h.SLOW) as s:
            s.sendall(head.encode("latin-1"))
            data = b""
            while True:
                try:
                    part = s.recv(65536)
                except ConnectionResetError:
                    break
                if not part:
                    break
                data += part
                end = data.find(b"\r\n\r\n")
                found = re.search(rb"(?i)content-length: (\d+)", data[:end]) if end >= 0 else None
                if end >= 0 and len(data) >= end + 4 + int(found.group(1) if found else 0):
                    break
        return h.parse_reply(data)

    def refused(self, status, code, method, target, *fields):
        reply = self.ask(method, target, *fields)
        self.assertNotEqual(reply.status, 100, f"{method} {target}: the body was asked for")
        self.assert_problem(reply, status, code)
        if status == 401:
            self.assertEqual(reply.headers["WWW-Authenticate"], "Bearer")
        for key in self.keys.values():
            self.assertNotIn(key["key"][21:].encode(), reply.body)
        return reply

    def bearer(self, name):
        return "Authorization: Bearer " + self.secret(name)

    def test_the_table_is_whole(self):
        source = [(m, p) for m, p, _ in routes_of_source()]
        self.assertGreater(len(source), 35)
        told = {(method.upper(), path): op.get("x-scope", "open") for path, item in self.spec["paths"].items()
                for method, op in item.items()}
        # the page's own files are no part of the interface
        self.assertEqual({(m, p): scope for m, p, scope in self.routes if p != "/" and not p.startswith("/page/")}, told)
        self.assertEqual({(m, p) for m, p, s in routes_of_source() if "SCOPE_COMMON" in s}, COMMON & set(source))

    def closed_routes(self):
        rows = [r for r in self.routes if r[2] != "open"]
        self.assertGreater(len(rows), 35)
        return rows

    def test_open_routes_are_few(self):
        """What is open shows nothing that is stored: the liveness probe and the page's own files."""
        for method, path, scope in self.routes:
            if scope == "open":
                self.assertTrue(method == "GET" and (path in ("/", "/healthz") or path.startswith("/page/")), path)

    def test_without_a_right_key(self):
        """Every route x every way of having none: 401 by its head alone, whatever the route."""
        good = self.secret("admin")
        wrong = {
            "none": [],
            "empty": ["Authorization: Bearer "],
            "malformed": ["Authorization: Bearer asc_xyz"],
            "cut": ["Authorization: Bearer " + good[:-1]],
            "too long": ["Authorization: Bearer " + good + "0"],
            "upper case": ["Authorization: Bearer " + good.upper()],
            "another scheme": ["Authorization: Basic " + good],
            "no scheme": ["Authorization: " + good],
            "unknown": ["Authorization: Bearer asc_0123456789abcdef_" + "5" * 64],
            "another's secret": ["Authorization: Bearer " + self.secret("read")[:21] + good[21:]],
            "revoked": [self.bearer("revoked")],
            "in a cookie": ["Cookie: key=" + good],
            "in another header": ["X-Api-Key: " + good],
            "of a proxy": ["Proxy-Authorization: Bearer " + good],
        }
        for method, path, _ in self.closed_routes():
            for what, fields in wrong.items():
                with self.subTest(route=f"{method} {path}", key=what):
                    self.refused(401, "unauthorized", method, filled(path), *fields)

    def test_ended_keys(self):
        for method, path, _ in self.closed_routes():
            for name in ("expired", "rotated"):
                with self.subTest(route=f"{method} {path}", key=name):
                    reply = self.refused(401, "key_expired", method, filled(path), self.bearer(name))
                    self.assertIn(self.keys[name]["id"], reply.json()["detail"])

    def test_key_in_the_url(self):
        good = self.secret("admin")
        for method, path, _ in self.closed_routes():
            for target in (f"{filled(path)}?key={good}", f"{filled(path)}?access_token={good}&api_key={good}",
                           f"http://{good}@x{filled(path)}", f"http://key:{good}@x{filled(path)}"):
                with self.subTest(route=f"{method} {path}", target=target[:40]):
                    self.refused(401, "unauthorized", method, target)
        self.assertNotIn(good[21:], "\n".join(self.server.log))

    def test_wrong_scope(self):
        order = ["read", "write", "admin"]
        for method, path, scope in self.closed_routes():
            for have in order[:order.index(scope)]:
                with self.subTest(route=f"{method} {path}", key=have):
                    self.refused(403, "forbidden", method, filled(path), self.bearer(have))

    def test_another_corpus(self):
        """Refused alike whether there is such a corpus or not; every path without a corpus too, but the common ones."""
        for method, path, scope in self.closed_routes():
            if scope == "admin" or (method, path) in COMMON:
                continue
            with self.subTest(route=f"{method} {path}"):
                words = [self.refused(403, "forbidden", method, filled(path, corpus), self.bearer("mine")).json()["detail"]
                         for corpus in ("other", "none", "MINE", "mine%00", "mine%2Fx")
                         if "{c}" in path or corpus == "none"
                         if "%00" not in corpus]
                self.assertEqual(len(set(words)), 1)

    def test_its_own_corpus(self):
        """The same key comes through every door of its corpus: what answers then is the route, not the door."""
        for method, path, scope in self.closed_routes():
            if scope == "admin" or not ("{c}" in path or (method, path) in COMMON):
                continue
            with self.subTest(route=f"{method} {path}"):
                reply = self.ask(method, filled(path, "mine"), self.bearer("mine"))
                self.assertNotIn(reply.status, (401, 403), repr(reply))

    def test_unknown_paths_are_told_apart_only_with_a_key(self):
        for target in ("/v1/none", "/v1/corpora/mine/none", "/v1/admin", "/etc/passwd", "/v1/../v1/info"):
            self.refused(401, "unauthorized", "GET", target)
            self.refused(404, "unknown_route", "GET", target, self.bearer("read"))
        self.refused(401, "unauthorized", "DELETE", "/v1/info")
        self.refused(405, "method_not_allowed", "DELETE", "/v1/info", self.bearer("read"))

    def test_two_authorizations(self):
        for first, second in (("admin", "read"), ("read", "admin"), ("admin", "admin")):
            self.assert_problem(self.ask("GET", "/v1/info", self.bearer(first), self.bearer(second)), 400, "bad_http")


class OneCorpus(ServerCase):
    """What a key of one corpus sees."""

    def setUp(self):
        super().setUp()
        for name in ("mine", "other"):
            if self.client.get("/v1/corpora/" + name).status == 404:
                self.create(self.client, name, 8)
        made = self.assert_status(self.client.post("/v1/admin/keys", {"scope": "write", "corpus": "mine"}), 201).json()
        self.assertEqual((made["corpus"], made["scope"]), ("mine", "write"))
        self.mine = self.server.client(key=made["key"])
        self.addCleanup(self.mine.close)

    def test_lists_jobs_and_metrics(self):
        self.assertEqual([c["name"] for c in self.mine.get("/v1/corpora").json()["corpora"]], ["mine"])
        self.assertEqual(len(self.client.get("/v1/corpora").json()["corpora"]), 2)
        x = np.random.default_rng(1).standard_normal((40, 8)).astype("f4")
        self.ingest(self.mine, "mine", "b", x, [f"m{i}" for i in range(40)])
        self.ingest(self.client, "other", "b", x, [f"o{i}" for i in range(40)])
        self.assert_problem(self.mine.put("/v1/corpora/other/batches/c", h.batch(x[:1], ["no"])), 403, "forbidden")
        jobs = [self.wait_job(self.client, self.client.post(path))["id"] for path in
                ("/v1/corpora/other/fit", "/v1/admin/verify", "/v1/admin/compact", "/v1/admin/compact?corpus=other")]
        own = [self.wait_job(self.mine, self.mine.post("/v1/corpora/mine/fit"))["id"],
               self.wait_job(self.mine, self.client.post("/v1/admin/compact?corpus=mine"))["id"]]
        self.assertEqual([j["id"] for j in self.mine.get("/v1/jobs").json()["jobs"]], own[::-1])
        self.assertLess(len(own), len(self.client.get("/v1/jobs").json()["jobs"]))
        for job in jobs:
            self.assert_problem(self.mine.get("/v1/jobs/" + job), 404, "unknown_job")
        self.assert_problem(self.mine.get("/metrics"), 403, "forbidden")
        hits = self.assert_status(self.mine.post("/v1/corpora/mine/query?k=40", h.queries(x[:1])), 200).json()
        self.assertEqual({p["id"][0] for p in hits["results"][0]["proponents"]}, {"m"})

    def test_a_corpus_that_is_not_there_yet(self):
        made = self.client.post("/v1/admin/keys", {"scope": "write", "corpus": "later"}).json()
        later = self.server.client(key=made["key"])
        self.addCleanup(later.close)
        self.assert_problem(later.get("/v1/corpora/later"), 404, "unknown_corpus")
        self.assertEqual(later.get("/v1/corpora").json()["corpora"], [])
        self.create(later, "later", 3)
        self.assert_problem(later.delete("/v1/corpora/later"), 403, "forbidden")
        self.assert_status(self.client.delete("/v1/corpora/later"), 204)

    def test_what_cannot_be_asked_for(self):
        for ask, field in (({"scope": "admin", "corpus": "mine"}, "scope"), ({"scope": "read", "corpus": "No"}, "corpus"),
                           ({"scope": "read", "corpus": ""}, "corpus"), ({"scope": "read", "label": "admin.key"}, "label"),
                           ({"scope": "read", "expires_s": 0}, "expires_s"), ({"scope": "read", "rate": 0}, "rate"),
                           ({"scope": "read", "expires_s": 10**10}, "expires_s"), ({"scope": "root"}, "scope"),
                           ({"scope": "read", "colour": 1}, "colour")):
            self.assert_problem(self.client.post("/v1/admin/keys", ask), 400, "invalid_request", field=field)


class Life(Case):
    """Keys over time: ends, rotation, rates, restarts."""

    def key(self, client, **ask):
        return self.assert_status(client.post("/v1/admin/keys", {"scope": "read", **ask}), 201).json()

    def listed(self, client, key):
        return {k["id"]: k for k in client.get("/v1/admin/keys").json()["keys"]}[key["id"]]

    def test_rotation_under_load(self):
        """A client that changes keys while it asks is never refused, and nothing is restarted."""
        server = self.serve()
        admin = server.client()
        key = self.key(admin, label="dashboard")
        box, stop, faults, asked = [key["key"]], threading.Event(), [], [0]

        def work():
            client = server.client(key=None)
            while not stop.is_set():
                client.key = box[0]
                reply = client.get("/v1/info")
                asked[0] += 1
                if reply.status != 200:
                    faults.append(reply)
            client.close()
        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(5):
            now = asked[0]
            h.wait_until(lambda: asked[0] > now + 20, "some requests")
            fresh = self.assert_status(admin.post(f"/v1/admin/keys/{key['id']}/rotate", {"overlap_s": 3600}), 201).json()
            self.assertEqual(fresh["replaces"]["id"], key["id"])
            self.assertEqual(fresh["label"], "dashboard")
            box[0], key = fresh["key"], fresh
        stop.set()
        thread.join()
        self.assertEqual(faults, [])
        self.assertGreater(asked[0], 100)

    def test_the_file_follows_its_key(self):
        server = self.serve()
        old = server.key
        admin = server.client()
        made = admin.post(f"/v1/admin/keys/{old.split('_')[1]}/rotate", {"overlap_s": 2}).json()
        self.assertEqual(server.key, made["key"])
        self.assertEqual(os.stat(os.path.join(server.store, "admin.key")).st_mode & 0o777, 0o600)
        self.assert_status(admin.get("/v1/info"), 200)  # for two seconds, with the old one
        h.wait_until(lambda: admin.get("/v1/info").status == 401, "the end of the overlap")
        self.assert_problem(admin.get("/v1/info"), 401, "key_expired")
        fresh = server.client()
        self.assert_problem(fresh.delete("/v1/admin/keys/" + made["id"]), 409, "conflict")
        server.stop()
        server.start(create=False)
        self.assertEqual(server.key, made["key"])
        self.assert_status(server.client().get("/v1/admin/keys"), 200)
        self.assert_problem(server.client(key=old).get("/v1/info"), 401, "key_expired")

    def test_the_last_key_that_lasts_stays(self):
        server = self.serve()
        admin = server.client()
        ends = self.key(admin, scope="admin", expires_s=3600)
        own = server.key.split("_")[1]
        self.assert_problem(admin.delete("/v1/admin/keys/" + own), 409, "conflict")
        self.assert_status(admin.delete("/v1/admin/keys/" + ends["id"]), 204)
        lasting = self.key(admin, scope="admin")
        self.assert_status(admin.delete("/v1/admin/keys/" + own), 204)
        self.assert_problem(server.client(key=lasting["key"]).delete("/v1/admin/keys/" + lasting["id"]), 409, "conflict")

    def test_last_use_outlives_a_restart(self):
        server = self.serve()
        admin = server.client()
        key = self.key(admin)
        self.assertIsNone(self.listed(admin, key)["last_used"])
        self.assert_status(server.client(key=key["key"]).get("/v1/info"), 200)
        used = self.listed(admin, key)["last_used"]
        self.assertTrue(used)
        server.stop()
        server.start(create=False)
        self.assertEqual(self.listed(server.client(), key)["last_used"], used)

    def test_rates(self):
        server = self.serve(args=["--rate", "200", "--rate-burst", "30"])
        admin = server.client()
        slow = server.client(key=self.key(admin, rate=2)["key"])
        answers = [slow.get("/v1/info") for _ in range(12)]
        limited = [a for a in answers if a.status == 429]
        self.assertGreaterEqual(len(limited), 5)
        self.assertEqual([a.status for a in answers[:4]], [200] * 4)  # twice the rate at once
        for a in limited:
            self.assert_problem(a, 429, "rate_limited")
            self.assertEqual(a.headers["Retry-After"], "1")
        time.sleep(float(limited[-1].headers["Retry-After"]))
        self.assert_status(slow.get("/v1/info"), 200)
        # one key's rate is no other's; a body is not read either
        self.assert_status(admin.get("/v1/info"), 200)
        page = admin.get("/metrics").body.decode()
        self.assertEqual(re.search(r"^ascribe_rate_limited_total (\d+)$", page, re.M).group(1), str(len(limited)))
        other = server.client(key=self.key(admin)["key"])
        statuses = [other.get("/v1/info").status for _ in range(30)]
        self.assertEqual(statuses, [200] * 30)

    def test_bind_rules(self):
        store = os.path.join(self.scratch(), "store")
        for address in ("0.0.0.0:0", "[::]:0", ":0"):
            done = h.subprocess.run([h.program("ascribed"), "--store", store, "--create", "--listen", address],
                                    capture_output=True, text=True, timeout=30 * h.SLOW)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("--behind-tls-proxy", done.stderr)
        self.assertFalse(os.path.exists(store))
        server = self.serve(args=["--behind-tls-proxy"], listen="0.0.0.0:0")
        port = server.address[1]
        self.assert_problem(h.Client(("127.0.0.1", port)).get("/v1/info"), 401, "unauthorized")


class Audit(Case):
    def lines(self, text):
        """[{field: value}] of logfmt lines."""
        out = []
        for line in text.splitlines():
            pairs = re.findall(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |$)', line)
            self.assertEqual(" ".join(f"{k}={v}" for k, v in pairs), line, "a line is not logfmt")
            out.append({k: v.strip('"') for k, v in pairs})
        return out

    def work(self, server):
        """A little of everything; the secrets that were made."""
        admin = server.client()
        self.create(admin, "c", 4)
        key = self.assert_status(admin.post("/v1/admin/keys", {"scope": "write", "label": "forged audit=\"x\""}),
                                 201).json()
        writer = server.client(key=key["key"])
        self.ingest(writer, "c", "b1", np.eye(4, dtype="f4"), [f"id {i}\u00e9" for i in range(4)])
        self.assert_status(writer.delete("/v1/corpora/c/examples/" + h.quote("id 1\u00e9")), 204)
        self.assert_status(writer.get("/v1/corpora/c"), 200)
        self.assert_problem(writer.delete("/v1/corpora/c"), 403, "forbidden")
        self.assert_problem(writer.put("/v1/corpora/c/batches/b1", h.batch(np.eye(4) * 2, ["a", "b", "c", "d"])), 409,
                            "batch_conflict")
        self.wait_job(admin, admin.post("/v1/admin/compact?corpus=c"))
        turned = self.assert_status(admin.post(f"/v1/admin/keys/{key['id']}/rotate"), 201).json()
        self.assert_status(admin.delete("/v1/admin/keys/" + key["id"]), 204)
        self.assert_problem(writer.get("/v1/corpora/c"), 401, "unauthorized")
        self.assert_problem(server.client(key=None).get("/v1/corpora?key=" + server.key), 401, "unauthorized")
        return key, turned

    def check(self, lines, key, turned, server_key):
        seen = [(a["audit"], a.get("method"), a.get("route"), a.get("status")) for a in lines]
        c = "/v1/corpora/{c}"
        self.assertEqual([s for s in seen if s[0] != "server"], [
            ("change", "PUT", c, "201"), ("change", "POST", "/v1/admin/keys", "201"),
            ("change", "PUT", c + "/batches/{b}", "201"), ("change", "DELETE", c + "/examples/{id}", "204"),
            ("denied", "DELETE", c, "403"), ("change", "PUT", c + "/batches/{b}", "409"),
            ("change", "POST", "/v1/admin/compact", "202"),
            ("change", "POST", "/v1/admin/keys/{id}/rotate", "201"), ("change", "DELETE", "/v1/admin/keys/{id}", "204"),
            ("denied", "GET", c, "401"), ("denied", "GET", "/v1/corpora", "401")])
        by = [a for a in lines if a["audit"] != "server"]
        admin = server_key.split("_")[1]
        self.assertEqual([a["key"] for a in by], [admin, admin, key["id"], key["id"], key["id"], key["id"], admin, admin,
                                                  admin, key["id"], "-"])
        self.assertEqual((by[2]["corpus"], by[2]["on"], by[2]["code"]), ("c", "b1", "ok"))
        self.assertEqual(by[3]["on"], "id 1\u00e9")
        self.assertIn(key["id"], by[1]["note"])
        self.assertIn(turned["id"], by[7]["note"])
        self.assertEqual(by[6]["corpus"], "c")
        self.assertEqual(by[5]["code"], "batch_conflict")
        for a in by:
            self.assertRegex(a["ts"], r"^\d{4}-\d\d-\d\dT[\d:.]+Z$")
            self.assertRegex(a["peer"], r"^127\.0\.0\.1:\d+$")
            self.assertTrue(a["request"])

    def test_a_file_of_its_own(self):
        path = os.path.join(self.scratch(), "audit.log")
        server = self.serve(args=["--audit", path])
        key, turned = self.work(server)
        admin_key = server.key
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.check(self.lines(text), key, turned, admin_key)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertNotIn("msg=audit", "\n".join(server.log))
        for secret in (key["key"], turned["key"], admin_key):
            self.assertNotIn(secret[21:], text + "\n".join(server.log))
        # rotated as logrotate does it: moved away, then SIGHUP
        os.rename(path, path + ".1")
        admin = server.client()
        self.create(admin, "still-to-the-old", 4)
        server.process.send_signal(signal.SIGHUP)
        h.wait_until(lambda: os.path.exists(path), "the new file")
        self.create(admin, "to-the-new", 4)
        with open(path, encoding="utf-8") as f:
            self.assertEqual([a["corpus"] for a in self.lines(f.read())], ["to-the-new"])
        with open(path + ".1", encoding="utf-8") as f:
            self.assertIn("still-to-the-old", f.read().splitlines()[-1])
        server.stop()
        with open(path, encoding="utf-8") as f:
            self.assertEqual(self.lines(f.read())[-1]["what"], "stop")

    def test_beside_the_log(self):
        server = self.serve(args=["--log-level", "error"])  # an audit is no matter of levels
        key, turned = self.work(server)
        text = "\n".join(l for l in server.log if " msg=audit " in l)
        h.wait_until(lambda: "\n".join(server.log).count("audit=denied") == 3, "the last line")
        text = "\n".join(l for l in server.log if " msg=audit " in l)
        self.check(self.lines(text), key, turned, server.key)

    def test_off_and_wrong(self):
        server = self.serve(args=["--audit", "off"])
        self.create(server.client(), "c", 2)
        self.assertNotIn("audit=", "\n".join(server.log))
        folder = self.scratch()
        os.mkfifo(folder + "/pipe")
        os.symlink(folder + "/elsewhere", folder + "/link")
        for bad in (folder, folder + "/none/file", folder + "/pipe", folder + "/link"):
            done = h.subprocess.run([h.program("ascribed"), "--store", folder + "/s", "--create", "--audit", bad,
                                     "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=30 * h.SLOW)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("audit", done.stderr)
        self.assertFalse(os.path.exists(folder + "/s"))

    def test_refusals_do_not_fill_the_disk(self):
        path = os.path.join(self.scratch(), "audit.log")
        server = self.serve(args=["--audit", path])
        stranger = server.client(key=None)
        for _ in range(400):
            self.assert_status(stranger.get("/v1/info"), 401)
        time.sleep(0.3)
        self.assert_status(stranger.get("/v1/info"), 401)
        with open(path, encoding="utf-8") as f:
            denied = [a for a in self.lines(f.read()) if a["audit"] == "denied"]
        self.assertLess(len(denied), 200)
        written, kept_back = len(denied), sum(int(a.get("not_written", 0)) for a in denied)
        self.assertEqual(written + kept_back, 401)

    def test_over_a_unix_socket_and_behind_a_proxy(self):
        path = os.path.join(self.scratch(), "audit.log")
        server = self.serve(args=["--audit", path], listen="unix:" + os.path.join(self.scratch(), "s"))
        client = server.client()
        client.put("/v1/corpora/c", {"dim": 2}, headers={"X-Forwarded-For": "192.0.2.7, \x22evil=1"})
        with open(path, encoding="utf-8") as f:
            line = self.lines(f.read())[-1]
        self.assertEqual(line["peer"], f"uid={os.getuid()},pid={os.getpid()}")
        self.assertEqual(line["forwarded"], r'192.0.2.7, \"evil=1')


class Secrets(Case):
    """After its use a key is nowhere: not in memory, not in a file, not in a log."""

    def found(self, pid, secrets):
        """[(name, form, where)] in everything that the process may write to."""
        needles = []
        for name, key in secrets.items():
            text = key[21:]
            needles += [(name, "text", text.encode()), (name, "half", text[20:44].encode()),
                        (name, "bytes", bytes.fromhex(text)), (name, "half of the bytes", bytes.fromhex(text)[10:26])]
        hits = []
        with open(f"/proc/{pid}/smaps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
            for line, rss in re.findall(r"^([0-9a-f]+-[0-9a-f]+ rw.*)$(?:\n(?![0-9a-f]+-).*)*?\nRss: +(\d+)", maps.read(),
                                        re.M):
                if rss == "0" or "[v" in line:
                    continue
                low, high = (int(x, 16) for x in line.split()[0].split("-"))
                for at in range(low, high, 1 << 24):
                    try:
                        mem.seek(at)
                        data = mem.read(min((1 << 24) + 64, high - at))
                    except OSError:
                        continue
                    hits += [(name, form, line) for name, form, needle in needles if needle in data]
        return hits

    @unittest.skipIf(h.FLAVOUR, "a sanitizer keeps what was freed, and a shadow of it")
    def test_memory_files_and_logs(self):
        folder = self.scratch()
        server = self.serve(args=["--audit", folder + "/audit"])
        admin = server.client()
        secrets = {"admin": server.key}
        for name in ("made", "used", "turned"):
            secrets[name] = admin.post("/v1/admin/keys", {"scope": "write", "label": name * 8}).json()["key"]
        secrets["fresh"] = admin.post(f"/v1/admin/keys/{secrets['turned'][4:20]}/rotate", {"overlap_s": 9}).json()["key"]
        self.create(admin, "c", 4)
        used = server.client(key=secrets["used"])
        for i in range(20):
            self.ingest(used, "c", f"b{i}", np.eye(4, dtype="f4"), [f"{i}-{j}" for j in range(4)])
            self.assert_status(used.post("/v1/corpora/c/query?k=1", h.queries(np.ones((1, 4)))), 200)
        used.get("/v1/corpora?key=" + secrets["used"])
        one = f"GET /v1/info HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secrets['made']}\r\n\r\n".encode()
        half = f"GET /v1/info HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secrets['made']}".encode()
        h.raw(server.address, one * 7, timeout=1)                          # pipelined
        h.raw(server.address, half, timeout=1, half_close=True)            # cut in the head
        h.raw(server.address, one.replace(b"GET", b"PUT") + one, timeout=1)
        h.raw(server.address, one.replace(b"Host: x", b"Host: x\r\nHost: y") + one, timeout=1)  # refused, then more
        h.raw(server.address, one.replace(b"\r\n\r\n", b"\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n"), timeout=1)
        with socket.create_connection(server.address) as s:                # gone without a word
            s.sendall(half)
        admin.close()
        used.close()
        h.wait_until(lambda: not self.connections(server), "the connections to end")
        self.assertEqual(self.found(server.process.pid, secrets), [])
        # what the test looks for would be found
        marker = "0123456789abcdef" * 4
        with socket.create_connection(server.address) as s:
            s.sendall(f"GET /v1/info HTTP/1.1\r\nX: asc_0123456789abcdef_{marker}".encode())
            h.wait_until(lambda: self.found(server.process.pid, {"marker": f"asc_0123456789abcdef_{marker}"}), "a marker")
        server.stop()
        for path in glob.glob(folder + "/**", recursive=True) + glob.glob(server.store + "/**", recursive=True):
            if os.path.isfile(path) and not path.endswith("/admin.key"):
                with open(path, "rb") as f:
                    data = f.read()
                for name, key in secrets.items():
                    self.assertNotIn(key[21:].encode(), data, f"{name} in {path}")
                    self.assertNotIn(bytes.fromhex(key[21:]), data, f"{name} in {path}")
        text = "\n".join(server.log)
        for name, key in secrets.items():
            self.assertNotIn(key[21:], text, name)

    def connections(self, server):
        """Sockets of the server that are connected: /proc/net/tcp rows of its port in another state than LISTEN."""
        port = f"{server.address[1]:04X}"
        with open("/proc/net/tcp") as f:
            rows = [line.split() for line in f.readlines()[1:]]
        return [r for r in rows if r[1].endswith(":" + port) and r[3] in ("01", "08")]


if __name__ == "__main__":
    h.main()
