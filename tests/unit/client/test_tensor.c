/* test_tensor.c - the local safetensors reader, and matrices in files: read in pieces, refused when
 * malformed, an error and never a signal when the file becomes shorter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/inner.h"

static int parse(const char *header, uint64_t data, struct asc_error *e)
{
    struct asc__tensors t;
    size_t len = strlen(header);
    char *copy = malloc(len ? len : 1);
    int rc;

    assert_non_null(copy);
    memcpy(copy, header, len);
    rc = asc__tensors_parse(copy, len, data, &t, e);
    free(copy);
    if (rc == 0)
        asc__tensors_free(&t);
    return rc;
}

#define T(name, dtype, shape, from, to)                                                            \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static void takes_good_headers(void **state)
{
    struct asc_error e;

    (void)state;
    assert_int_equal(parse("{" T("a", "F32", "[2,3]", 0, 24) "}", 24, &e), 0);
    assert_int_equal(parse("{" T("b", "U8", "[5]", 24, 29) "," T("a", "F32", "[2,3]", 0, 24) "}   ",
                           29, &e), 0);
    assert_int_equal(parse("{\"__metadata__\":{\"x\":\"y\"}," T("a", "BF16", "[1,1]", 0, 2) "}", 2,
                           &e), 0);
    assert_int_equal(parse("{" T("a", "F32", "[0,3]", 0, 0) "}", 0, &e), 0);
    assert_int_equal(parse("{}", 0, &e), 0);
}

static void refuses_bad_headers(void **state)
{
    static const struct {
        const char *header;
        uint64_t data;
    } bad[] = {
        {"", 0},
        {"[]", 0},
        {"null", 0},
        {"{", 0},
        {"{}x", 0},
        {"{}", 1},
        {"{\"a\":1}", 0},
        {"{\"a\":{}}", 0},
        {"{" T("a", "F33", "[2,3]", 0, 24) "}", 24},
        {"{" T("a", "F32", "[2,3]", 0, 23) "}", 23},
        {"{" T("a", "F32", "[2,3]", 0, 24) "}", 23},
        {"{" T("a", "F32", "[2,3]", 0, 24) "}", 25},
        {"{" T("a", "F32", "[2,3]", 4, 28) "}", 28},
        {"{" T("a", "F32", "[2,3]", 24, 0) "}", 24},
        {"{" T("a", "F32", "[2,-3]", 0, 24) "}", 24},
        {"{" T("a", "F32", "[2,3.0]", 0, 24) "}", 24},
        {"{" T("a", "F32", "2", 0, 8) "}", 8},
        {"{" T("a", "F32", "[4611686018427387904,4]", 0, 0) "}", 0},
        {"{" T("a", "F32", "[9223372036854775807]", 0, 0) "}", 0},
        {"{" T("a", "F32", "[92233720368547758070]", 0, 0) "}", 0},
        {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4},
        {"{" T("a", "U8", "[4]", 0, 4) "," T("b", "U8", "[4]", 2, 6) "}", 6},
        {"{" T("a", "U8", "[4]", 0, 4) "," T("b", "U8", "[4]", 5, 9) "}", 9},
        {"{" T("a", "U8", "[4]", 0, 4) "," T("a", "U8", "[4]", 4, 8) "}", 8},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":1}}", 1},
    };
    struct asc_error e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (parse(bad[i].header, bad[i].data, &e) != ASC_INPUT)
            fail_msg("case %zu was taken: %s", i, bad[i].header);
        assert_string_equal(e.code, "bad_safetensors");
        assert_true(e.detail[0] != '\0');
    }
}

/* Every byte of a good header changed to every value: never a crash, and what is taken covers the
 * data exactly. */
static void survives_every_changed_byte(void **state)
{
    static const char good[] =
        "{" T("g", "F16", "[2,3]", 0, 12) "," T("x", "U8", "[7]", 12, 19) "} ";
    size_t len = sizeof good - 1;
    unsigned taken = 0;

    (void)state;
    for (size_t at = 0; at < len; at++)
        for (unsigned v = 0; v < 256; v++) {
            char *copy = malloc(len);
            struct asc__tensors t;
            struct asc_error e;

            assert_non_null(copy);
            memcpy(copy, good, len);
            copy[at] = (char)v;
            if (asc__tensors_parse(copy, len, 19, &t, &e) == 0) {
                uint64_t end = 8 + len;

                for (size_t i = 0; i < t.count; i++) {
                    assert_int_equal(t.list[i].begin, end);
                    end = t.list[i].end;
                }
                assert_int_equal(end, 8 + len + 19);
                asc__tensors_free(&t);
                taken++;
            } else {
                for (const char *p = e.detail; *p; p++)
                    assert_true((unsigned char)*p >= 0x20);
            }
            free(copy);
        }
    assert_true(taken >= len);
}

/* --- Files ----------------------------------------------------------------------------------------- */

static char path[64];

static int make_path(void **state)
{
    int fd;

    (void)state;
    strcpy(path, "/tmp/asc-test-XXXXXX");
    fd = mkstemp(path);
    close(fd);
    return fd < 0;
}

static int drop_path(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_file(const void *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void a_batch_saved_is_read_back(void **state)
{
    float rows[6] = {1, 2, 3, -4, 5.5f, 6}, got[6] = {0};
    const struct asc_example examples[2] = {{"a", "text \"one\"\n", "{\"n\": 1e2}"}, {"b", NULL, NULL}};
    struct asc_batch b = {.rows = 2, .dim = 3, .dtype = ASC_F32, .gradients = rows,
                          .examples = examples};
    struct asc_matrix *m;
    struct asc_error e;

    (void)state;
    assert_int_equal(asc_batch_save(&b, path, &e), 0);
    assert_int_equal(asc_matrix_open(path, NULL, &m, &e), 0);
    assert_int_equal(asc_matrix_rows(m), 2);
    assert_int_equal(asc_matrix_dim(m), 3);
    assert_int_equal(asc_matrix_dtype(m), ASC_F32);
    assert_int_equal(asc_matrix_read(m, 1, 1, got, &e), 0);
    assert_memory_equal(got, rows + 3, 12);
    assert_int_equal(asc_matrix_read(m, 1, 2, got, &e), ASC_ARGUMENT);
    assert_int_equal(asc_matrix_read(m, UINT64_MAX, 2, got, &e), ASC_ARGUMENT);
    asc_matrix_close(m);
    assert_int_equal(asc_matrix_open(path, "examples", &m, &e), ASC_INPUT); /* U8 */
    assert_int_equal(asc_matrix_open(path, "absent", &m, &e), ASC_INPUT);
}

static int collect(void *user, const void *bytes, size_t len)
{
    asc__buf_add(user, bytes, len);
    return 0;
}

static void a_tensor_is_streamed(void **state)
{
    float row[2] = {1, 2};
    const struct asc_example x = {"id/ä", "t", "{\n\"k\":\n[1,\r\n2]}"};
    struct asc_batch b = {.rows = 1, .dim = 2, .dtype = ASC_F32, .gradients = row, .examples = &x};
    struct asc__buf got = {0};
    struct asc_error e;

    (void)state;
    assert_int_equal(asc_batch_save(&b, path, &e), 0);
    assert_int_equal(asc_tensor_read(path, "examples", collect, &got, &e), 0);
    assert_string_equal(got.data,
                        "{\"id\":\"id/ä\",\"text\":\"t\",\"meta\":{ \"k\": [1,  2]}}\n");
    asc__buf_free(&got);
    assert_int_equal(asc_tensor_read(path, "none", collect, &got, &e), ASC_INPUT);
}

static void a_shrinking_file_is_an_error(void **state)
{
    static float rows[4096];
    struct asc_query q = {.rows = 16, .dim = 256, .dtype = ASC_F32, .vectors = rows};
    struct asc_batch b = {.rows = 16, .lines = "x", .lines_len = 1};
    struct asc_matrix *m;
    struct asc_error e;
    char name[ASC_NAME_MAX + 1];

    (void)state;
    assert_int_equal(asc_query_save(&q, path, &e), 0);
    assert_int_equal(asc_matrix_open(path, "queries", &m, &e), 0);
    b.matrix = m;
    assert_int_equal(asc_batch_name(0, &b, name, &e), 0);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(asc_matrix_read(m, 0, 16, rows, &e), ASC_INPUT);
    assert_string_equal(e.code, "short_file");
    assert_int_equal(asc_batch_name(0, &b, name, &e), ASC_INPUT);
    assert_int_equal(asc__matrix_unchanged(m, &e), ASC_INPUT);
    asc_matrix_close(m);
}

static void what_is_no_matrix_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {{"", 0}, {"{", 1}, {"\x93NUMPY", 6}, {"\x93NUMPY\x01", 7},
               {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10}, {"\0\0\0\0\0\0\0\0", 8},
               {"\x10\0\0\0\0\0\0\0{}", 10}, {"0123456789abcdef", 16}};
    struct asc_matrix *m = NULL;
    struct asc_error e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(bad[i].bytes, bad[i].len);
        assert_int_equal(asc_matrix_open(path, NULL, &m, &e), ASC_INPUT);
        assert_non_null(strstr(e.detail, path)); /* says which file */
    }
    assert_int_equal(asc_matrix_open("/tmp", NULL, &m, &e), ASC_INPUT);
    assert_int_equal(asc_matrix_open("/dev/zero", NULL, &m, &e), ASC_INPUT);
    assert_int_equal(asc_matrix_open("/tmp/absent-asc-file", NULL, &m, &e), ASC_INPUT);
    assert_null(m);
}

/* 5 GiB, sparse: rows beyond 4 GiB are where they should be, and nothing is held whole. */
static void a_large_file_is_read_in_pieces(void **state)
{
    static const char head[] = "\x93NUMPY\x01\0\x76\0{'descr': '<f4', 'fortran_order': False, "
                               "'shape': (20480, 65536), }";
    enum { DIM = 65536, ROWS = 20480, DATA = 128 };
    float mark = 42, *row = calloc(DIM, sizeof *row);
    off_t last = DATA + (off_t)(ROWS - 1) * DIM * 4;
    char first[DATA];
    struct asc_matrix *m;
    struct asc_error e;
    int fd = open(path, O_RDWR);

    (void)state;
    memset(first, ' ', sizeof first);
    memcpy(first, head, sizeof head - 1);
    first[DATA - 1] = '\n';
    assert_int_equal(pwrite(fd, first, DATA, 0), DATA);
    if (ftruncate(fd, last + DIM * 4) != 0)
        skip();
    assert_int_equal(pwrite(fd, &mark, 4, last + 12), 4);
    close(fd);
    assert_int_equal(asc_matrix_open(path, NULL, &m, &e), 0);
    assert_int_equal(asc_matrix_rows(m), ROWS);
    assert_int_equal(asc_matrix_read(m, ROWS - 1, 1, row, &e), 0);
    assert_true(row[3] == 42 && row[2] == 0);
    asc_matrix_close(m);
    free(row);
}

static void a_failed_save_leaves_nothing(void **state)
{
    float row[2] = {1, 2};
    struct asc_query q = {.rows = 1, .dim = 2, .dtype = ASC_F32, .vectors = row};
    struct asc_error e;

    (void)state;
    assert_int_equal(asc_query_save(&q, "/tmp/absent-asc-folder/x.safetensors", &e), ASC_INPUT);
    q.dim = 0;
    assert_int_equal(asc_query_save(&q, path, &e), ASC_ARGUMENT);
    assert_int_equal(access(path, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_good_headers),
        cmocka_unit_test(refuses_bad_headers),
        cmocka_unit_test(survives_every_changed_byte),
        cmocka_unit_test_setup_teardown(a_batch_saved_is_read_back, make_path, drop_path),
        cmocka_unit_test_setup_teardown(a_tensor_is_streamed, make_path, drop_path),
        cmocka_unit_test_setup_teardown(a_shrinking_file_is_an_error, make_path, drop_path),
        cmocka_unit_test_setup_teardown(what_is_no_matrix_is_refused, make_path, drop_path),
        cmocka_unit_test_setup_teardown(a_large_file_is_read_in_pieces, make_path, drop_path),
        cmocka_unit_test_setup_teardown(a_failed_save_leaves_nothing, make_path, drop_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
