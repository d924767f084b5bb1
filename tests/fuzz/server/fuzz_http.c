/* fuzz_http.c - a request's head, target and chunked body as they come off a socket, in one piece
 * and in many: what is understood, and what is refused, must not depend on where the network cut. */
#include "tests/fuzz/fuzz.h"

#include "server/head.h"
#include "server/http.h"
#include "storage/base/mem.h"

struct heard {
    struct buf body;
    size_t used;
    int rc;
    bool done;
};

static int take(void *arg, const char *bytes, size_t n)
{
    buf_add(arg, bytes, n);
    return 0;
}

/* Feeds in pieces of 1 + (step & 15) bytes, or at once when step is 0. */
static int feed_head(struct head *h, const char *bytes, size_t len, unsigned step)
{
    int rc = 0;

    head_start(h);
    if (!step)
        return head_feed(h, bytes, len);
    for (size_t at = 0; !rc && !h->complete && at < len;) {
        at += 1 + (step & 15);
        step = step * 5 + 3;
        rc = head_feed(h, bytes, at < len ? at : len);
    }
    return rc;
}

static void feed_chunks(const char *bytes, size_t len, unsigned step, struct heard *out)
{
    struct chunked c = {0};
    struct err e = ERR_INIT;

    *out = (struct heard){0};
    while (!out->rc && !c.done && out->used < len) {
        size_t n = step ? 1 + (step & 15) : len, used;

        step = step ? step * 5 + 3 : 0;
        if (n > len - out->used)
            n = len - out->used;
        out->rc = chunked_feed(&c, bytes + out->used, n, &used, take, &out->body, &e);
        if (!out->rc)
            out->used += used;
    }
    out->done = c.done;
}

static void try_chunks(const char *bytes, size_t len, unsigned step)
{
    struct heard whole, cut;

    feed_chunks(bytes, len, 0, &whole);
    feed_chunks(bytes, len, step, &cut);
    fuzz_require(whole.done == cut.done && !whole.rc == !cut.rc);
    if (whole.done)
        fuzz_require(whole.used == cut.used && whole.body.len == cut.body.len &&
                     (!cut.body.len || !memcmp(whole.body.data, cut.body.data, cut.body.len)));
    buf_free(&whole.body);
    buf_free(&cut.body);
}

static void try_target(const char *text, size_t len)
{
    struct http_target t;
    struct err e = ERR_INIT;
    struct arena a = {0};

    if (!http_target(text, len, &t, &e)) {
        char *path = http_decode(&a, t.path, t.path_len, false);

        fuzz_require(t.path_len > 0 && t.path[0] == '/');
        /* "http://host" has no path of its own: it means "/" */
        fuzz_require((t.path >= text && t.path + t.path_len <= text + len) || t.path_len == 1);
        fuzz_require(!path || strlen(path) <= t.path_len);
        http_decode(&a, t.query, t.query_len, true);
    }
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct head *whole = malloc(2 * sizeof *whole), *cut = whole + 1;
    struct head_framing f = {0}, g = {0};
    struct err e = ERR_INIT, again = ERR_INIT;
    unsigned step = size ? 1 + data[0] : 1;
    const char *bytes = size ? (const char *)data + 1 : "";
    size_t len = size ? size - 1 : 0;
    size_t head_len = len < LIMIT_HEAD_BYTES ? len : LIMIT_HEAD_BYTES;
    int rc, rc_cut;

    fuzz_require(whole);
    rc = feed_head(whole, bytes, head_len, 0);
    rc_cut = feed_head(cut, bytes, head_len, step);
    /* of two things wrong with a head, the one that is told depends on which was seen first */
    fuzz_require(!rc == !rc_cut && whole->complete == cut->complete);
    if (!rc && whole->complete) {
        int framed = head_framing(whole, bytes, &f, &e);

        fuzz_require(whole->size == cut->size && whole->size <= head_len);
        fuzz_require(framed == head_framing(cut, bytes, &g, &again));
        if (!framed) {
            fuzz_require(f.chunked == g.chunked && f.length == g.length);
            fuzz_require(!(f.chunked && f.has_length)); /* what smuggling is made of */
            try_target(bytes + whole->target.at, whole->target.len);
            if (f.chunked)
                try_chunks(bytes + whole->size, len - whole->size, step);
        }
    }
    free(whole);
    try_chunks(bytes, len, step);
    return 0;
}
