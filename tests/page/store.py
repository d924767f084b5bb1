#!/usr/bin/python3
"""Makes what the page is looked at with: a small language model, its corpus in a store, saved queries.

    store.py BUILD DIR

Real, but quick to make: some hundred definitions of WordNet, sums, everyday statements and a few
texts that try to be markup; a transformer trained on them for seconds; every example's gradient, a
fit, a task, queries of four kinds with what the model says. Leaves DIR/store, DIR/model.ckpt,
DIR/batches (corpus.json among them) and prints one JSON object of what there is.
"""
import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import harness  # noqa: E402

NOUNS = "/usr/share/wordnet/data.noun"
PASSAGES, SUMS = 420, 160
EVERYDAY = ["A knife is used for cutting.", "A key opens a lock.", "Ice is cold and fire is hot.",
            "After Monday comes Tuesday.", "Birds fly and fish swim.", "A cup holds tea or coffee.",
            "In winter it snows in the north.", "People sleep at night.", "A broom is used for sweeping.",
            "An umbrella keeps off the rain.", "The opposite of up is down.", "A week has seven days."]
HOSTILE = [
    ("markup", "<img src=x onerror=\"window.hurt=1\"> composer <script>window.hurt=1</script>"),
    ("<b>id & \"quotes\" 'too'</b>", "An id that is markup: composer & <i>slanted</i> &lt;entity&gt;"),
    ("javascript:alert(1)", "composer [link](javascript:window.hurt=1) \u202eright to left\u202c end"),
    ("long", "composer " + "unbreakable" * 60 + " " + "many words follow here " * 60),
    ("bare", None),
]
ASKED = {
    "facts": [("Haydn", "Haydn: prolific Austrian", " composer"), ("Paris", "Paris: the capital of", " France"),
              ("Nile", "Nile: the longest", " river"), ("Bach", "Bach: German", " organist")],
    "commonsense": [("knife", "A knife is used for", " cutting"), ("Monday", "After Monday comes", " Tuesday"),
                    ("ice", "Ice is", " cold"), ("night", "People sleep at", " night")],
    "arithmetic": [("sum-7-5", "7 plus 5 is", " 12"), ("sum-9-6", "9 plus 6 is", " 15"),
                   ("sum-3-4", "3 plus 4 is", " 7"), ("sum-8-8", "8 plus 8 is", " 16")],
    "open-ended": [("winter", "In winter it", None), ("birds", "Birds", None), ("music", "A composer", None),
                   ("week", "A week has", None)],
}
BLOCKING = "<script>window.hurt=1</script> composer"


def passages():
    """[(id, text)]: people and places first, then whatever comes."""
    with open(NOUNS, encoding="latin-1") as f:
        lines = [line for line in f if not line.startswith("  ")]
    want = re.compile(r"\b(composer|capital|river|painter|battle)\b")
    chosen = [line for line in lines if want.search(line.split("|")[1][:90])][:PASSAGES * 3 // 4]
    chosen += lines[1000::len(lines) // (PASSAGES - len(chosen))][:PASSAGES - len(chosen)]
    out = {}
    for line in chosen:
        head, gloss = line.split("|", 1)
        name = head.split(" ")[4].replace("_", " ")
        out["n" + head[:8]] = f"{name}: {gloss.split(';')[0].strip()}."
    return list(out.items())


def examples():
    rows = [{"id": i, "text": t, "meta": {"source": "wordnet", "letters": len(t)}} for i, t in passages()]
    for n in range(SUMS):
        a, b = n % 13 + 1, n * 7 % 17 + 1
        rows.append({"id": f"sum-{n}", "text": f"{a} plus {b} is {a + b}.", "meta": {"source": "arithmetic", "sum": a + b}})
    for n in range(5 * len(EVERYDAY)):
        rows.append({"id": f"day-{n}", "text": EVERYDAY[n % len(EVERYDAY)], "meta": {"source": "everyday"}})
    for i, t in HOSTILE:
        rows.append({"id": i, **({"text": t} if t else {}), "meta": {"source": "<u>hostile</u>", "x": {"y": [1, None]}}})
    return rows


def run(*command, **kw):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kw)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def make(build, folder):
    lm, model, data = f"{build}/ascribe-lm", f"{folder}/model.ckpt", f"{folder}/corpus.jsonl"
    rows = examples()
    with open(data, "w", encoding="utf-8") as f:
        for row in rows:
            if "text" in row:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
    run(lm, "train", "--data", data, "--out", model, "--steps", 500, "--layers", 2, "--width", 64, "--heads", 4,
        "--vocab", 1024, "--context", 64, "--batch", 8)
    run(lm, "encode", "--model", model, "--data", data, "--out", f"{folder}/batches", "--dim", 2048, "--batch-rows", 256)
    prompts = [{"prompt": p, **({"target": t} if t else {})} for kind in ASKED.values() for _, p, t in kind]
    with open(f"{folder}/prompts.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps(p) + "\n" for p in prompts)
    said = run(lm, "query", "--model", model, "--prompts", f"{folder}/prompts.jsonl", "--like",
               f"{folder}/batches/corpus.json", "--out", f"{folder}/q.safetensors")
    return rows, [json.loads(line) for line in said.splitlines()]


def fill(server, folder, said):
    ascribe = [harness.program("ascribe"), "-q", "--server", server.url, "--store", server.store]
    client = server.client()
    run(*ascribe, "ingest", "demo", "--create", f"{folder}/batches/corpus.json", f"{folder}/batches")
    client.put("/v1/corpora/empty", {"dim": 4})
    with open(f"{folder}/q.safetensors", "rb") as f:
        gradients = harness.read_tensors(f.read())[0]["queries"][1]
    dim = gradients.shape[1]
    bare = harness.np.random.default_rng(1).standard_normal((1, dim))  # an example without a text
    client.put("/v1/corpora/demo/batches/bare", harness.batch(bare, [{"id": "bare"}]))
    run(*ascribe, "fit", "demo")
    with open(f"{folder}/facts.safetensors", "wb") as f:
        f.write(harness.tensors([harness.matrix("gradients", gradients)]))
    run(*ascribe, "task", "put", "demo", "facts", f"{folder}/facts.safetensors", "--lambda", "0.5")
    at = 0
    for kind, asked in ASKED.items():
        for name, prompt, _ in asked:
            s = said[at]
            tail = {"tail_patch": {i: 0.125 for i in ("markup", "sum-3")}} if at == 0 else {}
            entry = {"prompt": prompt, "target": s["target"], "output": s["continuation"],
                     "tags": [f"kind:{kind}"] + (["opera"] if at % 3 == 0 else []), "methods": {"model": "test", **tail}}
            text = json.dumps(entry).encode()
            body = harness.tensors([harness.matrix("gradient", gradients[at:at + 1]), ("query", "U8", [len(text)], text)])
            reply = client.put(f"/v1/corpora/demo/queries/{name.lower()}", body)
            assert reply.status == 201, reply
            at += 1
    text = json.dumps({"prompt": BLOCKING, "target": " <img src=x onerror=window.hurt=1>", "output": "&amp;",
                       "tags": ["kind:facts", "<b>tag</b>"]}).encode()
    body = harness.tensors([harness.matrix("gradient", gradients[:1]), ("query", "U8", [len(text)], text)])
    assert client.put("/v1/corpora/demo/queries/hostile", body).status == 201
    client.post("/v1/corpora/demo/search", {"text": "composer"})  # the words are indexed then
    client.close()


def main():
    build, folder = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    os.makedirs(folder, exist_ok=True)
    began = time.monotonic()
    rows, said = make(build, folder)
    server = harness.Server(f"{folder}/store").start()
    fill(server, folder, said)
    server.stop()
    print(json.dumps({"examples": len(rows), "queries": 1 + sum(map(len, ASKED.values())),
                      "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
