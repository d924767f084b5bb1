/* test_bound.c - the bounds: deterministic ones on rows and queries of every shape, never
 * violated; the tail of the 1-bit one against an integral; and its Z, measured on ordinary and
 * contrived rows, as the proof's one assumption has it.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/bound.h"
#include "index/code.h"
#include "index/kern.h"
#include "index/qkern.h"
#include "tests/unit/index/rotate_reference.h"

/* How rows or queries are drawn. HADAMARD: rows of the transform itself, which one round of it
 * alone would send to an axis. STEP: constant but for a sign change at a random place. */
enum shape { NORMAL, AXIS, SPARSE, CONSTANT, SIGNS, HADAMARD, STEP, SPIKE, LOW_RANK, SHAPES };

static const char *const shape_names[] = {"normal",   "axis", "sparse", "constant", "signs",
                                          "hadamard", "step", "spike",  "low rank"};

static double low_rank_at(size_t i, const double a[3])
{
    double v = 0.0;

    for (size_t n = 0; n < 3; n++)
        v += a[n] * sin((double)(i * (2 * n + 3)) * 0.7 + (double)n);
    return v;
}

static void draw(enum shape shape, size_t dim, float *x)
{
    const size_t a = (size_t)(test_random() % dim), b = (size_t)(test_random() % dim);
    const double mix[3] = {test_normal(), test_normal(), test_normal()};
    double sum = 0.0;

    for (size_t i = 0; i < dim; i++) {
        double v = 0.0;

        switch (shape) {
        case NORMAL: v = test_normal(); break;
        case AXIS: v = i == a ? 1.0 : 0.0; break;
        case SPARSE: v = i % 61 == a % 61 ? test_normal() : 0.0; break;
        case CONSTANT: v = 1.0 + 0.01 * test_normal(); break;
        case SIGNS: v = test_random() & 1 ? 1.0 : -1.0; break;
        case HADAMARD: v = __builtin_parityll(i & a) ? -1.0 : 1.0; break;
        case STEP: v = i < b ? 1.0 : -1.0; break;
        case SPIKE: v = (i == a ? 30.0 : 0.0) + test_normal(); break;
        default: v = low_rank_at(i, mix); break;
        }
        x[i] = (float)v;
        sum += v * v;
    }
    x[a] += sum > 0.0 ? 0.0f : 1.0f;
    sum = sum > 0.0 ? sum : 1.0;
    for (size_t i = 0; i < dim; i++)
        x[i] = (float)((double)x[i] / sqrt(sum));
}

struct row {
    float *x;
    struct code_planes planes;
    double factor[CODE_FACTORS];
};

static struct row row_new(enum shape shape, size_t dim, float *scratch)
{
    struct row r = {.x = malloc(dim * sizeof(float)), .planes = {.rows = 1}};

    r.planes.bits = malloc(code_bits_bytes(dim, 1));
    r.planes.six = malloc(code_six_bytes(dim, 1));
    r.planes.low = malloc(code_low_bytes(dim, 1));
    r.planes.factors = malloc(code_factors_bytes(1));
    assert_true(r.x && r.planes.bits && r.planes.six && r.planes.low && r.planes.factors);
    draw(shape, dim, r.x);
    code_rows(DTYPE_F32, dim, r.x, 0, 0, 1, &r.planes, scratch);
    for (int f = 0; f < CODE_FACTORS; f++)
        r.factor[f] = (double)code_factor(r.planes.factors, 1, (enum code_factor)f, 0);
    return r;
}

static void row_free(struct row *r)
{
    free(r->x);
    free(r->planes.bits);
    free(r->planes.six);
    free(r->planes.low);
    free(r->planes.factors);
}

struct query {
    float *u;
    struct bound_query b;
};

static struct query query_new(enum shape shape, size_t dim, float *scratch)
{
    struct query q = {.u = malloc(dim * sizeof(float))};

    q.b.hi = malloc(code_padded(dim));
    q.b.lo = malloc(code_padded(dim));
    q.b.one = malloc(code_padded(dim));
    assert_true(q.u && q.b.hi && q.b.lo && q.b.one);
    draw(shape, dim, q.u);
    assert_true(bound_prepare(&q.b, q.u, dim, scratch));
    bound_prepare_one(&q.b, dim, scratch);
    return q;
}

static void query_free(struct query *q)
{
    free(q->u);
    free(q->b.hi);
    free(q->b.lo);
    free(q->b.one);
}

static double sum_of(qkern_dot *dot, const unsigned char *plane, const int8_t *q, size_t groups)
{
    int32_t out;

    dot(plane, 0, 1, &q, 1, groups, &out);
    return (double)out;
}

static double whole(qkern_dot *dot, const unsigned char *plane, const struct query *q,
                    size_t groups)
{
    return 128.0 * sum_of(dot, plane, q->b.hi, groups) + sum_of(dot, plane, q->b.lo, groups);
}

/* Returns how much of the bound the error takes. */
static double within(struct bound b, double score)
{
    assert_true(score <= b.at + b.off);
    assert_true(score >= b.at - b.off);
    return fabs(score - b.at) / b.off;
}

/* All deterministic bounds; returns the most that an error takes of one. */
static double check_deterministic(const struct row *r, const struct query *q, size_t dim)
{
    const size_t groups = code_groups(dim);
    const double *f = r->factor, score = kern->dot_f32(q->u, r->x, dim);
    const double hi = sum_of(qkern->dot_six, r->planes.six, q->b.hi, groups);
    const double six = whole(qkern->dot_six, r->planes.six, q, groups);
    const double low = sum_of(qkern->dot_low, r->planes.low, q->b.hi, groups);
    const double sum8 = bound_join(&q->b, hi, low);
    double most;

    most = within(bound_six_hi(&q->b, hi, f[CODE_SCALE], f[CODE_REST6], f[CODE_LENGTH6]), score);
    most = fmax(most, within(bound_six(&q->b, six, f[CODE_SCALE], f[CODE_REST6],
                                       f[CODE_LENGTH6]), score));
    most = fmax(most, within(bound_eight_hi(&q->b, sum8, f[CODE_SCALE], f[CODE_REST8],
                                            f[CODE_LENGTH8]), score));
    return fmax(most, within(bound_eight(&q->b, sum8, six - 128.0 * hi, f[CODE_SCALE],
                                         f[CODE_REST6], f[CODE_REST8], f[CODE_LENGTH8]), score));
}

/* What is random about a pair: Z of the one bit times the root of its sphere's dimensions; and what
 * the tosses left, in units of S |p|. */
struct luck {
    double z, toss;
};

/* The same, and of the bounds that may fail what they rest on. */
static struct luck check_pair(const struct row *r, const struct query *q, size_t dim)
{
    const double *f = r->factor, score = kern->dot_f32(q->u, r->x, dim);
    const double bits = whole(qkern->dot_bits, r->planes.bits, q, code_groups(dim));
    const double one = sum_of(qkern->dot_bits, r->planes.bits, q->b.one, code_groups(dim));
    const double n = (double)code_padded(dim) - 1.0, reach = sqrt(n + 1.0);
    const double at = q->b.step * f[CODE_GAIN1] * (2.0 * bits - q->b.sum); /* of Q */
    struct bound b;

    check_deterministic(r, q, dim);
    b = bound_one(&q->b, one, f[CODE_GAIN1], f[CODE_SPREAD1], 0.0, 0.0, reach, bound_slack1(dim));
    return (struct luck){(score - at) / (f[CODE_SPREAD1] * q->b.length) * sqrt(n),
                         (at - b.at) / (f[CODE_GAIN1] * reach * q->b.step1)};
}

static void deterministic_bounds_hold(void **state)
{
    static const size_t dims[] = {1, 3, 64, 255, 256, 300, 1023, 2048, 5000};
    static const char *const names[] = {"generic", "avx2", "avx512", "avx512vnni", "neon"};

    (void)state;
    test_random_state = 21;
    for (int round = 0; round < 400; round++) {
        const size_t dim = dims[test_random() % (sizeof dims / sizeof *dims)];
        float *scratch = malloc(code_padded(dim) * sizeof *scratch);
        struct query q;

        assert_non_null(scratch);
        kern_init(names[test_random() % 5]);
        q = query_new((enum shape)(test_random() % SHAPES), dim, scratch);
        for (int n = 0; n < 20; n++) {
            struct row r = row_new((enum shape)(test_random() % SHAPES), dim, scratch);

            if (n % 4 == 0) { /* the query itself */
                memcpy(r.x, q.u, dim * sizeof *r.x);
                code_rows(DTYPE_F32, dim, r.x, 0, 0, 1, &r.planes, scratch);
                for (int f = 0; f < CODE_FACTORS; f++)
                    r.factor[f] =
                        (double)code_factor(r.planes.factors, 1, (enum code_factor)f, 0);
            }
            check_pair(&r, &q, dim);
            row_free(&r);
        }
        query_free(&q);
        free(scratch);
    }
}

/* How a vector is drawn after rotation: what ordinary vectors never look like there, and what the
 * bounds must hold for all the same. SPIKE: one coordinate has all steps of a query. HALVES: beside
 * it the others round up to twice what they are, where hi is alone. EVEN: no coordinate is larger
 * than another. EDGES: beyond all levels of a row, on one side. */
enum rotated { ROTATED_SPIKE, ROTATED_HALVES, ROTATED_EVEN, ROTATED_EDGES, ROTATED_SHAPES };

static double rotated_at(enum rotated shape, size_t i, size_t at)
{
    switch (shape) {
    case ROTATED_SPIKE: return i == at ? 1.0 : 0.0;
    case ROTATED_HALVES: return i == at ? 1.0 : 63.6 / QKERN_Q_MAX;
    case ROTATED_EVEN: return test_random() & 1 ? 1.0 : -1.0;
    default: return (double)(i % 7) + 0.49 + 1e-3 * test_plus_minus_one();
    }
}

/* The vector that the rotation makes this of; dim = padded. */
static void draw_rotated(enum rotated shape, size_t dim, float *x)
{
    double *y = malloc(dim * sizeof *y), sum = 0.0;
    const size_t at = (size_t)(test_random() % dim);

    assert_non_null(y);
    for (size_t i = 0; i < dim; i++) {
        y[i] = rotated_at(shape, i, at);
        sum += y[i] * y[i];
    }
    reference_rotate_back(y, dim);
    for (size_t i = 0; i < dim; i++)
        x[i] = (float)(y[i] / sqrt(sum));
    free(y);
}

static void rotated_extremes_hold(void **state)
{
    static const size_t dims[] = {256, 768, 16384, 131072};
    double most = 0.0;

    (void)state;
    kern_init(NULL);
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        const size_t dim = dims[d];
        float *scratch = malloc(dim * sizeof *scratch);

        assert_non_null(scratch);
        test_random_state = dim;
        for (int a = 0; a < ROTATED_SHAPES * ROTATED_SHAPES; a++) {
            struct row r = row_new(NORMAL, dim, scratch);
            struct query q = query_new(NORMAL, dim, scratch);

            draw_rotated((enum rotated)(a / ROTATED_SHAPES), dim, r.x);
            draw_rotated((enum rotated)(a % ROTATED_SHAPES), dim, q.u);
            code_rows(DTYPE_F32, dim, r.x, 0, 0, 1, &r.planes, scratch);
            for (int f = 0; f < CODE_FACTORS; f++)
                r.factor[f] = (double)code_factor(r.planes.factors, 1, (enum code_factor)f, 0);
            assert_true(bound_prepare(&q.b, q.u, dim, scratch));
            most = fmax(most, check_deterministic(&r, &q, dim));
            row_free(&r);
            query_free(&q);
        }
        free(scratch);
    }
    assert_true(most > 0.5); /* of a bound: these come near it, so the check is not idle */
}

/* The least a bound can be: what it says must be near what it must, or it would be of no use. */
static void bounds_are_as_tight_as_stated(void **state)
{
    enum { DIM = 16384 };
    float *scratch = malloc(DIM * sizeof *scratch);
    struct query q;
    struct row r;

    (void)state;
    assert_non_null(scratch);
    test_random_state = 22;
    kern_init(NULL);
    q = query_new(NORMAL, DIM, scratch);
    r = row_new(NORMAL, DIM, scratch);
    assert_true(q.b.rest < 1.2e-4 && q.b.rest_hi < 0.012);
    assert_true(r.factor[CODE_REST6] < 0.036);
    assert_true(r.factor[CODE_REST8] < 0.0105);
    assert_true(fabs(r.factor[CODE_SPREAD1] - 0.7555) < 0.01); /* sqrt(pi/2 - 1) */
    row_free(&r);
    query_free(&q);
    free(scratch);
}

static void some_queries_have_no_bounds(void **state)
{
    static const float values[] = {0.0f, 0x1p-70f, 0x1p70f};
    float u[300], scratch[512];
    int8_t hi[512], lo[512];
    struct bound_query q = {.hi = hi, .lo = lo};

    (void)state;
    for (size_t n = 0; n < sizeof values / sizeof *values; n++) {
        memset(u, 0, sizeof u);
        u[5] = values[n];
        assert_false(bound_prepare(&q, u, 300, scratch));
    }
}

/* P(Z >= t) by Simpson's rule over the density, normalised by its own integral. */
static double tail_integral(size_t n, double t)
{
    enum { STEPS = 20000 };
    const double power = 0.5 * ((double)n - 3.0), width = 12.0 / sqrt((double)n);
    const double end = width < 1.0 ? width : 1.0;
    double all = 0.0, tail = 0.0;

    for (int i = 0; i <= STEPS; i++) {
        const double weight = i == 0 || i == STEPS ? 1.0 : i % 2 ? 4.0 : 2.0;
        const double z = end * i / STEPS, y = t + (end - t) * i / STEPS;

        all += weight * pow(fmax(1.0 - z * z, 0.0), power) * end;
        tail += weight * pow(fmax(1.0 - y * y, 0.0), power) * (end - t);
    }
    return tail / (2.0 * all);
}

static void the_tail_is_bounded(void **state)
{
    static const size_t sizes[] = {5, 15, 255, 511, 4095, 16383, 131071};

    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (double sigma = 1.0; sigma < 8.0; sigma += 0.5) {
            const double t = sigma / sqrt((double)sizes[s]);
            double p, bound;

            if (t >= 0.95)
                continue;
            p = tail_integral(sizes[s], t);
            bound = exp(bound_tail_log(sizes[s], t));
            assert_true(bound >= p);
            assert_true(sigma < 3.0 || bound <= 1.5 * p); /* and no more than it must be */
        }
}

static void the_cut_keeps_delta(void **state)
{
    static const size_t dims[] = {1, 256, 1000, 16384, 65536, 131072};
    static const double counts[] = {1.0, 20000.0, 4e8}, deltas[] = {0.5, 1e-3, 1e-9, 1e-15};

    (void)state;
    for (size_t d = 0; d < 6; d++)
        for (size_t c = 0; c < 3; c++)
            for (size_t e = 0; e < 4; e++) {
                const size_t n = code_padded(dims[d]) - 1;
                const double t = bound_cut(dims[d], counts[c], deltas[e]);

                assert_true(t > 0.0 && t <= 1.0);
                assert_true(log(counts[c]) + bound_tail_log(n, t) <= log(deltas[e]));
                assert_true(log(counts[c]) + bound_tail_log(n, t * (1.0 - 1e-5)) >
                            log(deltas[e]) - 1e-2);
            }
}

/* Q1 is R u / S rounded to one of its neighbours, whatever the shape. */
static void one_is_a_neighbour(void **state)
{
    static const size_t dims[] = {1, 300, 16384, 131072};

    (void)state;
    kern_init(NULL);
    for (size_t d = 0; d < 4; d++)
        for (int shape = 0; shape < SHAPES; shape++) {
            const size_t padded = code_padded(dims[d]);
            float *scratch = malloc(padded * sizeof *scratch);
            struct query q;
            double sum = 0.0;

            assert_non_null(scratch);
            q = query_new((enum shape)shape, dims[d], scratch);
            assert_true(bound_prepare(&q.b, q.u, dims[d], scratch)); /* leaves R u */
            for (size_t i = 0; i < padded; i++) {
                const double left = (double)scratch[i] / q.b.step1 - (double)q.b.one[i];

                assert_true(fabs(left) < 1.0 + 0x1p-15);
                sum += (double)q.b.one[i];
            }
            assert_true(sum == q.b.sum1); /* integers */
            query_free(&q);
            free(scratch);
        }
}

static void the_toss_keeps_delta(void **state)
{
    static const double counts[] = {1.0, 20000.0, 4e8}, deltas[] = {0.5, 1e-3, 1e-9, 1e-15};

    (void)state;
    for (size_t c = 0; c < 3; c++)
        for (size_t e = 0; e < 4; e++) {
            const double x = bound_toss(16384, counts[c], deltas[e]);

            assert_true(log(counts[c]) - 2.0 * x * x <= log(deltas[e]));
            assert_true(x * x < 0.51 * (log(counts[c]) - log(deltas[e])) + 0.01);
        }
}

struct spread {
    double square, most;
    size_t pairs, beyond3, beyond4;
};

static void spread_add(struct spread *s, double z)
{
    s->square += z * z;
    s->most = fabs(z) > s->most ? fabs(z) : s->most;
    s->pairs++;
    s->beyond3 += fabs(z) > 3.0;
    s->beyond4 += fabs(z) > 4.0;
}

/* Z sqrt(n) of uniformly random directions is close to normal: spread 1, beyond 3 in 0.27 %,
 * beyond 4 in 0.0063 %. Of some shapes there are few directions (all constant rows are one), so
 * that pairs are not independent: what one pair of shapes may do is wider than what all together
 * may. */
static void z_is_as_assumed(void **state)
{
    enum { ROWS = 40, QUERIES = 40 };
    static const size_t dims[] = {1024, 1500, 4096};
    struct spread all = {0}, tosses = {0};

    (void)state;
    kern_init(NULL);
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (int a = 0; a < SHAPES; a++)
            for (int b = 0; b < SHAPES; b++) {
                const size_t dim = dims[d];
                float *scratch = malloc(code_padded(dim) * sizeof *scratch);
                struct spread s = {0};
                struct query q[QUERIES];

                assert_non_null(scratch);
                test_random_state = 31 + dim + (uint64_t)(a * SHAPES + b);
                for (int n = 0; n < QUERIES; n++)
                    q[n] = query_new((enum shape)b, dim, scratch);
                for (int m = 0; m < ROWS; m++) {
                    struct row r = row_new((enum shape)a, dim, scratch);

                    for (int n = 0; n < QUERIES; n++) {
                        const struct luck luck = check_pair(&r, &q[n], dim);

                        spread_add(&s, luck.z);
                        spread_add(&all, luck.z);
                        spread_add(&tosses, 2.0 * luck.toss); /* of variance 1 at most */
                    }
                    row_free(&r);
                }
                for (int n = 0; n < QUERIES; n++)
                    query_free(&q[n]);
                free(scratch);
                if (getenv("ASCRIBE_TEST_PRINT"))
                    printf("%6zu rows %-9s queries %-9s spread %.3f most %.2f beyond 3: %zu/%zu\n",
                           dim, shape_names[a], shape_names[b], sqrt(s.square / (double)s.pairs),
                           s.most, s.beyond3, s.pairs);
                assert_true(sqrt(s.square / (double)s.pairs) < 2.5);
                assert_true(s.most < 6.0);
            }
    if (getenv("ASCRIBE_TEST_PRINT"))
        printf("all: spread %.4f most %.2f beyond 3: %zu, beyond 4: %zu of %zu\n",
               sqrt(all.square / (double)all.pairs), all.most, all.beyond3, all.beyond4, all.pairs);
    if (getenv("ASCRIBE_TEST_PRINT"))
        printf("tosses, doubled: spread %.4f most %.2f beyond 3: %zu, beyond 4: %zu of %zu\n",
               sqrt(tosses.square / (double)tosses.pairs), tosses.most, tosses.beyond3,
               tosses.beyond4, tosses.pairs);
    assert_true(sqrt(tosses.square / (double)tosses.pairs) < 1.0);
    assert_true((double)tosses.beyond3 < 0.0045 * (double)tosses.pairs);
    assert_true(tosses.most < 6.0);
    assert_true(sqrt(all.square / (double)all.pairs) < 1.05);
    assert_true((double)all.beyond3 < 0.0045 * (double)all.pairs);
    assert_true((double)all.beyond4 < 0.0004 * (double)all.pairs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deterministic_bounds_hold),
        cmocka_unit_test(rotated_extremes_hold),
        cmocka_unit_test(bounds_are_as_tight_as_stated),
        cmocka_unit_test(some_queries_have_no_bounds),
        cmocka_unit_test(the_tail_is_bounded),
        cmocka_unit_test(the_cut_keeps_delta),
        cmocka_unit_test(one_is_a_neighbour),
        cmocka_unit_test(the_toss_keeps_delta),
        cmocka_unit_test(z_is_as_assumed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
