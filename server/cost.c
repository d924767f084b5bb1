/* cost.c - see cost.h. Each engine's time is its larger one of reading and computing, shared
 * evenly among readers (which overstates memory, for all engines alike). docs/performance.md has
 * the figures behind the constants. */
#include "server/cost.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/code.h"
#include "server/pool.h"
#include "storage/base/mem.h"
#include "storage/corpus.h"

enum {
    BLAS_QUERIES = 20, /* FAISS 1.7.3: distance_compute_blas_threshold; below it is never faster */
    MARGIN = 32,       /* proposals beyond k that flat scores exactly (index/certify.c) */
    BITS_QUERIES = 2, /* more, or opponents: engine tiered begins with six bits (index/tier.h) */
    SPARSE = 16,       /* live rows so far apart each cost tiered a whole tile of rows */
};

static const double SETUP = 40e-6;       /* a search of engine tiered, before its first row */
static const double OPEN = 2e-6;         /* a block of a chunk */
static const double PREPARE = 3e-9;      /* an element of a query: rotated, cut, split */
static const double LEFT_BY_SIX = 0.02;  /* of rows, on real encodings */
static const double LEFT_BY_BITS = 0.08;

struct cost {
    pthread_mutex_t lock;
    struct rate rate;
    bool measured;
    uint64_t flat_bytes;
};

struct cost *cost_new(uint64_t flat_bytes)
{
    struct cost *c = mem_new(1, sizeof *c);

    pthread_mutex_init(&c->lock, NULL);
    c->rate = rate_plain;
    c->flat_bytes = flat_bytes;
    return c;
}

void cost_free(struct cost *c)
{
    if (c)
        pthread_mutex_destroy(&c->lock);
    free(c);
}

void cost_measure(void *cost)
{
    struct cost *c = cost;
    struct rate rate;

    rate_measure(&rate);
    pthread_mutex_lock(&c->lock);
    c->rate = rate;
    c->measured = true;
    pthread_mutex_unlock(&c->lock);
}

bool cost_rates(const struct cost *c, struct rate *out)
{
    struct cost *own = (struct cost *)(uintptr_t)c; /* for its lock alone */
    bool measured = false;

    *out = rate_plain;
    if (!c)
        return false;
    pthread_mutex_lock(&own->lock);
    *out = c->rate;
    measured = c->measured;
    pthread_mutex_unlock(&own->lock);
    return measured;
}

/* ---- the model ------------------------------------------------------------------------------- */

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* Every one of `rows` by the exact kernel, for all queries. */
static double exact(const struct rate *r, const struct cost_ask *a, double rows)
{
    return rows * larger((double)a->row_bytes / r->read,
                         (double)a->queries * (double)a->dim / r->exact);
}

static double scan(const struct rate *r, const struct cost_ask *a)
{
    return exact(r, a, (double)a->live) + 2 * OPEN * (double)a->chunks;
}

static double flat(const struct rate *r, const struct cost_ask *a, uint64_t flat_bytes)
{
    double q = (double)a->queries, values = (double)a->rows * (double)a->dim;
    double rescored = q * ((double)a->deep + MARGIN + 4 * (double)a->chunks) * (double)a->dim;
    double copied = values * sizeof(float) > (double)flat_bytes ? 2 * values * sizeof(float) : 0;

    if (a->queries < BLAS_QUERIES || !a->plain)
        return INFINITY;
    return larger(values * q / r->blas, values * sizeof(float) / r->read) + rescored / r->exact +
           copied / r->read + 2 * OPEN * (double)a->chunks;
}

static double tiered(const struct rate *r, const struct cost_ask *a)
{
    double padded = (double)code_padded(a->dim), q = (double)a->queries;
    double rows = (double)a->coded, live = (double)a->live, one = padded / r->read, seconds;
    double six = q > 1 ? r->six_many : r->six, bits = q > 1 ? r->bits_many : r->bits;

    if (rows > live * SPARSE)
        rows = live * SPARSE;
    if (a->precision == TIER_PROBABILISTIC && a->queries <= BITS_QUERIES && !a->opponents) {
        seconds = rows * larger(one / 8, q * padded / bits);
        seconds += LEFT_BY_BITS * rows * q * larger(one * 0.75, padded / r->six);
    } else {
        seconds = rows * larger(one * 0.75, q * padded / six);
    }
    if (a->precision == TIER_CERTIFIED)
        seconds += LEFT_BY_SIX * rows * q * larger(one / 4, padded / r->six);
    seconds += q * ((double)a->deep + MARGIN) *
               larger((double)a->row_bytes / r->read, (double)a->dim / r->exact);
    seconds += exact(r, a, live * (double)(a->rows - a->coded) / (double)(a->rows ? a->rows : 1));
    return seconds + SETUP + q * padded * PREPARE + 5 * OPEN * (double)a->chunks;
}

static double seconds_of(const struct rate *r, const struct cost_ask *a, uint64_t flat_bytes,
                         enum scan_engine engine)
{
    if (engine == SCAN_FLAT)
        return flat(r, a, flat_bytes);
    if (engine == SCAN_TIERED)
        return a->coded && tier_takes(a->dim) ? tiered(r, a) : INFINITY;
    return scan(r, a);
}

double cost_of(const struct cost *c, const struct cost_ask *a, enum scan_engine engine)
{
    struct rate r;

    cost_rates(c, &r);
    return seconds_of(&r, a, c ? c->flat_bytes : 0, engine) / (a->threads ? a->threads : 1);
}

enum scan_engine cost_choose(const struct cost *c, const struct cost_ask *a,
                             char reason[SCAN_REASON])
{
    enum scan_engine best = SCAN_EXACT;
    double seconds[SCAN_ENGINES];
    int at = snprintf(reason, SCAN_REASON, "least time expected:");

    for (enum scan_engine i = SCAN_FLAT; i < SCAN_ENGINES; i++) {
        seconds[i] = cost_of(c, a, i);
        if (seconds[i] < seconds[best])
            best = i;
    }
    for (enum scan_engine i = SCAN_FLAT; i < SCAN_ENGINES; i++)
        if (isfinite(seconds[i]) && at < SCAN_REASON)
            at += snprintf(reason + at, SCAN_REASON - (size_t)at, " %s %.3g ms",
                           scan_engine_name(i), seconds[i] * 1e3);
    return best;
}

/* ---- a search -------------------------------------------------------------------------------- */

static uint64_t coded_rows(const struct view *v)
{
    uint64_t rows = 0;

    for (size_t i = 0; i < v->chunk_count; i++)
        rows += v->chunks[i].coded ? v->chunks[i].rows : 0;
    return rows;
}

/* A chunk is for one thread. */
static unsigned threads_of(const struct scan *s)
{
    unsigned readers = s->pool ? pool_readers(s->pool) : 1;

    return s->view->chunk_count < readers ? (unsigned)s->view->chunk_count : readers;
}

static enum scan_engine choose_auto(const struct scan *s, const struct engine_query *q,
                                    char reason[SCAN_REASON])
{
    struct cost_ask ask = {.dim = corpus_def(s->view->corpus)->dim,
                           .row_bytes = corpus_row_bytes(s->view->corpus),
                           .chunks = s->view->chunk_count,
                           .rows = s->view->rows,
                           .live = s->view->live,
                           .coded = coded_rows(s->view),
                           .queries = q->count,
                           .deep = q->k > q->opponents ? q->k : q->opponents,
                           .threads = threads_of(s),
                           .plain = !s->lens && !s->lengths,
                           .opponents = q->opponents > 0,
                           .precision = s->precision};

    return cost_choose(s->cost, &ask, reason);
}

enum scan_engine cost_engine(const struct scan *s, const struct engine_query *q,
                             char reason[SCAN_REASON])
{
    const char *why = "asked for";
    enum scan_engine engine = s->engine;

    if (engine == SCAN_AUTO)
        return choose_auto(s, q, reason);
    if (engine == SCAN_FLAT && (s->lens || s->lengths)) {
        why = "flat knows only products of unit vectors";
        engine = SCAN_EXACT;
    } else if (engine == SCAN_TIERED && !tier_takes(corpus_def(s->view->corpus)->dim)) {
        why = "no codes of so many dimensions";
        engine = SCAN_EXACT;
    }
    snprintf(reason, SCAN_REASON, "%s", why);
    return engine;
}
