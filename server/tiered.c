/* tiered.c - see tiered.h. Planes are opened when they are asked for and closed with their chunk,
 * so what a search does not read is not touched; a chunk without codes, of an older store, is for
 * the exact kernel. */
#include "server/tiered.h"

#include <stdlib.h>

#include "index/tier.h"
#include "server/lenses.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/corpus.h"

struct tiered {
    const struct scan *scan;
    struct stop stop;
    struct tier_source source;
    struct tier_query query;
    struct tier *tier;
};

/* A chunk while one thread works on it. */
struct chunk_open {
    const struct view_chunk *chunk;
    struct block planes[TIER_PLANES]; /* bytes NULL: not opened */
    struct block rows, single;        /* the same; `single`: encodings, row by row */
    double *weights;                  /* owned, or NULL */
};

static const enum block_kind kind_of[TIER_PLANES] = {[TIER_BITS] = BLOCK_BITS,
                                                     [TIER_SIX] = BLOCK_SIX,
                                                     [TIER_LOW] = BLOCK_LOW,
                                                     [TIER_FACTORS] = BLOCK_FACTORS,
                                                     [TIER_ENCODINGS] = BLOCK_ENCODINGS};

/* Once a chunk; what could not be opened is not closed. */
static int open_block(const struct chunk_open *o, enum block_kind kind, struct block *b,
                      struct err *e)
{
    int code = b->bytes ? 0 : block_open(o->chunk, kind, b, e);

    if (code)
        *b = (struct block){0};
    return code;
}

/* ---- weights --------------------------------------------------------------------------------- */

static int copy_norms(struct chunk_open *o, struct err *e)
{
    int code = open_block(o, BLOCK_ROWS, &o->rows, e);

    if (code)
        return code;
    o->weights = mem_big(o->chunk->rows, sizeof *o->weights);
    if (!o->weights)
        return err_set(e, ERR_BUSY, "no memory for the lengths of %u rows", o->chunk->rows);
    for (uint32_t i = 0; i < o->chunk->rows; i++)
        o->weights[i] = block_row_norm(&o->rows, i);
    return 0;
}

/* No block is open yet: denominators may have to be computed. */
static int weigh(const struct tiered *t, struct chunk_open *o, struct tier_block *out,
                 struct err *e)
{
    int code = 0;

    if (t->query.measure == TIER_DIVIDED)
        return lenses_norms(t->scan->lens, o->chunk, &out->weights, e);
    if (t->query.measure == TIER_SCALED) {
        code = copy_norms(o, e);
        out->weights = o->weights;
    }
    return code;
}

/* ---- the source ------------------------------------------------------------------------------ */

static void close_block(struct block *b)
{
    if (b->bytes)
        block_close(b);
}

static void source_close(void *arg, struct tier_block *b)
{
    struct chunk_open *o = b->ctx;

    (void)arg;
    for (size_t i = 0; i < TIER_PLANES; i++)
        close_block(&o->planes[i]);
    close_block(&o->single);
    close_block(&o->rows);
    free(o->weights);
    free(o);
}

static int source_open(void *arg, size_t i, struct tier_block *out, struct err *e)
{
    const struct tiered *t = arg;
    const struct view_chunk *c = &t->scan->view->chunks[i];
    struct chunk_open *o = mem_new(1, sizeof *o);
    int code = 0;

    o->chunk = c;
    *out = (struct tier_block){
        .rows = c->rows, .coded = view_chunk_coded(c), .dead = c->dead, .ctx = o};
    if (scan_live(c))
        code = weigh(t, o, out, e);
    else
        out->rows = 0; /* nothing in it is asked for: nothing of it is opened */
    if (code)
        source_close(arg, out);
    return code;
}

/* The planes that the scan reads of every chunk: while this one is worked on, the disk reads on for
 * the chunk that this thread will most likely take next. Nothing happens to what is in memory. */
static void read_ahead(const struct tiered *t, const struct chunk_open *o, enum tier_plane p)
{
    const struct view *v = t->scan->view;
    size_t next = (size_t)(o->chunk - v->chunks) + t->query.threads;

    if ((!tier_reads_all(t->tier, p) && p != TIER_FACTORS) || next >= v->chunk_count)
        return;
    if (view_chunk_coded(&v->chunks[next]) && scan_live(&v->chunks[next]))
        block_prefetch(&v->chunks[next], kind_of[p]);
}

/* A plane that is read for the rows that the first one left: what lies between stays on disk. */
static bool is_sparse(const struct tiered *t, enum tier_plane p)
{
    return (p == TIER_SIX || p == TIER_LOW) && !tier_reads_all(t->tier, p);
}

static int source_plane(void *arg, struct tier_block *b, enum tier_plane p,
                        const unsigned char **out, struct err *e)
{
    const struct tiered *t = arg;
    struct chunk_open *o = b->ctx;
    struct block *plane;
    int code;

    require(p < TIER_PLANES);
    plane = &o->planes[p];
    if (!plane->bytes)
        read_ahead(t, o, p);
    if (!plane->bytes && is_sparse(t, p))
        code = block_open_sparse(o->chunk, kind_of[p], plane, e);
    else
        code = open_block(o, kind_of[p], plane, e);
    if (code)
        *plane = (struct block){0};
    *out = plane->bytes;
    return code;
}

static void source_ahead(void *arg, struct tier_block *b, enum tier_plane p, size_t from,
                         size_t len)
{
    const struct chunk_open *o = b->ctx;

    (void)arg;
    block_ahead(&o->planes[p], from, len);
}

static int source_row(void *arg, struct tier_block *b, uint32_t row, const void **out,
                      struct err *e)
{
    struct chunk_open *o = b->ctx;
    const unsigned char *bytes = NULL;
    int code = o->single.bytes ? 0 : block_open_rows(o->chunk, &o->single, e);

    (void)arg;
    if (code)
        o->single = (struct block){0};
    else
        code = block_row(o->chunk, &o->single, row, &bytes, e);
    *out = bytes;
    return code;
}

static int source_sequence(void *arg, struct tier_block *b, uint32_t row, uint64_t *out,
                           struct err *e)
{
    struct chunk_open *o = b->ctx;
    int code = open_block(o, BLOCK_ROWS, &o->rows, e);

    (void)arg;
    if (!code)
        *out = block_row_sequence(&o->rows, row);
    return code;
}

static bool source_cancelled(void *arg)
{
    const struct tiered *t = arg;

    return stop_asked(&t->stop);
}

/* ---- a search -------------------------------------------------------------------------------- */

static enum tier_measure measure_of(const struct scan *s)
{
    if (s->lengths)
        return TIER_SCALED; /* under a task too: its denominators have no part in dot products */
    return s->lens ? TIER_DIVIDED : TIER_COSINE;
}

int tiered_new(const struct scan *s, const struct engine_query *q, unsigned threads,
               const struct stop *stop, struct tiered **out, struct err *e)
{
    const struct corpus_def *def = corpus_def(s->view->corpus);
    struct tiered *t = mem_new(1, sizeof *t);
    int code;

    t->scan = s;
    t->stop = *stop;
    t->source = (struct tier_source){.arg = t,
                                     .count = s->view->chunk_count,
                                     .dim = def->dim,
                                     .dtype = (enum dtype)def->dtype,
                                     .open = source_open,
                                     .close = source_close,
                                     .plane = source_plane,
                                     .ahead = source_ahead,
                                     .row = source_row,
                                     .sequence = source_sequence,
                                     .cancelled = source_cancelled};
    t->query = (struct tier_query){.vectors = q->vectors,
                                   .count = q->count,
                                   .k = q->k,
                                   .opponents = q->opponents,
                                   .each_k = s->each_k,
                                   .each_opponents = s->each_opponents,
                                   .measure = measure_of(s),
                                   .lengths = s->lengths,
                                   .precision = s->precision,
                                   .delta = s->delta,
                                   .live = s->view->live,
                                   .threads = threads};
    code = tier_new(&t->source, &t->query, &t->tier, e);
    if (code) {
        free(t);
        return code;
    }
    *out = t;
    return 0;
}

void tiered_free(struct tiered *t)
{
    if (!t)
        return;
    tier_free(t->tier);
    free(t);
}

enum tier_precision tiered_precision(const struct tiered *t)
{
    return tier_precision(t->tier);
}

int tiered_share(struct tiered *t, struct topk *pro, struct topk *opp, struct engine_work *work,
                 struct err *e)
{
    return tier_share(t->tier, pro, opp, work, e);
}
