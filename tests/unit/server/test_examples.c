/* test_examples.c - JSON Lines of a batch: what is refused and where, and what comes out as it
 * went in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "server/examples.h"
#include "server/limits.h"

static int read_lines(const char *text, size_t len, size_t rows, struct arena *a,
                      struct commit_example **out, struct err *e)
{
    char *exact = test_malloc(len + 1); /* no byte to spare but cmocka's guard */
    int code;

    memcpy(exact, text, len);
    *e = ERR_INIT;
    code = examples_read(exact, len, rows, NULL, a, out, e);
    assert_int_equal(code, e->code);
    test_free(exact); /* nothing that came out may point into it */
    return code;
}

static const struct {
    const char *text;
    size_t rows;
    enum err_code code;
    const char *field;
    int64_t index, limit;
} bad[] = {
    {"", 1, ERR_INVALID, "examples", 0, -1},
    {"{\"id\":\"a\"}", 2, ERR_INVALID, "examples", 1, -1},
    {"{\"id\":\"a\"}\n", 2, ERR_INVALID, "examples", 1, -1},
    {"{\"id\":\"a\"}\n{\"id\":\"b\"}", 1, ERR_INVALID, "examples", 1, -1},
    {"{\"id\":\"a\"}\n\n", 1, ERR_INVALID, "examples", 1, -1},
    {"{\"id\":\"a\"}\n\n", 2, ERR_BAD_JSON, "examples", 1, -1},
    {"{\"id\":\"a\"}\n \t\r\n", 2, ERR_BAD_JSON, "examples", 1, -1},
    {"\n{\"id\":\"a\"}", 2, ERR_BAD_JSON, "examples", 0, -1},
    {"[]", 1, ERR_BAD_JSON, "examples", 0, -1},
    {"7", 1, ERR_BAD_JSON, "examples", 0, -1},
    {"{\"id\":\"a\"} {\"id\":\"b\"}", 1, ERR_BAD_JSON, "examples", 0, -1},
    {"{\"id\":\"a\",\"id\":\"b\"}", 1, ERR_BAD_JSON, "examples", 0, -1},
    {"{\"id\":\"\xff\"}", 1, ERR_BAD_UTF8, "examples", 0, -1},
    {"{\"id\":\"a\"}\n{\"id\":\"b\",\"text\":\"\xc3\"}", 2, ERR_BAD_UTF8, "examples", 1, -1},
    {"{\"text\":\"a\"}", 1, ERR_INVALID, "examples", 0, -1},
    {"{\"id\":1}", 1, ERR_INVALID, "examples", 0, -1},
    {"{\"id\":\"a\",\"text\":1}", 1, ERR_INVALID, "examples", 0, -1},
    {"{\"id\":\"a\",\"meta\":[]}", 1, ERR_INVALID, "examples", 0, -1},
    {"{\"id\":\"a\",\"meta\":\"x\"}", 1, ERR_INVALID, "examples", 0, -1},
    {"{\"id\":\"a\",\"txet\":\"x\"}", 1, ERR_INVALID, "txet", 0, -1},
    {"{\"id\":\"\"}", 1, ERR_BAD_ID, "examples", 0, -1},
    {"{\"id\":\"a\\u0000\"}", 1, ERR_BAD_ID, "examples", 0, -1},
    {"{\"id\":\"a\\n\"}", 1, ERR_BAD_ID, "examples", 0, -1},
    {"{\"id\":\"\\u007f\"}", 1, ERR_BAD_ID, "examples", 0, -1},
    {"{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"\\u0061\"}", 3, ERR_DUPLICATE_ID, "examples", 2, -1},
};

static void test_refused_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct commit_example *out = NULL;
        struct arena a = {0};
        struct err e;

        read_lines(bad[i].text, strlen(bad[i].text), bad[i].rows, &a, &out, &e);
        if (e.code != bad[i].code || strcmp(e.field, bad[i].field) || e.index != bad[i].index ||
            e.limit != bad[i].limit)
            fail_msg("row %zu: %s gives %s, field %s, index %ld, limit %ld: %s", i, bad[i].text,
                     err_word(e.code), e.field, (long)e.index, (long)e.limit, e.text);
        assert_null(out);
        arena_free(&a);
    }
}

static void test_both_lines_of_a_duplicate_are_named(void **state)
{
    static const char text[] =
        "{\"id\":\"x\"}\n{\"id\":\"twice\"}\n{\"id\":\"y\"}\n{\"id\":\"twice\"}\n";
    struct commit_example *out = NULL;
    struct arena a = {0};
    struct err e;

    (void)state;
    assert_int_equal(read_lines(text, sizeof text - 1, 4, &a, &out, &e), ERR_DUPLICATE_ID);
    assert_non_null(strstr(e.text, "line 1"));
    assert_non_null(strstr(e.text, "line 3"));
    assert_non_null(strstr(e.text, "twice"));
    arena_free(&a);
}

static void check_text(const char *got, size_t got_len, const char *want, size_t want_len)
{
    assert_non_null(got);
    assert_int_equal(got_len, want_len);
    assert_memory_equal(got, want, want_len);
}

static void test_what_goes_in_comes_out(void **state)
{
    static const char text[] =
        "{\"id\":\"a\"}\n"
        "  { \"meta\" : { \"n\" : 12345678901234567890123 , \"f\":1.50, \"s\":\"} \\\" {\" } , "
        "\"id\" : \"\\u00e9/\\\\\" , \"text\":\"line\\nnul\\u0000\\ud83d\\ude00\"}\r\n"
        "{\"id\":\"c\",\"text\":\"\",\"meta\":{}}\n"
        "{\"id\":\"d\",\"text\":null,\"meta\":null}";
    struct commit_example *x = NULL;
    struct arena a = {0};
    struct err e;

    (void)state;
    assert_int_equal(read_lines(text, sizeof text - 1, 4, &a, &x, &e), 0);
    check_text(x[0].id, x[0].id_len, "a", 1);
    assert_null(x[0].text);
    assert_null(x[0].meta);
    check_text(x[1].id, x[1].id_len, "é/\\", 4);
    check_text(x[1].text, x[1].text_len, "line\nnul\0\xf0\x9f\x98\x80", 13);
    check_text(x[1].meta, x[1].meta_len,
               "{\"n\":12345678901234567890123,\"f\":1.50,\"s\":\"} \\\" {\"}", 51);
    check_text(x[2].text, x[2].text_len, "", 0);
    check_text(x[2].meta, x[2].meta_len, "{}", 2);
    assert_null(x[3].text);
    assert_null(x[3].meta);
    arena_free(&a);
}

/* One line whose id, text or meta has `len` bytes. */
static int read_sized(const char *before, char fill, size_t len, const char *after, struct err *e)
{
    struct commit_example *out;
    struct arena a = {0};
    struct buf b = {0};
    int code;

    buf_add_text(&b, before);
    for (size_t i = 0; i < len; i++)
        buf_add(&b, &fill, 1);
    buf_add_text(&b, after);
    code = read_lines((const char *)b.data, b.len, 1, &a, &out, e);
    buf_free(&b);
    arena_free(&a);
    return code;
}

static void test_limits_are_inclusive(void **state)
{
    static const char *const text = "{\"id\":\"a\",\"text\":\"";
    static const char *const meta = "{\"id\":\"a\",\"meta\":{\"m\":\"";
    struct err e;

    (void)state;
    assert_int_equal(read_sized("{\"id\":\"", 'x', 256, "\"}", &e), 0);
    assert_int_equal(read_sized("{\"id\":\"", 'x', 257, "\"}", &e), ERR_BAD_ID);
    assert_int_equal(e.limit, LIMIT_ID_BYTES);
    assert_int_equal(read_sized(text, 'x', LIMIT_TEXT_BYTES, "\"}", &e), 0);
    assert_int_equal(read_sized(text, 'x', LIMIT_TEXT_BYTES + 1, "\"}", &e), ERR_TOO_LARGE);
    assert_int_equal(e.limit, LIMIT_TEXT_BYTES);
    assert_int_equal(read_sized(meta, 'x', LIMIT_META_BYTES - 8, "\"}}", &e), 0);
    assert_int_equal(read_sized(meta, 'x', LIMIT_META_BYTES - 7, "\"}}", &e), ERR_TOO_LARGE);
    assert_int_equal(e.limit, LIMIT_META_BYTES);
    assert_int_equal(e.index, 0);
}

static void test_the_largest_batch_of_ids(void **state)
{
    struct commit_example *x = NULL;
    struct arena a = {0};
    struct buf b = {0};
    struct err e;

    (void)state;
    for (unsigned i = 0; i < LIMIT_BATCH_ROWS; i++)
        buf_format(&b, "{\"id\":\"%u\"}\n", i);
    assert_int_equal(read_lines((const char *)b.data, b.len, LIMIT_BATCH_ROWS, &a, &x, &e), 0);
    check_text(x[65535].id, x[65535].id_len, "65535", 5);
    arena_free(&a);
    b.len -= strlen("{\"id\":\"65535\"}\n");
    buf_add_text(&b, "{\"id\":\"777\"}\n");
    assert_int_equal(read_lines((const char *)b.data, b.len, LIMIT_BATCH_ROWS, &a, &x, &e),
                     ERR_DUPLICATE_ID);
    assert_int_equal(e.index, 65535);
    assert_non_null(strstr(e.text, "line 777"));
    arena_free(&a);
    buf_free(&b);
}

static bool always(void *arg)
{
    (void)arg;
    return true;
}

static void test_stops_when_asked(void **state)
{
    struct stop stop = {.asked = always};
    struct commit_example *out;
    struct arena a = {0};
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(examples_read("{\"id\":\"a\"}", 10, 1, &stop, &a, &out, &e), ERR_CANCELLED);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_lines),
        cmocka_unit_test(test_both_lines_of_a_duplicate_are_named),
        cmocka_unit_test(test_what_goes_in_comes_out),
        cmocka_unit_test(test_limits_are_inclusive),
        cmocka_unit_test(test_the_largest_batch_of_ids),
        cmocka_unit_test(test_stops_when_asked),
    };

    return cmocka_run_group_tests_name("examples", tests, NULL, NULL);
}
