/* api_search.c - POST /v1/corpora/{c}/search: examples by the words of a text. */
#include "server/api.h"

#include <inttypes.h>
#include <string.h>

#include "server/bm25.h"
#include "server/hits.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/partial.h"
#include "server/runtime.h"
#include "server/scan.h"

enum { K_DEFAULT = 10 };

struct search {
    const char *text, *filter;
    uint64_t k;
    bool with_text;
    struct corpus *corpus;
    const struct view *whole; /* held */
    const struct view *part;
    struct partial partial;
    uint64_t began_ns;
};

static int read_body(struct job *j, json_t **out, struct search *s)
{
    static const char *const members[] = {"text", "k", "filter", "texts", NULL};
    int code = json_read_object(j->body, j->body_len, JSON_CONTROL, out, &j->err);

    if (!code)
        code = json_only(*out, members, &j->err);
    if (!code)
        code = json_get_text(*out, "text", LIMIT_SEARCH_BYTES, &s->text, &j->err);
    if (!code && !s->text) {
        err_set(&j->err, ERR_INVALID, "member text: missing");
        code = err_at_field(&j->err, "text");
    }
    if (!code)
        code = json_get_number(*out, "k", 0, LIMIT_K, &s->k, &j->err);
    if (!code)
        code = json_get_text(*out, "filter", LIMIT_FILTER_BYTES, &s->filter, &j->err);
    if (!code)
        code = json_get_bool(*out, "texts", &s->with_text, &j->err);
    return code;
}

static int put_answer(struct job *j, const struct search *s, const struct bm25_answer *found)
{
    struct buf *b = &j->reply_body;
    int code = 0;

    buf_add_text(b, "{\"results\":[");
    for (size_t i = 0; !code && i < found->hits.count; i++) {
        if (i % 64 == 0 && job_stopped(j))
            return (int)j->err.code;
        if (i)
            buf_add(b, ",", 1);
        code = hits_put(b, s->part, &found->hits.hits[i],
                        &(struct hits_form){.rank = i + 1, .text = s->with_text}, &j->err);
    }
    buf_format(b, "],\"matches\":%" PRIu64 ",\"examples\":%" PRIu64 ",\"generation\":%" PRIu64,
               found->matches, s->part->live, s->whole->generation);
    partial_put(b, s->whole);
    buf_format(b, ",\"indexed_through\":%" PRIu64 ",\"missing\":%" PRIu64 ",\"took_ms\":%.3f}",
               found->indexed_through, found->missing,
               (double)(scan_now() - s->began_ns) * 1e-6);
    return code;
}

static int answer(struct job *j, struct search *s)
{
    struct stop stop = api_stop(j);
    struct bm25_query q = {.corpus = s->corpus,
                           .whole = s->whole,
                           .text = s->text,
                           .len = strlen(s->text),
                           .k = s->k,
                           .stop = &stop};
    struct bm25_answer found;
    int code = api_filter(j, s->filter, s->whole, &s->part);

    q.part = s->part;
    if (!code)
        code = api_stopped(j, bm25_search(j->rt->bm25, &q, &j->arena, &found, &j->err));
    return code ? code : put_answer(j, s, &found);
}

int search_work(struct job *j)
{
    struct search s = {.k = K_DEFAULT,
                       .with_text = true,
                       .partial = {.texts = true},
                       .began_ns = scan_now()};
    json_t *body = NULL;
    int code = api_corpus(j, &s.corpus);

    if (code)
        return code;
    code = read_body(j, &body, &s);
    do {
        if (s.whole)
            view_release(s.whole);
        s.whole = partial_view(j, &s.partial, s.corpus);
        if (!code)
            code = answer(j, &s);
    } while (partial_again(j, &s.partial, code) && !(code = 0));
    if (body)
        json_decref(body);
    view_release(s.whole);
    corpus_release(s.corpus);
    return code ? api_seen(j, code) : api_body_done(j);
}
