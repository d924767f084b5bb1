/* test_cost.c - the choice of an engine: what it must be on any machine, and that measuring is quick. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "index/flat.h"
#include "index/kern.h"
#include "server/cost.h"

static struct cost *plain, *measured;

/* 20,000 rows of 16,384 floats, one query for ten. */
static struct cost_ask usual(void)
{
    return (struct cost_ask){.dim = 16384,
                             .row_bytes = 65536,
                             .chunks = 40,
                             .rows = 20000,
                             .live = 20000,
                             .coded = 20000,
                             .queries = 1,
                             .deep = 10,
                             .plain = true,
                             .precision = TIER_CERTIFIED};
}

static enum scan_engine chosen(const struct cost_ask *a)
{
    char reason[SCAN_REASON];
    enum scan_engine by_plain = cost_choose(plain, a, reason);

    /* what these tests ask holds whatever the machine is: one measured one, and the plain one */
    assert_int_equal(cost_choose(measured, a, reason), by_plain);
    assert_true(strlen(reason) < SCAN_REASON - 1);
    assert_non_null(strstr(reason, scan_engine_name(by_plain)));
    assert_int_equal(cost_choose(NULL, a, reason), by_plain);
    return by_plain;
}

static void test_measuring(void **state)
{
    struct rate r;
    uint64_t began;

    (void)state;
    assert_false(cost_rates(plain, &r));
    assert_true(r.read == rate_plain.read);
    assert_false(cost_rates(NULL, &r));
    began = scan_now();
    cost_measure(measured);
    assert_true(scan_now() - began < UINT64_C(20000000000)); /* 0.15 s of its own, on a busy machine */
    assert_true(cost_rates(measured, &r));
    for (size_t i = 0; i < sizeof r / sizeof(double); i++) {
        double rate = ((const double *)(const void *)&r)[i];

        assert_true(isfinite(rate) && rate > 1e6);
    }
}

static void test_one_query(void **state)
{
    struct cost_ask a = usual();

    (void)state;
    assert_int_equal(chosen(&a), SCAN_TIERED);
    a.precision = TIER_PROBABILISTIC;
    assert_int_equal(chosen(&a), SCAN_TIERED);
    a.plain = false; /* a task, or dot products */
    assert_int_equal(chosen(&a), SCAN_TIERED);
    a.coded = 0; /* an older store */
    assert_int_equal(chosen(&a), SCAN_EXACT);
    a.plain = true; /* FAISS would go row by row */
    assert_int_equal(chosen(&a), SCAN_EXACT);
}

static void test_few_rows(void **state)
{
    struct cost_ask a = usual();

    (void)state;
    a.live = 10; /* a filter's */
    assert_int_equal(chosen(&a), SCAN_EXACT);
    a = usual();
    a.rows = a.live = a.coded = 7;
    a.chunks = 1;
    assert_int_equal(chosen(&a), SCAN_EXACT);
    a.live = 0;
    assert_int_equal(chosen(&a), SCAN_EXACT);
    a.rows = a.coded = 0;
    assert_int_equal(chosen(&a), SCAN_EXACT);
}

static void test_what_cannot_be(void **state)
{
    struct cost_ask a = usual();

    (void)state;
    assert_true(isinf(cost_of(measured, &a, SCAN_FLAT))); /* never worth it for one query */
    a.queries = 256;
    assert_true(isfinite(cost_of(measured, &a, SCAN_FLAT)));
    a.plain = false;
    assert_true(isinf(cost_of(measured, &a, SCAN_FLAT)));
    a.coded = 0;
    assert_true(isinf(cost_of(measured, &a, SCAN_TIERED)));
    assert_int_equal(chosen(&a), SCAN_EXACT);
    a = usual();
    a.dim = 1 << 20; /* beyond any code */
    a.row_bytes = 4u << 20;
    assert_true(isinf(cost_of(measured, &a, SCAN_TIERED)));
}

/* More to do costs more, and one bit less than six while it is looked at. */
static void test_the_order_of_costs(void **state)
{
    static const enum scan_engine engines[] = {SCAN_EXACT, SCAN_TIERED, SCAN_FLAT};
    struct cost_ask a = usual(), b;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        a = usual();
        a.queries = 32;
        b = a;
        b.queries = 64;
        assert_true(cost_of(measured, &b, engines[i]) > cost_of(measured, &a, engines[i]));
        b = a;
        b.rows = b.live = b.coded = 40000;
        assert_true(cost_of(measured, &b, engines[i]) > cost_of(measured, &a, engines[i]));
        b = a;
        b.dim *= 2;
        b.row_bytes *= 2;
        assert_true(cost_of(measured, &b, engines[i]) > cost_of(measured, &a, engines[i]));
    }
    a = usual();
    b = a;
    b.threads = 4;
    assert_true(cost_of(plain, &b, SCAN_TIERED) == cost_of(plain, &a, SCAN_TIERED) / 4);
    b = a;
    b.precision = TIER_PROBABILISTIC;
    assert_true(cost_of(plain, &b, SCAN_TIERED) < cost_of(plain, &a, SCAN_TIERED));
    b.opponents = true; /* six bits first, but no more after them */
    assert_true(cost_of(plain, &b, SCAN_TIERED) < cost_of(plain, &a, SCAN_TIERED));
    b.opponents = false;
    a.queries = b.queries = 64;
    assert_true(cost_of(plain, &b, SCAN_TIERED) < cost_of(plain, &a, SCAN_TIERED));
    /* a cache too small for the rows makes flat copy them */
    struct cost *small = cost_new(1 << 20);
    assert_true(cost_of(small, &a, SCAN_FLAT) > cost_of(plain, &a, SCAN_FLAT));
    cost_free(small);
}

static int setup(void **state)
{
    (void)state;
    kern_init(NULL);
    flat_thread_init();
    plain = cost_new(UINT64_C(8) << 30);
    measured = cost_new(UINT64_C(8) << 30);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cost_free(plain);
    cost_free(measured);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measuring),    cmocka_unit_test(test_one_query),
        cmocka_unit_test(test_few_rows),     cmocka_unit_test(test_what_cannot_be),
        cmocka_unit_test(test_the_order_of_costs),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
