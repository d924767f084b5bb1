/* test_net.c - the network's mathematics: every tensor's analytic gradient against central
 * differences in float64, float32 on BLAS against that, and that a passage does not see what is
 * packed beside it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/lm/net.h"
#include "client/lm/rng.h"
#include "index/philox.h"
#include "storage/base/mem.h"

static const struct shape small = {
    .vocab = 272, .context = 7, .layers = 2, .width = 32, .heads = 2};

/* Three passages; the second is longer than the context (two windows), the third is asked for its
 * last tokens only. */
static void make_pack(struct pack *p, const struct shape *s, unsigned only)
{
    static const struct {
        size_t count, given;
        bool ending;
    } passage[] = {{5, 0, true}, {11, 0, false}, {6, 4, false}};

    pack_init(p, s->context);
    for (unsigned i = 0; i < 3; i++) {
        uint32_t tokens[16];
        struct rng rng;
        rng_init(&rng, 3, RNG_SAMPLE, i);
        for (size_t t = 0; t < 16; t++)
            tokens[t] = rng_below(&rng, s->vocab);
        if (only == 3 || only == i)
            pack_add(p, tokens, passage[i].count, passage[i].given, passage[i].ending);
    }
    assert_false(p->failed);
}

/* Larger than a model starts with, so that no term of the gradient is lost in the others. */
static double *make_params(const struct shape *s)
{
    struct shape_tensor tensors[SHAPE_TENSORS_MAX];
    double *params = mem_new(shape_params(s), sizeof *params);
    size_t count = shape_tensors(s, tensors);

    for (size_t t = 0; t < count; t++) {
        const size_t n = (size_t)tensors[t].rows * tensors[t].cols;
        double *w = params + tensors[t].offset;
        philox_normals(11, (uint32_t)t, PHILOX_LEFT, 0, n, w);
        for (size_t i = 0; i < n; i++)
            w[i] = tensors[t].deviation > 0 ? 0.3 * w[i] : 1 + 0.2 * w[i];
    }
    return params;
}

static void test_the_table_has_every_parameter_once(void **state)
{
    struct shape_tensor t[SHAPE_TENSORS_MAX];
    const size_t count = shape_tensors(&small, t);
    size_t at = 0, blocks = 0;

    (void)state;
    assert_int_equal(count, shape_last_norm(&small) + 1);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(t[i].offset, at);
        at += (size_t)t[i].rows * t[i].cols;
        blocks += t[i].block;
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(t[i].name, t[j].name);
    }
    assert_int_equal(at, shape_params(&small));
    assert_int_equal(blocks, small.layers * SHAPE_MATRICES);
    assert_string_equal(t[shape_at(1, SHAPE_MLP_IN)].name, "h1.mlp.in");
}

static void test_shapes_out_of_range(void **state)
{
    static const struct {
        struct shape shape;
        const char *field;
    } bad[] = {
        {{0, 64, 2, 32, 2}, "vocab"},      {{300, 64, 2, 32, 2}, "vocab"},
        {{272, 1, 2, 32, 2}, "context"},   {{272, 1u << 20, 2, 32, 2}, "context"},
        {{272, 64, 0, 32, 2}, "layers"},   {{272, 64, 65, 32, 2}, "layers"},
        {{272, 64, 2, 40, 2}, "width"},    {{272, 64, 2, UINT32_MAX, 2}, "width"},
        {{272, 64, 2, 32, 0}, "heads"},    {{272, 64, 2, 32, 3}, "heads"},
        {{65536, 64, 64, 4096, 2}, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err e = ERR_INIT;
        assert_int_not_equal(shape_check(&bad[i].shape, &e), 0);
        assert_string_equal(e.field, bad[i].field);
    }
}

static double loss64(struct net64_state *st, const double *params, const struct pack *p,
                     double scale)
{
    net64_forward(st, params, p);
    return net64_loss(st, params, p, scale);
}

/* (L(w + h) - L(w - h)) / 2h at up to 40 places of each tensor, spread over it. */
static void test_gradients_against_central_differences(void **state)
{
    const double h = 1e-5, scale = 0.7;
    const size_t n = shape_params(&small);
    double *params = make_params(&small), *grads = mem_new(n, sizeof *grads);
    struct net64_state st;
    struct err e = ERR_INIT;
    struct pack p;
    size_t tensors, checked = 0, nonzero = 0;

    (void)state;
    make_pack(&p, &small, 3);
    assert_int_equal(net64_init(&st, &small, p.rows, &e), 0);
    loss64(&st, params, &p, scale);
    net64_backward(&st, params, &p, grads, NULL);
    tensors = shape_last_norm(&small) + 1;
    for (size_t t = 0; t < tensors; t++) {
        const struct shape_tensor *x = &st.tensor[t];
        const size_t size = (size_t)x->rows * x->cols, step = size / 40 + 1;
        for (size_t i = t % step; i < size; i += step) {
            const size_t at = x->offset + i;
            const double kept = params[at], got = grads[at];
            double up, down, want;
            params[at] = kept + h;
            up = scale * loss64(&st, params, &p, scale);
            params[at] = kept - h;
            down = scale * loss64(&st, params, &p, scale);
            params[at] = kept;
            want = (up - down) / (2 * h);
            if (fabs(got - want) > 1e-7 * (1 + fabs(want)))
                fail_msg("%s[%zu]: gradient %.12g, central difference %.12g", x->name, i, got,
                         want);
            checked++;
            nonzero += fabs(want) > 1e-6;
        }
    }
    assert_true(checked > 40 * small.layers * SHAPE_MATRICES);
    assert_true(nonzero > checked / 2);
    net64_fini(&st);
    pack_fini(&p);
    free(params);
    free(grads);
}

/* Largest |a - b| over largest |b|, over one tensor. */
static double relative(const float *a, const double *b, size_t n)
{
    double worst = 0, largest = 1e-300;

    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - b[i]);
        worst = d > worst ? d : worst;
        largest = fabs(b[i]) > largest ? fabs(b[i]) : largest;
    }
    return worst / largest;
}

static void compare_precisions(bool plain)
{
    const struct shape s = {.vocab = 512, .context = 7, .layers = 3, .width = 64, .heads = 4};
    const size_t n = shape_params(&s), tensors = shape_last_norm(&s) + 1;
    double *params = make_params(&s), *grads = mem_new(n, sizeof *grads), want, got;
    float *narrow = mem_new(n, sizeof *narrow), *got_grads = mem_new(n, sizeof *got_grads);
    struct net64_state wide;
    struct net32_state st;
    struct err e = ERR_INIT;
    struct pack p;

    make_pack(&p, &s, 3);
    for (size_t i = 0; i < n; i++) {
        narrow[i] = (float)(0.2 * params[i]);
        params[i] = (double)narrow[i];
    }
    assert_int_equal(net64_init(&wide, &s, p.rows, &e), 0);
    assert_int_equal(net32_init(&st, &s, p.rows, &e), 0);
    st.plain = plain;
    want = loss64(&wide, params, &p, 1);
    net64_backward(&wide, params, &p, grads, NULL);
    net32_forward(&st, narrow, &p);
    got = net32_loss(&st, narrow, &p, 1);
    net32_backward(&st, narrow, &p, got_grads, NULL);
    assert_true(fabs(got - want) < 1e-5 * want);
    for (size_t t = 0; t < tensors; t++) {
        const struct shape_tensor *x = &wide.tensor[t];
        const double r = relative(got_grads + x->offset, grads + x->offset,
                                  (size_t)x->rows * x->cols);
        if (!(r < 2e-5))
            fail_msg("%s: float32 differs by %g of the largest element", x->name, r);
    }
    net64_fini(&wide);
    net32_fini(&st);
    pack_fini(&p);
    free(params);
    free(grads);
    free(narrow);
    free(got_grads);
}

static void test_blas_against_float64(void **state)
{
    (void)state;
    compare_precisions(false);
}

static void test_plain_loops_against_float64(void **state)
{
    (void)state;
    compare_precisions(true);
}

/* In float64 by loops each row's sums are the same sums: bit for bit. */
static void test_neighbours_change_nothing(void **state)
{
    double *params = make_params(&small);
    struct net64_state st, one;
    struct err e = ERR_INIT;
    struct pack all, alone;

    (void)state;
    make_pack(&all, &small, 3);
    assert_int_equal(net64_init(&st, &small, all.rows, &e), 0);
    loss64(&st, params, &all, 1);
    for (unsigned i = 0; i < 3; i++) {
        const size_t first = all.group[i], rows = all.group[i + 1] - first;
        make_pack(&alone, &small, i);
        assert_int_equal(alone.rows, rows);
        assert_int_equal(net64_init(&one, &small, rows, &e), 0);
        loss64(&one, params, &alone, 1);
        assert_memory_equal(one.logits, st.logits + first * small.vocab,
                            rows * small.vocab * sizeof *one.logits);
        net64_fini(&one);
        pack_fini(&alone);
    }
    net64_fini(&st);
    pack_fini(&all);
    free(params);
}

/* A token changes nothing before it, and nothing in another window. */
static void test_attention_is_causal(void **state)
{
    const size_t d = small.width;
    double *params = make_params(&small), *before;
    struct net64_state st;
    struct err e = ERR_INIT;
    struct pack p;

    (void)state;
    make_pack(&p, &small, 3);
    assert_int_equal(net64_init(&st, &small, p.rows, &e), 0);
    before = mem_new(p.rows * d, sizeof *before);
    for (uint32_t changed = 0; changed < p.rows; changed++) {
        const uint32_t kept = p.token[changed];
        uint32_t window = 0;
        while (p.window[window + 1] <= changed)
            window++;
        net64_forward(&st, params, &p);
        memcpy(before, st.norm, p.rows * d * sizeof *before);
        p.token[changed] = (kept + 1) % small.vocab;
        net64_forward(&st, params, &p);
        p.token[changed] = kept;
        for (uint32_t r = 0; r < p.rows; r++) {
            const bool reached = r >= changed && r < p.window[window + 1];
            const bool same = memcmp(before + r * d, st.norm + r * d, d * sizeof *before) == 0;
            assert_int_equal(same, !reached);
        }
    }
    net64_fini(&st);
    pack_fini(&p);
    free(params);
    free(before);
}

/* What is only read has no loss and its own targets no gradient: changing them changes nothing. */
static void test_given_tokens_have_no_loss(void **state)
{
    const size_t n = shape_params(&small);
    double *params = make_params(&small), *a = mem_new(n, sizeof *a), *b = mem_new(n, sizeof *b);
    struct net64_state st;
    struct err e = ERR_INIT;
    struct pack p;
    double first, second;

    (void)state;
    make_pack(&p, &small, 2);
    assert_int_equal((int)pack_weight(&p), 2);
    assert_int_equal(net64_init(&st, &small, p.rows, &e), 0);
    first = loss64(&st, params, &p, 1);
    net64_backward(&st, params, &p, a, NULL);
    for (uint32_t r = 0; r < 4; r++)
        p.target[r] = (p.target[r] + 5) % small.vocab;
    second = loss64(&st, params, &p, 1);
    net64_backward(&st, params, &p, b, NULL);
    assert_true(first == second);
    assert_memory_equal(a, b, n * sizeof *a);
    net64_fini(&st);
    pack_fini(&p);
    free(params);
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_has_every_parameter_once),
        cmocka_unit_test(test_shapes_out_of_range),
        cmocka_unit_test(test_gradients_against_central_differences),
        cmocka_unit_test(test_blas_against_float64),
        cmocka_unit_test(test_plain_loops_against_float64),
        cmocka_unit_test(test_neighbours_change_nothing),
        cmocka_unit_test(test_attention_is_causal),
        cmocka_unit_test(test_given_tokens_have_no_loss),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
