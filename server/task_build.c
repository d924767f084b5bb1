/* task_build.c - see task_build.h. Task thread; idle readers help, one always stays free. */
#include "server/task_build.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "index/gram.h"
#include "index/lambda.h"
#include "index/lens.h"
#include "server/encode.h"
#include "server/json.h"
#include "server/lenses.h"
#include "server/limits.h"
#include "server/manifest.h"
#include "server/metrics.h"
#include "server/partial.h"
#include "server/pool.h"
#include "server/runtime.h"
#include "server/task_norms.h"
#include "storage/annex.h"
#include "storage/base/check.h"

enum { PLACES_MAX = 96 }; /* of the spectra that are kept for plots */

struct build {
    struct runtime *rt;
    struct corpus *corpus; /* a reference */
    struct task_build what; /* gradients owned */
    uint64_t reserved;
    struct arena arena;
    struct manifest_shape shape;
    struct task *task;
    const struct view *view;
    const struct whiten *whiten;
    struct annex *before;   /* what the task replaces: a reference, or NULL */
    struct lensed *lensed;  /* extend: what is known of it */
    uint64_t done, total;   /* bytes of rows, gradients and stored */
    float *white;           /* unit rows of the whitened gradients, rows x dim */
    double *norms;          /* and their lengths */
    double *train, *eval;   /* pooled eigenvalues, dim of each */
    size_t k;
    bool clamped;
    double lambda;
    struct lens lens;
    struct buf text;
};

/* ---- what waits ------------------------------------------------------------------------------ */

static _Atomic uint64_t reserved_bytes;

int task_build_reserve(uint64_t bytes, struct err *e)
{
    uint64_t now = atomic_fetch_add(&reserved_bytes, bytes) + bytes;

    if (now <= LIMIT_TASK_BYTES || now == bytes) /* one always fits: its body did */
        return 0;
    atomic_fetch_sub(&reserved_bytes, bytes);
    err_set(e, ERR_BUSY, "tasks that wait hold %" PRIu64 " MiB of gradients already",
            (now - bytes) >> 20);
    return err_at_limit(e, (int64_t)LIMIT_TASK_BYTES);
}

void task_build_release(uint64_t bytes)
{
    atomic_fetch_sub(&reserved_bytes, bytes);
}

/* ---- common ---------------------------------------------------------------------------------- */

static int advance(struct build *b, uint64_t bytes, struct err *e)
{
    b->done += bytes;
    if (tasks_report(b->task, b->done, b->total))
        return 0;
    return err_set(e, ERR_CANCELLED, "the task was cancelled; nothing of it is kept");
}

static size_t dim_of(const struct build *b)
{
    return corpus_def(b->corpus)->dim;
}

static size_t column_of(const struct build *b, size_t block)
{
    size_t at = 0;

    for (size_t i = 0; i < block; i++)
        at += b->shape.dims[i];
    return at;
}

/* Work on items 0 .. count-1 by several threads; the first error counts. */
struct crowd {
    struct build *b;
    int (*one)(struct build *b, size_t i, struct err *e);
    size_t count;
    _Atomic size_t next;
    _Atomic bool failed;
    struct err err;
};

static void crowd_share(void *arg, unsigned slot)
{
    struct crowd *c = arg;
    size_t i;

    (void)slot;
    while (!atomic_load(&c->failed) && (i = atomic_fetch_add(&c->next, 1)) < c->count) {
        struct err e = ERR_INIT;

        if (c->one(c->b, i, &e) && !atomic_exchange(&c->failed, true))
            c->err = e;
    }
}

static int each(struct build *b, size_t count, int (*one)(struct build *b, size_t i, struct err *e),
                struct err *e)
{
    struct crowd c = {.b = b, .one = one, .count = count, .err = ERR_INIT};
    unsigned width = pool_readers(b->rt->pool);

    if (width > count)
        width = count ? (unsigned)count : 1;
    pool_fanout(b->rt->pool, width, crowd_share, &c);
    if (c.err.code)
        *e = c.err;
    return (int)c.err.code;
}

/* ---- lambda ---------------------------------------------------------------------------------- */

/* One block of rows (float32, stride dim) times their lengths, in float64. */
static double *wide_block(const struct build *b, const float *rows, const double *lengths, size_t i)
{
    size_t dim = b->shape.dims[i], at = column_of(b, i), total;
    double *wide = mem_mul(b->what.rows, dim, &total) ? mem_big(total, sizeof *wide) : NULL;

    for (size_t r = 0; wide && r < b->what.rows; r++)
        for (size_t k = 0; k < dim; k++)
            wide[r * dim + k] =
                (double)rows[r * dim_of(b) + at + k] * (lengths ? lengths[r] : 1.0);
    return wide;
}

static int no_memory(const struct build *b, struct err *e)
{
    return err_set(e, ERR_BUSY, "no memory for %zu evaluation gradients of %zu elements",
                   b->what.rows, dim_of(b));
}

static int one_spectrum(struct build *b, size_t i, struct err *e)
{
    double *wide = wide_block(b, b->what.gradients, NULL, i);
    int code = wide ? lambda_spectrum(wide, b->what.rows, b->shape.dims[i],
                                      b->eval + column_of(b, i), b->shape.names[i], e)
                    : no_memory(b, e);

    free(wide);
    return code;
}

/* Both spectra, pooled and sorted; where there is no eigenvalue, 0 stands. */
static int spectra(struct build *b, struct err *e)
{
    size_t dim = dim_of(b);
    int code;

    b->train = mem_new(dim, sizeof *b->train);
    b->eval = mem_new(dim, sizeof *b->eval);
    for (size_t i = 0; i < b->whiten->count; i++)
        memcpy(b->train + column_of(b, i), b->whiten->block[i].eigenvalues,
               b->shape.dims[i] * sizeof *b->train);
    code = each(b, b->shape.count, one_spectrum, e);
    lambda_sort(b->train, dim);
    lambda_sort(b->eval, dim);
    return code;
}

static int choose_lambda(struct build *b, struct err *e)
{
    size_t dim = dim_of(b);
    int code = spectra(b, e);

    if (code)
        return code;
    b->lambda = b->what.lambda;
    if (!b->what.by_rule)
        return 0;
    b->k = lambda_k((size_t)b->what.downweight, dim);
    return lambda_choose(b->k, b->train, dim, b->eval, dim, &b->lambda, &b->clamped, e);
}

/* ---- the lens -------------------------------------------------------------------------------- */

/* Many rows: their mean product, by tiles. */
static int fit_by_mean(struct build *b, size_t i, struct err *e)
{
    size_t dim = dim_of(b);
    struct gram g = {0};
    double *mean = NULL;
    int code = gram_init(&g, b->shape.dims[i], e);

    if (!code)
        code = gram_add(&g, b->white + column_of(b, i), DTYPE_F32, dim * sizeof *b->white, b->norms,
                        b->what.rows, 0, e);
    if (!code) {
        gram_finish(&g);
        code = gram_take(&g, &mean, e);
    }
    if (!code)
        code = lens_fit_mean(&b->lens, i, b->shape.names[i], mean, e);
    free(mean);
    gram_fini(&g);
    return code;
}

static int one_lens(struct build *b, size_t i, struct err *e)
{
    double *wide;
    int code;

    if (b->what.rows >= b->shape.dims[i])
        return fit_by_mean(b, i, e);
    wide = wide_block(b, b->white, b->norms, i);
    code = wide ? lens_fit(&b->lens, i, b->shape.names[i], wide, e) : no_memory(b, e);
    free(wide);
    return code;
}

static int white_rows(struct build *b, struct err *e)
{
    struct encode k = {.whiten = b->whiten,
                       .in = b->what.gradients,
                       .in_type = DTYPE_F32,
                       .rows = b->what.rows,
                       .dim = dim_of(b),
                       .out_type = DTYPE_F32,
                       .field = "gradients"};

    b->white = mem_big(b->what.rows * k.dim, sizeof *b->white);
    b->norms = mem_big(b->what.rows, sizeof *b->norms);
    k.out = b->white;
    k.norms = b->norms;
    return b->white && b->norms ? encode_run(&k, b->rt->pool, NULL, e) : no_memory(b, e);
}

static int make_lens(struct build *b, struct err *e)
{
    uint64_t share = b->what.rows * dim_of(b) * sizeof(float);
    int code = choose_lambda(b, e);

    if (!code)
        code = advance(b, share, e);
    if (!code)
        code = white_rows(b, e);
    if (!code)
        code = lens_init(&b->lens, b->shape.dims, b->shape.count, b->what.rows, b->lambda, e);
    if (!code)
        code = each(b, b->shape.count, one_lens, e);
    if (!code)
        code = advance(b, share, e);
    return code;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int put_artifact(void *arg, const void *bytes, size_t len, struct err *e)
{
    return artifact_add(arg, bytes, len, e);
}

static int write_lens(struct build *b, struct artifact **out, struct err *e)
{
    struct artifact_writer *w = NULL;
    struct image_sink sink = {.put = put_artifact};
    int code = artifact_begin(b->rt->store, &w, e);

    sink.arg = w;
    if (!code)
        code = lens_write(&b->lens, &sink, e);
    if (!code)
        code = artifact_finish(w, out, e);
    artifact_writer_end(w);
    return code;
}

static int norms_progress(void *arg, uint64_t bytes, struct err *e)
{
    return advance(arg, bytes, e);
}

static int write_norms(struct build *b, struct artifact **out, struct err *e)
{
    struct task_norms n = {.rt = b->rt,
                           .view = b->view,
                           .lens = &b->lens,
                           .known = b->lensed,
                           .advance = norms_progress,
                           .arg = b};

    return task_norms_write(&n, out, e);
}

/* ---- the record ------------------------------------------------------------------------------ */

/* Places 0, 1, 2, ... and ever wider, for a plot on a logarithmic axis. */
static size_t places(size_t dim, size_t out[PLACES_MAX])
{
    size_t count = 0;

    for (size_t at = 0; at < dim && count < PLACES_MAX - 1; at = at + 1 + at / 6)
        out[count++] = at;
    if (count && out[count - 1] != dim - 1)
        out[count++] = dim - 1;
    return count;
}

static void put_values(struct buf *out, const char *name, const double *values, const size_t *at,
                       size_t count)
{
    buf_format(out, ",\"%s\":[", name);
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_add(out, ",", 1);
        json_put_short(out, values[at[i]]);
    }
    buf_add(out, "]", 1);
}

static void put_text(struct build *b)
{
    size_t at[PLACES_MAX], count = places(dim_of(b), at), rank = 0;
    struct buf *out = &b->text;

    buf_add_text(out, "{\"lambda\":");
    json_put_short(out, b->lambda);
    if (b->what.by_rule)
        buf_format(out, ",\"downweight\":%" PRIu64 ",\"k\":%zu,\"clamped\":%s", b->what.downweight,
                   b->k, b->clamped ? "true" : "false");
    else
        buf_add_text(out, ",\"downweight\":null,\"k\":null,\"clamped\":false");
    for (size_t i = 0; i < b->lens.count; i++)
        rank += b->lens.block[i].rank;
    buf_format(out, ",\"rows\":%zu,\"rank\":%zu,\"blocks\":[", b->what.rows, rank);
    for (size_t i = 0; i < b->lens.count; i++) {
        buf_add_text(out, i ? ",{\"name\":" : "{\"name\":");
        json_put_text(out, b->shape.names[i], strlen(b->shape.names[i]));
        buf_format(out, ",\"dim\":%zu,\"rank\":%zu,\"largest\":", b->lens.block[i].dim,
                   b->lens.block[i].rank);
        json_put_short(out, b->lens.block[i].rank ? b->lens.block[i].values[0] : 0.0);
        buf_add(out, "}", 1);
    }
    buf_add_text(out, "],\"spectra\":{\"place\":[");
    for (size_t i = 0; i < count; i++)
        buf_format(out, i ? ",%zu" : "%zu", at[i]);
    buf_add(out, "]", 1);
    put_values(out, "train", b->train, at, count);
    put_values(out, "eval", b->eval, at, count);
    buf_add_text(out, "}}");
}

struct recording {
    struct build *b;
    struct annex_def def;
};

static int record(void *arg, struct err *e)
{
    struct recording *r = arg;

    return annex_put(r->b->corpus, &r->def, r->b->before, e);
}

static int put_record(struct build *b, const char *text, struct artifact *lens,
                      struct artifact *norms, struct err *e)
{
    struct recording r = {.b = b,
                          .def = {.name = b->what.name,
                                  .epoch = view_epoch(b->view),
                                  .text = text,
                                  .artifact_count = 2,
                                  .artifacts = {lens, norms}}};

    return pool_lane(b->rt->pool, record, &r, e);
}

/* ---- the jobs -------------------------------------------------------------------------------- */

static int build(struct build *b, struct err *e)
{
    struct artifact *lens = NULL, *norms = NULL;
    int code;

    if (!b->view->state)
        return err_set(e, ERR_NOT_FITTED, "corpus %s is not fitted", corpus_def(b->corpus)->name);
    b->total = 2 * (uint64_t)b->what.rows * dim_of(b) * sizeof(float) +
               b->view->rows * corpus_row_bytes(b->corpus);
    code = encode_whitening(b->view, &b->whiten, e);
    if (!code)
        code = make_lens(b, e);
    if (!code)
        code = write_lens(b, &lens, e);
    if (!code)
        code = write_norms(b, &norms, e);
    if (!code) {
        put_text(b);
        buf_add(&b->text, "", 1);
        code = b->text.failed ? err_set(e, ERR_BUSY, "no memory for the record of a task")
                              : put_record(b, (const char *)b->text.data, lens, norms, e);
    }
    artifact_release(lens);
    artifact_release(norms);
    return code;
}

static int run_build(struct task *t, void *arg, struct buf *result, struct err *e)
{
    struct build *b = arg;
    int code;

    b->task = t;
    b->before = annex_find(b->corpus, b->what.name);
    b->view = corpus_view(b->corpus);
    code = build(b, e);
    if (!code) {
        buf_format(result, "{\"name\":\"%s\",%s", b->what.name, (const char *)b->text.data + 1);
        metrics_add(b->rt->metrics, METRIC_TASKS_MADE, 1);
    }
    view_release(b->view);
    return code;
}

static int extend(struct build *b, struct err *e)
{
    const struct annex_def *def = annex_def(b->before);
    struct annex *held = NULL;
    struct artifact *norms = NULL;
    const unsigned char *bytes;
    size_t len;
    int code = lenses_open(b->corpus, b->view, def->name, &held, &b->lensed, e);

    b->total = b->view->rows * corpus_row_bytes(b->corpus);
    if (!code && held != b->before) {
        b->lensed = NULL; /* the other one's, and not ours to keep */
        code = err_set(e, ERR_CONFLICT, "task %s was replaced meanwhile", def->name);
    }
    if (!code)
        code = artifact_map(def->artifacts[0], &bytes, &len, e);
    if (!code)
        code = lens_read(bytes, len, &b->lens, e);
    if (!code)
        code = write_norms(b, &norms, e);
    if (!code)
        code = put_record(b, def->text, def->artifacts[0], norms, e);
    artifact_release(norms);
    annex_release(held);
    return code;
}

static int run_extend(struct task *t, void *arg, struct buf *result, struct err *e)
{
    struct build *b = arg;
    int code;

    b->task = t;
    b->view = corpus_view(b->corpus);
    code = extend(b, e);
    if (code && b->lensed)
        lenses_ask_again(b->lensed);
    if (!code) {
        buf_format(result, "{\"task\":\"%s\",\"rows\":%" PRIu64 "}", b->what.name, b->view->rows);
        metrics_add(b->rt->metrics, METRIC_TASKS_EXTENDED, 1);
    }
    view_release(b->view);
    return code;
}

static void drop_build(void *arg)
{
    struct build *b = arg;

    task_build_release(b->reserved);
    annex_release(b->before);
    corpus_release(b->corpus);
    arena_free(&b->arena);
    lens_fini(&b->lens);
    buf_free(&b->text);
    free(b->what.gradients);
    free(b->white);
    free(b->norms);
    free(b->train);
    free(b->eval);
    free(b);
}

int task_build_start(struct runtime *rt, struct corpus *c, const struct task_build *what,
                     char id[TASK_ID_MAX], struct buf *out, struct err *e)
{
    struct build *b = mem_new(1, sizeof *b);
    int code;

    *b = (struct build){.rt = rt, .corpus = c, .what = *what};
    corpus_retain(c);
    b->reserved = (uint64_t)what->rows * dim_of(b) * sizeof(float);
    code = manifest_shape(corpus_def(c), &b->arena, &b->shape, e);
    if (!code)
        code = partial_refuse(c, false, e);
    if (!code)
        code = tasks_start(rt->tasks, "task", run_build, drop_build, b, id, out, e);
    if (code) { /* the gradients stay the caller's */
        b->what.gradients = NULL;
        b->reserved = 0;
        drop_build(b);
    } else {
        tasks_bind(rt->tasks, id, corpus_def(c)->name);
    }
    return code;
}

bool task_build_extend(struct runtime *rt, struct corpus *c, struct annex *a)
{
    struct build *b = mem_new(1, sizeof *b);
    char id[TASK_ID_MAX];
    struct err ignored = ERR_INIT; /* nobody waits for it: a later query asks again */

    *b = (struct build){.rt = rt, .corpus = c, .before = a};
    memcpy(b->what.name, annex_def(a)->name, strlen(annex_def(a)->name));
    corpus_retain(c);
    annex_retain(a);
    if (!tasks_start(rt->tasks, "denominators", run_extend, drop_build, b, id, NULL, &ignored)) {
        tasks_bind(rt->tasks, id, corpus_def(c)->name);
        return true;
    }
    drop_build(b);
    return false;
}
