"""smuggle.py - what a server makes of bytes that two parsers could take differently (cases.py), held
against Node's parser and nginx's.

Each case is sent twice, as it is and with a further request behind it, and then the sending side is
shut, so that every server answers what it has and closes. A request is taken when its answer does
not say that its bytes are no request; what else is wrong with it (no such route, a body that is no
JSON) is no matter. How many of the two are taken says where a server sees the first one end. Ours
may take fewer than a peer does, if it says so and closes; it may never take more, nor fewer in
silence, which would leave bytes that one of the two reads as a request and the other as a body.
"""
import concurrent.futures
import random
import re
import socket

from cases import CASES, H, INNER, made

OURS = ("bad_http", "headers_too_large", "uri_too_long", "too_large", "length_required")
EARLY = ("unknown_route", "unauthorized", "invalid_request", "method_not_allowed",
         "unsupported_media_type")  # with a body: not read
REFUSALS = ("400", "411", "413", "414", "431", "494", "501", "505")

# Where a peer takes fewer requests than ours, and why that is no danger: (who, pattern in the bytes, why).
LAXER = [
    ("Node", rb"\r\n0\r\n(Content-Length|Transfer-Encoding):", "trailers frame nothing (RFC 9110, section 6.5.1)"),
    ("Node", rb"^CONNECT /", "it closes without an answer; here a method like any other, and refused"),
    ("Node", rb"\nProxy-Connection: close", "it is no header of HTTP; there it ends the connection"),
    ("Node", rb"\nUpgrade: ", "it stops to read where an upgrade was offered; here nobody takes one up"),
    ("nginx", rb"^GET (http://user:pw@|/(\.\.|%2e%2e)/|/probe%(00|zz))", "it judges paths; no bytes move"),
    ("nginx", rb"\nHost:[ \t]*\r", "an empty Host is lawful (RFC 9112, section 3.2)"),
]


def with_key(data, key):
    """The same bytes as somebody with a key would send them, to a route that reads its body."""
    more = f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n".encode()
    return data.replace(H, H + more).replace(b"POST /probe", b"POST /v1/corpora/none/search")


def verdict(address, data, timeout=60.0):
    """([answers], closed as told): an answer is the code of its problem document, else its status.
    Who has not closed after `timeout` seconds has said "hangs"."""
    out = b""
    with socket.create_connection(address, timeout=10) as s:
        s.settimeout(timeout)
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while True:
                part = s.recv(65536)
                if not part:
                    break
                out += part
        except TimeoutError:
            return ["hangs"], False
        except OSError:
            pass  # it closed before it had everything
    found, told = [], False
    for answer in re.split(rb"(?=HTTP/1\.[01] \d{3} )", out)[1:]:
        code = re.search(rb'"code":"(\w+)"', answer)
        found.append(code.group(1).decode() if code else answer[9:12].decode())
        told = re.search(rb"(?im)^connection: close", answer) is not None
    return [x for x in found if x != "100"], told


def taken(found):
    """How many requests a server made of the bytes: those it did not refuse. Of one that it answered by
    its head alone and closed, nothing is known: nor does it matter where it ended."""
    answers = found[0][:-1] if found[1] and found[0][-1] in EARLY else found[0]
    return sum(x not in REFUSALS and x not in OURS and x != "hangs" for x in answers)


def judge(ours, theirs):
    """'same', 'stricter', or what is wrong."""
    a, t = taken(ours), taken(theirs)
    if ours[0] == ["hangs"]:
        return "hangs"
    if a == t or (t and a > t and len(theirs[0]) == t and theirs[1]):
        return "same"  # as far as the peer went: it said that it closes after its answer
    if a > t:
        return "laxer"
    return "stricter" if ours[1] or len(ours[0]) > a else "silent"


def wild(seed, count):
    rng = random.Random(seed)
    return [(f"made {seed}/{i}", made(rng)) for i in range(count)]


def compare(server, peers, cases, jobs=8):
    """[(name, bytes, ours, {peer: (verdict, judgement)})] of each case, alone and followed."""
    def one(case):
        name, data = case[0], with_key(case[1], server.key)  # the same bytes to all
        ours = verdict(server.address, data)
        return name, data, ours, {p.name: (v, judge(ours, v)) for p in peers for v in [verdict(p.address, data, 2)]}
    both = [x for name, data in cases for x in ((name, data), (name + ", followed", data + INNER))]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, both))


def excused(peer, data, judgement):
    return judgement == "laxer" and any(peer.startswith(who) and re.search(what, data) for who, what, _ in LAXER)


def behind(server, nginx, cases, wait):
    """The same through nginx, one after the other: the names of cases after which ours had seen another
    number of requests than nginx had handed on."""
    wrong, ahead = [], 0

    def seen():
        return sum(" msg=request " in line for line in list(server.log))
    start = seen()
    for name, data in cases:
        verdict(nginx.front, with_key(data + INNER, server.key))
        try:
            wait(lambda: seen() - start + ahead == nginx.passed_on(), "both to have seen as many requests", 5)
        except AssertionError:
            wrong.append((name, seen() - start + ahead, nginx.passed_on()))
            ahead = nginx.passed_on() - seen() + start
    return wrong
