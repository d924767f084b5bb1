/* test_rank.c - the figures of an evaluation against cases worked out by hand, the generator
 * against its published values, intervals against exact distributions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "client/cli/rank.c"

static struct rank_score of(const char *list)
{
    bool correct[200];
    struct rank_score s;
    size_t n = strlen(list);

    for (size_t i = 0; i < n; i++)
        correct[i] = list[i] == 'x';
    rank_score(correct, n, &s);
    return s;
}

static void check(const char *list, double mrr, double recall, double precision)
{
    struct rank_score s = of(list);

    if (s.of[RANK_MRR] != mrr || s.of[RANK_RECALL] != recall || s.of[RANK_PRECISION] != precision)
        fail_msg("\"%s\": %g %g %g", list, s.of[RANK_MRR], s.of[RANK_RECALL],
                 s.of[RANK_PRECISION]);
}

static void one_list_by_hand(void **state)
{
    (void)state;
    check("x.........", 1, 1, 0.1);
    check("..x..x....", 1.0 / 3, 1, 0.2);
    check(".........x", 0.1, 1, 0.1);
    check("..........x", 1.0 / 11, 0, 0); /* eleventh: MRR sees it, Recall@10 does not */
    check("xxxxxxxxxxxxxxx", 1, 1, 1);
    check("....................", 0, 0, 0);
    check("", 0, 0, 0);
    check("xxx", 1, 1, 0); /* as in the viewer: no tenth place, no precision at ten */
    check("xxxxxxxxx", 1, 1, 0);
    check("....x", 0.2, 1, 0);
}

static void means_by_hand(void **state)
{
    struct rank_score list[] = {of("x.........x"), of("...x..x..."), of(".........."),
                                of("..........x")};
    struct rank_summary s;

    (void)state;
    assert_true(rank_summarise(list, 4, 0, 1, &s));
    assert_int_equal(s.count, 4);
    assert_true(fabs(s.of[RANK_MRR].mean - (1 + 0.25 + 0 + 1.0 / 11) / 4) < 1e-15);
    assert_true(s.of[RANK_RECALL].mean == 0.5);
    assert_true(fabs(s.of[RANK_PRECISION].mean - 0.075) < 1e-15);
    assert_true(isnan(s.of[RANK_MRR].low) && isnan(s.of[RANK_MRR].high));
    assert_true(rank_summarise(list, 0, 100, 1, &s));
    assert_true(s.count == 0 && isnan(s.of[RANK_MRR].mean) && isnan(s.of[RANK_MRR].low));
}

/* The first values for seed 1234567, as the generator's reference program prints them. */
static void the_generator_is_splitmix64(void **state)
{
    static const uint64_t right[] = {6457827717110365317u, 3203168211198807973u,
                                     9817491932198370423u, 4593380528125082431u,
                                     16408922859458223821u};
    uint64_t at = 1234567;

    (void)state;
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        assert_int_equal(rank_random(&at), right[i]);
}

static void numbers_below_are_even(void **state)
{
    uint64_t at = 1, seen[7] = {0}, huge = (UINT64_C(1) << 63) + 1, n;
    enum { DRAWS = 70000 };
    double chi = 0;

    (void)state;
    for (int i = 0; i < DRAWS; i++) {
        n = rank_below(&at, 7);
        assert_true(n < 7);
        seen[n]++;
    }
    for (int i = 0; i < 7; i++)
        chi += pow((double)seen[i] - DRAWS / 7.0, 2) / (DRAWS / 7.0);
    assert_true(chi < 22.5); /* 6 degrees of freedom: more once in 1,000; the seed is fixed */
    assert_true(rank_below(&at, 1) == 0);
    for (int i = 0; i < 1000; i++) /* nearly every second draw is rejected here */
        assert_true(rank_below(&at, huge) < huge);
}

static void quantiles_by_hand(void **state)
{
    static const double v[] = {1, 2, 4, 8, 16};

    (void)state;
    assert_true(rank_quantile(v, 5, 0) == 1);
    assert_true(rank_quantile(v, 5, 1) == 16);
    assert_true(rank_quantile(v, 5, 0.5) == 4);
    assert_true(fabs(rank_quantile(v, 5, 0.1) - 1.4) < 1e-12);   /* place 0.4 */
    assert_true(fabs(rank_quantile(v, 5, 0.975) - 15.2) < 1e-12); /* place 3.9 */
    assert_true(rank_quantile(v, 1, 0.975) == 1);
}

/* n queries, half of them right: the mean of a resample is Binomial(n, 1/2) / n, whose 2.5th and
 * 97.5th percentiles for n = 100 are 0.40 and 0.60 (cumulative: 0.0284 at 40, 0.9824 at 60). */
static void intervals_cover_as_they_should(void **state)
{
    struct rank_score list[100];
    struct rank_summary s, again, other;

    (void)state;
    for (int i = 0; i < 100; i++)
        list[i] = of(i % 2 ? "x........." : "..........");
    assert_true(rank_summarise(list, 100, 10000, 1, &s));
    assert_true(s.of[RANK_MRR].mean == 0.5);
    assert_true(fabs(s.of[RANK_MRR].low - 0.40) < 1e-9);
    assert_true(fabs(s.of[RANK_MRR].high - 0.60) < 1e-9);
    /* the same resamples for all figures: Recall here is MRR */
    assert_true(s.of[RANK_RECALL].low == s.of[RANK_MRR].low);
    assert_true(rank_summarise(list, 100, 10000, 1, &again));
    assert_memory_equal(&s, &again, sizeof s);
    for (int i = 0; i < 100; i++)
        list[i].of[RANK_MRR] = sqrt(i);
    assert_true(rank_summarise(list, 100, 500, 1, &s) && rank_summarise(list, 100, 500, 2, &other));
    assert_true(s.of[RANK_MRR].mean == other.of[RANK_MRR].mean);
    assert_true(s.of[RANK_MRR].low != other.of[RANK_MRR].low);
}

static void equal_queries_leave_no_doubt(void **state)
{
    struct rank_score list[30];
    struct rank_summary s;

    (void)state;
    for (int i = 0; i < 30; i++)
        list[i] = of(".x........");
    assert_true(rank_summarise(list, 30, 200, 9, &s));
    assert_true(s.of[RANK_MRR].low == 0.5 && s.of[RANK_MRR].high == 0.5);
    assert_true(rank_summarise(list, 1, 1, 9, &s));
    assert_true(s.of[RANK_MRR].low == 0.5 && s.of[RANK_MRR].high == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_list_by_hand),
        cmocka_unit_test(means_by_hand),
        cmocka_unit_test(the_generator_is_splitmix64),
        cmocka_unit_test(numbers_below_are_even),
        cmocka_unit_test(quantiles_by_hand),
        cmocka_unit_test(intervals_cover_as_they_should),
        cmocka_unit_test(equal_queries_leave_no_doubt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
