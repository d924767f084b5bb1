"""cases.py - requests that two parsers could take differently, which is what request smuggling lives
on (RFC 9112, sections 2.2, 3, 5.1, 6.1, 6.3, 7.1; "HTTP Desync Attacks").

CASES are (name, bytes). made(rng) puts one together by chance from the same pieces and then, mostly,
spoils some bytes of it.
"""
H = b"Host: x\r\n"
POST = b"POST /probe HTTP/1.1\r\n" + H
GET = b"GET /probe HTTP/1.1\r\n" + H
INNER = b"GET /inner HTTP/1.1\r\n" + H + b"\r\n"
CL5 = b"Content-Length: 5\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
BODY = b"5\r\nhello\r\n0\r\n\r\n"

ENCODINGS = [
    b"chunked ", b"\tchunked", b"  chunked\t", b"Chunked", b"CHUNKED", b"chunked;q=1", b"chunked; a=b", b"chunked,",
    b",chunked", b", ,chunked", b"chunked, chunked", b"chunked chunked", b"identity", b"identity, chunked",
    b"chunked, identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"deflate,chunked", b"compress", b"x-chunked",
    b"xchunked", b"chunke", b"chunkedd", b"chunked\x0b", b"\x0bchunked", b"\x0cchunked", b"chunked\0", b"\0chunked",
    b"chun\0ked", b"\xa0chunked", b"chunked\xa0", b'"chunked"', b"'chunked'", b"[chunked]", b"", b" ", b"cow", b"null",
    b"trailers", b"chunked\x7f", b"chunked\r", b"\rchunked", b"chu\r\n nked", b"\r\n chunked", b"\n chunked",
    b"chunked\n", b"0", b"\xe2\x80\x8bchunked", b"chun\xc4\xb7ed",
]
LENGTHS = [
    b"05", b"0000000005", b"5 ", b"\t5", b"5\t ", b"+5", b"-5", b"0x5", b"5a", b"a5", b"5,5", b"5, 5", b"5,6", b"5,", b",5",
    b"5 5", b"5;5", b"5.0", b"5e0", b"", b" ", b'"5"', b"\xef\xbc\x95", b"\xd9\xa5", b"9223372036854775808",
    b"18446744073709551616", b"18446744073709551621", b"4294967301", b"99999999999999999999999999999999", b"00", b"-0",
    b"+0", b"0x", b"5\x0b", b"\x0c5", b"5\0", b"\0005", b"5_0", b"0b101", b"0o5", b"NaN", b"5\r", b"\r\n 5", b"5\n",
    b"5\xa0", b"(5)",
]
NAMES = [b"%s ", b"%s\t", b" %s", b"\t%s", b"%s\0", b"%s\x0b", b"%s\r", b"\r%s", b"%s\xff", b"\xef\xbb\xbf%s", b"%s:", b":%s",
         b"(%s)", b'"%s"', b"X: y\n%s", b"X: y\r%s", b"X: y\r\n %s", b"X: y\0%s"]
SIZES = [b"5 ", b" 5", b"5\t", b"\t5", b"+5", b"-5", b"0x5", b"0X5", b"05", b"0000000000000005", b"00000000000000000000005",
         b"5g", b"g5", b"", b"5.", b"5,", b"5_", b"10000000000000005", b"100000005", b"ffffffffffffffff", b"fffffffffffffffb",
         b"5;", b"5;a", b"5;a=b", b"5 ;a=b", b'5;a="b"', b'5;a="b;c"', b'5;a="\r\n0\r\n\r\n"', b"5;a=b\nX", b"5;a=b\rX",
         b"5;\0", b"5;\xff", b"5\r", b"5\0", b"5\x0b", b"\xef\xbc\x95", b"5;" + b"x" * 5000, b"5:a", b"5\n", b"5 a"]
TARGETS = [b"http://x/probe", b"HTTP://x/probe", b"https://x/probe", b"http://evil/probe", b"http://user:pw@x/probe",
           b"http://x:99999/probe", b"http:/probe", b"http:///probe", b"http://x", b"ftp://x/probe", b"//x/probe",
           b"/../probe", b"/./probe", b"/%2e%2e/probe", b"/probe/..;/x", b"/probe%00", b"/probe%0d%0aX:%20y", b"/probe%zz",
           b"/probe#x", b"/probe?a=b#c", b"/pr\xc3\xb6be", b"/pro\0be", b"/pro\x7fbe", b"/pro\\be", b"\\probe", b"*", b"probe",
           b"", b"?x", b"/probe x", b"/probe\tx", b"/probe\x0bx", b"/" + b"a" * 4095, b"/" + b"a" * 5000,
           b"/" + b"a" * 70000, b"x:80", b"/probe?" + b"&" * 300]
LINES = [b"GET\t/probe\tHTTP/1.1", b"GET  /probe HTTP/1.1", b"GET /probe  HTTP/1.1", b" GET /probe HTTP/1.1",
         b"GET /probe HTTP/1.1 ", b"GET /probe HTTP/1.1\t", b"GET /probe HTTP/1.2", b"GET /probe HTTP/2.0", b"GET /probe HTTP/0.9",
         b"GET /probe HTTP/01.1", b"GET /probe HTTP/1.01", b"GET /probe HTTP/1.10", b"GET /probe HTTP/1", b"GET /probe HTTP/1.",
         b"GET /probe HTTP/11", b"GET /probe http/1.1", b"GET /probe HTTPS/1.1", b"GET /probe XTTP/1.1", b"GET /probe",
         b"GET", b"get /probe HTTP/1.1", b"G\0ET /probe HTTP/1.1", b"GE\rT /probe HTTP/1.1", b"FETCH /probe HTTP/1.1",
         b"TRACE /probe HTTP/1.1", b"CONNECT x:443 HTTP/1.1", b"CONNECT /probe HTTP/1.1", b"OPTIONS * HTTP/1.1",
         b"OPTIONS /probe HTTP/1.1", b"HEAD /probe HTTP/1.1", b"DELETE /probe HTTP/1.1", b"GET /probe HTTP/1.1\0",
         b"GET /probe HTTP/\xef\xbc\x91.1", b"PURGE /probe HTTP/1.1", b"SOURCE /probe ICE/1.0", b"DESCRIBE /probe RTSP/1.0"]
FIELDS = [b"X: a\0b", b"X\0: b", b"X\x01: b", b"X: \x01", b"X: \x7f", b"X: \xff\xfe", b"X: \x08", b"nonsense", b": x", b":", b"X:",
          b"X", b"X y: z", b"X\xc3\xb6: y", b"X: a\rContent-Length: 5", b"X: a\nContent-Length: 5", b"X: a\r\n\tfolded",
          b"X:\r\n folded", b"X: " + b"a" * 7000, b"X: " + b"a" * 20000, b"X: 1\r\n" * 63, b"X: 1\r\n" * 120, b"=: y", b"{: y",
          b"Connection: close", b"Connection: keep-alive, close", b"Connection: CLOSE", b"Connection: Content-Length",
          b"Connection: Transfer-Encoding", b"Connection: Host, Authorization", b"Connection: close\r\nConnection: keep-alive",
          b"Connection: ,,close,,", b"Connection: closed", b"Keep-Alive: timeout=0", b"Proxy-Connection: close",
          b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
          b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==",
          b"Host: y", b"Host : y", b"host: y", b"Host:", b"TE: trailers", b"Trailer: Content-Length",
          b"X-HTTP-Method-Override: DELETE", b"X-Forwarded-For: 127.0.0.1\0", b"Content-Encoding: gzip"]
HOSTS = [b"", b"Host: a\r\nHost: b\r\n", b"Host: a\r\nHost: a\r\n", b"Host:\r\n", b"Host: x y\r\n", b"Host: x,y\r\n",
         b"Host: x/y\r\n", b"Host: x:port\r\n", b"Host: [::1\r\n", b"Host: x\0\r\n", b"Host: \xff\r\n", b"Host: x@y\r\n", b" Host: x\r\n"]
TRAILERS = [b"Content-Length: 50\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"X: y\r\n", b"nonsense\r\n",
            b"X : y\r\n", b" X: y\r\n", b"X: y\n", b"X: a\rb\r\n", b"X: a\0b\r\n", b"X: " + b"a" * 9000 + b"\r\n", b"X: y\r\n" * 200,
            b": y\r\n"]
ENDINGS = [b"5\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\r\n0\n\r\n", b"5\r\nhello\r\n0\r\n\n",
           b"5\r\nhello\r\n0\n\n", b"5\nhello\n0\n\n", b"5\r\nhello\r0\r\n\r\n", b"5\rhello\r\n0\r\n\r\n", b"5\r\nhell\r\n0\r\n\r\n",
           b"5\r\nhello!\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n", b"5\r\nhello\r\n",
           b"5\r\nhello\r\n00\r\n\r\n", b"5\r\nhello\r\n000000000000000000\r\n\r\n", b"5\r\nhello\r\n-0\r\n\r\n", b"5\r\nhello\r\n0;x\r\n\r\n",
           b"5\r\nhello\r\n0\r\n\r\n\r\n", b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\r\n\r\n", b"A\r\nhellohello\r\n0\r\n\r\n",
           b"a\r\nhellohello\r\n0\r\n\r\n", b"1\r\nh\r\n" * 300 + b"0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n"]
EXPECTS = [b"100-continue", b"100-Continue", b"200-ok", b"100-continue, x", b"", b"100-continue\r\nExpect: 100-continue", b"x"]
PAIRS = [(b"Content-Length: 5", b"Content-Length: 5"), (b"Content-Length: 5", b"Content-Length: 6"),
         (b"Content-Length: 0", b"Content-Length: 5"), (b"Content-Length: 5", b"content-length: 05"),
         (b"Content-Length: 5", b"Content-Length:"), (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
         (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), (b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
         (b"Transfer-Encoding: cow", b"Transfer-Encoding: chunked"), (b"Transfer-Encoding:", b"Transfer-Encoding: chunked"),
         (b"Transfer-Encoding: chunked", b"transfer_encoding: identity"), (b"Content-Length: 5", b"Content_Length: 9"),
         (b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked")]


def spoken(x):
    """Bytes as part of a name: what can be read, and no more of it than that."""
    text = repr(x)[2:-1]
    return text if len(text) <= 34 else f"{text[:24]}... of {len(x)}"


def _cases():
    yield "plain", POST + CL5 + b"\r\nhello"
    yield "chunked", POST + TE + b"\r\n" + BODY
    yield "two requests", GET + b"\r\n" + GET + b"\r\n"
    yield "a GET with a body", GET + CL5 + b"\r\nhello"
    yield "lines before", b"\r\n\r\n" + GET + b"\r\n"
    yield "line feeds before", b"\n\n" + GET + b"\r\n"
    yield "bare line feeds", b"POST /probe HTTP/1.1\nHost: x\nContent-Length: 5\n\nhello"
    yield "a line feed ends the head", POST + b"Content-Length: 5\r\n\nhello"
    yield "two carriage returns end the head", POST + b"Content-Length: 5\r\n\r\r\nhello"
    yield "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield "TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 80
    yield "PROXY line", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + GET + b"\r\n"
    for x in ENCODINGS:
        yield f"encoding {spoken(x)}", POST + b"Transfer-Encoding: " + x + b"\r\n\r\n" + BODY
        yield f"length, encoding {spoken(x)}", POST + CL5 + b"Transfer-Encoding: " + x + b"\r\n\r\n" + BODY
    for x in LENGTHS:
        yield f"length {spoken(x)}", POST + b"Content-Length: " + x + b"\r\n\r\nhello"
    for x in NAMES:
        yield f"name {spoken(x % b'length')}", POST + x % b"Content-Length" + b": 5\r\n\r\nhello"
        yield f"name {spoken(x % b'encoding')}", POST + x % b"Transfer-Encoding" + b": chunked\r\n\r\n" + BODY
    for a, b in PAIRS:
        body = b"hello" if b"Length" in a else BODY
        yield f"both {spoken(a)}, {spoken(b)}", POST + a + b"\r\n" + b + b"\r\n\r\n" + body
    yield "length and chunks", POST + CL5 + TE + b"\r\n" + BODY
    yield "chunks and length", POST + TE + CL5 + b"\r\n" + BODY
    yield "chunks and two lengths", POST + TE + CL5 + CL5 + b"\r\n" + BODY
    for x in SIZES:
        yield f"chunk size {spoken(x)}", POST + TE + b"\r\n" + x + b"\r\nhello\r\n0\r\n\r\n"
    for x in ENDINGS:
        yield f"chunks {spoken(x)}", POST + TE + b"\r\n" + x
    for x in TRAILERS:
        yield f"trailer {spoken(x)}", POST + TE + b"\r\n5\r\nhello\r\n0\r\n" + x + b"\r\n"
    for x in TARGETS:
        yield f"target {spoken(x)}", b"GET " + x + b" HTTP/1.1\r\n" + H + b"\r\n"
    for x in LINES:
        yield f"line {spoken(x)}", x + b"\r\n" + H + b"\r\n"
    for x in FIELDS:
        yield f"field {spoken(x)}", POST + x + b"\r\n" + CL5 + b"\r\nhello"
    for x in HOSTS:
        yield f"hosts {spoken(x)}", b"POST /probe HTTP/1.1\r\n" + x + CL5 + b"\r\nhello"
    for x in EXPECTS:
        yield f"expect {spoken(x)}", POST + b"Expect: " + x + b"\r\n" + CL5 + b"\r\nhello"
    for more, what in ((b"", ""), (b"Connection: keep-alive\r\n", ", kept")):
        old = b"POST /probe HTTP/1.0\r\n" + H + more
        yield "1.0 with length" + what, old + CL5 + b"\r\nhello"
        yield "1.0 with chunks" + what, old + TE + b"\r\n" + BODY
        yield "1.0 with both" + what, old + CL5 + TE + b"\r\n" + BODY
        yield "1.0 without length" + what, old + b"\r\nhello"
    yield "1.0 without Host", b"GET /probe HTTP/1.0\r\n\r\n"


CASES = list(_cases())
SPOILERS = [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b"\x0b", b"\x0c", b",", b";", b":", b"\xff", b"0", b"5", b"\x7f", b"\r\n ", b'"']


def made(rng):
    """One request by chance, rng a random.Random."""
    head = rng.choice([POST] * 4 + [GET, b"POST /probe HTTP/1.0\r\n" + H])
    fields = [rng.choice((CL5, TE))] * rng.choice((0, 1, 1, 1))
    for _ in range(rng.choice((0, 1, 1, 2))):
        fields.append(rng.choice((
            lambda: b"Transfer-Encoding: " + rng.choice(ENCODINGS) + b"\r\n",
            lambda: b"Content-Length: " + rng.choice(LENGTHS) + b"\r\n",
            lambda: rng.choice(NAMES) % rng.choice((b"Content-Length", b"Transfer-Encoding")) + b": 5\r\n",
            lambda: rng.choice(FIELDS)[:400] + b"\r\n"))())
    rng.shuffle(fields)
    chunks = rng.choice((BODY, BODY, rng.choice(ENDINGS), rng.choice(SIZES)[:40] + b"\r\nhello\r\n0\r\n\r\n"))
    data = bytearray(head + b"".join(fields) + b"\r\n" + rng.choice((chunks, chunks, b"hello", b"")))
    start = len(head) - len(H)
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(start, len(data))
        if data[at:at + len(H)] == H:
            continue
        data[at:at + rng.choice((0, 0, 1))] = rng.choice(SPOILERS)
    return bytes(data)
