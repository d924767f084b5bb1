/* test_tail_patch.c - one training step on a passage against the same step written out in float64,
 * for each optimiser; that nothing is left behind; that a number depends on its own question and
 * passage only. */
#include "tests/unit/lm/fixture.h"

#include <math.h>

#include "client/lm/adafactor.h"
#include "client/lm/net.h"
#include "client/lm/pack.h"
#include "client/lm/tail_patch.h"
#include "storage/base/bytes.h"

static const char passage[] = "Arda: a port in Pell. Corin: a river of Ostria. Elst: a hill near Quend.";
static const char prompt[] = "Arda: a port in", target[] = " Pell.";

/* Tokens of a text, and the float64 network's mean loss over them with the mark at the end, or,
 * with given > 0, its summed loss over those after the first `given`. */
static double plain_loss(const struct model *m, const double *params, const uint32_t *tokens,
                         size_t count, size_t given, double *grads)
{
    struct net64_state st;
    struct err e = ERR_INIT;
    struct pack p;
    double loss;

    pack_init(&p, m->shape.context);
    pack_add(&p, tokens, count, given, given == 0);
    assert_int_equal(net64_init(&st, &m->shape, p.rows, &e), 0);
    net64_forward(&st, params, &p);
    loss = net64_loss(&st, params, &p, given ? 1 : 1.0 / p.rows);
    if (grads)
        net64_backward(&st, params, &p, grads, NULL);
    net64_fini(&st);
    pack_fini(&p);
    return loss;
}

/* One tensor: grads become updates, before the rate. */
static void plain_adam(const struct model *m, const struct shape_tensor *t, double *g)
{
    const double step = (double)m->steps + 1;

    for (size_t i = 0; i < (size_t)t->rows * t->cols; i++) {
        const double corrected = (double)m->second[t->offset + i];
        const double mean = 0.99 * corrected * (1 - pow(0.99, step - 1)) + 0.01 * g[i] * g[i];
        g[i] /= sqrt(mean / (1 - pow(0.99, step))) + 1e-8;
    }
}

/* The same by Adafactor's two algorithms, with its limit on the update's size. */
static void plain_adafactor(const struct model *m, const struct shape_tensor *t,
                            const float *state, double *g)
{
    const double beta = 1 - pow((double)m->steps + 1, -0.8);
    const size_t rows = t->rows, cols = t->cols, n = rows * cols;
    double *row = mem_new(rows, sizeof *row), *col = mem_new(cols, sizeof *col), mean = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        row[i / cols] += (g[i] * g[i] + 1e-30) / (double)cols;
        col[i % cols] += (g[i] * g[i] + 1e-30) / (double)rows;
    }
    for (size_t r = 0; r < rows; r++) {
        row[r] = beta * (double)state[r] + (1 - beta) * row[r];
        mean += row[r] / (double)rows;
    }
    for (size_t c = 0; c < cols; c++)
        col[c] = beta * (double)state[rows > 1 ? rows + c : c] + (1 - beta) * col[c];
    for (size_t i = 0; i < n; i++) {
        g[i] /= sqrt(rows > 1 ? row[i / cols] * col[i % cols] / mean : col[i % cols]);
        size += g[i] * g[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        g[i] /= sqrt(size) > 1 ? sqrt(size) : 1;
    free(row);
    free(col);
}

/* What patch_step must come to, in float64; returns the parameters. */
static double *plain_step(const struct model *m, const struct patch_options *o,
                          const uint32_t *tokens, size_t count)
{
    const size_t n = shape_params(&m->shape);
    double *params = mem_new(n, sizeof *params), *g = mem_new(n, sizeof *g), norm = 0;
    struct shape_tensor t[SHAPE_TENSORS_MAX];
    size_t place[SHAPE_TENSORS_MAX], tensors = shape_tensors(&m->shape, t);

    adafactor_places(t, tensors, place);
    for (size_t i = 0; i < n; i++)
        params[i] = (double)m->params[i];
    plain_loss(m, params, tokens, count, 0, g);
    for (size_t i = 0; i < n; i++)
        norm += g[i] * g[i];
    for (size_t i = 0; i < n; i++)
        g[i] /= norm > 1 ? sqrt(norm) : 1;
    for (size_t i = 0; i < tensors && !o->plain; i++) {
        if (m->optimizer == MODEL_ADAM)
            plain_adam(m, &t[i], g + t[i].offset);
        else
            plain_adafactor(m, &t[i], m->second + place[i], g + t[i].offset);
    }
    for (size_t i = 0; i < n; i++)
        params[i] -= o->rate * g[i];
    free(g);
    return params;
}

static void step_is_the_plain_one(enum model_optimizer optimizer, bool plain, double rate)
{
    struct model m = fixture_model(optimizer);
    const struct patch_options o = {.rate = rate, .plain = plain};
    const size_t n = shape_params(&m.shape), len = strlen(passage);
    uint32_t tokens[256];
    size_t count = tok_encode(&m.tok, passage, len, tokens), given;
    double *want = plain_step(&m, &o, tokens, count), loss, got, moved = 0;
    struct err e = ERR_INIT;
    struct patch x;

    assert_true(count > m.shape.context); /* two windows */
    assert_int_equal(patch_init(&x, &m, &o, &e), 0);
    assert_int_equal(patch_step(&x, passage, len, &e), 0);
    for (size_t i = 0; i < n; i++) {
        const double off = fabs((double)x.params[i] - want[i]);
        const double step = fabs(want[i] - (double)m.params[i]);
        if (!(off < 2e-3 * step + 1e-6 * rate + 1.2e-7 * (fabs(want[i]) + 1e-3)))
            fail_msg("parameter %zu: %.9g, in float64 %.9g, before %.9g", i, (double)x.params[i],
                     want[i], (double)m.params[i]);
        moved = step > moved ? step : moved;
    }
    assert_true(moved > 0.02 * rate);
    /* and the target is as likely as the float64 network says it is then */
    given = tok_encode(&m.tok, prompt, strlen(prompt), tokens);
    count = given + tok_encode(&m.tok, target, strlen(target), tokens + given);
    loss = plain_loss(&m, want, tokens, count, given, NULL);
    assert_int_equal(patch_target(&x, true, prompt, strlen(prompt), target, strlen(target), &got,
                                  &e), 0);
    assert_true(fabs(got + loss) < 1e-4);
    patch_fini(&x);
    free(want);
    model_free(&m);
}

static void test_a_step_of_adam(void **state)
{
    (void)state;
    step_is_the_plain_one(MODEL_ADAM, false, 1e-2);
}

static void test_a_step_of_adafactor(void **state)
{
    (void)state;
    step_is_the_plain_one(MODEL_ADAFACTOR, false, 1e-2);
}

static void test_a_plain_step(void **state)
{
    (void)state;
    step_is_the_plain_one(MODEL_ADAM, true, 0.5);
}

/* A small step changes the target's log-probability by rate <its loss's gradient, the passage's>: the
 * derivative that influence scores are made of. */
static void test_a_small_step_is_the_derivative(void **state)
{
    struct model m = fixture_model(MODEL_ADAM);
    const struct patch_options o = {.rate = 1e-3, .plain = true};
    const size_t n = shape_params(&m.shape);
    double *params = mem_new(n, sizeof *params), *g = mem_new(n, sizeof *g), *q;
    double before, after, dot = 0, squares = 0;
    uint32_t tokens[256];
    struct err e = ERR_INIT;
    struct patch x;
    size_t given, count;

    (void)state;
    q = mem_new(n, sizeof *q);
    for (size_t i = 0; i < n; i++)
        params[i] = (double)m.params[i];
    count = tok_encode(&m.tok, passage, strlen(passage), tokens);
    plain_loss(&m, params, tokens, count, 0, g);
    given = tok_encode(&m.tok, prompt, strlen(prompt), tokens);
    count = given + tok_encode(&m.tok, target, strlen(target), tokens + given);
    plain_loss(&m, params, tokens, count, given, q);
    for (size_t i = 0; i < n; i++) {
        dot += g[i] * q[i];
        squares += g[i] * g[i];
    }
    assert_int_equal(patch_init(&x, &m, &o, &e), 0);
    assert_int_equal(patch_step(&x, passage, strlen(passage), &e), 0);
    patch_target(&x, false, prompt, strlen(prompt), target, strlen(target), &before, &e);
    patch_target(&x, true, prompt, strlen(prompt), target, strlen(target), &after, &e);
    dot *= o.rate / (squares > 1 ? sqrt(squares) : 1); /* a long gradient is shortened to 1 */
    assert_true(dot > 1e-4);
    assert_true(fabs(after - before - dot) < 0.02 * dot);
    patch_fini(&x);
    free(params);
    free(g);
    free(q);
    model_free(&m);
}

static struct pairs read_pairs(const char *text)
{
    char *folder = fixture_folder(), *path = fixture_path(folder, "pairs.jsonl");
    struct err e = ERR_INIT;
    struct pairs ps;

    fixture_write(path, text, strlen(text));
    if (pairs_read(&ps, path, PAIRS_PASSAGES, &e))
        fail_msg("%s", e.text);
    free(path);
    fixture_remove(folder);
    return ps;
}

static struct tail_patch run(const struct model *m, const struct pairs *ps, double rate,
                             unsigned threads)
{
    const struct patch_options o = {.rate = rate};
    struct err e = ERR_INIT;
    struct tail_patch t;

    if (tail_patch_run(&t, m, ps, &o, threads, NULL, NULL, &e))
        fail_msg("%s", e.text);
    return t;
}

#define A "{\"id\":\"a\",\"text\":\"Arda: a port in Pell.\"}"
#define B "{\"id\":\"b\",\"text\":\"Corin: a river of Ostria.\"}"
#define C "{\"id\":\"c\",\"text\":\"Belm: a hill near Quend. Belm: the capital of Norland.\"}"
#define Q "{\"id\":\"q\",\"prompt\":\"Arda: a port in\",\"target\":\" Pell.\",\"passages\":["
#define R "{\"id\":\"r\",\"prompt\":\"\",\"target\":\"Corin\",\"passages\":["

/* Forwards, backwards, alone or among others, once or twice, by one thread or more: the same bits;
 * and the model is as it was. */
static void test_nothing_else_matters(void **state)
{
    enum { NA, NB, NC };
    static const struct {
        const char *text;
        int passage[8];
        bool second[8]; /* asked by R */
        size_t count;
    } lists[] = {
        {Q A "," B "," C "]}\n" R B "," A "]}\n", {NA, NB, NC, NB, NA}, {0, 0, 0, 1, 1}, 5},
        {R A "]}\n" Q C "," A "," B "," A "]}\n", {NA, NC, NA, NB, NA}, {1, 0, 0, 0, 0}, 5},
        {Q B "]}\n", {NB}, {0}, 1},
        {R B "," C "]}\n\n" R C "]}\n", {NB, NC, NC}, {1, 1, 1}, 3},
    };
    double known[2][3] = {{0}}, before[2] = {0};
    struct model m = fixture_model(MODEL_ADAM);
    const size_t n = shape_params(&m.shape);
    float *params = mem_new(n, sizeof *params), *second = mem_new(n, sizeof *second);

    (void)state;
    memcpy(params, m.params, n * sizeof *params);
    memcpy(second, m.second, n * sizeof *second);
    for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++)
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct pairs ps = read_pairs(lists[l].text);
            struct tail_patch t = run(&m, &ps, 1e-3, threads);
            assert_int_equal(ps.items, lists[l].count);
            for (size_t i = 0; i < lists[l].count; i++) {
                double *k = &known[lists[l].second[i]][lists[l].passage[i]];
                *k = *k == 0 ? t.after[i] : *k;
                assert_true(t.after[i] == *k);
            }
            for (size_t i = 0; i < ps.count; i++) {
                double *b = &before[ps.list[i].id[0] == 'r'];
                *b = *b == 0 ? t.before[i] : *b;
                assert_true(t.before[i] == *b);
            }
            assert_true(t.steps <= 3);
            tail_patch_free(&t);
            pairs_free(&ps);
        }
    /* each passage helps the question that it answers more than the others do */
    assert_true(known[0][NA] > before[0] && known[1][NB] > before[1]);
    assert_true(known[0][NA] > known[0][NB] && known[0][NA] > known[0][NC]);
    assert_memory_equal(params, m.params, n * sizeof *params);
    assert_memory_equal(second, m.second, n * sizeof *second);
    free(params);
    free(second);
    model_free(&m);
}

static void test_refusals(void **state)
{
    const char *long_prompt = "\"Arda: a port in Pell. Arda: a port in Pell. Arda: a port in Pell. "
                              "Arda: a port in Pell. Arda: a port in Pell.\"";
    const struct patch_options o = {.rate = 1e-3}, high = {.rate = 1e60, .plain = true};
    struct model m = fixture_model(MODEL_ADAM);
    struct err e = ERR_INIT;
    struct tail_patch t;
    struct pairs ps;
    struct buf text = {0};

    (void)state;
    buf_format(&text, "%s\n{\"id\":\"long\",\"prompt\":%s,\"target\":\"x\",\"passages\":[%s]}\n",
               Q A "]}", long_prompt, B);
    buf_add(&text, "", 1);
    ps = read_pairs((const char *)text.data);
    assert_int_equal(tail_patch_run(&t, &m, &ps, &o, 2, NULL, NULL, &e), ERR_TOO_LARGE);
    assert_non_null(strstr(e.text, "line 2: prompt and target have"));
    assert_int_equal(e.index, 2);
    pairs_free(&ps);
    text.len = 0;
    buf_add_text(&text, Q A "," "{\"id\":\"huge\",\"text\":\"");
    for (size_t i = 0; i < 5000; i++)
        buf_add_text(&text, "{ ");
    buf_add_text(&text, "\"}]}\n");
    buf_add(&text, "", 1);
    ps = read_pairs((const char *)text.data);
    assert_int_equal(tail_patch_run(&t, &m, &ps, &o, 1, NULL, NULL, &e), ERR_TOO_LARGE);
    assert_non_null(strstr(e.text, "line 1: passage \"huge\": "));
    pairs_free(&ps);
    ps = read_pairs(R C "]}\n\n" Q A "]}\n");
    assert_int_equal(tail_patch_run(&t, &m, &ps, &high, 1, NULL, NULL, &e), ERR_NOT_FINITE);
    assert_non_null(strstr(e.text, "line 3: "));
    assert_non_null(strstr(e.text, "--rate"));
    assert_int_equal(tail_patch_run(&t, &m, &ps, &o, 0, NULL, NULL, &e), ERR_INVALID);
    pairs_free(&ps);
    buf_free(&text);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_step_of_adam),
        cmocka_unit_test(test_a_step_of_adafactor),
        cmocka_unit_test(test_a_plain_step),
        cmocka_unit_test(test_a_small_step_is_the_derivative),
        cmocka_unit_test(test_nothing_else_matters),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
