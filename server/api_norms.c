/* api_norms.c - GET /v1/corpora/{c}/norms: how long the stored examples are. */
#include "server/api.h"

#include <inttypes.h>

#include "server/json.h"
#include "server/limits.h"
#include "server/norms.h"

enum { BINS_DEFAULT = 64 };

int norms_parse(struct job *j)
{
    static const char *const names[] = {"bins", "filter", NULL};
    uint64_t *bins = arena_new(&j->arena, 1, sizeof *bins);
    int code = job_query_only(j, names);

    j->state = bins;
    if (!code)
        code = api_check_name(j, "corpus", j->path[0]);
    if (!code)
        code = job_query_number(j, "bins", BINS_DEFAULT, LIMIT_BINS_LEAST, LIMIT_BINS, bins);
    return code;
}

static void put_real(struct buf *b, const char *name, const struct norms *n, double value)
{
    buf_format(b, ",\"%s\":", name);
    if (n->examples)
        json_put_real(b, value);
    else
        buf_add_text(b, "null");
}

static void put_norms(struct buf *b, const struct norms *n)
{
    buf_format(b, "{\"examples\":%" PRIu64, n->examples);
    put_real(b, "min", n, n->min);
    put_real(b, "max", n, n->max);
    put_real(b, "median", n, n->median);
    buf_add_text(b, ",\"bins\":[");
    for (size_t i = 0; i < n->bins; i++) {
        buf_add_text(b, i ? ",{\"from\":" : "{\"from\":");
        json_put_real(b, n->edges[i]);
        buf_add_text(b, ",\"to\":");
        json_put_real(b, n->edges[i + 1]);
        buf_format(b, ",\"count\":%" PRIu64 "}", n->counts[i]);
    }
    buf_add_text(b, "]}");
}

int norms_work(struct job *j)
{
    const uint64_t *bins = j->state;
    struct stop stop = api_stop(j);
    const struct view *whole, *part = NULL;
    struct corpus *c = NULL;
    struct norms n;
    int code = api_corpus(j, &c);

    if (code)
        return code;
    whole = corpus_view(c);
    code = api_filter(j, job_query(j, "filter"), whole, &part);
    if (!code)
        code = api_stopped(j, norms_take(part, *bins, &stop, &j->arena, &n, &j->err));
    if (!code)
        put_norms(&j->reply_body, &n);
    view_release(whole);
    corpus_release(c);
    return code ? api_seen(j, code) : api_body_done(j);
}
