/* test_certify.c - certification against a proposer that is as wrong as it may be.
 *
 * The proposer claims long rows, so that the bound e is wide, and then uses the whole of it: it
 * lowers the best rows and raises the others, or errs at random, and breaks ties at random. The
 * answer must be that of the plain scan, in ids and bits, whether it proposes little or nothing.
 * What a proposer refuses, the search refuses, and everything held is released.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/certify.h"
#include "index/exact.h"
#include "index/flat.h"
#include "index/kern.h"
#include "index/vec.h"

enum { DIM = 24, BLOCKS = 5, ROWS = 150, MOST_QUERIES = 25, MOST_K = 60 };

static uint64_t state_of_random;

static uint64_t random64(void)
{
    uint64_t z = state_of_random += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return (size_t)(random64() % n);
}

/* --- rows ------------------------------------------------------------------------------------ */

static float rows[BLOCKS][ROWS][DIM];
static size_t opened, closed;

static int block_open(void *arg, size_t i, struct engine_block *out, struct err *e)
{
    (void)arg;
    (void)e;
    opened++;
    *out = (struct engine_block){.key = i, .rows = ROWS, .encodings = rows[i], .ctx = rows[i]};
    return 0;
}

static void block_close(void *arg, struct engine_block *b)
{
    (void)arg;
    (void)b;
    closed++;
}

/* Later blocks have the smaller sequences. */
static uint64_t block_sequence(const struct engine_block *b, uint32_t row)
{
    return (BLOCKS - b->key) * 1000 + row;
}

static const struct engine_source source = {.count = BLOCKS,
                                            .dim = DIM,
                                            .dtype = DTYPE_F32,
                                            .open = block_open,
                                            .close = block_close,
                                            .sequence = block_sequence};

static void draw(float *out)
{
    float raw[DIM], scratch[DIM];
    struct err e = ERR_INIT;
    double norm;

    for (size_t i = 0; i < DIM; i++)
        raw[i] = (float)((double)(int64_t)random64() * 0x1p-63);
    assert_int_equal(vec_normalise(raw, DTYPE_F32, DIM, DTYPE_F32, out, &norm, scratch, "rows", 0, &e),
                     0);
}

static void draw_rows(void)
{
    for (size_t b = 0; b < BLOCKS; b++)
        for (size_t r = 0; r < ROWS; r++)
            if (below(10) == 0) /* a duplicate, often of another block */
                memcpy(rows[b][r], rows[below(b + 1)][below(r + 1)], sizeof rows[b][r]);
            else
                draw(rows[b][r]);
}

/* --- the proposer ---------------------------------------------------------------------------- */

struct liar {
    double longest; /* claimed; e follows */
    int mode;       /* 0: against the best; 1: at random; 2: all equal; 3: never has an index */
    size_t held, released, asked, hold_fails_at, ask_fails_at;
};

static struct liar liar;

struct guess {
    float score;
    uint64_t tie;
    int64_t row;
};

static int best_guess(const void *a, const void *b)
{
    const struct guess *x = a, *y = b;

    if (x->score > y->score || x->score < y->score)
        return x->score > y->score ? -1 : 1;
    return x->tie < y->tie ? -1 : 1;
}

static int liar_hold(void *arg, const struct engine_source *src, const struct engine_block *b,
                     bool build, struct certify_held *held, struct err *e)
{
    (void)src;
    (void)b;
    assert_ptr_equal(arg, &liar);
    *held = (struct certify_held){0};
    if (liar.held + 1 == liar.hold_fails_at)
        return err_set(e, ERR_BUSY, "no room to lie");
    if (liar.mode == 3 && !build)
        return 0;
    liar.held++;
    *held = (struct certify_held){.index = &liar, .item = &liar, .longest = liar.longest};
    return 0;
}

static void liar_release(void *arg, struct certify_held *held)
{
    assert_ptr_equal(arg, &liar);
    if (held->item)
        liar.released++;
}

static int liar_ask(const struct certify_held *held, const struct engine_block *b,
                    const float *vectors, size_t count, size_t depth, float *scores, int64_t *found,
                    struct err *e)
{
    static struct guess g[ROWS];

    assert_ptr_equal(held->index, &liar);
    assert_true(depth >= 1 && depth <= ROWS);
    if (++liar.asked == liar.ask_fails_at)
        return err_set(e, ERR_INTERNAL, "caught");
    for (size_t n = 0; n < count; n++) {
        const float *q = vectors + n * DIM;
        double wide = exact_float32_error(DIM, exact_longest(DTYPE_F32, q, 1, DIM), liar.longest);
        double middle = 0.0;

        for (uint32_t r = 0; r < ROWS; r++)
            middle += exact_score(&source, b, r, q) / ROWS;
        for (uint32_t r = 0; r < ROWS; r++) {
            double s = exact_score(&source, b, r, q), err;

            err = liar.mode == 1 ? wide * (double)(int64_t)random64() * 0x1p-63
                                 : s > middle + 0.1 ? -wide : wide;
            if (liar.mode == 2) /* as near to the middle as the bound lets it */
                err = fmax(-wide, fmin(wide, middle - s));
            /* 0.95: the cast rounds */
            g[r] = (struct guess){(float)(s + 0.95 * err), random64(), r};
        }
        qsort(g, ROWS, sizeof g[0], best_guess);
        for (size_t i = 0; i < depth; i++) {
            scores[n * depth + i] = g[i].score;
            found[n * depth + i] = g[i].row;
        }
    }
    return 0;
}

static const struct certify_proposer proposer = {&liar, liar_hold, liar_release, liar_ask};

/* --- tests ----------------------------------------------------------------------------------- */

static struct topk_hit slots[2][2][MOST_QUERIES][MOST_K];
static struct topk lists[2][2][MOST_QUERIES];
static float queries[MOST_QUERIES][DIM];

static int search(int plain, const struct engine_query *q, struct engine_work *work, struct err *e)
{
    _Atomic size_t next = 0;
    int failed;

    for (size_t n = 0; n < q->count; n++) {
        topk_init(&lists[plain][0][n], TOPK_HIGHEST, q->k, slots[plain][0][n]);
        topk_init(&lists[plain][1][n], TOPK_LOWEST, q->opponents, slots[plain][1][n]);
    }
    failed = plain ? flat_search_plain(&source, q, &next, lists[1][0], lists[1][1], work, e)
                   : certify_search(&proposer, &source, q, &next, lists[0][0], lists[0][1], work, e);
    for (size_t n = 0; n < q->count; n++)
        for (int end = 0; end < 2; end++)
            topk_sort(&lists[plain][end][n]);
    return failed;
}

static void assert_same(const struct engine_query *q)
{
    for (size_t n = 0; n < q->count; n++)
        for (int end = 0; end < 2; end++) {
            const struct topk *a = &lists[0][end][n], *b = &lists[1][end][n];

            assert_int_equal(a->count, b->count);
            for (size_t i = 0; i < a->count; i++) {
                assert_memory_equal(&a->hits[i].score, &b->hits[i].score, sizeof(double));
                assert_true(a->hits[i].sequence == b->hits[i].sequence);
            }
        }
}

static void exact_whatever_is_proposed(void **state)
{
    static const double claims[] = {1.01, 1e2, 1e3, 1e4, 1e5, 1e6, 1e30};
    uint64_t widened[4] = {0};

    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct engine_query q = {.vectors = queries[0]};
        struct engine_work work = {0}, plain = {0};
        struct err e = ERR_INIT;

        state_of_random = seed;
        draw_rows();
        q.count = below(2) ? 1 + below(3) : 20 + below(MOST_QUERIES - 19);
        q.k = below(2) ? below(8) : below(MOST_K + 1);
        q.opponents = below(2) ? 0 : below(8);
        for (size_t n = 0; n < q.count; n++)
            draw(queries[n]);
        liar = (struct liar){.longest = claims[below(7)], .mode = (int)(seed % 4)};
        assert_int_equal(search(0, &q, &work, &e), 0);
        assert_int_equal(search(1, &q, &plain, &e), 0);
        assert_same(&q);
        assert_int_equal(liar.held, liar.released);
        assert_int_equal(opened, closed);
        widened[liar.mode] += work.blocks_widened;
    }
    for (int mode = 0; mode < 4; mode++)
        assert_true(widened[mode] > 0 || mode == 3);
}

/* Scores that float32 holds exactly, a bound of nothing, and far more equal best rows than are
 * proposed: a row that was left out reaches the bar just so, and may come first by its sequence. */
static void equal_scores_at_the_bar(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct engine_query q = {.vectors = queries[0], .count = seed % 2 ? 1 : 21, 
                                 .k = 1 + seed % 7, .opponents = seed % 5};
        struct engine_work work = {0}, plain = {0};
        struct err e = ERR_INIT;

        state_of_random = seed;
        memset(rows, 0, sizeof rows);
        for (size_t b = 0; b < BLOCKS; b++)
            for (size_t r = 0; r < ROWS; r++)
                rows[b][r][0] = (float)((int)below(3) - 1) * 0.5f;
        memset(queries, 0, sizeof queries);
        for (size_t n = 0; n < q.count; n++)
            queries[n][0] = 1.0f;
        liar = (struct liar){.longest = 0.0, .mode = 1};
        assert_int_equal(search(0, &q, &work, &e), 0);
        assert_int_equal(search(1, &q, &plain, &e), 0);
        assert_same(&q);
        assert_true(work.blocks_widened > 0);
    }
}

/* A bound that is tight leaves little to score exactly. */
static void a_good_proposer_saves_work(void **state)
{
    struct engine_query q = {.vectors = queries[0], .count = 20, .k = 5};
    struct engine_work work = {0}, plain = {0};
    struct err e = ERR_INIT;

    (void)state;
    state_of_random = 1;
    draw_rows();
    for (size_t n = 0; n < q.count; n++)
        draw(queries[n]);
    liar = (struct liar){.longest = 1.01, .mode = 1};
    assert_int_equal(search(0, &q, &work, &e), 0);
    assert_int_equal(search(1, &q, &plain, &e), 0);
    assert_same(&q);
    assert_int_equal(plain.rows_exact, 20 * BLOCKS * ROWS);
    assert_true(work.rows_exact < plain.rows_exact / 20);
    assert_int_equal(work.blocks_widened, 0);
}

static void errors_pass_through_and_nothing_stays_held(void **state)
{
    (void)state;
    for (size_t at = 1; at < 12; at++)
        for (int which = 0; which < 2; which++) {
            struct engine_query q = {.vectors = queries[0], .count = MOST_QUERIES, .k = 3,
                                     .opponents = 2};
            struct engine_work work = {0};
            struct err e = ERR_INIT;
            int failed;

            state_of_random = at;
            draw_rows();
            for (size_t n = 0; n < q.count; n++)
                draw(queries[n]);
            liar = (struct liar){.longest = 3e4, .mode = 0};
            *(which ? &liar.ask_fails_at : &liar.hold_fails_at) = at;
            failed = search(0, &q, &work, &e);
            if (failed)
                assert_int_equal(failed, which ? ERR_INTERNAL : ERR_BUSY);
            else
                assert_true((which ? liar.asked : liar.held) + 1 <= at);
            assert_int_equal(liar.held, liar.released);
            assert_int_equal(opened, closed);
        }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_whatever_is_proposed),
        cmocka_unit_test(equal_scores_at_the_bar),
        cmocka_unit_test(a_good_proposer_saves_work),
        cmocka_unit_test(errors_pass_through_and_nothing_stays_held),
    };

    kern_init(NULL);
    return cmocka_run_group_tests_name("certify", tests, NULL, NULL);
}
