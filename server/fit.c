/* fit.c - see fit.h. Task thread; readers that are idle help, one always stays free for requests.
 *
 * Rows are read once for each group of blocks whose Gram sums fit in memory together. A chunk is
 * copied out before anything is computed: no read transaction waits for a matrix product. */
#include "server/fit.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/flat.h"
#include "index/gram.h"
#include "index/lapack.h"
#include "index/whiten.h"
#include "server/encode.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/manifest.h"
#include "server/metrics.h"
#include "server/partial.h"
#include "server/pool.h"
#include "server/runtime.h"
#include "server/upkeep.h"
#include "storage/annex.h"
#include "storage/base/check.h"
#include "storage/maintain.h"

struct fit {
    struct runtime *rt;
    struct corpus *corpus; /* a reference */
    struct fit_options options;
    struct arena arena;
    struct manifest_shape shape;
    struct task *task;
    const struct view *view; /* that the Hessian is taken from */
    uint64_t rows;           /* of the sample */
    const struct whiten *old; /* what the rows went through already, or NULL */
    struct whiten moves;     /* then: from old to new; roots owned */
    struct artifact_writer *writer;
    struct buf text;        /* the new state's */
    _Atomic uint64_t done;  /* work, in bytes of rows added to a Gram sum */
    uint64_t total;
    uint64_t rewrite_begin; /* done, when the rewrite began */
};

/* ---- progress -------------------------------------------------------------------------------- */

/* Measured (docs/encoding.md): the eigenvectors of a block of n cost what n^3 / 100 bytes of
 * rows cost to sum up; whitening a row twice what adding it does. */
static uint64_t eigen_work(size_t dim)
{
    return (uint64_t)dim * dim * dim / 100;
}

static uint64_t rewrite_work(const struct fit *f)
{
    return 2 * f->view->rows * corpus_row_bytes(f->corpus);
}

static int stopped(struct err *e)
{
    return err_set(e, ERR_CANCELLED, "the fit was cancelled; the corpus is as it was");
}

static int advance(struct fit *f, uint64_t work, struct err *e)
{
    uint64_t done = atomic_fetch_add(&f->done, work) + work;

    return tasks_report(f->task, done, f->total) ? 0 : stopped(e);
}

static bool rewrite_report(void *arg, uint64_t done, uint64_t total)
{
    struct fit *f = arg;

    f->done = f->rewrite_begin + 2 * done;
    f->total = f->rewrite_begin + 2 * total;
    return tasks_report(f->task, f->done, f->total);
}

/* ---- the sample ------------------------------------------------------------------------------ */

/* The rows of one chunk that count, side by side. */
struct sample {
    unsigned char *rows;
    double *norms;
    size_t count;
};

/* Evenly spread over the live rows: number i is in when the share taken grows at it. */
static bool is_sampled(const struct fit *f, uint64_t i)
{
    long double share = (long double)f->rows / (long double)f->view->live;
    uint64_t before = (uint64_t)((long double)i * share + 1e-9L);

    return f->rows >= f->view->live || (uint64_t)((long double)(i + 1) * share + 1e-9L) > before;
}

static void sample_free(struct sample *s)
{
    free(s->rows);
    free(s->norms);
}

/* `*live` counts the live rows before this chunk. */
static int sample_read(const struct fit *f, const struct view_chunk *c, uint64_t *live,
                       struct sample *s, struct err *e)
{
    size_t row_bytes = corpus_row_bytes(f->corpus);
    struct block encodings = {0}, rows = {0};
    int code;

    *s = (struct sample){.rows = mem_big(c->rows, row_bytes),
                         .norms = mem_big(c->rows, sizeof(double))};
    if (!s->rows || !s->norms)
        return err_set(e, ERR_BUSY, "no memory for %u rows of %zu bytes", c->rows, row_bytes);
    code = block_distrust(c, e); /* what is made of it lasts */
    if (!code)
        code = block_open(c, BLOCK_ROWS, &rows, e);
    if (!code) {
        code = block_open(c, BLOCK_ENCODINGS, &encodings, e);
        for (uint32_t r = 0; !code && r < c->rows; r++) {
            if (view_row_dead(c, r) || !is_sampled(f, (*live)++))
                continue;
            memcpy(s->rows + s->count * row_bytes, encodings.bytes + r * row_bytes, row_bytes);
            s->norms[s->count++] = block_row_norm(&rows, r);
        }
        if (!code)
            block_close(&encodings);
        block_close(&rows);
    }
    return code;
}

/* ---- Gram sums of a group of blocks, by several threads -------------------------------------- */

struct group {
    struct fit *fit;
    size_t first, count;  /* blocks */
    struct gram *grams;   /* count */
    struct whiten_block *blocks; /* count */
    struct err *errs;     /* count */
    const struct sample *sample;
    uint64_t row; /* number of the sample's first, for messages */
    _Atomic size_t next;
};

static size_t column_of(const struct fit *f, size_t block)
{
    size_t at = 0;

    for (size_t i = 0; i < block; i++)
        at += f->shape.dims[i];
    return at;
}

static void add_share(void *arg, unsigned slot)
{
    struct group *g = arg;
    const struct corpus_def *def = corpus_def(g->fit->corpus);
    size_t i;

    (void)slot;
    while ((i = atomic_fetch_add(&g->next, 1)) < g->count) {
        size_t at = column_of(g->fit, g->first + i) * dtype_size((enum dtype)def->dtype);

        gram_add(&g->grams[i], g->sample->rows + at, (enum dtype)def->dtype,
                 corpus_row_bytes(g->fit->corpus), g->sample->norms, g->sample->count, g->row,
                 &g->errs[i]);
    }
}

/* A first fit from the gradients, a later one from what they were whitened to. */
static void fit_one(struct group *g, size_t i)
{
    struct fit *f = g->fit;
    size_t block = g->first + i, dim = f->shape.dims[block];
    float *move;

    if (!f->old) {
        whiten_fit(&g->blocks[i], f->shape.names[block], &g->grams[i], f->options.damping,
                   &g->errs[i]);
        return;
    }
    move = mem_big(dim * dim, sizeof *move);
    if (!move)
        err_set(&g->errs[i], ERR_BUSY, "no memory for a %zu x %zu matrix", dim, dim);
    else
        whiten_refit(&g->blocks[i], move, f->shape.names[block], &g->grams[i],
                     &f->old->block[block], f->options.damping, &g->errs[i]);
    f->moves.block[block] = (struct whiten_block){.dim = dim, .root = move, .memory = move};
}

static void fit_share(void *arg, unsigned slot)
{
    struct group *g = arg;
    struct fit *f = g->fit;
    size_t i;

    (void)slot;
    while ((i = atomic_fetch_add(&g->next, 1)) < g->count) {
        gram_finish(&g->grams[i]);
        if (!tasks_report(f->task, f->done, f->total))
            stopped(&g->errs[i]);
        else
            fit_one(g, i);
        if (!g->errs[i].code)
            advance(f, eigen_work(f->shape.dims[g->first + i]), &g->errs[i]);
    }
}

static int spread(struct group *g, unsigned width, void (*share)(void *arg, unsigned slot),
                  struct err *e)
{
    atomic_store(&g->next, 0);
    if (width > g->count)
        width = (unsigned)g->count;
    pool_fanout(g->fit->rt->pool, width, share, g);
    for (size_t i = 0; i < g->count; i++)
        if (g->errs[i].code) {
            *e = g->errs[i];
            return (int)e->code;
        }
    return 0;
}

static int sum_rows(struct group *g, struct err *e)
{
    struct fit *f = g->fit;
    uint64_t live = 0;
    size_t columns = 0;
    int code = 0;

    for (size_t i = 0; i < g->count; i++)
        columns += f->shape.dims[g->first + i];
    for (size_t i = 0; !code && i < f->view->chunk_count; i++) {
        struct sample s;

        code = sample_read(f, &f->view->chunks[i], &live, &s, e);
        g->sample = &s;
        if (!code && s.count)
            code = spread(g, pool_readers(f->rt->pool), add_share, e);
        g->row += s.count;
        if (!code)
            code = advance(f, (uint64_t)s.count * columns *
                               dtype_size((enum dtype)corpus_def(f->corpus)->dtype), e);
        sample_free(&s);
    }
    return code;
}

/* ---- from sums to the artifact --------------------------------------------------------------- */

static int put_artifact(void *arg, const void *bytes, size_t len, struct err *e)
{
    return artifact_add(arg, bytes, len, e);
}

static void put_block(struct fit *f, size_t i, const struct whiten_block *b)
{
    buf_add_text(&f->text, i ? ",{\"name\":" : "{\"name\":");
    json_put_text(&f->text, f->shape.names[i], strlen(f->shape.names[i]));
    buf_format(&f->text, ",\"dim\":%zu,\"mean_eigenvalue\":", b->dim);
    json_put_short(&f->text, b->mean);
    buf_add_text(&f->text, ",\"damp\":");
    json_put_short(&f->text, b->damp);
    buf_add_text(&f->text, ",\"largest\":");
    json_put_short(&f->text, b->eigenvalues[0]);
    buf_add_text(&f->text, ",\"smallest\":");
    json_put_short(&f->text, b->eigenvalues[b->dim - 1]);
    buf_add(&f->text, "}", 1);
}

static int write_blocks(struct group *g, struct err *e)
{
    struct fit *f = g->fit;
    struct image_sink sink = {.put = put_artifact, .arg = f->writer};
    int code = 0;

    for (size_t i = 0; !code && i < g->count; i++) {
        code = whiten_write_block(&g->blocks[i], &sink, e);
        put_block(f, g->first + i, &g->blocks[i]);
        whiten_block_fini(&g->blocks[i]);
    }
    return code;
}

static int group_init(struct group *g, struct err *e)
{
    int code = 0;

    g->grams = mem_new(g->count, sizeof *g->grams);
    g->blocks = mem_new(g->count, sizeof *g->blocks);
    g->errs = mem_new(g->count, sizeof *g->errs);
    for (size_t i = 0; i < g->count; i++)
        g->errs[i] = ERR_INIT;
    for (size_t i = 0; !code && i < g->count; i++)
        code = gram_init(&g->grams[i], g->fit->shape.dims[g->first + i], e);
    return code;
}

static void group_fini(struct group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        gram_fini(&g->grams[i]);
        whiten_block_fini(&g->blocks[i]);
    }
    free(g->grams);
    free(g->blocks);
    free(g->errs);
}

/* Matrices of the largest block that finding its root holds at its peak: a later fit's. */
static uint64_t solve_bytes(const struct fit *f)
{
    uint64_t largest = 0;

    for (size_t i = 0; i < f->shape.count; i++)
        if (f->shape.dims[i] > largest)
            largest = f->shape.dims[i];
    return 5 * largest * largest * sizeof(double);
}

/* How many blocks are solved at once: within the bound of the sums, one always. */
static unsigned solvers(const struct fit *f)
{
    uint64_t fits = LIMIT_FIT_BYTES / solve_bytes(f);
    unsigned readers = pool_readers(f->rt->pool);

    return fits >= readers ? readers : fits ? (unsigned)fits : 1;
}

static int fit_group(struct fit *f, size_t first, size_t count, struct err *e)
{
    struct group g = {.fit = f, .first = first, .count = count};
    int code = group_init(&g, e);

    if (!code)
        code = sum_rows(&g, e);
    if (!code)
        code = spread(&g, solvers(f), fit_share, e);
    if (!code)
        code = write_blocks(&g, e);
    group_fini(&g);
    return code;
}

/* Blocks from `first` whose sums fit in memory together, at least one. */
static size_t group_of(const struct fit *f, size_t first)
{
    uint64_t bytes = gram_bytes(f->shape.dims[first]);
    size_t count = 1;

    while (first + count < f->shape.count &&
           bytes + gram_bytes(f->shape.dims[first + count]) <= LIMIT_FIT_BYTES)
        bytes += gram_bytes(f->shape.dims[first + count++]);
    return count;
}

static int fit_blocks(struct fit *f, struct err *e)
{
    struct image_sink sink = {.put = put_artifact, .arg = f->writer};
    int code = whiten_write_head(f->shape.dims, f->shape.count, f->rows, f->options.damping, &sink,
                                 e);

    for (size_t i = 0, count; !code && i < f->shape.count; i += count) {
        count = group_of(f, i);
        code = fit_group(f, i, count, e);
    }
    return code;
}

/* ---- rewrite --------------------------------------------------------------------------------- */

struct rewrite {
    struct fit *fit;
    struct whiten whiten;
};

static bool rewrite_stop(void *arg)
{
    struct fit *f = arg;

    return !tasks_report(f->task, f->done, f->total);
}

static int rewrite_rows(void *arg, const void *in, double *norms, size_t count, void *out,
                        struct err *e)
{
    struct rewrite *r = arg;
    const struct corpus_def *def = corpus_def(r->fit->corpus);
    struct stop stop = {.asked = rewrite_stop, .arg = r->fit};
    struct encode k = {.whiten = r->fit->old ? &r->fit->moves : &r->whiten,
                       .in = in,
                       .in_type = (enum dtype)def->dtype,
                       .rows = count,
                       .dim = def->dim,
                       .lengths = norms,
                       .out_type = (enum dtype)def->dtype,
                       .out = out,
                       .norms = norms,
                       .field = "stored rows"};

    return encode_run(&k, r->fit->rt->pool, &stop, e);
}

static int lane_run(void *arg, int (*work)(void *work_arg, struct err *e), void *work_arg,
                    struct err *e)
{
    return pool_lane(arg, work, work_arg, e);
}

static int rewrite(struct fit *f, struct artifact *a, struct err *e)
{
    struct maintain_lane lane = {.run = lane_run, .arg = f->rt->pool};
    struct maintain_progress progress = {.report = rewrite_report, .arg = f};
    struct rewrite r = {.fit = f};
    struct rewrite_to to = {
        .rows = rewrite_rows, .arg = &r, .text = (const char *)f->text.data, .artifact = a};
    const unsigned char *bytes;
    const struct view *now;
    size_t len;
    int code = artifact_map(a, &bytes, &len, e);

    if (!code)
        code = whiten_read(bytes, len, &r.whiten, e);
    if (code)
        return code;
    f->rewrite_begin = f->done;
    code = rewrite_corpus(f->corpus, &to, &lane, &progress, e);
    whiten_fini(&r.whiten);
    now = corpus_view(f->corpus);
    upkeep_forget_gone(f->rt->flat, f->view, now);
    view_release(now);
    return code;
}

/* ---- the job --------------------------------------------------------------------------------- */

static void put_text(struct fit *f)
{
    buf_add_text(&f->text, "{\"damping\":");
    json_put_short(&f->text, f->options.damping);
    buf_format(&f->text, ",\"rows\":%" PRIu64 ",\"of\":%" PRIu64 ",\"epoch\":%" PRIu64, f->rows,
               f->view->live, view_epoch(f->view) + 1);
    buf_add_text(&f->text, ",\"blocks\":[");
}

static uint64_t all_work(const struct fit *f)
{
    uint64_t work = f->rows * corpus_row_bytes(f->corpus) + rewrite_work(f);

    for (size_t i = 0; i < f->shape.count; i++)
        work += eigen_work(f->shape.dims[i]);
    return work;
}

static int fit_view(struct fit *f, struct err *e)
{
    struct artifact *a = NULL;
    int code;

    if (f->view->live == 0)
        return err_set(e, ERR_EMPTY, "corpus %s has no examples to fit on",
                       corpus_def(f->corpus)->name);
    if (encode_whitening(f->view, &f->old, e))
        return (int)e->code;
    if (f->old)
        f->moves = (struct whiten){.count = f->shape.count,
                                   .dim = corpus_def(f->corpus)->dim,
                                   .block = mem_new(f->shape.count, sizeof *f->moves.block)};
    f->rows = f->options.sample < f->view->live ? f->options.sample : f->view->live;
    f->total = all_work(f);
    put_text(f);
    code = artifact_begin(f->rt->store, &f->writer, e);
    if (!code)
        code = fit_blocks(f, e);
    buf_add_text(&f->text, "]}");
    buf_add(&f->text, "", 1);
    if (!code && f->text.failed)
        code = err_set(e, ERR_BUSY, "no memory for the record of the fit");
    if (!code)
        code = artifact_finish(f->writer, &a, e);
    if (!code)
        code = rewrite(f, a, e);
    artifact_release(a);
    artifact_writer_end(f->writer);
    return code;
}

static int run_fit(struct task *t, void *arg, struct buf *result, struct err *e)
{
    struct fit *f = arg;
    int code;

    f->task = t;
    f->view = corpus_view(f->corpus);
    code = fit_view(f, e);
    if (!code) {
        buf_add_text(result, (const char *)f->text.data);
        metrics_add(f->rt->metrics, METRIC_FITS, 1);
        metrics_add(f->rt->metrics, METRIC_FIT_ROWS, f->view->live);
    }
    view_release(f->view);
    return code;
}

static void drop_fit(void *arg)
{
    struct fit *f = arg;

    whiten_fini(&f->moves);
    corpus_release(f->corpus);
    arena_free(&f->arena);
    buf_free(&f->text);
    free(f);
}

static int check_fit(struct fit *f, struct err *e)
{
    const struct corpus_def *def = corpus_def(f->corpus);
    struct corpus_stats s;
    uint64_t machine;
    int code = manifest_shape(def, &f->arena, &f->shape, e);

    if (code)
        return code;
    if (!(isfinite(f->options.damping) && f->options.damping >= 0.0)) {
        err_set(e, ERR_INVALID, "damping %g: it must be finite and not negative",
                f->options.damping);
        return err_at_field(e, "damping");
    }
    if (f->shape.encoded)
        return err_set(e, ERR_ENCODED,
                       "corpus %s was created encoded: its encodings are the client's, a fit "
                       "needs gradients", def->name);
    for (size_t i = 0; i < f->shape.count; i++)
        if (f->shape.dims[i] > LAPACK_DIM_MAX) {
            err_set(e, ERR_INVALID,
                    "block %.64s has %zu dimensions; a fit takes blocks of at most %d",
                    f->shape.names[i], f->shape.dims[i], LAPACK_DIM_MAX);
            return err_at_limit(e, LAPACK_DIM_MAX);
        }
    machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (solve_bytes(f) > machine / 2) {
        err_set(e, ERR_TOO_LARGE,
                "corpus %s: a fit of its largest block takes %" PRIu64 " MiB, half of this "
                "machine's memory is %" PRIu64 "; more and smaller blocks are needed", def->name,
                solve_bytes(f) >> 20, machine >> 21);
        return err_at_limit(e, (int64_t)(machine / 2));
    }
    corpus_stats(f->corpus, &s);
    if (s.examples == 0)
        return err_set(e, ERR_EMPTY, "corpus %s has no examples to fit on", def->name);
    return 0;
}

int fit_start(struct runtime *rt, struct corpus *c, const struct fit_options *o,
              char id[TASK_ID_MAX], struct buf *out, struct err *e)
{
    struct fit *f = mem_new(1, sizeof *f);
    int code;

    *f = (struct fit){.rt = rt, .corpus = c, .options = *o};
    corpus_retain(c);
    code = check_fit(f, e);
    if (!code)
        code = partial_refuse(c, true, e);
    if (!code)
        code = tasks_start(rt->tasks, "fit", run_fit, drop_fit, f, id, out, e);
    if (code)
        drop_fit(f);
    else
        tasks_bind(rt->tasks, id, corpus_def(c)->name);
    return code;
}
