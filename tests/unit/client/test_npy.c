/* test_npy.c - the .npy header parser: what numpy writes is taken, everything else is refused with a
 * reason, whatever lengths it claims. A table of files, and every cut and every flipped byte of a good
 * one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/inner.h"

/* A file: magic, version, length field, header text; `data` bytes of data are only counted. */
struct file {
    unsigned char bytes[4096];
    size_t len;
    uint64_t size;
};

static void make(struct file *f, unsigned major, const char *text, uint64_t data)
{
    size_t len = strlen(text), start = major == 1 ? 10 : 12;

    memset(f, 0, sizeof *f);
    memcpy(f->bytes, "\x93NUMPY", 6);
    f->bytes[6] = (unsigned char)major;
    f->bytes[8] = (unsigned char)len;
    f->bytes[9] = (unsigned char)(len >> 8);
    memcpy(f->bytes + start, text, len);
    f->len = start + len;
    f->size = f->len + data;
}

static int parse(const struct file *f, struct asc__npy *out, struct asc_error *e)
{
    /* its own allocation, so that a sanitizer sees any read past the end */
    unsigned char *copy = malloc(f->len ? f->len : 1);
    int rc;

    assert_non_null(copy);
    memcpy(copy, f->bytes, f->len);
    rc = asc__npy_parse(copy, f->len, f->size, out, e);
    free(copy);
    return rc;
}

#define HEAD(descr, order, shape)                                                                  \
    "{'descr': '" descr "', 'fortran_order': " order ", 'shape': " shape ", }      \n"

static void takes_what_numpy_writes(void **state)
{
    static const struct {
        unsigned major;
        const char *text;
        uint64_t data, rows, dim;
        enum asc_dtype dtype;
    } good[] = {
        {1, HEAD("<f4", "False", "(3, 4)"), 48, 3, 4, ASC_F32},
        {2, HEAD("<f2", "False", "(3, 4)"), 24, 3, 4, ASC_F16},
        {3, HEAD("<f4", "False", "(1, 1)"), 4, 1, 1, ASC_F32},
        {1, HEAD("<f4", "False", "(7,)"), 28, 1, 7, ASC_F32},
        {1, HEAD("<f4", "True", "(7,)"), 28, 1, 7, ASC_F32},
        {1, HEAD("<f4", "False", "(0, 4)"), 0, 0, 4, ASC_F32},
        {1, "{'shape': (2, 2), 'fortran_order': False, 'descr': '<f4'}\n", 16, 2, 2, ASC_F32},
        {1, "{\"descr\":\"<f4\",\"fortran_order\":False,\"shape\":(2,2,)}\n", 16, 2, 2, ASC_F32},
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct asc__npy npy;
        struct asc_error e;
        struct file f;

        make(&f, good[i].major, good[i].text, good[i].data);
        if (parse(&f, &npy, &e) != 0)
            fail_msg("case %zu: %s", i, e.detail);
        assert_int_equal(npy.rows, good[i].rows);
        assert_int_equal(npy.dim, good[i].dim);
        assert_int_equal(npy.dtype, good[i].dtype);
        assert_int_equal(npy.data_offset, f.len);
    }
}

static void refuses_the_rest(void **state)
{
    static const struct {
        unsigned major;
        const char *text;
        uint64_t data;
        const char *why; /* a piece of the reason */
    } bad[] = {
        /* claims far beyond the file: 2^33 floats in 80 bytes */
        {1, HEAD("<f4", "False", "(65536, 131072)"), 0, "the file has 0"},
        {1, HEAD("<f4", "False", "(4294967296, 4294967296)"), 0, "overflows"},
        {1, HEAD("<f4", "False", "(9223372036854775807, 4)"), 16, "header is not"},
        {1, HEAD("<f4", "False", "(92233720368547758080, 4)"), 16, "header is not"},
        {1, HEAD("<f4", "False", "(2305843009213693951, 4)"), 16, "overflows"},
        {1, HEAD("<f4", "True", "(3, 4)"), 48, "Fortran"},
        {1, HEAD(">f4", "False", "(3, 4)"), 48, "'>f4'"},
        {1, HEAD("<f8", "False", "(3, 4)"), 96, "'<f8'"},
        {1, HEAD("|u1", "False", "(3, 4)"), 12, "'|u1'"},
        {1, HEAD("|O", "False", "(3, 4)"), 96, "'|O'"},
        {1, HEAD("=f4", "False", "(3, 4)"), 48, "'=f4'"},
        {1, HEAD("<f4", "False", "(3, 4, 1)"), 48, "3 dimensions"},
        {1, HEAD("<f4", "False", "()"), 4, "0 dimensions"},
        {1, HEAD("<f4", "False", "(3, 4)"), 47, "needs 48"},
        {1, HEAD("<f4", "False", "(3, 4)"), 49, "needs 48"},
        {1, HEAD("<f4", "False", "(-3, 4)"), 48, "header is not"},
        {1, HEAD("<f4", "False", "(+3, 4)"), 48, "header is not"},
        {1, HEAD("<f4", "False", "(03, 4)"), 48, "header is not"},
        {1, HEAD("<f4", "False", "(0x3, 4)"), 48, "header is not"},
        {1, HEAD("<f4", "False", "(3_0, 4)"), 480, "header is not"},
        {1, HEAD("<f4", "False", "(3L, 4L)"), 48, "header is not"},
        {1, HEAD("<f4", "False", "(3., 4)"), 48, "header is not"},
        {1, HEAD("<f4", "False", "(3 4)"), 48, "header is not"},
        {1, HEAD("<f4", "False", "(3, , 4)"), 48, "header is not"},
        {1, HEAD("<f4", "False", "[3, 4]"), 48, "header is not"},
        {1, HEAD("<f4", "False", "(12)"), 48, "header is not"},
        {1, HEAD("<f4", "False", "(3, 4) * 1"), 48, "header is not"},
        {1, HEAD("<f4", "False", "tuple((3, 4))"), 48, "header is not"},
        {1, HEAD("<f4", "0", "(3, 4)"), 48, "header is not"},
        {1, HEAD("<f4", "FalseTrue", "(3, 4)"), 48, "header is not"},
        {1, HEAD("<f4", "not True", "(3, 4)"), 48, "header is not"},
        {1, HEAD("<f\\x34", "False", "(3, 4)"), 48, "header is not"},
        {1, HEAD("<f4' + '", "False", "(3, 4)"), 48, "header is not"},
        {1, HEAD("<f4<f4<f4<f4<f4<f4", "False", "(3, 4)"), 48, "header is not"},
        {1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 4)}\n", 48, "header is"},
        {1, "{'descr': '<f4', 'fortran_order': False}\n", 48, "header is not"},
        {1, "{'descr': '<f4', 'shape': (3, 4)}\n", 48, "header is not"},
        {1, "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}\n", 48, "head"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'shape': (9, 9)}\n", 48, "he"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'x': 1}\n", 48, "header is"},
        {1, "{'descr': '<f4' 'fortran_order': False, 'shape': (3, 4)}\n", 48, "header is not"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)} # more\n", 48, "header is"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}{}\n", 48, "header is not"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)\n", 48, "header is not"},
        {1, "{'descr': u'<f4', 'fortran_order': False, 'shape': (3, 4)}\n", 48, "header is not"},
        {1, "dict(descr='<f4', fortran_order=False, shape=(3, 4))\n", 48, "header is not"},
        {1, "__import__('os').system('true') or {}\n", 48, "header is not"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", 48, "newline"},
        {1, "\n", 48, "header is not"},
        {1, "", 48, "newline"},
        {0, HEAD("<f4", "False", "(3, 4)"), 48, "version 0.0"},
        {4, HEAD("<f4", "False", "(3, 4)"), 48, "version 4.0"},
        {255, HEAD("<f4", "False", "(3, 4)"), 48, "version 255.0"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct asc__npy npy = {.rows = 77};
        struct asc_error e;
        struct file f;

        make(&f, bad[i].major, bad[i].text, bad[i].data);
        if (parse(&f, &npy, &e) != ASC_INPUT)
            fail_msg("case %zu was taken: %s", i, bad[i].text);
        if (!strstr(e.detail, bad[i].why))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.detail, bad[i].why);
        assert_string_equal(e.code, "bad_npy");
        assert_int_equal(npy.rows, 77); /* untouched */
    }
}

/* Version 2 has a 32-bit length: 4 GiB of header is a claim, not a reason to allocate. */
static void refuses_lengths_that_lie(void **state)
{
    static const uint32_t lengths[] = {0xffffffff, 0x7fffffff, 65537, 4000, 200};
    struct asc__npy npy;
    struct asc_error e;
    struct file f;

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        make(&f, 2, HEAD("<f4", "False", "(3, 4)"), 48);
        memcpy(f.bytes + 8, &lengths[i], 4);
        assert_int_equal(parse(&f, &npy, &e), ASC_INPUT);
    }
    make(&f, 1, HEAD("<f4", "False", "(3, 4)"), 48);
    f.bytes[7] = 1; /* 1.1 */
    assert_int_equal(parse(&f, &npy, &e), ASC_INPUT);
}

static void refuses_every_cut(void **state)
{
    struct asc__npy npy;
    struct asc_error e;
    struct file f, whole;

    (void)state;
    make(&whole, 1, HEAD("<f4", "False", "(3, 4)"), 48);
    for (size_t len = 0; len < whole.len; len++) {
        f = whole;
        f.len = f.size = len;
        assert_int_equal(parse(&f, &npy, &e), ASC_INPUT);
    }
}

/* A changed byte may still be a good file (another shape that fits); it never crashes, and what is
 * taken fits the file. */
static void survives_every_changed_byte(void **state)
{
    struct file whole;
    unsigned taken = 0;

    (void)state;
    make(&whole, 1, HEAD("<f4", "False", "(3, 4)"), 48);
    for (size_t at = 0; at < whole.len; at++)
        for (unsigned v = 0; v < 256; v++) {
            struct asc__npy npy;
            struct asc_error e;
            struct file f = whole;

            f.bytes[at] = (unsigned char)v;
            if (parse(&f, &npy, &e) != 0)
                continue;
            taken++;
            assert_int_equal(npy.data_offset + npy.rows * npy.dim * asc_dtype_size(npy.dtype),
                             f.size);
        }
    assert_true(taken >= whole.len); /* each byte left as it was, and some spaces */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_numpy_writes),     cmocka_unit_test(refuses_the_rest),
        cmocka_unit_test(refuses_lengths_that_lie),    cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(survives_every_changed_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
