/* test_manifest.c - a definition's canonical text and fingerprint, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "server/limits.h"
#include "server/manifest.h"
#include "storage/base/bytes.h"
#include "storage/base/dtype.h"

static int read_text(const char *json, struct arena *a, struct corpus_def *def, struct err *e)
{
    *e = ERR_INIT;
    return manifest_read("c", json, strlen(json), a, def, e);
}

/* Made with sha256sum from the canonical text on the right. */
static const struct {
    const char *json, *canonical, *fingerprint;
} good[] = {
    {"{\"dim\":4}",
     "{\"blocks\":[{\"dim\":4,\"name\":\"all\"}],\"dim\":4,\"dtype\":\"f32\",\"encoded\":false}",
     "8a4956749a74c623bddc293224afdb1b678678e02d3b66c43a666dec20e42ac4"},
    {" {\"dtype\":\"bf16\",\"model\":\"m\\u00e9\", \"second_moment\":{\"kind\":\"adam\",\"eps\":1e-8},\n"
     "\"dim\":4,\"encoded\":true,\"blocks\":[{\"name\":\"a\",\"dim\":3},{\"dim\":1,\"name\":\"b\"}]}",
     "{\"blocks\":[{\"dim\":3,\"name\":\"a\"},{\"dim\":1,\"name\":\"b\"}],\"dim\":4,\"dtype\":\"bf16\","
     "\"encoded\":true,\"model\":\"mé\",\"second_moment\":{\"eps\":1e-08,\"kind\":\"adam\"}}",
     "cff8f09eca255b0e0c078136373e1e955a1befe3dfc98a79a3fa262b746598cc"},
};

static void test_canonical_text_and_fingerprint(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char hex[2 * STORE_FINGERPRINT_BYTES + 1];
        struct corpus_def def;
        struct arena a = {0};
        struct err e;

        assert_int_equal(read_text(good[i].json, &a, &def, &e), 0);
        assert_string_equal(def.manifest, good[i].canonical);
        assert_string_equal(def.name, "c");
        assert_int_equal(def.dim, 4);
        bytes_hex(def.fingerprint, STORE_FINGERPRINT_BYTES, hex);
        assert_string_equal(hex, good[i].fingerprint);
        arena_free(&a);
    }
}

static void same_fingerprint(const char *left, const char *right, bool want)
{
    struct corpus_def a, b;
    struct arena arena = {0};
    struct err e;

    assert_int_equal(read_text(left, &arena, &a, &e), 0);
    assert_int_equal(read_text(right, &arena, &b, &e), 0);
    assert_int_equal(memcmp(a.fingerprint, b.fingerprint, sizeof a.fingerprint) == 0, want);
    arena_free(&arena);
}

static void test_spelling_does_not_matter_and_meaning_does(void **state)
{
    (void)state;
    same_fingerprint("{\"dim\":4}", "{ \"dtype\":\"f32\" , \"dim\": 4 }", true);
    same_fingerprint("{\"dim\":4}", "{\"dim\":4,\"blocks\":[{\"dim\":4,\"name\":\"all\"}]}", true);
    same_fingerprint("{\"dim\":4,\"projection\":{\"a\":1.50,\"b\":\"\\u0041\"}}",
                     "{\"dim\":4,\"projection\":{\"b\":\"A\",\"a\":1.5}}", true);
    same_fingerprint("{\"dim\":4}", "{\"dim\":5}", false);
    same_fingerprint("{\"dim\":4}", "{\"dim\":4,\"dtype\":\"f16\"}", false);
    same_fingerprint("{\"dim\":4}", "{\"dim\":4,\"model\":\"\"}", false);
    same_fingerprint("{\"dim\":4}", "{\"dim\":4,\"encoded\":true}", false);
    same_fingerprint("{\"dim\":4,\"projection\":{\"seed\":1}}",
                     "{\"dim\":4,\"projection\":{\"seed\":2}}", false);
    same_fingerprint("{\"dim\":2,\"blocks\":[{\"name\":\"a\",\"dim\":1},{\"name\":\"b\",\"dim\":1}]}",
                     "{\"dim\":2,\"blocks\":[{\"name\":\"b\",\"dim\":1},{\"name\":\"a\",\"dim\":1}]}",
                     false);
}

static const struct {
    const char *json;
    enum err_code code;
    const char *field;
    int64_t index, limit;
} bad[] = {
    {"[]", ERR_BAD_JSON, "", -1, -1},
    {"{}", ERR_INVALID, "dim", -1, -1},
    {"{\"dim\":0}", ERR_INVALID, "dim", -1, 1},
    {"{\"dim\":-1}", ERR_INVALID, "dim", -1, 1},
    {"{\"dim\":1048577}", ERR_INVALID, "dim", -1, LIMIT_DIM},
    {"{\"dim\":4.0}", ERR_INVALID, "dim", -1, -1},
    {"{\"dim\":\"4\"}", ERR_INVALID, "dim", -1, -1},
    {"{\"dim\":4,\"dmi\":4}", ERR_INVALID, "dmi", -1, -1},
    {"{\"dim\":4,\"dtype\":\"f64\"}", ERR_INVALID, "dtype", -1, -1},
    {"{\"dim\":4,\"dtype\":\"F32\"}", ERR_INVALID, "dtype", -1, -1},
    {"{\"dim\":4,\"dtype\":1}", ERR_INVALID, "dtype", -1, -1},
    {"{\"dim\":4,\"encoded\":1}", ERR_INVALID, "encoded", -1, -1},
    {"{\"dim\":4,\"projection\":[]}", ERR_INVALID, "projection", -1, -1},
    {"{\"dim\":4,\"second_moment\":\"x\"}", ERR_INVALID, "second_moment", -1, -1},
    {"{\"dim\":4,\"sample\":1}", ERR_INVALID, "sample", -1, -1},
    {"{\"dim\":4,\"loss\":{}}", ERR_INVALID, "loss", -1, -1},
    {"{\"dim\":4,\"model\":null}", ERR_INVALID, "model", -1, -1},
    {"{\"dim\":4,\"blocks\":[]}", ERR_INVALID, "blocks", -1, LIMIT_BLOCKS},
    {"{\"dim\":4,\"blocks\":{}}", ERR_INVALID, "blocks", -1, LIMIT_BLOCKS},
    {"{\"dim\":4,\"blocks\":[{\"name\":\"a\",\"dim\":3}]}", ERR_INVALID, "blocks", -1, 4},
    {"{\"dim\":4,\"blocks\":[{\"name\":\"a\",\"dim\":2},{\"name\":\"a\",\"dim\":2}]}", ERR_INVALID,
     "blocks", 1, -1},
    {"{\"dim\":4,\"blocks\":[{\"name\":\"\",\"dim\":4}]}", ERR_INVALID, "blocks", 0, -1},
    {"{\"dim\":4,\"blocks\":[{\"name\":\"a\\n\",\"dim\":4}]}", ERR_INVALID, "blocks", 0, -1},
    {"{\"dim\":4,\"blocks\":[{\"dim\":4}]}", ERR_INVALID, "blocks", 0, -1},
    {"{\"dim\":4,\"blocks\":[{\"name\":\"a\",\"dim\":4,\"p\":2}]}", ERR_INVALID, "blocks", 0, -1},
    {"{\"dim\":4,\"blocks\":[{\"name\":\"a\",\"dim\":0},{\"name\":\"b\",\"dim\":4}]}", ERR_INVALID,
     "blocks", 0, 1},
    {"{\"dim\":4,\"blocks\":[3]}", ERR_INVALID, "blocks", 0, -1},
};

static void test_refused_definitions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct corpus_def def;
        struct arena a = {0};
        struct err e;

        read_text(bad[i].json, &a, &def, &e);
        if (e.code != bad[i].code || strcmp(e.field, bad[i].field) || e.index != bad[i].index ||
            e.limit != bad[i].limit)
            fail_msg("row %zu: %s gives %s, field %s, index %ld, limit %ld: %s", i, bad[i].json,
                     err_word(e.code), e.field, (long)e.index, (long)e.limit, e.text);
        arena_free(&a);
    }
}

static void test_a_manifest_is_bounded(void **state)
{
    struct corpus_def def;
    struct arena a = {0};
    struct buf b = {0};
    struct err e;

    (void)state;
    buf_add_text(&b, "{\"dim\":4,\"sample\":{\"x\":\"");
    while (b.len < LIMIT_MANIFEST)
        buf_add_text(&b, "xxxxxxxxxxxxxxxx");
    buf_add(&b, "\"}}", 4);
    assert_int_equal(read_text((const char *)b.data, &a, &def, &e), ERR_TOO_LARGE);
    assert_int_equal(e.limit, LIMIT_MANIFEST);
    buf_free(&b);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_text_and_fingerprint),
        cmocka_unit_test(test_spelling_does_not_matter_and_meaning_does),
        cmocka_unit_test(test_refused_definitions),
        cmocka_unit_test(test_a_manifest_is_bounded),
    };

    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
