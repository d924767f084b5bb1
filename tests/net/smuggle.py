"""smuggle.py - requests that two parsers could take differently, which is what request smuggling lives
on (RFC 9112, sections 5.1, 6.1, 6.3, 7.1; "HTTP Desync Attacks"), and what a server makes of each.

CASES are (name, bytes). verdict(address, bytes) says what came back: the answers, and whether the
connection was closed after them. A request is taken when its answer does not say that its bytes are
no request; what else is wrong with it (no such route, a body that is no JSON) is no matter here.
"""
import re
import socket

END = b"\r\n\r\n"
H = b"Host: x\r\n"
POST = b"POST /probe HTTP/1.1\r\n" + H
GET = b"GET /probe HTTP/1.1\r\n" + H
INNER = b"GET /inner HTTP/1.1\r\n" + H + b"\r\n"
CL5 = b"Content-Length: 5\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
BODY = b"5\r\nhello\r\n0\r\n\r\n"

CASES = [
    ("plain", POST + CL5 + b"\r\nhello"),
    ("chunked", POST + TE + b"\r\n" + BODY),
    ("two requests", GET + b"\r\n" + GET + b"\r\n"),
    ("length and chunks", POST + CL5 + TE + b"\r\n" + BODY),
    ("chunks and length", POST + TE + CL5 + b"\r\n" + BODY),
    ("two lengths that differ", POST + CL5 + b"Content-Length: 6\r\n\r\nhello!"),
    ("two lengths that agree", POST + CL5 + CL5 + b"\r\nhello"),
    ("a list of lengths", POST + b"Content-Length: 5, 5\r\n\r\nhello"),
    ("length with a sign", POST + b"Content-Length: +5\r\n\r\nhello"),
    ("negative length", POST + b"Content-Length: -5\r\n\r\nhello"),
    ("hex length", POST + b"Content-Length: 0x5\r\n\r\nhello"),
    ("length with text", POST + b"Content-Length: 5a\r\n\r\nhello"),
    ("empty length", POST + b"Content-Length: \r\n\r\nhello"),
    ("length of 2^64", POST + b"Content-Length: 18446744073709551616\r\n\r\nhello"),
    ("length of 2^64+5", POST + b"Content-Length: 18446744073709551621\r\n\r\nhello"),
    ("space before the colon", POST + b"Content-Length : 5\r\n\r\nhello"),
    ("tab before the colon", POST + b"Transfer-Encoding\t: chunked\r\n\r\n" + BODY),
    ("folded line", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + BODY),
    ("folded after a value", POST + b"X: y\r\n Content-Length: 5\r\n\r\n"),
    ("space before a name", POST + b" Content-Length: 5\r\n\r\nhello"),
    ("chunked in capitals", POST + b"Transfer-Encoding: CHUNKED\r\n\r\n" + BODY),
    ("chunked, identity", POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + BODY),
    ("identity", POST + b"Transfer-Encoding: identity\r\n" + CL5 + b"\r\nhello"),
    ("gzip, chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY),
    ("xchunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY),
    ("chunked twice", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + BODY),
    ("two encodings fields", POST + TE + b"Transfer-Encoding: cow\r\n\r\n" + BODY),
    ("quoted chunked", POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + BODY),
    ("vertical tab", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + BODY),
    ("chunked in 1.0", b"POST /probe HTTP/1.0\r\n" + H + TE + b"\r\n" + BODY),
    ("bare LF lines", b"POST /probe HTTP/1.1\nHost: x\nContent-Length: 5\n\nhello"),
    ("bare CR", POST + b"X: a\rContent-Length: 5\r\n\r\nhello"),
    ("LF ends the head", POST + b"Content-Length: 5\r\n\nhello"),
    ("NUL in a value", POST + b"X: a\0b\r\n\r\n"),
    ("NUL in a name", POST + b"X\0: b\r\n\r\n"),
    ("control byte in a name", POST + b"X\x01: b\r\n\r\n"),
    ("no colon", POST + b"nonsense\r\n\r\n"),
    ("empty name", POST + b": x\r\n\r\n"),
    ("chunk size with a sign", POST + TE + b"\r\n+5\r\nhello\r\n0\r\n\r\n"),
    ("chunk size with 0x", POST + TE + b"\r\n0x5\r\nhello\r\n0\r\n\r\n"),
    ("chunk size of 2^64+5", POST + TE + b"\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("chunk size empty", POST + TE + b"\r\n\r\nhello\r\n0\r\n\r\n"),
    ("space before a chunk size", POST + TE + b"\r\n 5\r\nhello\r\n0\r\n\r\n"),
    ("space after a chunk size", POST + TE + b"\r\n5 \r\nhello\r\n0\r\n\r\n"),
    ("bare LF after a chunk size", POST + TE + b"\r\n5\nhello\r\n0\r\n\r\n"),
    ("bare LF after a chunk", POST + TE + b"\r\n5\r\nhello\n0\r\n\r\n"),
    ("no line end after a chunk", POST + TE + b"\r\n5\r\nhello0\r\n\r\n"),
    ("LF in a chunk extension", POST + TE + b"\r\n5;a=b\nX\r\nhello\r\n0\r\n\r\n"),
    ("trailer says a length", POST + TE + b"\r\n0\r\nContent-Length: 50\r\n\r\n" + INNER),
    ("a GET with a body", GET + CL5 + b"\r\nhello" + INNER),
    ("zero length then more", POST + b"Content-Length: 0\r\n\r\n" + INNER),
    ("two Hosts", b"GET /probe HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("no Host", b"GET /probe HTTP/1.1\r\n\r\n"),
    ("tabs in the request line", b"GET\t/probe\tHTTP/1.1\r\n" + H + b"\r\n"),
    ("two spaces in the request line", b"GET  /probe HTTP/1.1\r\n" + H + b"\r\n"),
    ("space in the target", b"GET /probe x HTTP/1.1\r\n" + H + b"\r\n"),
    ("version 1.2", b"GET /probe HTTP/1.2\r\n" + H + b"\r\n"),
    ("version 2.0", b"GET /probe HTTP/2.0\r\n" + H + b"\r\n"),
    ("version 0.9", b"GET /probe\r\n\r\n"),
    ("lower-case http", b"GET /probe http/1.1\r\n" + H + b"\r\n"),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 80),
    ("upgrade h2c", GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"),
    ("CONNECT", b"CONNECT x:443 HTTP/1.1\r\n" + H + b"\r\n"),
    ("lines before", b"\r\n\r\n" + GET + b"\r\n"),
    ("absolute target of another host", b"GET http://evil/probe HTTP/1.1\r\n" + H + b"\r\n"),
    ("fragment in the target", b"GET /probe#x HTTP/1.1\r\n" + H + b"\r\n"),
    ("high byte in the target", b"GET /pr\xc3\xb6be HTTP/1.1\r\n" + H + b"\r\n"),
    ("NUL in the target", b"GET /pro\0be HTTP/1.1\r\n" + H + b"\r\n"),
]
OURS = ("bad_http", "headers_too_large", "uri_too_long")
REFUSALS = ("400", "411", "431", "501", "505")


def with_key(data, key):
    """The same bytes as somebody with a key would send them, to a route that reads its body."""
    more = f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n".encode()
    return data.replace(H, H + more).replace(b"POST /probe", b"POST /v1/corpora/none/search")


def verdict(address, data, timeout=1.0):
    """([answers], closed): an answer is the code of its problem document, else its status."""
    out, closed = b"", False
    with socket.create_connection(address, timeout=10) as s:
        s.settimeout(timeout)
        try:
            s.sendall(data)
            while True:
                part = s.recv(65536)
                if not part:
                    closed = True
                    break
                out += part
        except socket.timeout:
            pass
        except ConnectionError:
            closed = True
    found = []
    for answer in re.split(rb"(?=HTTP/1\.[01] \d{3} )", out)[1:]:
        code = re.search(rb'"code":"(\w+)"', answer)
        found.append(code.group(1).decode() if code else answer[9:12].decode())
    return [x for x in found if x != "100"], closed


def taken(found):
    """How many requests a server made of the bytes: those it did not refuse."""
    return sum(1 for x in found[0] if x not in REFUSALS and x not in OURS)
