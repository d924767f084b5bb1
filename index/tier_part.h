/* tier_part.h - what the files of engine tiered share: one search, one thread's share of it.
 *
 * tier.c prepares a search and deals blocks; tier_bar.c keeps the scores to beat; tier_window.c
 * runs the first tier over a window of rows; tier_settle.c settles a window: which rows the next
 * tiers read (tier_refine.c, with sums by tier_sums.c), which the exact kernel scores;
 * tier_exact.c scores them. Nobody else includes
 * this.
 */
#ifndef INDEX_TIER_PART_H
#define INDEX_TIER_PART_H

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/bound.h"
#include "index/exact.h"
#include "index/tier.h"

/* Scores seen from an end: for opponents with their sign turned. Higher is better at both. */
enum { TIER_PRO, TIER_OPP, TIER_ENDS };

/* The k-th best score known so far at one end of one query, by any thread: a row that cannot reach
 * it is out for good. It only rises. */
struct bar {
    _Atomic double at; /* -infinity until k are known */
    pthread_mutex_t lock;
    double *kept; /* k slots, a heap, worst first; the k best of all scores offered */
    size_t k, count;
};

struct tier {
    const struct tier_source *src;
    const struct tier_query *q;
    struct bound_query *bounds; /* count; owned, with planes, bars and kept */
    int8_t *planes;
    const int8_t **first;       /* what the first tier multiplies with: first_count planes */
    size_t first_count;
    struct bar *bars;           /* count x TIER_ENDS */
    size_t bar_count;           /* initialised */
    double *kept;
    _Atomic bool whole;         /* every row by the exact kernel; fixed when all are prepared */
    bool odds;                  /* probabilistic: bounds that hold but for delta */
    bool bits;                  /* the first tier reads the bits plane, else six */
    bool fine;                  /* it multiplies with hi and lo, else with hi, or bits with one */
    bool eight;                 /* it joins six and low, and multiplies those with hi */
    double cut, cut6, toss, reach, slack; /* of the bounds that may fail: index/bound.h */
    size_t groups;
    size_t window_rows;         /* of one thread */
    size_t left_rows;           /* of one list of what is left */
    _Atomic size_t next;        /* block */
    _Atomic size_t next_query;  /* to be prepared */
    size_t prepared;            /* of them; the lock's */
    pthread_mutex_t lock;
    pthread_cond_t ready;       /* all are */
};

/* A block while it is open on this thread. */
struct held {
    bool open;
    size_t index;
    struct tier_block b;
    const unsigned char *plane[TIER_PLANES]; /* NULL until asked */
};

enum { TIER_FACTORS_USED = 5 };

/* The live rows that the first tier has read and nobody has settled, in the order of blocks. */
struct window {
    size_t count, room;
    uint32_t *block, *row;
    /* Of six: scale, rest6, length6, length, bound_along. Of eight: scale, rest8, length8. Of
     * bits: gain, spread. */
    float *factor[TIER_FACTORS_USED];
    float most[TIER_FACTORS_USED]; /* the greatest of each in the window */
    double *weight;    /* NULL for TIER_COSINE */
    /* Sums, of query i and row w at i * room + w; in hi those of bits too, or of hi (c8 - 128); lo:
     * fine. */
    int32_t *hi, *lo;
    double *best;      /* highest estimate of a score in each tile of each query's ends, seen from
                        * there; known once the bars were raised */
    uint64_t *settled; /* bit w of query i's words: scored, or out */
    size_t words;      /* a query */
};

/* A row that no bound rules out, at one end of one query. */
struct left {
    double upper; /* seen from the end */
    uint32_t w;
};

struct lefts {
    struct left *at; /* owned */
    size_t count, room;
};

struct share {
    struct tier *t;
    struct topk *list[TIER_ENDS]; /* NULL when the end is not asked */
    struct engine_work *work;
    struct window w;
    struct held scan, rows; /* the block being read through; the one single rows are read of */
    struct lefts *lefts;    /* count x TIER_ENDS */
    uint64_t *picked;       /* TIER_SPAN x count: of each tile, the rows left for each query */
    unsigned char *joined;  /* eight: TIER_TILE rows of TIER_PANEL groups */
    int32_t *sums;          /* eight: TIER_TILE x count */
    void *memory;           /* of the window and these */
    /* Where tier_window_fill goes on. */
    size_t block;
    uint32_t row;
    bool inside; /* a block is begun and not finished */
};

enum {
    TIER_TILE = 64, /* rows at a time */
    TIER_SPAN = 8,  /* tiles that are swept together, at most */
    TIER_PANEL = 16, /* groups joined at a time: four such rows stay in a first-level cache */
};

/* How many of query i's rows are asked for at an end. */
static inline size_t tier_k(const struct tier_query *q, size_t i, int end)
{
    if (end == TIER_PRO)
        return q->each_k ? q->each_k[i] : q->k;
    return q->each_opponents ? q->each_opponents[i] : q->opponents;
}

static inline bool tier_is_settled(const struct window *w, size_t i, uint32_t row)
{
    return w->settled[i * w->words + row / 64] >> (row % 64) & 1;
}

static inline void tier_set_settled(struct window *w, size_t i, uint32_t row)
{
    w->settled[i * w->words + row / 64] |= UINT64_C(1) << (row % 64);
}

static inline double *tier_best(const struct window *w, size_t i, int end, uint32_t from)
{
    return &w->best[(i * TIER_ENDS + (size_t)end) * w->words + from / TIER_TILE];
}

static inline double tier_weight(const struct window *w, uint32_t row)
{
    return w->weight ? w->weight[row] : 1.0;
}

/* --- tier_bar.c --- */
int tier_bar_init(struct bar *b, double *kept, size_t k);
void tier_bar_fini(struct bar *b);
static inline double tier_bar_at(const struct bar *b)
{
    return atomic_load_explicit(&((struct bar *)(uintptr_t)b)->at, memory_order_relaxed);
}
void tier_bar_offer(struct bar *b, double score); /* of one row, once; seen from the end */

/* --- tier.c: blocks held open --- */
int tier_held_take(struct share *s, struct held *h, size_t index, struct err *e);
int tier_held_plane(struct share *s, struct held *h, enum tier_plane p, struct err *e);
void tier_held_drop(struct share *s, struct held *h);
/* CANCELLED once nobody waits for the answer. */
int tier_cancelled(const struct share *s, struct err *e);

/* --- tier_exact.c --- */
/* The score of query i's product with a row of this weight. Monotone in dot. */
static inline double tier_score(const struct tier_query *q, size_t i, double dot, double weight)
{
    if (q->measure == TIER_COSINE)
        return dot;
    if (q->measure == TIER_DIVIDED)
        return dot / weight;
    return exact_scale(dot, weight, q->lengths[i]);
}

/* Could a row whose product is within `b` enter at this end of query i? *out_upper: its best score
 * seen from there. NaN, which only an infinite bound can make, counts as infinite. */
static inline bool tier_may(const struct tier *t, size_t i, int end, struct bound b, double weight,
                            double *out_upper)
{
    const double dot = end == TIER_PRO ? b.at + b.off : b.at - b.off;
    const double score = tier_score(t->q, i, dot, weight);
    const double upper = end == TIER_PRO ? score : -score;

    *out_upper = isnan(upper) ? (double)INFINITY : upper;
    return !(upper < tier_bar_at(&t->bars[i * TIER_ENDS + (size_t)end]));
}

/* Scores row w of the window exactly for query i, and offers it at both ends. */
int tier_exact_one(struct share *s, size_t i, uint32_t w, struct err *e);
/* Scores all live rows of the open block for all queries. */
int tier_exact_whole(struct share *s, struct held *h, struct err *e);

/* --- tier_window.c --- */
/* Fills the empty window from the next blocks; count stays 0 when none is left. Blocks without
 * codes are scored whole on the way. */
int tier_window_fill(struct share *s, struct err *e);

/* --- tier_audit.c --- */
/* Debug builds: every bound of every row in the window against the row's exact product. */
#ifdef ASCRIBE_DEBUG
int tier_audit_window(struct share *s, struct err *e);
#else
static inline int tier_audit_window(struct share *s, struct err *e)
{
    (void)s;
    (void)e;
    return 0;
}
#endif

/* --- tier_first.c --- */
struct bounds {
    double at[TIER_TILE], off[TIER_TILE];
};

/* Q = 128 hi + lo, so its sums are too. */
static inline double tier_whole(int32_t hi, int32_t lo)
{
    return 128.0 * (double)hi + (double)lo;
}

/* What the first tier says of query i's products with the rows of the tile at `from`, a multiple of
 * TIER_TILE; past the window's last row nothing of use. Estimates alone cost a fraction. */
void tier_first_estimates(const struct share *s, size_t i, uint32_t from, double at[TIER_TILE]);
/* False when no row of the tile can enter at this end, whatever its own factors are. By tier_best,
 * where scores are products; else by the estimates. */
bool tier_first_any(const struct share *s, size_t i, int end, uint32_t from);
void tier_first_bounds(const struct share *s, size_t i, uint32_t from, struct bounds *out);
/* tier_score of all of them; out may be dots. */
void tier_first_scores(const struct share *s, size_t i, uint32_t from, const double dots[TIER_TILE],
                       double out[TIER_TILE]);
/* Bit n: row from + n is there and not settled; and it may still enter at this end. */
uint64_t tier_first_open(const struct share *s, size_t i, uint32_t from);
uint64_t tier_first_may(const struct share *s, size_t i, int end, uint32_t from,
                        const struct bounds *b);

/* --- tier_left.c --- */
/* Lists row `left` at an end of query i; scores what is listed when the list is full. BUSY. */
int tier_left_push(struct share *s, size_t i, int end, struct left left, struct err *e);
/* Scores the listed rows, highest bound first, until no other can reach the bar; empties the list.
 * Rows that another list had scored are passed over. */
int tier_left_drain(struct share *s, size_t i, int end, struct err *e);

/* --- tier_sums.c --- */
enum { TIER_GROUP = 32 }; /* queries at a time */

/* Pairs of rows of one block and queries: bit n of mask[j] is row from + n of the window and
 * query[j]; at most TIER_GROUP queries. */
struct picked {
    uint32_t from; /* a multiple of TIER_TILE */
    const uint32_t *query;
    uint64_t *mask;
    size_t count;
};

/* Which part of a query a row is multiplied with. */
enum { PART_HI = 1, PART_LO = 2 };

/* Sums over plane p of s->scan's block, opened there: of pair (n, j) at out[n * count + j], or
 * of both parts at out[2 * (n * count + j)]; what is no pair may be written too. */
int tier_sums(struct share *s, const struct picked *p, enum tier_plane plane, unsigned parts,
              int32_t *out, struct err *e);

/* --- tier_refine.c --- */
/* How many queries tier_refine_tile takes at a time: their planes stay in a second-level cache. */
size_t tier_group(const struct tier *t);

/* All tiers after the first: of the tile at `from`, the rows mask[j] for query first + j; lists
 * what they leave. count: at most tier_group. The last block that was needed stays open in
 * s->scan. */
int tier_refine_tile(struct share *s, uint32_t from, uint32_t first, const uint64_t *mask,
                     size_t count, struct err *e);

/* --- tier_settle.c --- */
/* Scores every row of the window that may be among the k best at an end, and empties the window. */
int tier_settle_window(struct share *s, struct err *e);

#endif
