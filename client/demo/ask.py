#!/usr/bin/python3
"""ask.py BUILD DEMO - the demo's questions: asked, measured, kept as saved queries, and shown.

Every prompt of prompts/*.jsonl ({"name","kind","prompt"} and perhaps "target") goes to the demo's
model, which says what it would (`ascribe-lm query`); the server is asked which examples made it say
so, with the task of that kind, and which have the words (BM25); one step of training on each of
those tells what it really does (`ascribe-lm tail-patch`). All of it is saved under the prompt's name.

DEMO holds the model, batches/corpus.json and the corpus's name is `demo`; the server is the one that
ASCRIBE_SERVER and ASCRIBE_STORE name.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "python"))

import ascribe  # noqa: E402
import mix  # noqa: E402

DEPTH, OPPONENTS = 10, 5  # of each list, what is measured by tail-patch
SHOWN = 2  # prompts of a kind that are printed


def lm(build, demo, verb, *args):
    """One verb of ascribe-lm on the demo's model; its lines of JSON."""
    command = [os.path.join(build, "ascribe-lm"), verb, "--model", os.path.join(demo, "model.ckpt")]
    done = subprocess.run([*command, *args], stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def gradients(build, demo, prompts):
    """Adds to each prompt what the model says and is asked about; their raw gradients [n, d]."""
    asked, out = os.path.join(demo, "prompts.jsonl"), os.path.join(demo, "queries.safetensors")
    mix.write_lines(asked, prompts)
    like = os.path.join(demo, "batches", "corpus.json")
    for prompt, said in zip(
        prompts, lm(build, demo, "query", "--prompts", asked, "--like", like, "--out", out)
    ):
        prompt["target"], prompt["output"] = said["target"], said["continuation"]
        prompt["generated"], prompt["loss"] = said["generated"], said["loss"]
    tensors, _ = ascribe.safetensors.load(out)
    return tensors["queries"]


def ask(corpus, tasks, prompt, gradient):
    """The lists of one prompt."""
    task = prompt["kind"] if prompt["kind"] in tasks else None
    answer = corpus.query(gradient, k=DEPTH, opponents=OPPONENTS, task=task)[0]
    words = corpus.search(prompt["prompt"] + prompt["target"], k=DEPTH)
    return {"task": task, "answer": answer, "words": words}


def patches(build, demo, prompts, found):
    """Of each prompt {id: what one step on that example changes: {"d_probability", ...}}."""
    pairs = []
    for prompt, lists in zip(prompts, found):
        answer = lists["answer"]
        hits = [*answer.proponents, *answer.opponents, *lists["words"]]
        texts = {hit.id: hit.text for hit in hits}
        pairs.append(
            {
                "id": prompt["name"],
                "prompt": prompt["prompt"],
                "target": prompt["target"],
                "passages": [{"id": i, "text": t} for i, t in texts.items()],
            }
        )
    asked, out = os.path.join(demo, "pairs.jsonl"), os.path.join(demo, "patches.jsonl")
    mix.write_lines(asked, pairs)
    lm(build, demo, "tail-patch", "--pairs", asked, "--out", out)
    return [
        {passage["id"]: passage for passage in line["passages"]} for line in mix.read_lines(out)
    ]


def listed(prompt, lists, patch):
    """A prompt's lists as picture.py reads them: {"name","kind",list: [{"id","score",...}]}."""
    answer = lists["answer"]
    named = (
        ("proponents", answer.proponents),
        ("opponents", answer.opponents),
        ("words", lists["words"]),
    )
    line = {"name": prompt["name"], "kind": prompt["kind"]}
    for name, hits in named:
        line[name] = [{**patch[hit.id], "score": hit.score} for hit in hits]
    return line


def is_right(prompt):
    """Whether the model goes on with the target by itself; None where nothing is right or wrong."""
    if prompt["generated"]:
        return None
    return prompt["output"].strip().startswith(prompt["target"].strip())


def save(corpus, prompt, gradient, task, patch):
    right = is_right(prompt)
    tags = ["kind:" + prompt["kind"]] + ([] if right is None else ["right" if right else "wrong"])
    corpus.save_query(
        prompt["name"],
        gradient,
        prompt=prompt["prompt"],
        target=prompt["target"],
        output=prompt["output"],
        tags=tags,
        methods={
            "task": task,
            "loss": prompt["loss"],
            "tail_patch": {id: change["d_probability"] for id, change in patch.items()},
        },
    )


# ---- for people ----------------------------------------------------------------------------------


def underlined(text):
    return f"\033[4m{text.strip()}\033[0m"


def show(prompt, lists, patch, width):
    says = underlined(prompt["output"])
    if is_right(prompt) is False:
        says += f", by itself; asked about {underlined(prompt['target'])}"
    print(f"\n\033[1m{prompt['prompt']}\033[0m ⟶ {says}")
    answer = lists["answer"]
    for sign, hits in (("▲", answer.proponents[:4]), ("▽", answer.opponents[:1])):
        for hit in hits:
            points = 100 * patch[hit.id]["d_probability"]
            head = f"  {sign} {hit.score:+.3f}  {points:+6.2f}  {hit.id:<10} "
            print(head + textwrap.shorten(hit.text, max(20, width - len(head)), placeholder="…"))


def main():
    build, demo = sys.argv[1:]
    corpus, prompts = ascribe.Client().corpus("demo"), mix.prompts()
    rows = gradients(build, demo, prompts)
    tasks = {task.name for task in corpus.tasks()}
    found = [ask(corpus, tasks, prompt, row) for prompt, row in zip(prompts, rows)]
    changes = patches(build, demo, prompts, found)
    for prompt, row, lists, patch in zip(prompts, rows, found, changes):
        save(corpus, prompt, row, lists["task"], patch)
    lists = [listed(*one) for one in zip(prompts, found, changes)]
    mix.write_lines(os.path.join(demo, "lists.jsonl"), lists)
    width, shown = shutil.get_terminal_size((110, 40)).columns, {}
    for prompt, lists, patch in zip(prompts, found, changes):
        shown[prompt["kind"]] = shown.get(prompt["kind"], 0) + 1
        if shown[prompt["kind"]] <= SHOWN:
            show(prompt, lists, patch, width)
    print()
    for kind in shown:
        judged = [is_right(p) for p in prompts if p["kind"] == kind]
        right = f", {judged.count(True)} of them said rightly" if None not in judged else ""
        print(f"{shown[kind]:3} prompts of kind {kind}{right}")
    print("Each is a saved query now, with its lists' tail-patch values.")


if __name__ == "__main__":
    main()
