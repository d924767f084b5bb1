/* test_base.c - storage/base: UTF-8, integers in bytes, the buffer, memory, the arena, errors, dtypes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "storage/base/bytes.h"
#include "storage/base/dtype.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"

/* Sanitizers abort on sizes past any memory; here NULL is what is asked for. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

/* Unicode 15, table 3-7, and what lies just outside of it. */
static void test_utf8_table(void **state)
{
    static const struct {
        const char *text;
        size_t len, error; /* offset of the first bad byte, len when there is none */
    } cases[] = {
        {"", 0, 0},
        {"plain", 5, 5},
        {"a\0b", 3, 3},                 /* NUL is well-formed */
        {"\x7f", 1, 1},
        {"\x80", 1, 0},                 /* a continuation alone */
        {"\xbf", 1, 0},
        {"\xc0\x80", 2, 0},             /* overlong NUL */
        {"\xc1\xbf", 2, 0},
        {"\xc2\x80", 2, 2},             /* U+0080 */
        {"\xdf\xbf", 2, 2},
        {"\xc2", 1, 0},                 /* cut off */
        {"\xc2\x41", 2, 0},
        {"ab\xe0\x9f\xbf", 5, 2},       /* overlong */
        {"\xe0\xa0\x80", 3, 3},         /* U+0800 */
        {"\xe2\x82\xac", 3, 3},         /* euro */
        {"\xe2\x82", 2, 0},
        {"\xed\x9f\xbf", 3, 3},         /* U+D7FF */
        {"\xed\xa0\x80", 3, 0},         /* U+D800, a surrogate */
        {"\xed\xbf\xbf", 3, 0},
        {"\xee\x80\x80", 3, 3},         /* U+E000 */
        {"\xef\xbf\xbf", 3, 3},         /* U+FFFF, a noncharacter, is well-formed */
        {"\xf0\x8f\xbf\xbf", 4, 0},     /* overlong */
        {"\xf0\x90\x80\x80", 4, 4},     /* U+10000 */
        {"\xf4\x8f\xbf\xbf", 4, 4},     /* U+10FFFF */
        {"\xf4\x90\x80\x80", 4, 0},     /* past the end */
        {"\xf5\x80\x80\x80", 4, 0},
        {"\xf8\x88\x80\x80\x80", 5, 0}, /* five bytes */
        {"\xff", 1, 0},
        {"\xf0\x9f\x98\x80!", 5, 5},
        {"\xf0\x9f\x98", 3, 0},
        {"\xf0\x9f\x98\x41", 4, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(bytes_utf8_error(cases[i].text, cases[i].len), cases[i].error);
}

/* Every code point encodes to something well-formed, every surrogate to something that is not. */
static void test_utf8_every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x110000; c++) {
        unsigned char b[4];
        size_t len;
        bool good = c < 0xD800 || (c > 0xDFFF && c <= 0x10FFFF);

        if (c < 0x80)
            b[0] = (unsigned char)c, len = 1;
        else if (c < 0x800)
            b[0] = (unsigned char)(0xC0 | c >> 6), len = 2;
        else if (c < 0x10000)
            b[0] = (unsigned char)(0xE0 | c >> 12), len = 3;
        else
            b[0] = (unsigned char)(0xF0 | c >> 18), len = 4;
        for (size_t i = 1; i < len; i++)
            b[i] = (unsigned char)(0x80 | (c >> (6 * (len - 1 - i)) & 0x3F));
        assert_int_equal(bytes_utf8_error(b, len), good ? len : 0);
    }
}

static void test_integers(void **state)
{
    unsigned char b[8];

    (void)state;
    bytes_put_le32(b, 0x01020304);
    assert_memory_equal(b, "\4\3\2\1", 4);
    assert_int_equal(bytes_get_le32(b), 0x01020304);
    assert_int_equal(bytes_get_be32(b), 0x04030201);
    bytes_put_be32(b, 0x01020304);
    assert_memory_equal(b, "\1\2\3\4", 4);
    bytes_put_be64(b, UINT64_C(0x0102030405060708));
    assert_memory_equal(b, "\1\2\3\4\5\6\7\10", 8);
    assert_true(bytes_get_be64(b) == UINT64_C(0x0102030405060708));
    assert_true(bytes_get_le64(b) == UINT64_C(0x0807060504030201));
    bytes_put_le64(b, UINT64_MAX - 1);
    assert_memory_equal(b, "\xfe\xff\xff\xff\xff\xff\xff\xff", 8);
}

static void test_hex(void **state)
{
    char out[7];

    (void)state;
    bytes_hex("\x00\xaf\x10", 3, out);
    assert_string_equal(out, "00af10");
    bytes_hex("", 0, out);
    assert_string_equal(out, "");
}

static void test_checked_arithmetic(void **state)
{
    size_t out = 7;

    (void)state;
    assert_true(mem_mul(SIZE_MAX / 2, 2, &out));
    assert_true(out == SIZE_MAX - 1);
    assert_false(mem_mul(SIZE_MAX / 2 + 1, 2, &out));
    assert_true(out == SIZE_MAX - 1); /* untouched */
    assert_true(mem_mul(0, SIZE_MAX, &out));
    assert_int_equal(out, 0);
    assert_true(mem_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_false(mem_add(SIZE_MAX, 1, &out));
    assert_null(mem_big(SIZE_MAX, 2));
    assert_null(mem_big(SIZE_MAX, 1)); /* no room for the rounding up */
    assert_null(mem_big(SIZE_MAX / 4, 2));
}

static void test_memory(void **state)
{
    unsigned char *p;
    char *copy;

    (void)state;
    for (size_t len = 0; len < 300; len += 37) {
        p = mem_big(len, 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 1, len);
        free(p);
    }
    p = mem_new(0, 0);
    assert_non_null(p);
    free(p);
    copy = mem_copy("abc", 2);
    assert_string_equal(copy, "ab");
    free(copy);
    copy = mem_copy(NULL, 0);
    assert_string_equal(copy, "");
    free(copy);
}

static void test_arena(void **state)
{
    struct arena a = {0};
    char *pieces[400];

    (void)state;
    for (int i = 0; i < 400; i++) {
        pieces[i] = arena_big(&a, (size_t)i * 7 % 500, 1);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 64, 0);
        memset(pieces[i], i, (size_t)i * 7 % 500);
    }
    for (int i = 0; i < 400; i++) /* none overlaps another */
        for (size_t j = 0; j < (size_t)i * 7 % 500; j++)
            assert_int_equal((unsigned char)pieces[i][j], i % 256);
    assert_non_null(arena_big(&a, 1 << 20, 1));
    assert_null(arena_big(&a, SIZE_MAX, 1));
    assert_null(arena_big(&a, SIZE_MAX / 2, 3));
    assert_string_equal(arena_copy(&a, "xyz", 2), "xy");
    assert_string_equal(arena_format(&a, "%d-%s", 42, "x"), "42-x");
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(((unsigned char *)arena_new(&a, 100, 1))[i], 0);
    assert_true(a.total_bytes > 1 << 20);
    arena_free(&a);
    assert_int_equal(a.total_bytes, 0);
    assert_string_equal(arena_copy(&a, "again", 5), "again"); /* ready again */
    arena_free(&a);
}

static void test_buffer(void **state)
{
    struct buf b = {0};

    (void)state;
    buf_add(&b, NULL, 0);
    assert_null(b.data);
    for (int i = 0; i < 1000; i++)
        buf_format(&b, "%d,", i);
    buf_add_text(&b, "end");
    assert_false(b.failed);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4 + 3);
    assert_memory_equal(b.data, "0,1,2,", 6);
    assert_memory_equal(b.data + b.len - 7, "999,end", 7);
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    buf_add(&b, "more", 4); /* sticky: nothing is added any more */
    assert_memory_equal(b.data + b.len - 3, "end", 3);
    buf_free(&b);
    assert_false(b.failed);
    buf_add(&b, "x", 1);
    assert_int_equal(b.len, 1);
    buf_free(&b);
}

static void test_errors(void **state)
{
    struct err e = ERR_INIT;
    char long_text[600];

    (void)state;
    err_wrap(&e, "context: "); /* on no error: nothing */
    assert_string_equal(e.text, "");
    assert_int_equal(err_set(&e, ERR_BAD_ID, "id of %d bytes", 300), ERR_BAD_ID);
    assert_int_equal(e.index, -1);
    assert_int_equal(err_at_index(&e, 5), ERR_BAD_ID);
    assert_int_equal(err_at_limit(&e, 256), ERR_BAD_ID);
    assert_int_equal(err_at_field(&e, "examples"), ERR_BAD_ID);
    err_wrap(&e, "batch %s: ", "b7");
    assert_string_equal(e.text, "batch b7: id of 300 bytes");
    assert_int_equal(e.index, 5);
    assert_int_equal(e.limit, 256);
    assert_string_equal(e.field, "examples");
    (void)err_set(&e, ERR_IO, "x");
    assert_int_equal(e.index, -1);
    assert_int_equal(e.limit, -1);
    assert_string_equal(e.field, "");

    memset(long_text, 'y', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    (void)err_set(&e, ERR_IO, "%s", long_text);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    err_wrap(&e, "%s", long_text); /* a context as long as the text: cut, still terminated */
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    err_wrap(&e, "short: ");
    assert_memory_equal(e.text, "short: yyy", 10);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    (void)err_set(&e, ERR_IO, "two\nlines\x1b[1m");
    assert_string_equal(e.text, "two?lines?[1m");

    assert_int_equal(err_errno(&e, ENOSPC, "write"), ERR_FULL);
    assert_int_equal(err_errno(&e, EDQUOT, "write"), ERR_FULL);
    assert_int_equal(err_errno(&e, ENOMEM, "map"), ERR_BUSY);
    assert_int_equal(err_errno(&e, EIO, "read"), ERR_IO);
    assert_memory_equal(e.text, "read: ", 6);
    err_clear(&e);
    assert_int_equal(e.code, ERR_OK);
}

/* The table is what the protocol promises: words are unique, statuses are HTTP's. */
static void test_error_table(void **state)
{
    (void)state;
    for (int i = 0; i < ERR_COUNT; i++) {
        enum err_code c = (enum err_code)i;

        assert_true(strlen(err_word(c)) > 1);
        assert_true(strlen(err_meaning(c)) > 5);
        assert_true(err_status(c) == 200 || (err_status(c) >= 400 && err_status(c) <= 599));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(err_word(c), err_word((enum err_code)j));
    }
    assert_true(err_retryable(ERR_BUSY));
    assert_false(err_retryable(ERR_BATCH_CONFLICT));
    assert_int_equal(err_status(ERR_FULL), 507);
}

static void test_dtypes(void **state)
{
    enum dtype t;

    (void)state;
    assert_int_equal(dtype_size(DTYPE_F32), 4);
    assert_int_equal(dtype_size(DTYPE_F16), 2);
    assert_int_equal(dtype_size(DTYPE_BF16), 2);
    for (int i = DTYPE_F32; i <= DTYPE_BF16; i++) {
        assert_true(dtype_from_name(dtype_name((enum dtype)i), &t));
        assert_int_equal(t, i);
        assert_true(dtype_from_name(dtype_tensor_name((enum dtype)i), &t));
        assert_int_equal(t, i);
    }
    assert_false(dtype_from_name("f64", &t));
    assert_false(dtype_from_name("", &t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_table),
        cmocka_unit_test(test_utf8_every_code_point),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_checked_arithmetic),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_error_table),
        cmocka_unit_test(test_dtypes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
