/* api_explain.c - POST /v1/corpora/{c}/examples/{id}/explain: what each token of an example adds
 * to its score on a query.
 *
 * A score is linear in the example's gradient g up to a divisor: score = <v, g> / divisor, where v
 * is the query carried back through lens and whitening (docs/encoder.md has the derivation). g is
 * a sum over the positions of the text, and the encoder knows the parts; so it is asked for each
 * part's product with v, and the sum is compared with the score that is stored. */
#include "server/api.h"

#include <math.h>
#include <string.h>

#include <sodium.h>

#include "index/exact.h"
#include "index/kern.h"
#include "index/lens.h"
#include "server/encode.h"
#include "server/encoder.h"
#include "server/examples.h"
#include "server/json.h"
#include "server/lenses.h"
#include "server/limits.h"
#include "server/queries.h"
#include "server/runtime.h"
#include "server/safetensors.h"
#include "server/scan.h"
#include "server/strange.h"

struct explaining {
    bool dot;
    const char *task, *saved;
    /* work's own */
    bool asked;
    struct corpus *corpus; /* held */
    const struct view *view;
    struct queries queries;
    struct api_task through;
    struct example example;
    double score;
    double factor; /* a share of <v, g> times this is a share of the score */
    struct encoder_call call;
    uint64_t began_ns;
};

static const char *const parameters[] = {"task", "score", "saved", NULL};
static const char *const members[] = {"queries", "task", "score", "saved", NULL};

int explain_parse(struct job *j)
{
    struct explaining *x = arena_new(&j->arena, 1, sizeof *x);
    int code = job_query_only(j, parameters);

    j->state = x;
    x->call.job = j;
    x->call.verb = "explain";
    x->task = job_query(j, "task");
    x->saved = job_query(j, "saved");
    if (!code)
        code = api_check_name(j, "corpus", j->path[0]);
    if (!code && examples_check_id(j->path[1], strlen(j->path[1]), &j->err))
        code = err_at_field(&j->err, "id");
    if (!code)
        code = api_score(job_query(j, "score"), &x->dot, &j->err);
    return code;
}

void explain_finish(struct job *j)
{
    struct explaining *x = j->state;

    if (!x || !x->corpus)
        return;
    encoder_call_free(&x->call);
    queries_free(&x->queries);
    api_task_close(j, x->corpus, x->view, &x->through);
    view_release(x->view);
    corpus_release(x->corpus);
}

/* ---- what is asked --------------------------------------------------------------------------- */

static int read_options(struct job *j, struct explaining *x)
{
    const json_t *options = x->queries.options;
    const char *score = NULL;
    int code = 0;

    if (options)
        code = json_get_text(options, "task", STORE_NAME_MAX, &x->task, &j->err);
    if (!code && options)
        code = json_get_text(options, "score", 64, &score, &j->err);
    if (!code)
        code = api_score(score, &x->dot, &j->err);
    if (!code && x->queries.count != 1) {
        err_set(&j->err, ERR_INVALID, "%zu queries: one example is explained for one query",
                x->queries.count);
        code = err_at_field(&j->err, "queries");
    }
    return code;
}

static int no_example(struct job *j)
{
    return err_set(&j->err, ERR_UNKNOWN_EXAMPLE, "no example \"%.128s\" in corpus %s", j->path[1],
                   j->path[0]);
}

static int find_row(struct job *j, struct explaining *x, size_t *chunk, uint32_t *row)
{
    uint64_t sequence = 0;
    int code = corpus_find_id(x->corpus, j->path[1], strlen(j->path[1]), &sequence, &j->err);

    if (code)
        return code;
    if (!view_locate(x->view, sequence, chunk, row, &j->err))
        return j->err.code ? (int)j->err.code : no_example(j);
    code = view_example(x->view, *chunk, *row, &j->arena, &x->example, &j->err);
    if (!code && (!x->example.text || !x->example.text_len)) {
        err_set(&j->err, ERR_INVALID, "example \"%.128s\" has no text: there are no tokens",
                j->path[1]);
        code = err_at_field(&j->err, "id");
    }
    return code;
}

/* The score as every engine gives it, and what makes one of <v, g>: see the table in
 * docs/encoder.md. `back` is the length that v lost. */
static int score_row(struct job *j, struct explaining *x, size_t chunk, uint32_t row, double back)
{
    const struct view_chunk *c = &x->view->chunks[chunk];
    const struct corpus_def *def = corpus_def(x->corpus);
    const double *n = NULL;
    double length = x->queries.lengths[0], product;
    struct block b;
    int code = block_open_row(c, row, &b, &j->err);

    if (code)
        return code;
    product = kern_dot((enum dtype)def->dtype, x->queries.vectors, b.bytes, def->dim);
    block_close(&b);
    if (x->dot) {
        x->score = exact_scale(product, x->example.norm, length);
        x->factor = back * length;
        return isfinite(x->score) ? 0 : strange_row(x->view, chunk, row, &j->err);
    }
    if (x->through.lens && lenses_norms(x->through.lens, c, &n, &j->err))
        return (int)j->err.code;
    x->score = n ? lens_score(product, n[row]) : product;
    x->factor = back / (x->example.norm * (n ? n[row] : 1.0));
    return isfinite(x->score) ? 0 : strange_row(x->view, chunk, row, &j->err);
}

/* v, as a unit vector, and the length it had: S u, S being symmetric; u itself before a fit. */
static int carry_back(struct job *j, struct explaining *x, float *v, double *length)
{
    struct stop stop = api_stop(j);
    struct encode k = {.in = x->queries.vectors,
                       .in_type = DTYPE_F32,
                       .rows = 1,
                       .dim = corpus_def(x->corpus)->dim,
                       .out_type = DTYPE_F32,
                       .out = v,
                       .norms = length,
                       .field = "queries"};
    int code = encode_whitening(x->view, &k.whiten, &j->err);

    return code ? code : api_stopped(j, encode_run(&k, j->rt->pool, &stop, &j->err));
}

static int put_vector(struct job *j, struct explaining *x, const float *v, size_t dim)
{
    struct buf *b = &x->call.members;
    size_t bytes = dim * sizeof *v, size = sodium_base64_ENCODED_LEN(
                                        bytes, sodium_base64_VARIANT_ORIGINAL);

    buf_add_text(b, ",\"text\":");
    json_put_text(b, x->example.text, x->example.text_len);
    buf_add_text(b, ",\"vector\":\"");
    if (!buf_reserve(b, size + 1))
        return err_set(&j->err, ERR_BUSY, "no memory for a vector of %zu elements", dim);
    sodium_bin2base64((char *)b->data + b->len, size, (const unsigned char *)v, bytes,
                      sodium_base64_VARIANT_ORIGINAL);
    b->len += size - 1;
    buf_add_text(b, "\"");
    return 0;
}

static int check_dim(struct job *j, size_t dim)
{
    size_t own = encoder_dim(j->rt->encoder); /* 0 while it starts: its answer will tell */

    if (!own || own == dim)
        return 0;
    err_set(&j->err, ERR_WRONG_DIM, "the encoder's gradients have %zu elements, corpus %s has %zu",
            own, j->path[0], dim);
    return err_at_limit(&j->err, (int64_t)dim);
}

static int ask(struct job *j, struct explaining *x)
{
    size_t chunk = 0, dim = corpus_def(x->corpus)->dim;
    float *v = arena_big(&j->arena, dim, sizeof *v);
    double back = 1.0;
    uint32_t row = 0;
    int code = v ? 0 : err_set(&j->err, ERR_BUSY, "no memory for %zu elements", dim);

    if (!code)
        code = queries_read_saved(j, x->view, members, x->saved, &x->queries);
    if (!code)
        code = read_options(j, x);
    if (!code)
        code = find_row(j, x, &chunk, &row);
    if (!code)
        code = check_dim(j, dim);
    if (!code)
        code = api_task_open(j, x->task, x->corpus, x->view, &x->queries, &x->through);
    if (!code)
        code = carry_back(j, x, v, &back);
    if (!code)
        code = score_row(j, x, chunk, row, back);
    if (!code)
        code = put_vector(j, x, v, dim);
    if (!code)
        code = encoder_ask(j->rt->encoder, &x->call, &j->err);
    x->asked = !code;
    return code;
}

/* ---- what is answered ------------------------------------------------------------------------ */

struct tokens {
    size_t count;
    const unsigned char *spans, *shares; /* I64 [count, 2], F32 [count]; any alignment */
};

static int read_tokens(struct job *j, const struct explaining *x, struct tokens *out)
{
    static const char *const names[] = {"shares", "spans", NULL};
    const struct buf *body = &x->call.answer.body;
    const struct safetensor *shares = NULL, *spans = NULL;
    struct safetensors st;
    int code = safetensors_read(body->data, body->len, &j->arena, &st, &j->err);

    if (!code)
        code = safetensors_only(&st, names, &j->err);
    if (!code)
        code = safetensors_find(&st, "shares", &shares, &j->err);
    if (!code)
        code = safetensors_find(&st, "spans", &spans, &j->err);
    if (code)
        return code;
    if (strcmp(shares->dtype, "F32") != 0 || shares->rank != 1)
        return err_set(&j->err, ERR_ENCODER, "shares: not a vector of F32");
    if (strcmp(spans->dtype, "I64") != 0 || spans->rank != 2 || spans->shape[1] != 2 ||
        spans->shape[0] != shares->shape[0])
        return err_set(&j->err, ERR_ENCODER, "spans: not I64 [%llu, 2], as there are shares",
                       (unsigned long long)shares->shape[0]);
    *out = (struct tokens){(size_t)shares->shape[0], spans->data, shares->data};
    return 0;
}

struct token {
    uint64_t from, to; /* bytes of the text */
    double share;
};

static int get_token(const struct tokens *t, size_t i, size_t len, struct token *out,
                     struct err *e)
{
    uint32_t bits = bytes_get_le32(t->shares + 4 * i);
    float share;

    out->from = bytes_get_le64(t->spans + 16 * i);
    out->to = bytes_get_le64(t->spans + 16 * i + 8);
    memcpy(&share, &bits, sizeof share);
    out->share = (double)share;
    if (out->from > out->to || out->to > len)
        return err_set(e, ERR_ENCODER, "spans: token %zu from %lld to %lld of %zu bytes", i,
                       (long long)out->from, (long long)out->to, len);
    if (!isfinite(share))
        return err_set(e, ERR_ENCODER, "shares: token %zu is NaN or infinite", i);
    return 0;
}

/* Is the byte the first of a character? The text is UTF-8. */
static bool at_character(const struct example *x, uint64_t at)
{
    return at >= x->text_len || ((unsigned char)x->text[at] & 0xc0) != 0x80;
}

static void put_token(struct buf *b, const struct explaining *x, const struct token *t)
{
    buf_add_text(b, "{\"text\":");
    json_put_text(b, x->example.text + t->from, (size_t)(t->to - t->from));
    buf_format(b, ",\"from\":%llu,\"to\":%llu,\"score\":", (unsigned long long)t->from,
               (unsigned long long)t->to);
    json_put_real(b, t->share * x->factor);
    buf_add_text(b, "}");
}

/* Tokens that share a character become one: half a character is no text. *sum: of all shares. */
static int put_tokens(struct job *j, const struct explaining *x, const struct tokens *t,
                      double *sum)
{
    struct buf *b = &j->reply_body;
    struct token whole = {0}, next;
    bool any = false;

    for (size_t i = 0; i < t->count; i++) {
        if (get_token(t, i, x->example.text_len, &next, &j->err))
            return (int)j->err.code;
        *sum += next.share;
        if (any && next.from < whole.from)
            return err_set(&j->err, ERR_ENCODER, "spans: token %zu begins before the one before",
                           i);
        if (any && (next.from < whole.to || !at_character(&x->example, next.from))) {
            whole.share += next.share;
            whole.to = next.to > whole.to ? next.to : whole.to;
            continue;
        }
        if (any) {
            put_token(b, x, &whole);
            buf_add_text(b, ",");
        }
        whole = next;
        any = true;
    }
    if (any && (!at_character(&x->example, whole.from) || !at_character(&x->example, whole.to)))
        return err_set(&j->err, ERR_ENCODER, "spans: the last token ends inside a character");
    if (any)
        put_token(b, x, &whole);
    return 0;
}

static int put_answer(struct job *j, const struct explaining *x)
{
    struct buf *b = &j->reply_body;
    struct tokens t = {0};
    double sum = 0.0;

    if (api_encoder_fault(j, read_tokens(j, x, &t)))
        return (int)j->err.code;
    buf_add_text(b, "{\"id\":");
    json_put_text(b, x->example.id, x->example.id_len);
    buf_add_text(b, ",\"score\":");
    json_put_real(b, x->score);
    buf_add_text(b, ",\"tokens\":[");
    if (api_encoder_fault(j, put_tokens(j, x, &t, &sum)))
        return (int)j->err.code;
    buf_add_text(b, "],\"sum\":");
    json_put_real(b, sum * x->factor);
    buf_format(b, ",\"took_ms\":%.3f}\n", (double)(scan_now() - x->began_ns) * 1e-6);
    return 0;
}

int explain_work(struct job *j)
{
    struct explaining *x = j->state;
    int code;

    if (!x->asked) {
        x->began_ns = scan_now();
        if (!j->rt->encoder)
            return encoder_ask(NULL, &x->call, &j->err);
        code = api_corpus(j, &x->corpus);
        if (code)
            return code;
        x->view = corpus_view(x->corpus);
        return api_seen(j, ask(j, x));
    }
    if (!job_stopped(j) && x->call.err.code)
        j->err = x->call.err;
    code = (int)j->err.code;
    if (!code)
        code = put_answer(j, x);
    return code ? code : api_body_done(j);
}
