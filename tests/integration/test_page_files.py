"""test_page_files.py - what the server does for the page: its files, their headers and tags, `ascribe page`, the link on a
terminal; and what can be checked of the files without a browser. tests/page drives a real one.
"""
import json
import os
import pty
import re
import subprocess
import urllib.parse

import harness as h

ROOT = os.path.join(h.ROOT, "client", "page")
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def files():
    """Every file of the page, as a path below client/page."""
    return sorted(os.path.relpath(os.path.join(d, f), ROOT) for d, _, names in os.walk(ROOT) for f in names)


def read(name):
    with open(os.path.join(ROOT, name), "rb") as f:
        return f.read()


class PairFiles(h.Case):
    def test_damaged_files(self):
        module = os.path.join(self.scratch(), "pairfile.mjs")
        with open(module, "wb") as f:
            f.write(read("pairfile.js"))
        done = subprocess.run(["node", os.path.join(h.ROOT, "tests/page/fuzz_pair.mjs"), module, "11", "20000"],
                              capture_output=True, text=True, timeout=120 * h.SLOW, check=False)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        print("      PAIR:", done.stdout.strip(), flush=True)


class Served(h.ServerCase):
    def setUp(self):
        super().setUp()
        self.stranger = self.server.client(key=None)

    def get(self, path, **headers):
        return self.stranger.request("GET", path, headers=headers)

    def test_every_file_as_it_is_to_everybody(self):
        self.assertIn("views/answer.js", files())
        for name in files():
            reply = self.assert_status(self.get("/page/" + name), 200)
            self.assertEqual(reply.body, read(name), name)
            self.assertEqual(reply.headers["Content-Type"], TYPES[os.path.splitext(name)[1]])
            self.assertEqual(reply.headers["Content-Security-Policy"], POLICY)
            self.assertEqual(reply.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(reply.headers["Referrer-Policy"], "no-referrer")
            self.assertEqual(reply.headers["Cache-Control"], "no-cache")

    def test_the_root_is_the_page_whatever_its_address_carries(self):
        want = read("index.html")
        for path in ("/", "/?", "/?c=mine&v=answer&q=x", "/?key=asc_1_2", "/page/index.html"):
            self.assertEqual(self.assert_status(self.get(path), 200).body, want, path)

    def test_plots_library_is_embedded_with_its_notice(self):
        body = self.assert_status(self.get("/page/d3.js"), 200).body
        self.assertIn(b"d3js.org", body[:200])
        self.assertGreater(len(body), 100000)

    def test_tags(self):
        tags = {name: self.get("/page/" + name).headers["ETag"] for name in files()}
        self.assertEqual(len(set(tags.values())), len(tags))
        tag, other = tags["main.js"], tags["page.css"]
        for held in (tag, "W/" + tag, f"{other}, {tag}", "*"):
            reply = self.assert_status(self.get("/page/main.js", **{"If-None-Match": held}), 304)
            self.assertEqual((reply.body, reply.headers["ETag"]), (b"", tag))
            self.assertEqual(reply.headers["Content-Security-Policy"], POLICY)
        for held in (other, "nonsense", tag.strip('"'), ""):
            self.assert_status(self.get("/page/main.js", **{"If-None-Match": held}), 200)

    def test_head(self):
        get, head = self.get("/"), self.stranger.request("HEAD", "/")
        self.assertEqual((head.status, head.body), (200, b""))
        for name in ("Content-Length", "ETag", "Content-Type", "Content-Security-Policy"):
            self.assertEqual(head.headers[name], get.headers[name], name)

    def test_nothing_else_is_served(self):
        for path in ("/page/none.js", "/page/", "/page/views/", "/page/../server/page.c", "/page/..%2F..%2Fetc%2Fpasswd", "/page/%2e%2e/Makefile",
                     "/page/views/../main.js", "/page/views%2Fanswer.js%00", "/index.html", "/page/a/b/c"):
            reply = self.get(path)
            self.assertIn(reply.status, (400, 401, 404), path)
            self.assertIn(b'"code"', reply.body, path)
        self.assert_problem(self.client.post("/", b""), 405, "method_not_allowed")

    def test_data_still_needs_a_key(self):
        for path in ("/v1/info", "/v1/corpora", "/metrics", "/openapi.json"):
            self.assert_problem(self.get(path), 401, "unauthorized")


class Link(h.ServerCase):
    def run_page(self, *args, env=None, code=0):
        done = subprocess.run([h.program("ascribe"), "page", *args], env={**os.environ, "ASCRIBE_KEY": "", "ASCRIBE_STORE": "", **(env or {})},
                              capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def test_the_link(self):
        where = ("-s", self.server.url, "--store", self.server.store)
        done = self.run_page(*where)
        self.assertEqual(done.stdout.strip(), f"{self.server.url}/#key={self.server.key}")
        self.assertIn("ascribe key create --scope read", done.stderr)
        url = json.loads(self.run_page(*where, "--corpus", "facts", "--json").stdout)
        self.assertEqual(url, {"url": f"{self.server.url}/#key={self.server.key}&c=facts", "scope": "admin"})
        link = urllib.parse.urlsplit(url["url"])
        self.assertEqual((link.query, urllib.parse.parse_qs(link.fragment)["key"]), ("", [self.server.key]))

    def test_a_reader_s_link_needs_no_warning(self):
        key = self.assert_status(self.client.post("/v1/admin/keys", {"scope": "read", "label": "guest"}), 201).json()["key"]
        done = self.run_page("-s", self.server.url + "/", env={"ASCRIBE_KEY": key})
        self.assertEqual((done.stdout.strip(), done.stderr), (f"{self.server.url}/#key={key}", ""))

    def test_no_link_that_would_not_work(self):
        self.assertIn("no key", self.run_page("-s", self.server.url, code=1).stderr)
        self.assertIn("browser", self.run_page("-s", "unix:/nowhere", env={"ASCRIBE_KEY": "x"}, code=1).stderr)
        wrong = self.run_page("-s", self.server.url, env={"ASCRIBE_KEY": "asc_0000000000000000_" + "0" * 64}, code=2)
        self.assertEqual(wrong.stdout, "")
        self.assertEqual(self.run_page("-s", "http://127.0.0.1:1", "--retries", "0", env={"ASCRIBE_KEY": "x"}, code=3).stdout, "")

    def test_the_daemon_tells_it_to_a_terminal_and_to_nothing_else(self):
        self.assertNotIn(self.server.key, "\n".join(self.server.tail(1000)))
        store = os.path.join(self.scratch(), "store")
        lead, follow = pty.openpty()
        p = subprocess.Popen([h.program("ascribed"), "--store", store, "--create", "--listen", "127.0.0.1:0"], stderr=follow, stdout=subprocess.DEVNULL)
        os.close(follow)
        text = b""
        try:
            while b"#key=" not in text or not text.endswith(b"\n"):
                text += os.read(lead, 4096)
        finally:
            p.terminate()
            p.wait(30)
            os.close(lead)
        with open(os.path.join(store, "admin.key"), encoding="utf-8") as f:
            key = f.read().strip()
        port = re.search(rb"ready listen=127.0.0.1:(\d+)", text).group(1).decode()
        self.assertIn(f"page http://127.0.0.1:{port}/#key={key}", text.decode())


class Files(h.Case):
    """What a look at the files can tell."""

    def test_modules_are_small_and_all_are_reached(self):
        seen, todo = set(), ["main.js"]
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for found in re.findall(r'(?:from|import) "(\.[^"]+)"', read(name).decode() if name != "d3.js" else ""):
                todo.append(os.path.normpath(os.path.join(os.path.dirname(name), found)))
        have = {f for f in files() if f.endswith(".js")} - {"theme.js"}
        self.assertEqual(seen - {"d3.js"}, have)
        for name in have:
            self.assertLess(len(read(name).decode().splitlines()), 400, name)
            self.assertTrue(read(name).startswith(b"/* " + os.path.basename(name).encode() + b" - "), name)

    def test_every_import_names_an_export(self):
        for name in (f for f in files() if f.endswith(".js")):
            text = read(name).decode()
            for names, where in re.findall(r'import \{([^}]+)\} from "(\.[^"]+)"', text):
                source = read(os.path.normpath(os.path.join(os.path.dirname(name), where))).decode()
                for one in (n.strip().split(" as ")[0] for n in names.split(",")):
                    self.assertRegex(source, rf"export (?:async )?(?:function|const|class) (?:{re.escape(one)}\b|\{{ {re.escape(one)} \}})", f"{name}: {one}")
                    self.assertGreater(len(re.findall(rf"\b{re.escape(one)}\b", text)), 1, f"{name}: {one} is imported for nothing")

    def test_no_text_can_become_markup_or_script(self):
        banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\(|new Function|srcdoc|javascript:"
        for name in (f for f in files() if f.endswith((".js", ".html"))):
            self.assertNotRegex(read(name).decode(), banned, name)

    def test_nothing_comes_from_elsewhere(self):
        for name in files():
            text = read(name).decode().replace("http://www.w3.org/2000/svg", "")
            self.assertNotRegex(text, r"https?://|url\(|@import", name)

    def test_the_document_has_no_inline_script_or_style(self):
        text = read("index.html").decode()
        self.assertNotRegex(text, r"<style|style=|\son\w+=|<script(?![^>]*src=)")


if __name__ == "__main__":
    h.main()
