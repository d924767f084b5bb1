/* test_json.c - bounds before parsing, canonical form, numbers that read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/json.h"
#include "server/limits.h"

static int read_code(const char *text, size_t len, enum json_mode mode, struct err *e)
{
    json_t *value = NULL;
    int code;

    *e = ERR_INIT;
    code = json_read(text, len, mode, &value, e);
    assert_int_equal(code, e->code);
    if (code)
        assert_null(value);
    else
        json_decref(value);
    return code;
}

static const struct {
    const char *text;
    enum err_code code;
    int64_t index; /* -2: whatever it is */
} malformed[] = {
    {"", ERR_BAD_JSON, -2},
    {"{", ERR_BAD_JSON, -2},
    {"[1,]", ERR_BAD_JSON, -2},
    {"{\"a\":1,\"a\":2}", ERR_BAD_JSON, -2},
    {"[1] x", ERR_BAD_JSON, -2},
    {"7", ERR_BAD_JSON, -2},
    {"\"x\"", ERR_BAD_JSON, -2},
    {"[01]", ERR_BAD_JSON, -2},
    {"[NaN]", ERR_BAD_JSON, -2},
    {"[1e400]", ERR_BAD_JSON, -2},
    {"[99999999999999999999]", ERR_BAD_JSON, -2},
    {"[\"\\ud800\"]", ERR_BAD_JSON, -2},
    {"[\"a\\u0000b\"]", ERR_BAD_JSON, -2},
    {"[\"\x01\"]", ERR_BAD_JSON, -2},
    {"[\"ab\xff\"]", ERR_BAD_UTF8, 4},
    {"[\"\xed\xa0\x80\"]", ERR_BAD_UTF8, 2},
    {"[\"\xc0\xaf\"]", ERR_BAD_UTF8, 2},
};

static void test_malformed_text_is_refused_by_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct err e;

        assert_int_equal(read_code(malformed[i].text, strlen(malformed[i].text), JSON_CONTROL, &e),
                         malformed[i].code);
        if (malformed[i].index != -2)
            assert_int_equal(e.index, malformed[i].index);
        assert_true(e.index >= 0);
        assert_null(strchr(e.text, '\n'));
    }
}

static void test_data_takes_what_people_keep(void **state)
{
    static const char *const fine[] = {"[99999999999999999999]", "[\"a\\u0000b\"]", "{\"\":{}}"};
    struct err e;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(read_code(fine[i], strlen(fine[i]), JSON_DATA, &e), 0);
    assert_int_equal(read_code("{\"a\":{\"b\":1,\"b\":2}}", 19, JSON_DATA, &e), ERR_BAD_JSON);
}

/* `depth` arrays in each other; a quoted bracket counts for nothing. */
static char *nested(size_t depth)
{
    char *text = test_malloc(2 * depth + 8);

    memset(text, '[', depth);
    memcpy(text + depth, "\"[[\\\"[\"", 7);
    memset(text + depth + 7, ']', depth);
    text[2 * depth + 7] = '\0';
    return text;
}

static void test_depth_is_bounded_before_parsing(void **state)
{
    char *fine = nested(LIMIT_JSON_DEPTH), *deep = nested(LIMIT_JSON_DEPTH + 1);
    struct err e;

    (void)state;
    assert_int_equal(read_code(fine, strlen(fine), JSON_CONTROL, &e), 0);
    assert_int_equal(read_code(deep, strlen(deep), JSON_CONTROL, &e), ERR_BAD_JSON);
    assert_int_equal(e.limit, LIMIT_JSON_DEPTH);
    assert_int_equal(e.index, LIMIT_JSON_DEPTH);
    test_free(fine);
    test_free(deep);
}

static void test_values_and_bytes_are_bounded(void **state)
{
    size_t len = LIMIT_JSON_BODY + 1;
    char *text = test_malloc(len);
    struct err e;

    (void)state;
    memset(text, ' ', len);
    text[0] = '[';
    text[len - 1] = ']';
    assert_int_equal(read_code(text, len, JSON_CONTROL, &e), ERR_TOO_LARGE);
    assert_int_equal(e.limit, LIMIT_JSON_BODY);
    text[len - 2] = ']';
    assert_int_equal(read_code(text, len - 1, JSON_CONTROL, &e), 0);
    for (size_t i = 1; i + 1 < 2 * (size_t)LIMIT_JSON_VALUES + 3; i += 2) {
        text[i] = '1';
        text[i + 1] = ',';
    }
    assert_int_equal(read_code(text, len - 1, JSON_CONTROL, &e), ERR_TOO_LARGE);
    assert_int_equal(e.limit, LIMIT_JSON_VALUES);
    test_free(text);
}

static void check_reads_back(double v, void (*put)(struct buf *b, double v))
{
    struct buf b = {0};
    double back;
    char *end;

    put(&b, v);
    buf_add(&b, "", 1);
    back = strtod((const char *)b.data, &end);
    assert_int_equal(*end, 0);
    assert_memory_equal(&back, &v, sizeof v);
    assert_non_null(strpbrk((const char *)b.data, ".e"));
    buf_free(&b);
}

static void test_reals_read_back_bit_for_bit(void **state)
{
    static const double fixed[] = {0.0,     -0.0, 1.0, -1.0, 0.1,
                                   1.0 / 3, 5e-324, 1.7976931348623157e308, 1e22,
                                   123456789.0, -2.2250738585072014e-308};
    uint64_t x = 88172645463325252u;

    (void)state;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        check_reads_back(fixed[i], json_put_real);
        check_reads_back(fixed[i], json_put_short);
    }
    for (int i = 0; i < 20000; i++) {
        double v;

        x ^= x << 13; /* xorshift: any bits will do */
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(&v, &x, sizeof v);
        if (!isfinite(v))
            continue;
        check_reads_back(v, json_put_real);
        check_reads_back(v, json_put_short);
    }
}

static void check_canonical(const char *text, const char *want)
{
    struct err e = ERR_INIT;
    struct buf b = {0};
    json_t *value = NULL;

    assert_int_equal(json_read(text, strlen(text), JSON_CONTROL, &value, &e), 0);
    json_put_canonical(&b, value);
    buf_add(&b, "", 1);
    assert_string_equal((const char *)b.data, want);
    buf_free(&b);
    json_decref(value);
}

static void test_canonical_form(void **state)
{
    (void)state;
    check_canonical(" { \"b\" : [ 1 , 2.5, true,null ] , \"a\":{} } ",
                    "{\"a\":{},\"b\":[1,2.5,true,null]}");
    check_canonical("{\"é\":1,\"z\":2,\"Z\":3,\"\":4}", "{\"\":4,\"Z\":3,\"z\":2,\"é\":1}");
    check_canonical("[1e-8,0.1,1E2,-0.0,1.0]", "[1e-08,0.1,100.0,-0.0,1.0]");
    check_canonical("[\"\\u00e9\\n\\u0001\\/\\\"\\\\\"]", "[\"é\\n\\u0001/\\\"\\\\\"]");
    check_canonical("[[],{},[{}]]", "[[],{},[{}]]");
}

static void test_squeeze_keeps_tokens_as_written(void **state)
{
    static const char text[] = "{ \"a b\" :\t[ 1.50 , \"\\\" x\" , 1e+05 ]\r\n}";
    char out[sizeof text];
    size_t n = json_squeeze(text, sizeof text - 1, out);

    (void)state;
    out[n] = '\0';
    assert_string_equal(out, "{\"a b\":[1.50,\"\\\" x\",1e+05]}");
}

static void test_members_are_checked_by_name(void **state)
{
    static const char text[] = "{\"k\":3,\"on\":true,\"s\":\"abc\",\"f\":1.0,\"n\":-1}";
    static const char *const all[] = {"k", "on", "s", "f", "n", NULL}, *const some[] = {"k", NULL};
    struct err e = ERR_INIT;
    json_t *o = NULL;
    uint64_t k = 9, same = 9;
    const char *s = NULL;
    bool on = false;

    (void)state;
    assert_int_equal(json_read_object(text, sizeof text - 1, JSON_CONTROL, &o, &e), 0);
    assert_int_equal(json_only(o, all, &e), 0);
    assert_int_equal(json_only(o, some, &e), ERR_INVALID);
    assert_string_equal(e.field, "on");
    assert_int_equal(json_get_number(o, "k", 0, 3, &k, &e), 0);
    assert_int_equal(k, 3);
    assert_int_equal(json_get_number(o, "absent", 0, 3, &same, &e), 0);
    assert_int_equal(same, 9);
    assert_int_equal(json_get_number(o, "k", 0, 2, &k, &e), ERR_INVALID);
    assert_int_equal(e.limit, 2);
    assert_int_equal(json_get_number(o, "n", 0, 2, &k, &e), ERR_INVALID);
    assert_int_equal(json_get_number(o, "f", 0, 2, &k, &e), ERR_INVALID);
    assert_string_equal(e.field, "f");
    assert_int_equal(json_get_bool(o, "on", &on, &e), 0);
    assert_true(on);
    assert_int_equal(json_get_bool(o, "k", &on, &e), ERR_INVALID);
    assert_int_equal(json_get_text(o, "s", 3, &s, &e), 0);
    assert_string_equal(s, "abc");
    assert_int_equal(json_get_text(o, "s", 2, &s, &e), ERR_TOO_LARGE);
    assert_int_equal(e.limit, 2);
    json_decref(o);
    assert_int_equal(json_read_object("[1]", 3, JSON_CONTROL, &o, &e), ERR_BAD_JSON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_text_is_refused_by_place),
        cmocka_unit_test(test_data_takes_what_people_keep),
        cmocka_unit_test(test_depth_is_bounded_before_parsing),
        cmocka_unit_test(test_values_and_bytes_are_bounded),
        cmocka_unit_test(test_reals_read_back_bit_for_bit),
        cmocka_unit_test(test_canonical_form),
        cmocka_unit_test(test_squeeze_keeps_tokens_as_written),
        cmocka_unit_test(test_members_are_checked_by_name),
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
