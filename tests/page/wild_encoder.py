#!/usr/bin/python3
"""An encoder that does what the file MODE says, read anew for each request: `garbage`, `die`, `hang`,
`slow`, or anything else: it refuses in words.

    wild_encoder.py MODE
"""
import json
import os
import sys
import time

for line in sys.stdin:
    asked = json.loads(line)
    if asked["verb"] == "hello":
        answer = {"id": asked["id"], "ok": True, "bytes": 0, "name": "wild", "model": "none", "dim": 2048,
                  "fingerprint": None, "verbs": ["hello", "encode", "continue"]}
        print(json.dumps(answer), flush=True)
        continue
    try:
        with open(sys.argv[1], encoding="utf-8") as f:
            mode = f.read().strip()
    except OSError:
        mode = ""
    if mode == "garbage":
        print("Traceback (most recent call last): <b>no</b> JSON", flush=True)
    elif mode == "die":
        os._exit(3)
    elif mode == "slow":
        time.sleep(2)
        print(json.dumps({"id": asked["id"], "ok": True, "bytes": 0, "output": " slowly"}), flush=True)
    else:
        print(json.dumps({"id": asked["id"], "ok": False, "error": "the model knows no <i>such</i> words"}), flush=True)
