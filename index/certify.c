/* certify.c - see certify.h for the promise and docs/exactness.md for the proof.
 *
 * A share is one thread's part of one search. First pass: for every block it takes, the best k +
 * MARGIN a query are proposed, and those that can still enter the list are scored exactly. What was
 * left out but might enter is noted. Second pass, with the bar as high as it got: the few blocks
 * that still might hold something are searched deeper. No lock is held here.
 */
#include "index/certify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/exact.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"

enum {
    MARGIN = 32, /* proposals beyond k: enough for near ties, few enough to stay cheap */
    DEEPER = 4,  /* how much deeper the second pass goes each time */
    MANY = 20    /* queries from which on FAISS proposes through BLAS (its own default) and beats
                    the exact kernel; below, scanning a block costs less than proposing again */
};

/* One end of the question: the k best, or the k most negative as the best of the negated query. */
struct side {
    unsigned char bit;    /* EXACT_PRO or EXACT_OPP */
    size_t k;             /* 0: not asked */
    const float *vectors; /* count x dim, negated for opponents */
    struct topk *lists;   /* count */
};

/* Block `block` may hold rows for this query that were left out: none above `upper`. */
struct pending {
    size_t block, query;
    double upper;
    unsigned char bit;
};

struct share {
    const struct certify_proposer *by;
    const struct engine_source *src;
    const struct engine_query *q;
    struct topk *pro, *opp;
    struct engine_work *work;
    struct side side[2];
    float *negated;        /* count x dim, NULL unless opponents are asked */
    double *length;        /* upper bounds on |q|, count */
    unsigned char *wanted; /* count; all zero between uses */
    float *scores;         /* room for `slots` proposals */
    int64_t *rows;
    size_t slots;
    struct pending *pending;
    size_t pending_count, pending_room;
};

/* Could a row of the list's end whose score, seen from that end, is at most `upper` enter? Equal
 * scores may: the sequence decides. */
static bool can_enter(const struct topk *t, double upper)
{
    double bar;

    if (!topk_bar(t, &bar))
        return t->k > 0;
    return upper >= (t->end == TOPK_HIGHEST ? bar : -bar);
}

static int share_room(struct share *s, size_t queries, size_t depth, struct err *e)
{
    size_t need;

    if (!mem_mul(queries, depth, &need))
        return err_set(e, ERR_BUSY, "no memory for %zu x %zu proposals", queries, depth);
    if (need <= s->slots)
        return 0;
    free(s->scores);
    free(s->rows);
    s->slots = 0;
    s->scores = mem_big(need, sizeof *s->scores);
    s->rows = mem_big(need, sizeof *s->rows);
    if (!s->scores || !s->rows)
        return err_set(e, ERR_BUSY, "no memory for %zu x %zu proposals", queries, depth);
    s->slots = need;
    return 0;
}

static int note(struct share *s, struct pending p, struct err *e)
{
    if (s->pending_count == s->pending_room) {
        size_t room = s->pending_room ? 2 * s->pending_room : 64;
        struct pending *grown = reallocarray(s->pending, room, sizeof *grown);

        if (!grown)
            return err_set(e, ERR_BUSY, "no memory for %zu unfinished chunks", room);
        s->pending = grown;
        s->pending_room = room;
    }
    s->pending[s->pending_count++] = p;
    return 0;
}

/* One query's proposals, best first: scores exactly what can still enter, and stops at what cannot.
 * Returns an upper bound on the scores of all rows it did not see, or -infinity when nothing that
 * was left out can enter. */
static double walk(struct share *s, const struct engine_block *b, size_t block,
                   const struct side *side, size_t query, double error, size_t depth,
                   const float *scores, const int64_t *rows)
{
    struct topk *list = &side->lists[query];

    for (size_t i = 0; i < depth; i++) {
        uint32_t row = (uint32_t)rows[i];

        if (rows[i] < 0 || !can_enter(list, (double)scores[i] + error))
            return -INFINITY;
        if (exact_dead(b, row))
            continue;
        exact_offer(s->src, b, block, row,
                    exact_score(s->src, b, row, s->q->vectors + query * s->src->dim), list);
        s->work->rows_exact++;
    }
    if (depth >= b->rows || planted(MARGIN_TRUSTED) ||
        !can_enter(list, (double)scores[depth - 1] + error))
        return -INFINITY;
    return (double)scores[depth - 1] + error;
}

static int ask(struct share *s, const struct certify_held *held, const struct engine_block *b,
                     const float *vectors, size_t count, size_t depth, struct err *e)
{
    int failed = share_room(s, count, depth, e);

    if (failed)
        return failed;
    s->work->rows_proposed += (uint64_t)count * b->rows;
    return s->by->ask(held, b, vectors, count, depth, s->scores, s->rows, e);
}

/* First pass over one block and one end. */
static int propose(struct share *s, const struct certify_held *held, const struct engine_block *b,
                   size_t block, const struct side *side, struct err *e)
{
    const size_t depth = side->k + MARGIN < b->rows ? side->k + MARGIN : b->rows;
    int failed = ask(s, held, b, side->vectors, s->q->count, depth, e);

    for (size_t n = 0; n < s->q->count && !failed; n++) {
        double error = exact_float32_error(s->src->dim, s->length[n], held->longest);
        struct pending p = {.block = block, .query = n, .bit = side->bit};

        p.upper = walk(s, b, block, side, n, error, depth, s->scores + n * depth,
                       s->rows + n * depth);
        if (p.upper > -INFINITY)
            failed = note(s, p, e);
    }
    return failed;
}

/* Proposing nearly everything, or copying a chunk for a few queries only, costs more than it saves:
 * then the exact kernel reads the block itself. */
static int first_pass(struct share *s, const struct engine_block *b, size_t block, struct err *e)
{
    const bool many = s->q->count >= MANY;
    const size_t most = s->side[0].k > s->side[1].k ? s->side[0].k : s->side[1].k;
    struct certify_held held = {0};
    int failed = 0;

    if (!b->rows)
        return 0;
    if (many || most + MARGIN < b->rows)
        failed = s->by->hold(s->by->arg, s->src, b, many, &held, e);
    if (failed)
        return failed;
    if (!held.index) {
        s->work->rows_exact += exact_block(s->src, b, block, s->q, NULL, s->pro, s->opp);
        return 0;
    }
    for (int i = 0; i < 2 && !failed; i++)
        if (s->side[i].k)
            failed = propose(s, &held, b, block, &s->side[i], e);
    s->by->release(s->by->arg, &held);
    return failed;
}

/* --- the second pass ------------------------------------------------------------------------- */

/* Takes this block's rows out of a list: they will all be offered again. */
static void take_back(struct topk *t, size_t block)
{
    const size_t count = t->count;

    t->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct topk_hit hit = t->hits[i]; /* slots up to i are free to be written */

        if (hit.chunk != (uint32_t)block)
            topk_offer(t, &hit);
    }
}

static struct side *side_of(struct share *s, unsigned char bit)
{
    return &s->side[bit == EXACT_OPP];
}

/* Drops what can no longer enter; returns how many are left, in front. */
static size_t still_open(struct share *s, struct pending *p, size_t count)
{
    size_t left = 0;

    for (size_t i = 0; i < count; i++)
        if (can_enter(&side_of(s, p[i].bit)->lists[p[i].query], p[i].upper))
            p[left++] = p[i];
    return left;
}

/* Few queries, or nearly all rows: the exact kernel over the whole block. */
static void scan_all(struct share *s, const struct engine_block *b, const struct pending *p,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        take_back(&side_of(s, p[i].bit)->lists[p[i].query], p[i].block);
        s->wanted[p[i].query] |= p[i].bit;
    }
    s->work->rows_exact +=
        exact_block(s->src, b, p[0].block, s->q, s->wanted, s->pro, s->opp);
    memset(s->wanted, 0, s->q->count);
}

/* One deeper proposal for `count` unfinished queries; leaves in front of p those that still are. */
static int deeper(struct share *s, const struct certify_held *held, const struct engine_block *b,
                  struct pending *p, size_t *count, size_t depth, struct err *e)
{
    const size_t dim = s->src->dim;
    float *vectors = mem_big(*count * dim, sizeof *vectors);
    size_t left = 0;
    int failed;

    if (!vectors)
        return err_set(e, ERR_BUSY, "no memory for %zu queries of %zu", *count, dim);
    for (size_t i = 0; i < *count; i++)
        memcpy(vectors + i * dim, side_of(s, p[i].bit)->vectors + p[i].query * dim,
               dim * sizeof *vectors);
    failed = ask(s, held, b, vectors, *count, depth, e);
    free(vectors);
    for (size_t i = 0; i < *count && !failed; i++) {
        struct side *side = side_of(s, p[i].bit);
        double error = exact_float32_error(dim, s->length[p[i].query], held->longest);

        take_back(&side->lists[p[i].query], p[i].block);
        p[i].upper = walk(s, b, p[i].block, side, p[i].query, error, depth, s->scores + i * depth,
                          s->rows + i * depth);
        if (p[i].upper > -INFINITY)
            p[left++] = p[i];
    }
    *count = left;
    return failed;
}

/* All that is pending for one block. */
static int widen_block(struct share *s, const struct engine_block *b, struct pending *p,
                       size_t count, struct err *e)
{
    size_t depth = DEEPER * ((s->side[0].k > s->side[1].k ? s->side[0].k : s->side[1].k) + MARGIN);
    struct certify_held held = {0};
    int failed = 0;

    s->work->blocks_widened++;
    if (count >= MANY && depth < b->rows / 2)
        failed = s->by->hold(s->by->arg, s->src, b, true, &held, e);
    while (!failed && held.index && count >= MANY && depth < b->rows / 2) {
        failed = deeper(s, &held, b, p, &count, depth, e);
        depth *= DEEPER;
    }
    if (!failed && count)
        scan_all(s, b, p, count);
    s->by->release(s->by->arg, &held);
    return failed;
}

static int second_pass(struct share *s, struct err *e)
{
    int failed = 0;

    for (size_t from = 0, to; from < s->pending_count && !failed; from = to) {
        struct pending *p = s->pending + from;
        struct engine_block b;
        size_t count;

        for (to = from; to < s->pending_count && s->pending[to].block == p->block; to++)
            ;
        count = still_open(s, p, to - from);
        if (!count)
            continue;
        if (s->src->cancelled && s->src->cancelled(s->src->arg))
            return err_set(e, ERR_CANCELLED, "search cancelled while widening chunk %zu of %zu",
                           p->block, s->src->count);
        if (s->src->open(s->src->arg, p->block, &b, e))
            return (int)e->code;
        failed = widen_block(s, &b, p, count, e);
        s->src->close(s->src->arg, &b);
    }
    return failed;
}

/* --- the search ------------------------------------------------------------------------------ */

static int share_init(struct share *s, struct err *e)
{
    const struct engine_query *q = s->q;
    const size_t dim = s->src->dim;

    s->length = mem_big(q->count, sizeof *s->length);
    s->wanted = mem_big(q->count, sizeof *s->wanted);
    if (q->opponents)
        s->negated = mem_big(q->count * dim, sizeof *s->negated);
    if (!s->length || !s->wanted || (q->opponents && !s->negated))
        return err_set(e, ERR_BUSY, "no memory for %zu queries of %zu", q->count, dim);
    memset(s->wanted, 0, q->count);
    for (size_t n = 0; n < q->count; n++)
        s->length[n] = exact_longest(DTYPE_F32, q->vectors + n * dim, 1, dim);
    for (size_t i = 0; s->negated && i < q->count * dim; i++)
        s->negated[i] = -q->vectors[i];
    s->side[0] = (struct side){EXACT_PRO, q->k, q->vectors, s->pro};
    s->side[1] = (struct side){EXACT_OPP, q->opponents, s->negated, s->opp};
    return 0;
}

static void share_fini(struct share *s)
{
    free(s->length);
    free(s->wanted);
    free(s->negated);
    free(s->scores);
    free(s->rows);
    free(s->pending);
}

static int take_blocks(struct share *s, _Atomic size_t *next, struct err *e)
{
    const struct engine_source *src = s->src;
    int failed = 0;
    size_t i;

    while (!failed && (i = (*next)++) < src->count) {
        struct engine_block b;

        if (src->cancelled && src->cancelled(src->arg))
            return err_set(e, ERR_CANCELLED, "search cancelled after %zu of %zu chunks", i,
                           src->count);
        if (src->open(src->arg, i, &b, e))
            return (int)e->code;
        failed = first_pass(s, &b, i, e);
        s->work->blocks++;
        src->close(src->arg, &b);
    }
    return failed;
}

int certify_search(const struct certify_proposer *by, const struct engine_source *src,
                   const struct engine_query *q, _Atomic size_t *next, struct topk *pro,
                   struct topk *opp, struct engine_work *work, struct err *e)
{
    struct share s = {.by = by, .src = src, .q = q, .pro = pro, .opp = opp, .work = work};
    int failed;

    if (!q->count || (!q->k && !q->opponents))
        return 0;
    failed = share_init(&s, e);
    if (!failed)
        failed = take_blocks(&s, next, e);
    if (!failed)
        failed = second_pass(&s, e);
    share_fini(&s);
    return failed;
}
