"""test_ops.py - what operators are given, held against the programs: manual pages against --help,
completion in real shells, /openapi.json against the OpenAPI schema, dashboard and alerts against
/metrics, the service's sandbox against the system calls that the server makes, nginx in front, the
cluster jobs run as they stand, and the Debian package unpacked and run.

Programs that a machine may lack (mandoc, zsh, nginx, systemd-analyze, promtool, the OpenAPI schema)
are skipped by name; what needs none of them is never skipped.
"""
import contextlib
import glob
import gzip
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import unittest

import numpy as np

import harness
from harness import BUILD, ROOT, SLOW, Case, ServerCase, batch, program, queries, wait_until

MAN = os.path.join(ROOT, "docs/man")
OPS = os.path.join(ROOT, "docs/ops")
SCHEMA = "/usr/share/openapi-specification/schemas/v3.0/schema.json"
# Slow builds with sanitizers test the programs, not the packaging.
PLAIN = not harness.FLAVOUR


def need(case, name):
    """Path of a program that not every machine has; skips the test without it."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return path or case.skipTest(f"there is no {name} on this machine")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def output(*command, code=0, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * SLOW,
                          stdin=subprocess.DEVNULL, **more)
    assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def helped(text):
    """{"--out": "FILE" or ""}, with short ones as {"-o": "FILE"}, of the rows of a --help."""
    found = {}
    for letter, name, value in re.findall(r"^ +(?:-(\w), )? *--([a-z0-9-]+)(?: ([A-Z]\S*))?(?: .*|, .*)?$", text,
                                          re.M):
        found["--" + name] = value
        if letter:
            found["-" + letter] = value
    return found


def paged(text):
    """The same of the `.It Fl` rows of an mdoc page."""
    found = {}
    for letter, name, value in re.findall(r"^\.It (?:Fl (\w) , )?Fl -([a-z0-9-]+)(?: Ar (\S+))?$", text, re.M):
        found["--" + name] = value
        if letter:
            found["-" + letter] = value
    return found


def sections(page):
    """{title: text} of the `.Ss` of a page."""
    parts = re.split(r"^\.S([sh]) (.*)$", page, flags=re.M)
    return {parts[i + 1]: parts[i + 2] for i in range(1, len(parts), 3) if parts[i] == "s"}


class Manual(Case):
    def test_pages_are_clean(self):
        mandoc = need(self, "mandoc")
        pages = sorted(glob.glob(MAN + "/*.[0-9]"))
        self.assertEqual([os.path.basename(p) for p in pages], ["ascribe-lm.1", "ascribe.1", "ascribed.8"])
        for page in pages:
            done = subprocess.run([mandoc, "-Tlint", page], capture_output=True, text=True, timeout=60)
            # that our own pages are not installed yet is no fault of theirs
            faults = [l for l in done.stdout.splitlines() if "referenced manual not found" not in l]
            self.assertEqual(faults, [])
            self.assertIn("EXIT STATUS", output(mandoc, "-Tascii", page).replace("\b", "").replace("EEXXIITT", "EXIT")
                          .replace("SSTTAATTUUSS", "STATUS"))

    def check_verbs(self, name, text, verbs):
        """Every verb's options, and the arguments they take, are those of its --help."""
        part = sections(text)
        checked = 0
        for verb in verbs:
            self.assertIn(verb, part, f"{name} has no section {verb}")
            help_text = output(program(name), verb, "--help").split("options of every verb")[0]
            want, got = helped(help_text), paged(part[verb])
            if name == "ascribe-lm":  # its help does not say what a value is called
                self.assertEqual(set(got), set(want), f"{name} {verb}")
            else:
                self.assertEqual(got, want, f"{name} {verb}")
            checked += len(want)
        return checked

    def test_client(self):
        text, top = read(MAN + "/ascribe.1"), output(program("ascribe"), "--help")
        verbs = re.findall(r"^  ([a-z]+) +\S", top.split("\nverbs\n")[1].split("\noptions")[0], re.M)
        self.assertGreater(len(verbs), 15)
        self.assertEqual(sorted(sections(text)), sorted(verbs))
        self.assertEqual(paged(text.split(".Sh VERBS")[0]), helped(top))
        self.assertGreater(self.check_verbs("ascribe", text, [v for v in verbs if v != "help"]), 70)
        for code in re.findall(r"(\d+) [a-z]", top.split("exit codes")[1]):
            self.assertIn(f".It {code}\n", text.split(".Sh EXIT STATUS")[1])

    def test_client_names_every_verb_of_a_verb(self):
        text = sections(read(MAN + "/ascribe.1"))
        for verb, part in text.items():
            if verb == "help":
                continue
            usage = output(program("ascribe"), verb, "--help").splitlines()[0].split()
            own = usage[3] if len(usage) > 3 and usage[3][0].islower() else ""
            for word in own.split("|") if own else []:
                self.assertRegex(part, rf"(?m)^\.Cm {verb} {word}\b", f"ascribe {verb} {word}")

    def test_server(self):
        text, top = read(MAN + "/ascribed.8"), output(program("ascribed"), "--help")
        settings, verbs = top.split("\nverbs:\n")
        want = {k: v for k, v in helped(settings).items() if k != "--help"}
        self.assertGreater(len(want), 18)
        self.assertEqual(paged(sections(text)["Settings"]), want)
        rows = re.findall(r"^  ascribed (\w+) (.*)$", verbs, re.M)
        pages = re.findall(r"^\.It Cm (\w+) (.*)$", sections(text)["Verbs"], re.M)

        def plain(page):
            page = re.sub(r" (Oc|Op|Ar|Fl)\b", "", " " + page)
            return sorted(re.findall(r"-[a-z]+|[A-Z]+", re.sub(r"\bOo\b", "", page)))
        self.assertEqual({v: plain(use) for v, use in pages},
                         {v: sorted(re.findall(r"(?<=-)-[a-z]+|[A-Z]+", use)) for v, use in rows})
        for code in re.findall(r"(\d) [a-z]", top.split("exit codes:")[1]):
            self.assertIn(f".It {code}\n", text.split(".Sh EXIT STATUS")[1].split("Of the verbs")[0])

    def test_model(self):
        text, top = read(MAN + "/ascribe-lm.1"), output(program("ascribe-lm"), "--help")
        verbs = re.findall(r"^  ([a-z-]+) +\S", top, re.M)
        self.assertEqual(sorted(sections(text)), sorted(verbs))
        self.assertGreater(self.check_verbs("ascribe-lm", text, verbs), 40)


class Completion(ServerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        client = cls.server.client()
        for name in ("facts", "facts-small", "other"):
            assert client.put(f"/v1/corpora/{name}", {"dim": 4}).status == 201
        client.close()

    def setUp(self):
        super().setUp()
        self.folder = self.scratch()
        os.symlink(program("ascribe"), os.path.join(self.folder, "ascribe"))
        for name in ("one.npy", "two words.npy"):
            open(os.path.join(self.folder, name), "w").close()
        os.mkdir(os.path.join(self.folder, "dir"))
        self.env = dict(os.environ, PATH=self.folder + ":" + os.environ["PATH"], ASCRIBE_SERVER=self.server.url,
                        ASCRIBE_STORE=self.server.store, LC_ALL="C.UTF-8")

    def bash(self, *words):
        """What bash offers behind these words; the last one is being typed."""
        script = ("source <(ascribe completion bash) || exit 9\ncompopt() { :; }\n"
                  'COMP_WORDS=(ascribe "$@"); COMP_CWORD=$#; _ascribe\n'
                  '[ "${#COMPREPLY[@]}" = 0 ] || printf "%s\\n" "${COMPREPLY[@]}"')
        return sorted(output("bash", "-c", script, "bash", *words, env=self.env, cwd=self.folder).splitlines())

    def check(self, ask):
        """The same expectations of every shell."""
        verbs = ask("")
        top = output(program("ascribe"), "--help").split("\nverbs\n")[1].split("\noptions")[0]
        self.assertEqual(verbs, sorted(set(re.findall(r"^  ([a-z]+) ", top, re.M)) - {"help"}))
        self.assertEqual(ask("co"), ["compact", "completion", "corpus"])
        self.assertEqual(ask("corpus", ""), ["create", "drop", "list", "show"])
        self.assertEqual(ask("query", "fa"), ["facts", "facts-small"])
        self.assertEqual(ask("corpus", "show", "o"), ["other"])
        self.assertEqual(ask("query", "facts", "o"), ["one.npy"])
        self.assertEqual(ask("query", "facts", "x.npy", "--engine", ""), ["auto", "flat", "scan", "tiered"])
        self.assertEqual(ask("query", "facts", "x.npy", "-k", "3", "--pe"), ["--percentile"])
        self.assertEqual(ask("--store", ""), ["dir"])
        self.assertEqual(ask("key", "create", "--scope", "w"), ["write"])
        self.assertEqual(ask("--server", "unix:/nowhere", "query", "fa"), [])  # says nothing, and waits for nothing
        self.assertEqual(ask("no-such-verb", ""), [])

    def test_bash(self):
        self.check(self.bash)
        # bash cuts words at = and :
        self.assertEqual(self.bash("query", "facts", "--engine", "=", "ti"), ["tiered"])
        self.assertEqual(self.bash("--server", "unix", ":", "/nowhere", "query", "fa"), [])
        self.assertEqual(self.bash("query", "facts", "--saved", "x", "--engine", "="), ["auto", "flat", "scan", "tiered"])

    def test_zsh(self):
        zsh = need(self, "zsh")
        script = ("compdef() { :; }\ncompset() { [[ ${words[CURRENT]} == --*=* ]] }\n"
                  "_files() { local p=${words[CURRENT]}; [[ $1 == -/ ]] && print -l ${p}*(N/) || print -l ${p}*(N) }\n"
                  "_describe() { local f; for f in ${(P)2}; do [[ $f == ${words[CURRENT]##--*=}* ]] && print -r -- ${f%%:*}; done }\n"
                  "source <(ascribe completion zsh) || exit 9\n"
                  'typeset -a words; words=(ascribe "$@"); CURRENT=$#words; _ascribe; true')

        def ask(*words):
            return sorted(set(output(zsh, "-f", "-c", script, "zsh", *words, env=self.env, cwd=self.folder).split("\n"))
                          - {""})
        self.check(ask)
        self.assertEqual(ask("query", "facts", "--engine=ti"), ["tiered"])

    def test_every_option_is_offered(self):
        for verb in self.bash(""):
            want = {k for k in helped(output(program("ascribe"), verb, "--help")) if k.startswith("--")}
            self.assertEqual(set(self.bash(verb, "--")), want | {"--help"}, verb)


class OpenApi(ServerCase):
    def setUp(self):
        super().setUp()
        self.spec = self.assert_status(self.client.get("/openapi.json"), 200).json()

    def test_schema(self):
        try:
            import jsonschema
        except ImportError:
            self.skipTest("there is no python3-jsonschema on this machine")
        if not os.path.exists(SCHEMA):
            self.skipTest("there is no package openapi-specification on this machine")
        # Debian ships the schema of 3.0; what the document uses of 3.1 is the licence's identifier alone.
        old = json.loads(json.dumps(self.spec))
        self.assertEqual(old["info"]["license"].pop("identifier"), "Apache-2.0")
        old["openapi"] = "3.0.3"
        schema = json.loads(read(SCHEMA))
        faults = sorted(jsonschema.Draft4Validator(schema).iter_errors(old), key=str)
        self.assertEqual([f"{list(f.absolute_path)}: {f.message[:300]}" for f in faults[:5]], [])
        # and the validator does find faults
        del old["paths"]["/v1/corpora/{c}"]["put"]["responses"]
        self.assertTrue(list(jsonschema.Draft4Validator(schema).iter_errors(old)))

    def test_what_a_schema_cannot_say(self):
        seen = []
        for path, item in self.spec["paths"].items():
            for method, op in item.items():
                seen.append(op["operationId"])
                inside = {p["name"] for p in op["parameters"] if p["in"] == "path"}
                self.assertEqual(inside, set(re.findall(r"{(\w+)}", path)), path)
                names = [(p["in"], p["name"]) for p in op["parameters"]]
                self.assertEqual(len(names), len(set(names)), path)
                self.assertTrue(op["summary"], path)
        self.assertEqual(len(seen), len(set(seen)))
        self.assertGreater(len(seen), 35)
        for ref in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(self.spec))):
            at = self.spec
            for step in ref.split("/"):
                self.assertIn(step, at, ref)
                at = at[step]

    def test_the_server_knows_every_operation(self):
        """No listed operation answers as if there were no such route or method, and unlisted methods do."""
        for path, item in self.spec["paths"].items():
            real = re.sub(r"{\w+}", "none", path)
            for method in ("get", "put", "post", "delete"):
                reply = self.client.request(method.upper(), real, {} if method in ("put", "post") else None)
                code = reply.json().get("code") if "problem" in reply.headers.get("Content-Type", "") else None
                if method in item:
                    self.assertNotIn(code, ("no_route", "method_not_allowed"), f"{method} {path}: {reply}")
                    self.assertNotEqual(reply.status, 405)
                else:
                    self.assertIn(reply.status, (404, 405), f"{method} {path}: {reply}")

    def test_security_is_what_it_says(self):
        bare = self.server.client(key=None)
        self.addCleanup(bare.close)
        for path, item in self.spec["paths"].items():
            for method, op in item.items():
                reply = bare.request(method.upper(), re.sub(r"{\w+}", "none", path),
                                     {} if "requestBody" in op else None)
                if op["security"]:
                    self.assertEqual(reply.status, 401, f"{method} {path}")
                else:
                    self.assertNotEqual(reply.status, 401, f"{method} {path}")


class Metrics(ServerCase):
    """The dashboard and the alerts ask only for what /metrics has, after every kind of request."""

    def names(self):
        """{metric: set of labels} that the page shows; a histogram by its three series."""
        rng = np.random.default_rng(5)
        self.create(self.client, "m", 16)
        self.ingest(self.client, "m", "b1", rng.standard_normal((20, 16)), [f"e{i}" for i in range(20)])
        self.assert_status(self.client.post("/v1/corpora/m/query?k=3", queries(rng.standard_normal((1, 16)))), 200)
        page = self.assert_status(self.client.get("/metrics"), 200).body.decode()
        found = {}
        for name, labels in re.findall(r"^(\w+)(?:{(.*)})? \S+$", page, re.M):
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
        return found, page

    def check(self, expressions, found):
        """Every selector of a metric names one that is there, with labels that it has."""
        used = set()
        for text in expressions:
            plain = re.sub(r'"[^"]*"', '""', text)
            plain = re.sub(r"\b(by|without|on|ignoring) ?\([^)]*\)|\[[^]]*\]", "", plain)
            for name, labels in re.findall(r"\b([a-z_]+_[a-z_]+)\b(?!\()(?:{([^}]*)})?", plain):
                if name in ("histogram_quantile", "label_values", "le", "__rate_interval"):
                    continue
                self.assertIn(name, found, f"{text}: /metrics has no {name}")
                # instance and job are Prometheus's own
                for label in re.findall(r"(\w+) ?=", labels):
                    self.assertIn(label, found[name] | {"instance", "job"}, text)
                used.add(name)
        return used

    def test_dashboard_and_alerts(self):
        found, page = self.names()
        board = json.loads(read(OPS + "/grafana/ascribe.json"))
        panels = [p for p in board["panels"] if p["type"] != "row"]
        self.assertGreater(len(panels), 20)
        for p in panels:
            self.assertTrue(p["title"] and p["description"].endswith(".") and p["targets"], p["title"])
            self.assertIn("unit", p["fieldConfig"]["defaults"])
        self.assertEqual(len({p["id"] for p in board["panels"]}), len(board["panels"]))
        taken = set()  # no panel lies on another
        for p in board["panels"]:
            g = p["gridPos"]
            cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
            self.assertFalse(cells & taken, p["title"])
            self.assertLessEqual(g["x"] + g["w"], 24)
            taken |= cells
        used = self.check([t["expr"] for p in panels for t in p["targets"]], found)
        shown = {re.sub(r"_(bucket|sum|count)$", "", n) for n in used}
        there = set(re.findall(r"^# TYPE (\w+)", page, re.M))
        self.assertEqual(there - shown, set(), "numbers that no panel shows")
        alerts = re.findall(r"^ +expr: (.*)$", read(OPS + "/prometheus/ascribe.yml"), re.M)
        self.assertGreater(len(alerts), 4)
        self.check([a for a in alerts if not a.startswith("up{")], found)
        self.check(re.findall(r"`(ascribe_\w+)`", read(OPS + "/README.md")), found)

    def test_routes_of_the_dashboard_exist(self):
        paths = self.client.get("/openapi.json").json()["paths"]
        routes = set(re.findall(r'route=\\"([^"\\]+)', read(OPS + "/grafana/ascribe.json")))
        self.assertTrue(routes)
        self.assertLessEqual(routes, set(paths))

    def test_rules_and_page_by_promtool(self):
        promtool = need(self, "promtool")
        output(promtool, "check", "rules", OPS + "/prometheus/ascribe.yml")
        folder = self.scratch()
        text = read(OPS + "/prometheus/scrape.yml").replace("/etc/prometheus/ascribe.key", folder + "/key")
        for name, content in (("key", self.server.key), ("prometheus.yml", text)):
            with open(os.path.join(folder, name), "w") as f:
                f.write(content)
        output(promtool, "check", "config", folder + "/prometheus.yml")
        page = self.client.get("/metrics").body
        done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=60)
        text = (done.stdout + done.stderr).decode()
        # 3 is its code for remarks of style
        self.assertIn(done.returncode, (0, 3), text)
        self.assertNotRegex(text, "error|parse")


class Service(Case):
    UNIT = OPS + "/systemd/ascribed.service"

    def test_exposure(self):
        analyze = need(self, "systemd-analyze")
        folder = self.scratch()
        out = output(analyze, "security", "--offline=yes", "--no-pager", "--threshold=15", self.UNIT)
        (score,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", out)
        self.assertLessEqual(float(score), 1.5)
        (said,) = re.findall(r"rates the exposure ([\d.]+) of 10", read(OPS + "/README.md"))
        self.assertEqual(said, score)
        unit = read(self.UNIT).replace("/usr/bin/ascribed", "/bin/true")
        path = os.path.join(folder, "ascribed.service")
        with open(path, "w") as f:
            f.write(unit)
        done = subprocess.run([analyze, "verify", "--man=no", path], capture_output=True, text=True, timeout=60)
        faults = [l for l in done.stderr.splitlines() if "ascribed" in l]
        self.assertEqual(faults, [])

    def allowed(self, analyze):
        """The system calls that the unit's filter leaves."""
        def members(name, seen):
            if not name.startswith("@"):
                return {name}
            out = set()
            for word in output(analyze, "syscall-filter", "--no-pager", name).split("\n")[1:]:
                word = word.strip()
                if word.startswith("@") and word not in seen:
                    out |= members(word, seen | {word})
                elif word and not word.startswith(("#", "@")):
                    out.add(word)
            return out
        allow, lines = set(), re.findall(r"^SystemCallFilter=(.*)$", read(self.UNIT), re.M)
        for line in lines:
            found = set().union(*(members(w, {w}) for w in line.lstrip("~").split()))
            allow = allow - found if line.startswith("~") else allow | found
        return allow

    def test_the_server_stays_inside_the_sandbox(self):
        """All that a server does in a session (ingest, fit, query, search, backup, verify, stop) is traced: system
        calls, executable memory, sockets, /proc."""
        strace, analyze = need(self, "strace"), need(self, "systemd-analyze")
        if not PLAIN:
            self.skipTest("sanitizers make system calls of their own")
        folder = self.scratch()
        log, store = os.path.join(folder, "trace"), os.path.join(folder, "store")
        server = harness.Server(store)
        real = harness.program
        wrapper = os.path.join(folder, "ascribed")
        # OpenBLAS would like to place its memory, and is refused as the sandbox would
        inject = "-e inject=mbind:error=EPERM"
        with open(wrapper, "w") as f:
            f.write(f"#!/bin/sh\nexec {strace} -f -qq -o {log} {inject} {real('ascribed')} \"$@\"\n")
        os.chmod(wrapper, 0o755)
        harness.program = lambda name: wrapper
        try:
            server.start(timeout=60)
        finally:
            harness.program = real
        client, rng = server.client(), np.random.default_rng(2)
        self.create(client, "c", 32)
        examples = [{"id": f"e{i}", "text": f"word{i} and more"} for i in range(40)]
        self.ingest(client, "c", "b", rng.standard_normal((40, 32)), examples)
        self.wait_job(client, client.post("/v1/corpora/c/fit"))
        for engine in ("flat", "tiered", "scan"):
            self.assert_status(client.post(f"/v1/corpora/c/query?k=3&engine={engine}",
                                           queries(rng.standard_normal((2, 32)))), 200)
        self.assert_status(client.post("/v1/corpora/c/search", {"text": "word7", "k": 3}), 200)
        for job in ("backup", "verify", "compact"):
            self.wait_job(client, client.post(f"/v1/admin/{job}"))
        self.assert_status(client.get("/metrics"), 200)
        client.close()
        # the shell became strace, and that passes the signal's effect on by ending with its child
        child = output("ps", "-o", "pid=", "--ppid", str(server.process.pid)).split()
        os.kill(int(child[0]), 15)
        self.assertEqual(server.process.wait(60), 0, server.tail())
        server.stop()
        trace = read(log)
        calls = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", trace, re.M))
        self.assertGreater(len(calls), 30)
        root_only = {"fchown"} if os.geteuid() == 0 else set()  # SQLite, when it runs as root
        # execve: of the program itself
        self.assertEqual(calls - self.allowed(analyze) - root_only - {"execve", "mbind"}, set())
        memory = re.findall(r".*(?:mmap|mprotect)\(.*", trace)
        self.assertGreater(len(memory), 20)
        self.assertEqual([l for l in memory if "PROT_WRITE" in l and "PROT_EXEC" in l], [])
        families = set(re.findall(r"socket(?:pair)?\((AF_\w+)", trace))
        (allow,) = re.findall(r"^RestrictAddressFamilies=(.*)$", read(self.UNIT), re.M)
        self.assertLessEqual(families, set(allow.split()))
        # ProcSubset=pid hides all of /proc but processes: whoever reads more has to do without
        proc = set(re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"/proc/(?!self|thread-self|\d)([^"]+)"', trace))
        self.assertLessEqual(proc, {"cpuinfo", "meminfo", "sys/vm/overcommit_memory", "stat", "filesystems"})
        written = {os.path.dirname(p) for p in
                   re.findall(r'openat\(AT_FDCWD, "([^"]+)", [^)]*O_(?:WRONLY|RDWR)[^)]*\) = \d', trace)}
        self.assertEqual({w for w in written if not w.startswith(store) and w != "/dev"}, set())

    def notified(self, address):
        """A server that is told where its supervisor listens; the messages, in order."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(address)
            s.settimeout(30 * SLOW)
            name = "@" + address[1:] if address[0] == "\0" else address
            server = harness.Server(os.path.join(self.scratch(), "store"), env={"NOTIFY_SOCKET": name}).start()
            try:
                first = s.recv(4096)
                self.assertEqual(server.client().get("/readyz").status, 200)
            finally:
                server.stop()
            return [first, s.recv(4096)]

    def test_readiness_is_told(self):
        self.assertIn("\nType=notify\n", read(self.UNIT))
        self.assertEqual(self.notified(os.path.join(self.scratch(), "n")), [b"READY=1", b"STOPPING=1"])
        self.assertEqual(self.notified("\0ascribe-test-%d" % os.getpid()), [b"READY=1", b"STOPPING=1"])

    def test_a_supervisor_that_is_gone_is_no_error(self):
        for where in ("/nowhere/at/all", "relative", "/" + "x" * 200):
            server = self.serve(env={"NOTIFY_SOCKET": where})
            self.assertEqual(server.client().get("/readyz").status, 200)
            self.assertEqual(len([l for l in server.log if "NOTIFY_SOCKET" in l]), 1)

    def test_settings_file(self):
        path = OPS + "/systemd/ascribed.conf"
        server = self.serve(["--config", path])
        self.assertEqual(server.client().get("/readyz").status, 200)
        # what is commented out is right as well: each line is a setting with a value that is taken
        folder = self.scratch()
        on = os.path.join(folder, "all.conf")
        lines = [l for l in re.sub(r"(?m)^#(?=\w+[\w-]* = )", "", read(path)).splitlines()
                 if re.match(r"[\w-]+ = ", l) and not l.startswith("listen")]
        self.assertGreaterEqual(len(lines), 4)
        with open(on, "w") as f:
            f.write("\n".join(lines) + "\n")
        self.serve(["--config", on])


class Nginx(Case):
    def test_tls_in_front(self):
        nginx, openssl = need(self, "nginx"), need(self, "openssl")
        server, folder = self.serve(), self.scratch()
        os.chmod(folder, 0o755)
        output(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-subj", "/CN=ascribe.example.org", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
               "-keyout", folder + "/key.pem", "-out", folder + "/fullchain.pem")
        with contextlib.closing(socket.socket()) as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        text = read(OPS + "/nginx/ascribe.conf")
        for old, new in (("/etc/ssl/ascribe", folder), ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
                         ("127.0.0.1:7171", "%s:%d" % server.address)):
            self.assertIn(old, text)
            text = text.replace(old, new)
        with open(folder + "/nginx.conf", "w") as f:
            f.write(f"daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error;\n"
                    "events { worker_connections 256; }\nhttp {\n"
                    f"access_log {folder}/access;\n"
                    + "".join(f"{n}_temp_path {folder}/{n};\n" for n in
                              ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")) + text + "\n}\n")
        command = [nginx, "-p", folder, "-c", folder + "/nginx.conf"]
        output(*command, "-t", "-q", "-e", folder + "/error")
        process = subprocess.Popen(command + ["-e", folder + "/error"], stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

        def answers():
            with contextlib.closing(socket.socket()) as s:
                return s.connect_ex(("127.0.0.1", port)) == 0
        wait_until(answers, "nginx")
        trust = ssl.create_default_context(cafile=folder + "/fullchain.pem")

        class Tls(harness.Client):
            def connection(self):
                return harness.http.client.HTTPSConnection("localhost", port, context=trust, timeout=60 * SLOW)
        client, rng = Tls(None, server.key), np.random.default_rng(3)
        self.addCleanup(client.close)
        reply = self.assert_status(client.get("/healthz"), 200)
        self.assertIn("max-age", reply.headers["Strict-Transport-Security"])
        self.create(client, "c", 4096)
        # 32 MiB pass as they come, ids with slashes too
        rows = rng.standard_normal((2048, 4096)).astype("<f4")
        ids = [f"a//b/{i}" for i in range(len(rows))]
        self.assertEqual(self.ingest(client, "c", "b", rows, ids)["examples"], len(rows))
        hits = self.assert_status(client.post("/v1/corpora/c/query?k=1", queries(rows[7:8])), 200).json()
        self.assertEqual(hits["results"][0]["proponents"][0]["id"], "a//b/7")
        self.assert_status(client.get("/v1/corpora/c/examples/" + harness.quote("a//b/7")), 200)
        scores = self.assert_status(client.post("/v1/corpora/c/scores", queries(rows[:3])), 200)
        got, _ = harness.read_tensors(scores.body)
        self.assertEqual(got["scores"][1].shape, (3, 2048))
        # refused by its head, with the server's words
        self.assert_problem(Tls(None, None).put("/v1/corpora/c/batches/x", batch(rows[:2], ["p", "q"])), 401,
                            "unauthorized")
        self.assert_problem(client.get("/v1/corpora/none"), 404, "unknown_corpus")
        self.assert_status(client.get("/metrics"), 200)
        self.assertNotIn(server.key, read(folder + "/access"))
        # the command line, with the certificate among those that are trusted
        env = dict(os.environ, ASCRIBE_KEY=server.key, SSL_CERT_FILE=folder + "/fullchain.pem")
        done = subprocess.run([program("ascribe"), "--server", f"https://localhost:{port}", "--retries", "0",
                               "corpus", "list"], env=env, capture_output=True, text=True, timeout=60)
        self.assertIn(done.returncode, (0, 3), done.stderr)
        if done.returncode == 3:  # a libcurl that looks elsewhere for its certificates
            self.assertIn("certificate", done.stderr)


class Slurm(Case):
    def test_a_server_for_a_job_and_ingest_from_an_array(self):
        """The scripts as Slurm runs them: its variables, and TERM before the time is up. Twice: the second job goes
        on with the first one's backup."""
        folder = self.scratch()
        shared, batches, tools = (os.path.join(folder, n) for n in ("shared", "batches", "bin"))
        for path in (shared, batches, tools):
            os.mkdir(path)
        for name in ("ascribed", "ascribe"):
            os.symlink(program(name), os.path.join(tools, name))
        with open(tools + "/hostname", "w") as f:  # the node's name is the loopback's
            f.write("#!/bin/sh\necho localhost\n")
        os.chmod(tools + "/hostname", 0o755)
        rng = np.random.default_rng(4)
        for i in range(5):
            with open(f"{batches}/b{i}.safetensors", "wb") as f:
                f.write(batch(rng.standard_normal((10, 8)), [f"e{i}-{j}" for j in range(10)]))
        env = dict(os.environ, PATH=tools + ":" + os.environ["PATH"], ASCRIBE_SHARED=shared, ASCRIBE_PORT="0",
                   SLURM_TMPDIR=folder, CORPUS="c", BATCHES=batches, SLURM_ARRAY_TASK_COUNT="2")
        for name in ("ASCRIBE_STORE", "ASCRIBE_SERVER"):
            env.pop(name, None)

        def ascribe(*args):
            with open(shared + "/address") as f:
                server = f.read().strip()
            return output(program("ascribe"), "--server", server, "--key-file", shared + "/key", *args, env=env)

        def job(number, work):
            process = subprocess.Popen(["bash", OPS + "/slurm/ascribe.sbatch"], env=dict(env, SLURM_JOB_ID=str(number)),
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            try:
                wait_until(lambda: os.path.exists(shared + "/address") or process.poll() is not None, "the job's server")
                self.assertIsNone(process.poll(), "the job ended")
                work()
            finally:
                process.terminate()
                out = process.communicate(timeout=120 * SLOW)[0].decode()
            self.assertEqual(process.returncode, 0, out)
            self.assertFalse(os.path.exists(shared + "/address"))
            return out

        def first():
            ascribe("corpus", "create", "c", "--dim", "8")
            for task in ("0", "1", "0"):  # task 0 was preempted and is run again
                output("bash", OPS + "/slurm/ingest.sbatch", env=dict(env, SLURM_ARRAY_TASK_ID=task))
            self.assertEqual(json.loads(ascribe("--json", "corpus", "show", "c"))["examples"], 50)

        def second():
            self.assertEqual(json.loads(ascribe("--json", "corpus", "show", "c"))["examples"], 50)
        job(1, first)
        self.assertEqual(len(os.listdir(shared + "/backups")), 1)
        self.assertIn("restoring", job(2, second))
        self.assertEqual(len(os.listdir(shared + "/backups")), 2)


@unittest.skipUnless(PLAIN, "the package is made of plain builds")
class Package(Case):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("dpkg-shlibdeps"):
            raise unittest.SkipTest("there is no dpkg-dev on this machine")
        cls.base = harness.tempfile.mkdtemp(prefix="ascribe-test-")
        cls.addClassCleanup(shutil.rmtree, cls.base, ignore_errors=True)
        cls.deb = cls.build("one")
        cls.root = os.path.join(cls.base, "root")
        output("dpkg-deb", "-x", cls.deb, cls.root)
        output("dpkg-deb", "-e", cls.deb, cls.root + "/DEBIAN")

    @classmethod
    def build(cls, name):
        version = output(program("ascribe"), "--version").split()[1]
        return output("sh", OPS + "/debian/build.sh", BUILD, version, os.path.join(cls.base, name),
                      env=dict(os.environ, SOURCE_DATE_EPOCH="1700000000")).strip()

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def test_it_says_what_it_is(self):
        fields = dict(re.findall(r"^(\S+): (.*)$", read(self.path("DEBIAN/control")), re.M))
        self.assertEqual(fields["Package"], "ascribe")
        for library in ("libc6", "liblmdb0", "libuv1", "libsodium23", "libopenblas0", "libcurl", "adduser"):
            self.assertIn(library, fields["Depends"])
        for line in read(self.path("DEBIAN/md5sums")).splitlines():
            self.assertTrue(os.path.isfile(self.path(line.split("  ", 1)[1])), line)
        self.assertEqual(read(self.path("DEBIAN/conffiles")).split(), ["/etc/ascribe/ascribed.conf"])
        for name in ("postinst", "prerm", "postrm"):
            output("sh", "-n", self.path("DEBIAN", name))
            self.assertTrue(os.access(self.path("DEBIAN", name), os.X_OK))
        for line in output("dpkg-deb", "-c", self.deb).splitlines():
            self.assertRegex(line, r"^\S+ root/root ")
            self.assertNotRegex(line, r"^-\S*w\S*w", "writable for more than the owner")

    def test_the_same_tree_gives_the_same_bytes(self):
        with open(self.deb, "rb") as a, open(self.build("two"), "rb") as b:
            self.assertEqual(a.read(), b.read())

    def test_programs_run_from_it(self):
        folder = self.scratch()
        log = open(folder + "/log", "w+")
        self.addCleanup(log.close)
        server = subprocess.Popen([self.path("usr/bin/ascribed"), "--config", self.path("etc/ascribe/ascribed.conf"),
                                   "--listen", "127.0.0.1:0", "--store", folder + "/store", "--create"],
                                  stdin=subprocess.DEVNULL, stderr=log)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        url = wait_until(lambda: re.search(r"ready listen=(\S+)", read(folder + "/log")), "the packaged server").group(1)
        ascribe = [self.path("usr/bin/ascribe"), "--server", "http://" + url, "--store", folder + "/store"]
        output(*ascribe, "corpus", "create", "one", "--dim", "3")
        np.save(folder + "/x.npy", np.eye(3, dtype="<f4"))
        with open(folder + "/e.jsonl", "w") as f:
            f.write("".join('{"id":"%d"}\n' % i for i in range(3)))
        output(*ascribe, "ingest", "one", "--gradients", folder + "/x.npy", "--examples", folder + "/e.jsonl")
        hits = json.loads(output(*ascribe, "--json", "query", "one", folder + "/x.npy", "-k", "1"))
        self.assertEqual([r["proponents"][0]["id"] for r in hits["results"]], ["0", "1", "2"])
        self.assertIn("ascribe-lm", output(self.path("usr/bin/ascribe-lm"), "--version"))

    def test_pages_completion_service_and_library_are_in_place(self):
        for page in ("man1/ascribe.1", "man1/ascribe-lm.1", "man8/ascribed.8"):
            with gzip.open(self.path("usr/share/man", page + ".gz"), "rt") as f:
                self.assertEqual(f.read(), read(os.path.join(MAN, os.path.basename(page))))
        script = self.path("usr/share/bash-completion/completions/ascribe")
        self.assertEqual(read(script), output(program("ascribe"), "completion", "bash"))
        self.assertEqual(read(self.path("usr/share/zsh/vendor-completions/_ascribe")),
                         output(program("ascribe"), "completion", "zsh"))
        unit = read(self.path("lib/systemd/system/ascribed.service"))
        (start,) = re.findall(r"^ExecStart=(\S+) ", unit, re.M)
        self.assertTrue(os.access(self.path(start[1:]), os.X_OK))
        if shutil.which("pkg-config"):
            (pc,) = glob.glob(self.path("usr/lib/*/pkgconfig/ascribe.pc"))
            out = output("pkg-config", "--libs", "--cflags", "ascribe",
                         env=dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc), PKG_CONFIG_SYSROOT_DIR=self.root,
                                  PKG_CONFIG_ALLOW_SYSTEM_LIBS="1", PKG_CONFIG_ALLOW_SYSTEM_CFLAGS="1"))
            self.assertTrue(any(os.path.exists(o[2:] + "/ascribe.h") for o in out.split() if o[:2] == "-I"), out)
            self.assertTrue(any(glob.glob(o[2:] + "/libascribe.so") for o in out.split() if o[:2] == "-L"), out)
        for sample in ("nginx/ascribe.conf", "grafana/ascribe.json", "prometheus/ascribe.yml", "slurm/ascribe.sbatch"):
            self.assertEqual(read(self.path("usr/share/doc/ascribe/examples", sample)), read(os.path.join(OPS, sample)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
