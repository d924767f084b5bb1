/* test_batch.c - bodies and names of batches: equal input gives equal bytes and an equal name, however
 * it was handed in; what cannot be a batch is refused before anything is sent. URLs and paths too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "client/inner.h"

static const float rows[6] = {1, 2, 3, 4, 5, 6};
static const struct asc_example examples[2] = {{"a", "one", NULL}, {"b", NULL, "{\"x\":1}"}};
static const char lines[] = "{\"id\":\"a\",\"text\":\"one\"}\n{\"id\":\"b\",\"meta\":{\"x\":1}}\n";

static struct asc_batch plain(void)
{
    return (struct asc_batch){.rows = 2, .dim = 3, .dtype = ASC_F32, .gradients = rows,
                              .examples = examples};
}

static char *bytes_of(const struct asc_batch *b, size_t *len)
{
    struct asc__body body;
    struct asc_error e;
    char *out;

    assert_int_equal(asc__body_of_batch(b, &body, &e), 0);
    out = malloc((size_t)body.len + 1);
    assert_non_null(out);
    /* byte by byte crosses every border between parts */
    for (uint64_t at = 0; at < body.len; at++)
        assert_int_equal(asc__body_read(&body, at, out + at, 1), 1);
    assert_int_equal(asc__body_read(&body, body.len, out, 1), 0);
    *len = (size_t)body.len;
    asc__body_free(&body);
    return out;
}

static void the_body_is_the_documented_file(void **state)
{
    struct asc_batch b = plain();
    struct asc__tensors t;
    struct asc_error e;
    const struct asc__tensor *g, *x;
    size_t len;
    char *body = bytes_of(&b, &len);

    (void)state;
    assert_int_equal(asc__tensors_bytes(body, len, &t, &e), 0);
    assert_int_equal(t.count, 2);
    g = asc__tensors_find(&t, "gradients");
    x = asc__tensors_find(&t, "examples");
    assert_non_null(g);
    assert_non_null(x);
    assert_string_equal(g->dtype, "F32");
    assert_int_equal(g->shape[0], 2);
    assert_int_equal(g->shape[1], 3);
    assert_int_equal(g->begin % 8, 0);
    assert_memory_equal(body + g->begin, rows, sizeof rows);
    assert_string_equal(x->dtype, "U8");
    assert_int_equal(x->end - x->begin, sizeof lines - 1);
    assert_memory_equal(body + x->begin, lines, sizeof lines - 1);
    asc__tensors_free(&t);
    free(body);
}

static void names_follow_content_and_position(void **state)
{
    struct asc_batch b = plain();
    struct asc_error e;
    char name[64], same[64], other[64], expect[64];
    size_t len;
    char *body = bytes_of(&b, &len);

    (void)state;
    snprintf(expect, sizeof expect, "b000012-%016llx", (unsigned long long)XXH64(body, len, 0));
    assert_int_equal(asc_batch_name(12, &b, name, &e), 0);
    assert_string_equal(name, expect);
    assert_int_equal(asc_batch_name_body(12, body, len, same, &e), 0);
    assert_string_equal(name, same);

    b.examples = NULL; /* the same as JSON Lines */
    b.lines = lines;
    b.lines_len = sizeof lines - 1;
    assert_int_equal(asc_batch_name(12, &b, same, &e), 0);
    assert_string_equal(name, same);

    b.rows = 1;
    b.lines_len = 24;
    assert_int_equal(asc_batch_name(12, &b, other, &e), 0);
    assert_string_not_equal(name, other);
    assert_int_equal(asc_batch_name(1234567, &b, other, &e), 0);
    assert_int_equal(strncmp(other, "b1234567-", 9), 0);
    free(body);
}

static void a_matrix_in_a_file_is_the_same_batch(void **state)
{
    char path[] = "/tmp/asc-test-XXXXXX", name[64], same[64];
    static const float all[12] = {9, 9, 9, 1, 2, 3, 4, 5, 6, 9, 9, 9};
    struct asc_query q = {.rows = 4, .dim = 3, .dtype = ASC_F32, .vectors = all};
    struct asc_batch b = plain(), from_file = plain();
    struct asc_matrix *m;
    struct asc_error e;

    (void)state;
    close(mkstemp(path));
    assert_int_equal(asc_query_save(&q, path, &e), 0);
    assert_int_equal(asc_matrix_open(path, NULL, &m, &e), 0);
    from_file.gradients = NULL;
    from_file.dim = 0;
    from_file.matrix = m;
    from_file.first_row = 1;
    assert_int_equal(asc_batch_name(0, &b, name, &e), 0);
    assert_int_equal(asc_batch_name(0, &from_file, same, &e), 0);
    assert_string_equal(name, same);
    from_file.first_row = 3; /* rows 3 and 4 of 4 */
    assert_int_equal(asc_batch_name(0, &from_file, same, &e), ASC_ARGUMENT);
    assert_string_equal(e.code, "bad_rows");
    asc_matrix_close(m);

    assert_int_equal(asc_batch_save(&b, path, &e), 0);
    assert_int_equal(asc_batch_name_file(0, path, same, &e), 0);
    assert_string_equal(name, same);
    unlink(path);
}

static void what_is_no_batch_is_refused(void **state)
{
    static const char long_id[] =
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567";
    const struct asc_example bad[] = {{NULL, NULL, NULL},    {"", NULL, NULL}, {long_id, NULL, NULL},
                                      {"\xff", NULL, NULL},  {"a", "\xc3", NULL},
                                      {"a", NULL, "[1]"},    {"a", NULL, "{"},
                                      {"a", NULL, "{} {}"}};
    struct asc_batch b = plain();
    struct asc_error e;
    char name[64];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct asc_example two[2] = {{"first", NULL, NULL}, bad[i]};

        b.examples = two;
        assert_int_equal(asc_batch_name(0, &b, name, &e), ASC_ARGUMENT);
        assert_int_equal(e.index, 1);
    }
    b = plain();
    b.rows = 65537;
    assert_int_equal(asc_batch_name(0, &b, name, &e), ASC_ARGUMENT);
    b.rows = 0;
    assert_int_equal(asc_batch_name(0, &b, name, &e), ASC_ARGUMENT);
    b = plain();
    b.dim = UINT64_MAX;
    assert_int_equal(asc_batch_name(0, &b, name, &e), ASC_ARGUMENT);
    b = plain();
    b.dtype = ASC_F64;
    assert_int_equal(asc_batch_name(0, &b, name, &e), ASC_ARGUMENT);
    b = plain();
    b.gradients = NULL;
    assert_int_equal(asc_batch_name(0, &b, name, &e), ASC_ARGUMENT);
    b = plain();
    b.examples = NULL;
    assert_int_equal(asc_batch_name(0, &b, name, &e), ASC_ARGUMENT);
    b = plain();
    b.fingerprint = "not one";
    assert_int_equal(asc_batch_name(0, &b, name, &e), ASC_ARGUMENT);
    assert_int_equal(asc_batch_name(0, &b, name, NULL), ASC_ARGUMENT); /* nobody asked why */
}

static void urls(void **state)
{
    static const struct {
        const char *text, *base, *socket;
    } good[] = {
        {"http://127.0.0.1:7171", "http://127.0.0.1:7171", NULL},
        {"http://host/", "http://host", NULL},
        {"http://[::1]:80", "http://[::1]:80", NULL},
        {"https://a.example.org/ascribe/", "https://a.example.org/ascribe", NULL},
        {"unix:/run/x.sock", "http://localhost", "/run/x.sock"},
        {"unix:///run/x.sock", "http://localhost", "/run/x.sock"},
        {"unix:x.sock", "http://localhost", "x.sock"},
    };
    static const char *const bad[] = {
        "", "127.0.0.1:7171", "ftp://x", "http://", "http://:80", "http://h:", "http://h:0",
        "http://h:65536", "http://h:123456", "http://h:8a", "http://u:p@h", "http://h?x", "http://h#x",
        "http://h/a b", "http://[::1", "http://[::1]80", "unix:", "unix://", "file:///etc/passwd",
        "http://h\r\nX: y", "http://h/\x7f"};
    char deep[160];
    struct asc__url u;
    struct asc_error e;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(asc__url_parse(good[i].text, &u, &e), 0);
        assert_string_equal(u.base, good[i].base);
        if (good[i].socket)
            assert_string_equal(u.socket, good[i].socket);
        else
            assert_null(u.socket);
        asc__url_free(&u);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (asc__url_parse(bad[i], &u, &e) != ASC_ARGUMENT)
            fail_msg("taken: %s", bad[i]);
    memset(deep, 'x', sizeof deep);
    memcpy(deep, "unix:/", 6);
    deep[sizeof deep - 1] = '\0'; /* beyond sun_path */
    assert_int_equal(asc__url_parse(deep, &u, &e), ASC_ARGUMENT);
    assert_int_equal(asc__url_parse(NULL, &u, &e), ASC_ARGUMENT);
}

static void paths_are_escaped(void **state)
{
    static const char *const cases[][2] = {
        {"plain-id_1.x~", "plain-id_1.x~"}, {"a/b", "a%2Fb"}, {"..", "%2E%2E"}, {".", "%2E"},
        {"..x", "..x"}, {"ä b?c#d%", "%C3%A4%20b%3Fc%23d%25"}, {"\"<>\\", "%22%3C%3E%5C"}};
    struct asc__buf b = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        asc__buf_escape(&b, cases[i][0]);
        assert_string_equal(b.data, cases[i][1]);
        asc__buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_body_is_the_documented_file),
        cmocka_unit_test(names_follow_content_and_position),
        cmocka_unit_test(a_matrix_in_a_file_is_the_same_batch),
        cmocka_unit_test(what_is_no_batch_is_refused),
        cmocka_unit_test(urls),
        cmocka_unit_test(paths_are_escaped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
