/* api_examples.c - /v1/corpora/{c}/examples: page, one, its encoding, takedown. */
#include "server/api.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/examples.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/partial.h"
#include "server/runtime.h"
#include "server/safetensors.h"
#include "storage/commit.h"

enum { PAGE_STEP = 32, PAGE_DEFAULT = 100 };

static void put_example(struct buf *b, const struct example *x)
{
    buf_add_text(b, "{\"id\":");
    json_put_text(b, x->id, x->id_len);
    buf_format(b, ",\"sequence\":%" PRIu64 ",\"norm\":", x->sequence);
    json_put_real(b, x->norm);
    buf_add_text(b, ",\"self_influence\":");
    json_put_real(b, x->norm * x->norm);
    buf_add_text(b, ",\"text\":");
    if (x->text)
        json_put_text(b, x->text, x->text_len);
    else
        buf_add_text(b, "null");
    buf_add_text(b, ",\"meta\":");
    if (x->meta)
        buf_add(b, x->meta, x->meta_len);
    else
        buf_add_text(b, "null");
    buf_add(b, "}", 1);
}

/* ---- GET .../examples ------------------------------------------------------------------------ */

struct page {
    uint64_t after, limit;
    bool from_start;
};

static int read_cursor(struct job *j, struct page *p)
{
    const char *text = job_query(j, "after");
    char *end;

    p->from_start = !text;
    if (!text)
        return 0;
    errno = 0;
    p->after = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno) {
        err_set(&j->err, ERR_INVALID, "parameter after: not a cursor that a page gave as next");
        return err_at_field(&j->err, "after");
    }
    return 0;
}

int examples_list_parse(struct job *j)
{
    static const char *const names[] = {"after", "limit", "filter", NULL};
    struct page *p = arena_new(&j->arena, 1, sizeof *p);
    int code = job_query_only(j, names);

    j->state = p;
    if (!code)
        code = api_check_name(j, "corpus", j->path[0]);
    if (!code)
        code = job_query_number(j, "limit", PAGE_DEFAULT, 1, LIMIT_PAGE, &p->limit);
    if (!code)
        code = read_cursor(j, p);
    return code;
}

/* Adds up to PAGE_STEP examples; *out_count says how many came. */
static int add_step(struct job *j, const struct view *v, struct page *p, bool first, size_t want,
                    size_t *out_count)
{
    struct arena step = {0};
    struct example *list = NULL;
    size_t count = 0;
    int code = view_page(v, p->after, p->from_start, want, &step, &list, &count, &j->err);

    for (size_t i = 0; !code && i < count; i++) {
        if (i || !first)
            buf_add(&j->reply_body, ",", 1);
        put_example(&j->reply_body, &list[i]);
        p->after = list[i].sequence;
        p->from_start = false;
    }
    arena_free(&step);
    *out_count = count;
    return code;
}

/* Is there a live row past the cursor? */
static int more_follow(struct job *j, const struct view *v, const struct page *p, bool *out)
{
    struct arena step = {0};
    struct example *list = NULL;
    size_t count = 0;
    int code = view_page(v, p->after, p->from_start, 1, &step, &list, &count, &j->err);

    arena_free(&step);
    *out = count > 0;
    return code;
}

static int put_page(struct job *j, const struct view *v, struct page *p)
{
    uint64_t left = p->limit;
    bool more = true;
    int code = 0;

    buf_add_text(&j->reply_body, "{\"examples\":[");
    while (left && more && j->reply_body.len < LIMIT_PAGE_BYTES) {
        size_t want = left < PAGE_STEP ? left : PAGE_STEP, got = 0;

        if (job_stopped(j))
            return (int)j->err.code;
        code = add_step(j, v, p, left == p->limit, want, &got);
        if (code)
            return code;
        left -= got;
        more = got == want;
    }
    if (more)
        code = more_follow(j, v, p, &more);
    if (more)
        buf_format(&j->reply_body, "],\"next\":\"%" PRIu64 "\"", p->after);
    else
        buf_add_text(&j->reply_body, "],\"next\":null");
    partial_put(&j->reply_body, v);
    buf_add(&j->reply_body, "}", 1);
    return code;
}

int examples_list_work(struct job *j)
{
    struct corpus *c = NULL;
    const struct view *v, *part = NULL;
    struct partial again = {.texts = true};
    int code = api_corpus(j, &c);

    if (code)
        return code;
    do {
        struct page p = *(const struct page *)j->state;

        v = partial_view(j, &again, c);
        code = api_filter(j, job_query(j, "filter"), v, &part);
        if (!code)
            code = put_page(j, part, &p);
        view_release(v);
    } while (partial_again(j, &again, code));
    corpus_release(c);
    return code ? api_seen(j, code) : api_body_done(j);
}

/* ---- GET .../examples/{id}, .../encoding ----------------------------------------------------- */

int examples_parse(struct job *j)
{
    int code = api_parse_corpus(j);

    if (!code && examples_check_id(j->path[1], strlen(j->path[1]), &j->err))
        code = err_at_field(&j->err, "id");
    return code;
}

/* One live row, held by the view. */
struct place {
    struct corpus *corpus;
    const struct view *view;
    size_t chunk;
    uint32_t row;
};

static void place_release(const struct place *p)
{
    view_release(p->view);
    corpus_release(p->corpus);
}

/* The id first, the view after: a row the ledger names is in every later view, unless deleted. */
static int place_find(struct job *j, struct place *p)
{
    uint64_t sequence = 0;
    int code = api_corpus(j, &p->corpus);

    if (code)
        return code;
    code = corpus_find_id(p->corpus, j->path[1], strlen(j->path[1]), &sequence, &j->err);
    if (code) {
        corpus_release(p->corpus);
        return api_seen(j, code);
    }
    p->view = corpus_view(p->corpus);
    if (view_locate(p->view, sequence, &p->chunk, &p->row, &j->err))
        return 0;
    place_release(p);
    if (!j->err.code)
        err_set(&j->err, ERR_UNKNOWN_EXAMPLE, "no example \"%.128s\" in corpus %s", j->path[1],
                j->path[0]);
    return api_seen(j, (int)j->err.code);
}

int examples_get_work(struct job *j)
{
    struct place p = {0};
    struct example x;
    int code = place_find(j, &p);

    if (code)
        return code;
    code = api_seen(j, view_example(p.view, p.chunk, p.row, &j->arena, &x, &j->err));
    if (!code)
        put_example(&j->reply_body, &x);
    place_release(&p);
    return code ? code : api_body_done(j);
}

static void put_encoding_header(struct job *j, const struct place *p, uint64_t sequence,
                                double norm)
{
    const struct corpus_def *def = corpus_def(p->corpus);
    char fingerprint[2 * STORE_FINGERPRINT_BYTES + 1], sequence_text[24], norm_text[40];
    struct safetensors_note notes[] = {
        {"fingerprint", fingerprint, 0},
        {"id", j->path[1], 0},
        {"norm", norm_text, 0},
        {"sequence", sequence_text, 0},
    };
    struct safetensors_spec spec = {.name = "encoding",
                                    .dtype = dtype_tensor_name((enum dtype)def->dtype),
                                    .rank = 1,
                                    .shape = {def->dim},
                                    .bytes = corpus_row_bytes(p->corpus)};

    bytes_hex(def->fingerprint, STORE_FINGERPRINT_BYTES, fingerprint);
    snprintf(sequence_text, sizeof sequence_text, "%" PRIu64, sequence);
    snprintf(norm_text, sizeof norm_text, "%.17g", norm);
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++)
        notes[i].value_len = strlen(notes[i].value);
    safetensors_header(&j->reply_body, &spec, 1, notes, sizeof notes / sizeof notes[0]);
}

int examples_encoding_work(struct job *j)
{
    struct place p = {0};
    const struct view_chunk *chunk;
    struct block b;
    int code = place_find(j, &p);

    if (code)
        return code;
    chunk = &p.view->chunks[p.chunk];
    code = block_open(chunk, BLOCK_ROWS, &b, &j->err);
    if (!code) {
        put_encoding_header(j, &p, block_row_sequence(&b, p.row), block_row_norm(&b, p.row));
        block_close(&b);
        code = block_open(chunk, BLOCK_ENCODINGS, &b, &j->err);
    }
    if (!code) {
        size_t row_bytes = corpus_row_bytes(p.corpus);

        buf_add(&j->reply_body, b.bytes + p.row * row_bytes, row_bytes);
        block_close(&b);
    }
    place_release(&p);
    return code ? api_seen(j, code) : api_body_done(j);
}

int examples_encoding_reply(struct job *j)
{
    j->reply_type = "application/vnd.safetensors";
    return 0;
}

/* ---- DELETE .../examples/{id} ---------------------------------------------------------------- */

int examples_delete_work(struct job *j)
{
    struct corpus *c = NULL;
    uint64_t sequence;
    int code = api_corpus(j, &c);

    if (code)
        return code;
    code = corpus_find_id(c, j->path[1], strlen(j->path[1]), &sequence, &j->err);
    corpus_release(c);
    return api_seen(j, code);
}

void examples_delete_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct job *j = jobs[i];
        struct corpus *c = NULL;

        if (job_stopped(j) || api_corpus(j, &c))
            continue;
        if (!commit_delete(c, j->path[1], strlen(j->path[1]), &j->err))
            metrics_add(j->rt->metrics, METRIC_ROWS_DELETED, 1);
        corpus_release(c);
    }
}
