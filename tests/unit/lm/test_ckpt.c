/* test_ckpt.c - a checkpoint comes back bit for bit, and anything else is refused with a reason. */
#include "tests/unit/lm/fixture.h"

#include "storage/base/bytes.h"

struct saved {
    char *folder, *path;
    struct model model;
    unsigned char *bytes; /* of the good file */
    size_t len;
};

static int set_up(void **state, enum model_optimizer optimizer)
{
    struct saved *s = mem_new(1, sizeof *s);
    struct err e = ERR_INIT;

    s->folder = fixture_folder();
    s->path = fixture_path(s->folder, "model.ckpt");
    s->model = fixture_model(optimizer);
    assert_int_equal(ckpt_save(&s->model, s->path, &e), 0);
    s->bytes = fixture_read(s->path, &s->len);
    *state = s;
    return 0;
}

static int set_up_adam(void **state)
{
    return set_up(state, MODEL_ADAM);
}

static int set_up_adafactor(void **state)
{
    return set_up(state, MODEL_ADAFACTOR);
}

static int tear_down(void **state)
{
    struct saved *s = *state;

    model_free(&s->model);
    free(s->bytes);
    free(s->path);
    fixture_remove(s->folder);
    free(s);
    return 0;
}

static void test_round_trip(void **state)
{
    struct saved *s = *state;
    const size_t n = shape_params(&s->model.shape) * sizeof(float);
    struct err e = ERR_INIT;
    struct model m;

    fixture_write(s->path, s->bytes, s->len);
    assert_int_equal(ckpt_load(&m, s->path, &e), 0);
    assert_memory_equal(&m.shape, &s->model.shape, sizeof m.shape);
    assert_memory_equal(m.params, s->model.params, n);
    assert_int_equal(m.optimizer, s->model.optimizer);
    assert_memory_equal(m.second, s->model.second,
                        model_second_count(&m.shape, m.optimizer) * sizeof(float));
    assert_int_equal(m.steps, s->model.steps);
    assert_int_equal(m.seed, s->model.seed);
    assert_true(m.loss == s->model.loss);
    assert_string_equal(m.fingerprint, s->model.fingerprint);
    assert_memory_equal(m.tok.merge, s->model.tok.merge,
                        (m.tok.vocab - TOK_FIRST_MERGE) * sizeof *m.tok.merge);
    model_free(&m);
}

/* The file as given must be refused as CORRUPT, with a text. */
static void refuse(const struct saved *s, const void *bytes, size_t len, const char *what)
{
    struct err e = ERR_INIT;
    struct model m;
    int rc;

    fixture_write(s->path, bytes, len);
    rc = ckpt_load(&m, s->path, &e);
    if (rc != ERR_CORRUPT)
        fail_msg("%s: %s", what, rc ? e.text : "was taken");
    assert_non_null(strstr(e.text, s->path));
    assert_null(m.params);
}

static void test_cut_short_anywhere(void **state)
{
    struct saved *s = *state;
    const size_t header = 8 + (size_t)bytes_get_le64(s->bytes);
    char what[64];

    for (size_t len = 0; len < s->len; len += len < header + 64 ? 7 : s->len / 97 + 1) {
        snprintf(what, sizeof what, "cut to %zu bytes", len);
        refuse(s, s->bytes, len, what);
    }
    refuse(s, s->bytes, s->len - 1, "one byte short");
}

static void test_any_bit_changed(void **state)
{
    struct saved *s = *state;
    const size_t header = 8 + (size_t)bytes_get_le64(s->bytes);
    unsigned char *bytes = mem_new(s->len, 1);
    char what[64];

    memcpy(bytes, s->bytes, s->len);
    for (size_t at = 0; at < s->len; at += at < header ? 3 : s->len / 211 + 1) {
        const unsigned char bit = (unsigned char)(1u << (at % 8));
        bytes[at] ^= bit;
        snprintf(what, sizeof what, "bit changed in byte %zu", at);
        refuse(s, bytes, s->len, what);
        bytes[at] ^= bit;
    }
    free(bytes);
}

static void test_longer(void **state)
{
    struct saved *s = *state;
    unsigned char *bytes = mem_new(s->len + 1, 1);

    memcpy(bytes, s->bytes, s->len);
    refuse(s, bytes, s->len + 1, "one byte more");
    free(bytes);
}

static void test_header_lengths(void **state)
{
    static const uint64_t lengths[] = {0, 1, 1 << 20, (1 << 20) + 1, UINT32_MAX, UINT64_MAX,
                                       UINT64_MAX - 7};
    struct saved *s = *state;
    unsigned char *bytes = mem_new(s->len, 1);

    memcpy(bytes, s->bytes, s->len);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        bytes_put_le64(bytes, lengths[i]);
        refuse(s, bytes, s->len, "header length");
    }
    free(bytes);
}

struct forgery {
    const char *from, *to, *why;
};

static void refuse_forgeries(const struct saved *s, const struct forgery *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char *bytes = mem_new(s->len, 1);
        struct err e = ERR_INIT;
        struct model m;
        char *at;
        memcpy(bytes, s->bytes, s->len);
        at = memmem(bytes, s->len, cases[i].from, strlen(cases[i].from));
        assert_non_null(at);
        assert_int_equal(strlen(cases[i].from), strlen(cases[i].to));
        memcpy(at, cases[i].to, strlen(cases[i].to));
        fixture_write(s->path, bytes, s->len);
        assert_int_equal(ckpt_load(&m, s->path, &e), ERR_CORRUPT);
        if (!strstr(e.text, cases[i].why))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].to, e.text, cases[i].why);
        free(bytes);
    }
}

/* A header that is JSON and ours in form, with facts that are not. */
static void test_facts(void **state)
{
    static const struct forgery cases[] = {
        {"\"format\":\"ascribe-lm\"", "\"format\":\"someone-lm\"", "format"},
        {"\"version\":\"1\"", "\"version\":\"3\"", "this program reads versions 1 and 2"},
        {"\"version\":\"1\"", "\"version\":\"2\"", "version 2 with optimizer \"\""},
        {"\"heads\":\"2\"", "\"heads\":\"4\"", "damaged"},
        {"\"heads\":\"2\"", "\"heads\":\"0\"", "heads"},
        {"\"heads\":\"2\"", "\"heads\":\"-\"", "\"heads\" is"},
        {"\"layers\":\"2\"", "\"layers\":\"3\"", "does not fit the sizes"},
        {"\"width\":\"32\"", "\"width\":\"48\"", "does not fit the sizes"},
        {"\"steps\":\"10\"", "\"steps\":\"11\"", "damaged"},
        {"\"layers\"", "\"lavers\"", "no \"layers\""},
    };

    refuse_forgeries(*state, cases, sizeof cases / sizeof cases[0]);
}

static void test_facts_of_adafactor(void **state)
{
    static const struct forgery cases[] = {
        {"\"version\":\"2\"", "\"version\":\"1\"", "does not fit the sizes"},
        {"\"optimizer\":\"adafactor\"", "\"optimizer\":\"adafactoR\"", "optimizer \"adafactoR\""},
        {"\"optimizer\":\"adafactor\"", "\"optimiser\":\"adafactor\"", "with optimizer \"\""},
        {"adafactor.row.h0.attn.qkv", "adafactor.row.h1.attn.qkv", "is no JSON"},
        {"adafactor.row.h0.attn.qkv", "adafactor.roW.h0.attn.qkv", "does not fit the sizes"},
        {"adafactor.col.h1.mlp.in", "adafactor.col.h1.mlp.on", "does not fit the sizes"},
        {"adafactor.second.h1.norm2", "adafactor.second.h1.norm3", "does not fit the sizes"},
        {"\"heads\":\"2\"", "\"heads\":\"4\"", "damaged"},
    };

    refuse_forgeries(*state, cases, sizeof cases / sizeof cases[0]);
}

static void test_not_a_file(void **state)
{
    struct saved *s = *state;
    struct err e = ERR_INIT;
    struct model m;

    assert_int_equal(ckpt_load(&m, "/nonexistent/model", &e), ERR_IO);
    assert_int_equal(ckpt_load(&m, s->folder, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "not a regular file"));
    refuse(s, "", 0, "an empty file");
}

/* Adam's files are what they were before there was another optimiser; Adafactor's have both factors
 * of every matrix, and vectors in full. */
static void test_names(void **state)
{
    static const char *const adafactor[] = {
        "\"version\":\"2\"", "\"optimizer\":\"adafactor\"",
        "\"adafactor.row.embed.token\":{\"dtype\":\"F32\",\"shape\":[320]",
        "\"adafactor.row.h0.attn.qkv\":{\"dtype\":\"F32\",\"shape\":[96]",
        "\"adafactor.col.h1.mlp.out\":{\"dtype\":\"F32\",\"shape\":[128]",
        "\"adafactor.second.norm\":{\"dtype\":\"F32\",\"shape\":[32]"};
    const struct saved *s = *state;
    const bool adam = s->model.optimizer == MODEL_ADAM;
    const size_t len = (size_t)bytes_get_le64(s->bytes);

    for (size_t i = 0; i < sizeof adafactor / sizeof adafactor[0]; i++)
        if (!memmem(s->bytes + 8, len, adafactor[i], strlen(adafactor[i])) != adam)
            fail_msg("%s: %s", adafactor[i], adam ? "is there" : "is not there");
    assert_true(!memmem(s->bytes + 8, len, "adam.second.", 12) != adam);
    assert_true(!memmem(s->bytes + 8, len, "\"version\":\"1\"", 13) != adam);
    assert_true(!memmem(s->bytes + 8, len, "optimizer", 9) == adam);
}

static void test_save_where_it_cannot(void **state)
{
    struct saved *s = *state;
    struct err e = ERR_INIT;

    assert_int_equal(ckpt_save(&s->model, "/nonexistent/model", &e), ERR_IO);
    assert_non_null(strstr(e.text, "/nonexistent/model"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cut_short_anywhere),
        cmocka_unit_test(test_any_bit_changed),
        cmocka_unit_test(test_longer),
        cmocka_unit_test(test_header_lengths),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_not_a_file),
        cmocka_unit_test(test_save_where_it_cannot),
        cmocka_unit_test(test_names),
    };
    const struct CMUnitTest adafactor[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_cut_short_anywhere),
        cmocka_unit_test(test_any_bit_changed), cmocka_unit_test(test_longer),
        cmocka_unit_test(test_header_lengths),  cmocka_unit_test(test_facts_of_adafactor),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, set_up_adam, tear_down) +
           cmocka_run_group_tests(adafactor, set_up_adafactor, tear_down);
}
