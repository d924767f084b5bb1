/* test_topk.c - the k best against qsort under the same total order, for thousands of seeds with
 * ties, both zeros and infinities; and merges of any split, in any order, nested any way. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/topk.h"

enum { MOST = 200, SEEDS = 4000 };

static uint64_t state_of_random;

static size_t below(size_t n)
{
    uint64_t z = state_of_random += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (size_t)((z ^ (z >> 31)) % n);
}

/* The order, written apart from the code under test. */
static int best_high(const void *a, const void *b)
{
    const struct topk_hit *x = a, *y = b;

    if (x->score > y->score || x->score < y->score)
        return x->score > y->score ? -1 : 1;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static int best_low(const void *a, const void *b)
{
    const struct topk_hit *x = a, *y = b;

    if (x->score > y->score || x->score < y->score)
        return x->score < y->score ? -1 : 1;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

/* n hits with distinct sequences in random order, and few distinct scores (so, ties). */
static void make(struct topk_hit *h, size_t n)
{
    static const double some[] = {0.0, -0.0, 1.0, -1.0, 0x1p-1074, INFINITY, -INFINITY, 0.5};
    size_t distinct = 1 + below(sizeof some / sizeof some[0]);

    for (size_t i = 0; i < n; i++)
        h[i] = (struct topk_hit){
            .score = below(3) ? some[below(distinct)] : (double)below(50) / 7.0 - 3.0,
            .sequence = UINT64_MAX - i * 3,
            .chunk = (uint32_t)i,
            .row = (uint32_t)(i * 7),
        };
    for (size_t i = n; i > 1; i--) {
        size_t j = below(i);
        struct topk_hit c = h[j];

        h[j] = h[i - 1];
        h[i - 1] = c;
    }
}

static void check_same(struct topk *t, const struct topk_hit *want, size_t n)
{
    size_t kept = n < t->k ? n : t->k;
    double bar = -7.0;

    assert_int_equal(t->count, kept);
    assert_int_equal(topk_bar(t, &bar), t->k > 0 && n >= t->k);
    if (t->k > 0 && n >= t->k)
        assert_true(bar == want[t->k - 1].score);
    else
        assert_true(bar == -7.0);
    topk_sort(t);
    for (size_t i = 0; i < kept; i++) {
        assert_memory_equal(&t->hits[i].score, &want[i].score, sizeof want[i].score);
        assert_true(t->hits[i].sequence == want[i].sequence);
        assert_int_equal(t->hits[i].chunk, want[i].chunk);
        assert_int_equal(t->hits[i].row, want[i].row);
    }
}

static void equals_a_full_sort(void **state)
{
    struct topk_hit h[MOST], slots[MOST + 10];

    (void)state;
    for (size_t seed = 0; seed < SEEDS; seed++) {
        enum topk_end end = seed % 2 ? TOPK_LOWEST : TOPK_HIGHEST;
        size_t n = below(MOST + 1), k = below(5) ? below(20) : below(MOST + 10);
        struct topk t;

        state_of_random = seed;
        make(h, n);
        topk_init(&t, end, k, slots);
        for (size_t i = 0; i < n; i++)
            topk_offer(&t, &h[i]);
        qsort(h, n, sizeof *h, end == TOPK_HIGHEST ? best_high : best_low);
        check_same(&t, h, n);
    }
}

/* The hits are dealt to up to 8 lists, some sorted; lists are merged in random pairs until one is
 * left, as threads and machines would. */
static void merges_in_any_split_and_order(void **state)
{
    enum { PARTS = 8 };
    static struct topk_hit h[MOST], slots[PARTS][MOST];

    (void)state;
    for (size_t seed = 0; seed < SEEDS; seed++) {
        enum topk_end end = seed % 2 ? TOPK_LOWEST : TOPK_HIGHEST;
        size_t parts = 1 + below(PARTS), n, k;
        struct topk t[PARTS];

        state_of_random = seed + 1000000;
        n = below(MOST + 1);
        k = below(30);
        make(h, n);
        for (size_t p = 0; p < parts; p++)
            topk_init(&t[p], end, k, slots[p]);
        for (size_t i = 0; i < n; i++)
            topk_offer(&t[below(parts)], &h[i]);
        while (parts > 1) {
            size_t from = below(parts), into = below(parts);

            if (from == into)
                continue;
            if (below(2))
                topk_sort(&t[from]);
            topk_merge(&t[into], &t[from]);
            if (from != parts - 1) { /* keep the live lists together */
                memcpy(slots[from], slots[parts - 1], sizeof slots[0]);
                t[from] = t[parts - 1];
                t[from].hits = slots[from];
            }
            parts--;
        }
        qsort(h, n, sizeof *h, end == TOPK_HIGHEST ? best_high : best_low);
        check_same(&t[0], h, n);
    }
}

static void zeros_are_equal_scores(void **state)
{
    const struct topk_hit minus = {.score = -0.0, .sequence = 1};
    const struct topk_hit plus = {.score = 0.0, .sequence = 2};

    (void)state;
    for (int low = 0; low < 2; low++) {
        enum topk_end end = low ? TOPK_LOWEST : TOPK_HIGHEST;

        assert_true(topk_before(end, &minus, &plus));
        assert_false(topk_before(end, &plus, &minus));
        assert_false(topk_before(end, &plus, &plus));
    }
}

/* What is no number enters no list and is not forgotten, through merges too; all else stays right. */
static void no_number_enters(void **state)
{
    struct topk_hit h[40], slots[2][5];
    struct topk t[2];

    (void)state;
    for (int low = 0; low < 2; low++) {
        enum topk_end end = low ? TOPK_LOWEST : TOPK_HIGHEST;
        size_t n = 0;

        for (int i = 0; i < 2; i++)
            topk_init(&t[i], end, 5, slots[i]);
        for (uint32_t i = 0; i < 40; i++) {
            h[n] = (struct topk_hit){.score = (double)(i * 11 % 7), .sequence = i, .row = i};
            topk_offer(&t[i % 2], &h[n++]);
            if (i != 17)
                continue;
            topk_offer(&t[1], &(struct topk_hit){.score = (double)NAN, .chunk = 3, .row = 17});
        }
        assert_false(t[0].has_nan);
        topk_merge(&t[0], &t[1]);
        assert_true(t[0].has_nan);
        assert_int_equal(t[0].nan.chunk, 3);
        assert_int_equal(t[0].nan.row, 17);
        qsort(h, n, sizeof *h, end == TOPK_HIGHEST ? best_high : best_low);
        check_same(&t[0], h, n);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_a_full_sort),
        cmocka_unit_test(merges_in_any_split_and_order),
        cmocka_unit_test(zeros_are_equal_scores),
        cmocka_unit_test(no_number_enters),
    };

    return cmocka_run_group_tests_name("topk", tests, NULL, NULL);
}
