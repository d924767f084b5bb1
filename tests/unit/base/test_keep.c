/* Large blocks: that pages come back warm, that what is kept is bounded, and that nothing is lost
 * when many threads take and give. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "storage/base/keep.h"
#include "storage/base/mem.h"

#define MIB ((size_t)1 << 20)

/* Under AddressSanitizer every block is malloc's, so that it is watched. */
static bool keeps(void)
{
    void *p = keep_take(MIB, 1);
    bool is = keep_stats().used > 0;

    keep_give(p);
    keep_drop();
    return is;
}

static void test_before_it_begins(void **state)
{
    void *p = keep_take(4, MIB);

    (void)state;
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    memset(p, 1, 4 * MIB);
    assert_int_equal(keep_stats().used, 0);
    keep_begin();
    keep_give(p); /* malloc's, whatever begun meanwhile */
    assert_int_equal(keep_stats().kept, 0);
}

static void test_sizes(void **state)
{
    static const size_t around[] = {0, 1, 63, 64, 4096, KEEP_LEAST - 65, KEEP_LEAST - 64,
                                    KEEP_LEAST, MIB - 64, MIB, 3 * MIB + 5, 64 * MIB + 1};

    (void)state;
    for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
        unsigned char *p = keep_take(around[i], 1);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        if (around[i]) {
            p[0] = 1;
            p[around[i] - 1] = 2;
        }
        keep_give(p);
    }
    keep_give(NULL);
    keep_drop();
    assert_int_equal(keep_stats().used, 0);
    assert_int_equal(keep_stats().kept, 0);
}

static void test_overflow(void **state)
{
    (void)state;
    assert_null(keep_take(SIZE_MAX, 2));
    assert_null(keep_take(SIZE_MAX, 1));       /* no room for the header */
    assert_null(keep_take(SIZE_MAX - 64, 1));  /* nor for rounding up */
    assert_null(keep_take(SIZE_MAX / 4, 1));   /* nor in the address space */
    assert_int_equal(keep_stats().used, 0);
}

static void test_a_warm_block_comes_back(void **state)
{
    unsigned char *a, *b;

    (void)state;
    if (!keeps())
        skip();
    a = keep_take(10 * MIB, 1);
    memset(a, 7, 10 * MIB);
    keep_give(a);
    b = keep_take(10 * MIB - 3000, 1); /* about as much */
    assert_ptr_equal(a, b);
    assert_int_equal(b[9 * MIB], 7); /* its pages are those of before */
    keep_give(b);
    b = keep_take(2 * MIB, 1); /* too large for this one */
    assert_ptr_not_equal(a, b);
    keep_give(b);
    b = keep_take(11 * MIB, 1); /* too small for that one */
    assert_ptr_not_equal(a, b);
    keep_give(b);
    keep_drop();
}

static void test_of_equals_the_last_given(void **state)
{
    void *p[3];

    (void)state;
    if (!keeps())
        skip();
    for (int i = 0; i < 3; i++)
        p[i] = keep_take(3 * MIB, 1);
    keep_give(p[1]);
    keep_give(p[2]);
    keep_give(p[0]);
    assert_ptr_equal(keep_take(3 * MIB, 1), p[0]);
    assert_ptr_equal(keep_take(3 * MIB, 1), p[2]);
    assert_ptr_equal(keep_take(3 * MIB, 1), p[1]);
    for (int i = 0; i < 3; i++)
        keep_give(p[i]);
    keep_drop();
    assert_int_equal(keep_stats().kept, 0);
}

static void test_bound(void **state)
{
    enum { COUNT = 12 };
    void *p[COUNT], *more;
    struct keep_stats s;

    (void)state;
    if (!keeps())
        skip();
    for (int i = 0; i < COUNT; i++)
        p[i] = keep_take(32 * MIB, 1);
    assert_false(keep_excess()); /* all in use: nothing can be given back */
    for (int i = 0; i < COUNT; i++)
        keep_give(p[i]);
    assert_int_equal(keep_stats().used, 0);
    assert_true(keep_excess());
    keep_settle();
    assert_false(keep_excess());
    s = keep_stats();
    assert_in_range(s.kept, KEEP_BYTES - 36 * MIB, KEEP_BYTES); /* no more given up than must be */

    /* what is taken now lessens what may be kept; the last given are left */
    more = keep_take(KEEP_BYTES - 60 * MIB, 1);
    keep_settle();
    s = keep_stats();
    assert_true(s.used + s.kept <= KEEP_BYTES);
    assert_ptr_equal(keep_take(32 * MIB, 1), p[COUNT - 1]);
    keep_give(p[COUNT - 1]);
    keep_give(more);

    /* one block larger than the bound is nobody's to keep */
    keep_give(keep_take(KEEP_BYTES + MIB, 1));
    keep_settle();
    assert_true(keep_stats().kept <= KEEP_BYTES);
    keep_drop();
    assert_int_equal(keep_stats().kept, 0);
}

static void test_arenas_give_theirs_back(void **state)
{
    struct arena a = {0};

    (void)state;
    if (!keeps())
        skip();
    memset(arena_big(&a, 5, MIB), 1, 5 * MIB);
    assert_non_null(arena_big(&a, 100, 1));
    assert_in_range(keep_stats().used, 5 * MIB, 6 * MIB);
    arena_free(&a);
    assert_int_equal(keep_stats().used, 0);
    assert_in_range(keep_stats().kept, 5 * MIB, 6 * MIB);
    keep_drop();
}

/* Each block is filled with its owner's mark and read again before it is given. */
static void *taker(void *arg)
{
    unsigned char mark = *(const unsigned char *)arg;
    uint64_t x = mark * UINT64_C(0x9e3779b97f4a7c15);
    unsigned char *p[4] = {NULL};

    for (int round = 0; round < 2000; round++) {
        size_t slot, bytes;

        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        slot = x % 4;
        bytes = KEEP_LEAST / 2 + (x >> 8) % (24 * MIB);
        if (p[slot] && (p[slot][0] != mark || p[slot][KEEP_LEAST / 2 - 1] != mark))
            return arg;
        keep_give(p[slot]);
        p[slot] = keep_take(bytes, 1);
        if (!p[slot])
            return arg;
        p[slot][0] = p[slot][KEEP_LEAST / 2 - 1] = p[slot][bytes - 1] = mark;
        if (x >> 60 == 0)
            keep_settle();
    }
    for (int i = 0; i < 4; i++)
        keep_give(p[i]);
    return NULL;
}

static void test_threads(void **state)
{
    enum { THREADS = 6 };
    unsigned char mark[THREADS];
    pthread_t t[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        mark[i] = (unsigned char)(i + 1);
        assert_int_equal(pthread_create(&t[i], NULL, taker, &mark[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong;

        pthread_join(t[i], &wrong);
        assert_null(wrong);
    }
    keep_settle();
    assert_int_equal(keep_stats().used, 0);
    assert_true(keep_stats().kept <= KEEP_BYTES);
    keep_drop();
    assert_int_equal(keep_stats().kept, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_it_begins),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_a_warm_block_comes_back),
        cmocka_unit_test(test_of_equals_the_last_given),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_arenas_give_theirs_back),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
