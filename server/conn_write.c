/* conn_write.c - bytes out: whole replies, streamed replies, interim replies. See conn.h. */
#include <stdlib.h>
#include <string.h>

#include "server/conn.h"
#include "server/metrics.h"
#include "storage/base/mem.h"

struct out {
    uv_write_t req;
    struct conn *conn;
    size_t piece_len;           /* of a streamed reply, else 0 */
    struct stream_piece *piece; /* owned */
};

static void on_written(uv_write_t *req, int status)
{
    struct out *o = req->data;
    struct conn *c = o->conn;

    c->writes--;
    c->progress = c->server->now_ns;
    if (o->piece_len && c->x)
        stream_written(&c->x->stream, o->piece_len);
    free(o->piece);
    free(o);
    if (status < 0)
        c->gone = true;
    if (c->state != CONN_CLOSING)
        conn_step(c);
}

static void count_out(struct conn *c, size_t n)
{
    c->x->bytes_out += n;
    metrics_add(c->server->rt->metrics, METRIC_BYTES_OUT, n);
}

/* Hands bytes to libuv. They stay where they are until on_written: in the exchange, or in `piece`,
 * which is taken. */
static void write_later(struct conn *c, const uv_buf_t bufs[], unsigned count,
                        struct stream_piece *piece)
{
    struct out *o = mem_new(1, sizeof *o);

    o->req.data = o;
    o->conn = c;
    o->piece = piece;
    o->piece_len = piece ? piece->len : 0;
    if (uv_write(&o->req, &c->u.stream, bufs, count, on_written)) {
        free(o->piece);
        free(o);
        c->gone = true;
        return;
    }
    c->writes++;
}

void conn_write_reply(struct conn *c)
{
    struct exchange *x = c->x;
    size_t len, total, sent;
    const void *body = exchange_reply_body(x, &len);
    uv_buf_t bufs[2] = {conn_span(x->head.data, x->head.len),
                        conn_span((void *)(uintptr_t)body, len)};
    unsigned count = x->head_only || len == 0 ? 1 : 2, first = 0;
    int rc;

    if (x->bare) {
        bufs[0] = conn_span((void *)(uintptr_t)exchange_bare, strlen(exchange_bare));
        count = 1;
    }
    total = bufs[0].len + (count == 2 ? len : 0);
    rc = uv_try_write(&c->u.stream, bufs, count);
    if (rc < 0 && rc != UV_EAGAIN) {
        c->gone = true;
        return;
    }
    count_out(c, total);
    sent = rc < 0 ? 0 : (size_t)rc;
    if (sent == total)
        return;
    if (sent >= bufs[0].len) {
        sent -= bufs[0].len;
        first = 1;
    }
    bufs[first].base += sent;
    bufs[first].len -= sent;
    write_later(c, bufs + first, count - first, NULL);
}

void conn_write_stream(struct conn *c)
{
    struct exchange *x = c->x;
    struct stream_piece *p;

    if (!stream_has_begun(&x->stream))
        return;
    if (!c->head_sent) {
        uv_buf_t head;
        c->head_sent = true;
        if (!exchange_answer_stream(x)) {
            c->gone = true;
            return;
        }
        head = conn_span(x->head.data, x->head.len);
        write_later(c, &head, 1, NULL);
        count_out(c, x->head.len);
    }
    p = stream_take(&x->stream);
    while (p) {
        struct stream_piece *next = p->next;
        uv_buf_t bytes = conn_span(p->bytes, p->len);
        count_out(c, p->len);
        write_later(c, &bytes, 1, p);
        p = next;
    }
}

void conn_write_continue(struct conn *c)
{
    static char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uv_buf_t bytes = conn_span(line, sizeof line - 1);

    write_later(c, &bytes, 1, NULL);
}
