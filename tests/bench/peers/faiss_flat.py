"""faiss_flat.py - FAISS IndexFlatIP as Debian's python3-faiss has it; all threads. A contender of
tests/bench/contend.py: prints {"ready":...}, answers each line `ENGINE FROM COUNT K OPPONENTS`."""
import argparse
import json
import sys
import time

import faiss
import numpy as np

parser = argparse.ArgumentParser()
for name in ("rows", "queries"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--dim", type=int, required=True)
a = parser.parse_args()
queries = np.fromfile(a.queries, np.float32).reshape(-1, a.dim)
index = faiss.IndexFlatIP(a.dim)
index.add(np.memmap(a.rows, np.float32, "r").reshape(-1, a.dim))
print(json.dumps({"ready": True, "peer": "python3-faiss", "version": faiss.__version__}), flush=True)
for line in sys.stdin:
    first, count, k = map(int, line.split()[1:4])
    asked = queries[first:first + count]
    began = time.monotonic()
    scores, found = index.search(asked, k)
    ms = (time.monotonic() - began) * 1e3
    print(json.dumps({"ms": ms, "ids": found.tolist(), "scores": scores.astype(float).tolist()}), flush=True)
