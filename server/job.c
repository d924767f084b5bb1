/* job.c - what an endpoint may ask of its job. See job.h; the transport's side is exchange.c. */
#include "server/job.h"

#include <string.h>

#include "server/exchange.h"
#include "server/limits.h"
#include "server/server.h"
#include "storage/base/check.h"

bool job_stopped(struct job *j)
{
    if (atomic_load_explicit(&j->cancelled, memory_order_relaxed)) {
        err_set(&j->err, ERR_CANCELLED, "the client left or the server is going down");
        return true;
    }
    if (j->deadline_ns && server_now() > j->deadline_ns) {
        uint64_t ms = (j->deadline_ns - j->started_ns) / 1000000;
        err_set(&j->err, ERR_DEADLINE, "not finished within %llu ms", (unsigned long long)ms);
        err_at_limit(&j->err, (int64_t)ms);
        return true;
    }
    return false;
}

const char *job_query(const struct job *j, const char *name)
{
    for (size_t i = 0; i < j->query_count; i++)
        if (strcmp(j->query[i].name, name) == 0)
            return j->query[i].value;
    return NULL;
}

int job_query_only(struct job *j, const char *const names[])
{
    for (size_t i = 0; i < j->query_count; i++) {
        size_t n = 0;
        while (names[n] && strcmp(names[n], j->query[i].name) != 0)
            n++;
        if (!names[n]) {
            err_set(&j->err, ERR_INVALID, "unknown query parameter \"%.64s\"", j->query[i].name);
            return err_at_field(&j->err, j->query[i].name);
        }
    }
    return 0;
}

/* Digits only: strtoull would take signs and spaces. */
static bool number(const char *text, uint64_t *out)
{
    uint64_t n = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
            return false;
    }
    *out = n;
    return true;
}

int job_query_number(struct job *j, const char *name, uint64_t fallback, uint64_t min, uint64_t max,
                     uint64_t *out)
{
    const char *text = job_query(j, name);
    uint64_t n = fallback;

    if (text && (!number(text, &n) || n < min || n > max)) {
        err_set(&j->err, ERR_INVALID, "%s must be a whole number from %llu to %llu", name,
                (unsigned long long)min, (unsigned long long)max);
        err_at_field(&j->err, name);
        return err_at_limit(&j->err, max > INT64_MAX ? INT64_MAX : (int64_t)max);
    }
    *out = n;
    return 0;
}

int job_stream_begin(struct job *j, const char *content_type, uint64_t total)
{
    struct exchange *x = j->core;

    require(!stream_has_begun(&x->stream));
    if (job_stopped(j))
        return (int)j->err.code;
    stream_begin(&x->stream, content_type, total);
    server_notice(x->server, x, false);
    return 0;
}

/* Blocks until the socket has taken enough, the client is gone or the time is up. */
static int wait_for_room(struct job *j, struct stream *s)
{
    bool gone;

    while (!stream_wait(s, LIMIT_STREAM_QUEUE, &gone)) {
        if (gone)
            return err_set(&j->err, ERR_CANCELLED, "the client left while the reply was sent");
        if (job_stopped(j))
            return (int)j->err.code;
    }
    return 0;
}

int job_stream(struct job *j, const void *bytes, size_t len)
{
    struct exchange *x = j->core;
    const char *p = bytes;

    if (x->head_only)
        return 0;
    while (len) {
        size_t n = len < STREAM_PIECE_MAX ? len : STREAM_PIECE_MAX;
        if (wait_for_room(j, &x->stream))
            return (int)j->err.code;
        if (!stream_put(&x->stream, p, n))
            return err_set(&j->err, ERR_BUSY, "no memory for the reply");
        server_notice(x->server, x, false);
        p += n;
        len -= n;
    }
    return 0;
}
