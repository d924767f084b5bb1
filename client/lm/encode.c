/* encode.c - see encode.h. Threads take batches by number from one counter; each has an encoder and
 * a lane of its own. */
#include "client/lm/encode.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "client/lm/crew.h"
#include "index/vec.h"
#include "storage/base/mem.h"

struct job {
    const struct encoder_plan *plan;
    const struct passages *ps;
    const struct encode_options *options;
    const struct encode_sink *sink;
    size_t batches;
    char (*name)[ENCODE_NAME_MAX]; /* of each batch; owned */
    void (*tell)(void *ctx, const struct encode_progress *p);
    void *ctx;
    pthread_mutex_t lock;          /* guards what follows */
    size_t next;                   /* batch not yet taken */
    struct encode_progress progress;
    struct err error;              /* the first */
};

struct worker {
    struct job *job;
    struct encoder encoder;
    void *lane;
    float *rows;                /* (batch_rows, dim), owned */
    uint16_t *narrow;           /* the same in two bytes, or NULL; owned */
    struct encoder_text *texts; /* (batch_rows), owned */
    struct buf lines;
};

static size_t batch_first(const struct job *j, size_t number)
{
    return number * j->options->batch_rows;
}

static size_t batch_count(const struct job *j, size_t number)
{
    const size_t left = j->ps->count - batch_first(j, number);

    return left < j->options->batch_rows ? left : j->options->batch_rows;
}

static void name_batch(const struct job *j, size_t number, const struct buf *corpus)
{
    uint64_t hash = XXH3_64bits(corpus->data, corpus->len);

    for (size_t i = 0; i < batch_count(j, number); i++) {
        const struct passage *p = &j->ps->list[batch_first(j, number) + i];
        hash = XXH3_64bits_withSeed(p->line, p->line_len, hash);
    }
    snprintf(j->name[number], ENCODE_NAME_MAX, "b%06zu-%016llx", number, (unsigned long long)hash);
}

/* The batch without its gradients: the texts to encode, and the lines. */
static int collect(struct worker *w, size_t number, struct encode_batch *out, struct err *e)
{
    const struct job *j = w->job;
    const size_t first = batch_first(j, number), count = batch_count(j, number);

    w->lines.len = 0;
    for (size_t i = 0; i < count; i++) {
        const struct passage *p = &j->ps->list[first + i];
        w->texts[i] = (struct encoder_text){.text = p->text, .text_len = p->text_len};
        buf_add(&w->lines, p->line, p->line_len);
        buf_add_text(&w->lines, "\n");
    }
    if (w->lines.failed)
        return err_set(e, ERR_BUSY, "no memory for the examples of a batch");
    *out = (struct encode_batch){.name = j->name[number],
                                 .rows = count,
                                 .dim = j->plan->dim,
                                 .dtype = j->options->dtype,
                                 .lines = (const char *)w->lines.data,
                                 .lines_len = w->lines.len};
    return 0;
}

static int narrow_rows(struct worker *w, size_t count, struct err *e)
{
    const size_t dim = w->job->plan->dim;

    vec_narrow(w->rows, count * dim, w->job->options->dtype, w->narrow);
    for (size_t i = 0; w->job->options->dtype == DTYPE_F16 && i < count * dim; i++)
        if ((w->narrow[i] & 0x7FFF) >= 0x7C00) {
            err_set(e, ERR_NOT_FINITE, "%g does not fit in f16 (bf16 has the range)",
                    (double)w->rows[i]);
            return err_at_index(e, (int64_t)(i / dim));
        }
    return 0;
}

static int compute(struct worker *w, size_t number, struct encode_batch *b, struct err *e)
{
    const struct passage *first = &w->job->ps->list[batch_first(w->job, number)];
    int rc = encoder_run(&w->encoder, w->texts, b->rows, w->rows, NULL, e);

    if (!rc && w->narrow)
        rc = narrow_rows(w, b->rows, e);
    if (rc && e->index >= 0)
        err_wrap(e, "passage \"%.80s\": ", first[e->index].id);
    b->gradients = w->narrow ? (const void *)w->narrow : w->rows;
    return rc;
}

static void report(struct job *j, size_t count, bool kept)
{
    pthread_mutex_lock(&j->lock);
    j->progress.done += count;
    j->progress.kept += kept ? count : 0;
    if (j->tell)
        j->tell(j->ctx, &j->progress);
    pthread_mutex_unlock(&j->lock);
}

static int do_batch(struct worker *w, size_t number, struct err *e)
{
    const struct encode_sink *sink = w->job->sink;
    struct encode_batch b;
    bool kept = false;
    int rc = collect(w, number, &b, e);

    if (!rc)
        kept = sink->has(w->lane, &b);
    if (!rc && !kept)
        rc = compute(w, number, &b, e);
    if (!rc && !kept)
        rc = sink->put(w->lane, &b, e);
    if (!rc)
        report(w->job, b.rows, kept);
    return rc;
}

static int worker_init(struct worker *w, struct job *j, struct err *e)
{
    const size_t rows = j->options->batch_rows, dim = j->plan->dim;
    int rc;

    *w = (struct worker){.job = j};
    rc = encoder_init(&w->encoder, j->plan, e);
    if (rc)
        return rc;
    w->rows = mem_big(rows * dim, sizeof *w->rows);
    w->texts = mem_big(rows, sizeof *w->texts);
    if (j->options->dtype != DTYPE_F32)
        w->narrow = mem_big(rows * dim, sizeof *w->narrow);
    if (!w->rows || !w->texts || (j->options->dtype != DTYPE_F32 && !w->narrow))
        return err_set(e, ERR_BUSY, "no memory for a batch of %zu rows of %zu", rows, dim);
    return j->sink->open(j->sink->ctx, &w->lane, e);
}

static void worker_fini(struct worker *w)
{
    w->job->sink->close(w->lane);
    encoder_fini(&w->encoder);
    free(w->rows);
    free(w->narrow);
    free(w->texts);
    buf_free(&w->lines);
}

static bool take_batch(struct job *j, size_t *number)
{
    bool some;

    pthread_mutex_lock(&j->lock);
    some = j->next < j->batches && j->error.code == ERR_OK;
    if (some)
        *number = j->next++;
    pthread_mutex_unlock(&j->lock);
    return some;
}

static void work(void *ctx, unsigned member, unsigned members)
{
    struct job *j = ctx;
    struct worker w;
    struct err e = ERR_INIT;
    size_t number;
    int rc = worker_init(&w, j, &e);

    (void)member;
    (void)members;
    while (!rc && take_batch(j, &number))
        rc = do_batch(&w, number, &e);
    if (!rc)
        rc = j->sink->settle(w.lane, &e);
    if (rc) {
        pthread_mutex_lock(&j->lock);
        if (j->error.code == ERR_OK)
            j->error = e;
        pthread_mutex_unlock(&j->lock);
    }
    worker_fini(&w);
}

static int prepare(struct job *j, struct err *e)
{
    struct buf corpus = {0};
    int rc;

    j->batches = (j->ps->count + j->options->batch_rows - 1) / j->options->batch_rows;
    j->name = mem_big(j->batches, sizeof *j->name);
    encoder_plan_describe(j->plan, dtype_name(j->options->dtype), &corpus);
    if (!j->name || corpus.failed) {
        rc = err_set(e, ERR_BUSY, "no memory for %zu batch names", j->batches);
    } else {
        for (size_t n = 0; n < j->batches; n++)
            name_batch(j, n, &corpus);
        rc = j->sink->prepare(j->sink->ctx, &corpus, j->name, j->batches, e);
    }
    buf_free(&corpus);
    return rc;
}

int encode_run(const struct encoder_plan *plan, const struct passages *ps,
               const struct encode_options *o, const struct encode_sink *sink,
               void (*tell)(void *ctx, const struct encode_progress *p), void *ctx, struct err *e)
{
    struct job j = {
        .plan = plan, .ps = ps, .options = o, .sink = sink, .tell = tell, .ctx = ctx};
    struct crew *crew = NULL;
    int rc;

    if (o->batch_rows < 1 || o->batch_rows > ENCODE_BATCH_MAX)
        return err_set(e, ERR_INVALID, "%llu rows a batch: must be 1 to %d",
                       (unsigned long long)o->batch_rows, ENCODE_BATCH_MAX);
    err_clear(&j.error);
    j.progress.total = ps->count;
    pthread_mutex_init(&j.lock, NULL);
    rc = prepare(&j, e);
    if (!rc)
        rc = crew_start(&crew, (unsigned)o->threads, e);
    if (!rc) {
        crew_run(crew, work, &j);
        crew_stop(crew);
        if (j.error.code != ERR_OK) {
            *e = j.error;
            rc = (int)e->code;
        }
    }
    pthread_mutex_destroy(&j.lock);
    free(j.name);
    return rc;
}
