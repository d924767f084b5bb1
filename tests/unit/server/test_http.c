/* test_http.c - the pieces of HTTP that need no socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/head.h"
#include "server/http.h"

static void test_decode(void **state)
{
    struct arena a = {0};

    (void)state;
    assert_string_equal(http_decode(&a, "a%2Fb%20c+d", 11, false), "a/b c+d");
    assert_string_equal(http_decode(&a, "a+b%2b", 6, true), "a b+");
    assert_string_equal(http_decode(&a, "", 0, false), "");
    assert_string_equal(http_decode(&a, "%E2%82%ac", 9, false), "\xe2\x82\xac");
    assert_null(http_decode(&a, "%", 1, false));
    assert_null(http_decode(&a, "%4", 2, false));
    assert_null(http_decode(&a, "%4g", 3, false));
    assert_null(http_decode(&a, "%00", 3, false));
    assert_null(http_decode(&a, "%41", 2, false)); /* the length counts, not what lies behind it */
    arena_free(&a);
}

static void test_lists(void **state)
{
    struct arena a = {0};

    (void)state;
    assert_true(http_list_has("close", 5, "close"));
    assert_true(http_list_has("Upgrade , CLOSE", 15, "close"));
    assert_false(http_list_has("closed", 6, "close"));
    assert_false(http_list_has("", 0, "close"));
    assert_false(http_list_has("a,", 2, "close"));
    assert_string_equal(http_media_type(&a, "Application/JSON ; charset=x", 28), "application/json");
    assert_string_equal(http_media_type(&a, "", 0), "");
    arena_free(&a);
}

static void test_target(void **state)
{
    struct http_target t;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(http_target("/a/b?c=d?e", 10, &t, &e), 0);
    assert_int_equal(t.path_len, 4);
    assert_int_equal(t.query_len, 5);
    assert_memory_equal(t.query, "c=d?e", 5);
    assert_int_equal(http_target("http://h:1?x", 12, &t, &e), 0);
    assert_memory_equal(t.path, "/", t.path_len);
    assert_int_equal(t.query_len, 1);
    assert_int_equal(http_target("HTTPS://h/p", 11, &t, &e), 0);
    assert_memory_equal(t.path, "/p", t.path_len);
    assert_int_equal(http_target("http:///p", 9, &t, &e), ERR_BAD_HTTP);
    assert_int_equal(http_target("", 0, &t, &e), ERR_BAD_HTTP);
    assert_int_equal(http_target("*", 1, &t, &e), ERR_BAD_HTTP);
    assert_int_equal(http_target("/a b", 4, &t, &e), ERR_BAD_HTTP);
    assert_int_equal(e.index, 2);
    assert_int_equal(http_target("/a#b", 4, &t, &e), ERR_BAD_HTTP);
    assert_int_equal(http_target("/\x7f", 2, &t, &e), ERR_BAD_HTTP);
}

static void test_problem(void **state)
{
    struct buf b = {0};
    struct err e = ERR_INIT;

    (void)state;
    err_set(&e, ERR_CONFLICT, "a \"b\" \\ \xff \xc3\xa9");
    http_problem(&b, &e, "r");
    buf_add(&b, "", 1);
    assert_string_equal((char *)b.data,
                        "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,"
                        "\"code\":\"conflict\",\"detail\":\"a \\\"b\\\" \\\\ \xef\xbf\xbd \xc3\xa9\","
                        "\"request_id\":\"r\"}\n");
    buf_free(&b);
    http_json_string(&b, "\t\x01\"");
    buf_add(&b, "", 1);
    assert_string_equal((char *)b.data, "\"\\u0009\\u0001\\\"\"");
    buf_free(&b);
}

/* Every code of the house has a phrase: a status line of "Unknown" would be a hole in the table. */
static void test_phrases(void **state)
{
    (void)state;
    for (int c = ERR_OK; c < ERR_COUNT; c++)
        assert_string_not_equal(http_phrase(err_status((enum err_code)c)), "Unknown");
}

static void test_date(void **state)
{
    char text[32];

    (void)state;
    http_date(784111777, text); /* the example of RFC 9110, section 5.6.7 */
    assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
}

static void test_reply_head(void **state)
{
    struct buf b = {0};
    struct http_reply r = {.status = 204, .request_id = "i", .date = "D", .keep_alive = true};

    (void)state;
    http_reply_head(&b, &r);
    buf_add(&b, "", 1);
    assert_string_equal((char *)b.data,
                        "HTTP/1.1 204 No Content\r\nServer: ascribe\r\nDate: D\r\nX-Request-Id: i\r\n\r\n");
    buf_free(&b);
}

static int collect(void *arg, const char *bytes, size_t n)
{
    buf_add(arg, bytes, n);
    return 0;
}

/* The same body, cut at every byte: the same data, and the rest left alone. */
static void test_chunked(void **state)
{
    static const char text[] = "5;a=\"b\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\nGET";
    size_t len = sizeof text - 1;

    (void)state;
    for (size_t cut = 0; cut <= len; cut++) {
        struct chunked c = {0};
        struct buf b = {0};
        struct err e = ERR_INIT;
        size_t used = 0, more = 0;
        assert_int_equal(chunked_feed(&c, text, cut, &used, collect, &b, &e), 0);
        assert_int_equal(chunked_feed(&c, text + used, len - used, &more, collect, &b, &e), 0);
        assert_true(c.done);
        assert_int_equal(used + more, len - 3);
        assert_int_equal(b.len, 15);
        assert_memory_equal(b.data, "hello0123456789", 15);
        buf_free(&b);
    }
}

/* Random bytes: an answer or an error, never a read past the end (the sanitizer looks). */
static void test_chunked_noise(void **state)
{
    static const char alphabet[] = "0123aF;\r\n \"x";

    (void)state;
    srand(7);
    for (int i = 0; i < 20000; i++) {
        size_t len = (size_t)rand() % 24, used = 0;
        char *text = malloc(len + 1);
        struct chunked c = {0};
        struct buf b = {0};
        struct err e = ERR_INIT;
        for (size_t k = 0; k < len; k++)
            text[k] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
        chunked_feed(&c, text, len, &used, collect, &b, &e);
        assert_true(used <= len);
        buf_free(&b);
        free(text);
    }
}

static void test_trailers_bounded(void **state)
{
    struct chunked c = {0};
    struct err e = ERR_INIT;
    size_t used;
    int rc = chunked_feed(&c, "0\r\n", 3, &used, collect, NULL, &e);

    (void)state;
    for (int i = 0; i < 10000 && !rc; i++)
        rc = chunked_feed(&c, "X: y\r\n", 6, &used, collect, NULL, &e);
    assert_int_equal(rc, ERR_BAD_HTTP);
}

/* One piece or one byte at a time: the same verdict on what stands around the data. */
static void test_chunked_forms(void **state)
{
    static const struct {
        const char *text;
        int rc;
    } forms[] = {
        {"1;a\r\nx\r\n0\r\n\r\n", 0},
        {"1;a=\"b\";c\r\nx\r\n0\r\n\r\n", 0},
        {"1;\r\nx\r\n0\r\n\r\n", ERR_BAD_HTTP},
        {"1;a\x80\r\nx\r\n0\r\n\r\n", ERR_BAD_HTTP},
        {"1;a\nb\r\nx\r\n0\r\n\r\n", ERR_BAD_HTTP},
        {"0\r\nX: \x80y\r\n\r\n", 0},
        {"0\r\nX:\r\nY: z\r\n\r\n", 0},
        {"0\r\nX: y\x01\r\n\r\n", ERR_BAD_HTTP},
        {"0\r\nX : y\r\n\r\n", ERR_BAD_HTTP},
        {"0\r\n X: y\r\n\r\n", ERR_BAD_HTTP},
        {"0\r\n: y\r\n\r\n", ERR_BAD_HTTP},
        {"0\r\nnonsense\r\n\r\n", ERR_BAD_HTTP},
        {"0\r\nGET /inner HTTP/1.1\r\nHost: h\r\n\r\n", ERR_BAD_HTTP},
    };

    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (size_t step = 1; step < 80; step += 78) {
            const char *text = forms[i].text;
            size_t len = strlen(text), used = 0;
            struct chunked c = {0};
            struct buf b = {0};
            struct err e = ERR_INIT;
            int rc = 0;

            for (size_t n = 0; n < len && !rc; n += used)
                rc = chunked_feed(&c, text + n, len - n < step ? len - n : step, &used, collect, &b,
                                  &e);
            assert_int_equal(rc, forms[i].rc);
            assert_int_equal(c.done, !rc);
            buf_free(&b);
        }
}

/* What nginx or Node would not take for what it says is not taken here (tests/net). */
static void test_head_strict(void **state)
{
    static const struct {
        const char *text;
        int rc;
    } heads[] = {
        {"GET / HTTP/1.1\r\nHost: h:80\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost: [::1]:80 \r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost: h/p\r\n\r\n", ERR_BAD_HTTP},
        {"GET / HTTP/1.1\r\nHost: h x\r\n\r\n", ERR_BAD_HTTP},
        {"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", ERR_BAD_HTTP},
        {"GET / HTTP/1.0\r\nHost: h@x\r\n\r\n", ERR_BAD_HTTP},
        {"GET / HTTP/1.1\r\nHost: \th\r\n\r\n", ERR_BAD_HTTP},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:  5 \r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \t5\r\n\r\n", ERR_BAD_HTTP},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \t chunked\r\n\r\n", ERR_BAD_HTTP},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked \t\r\n\r\n", ERR_BAD_HTTP},
        {"SOURCE /live ICE/1.0\r\nHost: h\r\n\r\n", ERR_BAD_HTTP},
        {"DESCRIBE /x RTSP/1.0\r\nHost: h\r\n\r\n", ERR_BAD_HTTP},
    };

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        size_t len = strlen(heads[i].text);
        char *bytes = malloc(len);
        struct head_framing f;
        struct err e = ERR_INIT;
        struct head h;
        int rc;

        memcpy(bytes, heads[i].text, len);
        head_start(&h);
        rc = head_feed(&h, bytes, len);
        assert_int_equal(rc ? rc : head_framing(&h, bytes, &f, &e), heads[i].rc);
        free(bytes);
    }
}

static void test_head_moves(void **state)
{
    static const char text[] = "GET /p HTTP/1.1\r\nHost: h\r\nEmpty:\r\nAccept:  a  \r\n\r\n";
    struct head h;
    char *bytes = NULL;
    unsigned count;
    const struct head_field *f;

    (void)state;
    head_start(&h);
    for (size_t n = 1; n < sizeof text; n++) { /* a fresh buffer for every byte */
        char *next = malloc(n);
        memcpy(next, text, n);
        free(bytes);
        bytes = next;
        assert_int_equal(head_feed(&h, bytes, n), 0);
        assert_int_equal(h.complete, n == sizeof text - 1);
    }
    assert_int_equal(h.size, sizeof text - 1);
    assert_int_equal(h.field_count, 3);
    f = head_find(&h, bytes, "accept", &count);
    assert_int_equal(count, 1);
    assert_int_equal(f->value.len, 1);
    assert_memory_equal(bytes + f->value.at, "a", 1);
    f = head_find(&h, bytes, "empty", &count);
    assert_int_equal(f->value.len, 0);
    assert_null(head_find(&h, bytes, "none", &count));
    free(bytes);
}

/* Damaged heads, cut at random, in buffers of exactly their size: taken or refused, and when
 * taken, what was found lies inside and the framing is one or the other. */
static void test_head_noise(void **state)
{
    static const char good[] = "POST /v1/corpora/c/query?k=3 HTTP/1.1\r\nHost: h\r\n"
                               "Content-Length: 17\r\nTransfer-Encoding: chunked\r\n"
                               "Connection: keep-alive, x\r\nExpect: 100-continue\r\n\r\nrest";
    static const char alphabet[] = "\r\n :;,/0aZ\t\x80\x01";
    unsigned taken = 0;

    (void)state;
    srand(11);
    for (int i = 0; i < 30000; i++) {
        size_t len = sizeof good - 1, n = 0;
        char text[sizeof good];
        struct head h;
        int rc = 0;
        memcpy(text, good, len);
        if (i % 2) { /* without the one line the head is a good one */
            char *line = strstr(text, i % 4 == 1 ? "Content" : "Transfer"), *next = strchr(line, '\n') + 1;
            size_t gone = (size_t)(next - line);
            memmove(line, next, len - (size_t)(next - text));
            len -= gone;
        }
        for (int k = rand() % 4; k > 0; k--)
            text[(size_t)rand() % len] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
        head_start(&h);
        while (n < len && !rc && !h.complete) {
            size_t more = n + 1 + (size_t)rand() % 40;
            char *bytes;
            n = more < len ? more : len;
            bytes = malloc(n);
            memcpy(bytes, text, n);
            rc = head_feed(&h, bytes, n);
            if (!rc && h.complete) {
                struct head_framing f;
                struct err e = ERR_INIT;
                assert_true(h.size <= n);
                assert_memory_equal(bytes + h.size - 4, "\r\n\r\n", 4);
                for (uint32_t k = 0; k < h.field_count; k++)
                    assert_true(h.field[k].value.at + h.field[k].value.len <= h.size);
                if (head_framing(&h, bytes, &f, &e) == 0) {
                    assert_false(f.chunked && f.has_length);
                    taken++;
                }
            }
            free(bytes);
        }
        if (rc)
            assert_int_equal(rc, h.err.code);
    }
    assert_true(taken > 3000); /* the noise did not drown everything */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_target),        cmocka_unit_test(test_problem),
        cmocka_unit_test(test_phrases),       cmocka_unit_test(test_date),
        cmocka_unit_test(test_reply_head),    cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_chunked_noise), cmocka_unit_test(test_trailers_bounded),
        cmocka_unit_test(test_chunked_forms), cmocka_unit_test(test_head_strict),
        cmocka_unit_test(test_head_moves),    cmocka_unit_test(test_head_noise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
