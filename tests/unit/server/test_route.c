/* test_route.c - finding rows, and the OpenAPI document made from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "server/openapi.h"
#include "server/route.h"

static int reply(struct job *j)
{
    (void)j;
    return 0;
}

const struct route route_table[] = {
    {"GET", "/", SCOPE_OPEN, BODY_NONE, false, "root", NULL, NULL, NULL, NULL, reply, NULL},
    {"GET", "/a", SCOPE_READ, BODY_NONE, false, "list", "after limit", NULL, NULL, NULL, reply, NULL},
    {"PUT", "/a/{x}", SCOPE_WRITE, BODY_JSON, false, "put", NULL, NULL, NULL, NULL, reply, NULL},
    {"GET", "/a/{x}", SCOPE_READ, BODY_NONE, false, "get", NULL, NULL, NULL, NULL, reply, NULL},
    {"GET", "/a/{x}/b/{y}", SCOPE_READ, BODY_NONE, false, "two", NULL, NULL, NULL, NULL, reply, NULL},
    {"POST", "/a/{x}/q", SCOPE_ADMIN, BODY_TENSOR, true, "say \"q\"", "k", NULL, NULL, NULL, reply, NULL},
};
const size_t route_count = sizeof route_table / sizeof *route_table;

static struct job j;
static char allow[64];

static int find(const char *method, const char *path, const struct route **out)
{
    arena_free(&j.arena);
    memset(&j, 0, sizeof j);
    err_clear(&j.err);
    *out = NULL;
    return route_find(&j, method, path, strlen(path), out, allow);
}

static void test_found(void **state)
{
    const struct route *r;

    (void)state;
    assert_int_equal(find("GET", "/", &r), 0);
    assert_string_equal(r->summary, "root");
    assert_int_equal(find("GET", "/a", &r), 0);
    assert_string_equal(r->summary, "list");
    assert_int_equal(find("GET", "/a/one", &r), 0);
    assert_string_equal(r->summary, "get");
    assert_string_equal(j.path[0], "one");
    assert_int_equal(find("PUT", "/a/x%2Fy%C3%A9", &r), 0);
    assert_string_equal(j.path[0], "x/y\xc3\xa9");
    assert_int_equal(find("GET", "/%61/1/b/2+3", &r), 0);
    assert_string_equal(r->summary, "two");
    assert_string_equal(j.path[0], "1");
    assert_string_equal(j.path[1], "2+3");
}

static void test_not_found(void **state)
{
    static const char *const none[] = {"/b", "/a/", "//a", "/a/x/b", "/a/x/b/", "/a/x/b/y/z",
                                       "/A", "/a/x/qq", "/1/2/3/4/5/6/7/8/9/10/11/12"};
    const struct route *r;

    (void)state;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(find("GET", none[i], &r), ERR_UNKNOWN_ROUTE);
    assert_int_equal(find("GET", "/a/%zz", &r), ERR_INVALID);
    assert_int_equal(find("GET", "/a/%00", &r), ERR_INVALID);
}

static void test_method(void **state)
{
    const struct route *r;

    (void)state;
    assert_int_equal(find("DELETE", "/a/x", &r), ERR_METHOD);
    assert_string_equal(allow, "PUT, GET, HEAD");
    assert_int_equal(find("GET", "/a/x/q", &r), ERR_METHOD);
    assert_string_equal(allow, "POST");
}

static void test_openapi(void **state)
{
    struct buf b = {0};
    json_error_t e;
    json_t *doc, *paths, *op;

    (void)state;
    openapi_write(&b, route_table, route_count);
    assert_false(b.failed);
    doc = json_loadb((char *)b.data, b.len, JSON_REJECT_DUPLICATES, &e);
    if (!doc)
        print_error("%s at %d\n", e.text, e.position);
    assert_non_null(doc);
    paths = json_object_get(doc, "paths");
    assert_int_equal(json_object_size(paths), 5);
    assert_int_equal(json_object_size(json_object_get(paths, "/a/{x}")), 2);
    op = json_object_get(json_object_get(paths, "/a/{x}/q"), "post");
    assert_string_equal(json_string_value(json_object_get(op, "summary")), "say \"q\"");
    assert_string_equal(json_string_value(json_object_get(op, "operationId")), "post_a_x_q");
    assert_string_equal(json_string_value(json_object_get(op, "x-scope")), "admin");
    assert_int_equal(json_array_size(json_object_get(op, "parameters")), 2);
    assert_int_equal(json_array_size(json_object_get(
                         json_object_get(json_object_get(paths, "/"), "get"), "security")),
                     0);
    json_decref(doc);
    buf_free(&b);
}

static int done(void **state)
{
    (void)state;
    arena_free(&j.arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_not_found),
        cmocka_unit_test(test_method),
        cmocka_unit_test(test_openapi),
    };

    return cmocka_run_group_tests(tests, NULL, done);
}
