/* test_safetensors.c - every way a header can lie, and files written here read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "server/limits.h"
#include "server/safetensors.h"

/* Length, header, `data` bytes of data, in memory of exactly that size: one byte too far is seen by
 * the sanitizer. */
static unsigned char *file_of(const char *header, size_t data, size_t *out_len)
{
    size_t len = strlen(header);
    unsigned char *f = test_malloc(8 + len + data + 1);

    bytes_put_le64(f, len);
    memcpy(f + 8, header, len);
    memset(f + 8 + len, 7, data);
    *out_len = 8 + len + data;
    return f;
}

static int read_header(const char *header, size_t data, struct err *e)
{
    struct arena a = {0};
    struct safetensors st = {0};
    size_t len;
    unsigned char *f = file_of(header, data, &len);
    int code;

    *e = ERR_INIT;
    code = safetensors_read(f, len, &a, &st, e);
    assert_int_equal(code, e->code);
    if (code) /* outputs are untouched on failure */
        assert_null(st.tensors);
    arena_free(&a);
    test_free(f);
    return code;
}

#define T(shape, offsets)                                                                          \
    "{\"t\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(a, b)                                                                                  \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" a                                   \
    "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" b "}}"

static const struct {
    const char *header;
    size_t data;
    const char *field; /* "" when none is named */
    int64_t limit;     /* -1 when none */
} bad[] = {
    /* JSON */
    {" {}", 0, "", -1},
    {"[]", 0, "", -1},
    {"\"x\"", 0, "", -1},
    {"{", 0, "", -1},
    {"{}x", 0, "", -1},
    {"{\"t\":1,\"t\":2}", 0, "", -1},
    {"{\"\xff\":1}", 0, "", -1},
    {"{\"t\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", 0, "",
     LIMIT_JSON_DEPTH},
    /* entries */
    {"{\"t\":1}", 0, "t", -1},
    {"{\"t\":null}", 0, "t", -1},
    {"{\"t\":{}}", 0, "t", -1},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "t", -1},
    {"{\"t\":{\"dtype\":\"F128\",\"shape\":[1],\"data_offsets\":[0,16]}}", 16, "t", -1},
    {"{\"t\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "t", -1},
    {"{\"t\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "t", -1},
    {"{\"t\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "t", -1},
    {"{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "t", -1},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "t", -1},
    /* shapes */
    {T("1", "[0,4]"), 4, "t", -1},
    {T("{}", "[0,4]"), 4, "t", -1},
    {T("[1,1,1,1,1]", "[0,4]"), 4, "t", SAFETENSORS_RANK},
    {T("[-1]", "[0,4]"), 4, "t", -1},
    {T("[1.0]", "[0,4]"), 4, "t", -1},
    {T("[\"1\"]", "[0,4]"), 4, "t", -1},
    {T("[9223372036854775808]", "[0,4]"), 4, "", -1},
    {T("[4194305,4194305,211106198978564]", "[0,4]"), 4, "t", -1}, /* wraps to 4 bytes */
    {T("[4611686018427387904]", "[0,0]"), 0, "t", -1},             /* x 4 wraps to 0 */
    {T("[4294967296,4294967296]", "[0,0]"), 0, "t", -1},
    {T("[2]", "[0,4]"), 4, "t", -1},
    {T("[1]", "[0,8]"), 8, "t", -1},
    {T("[0]", "[0,4]"), 4, "t", -1},
    {T("[]", "[0,8]"), 8, "t", -1},
    /* offsets */
    {T("[1]", "[0]"), 4, "t", -1},
    {T("[1]", "[0,4,8]"), 8, "t", -1},
    {T("[1]", "{}"), 4, "t", -1},
    {T("[1]", "[0,4.0]"), 4, "t", -1},
    {T("[1]", "[-4,0]"), 4, "t", -1},
    {T("[1]", "[4,0]"), 4, "t", -1},
    {T("[1]", "[0,5]"), 4, "t", -1},
    {T("[1]", "[4,8]"), 8, "t", -1},
    {T("[1]", "[9223372036854775803,9223372036854775807]"), 4, "t", -1},
    {T("[1]", "[0,18446744073709551615]"), 4, "", -1},
    {TWO("[0,4]", "[5,9]"), 9, "b", -1},
    {TWO("[0,4]", "[3,7]"), 7, "b", -1},
    {TWO("[0,4]", "[0,4]"), 4, "b", -1},
    {TWO("[0,4]", "[4,8]"), 9, "", -1},
    {TWO("[1,5]", "[5,9]"), 9, "a", -1},
    {"{}", 1, "", -1},
    /* metadata */
    {"{\"__metadata__\":[]}", 0, "__metadata__", -1},
    {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__", -1},
    {"{\"__metadata__\":{\"fingerprint\":null}}", 0, "__metadata__", -1},
};

static void test_malformed_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err e;

        if (read_header(bad[i].header, bad[i].data, &e) != ERR_BAD_TENSOR)
            fail_msg("row %zu: %s gives %s: %s", i, bad[i].header, err_word(e.code), e.text);
        if (strcmp(e.field, bad[i].field) || e.limit != bad[i].limit)
            fail_msg("row %zu: %s names %s, limit %ld: %s", i, bad[i].header, e.field,
                     (long)e.limit, e.text);
    }
}

static void check_lengths(const unsigned char *f, size_t len, int64_t limit)
{
    struct arena a = {0};
    struct safetensors st;
    struct err e = ERR_INIT;

    assert_int_equal(safetensors_read(f, len, &a, &st, &e), ERR_BAD_TENSOR);
    assert_int_equal(e.limit, limit);
    arena_free(&a);
}

static void test_header_length(void **state)
{
    static const uint64_t lengths[] = {3,         4,          LIMIT_TENSOR_HEADER, 1u << 31,
                                       UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 7};
    unsigned char f[10] = {0};

    (void)state;
    for (size_t len = 0; len <= 8; len++)
        check_lengths(f, len, -1);
    memcpy(f + 8, "{}", 2);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        bytes_put_le64(f, lengths[i]);
        check_lengths(f, 10, lengths[i] > LIMIT_TENSOR_HEADER ? (int64_t)LIMIT_TENSOR_HEADER : -1);
    }
}

static void test_every_prefix_is_refused(void **state)
{
    size_t len;
    unsigned char *f = file_of(TWO("[0,4]", "[4,8]"), 8, &len);

    (void)state;
    for (size_t n = 0; n < len; n++) {
        unsigned char *cut = test_malloc(n + 1);

        memcpy(cut, f, n);
        check_lengths(cut, n, -1);
        test_free(cut);
    }
    test_free(f);
}

static void test_tensors_in_any_order_of_names(void **state)
{
    struct arena a = {0};
    struct safetensors st;
    struct err e = ERR_INIT;
    const struct safetensor *b = NULL;
    static const char *const only_a[] = {"a", NULL};
    size_t len;
    unsigned char *f = file_of(TWO("[4,8]", "[0,4]"), 8, &len);

    (void)state;
    assert_int_equal(safetensors_read(f, len, &a, &st, &e), 0);
    assert_int_equal(st.count, 2);
    assert_string_equal(st.tensors[0].name, "b");
    assert_int_equal(safetensors_find(&st, "b", &b, &e), 0);
    assert_ptr_equal(b->data, f + len - 8);
    assert_int_equal(safetensors_find(&st, "c", &b, &e), ERR_BAD_TENSOR);
    assert_string_equal(e.field, "c");
    assert_int_equal(safetensors_only(&st, only_a, &e), ERR_BAD_TENSOR);
    assert_string_equal(e.field, "b");
    arena_free(&a);
    test_free(f);
}

static void test_empty_tensors_take_no_room(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(read_header(T("[0,9223372036854775807]", "[0,0]"), 0, &e), 0);
    assert_int_equal(read_header(T("[]", "[0,4]"), 4, &e), 0);
    assert_int_equal(read_header("{}   ", 0, &e), 0);
}

static void test_too_many_tensors(void **state)
{
    struct buf b = {0};
    struct err e;

    (void)state;
    for (int i = 0; i <= SAFETENSORS_COUNT; i++)
        buf_format(&b, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                   i ? "," : "{", i);
    buf_add(&b, "}", 2);
    assert_int_equal(read_header((const char *)b.data, 0, &e), ERR_BAD_TENSOR);
    assert_int_equal(e.limit, SAFETENSORS_COUNT);
    buf_free(&b);
}

static const struct {
    const char *dtype;
    size_t rank;
    uint64_t shape[2];
    enum err_code code;
    int64_t limit;
} rows[] = {
    {"F32", 2, {5, 8}, ERR_OK, -1},        {"F16", 2, {1, 8}, ERR_OK, -1},
    {"BF16", 2, {100, 8}, ERR_OK, -1},     {"F64", 2, {5, 8}, ERR_WRONG_DTYPE, -1},
    {"U8", 2, {5, 8}, ERR_WRONG_DTYPE, -1}, {"F32", 1, {8, 0}, ERR_WRONG_DIM, -1},
    {"F32", 0, {0, 0}, ERR_WRONG_DIM, -1}, {"F32", 2, {5, 7}, ERR_WRONG_DIM, 8},
    {"F32", 2, {5, 0}, ERR_WRONG_DIM, 8},  {"F32", 2, {0, 8}, ERR_INVALID, 1},
    {"F32", 2, {101, 8}, ERR_TOO_LARGE, 100},
};

static void test_rows_of_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct safetensor t = {.name = "queries",
                               .dtype = rows[i].dtype,
                               .rank = rows[i].rank,
                               .shape = {rows[i].shape[0], rows[i].shape[1]}};
        struct err e = ERR_INIT;
        enum dtype type;
        size_t n = 0;

        assert_int_equal(safetensors_rows(&t, 8, 100, &n, &type, &e), rows[i].code);
        if (rows[i].code) {
            assert_string_equal(e.field, "queries");
            assert_int_equal(e.limit, rows[i].limit);
        } else {
            assert_int_equal(n, rows[i].shape[0]);
            assert_string_equal(dtype_tensor_name(type), rows[i].dtype);
        }
    }
}

static void test_written_files_read_back(void **state)
{
    static const struct safetensors_spec specs[] = {
        {"sequences", "I64", 1, {3}, 24},
        {"scores", "F32", 2, {2, 3}, 24},
        {"ids", "U8", 1, {5}, 5}};
    static const struct safetensors_note notes[] = {{"fingerprint", "ab\"\\\n", 5}, {"x", "", 0}};
    struct arena a = {0};
    struct safetensors st;
    struct err e = ERR_INIT;

    (void)state;
    for (size_t before = 0; before < 3; before++) { /* wherever in the buffer it begins */
        struct buf b = {0};

        buf_add(&b, "zzz", before);
        safetensors_header(&b, specs, 3, notes, 2);
        assert_int_equal((b.len - before) % 8, 0);
        buf_add(&b, "0123456789012345678901234567890123456789012345678901234567890", 24 + 24 + 5);
        assert_int_equal(safetensors_read(b.data + before, b.len - before, &a, &st, &e), 0);
        assert_int_equal(st.count, 3);
        assert_string_equal(st.fingerprint, "ab\"\\\n");
        for (size_t i = 0; i < 3; i++) {
            assert_string_equal(st.tensors[i].name, specs[i].name);
            assert_string_equal(st.tensors[i].dtype, specs[i].dtype);
            assert_int_equal(st.tensors[i].bytes, specs[i].bytes);
            assert_int_equal(st.tensors[i].rank, specs[i].rank);
            assert_int_equal(st.tensors[i].shape[0], specs[i].shape[0]);
        }
        arena_free(&a);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_headers),
        cmocka_unit_test(test_header_length),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_tensors_in_any_order_of_names),
        cmocka_unit_test(test_empty_tensors_take_no_room),
        cmocka_unit_test(test_too_many_tensors),
        cmocka_unit_test(test_rows_of_vectors),
        cmocka_unit_test(test_written_files_read_back),
    };

    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
