/* scan.c - see scan.h. */
#include "server/scan.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/exact.h"
#include "index/flat.h"
#include "index/kern.h"
#include "server/cost.h"
#include "server/lenses.h"
#include "server/pool.h"
#include "server/strange.h"
#include "server/tiered.h"
#include "storage/base/check.h"

uint64_t scan_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint32_t scan_live(const struct view_chunk *c)
{
    return c->rows - c->dead_count;
}

/* ---- a view as an engine's source ------------------------------------------------------------ */

/* One search, shared by its threads. `halt` is raised by the first that fails. */
struct search {
    const struct scan *scan;
    const struct engine_query *query;
    enum scan_engine engine; /* chosen: never SCAN_AUTO */
    struct engine_source source;
    struct tiered *tiered; /* for SCAN_TIERED */
    struct share *shares;  /* one a slot */
    _Atomic size_t next;
    _Atomic bool halt;
    _Atomic uint64_t ns;
};

struct share {
    struct topk *pro, *opp;
    struct engine_work work;
    struct err err;
};

/* What is open while one thread works on a block. */
struct opened {
    struct block encodings, rows;
};

static int source_open(void *arg, size_t i, struct engine_block *out, struct err *e)
{
    const struct search *s = arg;
    const struct view_chunk *chunk = &s->scan->view->chunks[i];
    struct opened *o;
    int code;

    /* Nothing of it is asked for, and it may be damaged. (FAISS's copies are of whole chunks.) */
    *out = (struct engine_block){.key = chunk->id};
    if (s->engine == SCAN_EXACT && !scan_live(chunk))
        return 0;
    o = mem_new(1, sizeof *o);
    code = block_open(chunk, BLOCK_ENCODINGS, &o->encodings, e);

    if (!code) {
        code = block_open(chunk, BLOCK_ROWS, &o->rows, e);
        if (code)
            block_close(&o->encodings);
    }
    if (code) {
        free(o);
        return code;
    }
    *out = (struct engine_block){.key = chunk->id,
                                 .rows = chunk->rows,
                                 .encodings = o->encodings.bytes,
                                 .dead = chunk->dead,
                                 .ctx = o};
    return 0;
}

static void source_close(void *arg, struct engine_block *b)
{
    struct opened *o = (struct opened *)(uintptr_t)b->ctx;

    (void)arg;
    if (!o)
        return;
    block_close(&o->rows);
    block_close(&o->encodings);
    free(o);
}

static uint64_t source_sequence(const struct engine_block *b, uint32_t row)
{
    const struct opened *o = b->ctx;

    return block_row_sequence(&o->rows, row);
}

static bool source_cancelled(void *arg)
{
    struct search *s = arg;

    return atomic_load_explicit(&s->halt, memory_order_relaxed) || stop_asked(s->scan->stop);
}

static uint64_t source_key(void *arg, size_t i)
{
    const struct search *s = arg;

    return s->scan->view->chunks[i].id;
}

#define LISTS_MAX (256u << 20) /* bytes of hits that all threads of one search keep */

/* ---- search ---------------------------------------------------------------------------------- */

/* Indexed by enum scan_engine and enum tier_precision: the words of the wire. */
static const char *const engine_names[SCAN_ENGINES] = {
    [SCAN_AUTO] = "auto", [SCAN_FLAT] = "flat", [SCAN_EXACT] = "scan", [SCAN_TIERED] = "tiered"};
static const char *const precision_names[] = {[TIER_CERTIFIED] = "certified",
                                              [TIER_PROBABILISTIC] = "probabilistic"};

bool scan_engine_named(const char *name, enum scan_engine *out)
{
    for (size_t i = 0; i < SCAN_ENGINES; i++)
        if (strcmp(name, engine_names[i]) == 0) {
            *out = (enum scan_engine)i;
            return true;
        }
    return false;
}

const char *scan_engine_name(enum scan_engine engine)
{
    return engine_names[engine];
}

bool scan_precision_named(const char *name, enum tier_precision *out)
{
    for (size_t i = 0; i < sizeof precision_names / sizeof *precision_names; i++)
        if (strcmp(name, precision_names[i]) == 0) {
            *out = (enum tier_precision)i;
            return true;
        }
    return false;
}

const char *scan_precision_name(enum tier_precision precision)
{
    return precision_names[precision];
}

/* Scores of `count` rows side by side, for one query. Four at a time: each query element is fetched
 * once for them, with the same bits as one by one (index/kern.h). */
static void dot_rows(const struct corpus *c, const float *query, const unsigned char *rows,
                     uint32_t count, double *out)
{
    const struct corpus_def *def = corpus_def(c);
    size_t row_bytes = corpus_row_bytes(c);
    uint32_t at = 0;

    for (; def->dtype == DTYPE_F32 && at + 4 <= count; at += 4)
        kern->dot4_f32(query, (const void *)(rows + at * row_bytes), row_bytes, def->dim,
                       out + at);
    for (; at < count; at++)
        out[at] = kern_dot((enum dtype)def->dtype, query, rows + at * row_bytes, def->dim);
}

/* What turns the products of one chunk's rows into scores. */
struct measure {
    const double *n;       /* denominators of all its rows, or NULL */
    const double *lengths; /* of the queries, or NULL; then: */
    struct block rows;     /* the chunk's, for theirs */
};

/* Under dot products a task's denominators have no part: <x, M q> |x| |q|. Call it with no block
 * open: denominators may have to be computed. */
static int measure_open(const struct scan *s, const struct view_chunk *c, struct measure *m,
                        struct err *e)
{
    *m = (struct measure){.lengths = s->lengths};
    if (s->lengths)
        return block_open(c, BLOCK_ROWS, &m->rows, e);
    return s->lens ? lenses_norms(s->lens, c, &m->n, e) : 0;
}

static void measure_close(struct measure *m)
{
    if (m->lengths)
        block_close(&m->rows);
}

/* Products of `query` with rows row .. row+count-1 become their scores. */
static void measure_apply(const struct measure *m, size_t query, uint32_t row, uint32_t count,
                          double *scores)
{
    for (uint32_t i = 0; m->n && i < count; i++)
        scores[i] = lens_score(scores[i], m->n[row + i]);
    for (uint32_t i = 0; m->lengths && i < count; i++)
        scores[i] = exact_scale(scores[i], block_row_norm(&m->rows, row + i), m->lengths[query]);
}

enum { ROWS_TOGETHER = 4 };

/* Rows row .. row+count-1, all live. */
static void offer_rows(const struct search *s, struct share *mine, const struct engine_block *b,
                       size_t chunk, const struct measure *m, uint32_t row, uint32_t count)
{
    const struct corpus *c = s->scan->view->corpus;
    const unsigned char *rows = (const unsigned char *)b->encodings + row * corpus_row_bytes(c);
    double scores[ROWS_TOGETHER];

    for (size_t q = 0; q < s->query->count; q++) {
        dot_rows(c, s->query->vectors + q * s->source.dim, rows, count, scores);
        measure_apply(m, q, row, count, scores);
        for (uint32_t i = 0; i < count; i++) {
            struct topk_hit hit = {.score = scores[i],
                                   .sequence = source_sequence(b, row + i),
                                   .chunk = (uint32_t)chunk,
                                   .row = row + i};

            if (mine->pro[q].k)
                topk_offer(&mine->pro[q], &hit);
            if (mine->opp[q].k)
                topk_offer(&mine->opp[q], &hit);
        }
    }
    mine->work.rows_exact += (uint64_t)count * s->query->count;
}

/* Live rows side by side from `row` on, at most ROWS_TOGETHER. */
static uint32_t live_run(const struct view_chunk *c, uint32_t row)
{
    uint32_t count = 0;

    while (count < ROWS_TOGETHER && row + count < c->rows && !view_row_dead(c, row + count))
        count++;
    return count;
}

static int measured_chunk(struct search *s, struct share *mine, size_t i)
{
    const struct view_chunk *chunk = &s->scan->view->chunks[i];
    struct measure m;
    struct engine_block b;
    int code = measure_open(s->scan, chunk, &m, &mine->err);

    if (code)
        return code;
    code = source_open(s, i, &b, &mine->err);
    if (code)
        goto out;
    for (uint32_t row = 0, count; row < chunk->rows; row += count ? count : 1) {
        count = live_run(chunk, row);
        if (count)
            offer_rows(s, mine, &b, i, &m, row, count);
    }
    source_close(s, &b);
    mine->work.blocks++;
out:
    measure_close(&m);
    return code;
}

/* Every live row by the exact kernel, then what makes a score of the product. */
static int measured_search(struct search *s, struct share *mine)
{
    int code = 0;
    size_t i;

    while (!code && (i = atomic_fetch_add(&s->next, 1)) < s->source.count) {
        if (source_cancelled(s))
            return err_set(&mine->err, ERR_CANCELLED, "search cancelled after %zu of %zu chunks",
                           i, s->source.count);
        if (scan_live(&s->scan->view->chunks[i]))
            code = measured_chunk(s, mine, i);
    }
    return code;
}

static void search_share(void *arg, unsigned slot)
{
    struct search *s = arg;
    struct share *mine = &s->shares[slot];
    uint64_t began = scan_now();

    struct topk *opp = s->query->opponents ? mine->opp : NULL;
    int code;

    if (s->engine == SCAN_TIERED)
        code = tiered_share(s->tiered, mine->pro, opp, &mine->work, &mine->err);
    else if (s->scan->lens || s->scan->lengths)
        code = measured_search(s, mine);
    else if (s->engine == SCAN_EXACT)
        code = flat_search_plain(&s->source, s->query, &s->next, mine->pro, opp, &mine->work,
                                 &mine->err);
    else
        code = flat_search(s->scan->flat, &s->source, s->query, &s->next, mine->pro, opp,
                           &mine->work, &mine->err);
    if (code)
        atomic_store(&s->halt, true);
    atomic_fetch_add(&s->ns, scan_now() - began);
}

/* `count` empty lists of k, or of their own `each`, or NULL when there is no memory. */
static struct topk *lists(struct arena *a, enum topk_end end, size_t count, size_t k,
                          const size_t *each)
{
    struct topk *list = arena_big(a, count, sizeof *list);
    struct topk_hit *slots;
    size_t total, at = 0;

    if (!mem_mul(count, k, &total))
        return NULL;
    for (size_t i = total = 0; i < count; i++)
        total += each ? each[i] : k;
    slots = arena_big(a, total, sizeof *slots);
    if (!list || !slots)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        topk_init(&list[i], end, each ? each[i] : k, slots + at);
        at += list[i].k;
    }
    return list;
}

static unsigned width_of(const struct scan *s, size_t chunks)
{
    unsigned width = s->pool ? pool_readers(s->pool) : 1;

    if (width > chunks)
        width = (unsigned)chunks;
    return width ? width : 1;
}

/* Fewer threads when their lists would be large: a machine of many cores must not multiply them. */
static unsigned width_within(unsigned width, const struct engine_query *q)
{
    size_t each, total;

    if (!mem_add(q->k, q->opponents, &each) || !mem_mul(each, q->count, &total) ||
        !mem_mul(total, sizeof(struct topk_hit), &total))
        return 1; /* shares_init will say that there is no memory */
    while (width > 1 && total > LISTS_MAX / width)
        width--;
    return width;
}

static void fan_out(const struct scan *s, unsigned width, void (*fn)(void *arg, unsigned slot),
                    void *arg)
{
    if (s->pool)
        pool_fanout(s->pool, width, fn, arg);
    else
        fn(arg, 0);
}

/* The first failure that is not "somebody else failed". */
static int first_error(const struct err *errs[], unsigned count, struct err *e)
{
    const struct err *worst = NULL;

    for (unsigned i = 0; i < count; i++)
        if (errs[i]->code && (!worst || worst->code == ERR_CANCELLED))
            worst = errs[i];
    if (worst)
        *e = *worst;
    return worst ? (int)worst->code : 0;
}

static int shares_init(struct search *s, unsigned width, const struct engine_query *q,
                       struct arena *a, struct err *e)
{
    s->shares = arena_new(a, width, sizeof *s->shares);
    for (unsigned i = 0; i < width; i++) {
        s->shares[i].err = ERR_INIT;
        s->shares[i].pro = lists(a, TOPK_HIGHEST, q->count, q->k, s->scan->each_k);
        s->shares[i].opp = lists(a, TOPK_LOWEST, q->count, q->opponents,
                                 s->scan->each_opponents);
        if (!s->shares[i].pro || !s->shares[i].opp)
            return err_set(e, ERR_BUSY, "no memory for %zu lists of %zu and %zu", q->count, q->k,
                           q->opponents);
    }
    return 0;
}

static int gather(struct search *s, unsigned width, struct scan_answer *out, struct err *e)
{
    int code;

    out->pro = s->shares[0].pro;
    out->opp = s->shares[0].opp;
    out->scan_ns = atomic_load(&s->ns);
    for (unsigned i = 0; i < width; i++) {
        const struct engine_work *w = &s->shares[i].work;

        out->work.rows_proposed += w->rows_proposed;
        out->work.rows_exact += w->rows_exact;
        out->work.rows_bits += w->rows_bits;
        out->work.rows_six += w->rows_six;
        out->work.rows_low += w->rows_low;
        out->work.blocks += w->blocks;
        out->work.blocks_widened += w->blocks_widened;
        for (size_t q = 0; i && q < s->query->count; q++) {
            topk_merge(&out->pro[q], &s->shares[i].pro[q]);
            topk_merge(&out->opp[q], &s->shares[i].opp[q]);
        }
    }
    for (size_t q = 0; q < s->query->count; q++) {
        topk_sort(&out->pro[q]);
        topk_sort(&out->opp[q]);
    }
    code = strange_hits(s->scan->view, out->pro, s->query->count, e);
    return code ? code : strange_hits(s->scan->view, out->opp, s->query->count, e);
}

/* None of `each` beyond `most`; NULL stays NULL. */
static const size_t *within(const size_t *each, size_t count, size_t most, struct arena *a)
{
    size_t *out;

    if (!each)
        return NULL;
    out = arena_new(a, count, sizeof *out); /* LIMIT_JOIN_QUERIES at most */
    for (size_t i = 0; i < count; i++)
        out[i] = each[i] < most ? each[i] : most;
    return out;
}

int scan_search(const struct scan *scan, const struct engine_query *q, struct arena *a,
                struct scan_answer *out, struct err *e)
{
    const struct corpus_def *def = corpus_def(scan->view->corpus);
    struct engine_query query = *q;
    struct scan own = *scan;
    struct search s = {.scan = &own, .query = &query};
    struct stop stop = {source_cancelled, &s};
    const struct err **errs;
    unsigned width;
    int code;

    if (query.k > scan->view->live)
        query.k = scan->view->live;
    if (query.opponents > scan->view->live)
        query.opponents = scan->view->live;
    width = width_within(width_of(scan, scan->view->chunk_count), &query);
    errs = arena_new(a, width, sizeof *errs);
    s.source = (struct engine_source){.arg = &s,
                                      .count = scan->view->chunk_count,
                                      .dim = def->dim,
                                      .dtype = (enum dtype)def->dtype,
                                      .open = source_open,
                                      .close = source_close,
                                      .sequence = source_sequence,
                                      .cancelled = source_cancelled,
                                      .key = source_key};
    *out = (struct scan_answer){.pro = NULL};
    s.engine = cost_engine(scan, q, out->reason);
    /* FAISS copies a chunk whole, and a damaged row may hold what no comparison survives. */
    if (s.engine == SCAN_FLAT && corpus_is_hurt(scan->view->corpus)) {
        s.engine = SCAN_EXACT;
        snprintf(out->reason, sizeof out->reason, "damage was found: rows are read one by one");
    }
    out->engine = s.engine;
    own.each_k = within(scan->each_k, q->count, query.k, a);
    own.each_opponents = within(scan->each_opponents, q->count, query.opponents, a);
    code = shares_init(&s, width, &query, a, e);
    if (!code && s.engine == SCAN_TIERED && (query.k || query.opponents))
        code = tiered_new(&own, &query, width, &stop, &s.tiered, e);
    if (code)
        return code;
    if (query.k || query.opponents)
        fan_out(scan, width, search_share, &s);
    if (s.tiered)
        out->precision = tiered_precision(s.tiered);
    tiered_free(s.tiered);
    for (unsigned i = 0; i < width; i++)
        errs[i] = &s.shares[i].err;
    code = first_error(errs, width, e);
    return code ? code : gather(&s, width, out, e);
}

/* ---- scores ---------------------------------------------------------------------------------- */

struct scoring {
    const struct scan *scan;
    const struct scan_scores *want;
    const size_t *offset; /* of each chunk's first live row, one entry a chunk of the range */
    struct err *errs;
    _Atomic size_t next;
    _Atomic bool halt;
};

/* Live rows row .. row+count-1 of the chunk whose encodings these are; scores begin at out[0].
 * False when one is no number. */
static bool score_rows(const struct scoring *s, const struct block *encodings,
                       const struct measure *m, uint32_t row, uint32_t count, double *out)
{
    const struct corpus *c = s->scan->view->corpus;
    const unsigned char *rows = encodings->bytes + row * corpus_row_bytes(c);

    for (size_t q = 0; q < s->want->count; q++) {
        double *to = out + q * s->want->stride;

        dot_rows(c, s->want->vectors + q * corpus_def(c)->dim, rows, count, to);
        measure_apply(m, q, row, count, to);
        for (uint32_t i = 0; i < count; i++)
            if (!isfinite(to[i]))
                return false;
    }
    return true;
}

static int score_chunk(const struct scoring *s, size_t i, struct err *e)
{
    const struct view_chunk *chunk = &s->scan->view->chunks[s->want->first + i];
    double *out = s->want->out + s->offset[i];
    struct block encodings;
    bool strange = false;
    uint32_t row = 0, count;
    struct measure m;
    int code;

    if (!scan_live(chunk))
        return 0;
    code = measure_open(s->scan, chunk, &m, e);
    if (code)
        return code;
    code = block_open(chunk, BLOCK_ENCODINGS, &encodings, e);
    if (code)
        goto out;
    for (; row < chunk->rows; row += count ? count : 1) {
        count = live_run(chunk, row);
        strange = !score_rows(s, &encodings, &m, row, count, out);
        if (strange)
            break;
        out += count;
    }
    block_close(&encodings);
    check(strange || (size_t)(out - s->want->out) == s->offset[i] + scan_live(chunk));
out:
    measure_close(&m);
    if (strange)
        code = strange_row(s->scan->view, s->want->first + i, row, e);
    return code;
}

static void score_share(void *arg, unsigned slot)
{
    struct scoring *s = arg;

    for (;;) {
        size_t i = atomic_fetch_add(&s->next, 1);

        if (i >= s->want->end - s->want->first || atomic_load(&s->halt))
            return;
        if (stop_asked(s->scan->stop))
            err_set(&s->errs[slot], ERR_CANCELLED, "stopped at chunk %zu", s->want->first + i);
        else if (!score_chunk(s, i, &s->errs[slot]))
            continue;
        atomic_store(&s->halt, true);
        return;
    }
}

int scan_score(const struct scan *scan, const struct scan_scores *want, struct arena *a,
               struct err *e)
{
    size_t chunks = want->end - want->first;
    unsigned width = width_of(scan, chunks);
    const struct err **errs = arena_new(a, width, sizeof *errs);
    struct scoring s = {.scan = scan, .want = want};
    size_t *offset = arena_big(a, chunks, sizeof *offset);

    if (!offset)
        return err_set(e, ERR_BUSY, "no memory for the places of %zu chunks", chunks);
    for (size_t i = 0, at = 0; i < chunks; i++) {
        offset[i] = at;
        at += scan_live(&scan->view->chunks[want->first + i]);
        require(at <= want->stride);
    }
    s.offset = offset;
    s.errs = arena_new(a, width, sizeof *s.errs);
    for (unsigned i = 0; i < width; i++) {
        s.errs[i] = ERR_INIT;
        errs[i] = &s.errs[i];
    }
    fan_out(scan, width, score_share, &s);
    return first_error(errs, width, e);
}
