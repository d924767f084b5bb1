"""fake_encoder.py MODE [FILE] - an encoder of 4 dimensions for test_encoder.py, good or bad in one way.

The way is taken at an `encode` whose target is "bad"; a good one is answered with the gradient
[len(prompt), 1, 0, 0]. FILE gets a line at every start: the process id, then what it can see.
"""
import json
import os
import struct
import sys
import time

MODE = sys.argv[1]
OUT = os.fdopen(os.dup(1), "wb", 0)
DIM = 4


def tensors(entries):
    header, at, data = {}, 0, b""
    for name, dtype, shape, part in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(part)]}
        at, data = at + len(part), data + part
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def gradient(values):
    return tensors([("gradient", "F32", [len(values)], struct.pack(f"<{len(values)}f", *values))])


def answer(id, body=b"", **more):
    OUT.write(json.dumps({"id": id, "ok": True, "bytes": len(body), **more}).encode() + b"\n" + body)


def hello(id):
    if MODE == "silent":
        time.sleep(600)
    if MODE == "dead":
        sys.exit("there is no model here")
    more = {"name": "fake", "model": "fake/1", "dim": DIM, "verbs": ["encode", "continue"]}
    more.update({"nameless": {"name": None}, "dimless": {"dim": 0}}.get(MODE, {}))
    answer(id, **more)


def bad(id, request):
    good = gradient([1, 2, 3, 4])
    if MODE == "garbage":
        OUT.write(b"loading model ... 100%\n")
    elif MODE == "wrong-id":
        answer(id + 1, good)
    elif MODE == "wrong-dim":
        answer(id, gradient([1, 2, 3]))
    elif MODE == "nan":
        answer(id, gradient([1, float("nan"), 3, 4]))
    elif MODE == "zero":
        answer(id, gradient([0, 0, 0, 0]))
    elif MODE == "no-tensor":
        answer(id, tensors([("other", "F32", [1], bytes(4))]))
    elif MODE == "half":
        OUT.write(json.dumps({"id": id, "ok": True, "bytes": len(good)}).encode() + b"\n" + good[:20])
        os._exit(3)
    elif MODE == "dies":
        print("out of memory on device 0", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 9)
    elif MODE == "hangs":
        time.sleep(600)
    elif MODE == "late":
        time.sleep(1.5)
        answer(id, good)
    elif MODE == "floods":
        while True:
            OUT.write(b"x" * 65536)
    elif MODE == "deaf":
        answer(id, good)
        os.close(0)
        time.sleep(600)
    elif MODE == "mute":
        os.close(1)
        OUT.close()
        time.sleep(600)
    elif MODE == "huge-line":
        for _ in range(1024):
            OUT.write(b" " * (1 << 20))
        OUT.write(b"\n")
    elif MODE == "huge-body":
        OUT.write(json.dumps({"id": id, "ok": True, "bytes": 1 << 40}).encode() + b"\n")
    elif MODE == "unasked":
        answer(id, good)
        time.sleep(0.2)
        answer(id + 1, good)
    elif MODE == "refuses":
        OUT.write(json.dumps({"id": id, "ok": False, "error": "not today \x1b[31m"}).encode() + b"\n")
    elif MODE == "outputs":
        answer(id, output=7)
    elif MODE == "shouts":
        for i in range(200000):
            print(f"line {i} of a very long log", file=sys.stderr)
        answer(id, good)
    elif MODE == "slow":
        time.sleep(1)
        answer(id, good)


def main():
    if len(sys.argv) > 2:
        with open(sys.argv[2], "a") as f:
            seen = {"pid": os.getpid(), "args": sys.argv[3:], "fds": sorted(map(int, os.listdir("/proc/self/fd"))),
                    "keys": [k for k in os.environ if k.startswith("ASCRIBE_KEY")]}
            f.write(json.dumps(seen) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        if request["verb"] == "hello":
            hello(request["id"])
        elif request["verb"] == "continue":
            answer(request["id"], output=" and so on")
        elif request["target"] == "bad":
            bad(request["id"], request)
        else:
            answer(request["id"], gradient([len(request["prompt"]), 1, 0, 0]), loss=0.5)
    if MODE == "stays":  # the end of its input is no reason to end
        time.sleep(600)


main()
