/* test_encoder_wire.c - what an encoder says, cut into answers, however it arrives; what it says of
 * itself; its command line, split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/encoder_about.h"
#include "server/encoder_command.h"
#include "server/encoder_wire.h"
#include "server/limits.h"

static struct err e;

/* ---- the command line ------------------------------------------------------------------------ */

/* Words joined by '|'; "" when the line is refused. */
static const char *split(const char *line)
{
    static char out[1024];
    struct arena a = {0};
    char **words;
    size_t count = 0;

    out[0] = '\0';
    err_clear(&e);
    if (encoder_command_split(line, &a, &words, &count, &e) == 0) {
        assert_null(words[count]);
        for (size_t i = 0; i < count; i++)
            snprintf(out + strlen(out), sizeof out - strlen(out), "%s%s", i ? "|" : "", words[i]);
    }
    arena_free(&a);
    return out;
}

static void test_words(void **state)
{
    (void)state;
    assert_string_equal(split("a b  c"), "a|b|c");
    assert_string_equal(split("  a\t\n b "), "a|b");
    assert_string_equal(split("a 'b c' \"d e\""), "a|b c|d e");
    assert_string_equal(split("a b' 'c\" \"d"), "a|b c d");
    assert_string_equal(split("a '' \"\""), "a||");
    assert_string_equal(split("a\\ b '\\' \"\\\"\\\\\\$\\x\""), "a b|\\|\"\\$\\x");
    assert_string_equal(split("sh -c 'echo \"$HOME\"; ls *'"), "sh|-c|echo \"$HOME\"; ls *");
    assert_string_equal(split("a ~ $B `c` ;"), "a|~|$B|`c`|;");
}

static void test_lines_that_are_none(void **state)
{
    static const char *const bad[] = {"", "  ", "'a", "\"a", "a \"b\\\"", "a\\", "'' a"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_string_equal(split(bad[i]), "");
        assert_int_equal(e.code, ERR_INVALID);
    }
    {
        char many[2 * (ENCODER_WORDS_MAX + 1) + 1] = "";

        for (size_t i = 0; i <= ENCODER_WORDS_MAX; i++)
            strcat(many, "a ");
        assert_string_equal(split(many), "");
        assert_non_null(strstr(e.text, "more than 256"));
    }
}

/* ---- frames ---------------------------------------------------------------------------------- */

static const char talk[] = "{\"id\":1,\"ok\":true,\"name\":\"x\"}\n"
                           "{\"bytes\":5,\"id\":2,\"ok\":true}\n12\n45"
                           "{\"id\":9007199254740992,\"ok\":false,\"error\":\"no\\u0000pe\"}\n"
                           " {\"id\":0,\"ok\":true,\"bytes\":0} \n";

static void check_answer(size_t number, const struct encoder_answer *a)
{
    static const uint64_t ids[] = {1, 2, UINT64_C(9007199254740992), 0};

    assert_true(number < 4);
    assert_int_equal(a->id, ids[number]);
    assert_int_equal(a->ok, number != 2);
    assert_int_equal(a->body.len, number == 1 ? 5 : 0);
    if (number == 1)
        assert_memory_equal(a->body.data, "12\n45", 5);
    if (number == 2)
        assert_string_equal(a->error, "no");
}

/* Feeds in parts of the sizes that next() gives. */
static void feed(size_t (*next)(void))
{
    struct encoder_frames f = {0};
    struct encoder_answer a;
    size_t at = 0, answers = 0;

    while (at < sizeof talk - 1) {
        size_t part = next(), used;
        bool whole;

        if (part > sizeof talk - 1 - at)
            part = sizeof talk - 1 - at;
        assert_int_equal(encoder_frames_feed(&f, talk + at, part, &used, &whole, &e), 0);
        assert_true(used > 0 && used <= part);
        at += used;
        if (whole) {
            encoder_frames_take(&f, &a);
            check_answer(answers++, &a);
            encoder_answer_free(&a);
            assert_false(encoder_frames_begun(&f));
        }
    }
    assert_int_equal(answers, 4);
    encoder_frames_free(&f);
}

static size_t one(void)
{
    return 1;
}

static size_t all(void)
{
    return sizeof talk;
}

static uint64_t seed = 1;

static uint64_t some(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return seed >> 33;
}

static size_t few(void)
{
    return 1 + (size_t)some() % 13;
}

static void test_answers_however_they_arrive(void **state)
{
    (void)state;
    feed(one);
    feed(all);
    for (int i = 0; i < 1000; i++)
        feed(few);
}

/* What a stream that ends in an error says. */
static int refused(const char *text, size_t len)
{
    struct encoder_frames f = {0};
    struct encoder_answer a;
    size_t at = 0, used;
    bool whole;
    int code = 0;

    err_clear(&e);
    while (!code && at < len) {
        code = encoder_frames_feed(&f, text + at, len - at, &used, &whole, &e);
        if (!code && whole) {
            encoder_frames_take(&f, &a);
            encoder_answer_free(&a);
        }
        at += code ? 0 : used;
    }
    encoder_frames_free(&f);
    return code;
}

static void test_what_makes_no_sense(void **state)
{
    static const struct {
        const char *line, *says;
    } bad[] = {
        {"hello\n", "is no JSON object: \"hello\""},
        {"\n", "is no JSON object"},
        {"[1]\n", "is no JSON object"},
        {"{\"id\":1,\"id\":1,\"ok\":true}\n", "is no JSON object"},
        {"{\"ok\":true}\n", "has no id"},
        {"{\"id\":\"1\",\"ok\":true}\n", "has no id"},
        {"{\"id\":-1,\"ok\":true}\n", "has no id"},
        {"{\"id\":1.5,\"ok\":true}\n", "has no id"},
        {"{\"id\":1e300,\"ok\":true}\n", "has no id"},
        {"{\"id\":1}\n", "has no ok"},
        {"{\"id\":1,\"ok\":1}\n", "has no ok"},
        {"{\"id\":1,\"ok\":false}\n", "is not ok and has no error"},
        {"{\"id\":1,\"ok\":true,\"bytes\":-1}\n", "bytes that are no count"},
        {"{\"id\":1,\"ok\":true,\"bytes\":\"9\"}\n", "bytes that are no count"},
        {"{\"id\":1,\"ok\":true,\"bytes\":33554433}\n", "announces 33554433 bytes"},
        {"\xff\xfe\n", "is no JSON object: \"\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(refused(bad[i].line, strlen(bad[i].line)), ERR_ENCODER);
        if (!strstr(e.text, bad[i].says))
            fail_msg("%s: %s", bad[i].line, e.text);
    }
}

static void test_a_line_without_end(void **state)
{
    size_t len = LIMIT_ENCODER_LINE + 1;
    char *line = malloc(len);

    (void)state;
    memset(line, ' ', len);
    assert_int_equal(refused(line, len - 1), 0);
    assert_int_equal(refused(line, len), ERR_ENCODER);
    assert_non_null(strstr(e.text, "more than 1048576 bytes"));
    free(line);
}

/* Any bytes at all: an answer, or a reason. */
static void test_noise(void **state)
{
    static const char letters[] = "{}[]\":,0123456789truefalsnidokby \n\\\x80\xc3";
    char text[160];

    (void)state;
    for (int i = 0; i < 50000; i++) {
        size_t len = 1 + (size_t)some() % (sizeof text - 1);

        for (size_t k = 0; k < len; k++)
            text[k] = letters[some() % (sizeof letters - 1)];
        if (refused(text, len))
            assert_true(e.code == ERR_ENCODER && e.text[0]);
    }
    for (int i = 0; i < 50000; i++) { /* one byte of a good one changed */
        memcpy(text, talk, sizeof text < sizeof talk ? sizeof text : sizeof talk);
        text[some() % sizeof text] = (char)some();
        refused(text, sizeof text < sizeof talk - 1 ? sizeof text : sizeof talk - 1);
    }
}

/* ---- hello ----------------------------------------------------------------------------------- */

static int about(const char *text, struct encoder_about *a)
{
    json_t *head = json_loads(text, JSON_DECODE_INT_AS_REAL, NULL);
    int code;

    assert_non_null(head);
    *a = (struct encoder_about){0};
    err_clear(&e);
    code = encoder_about_read(head, a, &e);
    json_decref(head);
    return code;
}

static void test_hello(void **state)
{
    static const struct {
        const char *head, *says;
    } bad[] = {
        {"{\"model\":\"m\",\"dim\":4,\"verbs\":[\"encode\"]}", "needs name"},
        {"{\"name\":7,\"model\":\"m\",\"dim\":4,\"verbs\":[\"encode\"]}", "needs name"},
        {"{\"name\":\"n\",\"dim\":4,\"verbs\":[\"encode\"]}", "needs model"},
        {"{\"name\":\"n\",\"model\":\"m\",\"verbs\":[\"encode\"]}", "needs dim"},
        {"{\"name\":\"n\",\"model\":\"m\",\"dim\":1.5,\"verbs\":[\"encode\"]}", "needs dim"},
        {"{\"name\":\"n\",\"model\":\"m\",\"dim\":1048577,\"verbs\":[\"encode\"]}", "needs dim"},
        {"{\"name\":\"n\",\"model\":\"m\",\"dim\":4}", "needs verbs"},
        {"{\"name\":\"n\",\"model\":\"m\",\"dim\":4,\"verbs\":[1]}", "needs verbs"},
        {"{\"name\":\"n\",\"model\":\"m\",\"fingerprint\":1,\"dim\":4,\"verbs\":[\"encode\"]}",
         "needs fingerprint"},
    };
    struct encoder_about a;

    (void)state;
    assert_int_equal(about("{\"name\":\"n\",\"model\":\"m\",\"dim\":1048576,\"fingerprint\":null,"
                           "\"verbs\":[\"encode\",\"a verb that is far too long\",\"explain\"]}",
                           &a),
                     0);
    assert_string_equal(a.name, "n");
    assert_int_equal(a.dim, 1048576);
    assert_true(encoder_has_verb(&a, "encode") && encoder_has_verb(&a, "explain"));
    assert_false(encoder_has_verb(&a, "continue"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(about(bad[i].head, &a), ERR_ENCODER);
        if (!strstr(e.text, bad[i].says))
            fail_msg("%s: %s", bad[i].head, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_lines_that_are_none),
        cmocka_unit_test(test_answers_however_they_arrive),
        cmocka_unit_test(test_what_makes_no_sense),
        cmocka_unit_test(test_a_line_without_end),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_hello),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
