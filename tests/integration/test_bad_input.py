"""test_bad_input.py - what must be refused, case by case, by name.

A case is a request and the problem it must get: status, code and, where one is at fault, field, index
and limit. Around each: the corpus it aims at is the same, byte for byte of its GET, before and
after, and a client who does nothing wrong gets the right answer on another corpus.
"""
import json
import time
import struct

import numpy as np

import harness as h

DIM, ROWS = 8, 5
DTYPES = ("f32", "f16", "bf16")
CASES = {}  # name -> (function(test) -> Reply, expected)


def case(name, call, status, code, field=None, index=None, limit=None, corpus="victim"):
    """Adds a case. call(test) makes the request; or bytes: the body of an ingest into `corpus`."""
    assert name not in CASES, name
    if isinstance(call, (bytes, bytearray)):
        body = bytes(call)
        call = lambda t: t.client.put(f"/v1/corpora/{corpus}/batches/bad", body)  # noqa: E731
    CASES[name] = (call, dict(status=status, code=code, field=field, index=index, limit=limit), corpus)


def asks(body, path="query", **kw):
    return lambda t: t.client.post(f"/v1/corpora/victim/{path}", body, **kw)


def sends(method, path, body=None, **kw):
    return lambda t: t.client.request(method, path, body, **kw)


IDS = [f"bad{i}" for i in range(ROWS)]
GOOD = np.random.default_rng(5).standard_normal((ROWS, DIM)).astype("f4")


def damaged(row, element, value):
    x = GOOD.copy()
    x[row, element] = value
    return x


# ---- values ----------------------------------------------------------------------------------------

for dtype in DTYPES:
    for word, value in (("nan", np.nan), ("inf", np.inf), ("minus_inf", -np.inf)):
        for place, row, element in (("first", 0, 0), ("middle", 2, 4), ("last", ROWS - 1, DIM - 1)):
            case(f"value_{word}_{place}_{dtype}", h.batch(damaged(row, element, value), IDS, dtype), 422, "not_finite",
                 "gradients", row)
        case(f"query_{word}_{dtype}", asks(h.queries(damaged(1, 3, value), dtype)), 422, "not_finite", "queries", 1)
    for place, row in (("first", 0), ("middle", 2), ("last", ROWS - 1)):
        case(f"zero_row_{place}_{dtype}", h.batch(damaged(row, slice(None), 0), IDS, dtype), 422, "zero_gradient",
             "gradients", row)
    case(f"minus_zero_row_{dtype}", h.batch(damaged(1, slice(None), -0.0), IDS, dtype), 422, "zero_gradient", "gradients", 1)
    case(f"query_zero_{dtype}", asks(h.queries(damaged(2, slice(None), 0), dtype)), 422, "zero_gradient", "queries", 2)
    case(f"scores_nan_{dtype}", asks(h.queries(damaged(4, 0, np.nan), dtype), "scores"), 422, "not_finite", "queries", 4)
case("f16_overflow_in_the_file", h.batch(damaged(3, 1, 70000.0), IDS, "f16"), 422, "not_finite", "gradients", 3)
case("nan_with_payload", h.tensors([("gradients", "F32", [1, DIM], b"\x01\x00\x80\x7f" + b"\0" * (4 * DIM - 4)),
                                    h.lines(["a"])]), 422, "not_finite", "gradients", 0)
case("first_of_two_bad_rows", h.batch(np.where(np.arange(ROWS)[:, None] >= 2, np.nan, GOOD), IDS), 422, "not_finite",
     "gradients", 2)

# ---- shapes and types ------------------------------------------------------------------------------

for dim in (1, DIM - 1, DIM + 1, 2 * DIM):
    case(f"dimension_{dim}", h.batch(np.ones((2, dim)), ["a", "b"]), 422, "wrong_dimension", "gradients", limit=DIM)
    case(f"query_dimension_{dim}", asks(h.queries(np.ones((2, dim)))), 422, "wrong_dimension", "queries", limit=DIM)
case("dimension_0", h.tensors([("gradients", "F32", [1, 0], b""), h.lines(["a"])]), 422, "wrong_dimension", "gradients")
case("rank_1", h.tensors([("gradients", "F32", [DIM], b"\1" * 4 * DIM), h.lines(["a"])]), 422, "wrong_dimension", "gradients")
case("rank_0", h.tensors([("gradients", "F32", [], b"\1" * 4), h.lines(["a"])]), 422, "wrong_dimension", "gradients")
case("rank_3", h.tensors([("gradients", "F32", [1, 1, DIM], b"\1" * 4 * DIM), h.lines(["a"])]), 422, "wrong_dimension",
     "gradients")
case("rank_5", h.tensors([("gradients", "F32", [1, 1, 1, 1, DIM], b"\1" * 4 * DIM), h.lines(["a"])]), 400,
     "bad_safetensors", "gradients")
case("no_rows", h.tensors([("gradients", "F32", [0, DIM], b""), ("examples", "U8", [0], b"")]), 400, "invalid_request",
     "gradients")
case("query_no_rows", asks(h.tensors([("queries", "F32", [0, DIM], b"")])), 400, "invalid_request", "queries")
case("rows_65537", h.batch(np.ones((65537, DIM)), [str(i) for i in range(65537)], "f16"), 413, "too_large", "gradients",
     limit=65536)
case("queries_1025", asks(h.queries(np.ones((1025, DIM)), "f16")), 413, "too_large", "queries", limit=1024)
case("scores_queries_1025", asks(h.queries(np.ones((1025, DIM)), "f16"), "scores"), 413, "too_large", "queries", limit=1024)
case("one_line_less", h.batch(GOOD, IDS[:-1]), 400, "invalid_request", "examples", ROWS - 1)
case("one_line_more", h.batch(GOOD, IDS + ["more"]), 400, "invalid_request", "examples", ROWS)
case("no_lines", h.tensors([h.matrix("gradients", GOOD), ("examples", "U8", [0], b"")]), 400, "invalid_request", "examples", 0)
for kind, size in (("I32", 4), ("F64", 8), ("BOOL", 1), ("I8", 1), ("U8", 1), ("I16", 2), ("U16", 2), ("U32", 4), ("I64", 8),
                   ("U64", 8), ("F8_E4M3", 1), ("F8_E5M2", 1)):
    case(f"dtype_{kind}", h.tensors([("gradients", kind, [2, DIM], b"\1" * 2 * DIM * size), h.lines(["a", "b"])]), 422,
         "wrong_dtype", "gradients")
    case(f"query_dtype_{kind}", asks(h.tensors([("queries", kind, [2, DIM], b"\1" * 2 * DIM * size)])), 422, "wrong_dtype",
         "queries")
for word in ("f32", "F128", "", "float32", "F32 ", "F32\0"):
    case(f"dtype_unknown_{word!r}", h.tensors([("gradients", word, [1, DIM], b"\1" * 4 * DIM), h.lines(["a"])]), 400,
         "bad_safetensors")
case("examples_as_i8", h.tensors([h.matrix("gradients", GOOD[:1]), ("examples", "I8", [10], b'{"id":"a"}')]), 422,
     "wrong_dtype", "examples")
case("examples_rank_2", h.tensors([h.matrix("gradients", GOOD[:1]), ("examples", "U8", [2, 5], b'{"id":"a"}')]), 422,
     "wrong_dtype", "examples")

# ---- safetensors -----------------------------------------------------------------------------------

G = '"gradients":{"dtype":"F32","shape":[1,%d],"data_offsets":[0,%d]}' % (DIM, 4 * DIM)
LINE = b'{"id":"a"}'
E = '"examples":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}' % (len(LINE), 4 * DIM, 4 * DIM + len(LINE))
DATA = GOOD[0].tobytes() + LINE


def st(name, header, data=DATA, length=None, **expected):
    header = header if isinstance(header, bytes) else header.encode()
    case("safetensors_" + name, h.raw_tensors(header, data, length), 400, "bad_safetensors", **expected)


for n in range(1, 8):
    case(f"safetensors_only_{n}_bytes", b"\1" * n, 400, "bad_safetensors")
st("header_length_0", b"", DATA)
for word, length in (("one_more_than_body", None), ("beyond_body", 10 ** 5), ("beyond_1_mib", (1 << 20) + 1),
                     ("2_32", 1 << 32), ("2_63_less_1", (1 << 63) - 1), ("2_63", 1 << 63), ("2_64_less_1", (1 << 64) - 1),
                     ("2_64_less_8", (1 << 64) - 8)):
    header = ("{%s,%s}" % (G, E)).encode()
    st("header_length_" + word, header, length=len(header) + len(DATA) + 1 if length is None else length)
st("header_over_1_mib", "{%s,%s}" % (G, E) + " " * (1 << 20), limit=1 << 20)
st("header_not_json", "this is not JSON")
st("header_array", "[%s]" % G)
st("header_string", '"x"')
st("header_empty_object", "{}")
st("header_empty_object_no_data", "{}", b"")
st("header_not_utf8", b'{"gra\xff":0,' + (G + "," + E).encode() + b"}")
st("header_truncated", ("{%s,%s}" % (G, E))[:-1])
st("header_trailing_junk", "{%s,%s}x" % (G, E))
st("header_bom", b"\xef\xbb\xbf{" + (G + "," + E).encode() + b"}")
st("header_space_first", " {%s,%s}" % (G, E))
st("header_deep", '{"gradients":' + "[" * 100 + "]" * 100 + "}", limit=32)
st("header_duplicate_tensor", "{%s,%s,%s}" % (G, G, E))
st("header_duplicate_member", "{%s,%s}" % (G.replace('"dtype":"F32"', '"dtype":"F32","dtype":"F32"'), E))
st("unknown_member", "{%s,%s}" % (G.replace('"dtype"', '"more":1,"dtype"'), E), field="gradients")
st("unknown_tensor", "{%s,%s}" % (G, E.replace("examples", "surprise")), field="surprise")
st("third_tensor", '{%s,%s,"x":{"dtype":"U8","shape":[0],"data_offsets":[%d,%d]}}' % (G, E, len(DATA), len(DATA)), field="x")
st("no_gradients", '{"examples":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (len(LINE), len(LINE)), LINE,
   field="gradients")
st("no_examples", "{%s}" % G, DATA[:4 * DIM], field="examples")
st("entry_not_an_object", '{"gradients":7,%s}' % E, field="gradients")
st("entry_null", '{"gradients":null,%s}' % E, field="gradients")
st("no_dtype", "{%s,%s}" % (G.replace('"dtype":"F32",', ""), E), field="gradients")
st("dtype_number", "{%s,%s}" % (G.replace('"F32"', "32"), E), field="gradients")
st("no_shape", "{%s,%s}" % (G.replace('"shape":[1,%d],' % DIM, ""), E), field="gradients")
st("no_offsets", "{%s,%s}" % (G.replace(',"data_offsets":[0,%d]' % (4 * DIM), ""), E), field="gradients")
for word, shape in (("negative", "[-1,8]"), ("float", "[1.0,8]"), ("string", '["1",8]'), ("nested", "[[1],8]"),
                    ("object", '{"0":1}'), ("null", "null"), ("huge", "[9223372036854775808,8]"),
                    ("overflow_to_4", "[4194305,4194305,211106198978564]"), ("overflow_2_64", "[4611686018427387904,4]"),
                    ("overflow_by_type", "[4611686018427387905]"), ("too_small", "[1,7]"), ("too_large", "[2,8]")):
    st("shape_" + word, "{%s,%s}" % (G.replace("[1,%d]" % DIM, shape), E), field=None if word == "huge" else "gradients")
END = 4 * DIM
for word, offsets in (("negative", "[-1,%d]" % END), ("float", "[0.0,%d]" % END), ("reversed", "[%d,0]" % END),
                      ("beyond_end", "[0,%d]" % (END + 100)), ("one", "[%d]" % END), ("three", "[0,1,%d]" % END),
                      ("string", '["0",%d]' % END), ("null", "null"), ("overlap", "[0,%d]" % (END + 1)),
                      ("short", "[0,%d]" % (END - 1)), ("late", "[1,%d]" % (END + 1)), ("huge", "[0,18446744073709551615]"),
                      ("int64_max", "[9223372036854775807,9223372036854775807]"), ("wrap", "[9223372036854775775,0]")):
    st("offsets_" + word, "{%s,%s}" % (G.replace("[0,%d]" % END, offsets), E),
       field=None if word in ("huge",) else None if word in ("overlap", "late") else "gradients")
st("gap_between", "{%s,%s}" % (G, E.replace("[%d,%d]" % (END, END + 10), "[%d,%d]" % (END + 1, END + 11))), DATA[:END] + b" " +
   DATA[END:], field="examples")
st("same_place_twice", "{%s,%s}" % (G, E.replace("[%d,%d]" % (END, END + 10), "[0,10]")))
st("bytes_after_the_last", "{%s,%s}" % (G, E), DATA + b"\0")
st("one_byte_short", "{%s,%s}" % (G, E), DATA[:-1])
st("no_data", "{%s,%s}" % (G, E), b"")
st("metadata_not_an_object", '{"__metadata__":[],%s,%s}' % (G, E), field="__metadata__")
st("metadata_number", '{"__metadata__":{"a":1},%s,%s}' % (G, E), field="__metadata__")
st("metadata_nested", '{"__metadata__":{"a":{}},%s,%s}' % (G, E), field="__metadata__")
st("65_tensors", "{" + ",".join('"t%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(65)) + "}", b"",
   limit=64)

# ---- ids, texts, metas: lines of the examples tensor -------------------------------------------------

FIRST = [json.dumps({"id": f"fine{i}"}).encode() for i in range(2)]


def line(name, text, status, code, field="examples", index=2, limit=None):
    """A batch of three whose third line is `text`."""
    rows = b"\n".join(FIRST + [text if isinstance(text, bytes) else text.encode()]) + b"\n"
    entries = [h.matrix("gradients", GOOD[:3]), ("examples", "U8", [len(rows)], rows)]
    case("line_" + name, h.tensors(entries), status, code, field, index, limit)


BAD_UTF8 = {  # after Kuhn's stress test: what a decoder must not take
    "continuation_80": b"\x80", "continuation_bf": b"\xbf", "continuations": b"\x80\xbf\x80",
    "lead_c3_alone": b"\xc3", "lead_c3_ascii": b"\xc3(", "e2_82_cut": b"\xe2\x82", "f0_9f_98_cut": b"\xf0\x9f\x98",
    "overlong_slash_2": b"\xc0\xaf", "overlong_slash_3": b"\xe0\x80\xaf", "overlong_slash_4": b"\xf0\x80\x80\xaf",
    "overlong_slash_5": b"\xf8\x80\x80\x80\xaf", "overlong_slash_6": b"\xfc\x80\x80\x80\x80\xaf",
    "overlong_max_2": b"\xc1\xbf", "overlong_max_3": b"\xe0\x9f\xbf", "overlong_max_4": b"\xf0\x8f\xbf\xbf",
    "overlong_nul": b"\xc0\x80", "surrogate_first": b"\xed\xa0\x80", "surrogate_last": b"\xed\xbf\xbf",
    "surrogate_pair": b"\xed\xa0\xbd\xed\xb8\x80", "past_10ffff": b"\xf4\x90\x80\x80", "lead_f5": b"\xf5\x80\x80\x80",
    "fe": b"\xfe", "ff": b"\xff", "latin_1": "caf\xe9 cr\xe8me".encode("latin-1"), "utf_16": "id".encode("utf-16"),
}
for word, sequence in BAD_UTF8.items():
    line("utf8_id_" + word, b'{"id":"x' + sequence + b'"}', 400, "bad_utf8")
    line("utf8_text_" + word, b'{"id":"x","text":"' + sequence + b'y"}', 400, "bad_utf8")
line("utf8_meta", b'{"id":"x","meta":{"\xc0\xaf":1}}', 400, "bad_utf8")
line("utf8_member", b'{"id":"x","te\xff":1}', 400, "bad_utf8")

line("id_empty", '{"id":""}', 422, "bad_id")
line("id_257_bytes", json.dumps({"id": "x" * 257}), 422, "bad_id", limit=256)
line("id_257_bytes_of_86_letters", json.dumps({"id": "€" * 85 + "xx"}, ensure_ascii=False), 422, "bad_id", limit=256)
line("id_65536_bytes", json.dumps({"id": "x" * 65536}), 422, "bad_id", limit=256)
for word, char in (("nul", "\\u0000"), ("tab", "\\t"), ("newline", "\\n"), ("escape", "\\u001b"), ("unit", "\\u001f"),
                   ("delete", "\\u007f")):
    line("id_control_" + word, '{"id":"a%sb"}' % char, 422, "bad_id")
line("id_raw_control", b'{"id":"a\x01b"}', 400, "bad_json")
line("id_missing", '{"text":"x"}', 400, "invalid_request")
for word, value in (("number", "7"), ("null", "null"), ("array", '["a"]'), ("object", "{}"), ("true", "true")):
    line("id_" + word, '{"id":%s}' % value, 400, "invalid_request")
line("text_number", '{"id":"a","text":7}', 400, "invalid_request")
line("text_array", '{"id":"a","text":["x"]}', 400, "invalid_request")
line("meta_string", '{"id":"a","meta":"x"}', 400, "invalid_request")
line("meta_array", '{"id":"a","meta":[]}', 400, "invalid_request")
line("unknown_member", '{"id":"a","txet":"typo"}', 400, "invalid_request", field="txet")
line("text_over_1_mib", json.dumps({"id": "a", "text": "x" * ((1 << 20) + 1)}), 413, "too_large", limit=1 << 20)
line("meta_over_64_kib", json.dumps({"id": "a", "meta": {"x": "y" * (64 << 10)}}), 413, "too_large", limit=64 << 10)
line("not_json", "hello", 400, "bad_json")
line("an_array", '["a"]', 400, "bad_json")
line("a_string", '"a"', 400, "bad_json")
line("blank", "   ", 400, "bad_json")
line("empty", "", 400, "bad_json")
line("cut", '{"id":"a"', 400, "bad_json")
line("two_objects", '{"id":"a"}{"id":"b"}', 400, "bad_json")
line("trailing_comma", '{"id":"a",}', 400, "bad_json")
line("single_quotes", "{'id':'a'}", 400, "bad_json")
line("comment", '{"id":"a"} // x', 400, "bad_json")
line("duplicate_member", '{"id":"a","id":"b"}', 400, "bad_json")
line("duplicate_member_in_meta", '{"id":"a","meta":{"x":1,"x":2}}', 400, "bad_json")
line("bom", b'\xef\xbb\xbf{"id":"a"}', 400, "bad_json")
line("deep_meta", '{"id":"a","meta":{"x":' + "[" * 64 + "]" * 64 + "}}", 400, "bad_json", limit=32)
line("deep_bomb", '{"id":"a","meta":{"x":' + "[" * 100000 + "]" * 100000 + "}}", 400, "bad_json", limit=32)
line("number_1e400", '{"id":"a","meta":{"x":1e400}}', 400, "bad_json")
line("nan", '{"id":"a","meta":{"x":NaN}}', 400, "bad_json")
line("infinity", '{"id":"a","meta":{"x":Infinity}}', 400, "bad_json")
line("leading_zero", '{"id":"a","meta":{"x":01}}', 400, "bad_json")
line("lone_high_surrogate", '{"id":"a","text":"\\ud800"}', 400, "bad_json")
line("lone_low_surrogate", '{"id":"a","text":"\\udc00"}', 400, "bad_json")
line("reversed_surrogates", '{"id":"a","text":"\\udc00\\ud800"}', 400, "bad_json")
line("bad_escape", '{"id":"a","text":"\\x41"}', 400, "bad_json")
line("utf_16_line", '{"id":"a"}'.encode("utf-16-le"), 400, "bad_json")
line("duplicate_id", '{"id":"fine0"}', 422, "duplicate_id")
line("duplicate_id_by_escape", '{"id":"f\\u0069ne0"}', 422, "duplicate_id")
case("line_blank_at_the_end", h.tensors([h.matrix("gradients", GOOD[:1]), ("examples", "U8", [12], b'{"id":"a"}\n\n')]), 400,
     "invalid_request", "examples", 1)

# ---- JSON documents ----------------------------------------------------------------------------------


def corpus_json(name, text, status, code, **expected):
    body = text if isinstance(text, bytes) else text.encode()
    case("create_" + name, lambda t: t.client.put("/v1/corpora/made-badly", body, type="application/json"), status, code, **expected)


corpus_json("empty_body", "", 411, "length_required")
corpus_json("empty_object", "{}", 400, "invalid_request", field="dim")
corpus_json("not_an_object", "[1]", 400, "bad_json")
corpus_json("a_number", "7", 400, "bad_json")
corpus_json("cut", '{"dim":', 400, "bad_json")
corpus_json("trailing_junk", '{"dim":4} x', 400, "bad_json")
corpus_json("bom", b'\xef\xbb\xbf{"dim":4}', 400, "bad_json")
corpus_json("utf_16", '{"dim":4}'.encode("utf-16"), 400, "bad_utf8")
corpus_json("bad_utf8", b'{"dim":4,"model":"\xff"}', 400, "bad_utf8", index=18)
corpus_json("depth", '{"dim":4,"projection":' + '{"a":' * 40 + "1" + "}" * 40 + "}", 400, "bad_json", limit=32)
corpus_json("depth_bomb", "[" * 1000000, 400, "bad_json", limit=32)
corpus_json("million_members", '{"dim":4,"sample":{' + ",".join('"%d":1' % i for i in range(1 << 19)) + "}}", 413, "too_large", limit=1 << 20)
corpus_json("hundred_thousand_members", '{"dim":4,"sample":{' + ",".join('"%d":1' % i for i in range(100000)) + "}}", 413, "too_large",
            limit=256 << 10)
corpus_json("million_commas", "[" + "1," * (1 << 20) + "1]", 413, "too_large")
corpus_json("ten_megabytes", '{"dim":4,"model":"' + "x" * (10 << 20) + '"}', 413, "too_large", limit=8 << 20)
corpus_json("1e400", '{"dim":1e400}', 400, "bad_json")
corpus_json("long_number", '{"dim":' + "9" * 5000 + "}", 400, "bad_json")
corpus_json("lone_surrogate", '{"dim":4,"model":"\\ud800"}', 400, "bad_json")
corpus_json("nul", '{"dim":4,"model":"a\\u0000b"}', 400, "bad_json")
corpus_json("duplicate_member", '{"dim":4,"dim":5}', 400, "bad_json")
corpus_json("unknown_member", '{"dim":4,"dtpye":"f16"}', 400, "invalid_request", field="dtpye")
for word, value in (("0", "0"), ("negative", "-1"), ("float", "4.0"), ("string", '"4"'), ("null", "null"), ("true", "true"),
                    ("array", "[4]"), ("1048577", "1048577"), ("2_32", "4294967296"), ("2_63", "9223372036854775807")):
    corpus_json("dim_" + word, '{"dim":%s}' % value, 400, "invalid_request", field="dim")
for word, value in (("F32", '"F32"'), ("f64", '"f64"'), ("empty", '""'), ("number", "32"), ("null", "null")):
    corpus_json("dtype_" + word, '{"dim":4,"dtype":%s}' % value, 400, "invalid_request", field="dtype")
for word, value in (("empty", "[]"), ("object", "{}"), ("sum_short", '[{"name":"a","dim":3}]'), ("sum_long", '[{"name":"a","dim":5}]'),
                    ("twice", '[{"name":"a","dim":2},{"name":"a","dim":2}]'), ("no_name", '[{"dim":4}]'), ("no_dim", '[{"name":"a"}]'),
                    ("zero", '[{"name":"a","dim":0},{"name":"b","dim":4}]'), ("negative", '[{"name":"a","dim":-4},{"name":"b","dim":8}]'),
                    ("unknown", '[{"name":"a","dim":4,"p":1}]'), ("strings", '["a"]'), ("control", '[{"name":"a\\n","dim":4}]')):
    corpus_json("blocks_" + word, '{"dim":4,"blocks":%s}' % value, 400, "invalid_request",
                field="blocks")
corpus_json("blocks_1025", json.dumps({"dim": 1025, "blocks": [{"name": str(i), "dim": 1} for i in range(1025)]}), 400,
            "invalid_request", field="blocks", limit=1024)
corpus_json("encoded_string", '{"dim":4,"encoded":"true"}', 400, "invalid_request", field="encoded")
corpus_json("projection_string", '{"dim":4,"projection":"x"}', 400, "invalid_request", field="projection")
corpus_json("model_number", '{"dim":4,"model":7}', 400, "invalid_request", field="model")
case("corpus_conflict", sends("PUT", "/v1/corpora/victim", {"dim": DIM + 1}), 409, "corpus_conflict")
case("corpus_conflict_dtype", sends("PUT", "/v1/corpora/victim", {"dim": DIM, "dtype": "f16"}), 409, "corpus_conflict")

for word, text, code, expected in (
        ("cut", '{"queries":[[1', "bad_json", {}), ("array", "[[1,2]]", "bad_json", {}), ("missing", "{}", "invalid_request", {}),
        ("empty", '{"queries":[]}', "invalid_request", {}), ("flat", '{"queries":[1,2,3,4,5,6,7,8]}', "invalid_request", {}),
        ("string", '{"queries":"x"}', "invalid_request", {}), ("text_in_row", '{"queries":[[1,2,3,4,5,6,7,"8"]]}', "invalid_request", {}),
        ("null_in_row", '{"queries":[[1,2,3,4,5,6,7,null]]}', "invalid_request", {}), ("nan", '{"queries":[[NaN]]}', "bad_json", {}),
        ("1e400", '{"queries":[[1e400,1,1,1,1,1,1,1]]}', "bad_json", {}),
        ("unknown_member", '{"queries":[[1,2,3,4,5,6,7,8]],"kk":1}', "invalid_request", {"field": "kk"}),
        ("k_negative", '{"queries":[[1,2,3,4,5,6,7,8]],"k":-1}', "invalid_request", {"field": "k"}),
        ("k_10001", '{"queries":[[1,2,3,4,5,6,7,8]],"k":10001}', "invalid_request", {"field": "k", "limit": 10000}),
        ("k_float", '{"queries":[[1,2,3,4,5,6,7,8]],"k":1.5}', "invalid_request", {"field": "k"}),
        ("k_string", '{"queries":[[1,2,3,4,5,6,7,8]],"k":"1"}', "invalid_request", {"field": "k"}),
        ("engine", '{"queries":[[1,2,3,4,5,6,7,8]],"engine":"warp"}', "invalid_request", {"field": "engine"}),
        ("precision", '{"queries":[[1,2,3,4,5,6,7,8]],"precision":"high"}', "invalid_request", {"field": "precision"}),
        ("delta_alone", '{"queries":[[1,2,3,4,5,6,7,8]],"delta":1e-9}', "invalid_request", {"field": "delta"}),
        ("delta_text", '{"queries":[[1,2,3,4,5,6,7,8]],"precision":"probabilistic","delta":"1e-9"}', "invalid_request", {"field": "delta"}),
        ("delta_0", '{"queries":[[1,2,3,4,5,6,7,8]],"precision":"probabilistic","delta":0}', "invalid_request", {"field": "delta"}),
        ("delta_1", '{"queries":[[1,2,3,4,5,6,7,8]],"precision":"probabilistic","delta":1}', "invalid_request", {"field": "delta"}),
        ("text_number", '{"queries":[[1,2,3,4,5,6,7,8]],"text":1}', "invalid_request", {"field": "text"}),
        ("depth", '{"queries":' + "[" * 40 + "]" * 40 + "}", "bad_json", {"limit": 32}),
        ("trailing", '{"queries":[[1,2,3,4,5,6,7,8]]}]', "bad_json", {}), ("duplicate", '{"k":1,"k":2,"queries":[[1]]}', "bad_json", {})):
    case("query_json_" + word, asks(text.encode(), type="application/json"), 400, code, **expected)
case("query_json_dimension", asks({"queries": [[1.0] * 7]}), 422, "wrong_dimension", "queries")
case("query_json_ragged", asks({"queries": [[1.0] * 8, [1.0] * 7]}), 422, "wrong_dimension", "queries")
case("query_json_zero", asks({"queries": [[1.0] * 8, [0.0] * 8]}), 422, "zero_gradient", "queries", 1)

case("query_json_beyond_float32", asks({"queries": [[1e39] + [1.0] * 7]}), 422, "not_finite", "queries", 0)
case("query_json_below_float32", asks({"queries": [[1.0] * 8, [1e-60] * 8]}), 422, "zero_gradient", "queries", 1)
case("query_unknown_tensor", asks(h.tensors([h.matrix("queries", GOOD[:1]), ("more", "U8", [0], b"")])), 400, "bad_safetensors", "more")
case("query_no_tensor", asks(h.tensors([h.matrix("gradients", GOOD[:1])])), 400, "bad_safetensors", "gradients")

# ---- query parameters ---------------------------------------------------------------------------------

Q = h.queries(GOOD[:1])
for name in ("k", "opponents"):
    for word, value in (("negative", "-1"), ("10001", "10001"), ("1e9", "1000000000"), ("2_31", "2147483648"), ("2_63", "9223372036854775808"),
                        ("2_64", "18446744073709551616"), ("exponent", "1e3"), ("float", "1.5"), ("empty", ""), ("word", "ten"),
                        ("hex", "0x10"), ("space", "%201"), ("plus", "%2B1"), ("trailing", "10x"), ("long", "9" * 100)):
        case(f"param_{name}_{word}", asks(Q, f"query?{name}={value}"), 400, "invalid_request", name)
for word, path, field in (("unknown", "query?kk=3", "kk"), ("engine", "query?engine=warp", "engine"), ("engine_empty", "query?engine=", "engine"),
                          ("precision", "query?precision=exact", "precision"), ("delta_alone", "query?delta=1e-3", "delta"),
                          ("delta_word", "query?precision=probabilistic&delta=small", "delta"),
                          ("delta_negative", "query?precision=probabilistic&delta=-1e-9", "delta"),
                          ("delta_nan", "query?precision=probabilistic&delta=nan", "delta"),
                          ("text_word", "query?text=maybe", "text"), ("text_2", "query?text=2", "text"),
                          ("scores_dtype", "scores?dtype=f16", "dtype"), ("scores_unknown", "scores?k=3", "k"),
                          ("twice", "query?k=1&k=2", "k")):
    case("param_" + word, asks(Q, path), 400, "invalid_request", field)
for word, path, field in (("limit_0", "examples?limit=0", "limit"), ("limit_1001", "examples?limit=1001", "limit"),
                          ("limit_negative", "examples?limit=-1", "limit"), ("limit_word", "examples?limit=all", "limit"),
                          ("after_word", "examples?after=zzz%20", "after"), ("after_empty", "examples?after=", "after"),
                          ("after_huge", "examples?after=" + "9" * 40, "after"), ("page_unknown", "examples?offset=3", "offset"),
                          ("look_unknown", "?verbose=1", "verbose"), ("example_unknown", "examples/a?x=1", "x")):
    case("param_" + word, sends("GET", "/v1/corpora/victim" + ("" if path[0] == "?" else "/") + path), 400, "invalid_request", field)
case("param_bad_escape", asks(Q, "query?k=%zz"), 400, "invalid_request")
case("param_nul", asks(Q, "query?k=1%00"), 400, "invalid_request")
case("param_17", asks(Q, "query?" + "&".join(f"p{i}=1" for i in range(17))), 400, "invalid_request")

# ---- names, in every place -----------------------------------------------------------------------------

NAMES = {"dots": "..", "dot": ".", "dots_escaped": "%2e%2e", "dot_slash": "..%2f..%2fetc%2fpasswd", "backslash": "..%5c..", "slash": "a%2Fb",
         "nul": "a%00b", "overlong": "%c0%ae%c0%ae", "upper": "Victim", "long": "a" * 64, "dash_first": "-a", "underscore_first": "_a", "space": "a%20b",
         "plus": "a+b", "colon": "a:b", "tilde": "~root", "dollar": "$HOME", "percent": "%25", "utf8": "caf%C3%A9", "newline": "a%0Ab",
         "bad_escape": "a%zz", "cut_escape": "a%2", "quote": "a%27b", "semicolon": "a;b", "star": "a*", "dot_inside": "a.b"}
for word, name in NAMES.items():
    for place, method, path, body in (("corpus", "PUT", "/v1/corpora/{}", {"dim": 4}),
                                      ("batch", "PUT", "/v1/corpora/victim/batches/{}", h.batch(GOOD[:1], ["a"])),
                                      ("look", "GET", "/v1/corpora/{}", None),
                                      ("drop", "DELETE", "/v1/corpora/{}", None),
                                      ("job", "GET", "/v1/jobs/{}", None),
                                      ("key", "DELETE", "/v1/admin/keys/{}", None)):
        if place in ("corpus", "batch"):
            expected = (400, "invalid_request")
        else:  # there is none of such a name, or the name is refused: both say so; nothing is touched
            expected = ((400, 404), ("invalid_request", "unknown_corpus", "unknown_job", "unknown_key", "unknown_route"))
        case(f"name_{place}_{word}", sends(method, path.format(name), body), *expected)
case("name_compact", sends("POST", "/v1/admin/compact?corpus=..%2fx", b""), (400, 404), ("invalid_request", "unknown_corpus"))
case("name_empty_corpus", sends("PUT", "/v1/corpora/", {"dim": 4}), 404, "unknown_route")
case("name_empty_batch", sends("PUT", "/v1/corpora/victim/batches/", h.batch(GOOD[:1], ["a"])), 404, "unknown_route")
for word, name in (("control", "a%01"), ("newline", "a%0A"), ("overlong", "%c0%af"), ("long", "x" * 257)):
    for method in ("GET", "DELETE"):
        case(f"example_id_{word}_{method}", sends(method, f"/v1/corpora/victim/examples/{name}"), 422, "bad_id")
case("example_id_nul", sends("GET", "/v1/corpora/victim/examples/a%00b"), 400, "invalid_request")
case("example_id_unknown", sends("GET", "/v1/corpora/victim/examples/nobody"), 404, "unknown_example")
case("example_delete_unknown", sends("DELETE", "/v1/corpora/victim/examples/nobody"), 404, "unknown_example")

# ---- requests ------------------------------------------------------------------------------------------

BATCH = h.batch(GOOD, IDS)
for word, kind in (("text", "text/plain"), ("form", "application/x-www-form-urlencoded"), ("multipart", "multipart/form-data; boundary=x"),
                   ("json", "application/json"), ("numpy", "application/x-npy")):
    case("type_ingest_" + word, sends("PUT", "/v1/corpora/victim/batches/bad", BATCH, type=kind, headers={"Content-Type": kind}), 415,
         "unsupported_media_type")
case("type_create_tensors", sends("PUT", "/v1/corpora/other", b'{"dim":4}', type="application/octet-stream"), 415, "unsupported_media_type")
case("type_query_text", sends("POST", "/v1/corpora/victim/query", Q, type="text/plain"), 415, "unsupported_media_type")
case("body_missing_ingest", sends("PUT", "/v1/corpora/victim/batches/bad"), 411, "length_required")
case("body_empty_ingest", sends("PUT", "/v1/corpora/victim/batches/bad", b""), 411, "length_required")
case("body_missing_query", sends("POST", "/v1/corpora/victim/query"), 411, "length_required")
case("body_on_get", sends("GET", "/v1/corpora/victim", b"x"), 400, "invalid_request")
case("body_on_delete", sends("DELETE", "/v1/corpora/nothing", b"x"), 400, "invalid_request")
case("body_over_the_limit", sends("PUT", "/v1/corpora/victim/batches/bad", b"x" * (3 << 20)), 413, "too_large", limit=2 << 20)
case("json_body_over_the_limit", sends("POST", "/v1/corpora/victim/query", b" " * ((8 << 20) + 1), type="application/json"), 413, "too_large")
case("batch_unknown", sends("GET", "/v1/corpora/victim/batches/none"), 404, "unknown_batch")
case("batch_bad_name", sends("GET", "/v1/corpora/victim/batches/None"), 400, "invalid_request")
case("batch_of_no_corpus", sends("GET", "/v1/corpora/nowhere/batches/b"), 404, "unknown_corpus")
case("corpus_unknown_ingest", sends("PUT", "/v1/corpora/nowhere/batches/b", BATCH), 404, "unknown_corpus")
case("corpus_unknown_query", sends("POST", "/v1/corpora/nowhere/query", Q), 404, "unknown_corpus")
case("corpus_unknown_scores", sends("POST", "/v1/corpora/nowhere/scores", Q), 404, "unknown_corpus")
case("corpus_unknown_examples", sends("GET", "/v1/corpora/nowhere/examples"), 404, "unknown_corpus")
case("corpus_unknown_delete", sends("DELETE", "/v1/corpora/nowhere/examples/a"), 404, "unknown_corpus")
case("batch_conflict", sends("PUT", "/v1/corpora/victim/batches/first", BATCH), 409, "batch_conflict")
case("batch_conflict_one_bit", lambda t: t.client.put("/v1/corpora/victim/batches/first", h.batch(t.seed, t.seed_ids, metadata={"a": "b"})),
     409, "batch_conflict")
for word, value in (("other", "ab" * 32), ("short", "ab"), ("empty", ""), ("long", "a" * 100), ("word", "not-hex")):
    case("fingerprint_header_" + word, sends("PUT", "/v1/corpora/victim/batches/bad", BATCH, headers={"X-Ascribe-Fingerprint": value}), 409,
         "fingerprint_mismatch")
    case("fingerprint_metadata_" + word, h.batch(GOOD, IDS, metadata={"fingerprint": value}), 409, "fingerprint_mismatch")
for word, text in (("scope_missing", '{"label":"x"}'), ("scope_unknown", '{"scope":"root","label":"x"}'), ("scope_number", '{"scope":1}'),
                   ("label_number", '{"scope":"read","label":1}'), ("label_control", '{"scope":"read","label":"a\\n"}'),
                   ("label_long", '{"scope":"read","label":"%s"}' % ("x" * 65)), ("unknown", '{"scope":"read","expires":1}')):
    case("key_" + word, sends("POST", "/v1/admin/keys", text.encode(), type="application/json"), 400, "invalid_request")
case("key_bad_json", sends("POST", "/v1/admin/keys", b"{", type="application/json"), 400, "bad_json")
case("verify_unknown_param", sends("POST", "/v1/admin/verify?dir=/tmp", b""), 400, "invalid_request", "dir")
case("backup_unknown_param", sends("POST", "/v1/admin/backup?name=../x", b""), 400, "invalid_request", "name")


class BadInput(h.ServerCase):
    """One test a case; see the top of the file."""
    args = ("--body-limit", str(2 << 20))
    HANG = 30 * h.SLOW  # seconds: far beyond any answer of a machine that others use as well
    took = []

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        client = cls.server.client()
        r = np.random.default_rng(6)
        cls.seed, cls.seed_ids = r.standard_normal((3, DIM)).astype("f4"), ["s0", "s1", "s2"]
        for name in ("victim", "good"):
            assert client.put(f"/v1/corpora/{name}", {"dim": DIM}).status == 201
            assert client.put(f"/v1/corpora/{name}/batches/first", h.batch(cls.seed, cls.seed_ids)).status == 201
        cls.oracle = h.Oracle(DIM)
        cls.oracle.ingest(cls.seed, cls.seed_ids)
        client.close()
        cls.other = cls.server.client()

    @classmethod
    def tearDownClass(cls):
        cls.other.close()
        super().tearDownClass()
        took = sorted(cls.took)
        if took:
            print(f"figure: bad inputs: {len(took)} answered by name, 0 crashes, half of them within "
                  f"{took[len(took) // 2][0] * 1e3:.1f} ms, the longest, {took[-1][1]}, in {took[-1][0] * 1e3:.1f} ms")

    def others_are_served(self):
        q = self.seed[1] + 0.25
        got = self.other.post("/v1/corpora/good/query?k=3&opponents=3", h.queries(q))
        self.assert_status(got, 200)
        right = self.oracle.top(q, 3, 3)
        (result,) = got.json()["results"]
        for end, want in zip(("proponents", "opponents"), right):
            self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in result[end]], want)

    def run_case(self, call, expected, corpus):
        before = self.other.get("/v1/corpora").body
        begin = time.monotonic()
        reply = call(self)
        self.took.append((time.monotonic() - begin, self.id().rpartition(".")[2]))
        self.assertLess(self.took[-1][0], self.HANG, "an answer that came too late is a hang")
        if isinstance(expected["status"], tuple):
            self.assertIn(reply.status, expected["status"], repr(reply))
            self.assertIn(reply.json()["code"], expected["code"], repr(reply))
            self.assert_problem(reply, reply.status, reply.json()["code"])
        else:
            self.assert_problem(reply, **expected)
        self.assertEqual(self.other.get("/v1/corpora").body, before)
        self.others_are_served()
        self.assertTrue(self.server.alive())


def as_test(call, expected, corpus):
    return lambda self: self.run_case(call, expected, corpus)


for case_name, row in CASES.items():
    setattr(BadInput, "test_" + "".join(c if c.isalnum() else "_" for c in case_name), as_test(*row))
assert len([n for n in dir(BadInput) if n.startswith("test_")]) == len(CASES) >= 150


class Mutated(h.ServerCase):
    """Seeded damage to good requests: whatever comes of it, it is 2xx or a 4xx that says what is wrong."""
    COUNT = 2000

    def mutate(self, r, body):
        body = bytearray(body)
        head = min(len(body), 8 + int.from_bytes(body[:8], "little") if body[:1] != b"{" else len(body))
        for _ in range(int(r.integers(1, 3))):
            at = int(r.integers(head if r.random() < .6 else len(body)))  # mostly where the structure is
            kind = r.integers(6)
            if kind == 0:
                body[at] ^= 1 << int(r.integers(8))
            elif kind == 1:
                body[at] = int(r.choice(list(b'{}[]",:0-9eE\\\x00\xff')))
            elif kind == 2:
                del body[at:at + int(r.integers(1, 9))]
            elif kind == 3:
                body[at:at] = body[at:at + int(r.integers(1, 17))]
            elif kind == 4:
                digits = [i for i in range(8, head) if 48 <= body[i] <= 57]
                if digits:
                    body[int(r.choice(digits))] = 48 + int(r.integers(10))
            else:
                del body[at:]
            if not body:
                return b"{"
            head = max(1, min(head, len(body)))
        return bytes(body)

    def test_mutated_requests(self):
        r, counts = np.random.default_rng(10), {}
        self.create(self.client, "c", DIM)
        self.ingest(self.client, "c", "first", GOOD, IDS)
        rows = [{"id": f"m{i}", "text": "some text é", "meta": {"a": [1, {"b": None}], "c": 1.5e3}} for i in range(ROWS)]
        good = (("PUT", "/v1/corpora/c/batches/b{}", h.batch(GOOD, rows, metadata={"made": "here"}), None),
                ("PUT", "/v1/corpora/c/batches/b{}", h.tensors([h.lines(rows), h.matrix("gradients", GOOD, "bf16")]), None),
                ("POST", "/v1/corpora/c/query?k=3&opponents=2", h.queries(GOOD), None),
                ("POST", "/v1/corpora/c/scores", h.queries(GOOD, "f16"), None),
                ("POST", "/v1/corpora/c/query", json.dumps({"queries": GOOD.tolist(), "k": 3, "text": True}).encode(), "application/json"),
                ("PUT", "/v1/corpora/d{}", json.dumps({"dim": 8, "dtype": "f16", "blocks": [{"name": "a", "dim": 3}, {"name": "é", "dim": 5}],
                                                      "second_moment": {"eps": 1e-8}, "model": "m"}).encode(), "application/json"))
        for n in range(self.COUNT):
            method, path, body, kind = good[n % len(good)]
            reply = self.client.request(method, path.format(n), self.mutate(r, body), type=kind)
            counts[reply.status] = counts.get(reply.status, 0) + 1
            if reply.status not in (200, 201):
                self.assertLess(reply.status, 500, f"case {n}: {reply}")
                self.assert_problem(reply, reply.status, reply.json()["code"])
        self.assertGreater(sum(c for s, c in counts.items() if s >= 400), self.COUNT // 2)
        self.assertTrue(self.server.alive())
        self.wait_job(self.client, self.client.post("/v1/admin/verify"))
        print("figure: mutated requests: " + ", ".join(f"{c} x {s}" for s, c in sorted(counts.items())))


class Taken(h.ServerCase):
    """The other side of each limit: what is odd and must be taken, byte for byte."""

    def test_odd_but_well_formed_texts_come_back_exactly(self):
        texts = ["", " ", "\u0080", "\u07ff", "\u0800", "\ufffd", "\ufffe", "\uffff", "\ufdd0", "\U00010000", "\U0010ffff", "\ud7ff", "\ue000",
                 "a\u0301\u0323", "\u202eright to left\u202c", "\u200b\u200d\ufeff", "👩‍👩‍👧‍👦", "line\nbreak\r\n\ttab", "nul\0inside", "\x01\x1f\x7f\x80\x9f",
                 '"quotes" and \\ backslashes /', "</script>", "%00%2e%2e", "日本語", "x" * (1 << 20), "é" * (1 << 19)]
        r = np.random.default_rng(7)
        x = r.standard_normal((len(texts), 4)).astype("f4")
        self.create(self.client, "odd", 4)
        self.ingest(self.client, "odd", "b", x, [{"id": f"t{i}", "text": t} for i, t in enumerate(texts)])
        for i, t in enumerate(texts):
            self.assertEqual(self.client.get(f"/v1/corpora/odd/examples/t{i}").json()["text"], t, i)
        got = self.client.post(f"/v1/corpora/odd/query?k={len(texts)}", h.queries(x[0])).json()["results"][0]["proponents"]
        self.assertEqual({p["id"]: p["text"] for p in got}, {f"t{i}": t for i, t in enumerate(texts)})

    def test_odd_ids(self):
        ids = ["a", "x" * 256, "€" * 85 + "x", "..", ".", "/", "a/b", "a b", "a+b", "%2F", "?", "#", "&=", '"', "\\", "é", "e\u0301", "\U0001f600",
               "\ufeff", "\u202e", "A", "a'b", "<b>", "\u00a0", "0", "null", "{}", ";", ":", "@", "~", "*", "\uffff"]
        self.create(self.client, "odd-ids", 3)
        x = np.random.default_rng(8).standard_normal((len(ids), 3)).astype("f4")
        self.ingest(self.client, "odd-ids", "b", x, ids)
        for n, i in enumerate(ids):
            got = self.assert_status(self.client.get("/v1/corpora/odd-ids/examples/" + h.quote(i)), 200).json()
            self.assertEqual((got["id"], got["sequence"]), (i, n))
        # urllib does not escape what is unreserved; every byte may be escaped all the same.
        every = "".join(f"%{b:02x}" for b in "a".encode())
        self.assert_status(self.client.get("/v1/corpora/odd-ids/examples/" + every), 200)
        for i in ids:
            self.assert_status(self.client.delete("/v1/corpora/odd-ids/examples/" + h.quote(i)), 204)
        self.assertEqual(self.client.get("/v1/corpora/odd-ids").json()["examples"], 0)

    def test_metas_keep_every_digit_and_member(self):
        metas = ["{}", '{"n":12345678901234567890123}', '{"f":0.1000000000000000055511151231257827}', '{"e":1E+2}', '{"z":-0.0}',
                 '{"s":"a\\u0000b","t":"\\ud83d\\ude00","u":"\\/"}', '{"b":true,"a":[1,[2,{"c":null}]],"aa":{}}', '{"":""}',
                 '{"deep":' + "[" * 29 + "]" * 29 + "}", '{"big":"' + "y" * ((64 << 10) - 10) + '"}']
        rows = b"".join(b'{ "id" : "m%d" , "meta" : %s }\n' % (i, m.encode()) for i, m in enumerate(metas))
        x = np.random.default_rng(9).standard_normal((len(metas), 2)).astype("f4")
        self.create(self.client, "metas", 2)
        body = h.tensors([h.matrix("gradients", x), ("examples", "U8", [len(rows)], rows)])
        self.assert_status(self.client.put("/v1/corpora/metas/batches/b", body), 201)
        for i, m in enumerate(metas):
            raw = self.client.get(f"/v1/corpora/metas/examples/m{i}").body.decode()
            self.assertIn('"meta":' + m, raw)

    def test_a_body_without_a_type_is_octets(self):
        self.create(self.client, "untyped", 2)
        for name, value in (("b1", None), ("b2", "")):
            reply = self.client.put(f"/v1/corpora/untyped/batches/{name}", h.batch([[1, 2]], [name]), headers={"Content-Type": value})
            self.assert_status(reply, 201)

    def test_limits_are_inclusive(self):
        self.create(self.client, "edge", 2)
        self.assert_status(self.client.put("/v1/corpora/" + "a" * 63, {"dim": 1}), 201)
        self.assert_status(self.client.put("/v1/corpora/0_-", {"dim": 1048576}), 201)
        self.ingest(self.client, "edge", "z" * 63, np.ones((65536, 2)), [f"i{i}" for i in range(65536)], "f16")
        self.assert_status(self.client.get("/v1/corpora/edge/examples?limit=1000"), 200)
        got = self.client.post("/v1/corpora/edge/query?k=10000&opponents=10000&text=0", h.queries([1, 1])).json()["results"][0]
        self.assertEqual([p["sequence"] for p in got["proponents"]], list(range(10000)))
        self.assertEqual([p["sequence"] for p in got["opponents"]], list(range(10000)))
        got = self.client.post("/v1/corpora/edge/query?k=1&text=0", h.queries(np.ones((1024, 2)))).json()
        self.assertEqual(len(got["results"]), 1024)

    def test_tiny_and_huge_gradients_have_a_direction(self):
        values = [1.4e-45, 1e-38, 3.4e38, 65504.0, 6e-8]
        x = np.array([[v, 0, v, -v] for v in values], "f4")
        oracle = h.Oracle(4)
        self.create(self.client, "scale", 4)
        self.ingest(self.client, "scale", "b", x, [str(i) for i in range(len(values))])
        oracle.ingest(x, [str(i) for i in range(len(values))])
        for q in ([1, 1, 1, 1], [1e-44, 0, 0, 0], [3e38, -3e38, 0, 1]):
            got = self.client.post("/v1/corpora/scale/query?k=9", h.queries(q)).json()["results"][0]["proponents"]
            self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in got], oracle.top(q, 9)[0])
        for n in range(len(values)):
            norm = self.client.get(f"/v1/corpora/scale/examples/{n}").json()["norm"]
            self.assertEqual(struct.pack("<d", norm), struct.pack("<d", oracle.norms[n]))


if __name__ == "__main__":
    h.main()
