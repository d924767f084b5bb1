/* test_score.c - targets and candidates read in a tree against each read alone, in order; rank and
 * greedy against counting; and what a file of pairs may not hold. */
#include "tests/unit/lm/fixture.h"

#include <math.h>

#include "client/lm/generate.h"
#include "client/lm/net.h"
#include "client/lm/pack.h"
#include "client/lm/score.h"
#include "storage/base/bytes.h"

static int read_text(struct pairs *ps, const char *text, enum pairs_kind kind, struct err *e)
{
    char *folder = fixture_folder(), *path = fixture_path(folder, "pairs.jsonl");
    int rc;

    fixture_write(path, text, strlen(text));
    rc = pairs_read(ps, path, kind, e);
    free(path);
    fixture_remove(folder);
    return rc;
}

static struct pairs read_pairs(const char *text)
{
    struct err e = ERR_INIT;
    struct pairs ps;

    if (read_text(&ps, text, PAIRS_CANDIDATES, &e))
        fail_msg("%s", e.text);
    return ps;
}

/* One text after the prompt, alone, by the float64 network. */
static double plain_log_probability(const struct model *m, const char *prompt, const char *text)
{
    const size_t n = shape_params(&m->shape);
    double *params = mem_new(n, sizeof *params), loss;
    uint32_t tokens[256];
    size_t given = tok_encode(&m->tok, prompt, strlen(prompt), tokens);
    size_t count = given + tok_encode(&m->tok, text, strlen(text), tokens + given);
    struct net64_state st;
    struct err e = ERR_INIT;
    struct pack p;

    for (size_t i = 0; i < n; i++)
        params[i] = (double)m->params[i];
    pack_init(&p, m->shape.context);
    pack_add(&p, tokens, count, given, false);
    assert_int_equal(net64_init(&st, &m->shape, p.rows, &e), 0);
    net64_forward(&st, params, &p);
    loss = net64_loss(&st, params, &p, 1);
    net64_fini(&st);
    pack_fini(&p);
    free(params);
    return -loss;
}

static const char many[] =
    "{\"id\":\"1\",\"prompt\":\"Arda: a port in\",\"target\":\" Pell.\",\"candidates\":[\" Pell\","
    "\" Pell.\",\" Ostria.\",\" Quend.\",\" Pell. Arda\",\"x\",\" Norland\",\" Rhovan: \"]}\n"
    "{\"id\":\"2\",\"prompt\":\"\",\"target\":\"Zqj\",\"candidates\":[\"Arda\",\"Belm\",\"Z\",\"\\u00e9\"]}\n"
    "{\"id\":\"3\",\"prompt\":\"Elst:\",\"target\":\" a river of\",\"candidates\":[]}\n"
    "{\"id\":\"4\",\"prompt\":\"Corin: the\",\"target\":\" capital of Pell\"}\n";

static void test_a_tree_reads_like_one_after_the_other(void **state)
{
    struct model m = fixture_model(MODEL_ADAM);
    struct pairs ps = read_pairs(many);
    struct err e = ERR_INIT;
    struct scores s;

    (void)state;
    assert_int_equal(ps.count, 4);
    if (score_run(&s, &m, &ps, 2, NULL, NULL, &e))
        fail_msg("%s", e.text);
    for (size_t i = 0; i < ps.count; i++) {
        const struct pair *p = &ps.list[i];
        const double want = plain_log_probability(&m, p->prompt.bytes, p->target.bytes);
        uint32_t better = 0;
        assert_true(fabs(s.list[i].target - want) < 2e-5 * fabs(want));
        for (size_t k = 0; k < p->count; k++) {
            const double c = plain_log_probability(&m, p->prompt.bytes, p->items[k].text.bytes);
            assert_true(fabs(s.list[i].candidates[k] - c) < 2e-5 * fabs(c));
            better += c > want && strcmp(p->items[k].text.bytes, p->target.bytes) != 0;
        }
        assert_int_equal(s.list[i].rank, 1 + better);
    }
    /* a text and a longer one that begins with it: the longer is less likely */
    assert_true(s.list[0].candidates[0] > s.list[0].candidates[1]);
    assert_true(s.list[0].candidates[1] == s.list[0].target);
    assert_true(s.list[0].candidates[4] < s.list[0].candidates[1]);
    score_free(&s);
    pairs_free(&ps);
    model_free(&m);
}

/* A model that has learnt to write the corpus's words. */
static struct model fluent_model(void)
{
    struct train_options o = fixture_options();
    struct passages ps = fixture_passages(200);
    struct err e = ERR_INIT;
    struct model m;

    o.steps = 60;
    if (train_run(&m, &ps, &o, NULL, NULL, &e))
        fail_msg("%s", e.text);
    passages_free(&ps);
    return m;
}

/* Greedy says what generate would. */
static void test_greedy_is_what_the_model_says(void **state)
{
    static const char *const prompt[] = {"Arda: a port in", "Belm:", "", "Farrow: the"};
    struct model m = fluent_model();
    struct buf said = {0}, lines = {0};
    struct err e = ERR_INIT;
    struct pairs ps;
    struct scores s;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        const struct generate_options o = {.tokens = 6};
        uint32_t tokens[256];
        size_t len;
        said.len = 0;
        assert_int_equal(generate_text(&m, prompt[i], strlen(prompt[i]), &o, &said, &e), 0);
        /* made of the same tokens when it is read again: so it is for these */
        assert_true(said.len > 0);
        len = tok_encode(&m.tok, (const char *)said.data, said.len, tokens);
        assert_true(len > 0 && len <= 6);
        buf_add(&said, "", 1);
        buf_format(&lines,
                   "{\"id\":\"a\",\"prompt\":\"%s\",\"target\":\"%s\"}\n"
                   "{\"id\":\"b\",\"prompt\":\"%s\",\"target\":\"%sQ\"}\n",
                   prompt[i], (const char *)said.data, prompt[i], (const char *)said.data);
    }
    buf_add(&lines, "", 1);
    ps = read_pairs((const char *)lines.data);
    assert_int_equal(score_run(&s, &m, &ps, 1, NULL, NULL, &e), 0);
    for (size_t i = 0; i < ps.count; i++) {
        assert_int_equal(s.list[i].greedy, i % 2 == 0);
        assert_int_equal(s.list[i].rank, 1);
    }
    score_free(&s);
    pairs_free(&ps);
    buf_free(&said);
    buf_free(&lines);
    model_free(&m);
}

/* More candidates than a tree holds, and any number of threads: the same numbers. */
static void test_many_trees(void **state)
{
    struct model m = fixture_model(MODEL_ADAM);
    struct buf line = {0};
    struct err e = ERR_INIT;
    struct scores one, more;
    struct pairs ps;

    (void)state;
    buf_add_text(&line, "{\"id\":\"1\",\"prompt\":\"Arda: a port in\",\"target\":\" Pell\",\"candidates\":[");
    for (unsigned i = 0; i < 600; i++)
        buf_format(&line, "%s\" %u%u Pell\"", i ? "," : "", i * 7919 % 601, i % 13);
    buf_add_text(&line, "]}\n");
    for (unsigned i = 0; i < 4; i++)
        buf_add_text(&line, "{\"id\":\"2\",\"prompt\":\"Belm\",\"target\":\":\"}\n");
    buf_add(&line, "", 1);
    ps = read_pairs((const char *)line.data);
    assert_int_equal(score_run(&one, &m, &ps, 1, NULL, NULL, &e), 0);
    assert_int_equal(score_run(&more, &m, &ps, 3, NULL, NULL, &e), 0);
    assert_memory_equal(one.all, more.all, ps.items * sizeof *one.all);
    for (size_t i = 0; i < ps.count; i++)
        assert_true(one.list[i].target == more.list[i].target);
    for (size_t k = 0; k < 600; k += 37) {
        const double want = plain_log_probability(&m, "Arda: a port in",
                                                  ps.list[0].items[k].text.bytes);
        assert_true(fabs(one.list[0].candidates[k] - want) < 2e-5 * fabs(want));
    }
    assert_int_equal(one.list[0].rank, 1);
    score_free(&one);
    score_free(&more);
    pairs_free(&ps);
    buf_free(&line);
    model_free(&m);
}

static void test_too_long_for_the_model(void **state)
{
    static const char text[] =
        "{\"id\":\"1\",\"prompt\":\"Arda\",\"target\":\":\"}\n"
        "{\"id\":\"2\",\"prompt\":\"Arda: a port in Pell. Arda: a port in Pell.\",\"target\":\" A\","
        "\"candidates\":[\" B\",\" Arda: a port in Pell. Arda: a port in Pell. Q9 Q9 Q9 Q9 Q9\"]}\n";
    struct model m = fixture_model(MODEL_ADAM);
    struct err e = ERR_INIT;
    struct pairs ps = read_pairs(text);
    struct scores s;

    (void)state;
    assert_int_equal(score_run(&s, &m, &ps, 1, NULL, NULL, &e), ERR_TOO_LARGE);
    assert_non_null(strstr(e.text, "line 2: candidates[1]: with the prompt it has"));
    assert_int_equal(e.index, 2);
    assert_int_equal(e.limit, m.shape.context);
    pairs_free(&ps);
    model_free(&m);
}

static void test_lines_that_are_refused(void **state)
{
    static const struct {
        enum pairs_kind kind;
        const char *line;
        enum err_code code;
        const char *said;
    } bad[] = {
        {PAIRS_PASSAGES, "", ERR_INVALID, "no lines"},
        {PAIRS_PASSAGES, "[]", ERR_BAD_JSON, "not a JSON object"},
        {PAIRS_PASSAGES, "{\"id\":\"a\"", ERR_BAD_JSON, "line 1: "},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":NaN,\"passages\":[]}", ERR_BAD_JSON, "line 1: "},
        {PAIRS_PASSAGES, "{\"id\":\"\\u0000\",\"prompt\":\"p\",\"target\":\"t\",\"passages\":[]}", ERR_BAD_JSON, "line 1"},
        {PAIRS_PASSAGES, "{\"id\":\"a\xFF\",\"prompt\":\"p\",\"target\":\"t\"}", ERR_BAD_UTF8, "line 1: "},
        {PAIRS_PASSAGES, "{\"id\":3,\"prompt\":\"p\",\"target\":\"t\",\"passages\":[]}", ERR_BAD_JSON, "\"id\" must be"},
        {PAIRS_PASSAGES, "{\"id\":\"\",\"prompt\":\"p\",\"target\":\"t\",\"passages\":[]}", ERR_BAD_JSON, "\"id\" is empty"},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"target\":\"t\",\"passages\":[]}", ERR_BAD_JSON, "\"prompt\" must be"},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"\",\"passages\":[]}", ERR_BAD_JSON, "\"target\" is empty"},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\"}", ERR_BAD_JSON, "\"passages\" must be"},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\",\"passages\":[]}", ERR_BAD_JSON, "at least 1"},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\",\"passages\":{}}", ERR_BAD_JSON, "an array"},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\",\"passages\":[\"x\"]}", ERR_BAD_JSON, "passages[0]: not an object"},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\",\"passages\":[{\"id\":\"a\",\"text\":\"\"}]}", ERR_BAD_JSON, "passages[0]: \"text\" is empty"},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\",\"passages\":[{\"id\":\"a\",\"text\":\"x\",\"meta\":1}]}", ERR_BAD_JSON, "unknown member \"meta\""},
        {PAIRS_PASSAGES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\",\"candidates\":[\"x\"]}", ERR_BAD_JSON, "unknown member \"candidates\""},
        {PAIRS_CANDIDATES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\",\"passages\":[]}", ERR_BAD_JSON, "unknown member \"passages\""},
        {PAIRS_CANDIDATES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\",\"candidates\":[\"x\",3]}", ERR_BAD_JSON, "candidates[1]: "},
        {PAIRS_CANDIDATES, "{\"id\":\"a\",\"prompt\":\"p\",\"target\":\"t\",\"candidates\":[\"\"]}", ERR_BAD_JSON, "candidates[0]: "},
    };
    char id[300] = {0}, line[512];
    struct err e = ERR_INIT;
    struct pairs ps;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err_clear(&e);
        if (read_text(&ps, bad[i].line, bad[i].kind, &e) != (int)bad[i].code ||
            !strstr(e.text, bad[i].said))
            fail_msg("%s: %s", bad[i].line, e.text);
        assert_null(ps.list);
    }
    memset(id, 'i', PAIRS_ID_MAX + 1);
    snprintf(line, sizeof line, "\n{\"id\":\"%s\",\"prompt\":\"p\",\"target\":\"t\"}\n", id);
    assert_int_equal(read_text(&ps, line, PAIRS_CANDIDATES, &e), ERR_BAD_ID);
    assert_int_equal(e.index, 2);
    assert_int_equal(pairs_read(&ps, "/nonexistent/pairs", PAIRS_PASSAGES, &e), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tree_reads_like_one_after_the_other),
        cmocka_unit_test(test_greedy_is_what_the_model_says),
        cmocka_unit_test(test_many_trees),
        cmocka_unit_test(test_too_long_for_the_model),
        cmocka_unit_test(test_lines_that_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
