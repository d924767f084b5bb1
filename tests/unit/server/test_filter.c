/* test_filter.c - the language of filters: what holds, what does not, and where a mistake is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/filter.h"
#include "server/limits.h"
#include "storage/base/bytes.h"

static const char meta[] =
    "{\"source\":\"wiki\",\"year\":1987,\"score\":-2.5,\"open\":true,\"gone\":null,"
    "\"tags\":[\"a\",\"b\",7,null],\"empty\":[],\"deep\":{\"er\":{\"x\":1}},\"a b\":\"quoted\","
    "\"\\u00e9t\\u00e9\":\"\\u00fc\",\"big\":9007199254740993,\"nul\":\"a\\u0000b\",\"and\":1,"
    "\"text\":\"\",\"2020\":3,\"x-y\":4}";

static const struct filter_row row = {.id = "n0123/x",
                                      .id_len = 7,
                                      .sequence = 42,
                                      .norm = 0.5,
                                      .meta = meta,
                                      .meta_len = sizeof meta - 1};

/* 1 or 0, or the error's code negated. */
static int holds(const char *text, size_t len, const struct filter_row *r, struct err *e)
{
    struct arena a = {0};
    const struct filter *f = NULL;
    bool yes = false;
    int code;

    *e = ERR_INIT;
    code = filter_parse(text, len, &a, &f, e);
    assert_int_equal(code, e->code);
    if (!code)
        code = filter_match(f, r, &yes, e);
    else
        assert_null(f);
    arena_free(&a);
    return code ? -code : yes;
}

static const struct {
    const char *text;
    int want;
} judged[] = {
    /* fields */
    {"id = \"n0123/x\"", 1},
    {"id = \"n0123\"", 0},
    {"id != \"n0123\"", 1},
    {"id ^= \"n0\"", 1},
    {"id ^= \"\"", 1},
    {"id ^= \"n0123/xy\"", 0},
    {"id < \"n1\"", 1},
    {"id >= \"n0123/x\"", 1},
    {"id > \"n0123/x\"", 0},
    {"id in [\"a\",\"n0123/x\"]", 1},
    {"id in []", 0},
    {"id not in []", 1},
    {"id not in [\"n0123/x\"]", 0},
    {"sequence = 42", 1},
    {"sequence < 42", 0},
    {"sequence in [1, 2, 42]", 1},
    {"norm <= 0.5", 1},
    {"norm > 5e-1", 0},
    {"norm = 0.50", 1},
    /* meta: types and order */
    {"meta.source = \"wiki\"", 1},
    {"meta.source ^= \"wi\"", 1},
    {"meta.source < \"wikj\"", 1},
    {"meta.source < \"wik\"", 0},
    {"meta.source > \"wik\"", 1},
    {"meta.source = 1", 0},
    {"meta.source != 1", 1},
    {"meta.source < 1", 0},
    {"meta.year = 1987", 1},
    {"meta.year = 1987.0", 1},
    {"meta.year = \"1987\"", 0},
    {"meta.year < 1990", 1},
    {"meta.year <= 1987", 1},
    {"meta.year > 1987", 0},
    {"meta.year >= 1987", 1},
    {"meta.year != 1987", 0},
    {"meta.year ^= \"19\"", 0},
    {"meta.score < -2", 1},
    {"meta.score = -2.5e0", 1},
    {"meta.open = true", 1},
    {"meta.open = false", 0},
    {"meta.open != false", 1},
    {"meta.gone = null", 1},
    {"meta.gone != null", 0},
    {"meta.text = \"\"", 1},
    {"meta.big = 9007199254740992", 1},
    {"meta.nul = \"a\\u0000b\"", 1},
    {"meta.nul = \"a\"", 0},
    {"meta.nul ^= \"a\\u0000\"", 1},
    /* what is not there */
    {"meta.missing = 1", 0},
    {"meta.missing != 1", 1},
    {"meta.missing = null", 0},
    {"meta.missing < 1", 0},
    {"meta.missing in [1, null]", 0},
    {"meta.missing not in [1]", 1},
    {"has meta", 1},
    {"has meta.gone", 1},
    {"has meta.missing", 0},
    {"not has meta.missing", 1},
    /* paths */
    {"meta.deep.er.x = 1", 1},
    {"meta.deep.er = 1", 0},
    {"has meta.deep.er", 1},
    {"has meta.deep.er.x.y", 0},
    {"meta.source.x = 1", 0},
    {"meta.\"a b\" = \"quoted\"", 1},
    {"meta.\"deep\".\"er\".x = 1", 1},
    {"meta.\xc3\xa9t\xc3\xa9 = \"\xc3\xbc\"", 1},
    {"meta.\"\\u00e9t\\u00e9\" = \"\\u00fc\"", 1},
    {"meta.and = 1", 1},
    {"meta.2020 = 3", 1},
    {"meta.x-y = 4", 1},
    {"meta.\"\" = 4", 0},
    /* arrays: any element */
    {"meta.tags = \"a\"", 1},
    {"meta.tags = 7", 1},
    {"meta.tags = \"c\"", 0},
    {"meta.tags != \"a\"", 0},
    {"meta.tags != \"c\"", 1},
    {"meta.tags > 6", 1},
    {"meta.tags in [\"z\", \"b\"]", 1},
    {"meta.tags not in [\"z\", \"b\"]", 0},
    {"meta.tags = null", 1},
    {"meta.empty = null", 0},
    {"has meta.empty", 1},
    /* lists */
    {"meta.year in [1, 2, 1987, 3, 1987]", 1},
    {"meta.year in [\"1987\", true, null, 3]", 0},
    {"meta.open in [false, true]", 1},
    {"meta.gone in [null]", 1},
    {"meta.deep in [null, 1, \"\"]", 0},
    /* connectives: not before and before or */
    {"id = \"x\" or sequence = 42", 1},
    {"id = \"x\" and sequence = 42", 0},
    {"sequence = 42 or id = \"x\" and id = \"y\"", 1},
    {"(sequence = 42 or id = \"x\") and id = \"y\"", 0},
    {"not id = \"x\" and sequence = 42", 1},
    {"not (id = \"x\" or sequence = 42)", 0},
    {"not not sequence = 42", 1},
    {"not not not sequence = 42", 0},
    {"not sequence = 42 or sequence = 42", 1},
    {"((((sequence = 42))))", 1},
    {"meta.source = \"wiki\" and not (id ^= \"n1\" or meta.year < 1980)", 1},
    {"meta.source = \"wiki\" and not (id ^= \"n0\" or meta.year < 1980)", 0},
    /* spaces */
    {"  sequence=42  ", 1},
    {"sequence\t=\r\n42", 1},
    {"id in[\"a\",\"n0123/x\"]or sequence=1", 1},
    {"not(sequence=42)", 0},
};

static void test_judgements(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof judged / sizeof judged[0]; i++) {
        struct err e;
        int got = holds(judged[i].text, strlen(judged[i].text), &row, &e);

        if (got != judged[i].want)
            fail_msg("%s: %d, not %d (%s)", judged[i].text, got, judged[i].want, e.text);
    }
}

static const struct {
    const char *text;
    int64_t index;
} mistakes[] = {
    {"", 0},
    {"   ", 3},
    {"id", 2},
    {"id =", 4},
    {"id = n0", 5},
    {"id = 'n0'", 5},
    {"id == \"x\"", 4},
    {"id = 7", 5},
    {"id in \"x\"", 6},
    {"id in [\"a\"", 10},
    {"id in [\"a\",]", 11},
    {"id in [,]", 7},
    {"id in [7]", 7},
    {"id not \"x\"", 7},
    {"id = \"x", 7},
    {"id = \"x\\\"", 9},
    {"id = \"\\q\"", 5},
    {"id = \"\\ud800\"", 5},
    {"id = \"a\nb\"", 5},
    {"id = \"x\" id = \"y\"", 9},
    {"id = \"x\" and", 12},
    {"id = \"x\" or or", 12},
    {"and id = \"x\"", 0},
    {"not", 3},
    {"(id = \"x\"", 9},
    {"id = \"x\")", 8},
    {"()", 1},
    {"ID = \"x\"", 0},
    {"ids = \"x\"", 0},
    {"text = \"x\"", 0},
    {"meta = 1", 4},
    {"meta. = 1", 5},
    {"meta.a. = 1", 7},
    {"meta .a = 1", 4},
    {"meta.a b = 1", 7},
    {"meta.a", 6},
    {"has id", 4},
    {"has", 3},
    {"has meta.a = 1", 11},
    {"meta.a < true", 9},
    {"meta.a >= null", 10},
    {"meta.a ^= 1", 10},
    {"meta.a = 01", 9},
    {"meta.a = 1.", 9},
    {"meta.a = 1e999", 9},
    {"meta.a = +1", 9},
    {"meta.a = -", 9},
    {"meta.a = NaN", 9},
    {"meta.a = [1]", 9},
    {"meta.a = {}", 9},
    {"meta.a = True", 9},
    {"meta.a =~ \"x\"", 8},
    {"meta.a <> 1", 8},
    {"sequence = \"42\"", 11},
    {"norm = null", 7},
    {"norm ^= 1", 8},
    {"1 = 1", 0},
    {"\"x\" = id", 0},
    {"id = \"x\"; drop", 8},
    {"id = \"\xff\"", 6},
    {"meta.\xc3 = 1", 5},
};

static void test_mistakes_name_the_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        struct err e;
        int got = holds(mistakes[i].text, strlen(mistakes[i].text), &row, &e);

        if (got != -ERR_BAD_FILTER || e.index != mistakes[i].index)
            fail_msg("%s: %d at %lld, not at %lld (%s)", mistakes[i].text, got, (long long)e.index,
                     (long long)mistakes[i].index, e.text);
        assert_string_equal(e.field, "filter");
    }
    assert_true(sizeof judged / sizeof judged[0] + sizeof mistakes / sizeof mistakes[0] > 150);
}

static void repeat(struct buf *b, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_add_text(b, text);
}

/* `fixed` of what is counted stand in head and tail; with as many `each` as the limit leaves it
 * holds; with one more it is refused. */
static void check_limit(const char *head, const char *each, const char *middle, const char *after,
                        const char *tail, size_t limit, size_t fixed)
{
    for (size_t more = 0; more < 2; more++) {
        struct buf b = {0};
        struct err e;
        int got;

        buf_add_text(&b, head);
        repeat(&b, each, limit - fixed + more);
        buf_add_text(&b, middle);
        repeat(&b, after, limit - fixed + more);
        buf_add_text(&b, tail);
        got = holds((char *)b.data, b.len, &row, &e);
        if (got != (more ? -ERR_TOO_LARGE : 1))
            fail_msg("%s... x %zu: %d (%s)", each, limit + more, got, e.text);
        if (more)
            assert_int_equal(e.limit, limit);
        buf_free(&b);
    }
}

static void test_limits(void **state)
{
    (void)state;
    check_limit("", "(", "sequence = 42", ")", "", LIMIT_FILTER_DEPTH, 0);
    check_limit("", "not(", "sequence = 42", ")", "", LIMIT_FILTER_DEPTH, 0);
    check_limit("id = \"x\"", " or id = \"y\"", "", "", " or sequence = 42",
                LIMIT_FILTER_TESTS, 2);
    check_limit("sequence in [42", ",1", "]", "", "", LIMIT_FILTER_VALUES, 1);
    check_limit("meta", ".a", " != 1", "", "", LIMIT_JSON_DEPTH, 0);
}

static void test_length(void **state)
{
    struct buf b = {0};
    struct err e;

    (void)state;
    repeat(&b, " ", LIMIT_FILTER_BYTES);
    assert_int_equal(holds((char *)b.data, b.len, &row, &e), -ERR_BAD_FILTER);
    buf_add(&b, " ", 1);
    assert_int_equal(holds((char *)b.data, b.len, &row, &e), -ERR_TOO_LARGE);
    b.len = 0;
    repeat(&b, "not ", 100000); /* no recursion: as long as one likes */
    buf_add_text(&b, "sequence = 42");
    assert_int_equal(holds((char *)b.data, b.len, &row, &e), 1);
    buf_free(&b);
    assert_int_equal(holds("id = \"a\0b\"", 10, &row, &e), -ERR_BAD_FILTER);
    assert_int_equal(e.index, 7);
}

/* Any cut of a good filter, and any one byte changed, either parses or names a byte inside. */
static void test_broken_text_is_safe(void **state)
{
    static const char good[] =
        "meta.\"a b\" in [1, -2.5e3, \"x\\u00e9\", null] and not (id ^= \"n0\" or has meta.y.z)";
    static const char noise[] = "\"\\.()[],=<>!^ \x80\x01" "0aeE-";
    size_t len = sizeof good - 1;

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        struct err e;
        int got = holds(good, cut, &row, &e);

        assert_true(got == 0 || got == 1 || (e.index >= 0 && (size_t)e.index <= cut));
    }
    for (size_t i = 0; i < len; i++)
        for (size_t n = 0; n < sizeof noise; n++) {
            char text[sizeof good];
            struct err e;
            int got;

            memcpy(text, good, sizeof good);
            text[i] = noise[n];
            got = holds(text, len, &row, &e);
            assert_true(got == 0 || got == 1 || (e.index >= 0 && (size_t)e.index <= len));
        }
}

static void test_rows_without_meta(void **state)
{
    struct filter_row bare = {.id = "", .id_len = 0};
    struct err e;

    (void)state;
    assert_int_equal(holds("has meta", 8, &bare, &e), 0);
    assert_int_equal(holds("meta.a != 1", 11, &bare, &e), 1);
    assert_int_equal(holds("meta.a = null", 13, &bare, &e), 0);
    bare.meta = "{\"a\":";
    bare.meta_len = 5;
    assert_int_equal(holds("meta.a != 1", 11, &bare, &e), -ERR_CORRUPT);
    assert_int_equal(holds("id = \"\"", 7, &bare, &e), 1); /* nobody looked */
}

static void test_paths_alone(void **state)
{
    static const struct {
        const char *text;
        int64_t index; /* -1: right */
    } cases[] = {{"meta.a", -1},   {"meta.a.b", -1}, {"meta.\"a b\".c", -1}, {"meta", 4}, {"", 0},
                 {"id", 0},        {"meta.", 5},     {"meta.a ", 6},         {"meta.a = 1", 6},
                 {"meta.a,meta.b", 6}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena a = {0};
        struct filter_path path;
        struct err e = ERR_INIT;
        int code = filter_parse_path(cases[i].text, strlen(cases[i].text), "group", &a, &path, &e);

        assert_int_equal(code, cases[i].index < 0 ? 0 : ERR_BAD_FILTER);
        assert_int_equal(e.index, cases[i].index);
        if (code)
            assert_string_equal(e.field, "group");
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judgements),
        cmocka_unit_test(test_mistakes_name_the_byte),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_broken_text_is_safe),
        cmocka_unit_test(test_rows_without_meta),
        cmocka_unit_test(test_paths_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
