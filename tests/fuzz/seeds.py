#!/usr/bin/python3
"""seeds.py - writes the first inputs of every target to tests/fuzz/corpus/NAME, so that a fuzzer does
not begin with nothing: one well-formed input of each shape and its nearest wrong neighbours. The
files are committed; this script says what they are. Inputs that fuzzing found stay beside them.
"""
import json
import os
import struct
import subprocess
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))


def put(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def safetensors(tensors, meta=None):
    header, data = {}, b""
    if meta:
        header["__metadata__"] = meta
    for name, dtype, shape, raw in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def http():
    get = b"GET /v1/corpora/a%20b?k=10&filter=id%3D%22x%22 HTTP/1.1\r\nHost: h\r\n\r\n"
    put("http", "get", b"\x03" + get)
    put("http", "two", b"\x05" + get + get)
    put("http", "put", b"\x01PUT /v1/corpora/c/batches/b HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer k\r\n"
        b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
    put("http", "chunks", b"\x02POST /v1/corpora/c/query HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\nrest")
    put("http", "chunks_bare", b"\x0710\r\n0123456789abcdef\r\n0\r\n\r\n")
    put("http", "both_lengths", b"\x00POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n")
    put("http", "length_and_chunks", b"\x00POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    put("http", "te_not_last", b"\x00POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n")
    put("http", "te_obscured", b"\x00POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n")
    put("http", "fold", b"\x00GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n")
    put("http", "bare_lf", b"\x00GET / HTTP/1.1\nHost: h\n\n")
    put("http", "absolute", b"\x00GET http://h:1/v1/info?x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    put("http", "two_hosts", b"\x00GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    put("http", "big_chunk", b"\x00ffffffffffffffff\r\n")


def tensors():
    rows = np.arange(8, dtype="<f4").tobytes()
    lines = b'{"id":"a"}\n{"id":"b"}\n'
    put("safetensors", "batch", safetensors([("gradients", "F32", [2, 4], rows),
                                             ("examples", "U8", [len(lines)], lines)],
                                            {"fingerprint": "ab" * 32}))
    put("safetensors", "f16", safetensors([("queries", "F16", [1, 4], rows[:8])]))
    put("safetensors", "rank4", safetensors([("x", "I64", [1, 1, 2, 2], rows)]))
    put("safetensors", "empty", safetensors([("x", "F32", [0], b"")]))
    put("safetensors", "overlap", b"\x5a" + b"\0" * 7
        + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"da')
    put("matrix", "batch", safetensors([("gradients", "F32", [2, 4], rows)]))
    put("matrix", "bf16", safetensors([("queries", "BF16", [2, 2], rows[:8])]))
    for version, size in ((1, "<H"), (2, "<I")):
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }"
        pad = -(6 + 2 + struct.calcsize(size) + len(head) + 1) % 64
        head += b" " * pad + b"\n"
        put("matrix", f"npy{version}", b"\x93NUMPY" + bytes([version, 0]) + struct.pack(size, len(head))
            + head + rows)


def words():
    for name, text in {
        "object": '{"a":1,"b":[true,false,null,-0.0,1e300,"\\u00e9\\ud83d\\ude00"],"c":{"d":"\\n"}}',
        "array": "[1,2,3,9007199254740993,18446744073709551616]", "deep": "[" * 40 + "]" * 40,
        "twice": '{"a":1,"a":2}', "nul": '{"a":"\\u0000"}', "cut": '{"a":[1,2', "lone": '["\\ud800"]',
        "spaces": ' { "a" : [ 1 , 2 ] , "b" : " x " } \n', "real": "[0.1,1E-5,-1.5e+10,5e-324]",
    }.items():
        put("json", name, text)
    put("examples", "three", '{"id":"a","text":"one \\u00e9","meta":{"y":1990,"t":["x", 1.50]}}\n{"id":"b"}\n'
        '{"id":"c","text":null}')
    put("examples", "twice", '{"id":"a"}\n{"id":"a"}\n')
    put("examples", "unknown", '{"id":"a","body":1}\n')
    put("examples", "blank", '{"id":"a"}\n\n')
    put("examples", "id", '{"id":""}\n{"id":"\\u0001"}\n')
    for i, text in enumerate((
            'meta.source = "wiki" and not (id ^= "n0" or meta.year < 1990)',
            'id in ["a", "b"] or meta.tags = "fact" and has meta.licence',
            'meta."a name".x not in [1, 2.5, true, null]', "norm >= 1e-3 and sequence != 7",
            "has meta", "not not has meta.a", "(" * 33 + "has meta" + ")" * 33, 'id = "\\u00e9"', "id ==")):
        put("filter", f"f{i}", text + '\n{"source":"wiki","year":1985,"tags":["fact"],"a name":{"x":2.5}}')
    put("config", "all", "# a comment\nlisten = 127.0.0.1:0\nthreads = 2\nmemory = 64M\n"
        "deadline-ms = 1000\nlog-level = debug\n")
    put("config", "wrong", "thread = 2\n")
    put("config", "twice", "threads = 2\nthreads = 3\n")
    put("config", "unit", "memory = 99999999999T\n")
    put("gold", "two", '{"id":"q1","gold":["a","b"],"text":"who","kind":1}\n{"id":"q2","gold":[],"text":"x","kind":"z"}\n')
    put("gold", "wrong", '{"id":"q1","gold":"a"}\n')


def records():
    def key(corpus, number):
        return struct.pack(">IQ", corpus, number)
    # widths as docs/format.md gives them; the readers check the rest
    for name, k, v in (("chunk", key(1, 9), struct.pack("<IIQQQI", 3, 500, 1, 500, 1 << 20, 0)),
                       ("chunk_codes", key(1, 9), struct.pack("<IIQQQII", 3, 500, 1, 500, 1 << 20, 1, 1)),
                       ("tombstone", key(1, 77), struct.pack("<QI", 9, 3)),
                       ("shard", struct.pack(">I", 3), struct.pack("<II", 1, 1)),
                       ("batch", struct.pack(">I", 1) + b"b1", b"h" * 16 + struct.pack("<QQQ", 5, 0, 5)),
                       ("u64", struct.pack(">I", 1) + b"id", struct.pack("<Q", 4)),
                       ("annex", b"\x01" + struct.pack(">I", 1) + b"fit",
                        struct.pack("<QQQQ", 1, 1, 7, 4096) + b"{}")):
        put("records", name, bytes([len(k)]) + k + v)
    put("text", "none", struct.pack("<H", 1) + struct.pack("<II", 1, 0) + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 0xFFFFFFFF))
    put("text", "short", struct.pack("<H", 2) + struct.pack("<II", 2, 1))


def model():
    merges = b"".join(struct.pack("<HH", 97 + i, 98 + i) for i in range(15))
    put("tok", "letters", b"\x0f" + merges + b"abcabc the bcde \xff\x00")
    put("tok", "chain", b"\x0f" + b"".join(struct.pack("<HH", 257 + i - 1 if i else 97, 98) for i in range(15))
        + b"abbbbbbbbbbbbbbbbbbbbb")
    put("tok", "later", b"\x0f" + struct.pack("<HH", 270, 97) * 15 + b"aaa")
    put("ckpt", "header", safetensors([("h0.attn.qkv", "F32", [2, 2], b"\0" * 16)], {
        "format": "ascribe-lm", "version": "1", "vocab": "272", "context": "8"}))


def real_ckpt(program):
    """The smallest checkpoint that the program itself makes."""
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        texts, out = os.path.join(folder, "t.jsonl"), os.path.join(folder, "m.ckpt")
        with open(texts, "w", encoding="utf-8") as f:
            f.writelines(json.dumps({"id": str(i), "text": "a b c d"}) + "\n" for i in range(8))
        run = subprocess.run([program, "train", "--data", texts, "--out", out, "--steps", "1", "--layers", "1",
                              "--width", "16", "--heads", "1", "--context", "16", "--vocab", "272"],
                             capture_output=True, text=True)
        if run.returncode == 0:
            put("ckpt", "real", open(out, "rb").read())
        else:
            print(run.stderr)


def arrow():
    """Made with pyarrow, where it is installed: lists, texts, numbers, nulls, two batches."""
    try:
        import pyarrow as pa
    except ImportError:
        print("no pyarrow: the Arrow inputs stay as they are")
        return
    table = pa.table({"text": ["one", None, "three"], "n": pa.array([1, 2, 3], pa.int16()),
                      "x": pa.array([0.5, None, 2.5], pa.float32()), "b": [True, False, None],
                      "l": [[1], [], [2, 3]], "big": pa.array(["a", "b", "c"], pa.large_string())})
    for name, make in (("stream", pa.ipc.new_stream), ("file", pa.ipc.new_file)):
        sink = pa.BufferOutputStream()
        with make(sink, table.schema) as w:
            w.write_table(table, max_chunksize=2)
        put("arrow", name, sink.getvalue().to_pybytes())


def request():
    """Whole requests for a whole server; byte 1 is the key. In the order of their names they build on each other."""
    def ask(method, path, body=None, kind="application/json", more=""):
        head = f"{method} {path} HTTP/1.1\r\nHost: h\r\n".encode() + b"\x01" + more.encode()
        if body is None:
            return head + b"\r\n"
        return head + f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    dice = np.random.default_rng(7)
    kind = "application/vnd.safetensors"
    ids = b"".join(json.dumps({"id": f"e{i}", "text": f"text {i}", "meta": {"n": i}}).encode() + b"\n" for i in range(6))
    rows = dice.standard_normal((6, 8)).astype("<f4").tobytes()
    batch = safetensors([("gradients", "F32", [6, 8], rows), ("examples", "U8", [len(ids)], ids)])
    query = safetensors([("queries", "F32", [2, 8], rows[:64])])
    small = json.dumps({"queries": [[1, 0, 0, 0, 0, 0, 0, 2]]}).encode()
    c = "/v1/corpora/c"
    tried = {
        "00-create": ask("PUT", c, b'{"dim":8,"blocks":[{"name":"a","dim":4},{"name":"b","dim":4}]}'),
        "01-batch": ask("PUT", c + "/batches/b", batch, kind),
        "02-query": ask("POST", c + "/query?k=3&opponents=2", query, kind),
        "03-query-json": ask("POST", c + "/query?k=2&precision=probabilistic&text=true", small),
        "04-filter": ask("POST", c + "/query?k=2&filter=meta.n%3E%3D2%20and%20not%20id%3D%22e3%22", small),
        "05-like": ask("POST", c + "/query?k=2&like=e1&engine=scan", b"{}"),
        "06-scores": ask("POST", c + "/scores", query, kind),
        "07-list": ask("GET", c + "/examples?limit=3&filter=id%3E%22e1%22"),
        "08-one": ask("GET", c + "/examples/e2"),
        "09-encoding": ask("GET", c + "/examples/e2/encoding"),
        "10-search": ask("POST", c + "/search", b'{"text":"text 3","k":3}'),
        "11-save": ask("PUT", c + "/queries/q", json.dumps({"prompt": "p", "target": "t", "gradient": [1.0] * 8, "tags": ["a"]}).encode()),
        "12-saved": ask("GET", c + "/queries/q/gradient"),
        "13-task": ask("PUT", c + "/tasks/t", safetensors([("gradients", "F32", [6, 8], rows)]), kind),
        "14-fit": ask("POST", c + "/fit"),
        "15-jobs": ask("GET", "/v1/jobs"),
        "16-compact": ask("POST", "/v1/admin/compact?corpus=c"),
        "17-key": ask("POST", "/v1/admin/keys", b'{"scope":"read","label":"x","expires_s":1}'),
        "18-keys": ask("GET", "/v1/admin/keys"),
        "19-delete": ask("DELETE", c + "/examples/e5"),
        "20-two": ask("GET", "/v1/info") + ask("GET", "/metrics"),
        "21-chunked": ask("POST", c + "/query", None, more="Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n")
        + f"{len(small):x}\r\n".encode() + small + b"\r\n0\r\n\r\n",
        "22-expect": ask("PUT", c + "/batches/b2", batch, kind, "Expect: 100-continue\r\n"),
        "23-no-key": b"GET /v1/corpora HTTP/1.1\r\nHost: h\r\n\r\n",
        "24-short": ask("PUT", c + "/batches/b3", batch, kind)[:-40],
        "25-page": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "26-norms": ask("GET", c + "/norms?bins=16"),
        "27-explain": ask("POST", c + "/examples/e1/explain", b'{"text":"x"}'),
        "28-verify": ask("POST", "/v1/admin/verify"),
        "29-drop": ask("DELETE", c),
    }
    for name, data in tried.items():
        put("request", name, data)


if __name__ == "__main__":
    http()
    request()
    tensors()
    words()
    records()
    model()
    arrow()
    if len(sys.argv) > 1:
        real_ckpt(sys.argv[1])
