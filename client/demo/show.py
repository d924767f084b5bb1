#!/usr/bin/python3
"""show.py QUERIES.jsonl ANSWERS.json - the demo's answers for people.

Prints, for each prompt, what the model went on to say and the passages that ascribe holds
responsible. QUERIES is what `ascribe-lm query` printed, ANSWERS what `ascribe query --json` did.
"""

import json
import shutil
import sys
import textwrap


def hit_lines(sign, hits, width):
    for hit in hits:
        head = f"  {sign} {hit['score']:+.3f}  {hit['id']:<10} "
        yield head + textwrap.shorten(hit["text"], max(20, width - len(head)), placeholder="…")


def says(query):
    """What the model said; and what it was asked about, where that was something else."""
    own = f"\033[4m{query['continuation'].strip()}\033[0m"
    if query["generated"] or query["continuation"].strip() == query["target"].strip():
        return own
    return f"{own}, by itself; asked about \033[4m{query['target'].strip()}\033[0m"


def main():
    queries_path, answers_path = sys.argv[1:]
    with open(queries_path, encoding="utf-8") as lines:
        queries = [json.loads(line) for line in lines]
    with open(answers_path, encoding="utf-8") as file:
        answer = json.load(file)
    if len(queries) != len(answer["results"]):
        sys.exit(f"show.py: {len(queries)} prompts, {len(answer['results'])} answers")
    width = shutil.get_terminal_size((110, 40)).columns
    for query, result in zip(queries, answer["results"]):
        print(f"\n\033[1m{query['prompt']}\033[0m ⟶ {says(query)}")
        for line in hit_lines("▲", result["proponents"], width):
            print(line)
        for line in hit_lines("▽", result["opponents"], width):
            print(line)
    print(
        f"\n{len(queries)} prompts against {answer['examples']:,} encodings in "
        f"{answer['took_ms']:.0f} ms: engine {answer['engine']}, {answer['exact']} exact."
    )


if __name__ == "__main__":
    main()
