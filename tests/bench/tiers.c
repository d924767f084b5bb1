/* tiers.c - the tiered engine over the benchmark's rows; see tiers.h. The planes are laid out in
 * memory as storage lays them out on disk: block by block, plane by plane. */
#include "tests/bench/tiers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/code.h"
#include "index/qkern.h"
#include "index/tier.h"
#include "storage/base/mem.h"

enum { MOST_THREADS = 64 };

struct tiers {
    const struct rows *rows;
    struct code_planes *planes; /* one a block */
    size_t blocks;
    double delta;
    unsigned threads;
};

struct tiers_search {
    struct tier_source src;
    struct tier_query q;
    struct tier *tier;
};

/* --- codes ------------------------------------------------------------------------------------ */

struct coder {
    pthread_t thread;
    struct tiers *t;
    _Atomic size_t *next;
};

static size_t block_rows(const struct tiers *t, size_t i)
{
    const size_t left = t->rows->count - i * t->rows->per_block;

    return left < t->rows->per_block ? left : t->rows->per_block;
}

static void block_encode(struct tiers *t, size_t i, float *scratch)
{
    const size_t dim = t->rows->dim, rows = block_rows(t, i);
    struct code_planes *p = &t->planes[i];

    *p = (struct code_planes){.bits = mem_big(1, code_bits_bytes(dim, rows)),
                              .six = mem_big(1, code_six_bytes(dim, rows)),
                              .low = mem_big(1, code_low_bytes(dim, rows)),
                              .factors = mem_big(1, code_factors_bytes(rows)),
                              .rows = (uint32_t)rows};
    if (!p->bits || !p->six || !p->low || !p->factors)
        die("no memory for the codes of %zu rows", rows);
    code_rows(DTYPE_F32, dim, t->rows->at + i * t->rows->per_block * dim, dim * sizeof(float), 0,
              (uint32_t)rows, p, scratch);
}

static void *encode(void *arg)
{
    struct coder *c = arg;
    float *scratch = mem_big(code_padded(c->t->rows->dim), sizeof *scratch);

    if (!scratch)
        die("no memory to encode");
    for (size_t i; (i = (*c->next)++) < c->t->blocks;)
        block_encode(c->t, i, scratch);
    free(scratch);
    return NULL;
}

struct tiers *tiers_new(const struct rows *rows, size_t threads, double delta)
{
    struct tiers *t = mem_new(1, sizeof *t);
    struct coder c[MOST_THREADS];
    _Atomic size_t next = 0;

    if (threads > MOST_THREADS || !tier_takes(rows->dim))
        die("%zu threads, %zu dimensions", threads, rows->dim);
    *t = (struct tiers){.rows = rows, .delta = delta > 0 ? delta : 1e-9,
                        .threads = (unsigned)threads,
                        .blocks = (rows->count + rows->per_block - 1) / rows->per_block};
    t->planes = mem_new(t->blocks, sizeof *t->planes);
    for (size_t n = 0; n < threads; n++) {
        c[n] = (struct coder){.t = t, .next = &next};
        if (pthread_create(&c[n].thread, NULL, encode, &c[n]))
            die("no thread");
    }
    for (size_t n = 0; n < threads; n++)
        pthread_join(c[n].thread, NULL);
    return t;
}

void tiers_free(struct tiers *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->blocks; i++) {
        free(t->planes[i].bits);
        free(t->planes[i].six);
        free(t->planes[i].low);
        free(t->planes[i].factors);
    }
    free(t->planes);
    free(t);
}

/* --- as a source ------------------------------------------------------------------------------ */

static int source_open(void *arg, size_t i, struct tier_block *out, struct err *e)
{
    struct tiers *t = arg;

    (void)e;
    *out = (struct tier_block){.rows = (uint32_t)block_rows(t, i), .coded = true,
                               .ctx = &t->planes[i]};
    return 0;
}

static void source_close(void *arg, struct tier_block *b)
{
    (void)arg;
    (void)b;
}

static size_t block_first(const struct tiers *t, const struct tier_block *b)
{
    return (size_t)((const struct code_planes *)b->ctx - t->planes) * t->rows->per_block;
}

static int source_plane(void *arg, struct tier_block *b, enum tier_plane p,
                        const unsigned char **out, struct err *e)
{
    const struct tiers *t = arg;
    const struct code_planes *planes = b->ctx;
    const unsigned char *const all[TIER_PLANES] = {
        [TIER_BITS] = planes->bits,
        [TIER_SIX] = planes->six,
        [TIER_LOW] = planes->low,
        [TIER_FACTORS] = planes->factors,
        [TIER_ENCODINGS] = (const void *)(t->rows->at + block_first(t, b) * t->rows->dim),
    };

    (void)e;
    *out = all[p];
    return 0;
}

static int source_row(void *arg, struct tier_block *b, uint32_t row, const void **out,
                      struct err *e)
{
    const struct tiers *t = arg;

    (void)e;
    *out = t->rows->at + (block_first(t, b) + row) * t->rows->dim;
    return 0;
}

static int source_sequence(void *arg, struct tier_block *b, uint32_t row, uint64_t *out,
                           struct err *e)
{
    (void)e;
    *out = block_first(arg, b) + row;
    return 0;
}

/* --- a search --------------------------------------------------------------------------------- */

const char *tiers_kernels(void)
{
    return qkern->name;
}

struct tiers_search *tiers_begin(struct tiers *t, const struct engine_query *q, bool probabilistic)
{
    struct tiers_search *s = mem_new(1, sizeof *s);
    struct err e = ERR_INIT;

    s->src = (struct tier_source){.arg = t, .count = t->blocks, .dim = t->rows->dim,
                                  .dtype = DTYPE_F32, .open = source_open, .close = source_close,
                                  .plane = source_plane, .row = source_row,
                                  .sequence = source_sequence};
    s->q = (struct tier_query){.vectors = q->vectors, .count = q->count, .k = q->k,
                               .opponents = q->opponents, .measure = TIER_COSINE,
                               .precision = probabilistic ? TIER_PROBABILISTIC : TIER_CERTIFIED,
                               .delta = t->delta, .live = t->rows->count, .threads = t->threads};
    if (tier_new(&s->src, &s->q, &s->tier, &e))
        die("%s", e.text);
    return s;
}

int tiers_share(struct tiers_search *s, struct topk *pro, struct topk *opp,
                struct engine_work *work, struct err *e)
{
    return tier_share(s->tier, s->q.k ? pro : NULL, s->q.opponents ? opp : NULL, work, e);
}

void tiers_end(struct tiers_search *s)
{
    if (!s)
        return;
    tier_free(s->tier);
    free(s);
}

void tiers_work_add(struct engine_work *to, const struct engine_work *from)
{
    to->rows_bits += from->rows_bits;
    to->rows_six += from->rows_six;
    to->rows_low += from->rows_low;
}

void tiers_work_print(const struct engine_work *w)
{
    printf(",\"bits\":%llu,\"six\":%llu,\"low\":%llu", (unsigned long long)w->rows_bits,
           (unsigned long long)w->rows_six, (unsigned long long)w->rows_low);
}
