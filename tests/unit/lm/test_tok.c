/* test_tok.c - the tokenizer: any bytes come back, training is deterministic and in order, stored
 * merges are checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/lm/rng.h"
#include "client/lm/tok.h"

static const char *const sentences[] = {
    "Paris: the capital and largest city of France.",
    "Rome: the capital and largest city of Italy.",
    "caf\xC3\xA9: a small restaurant where drinks and snacks are sold.",
    "1945: the year in which the second world war ended; 1945.",
};

enum { SENTENCES = sizeof sentences / sizeof sentences[0] };

static struct tok trained(uint32_t vocab)
{
    struct tok_text texts[SENTENCES];
    struct err e = ERR_INIT;
    struct tok t;

    for (size_t i = 0; i < SENTENCES; i++)
        texts[i] = (struct tok_text){sentences[i], strlen(sentences[i])};
    assert_int_equal(tok_train(&t, texts, SENTENCES, vocab, &e), 0);
    return t;
}

static void check_round_trip(const struct tok *t, const char *bytes, size_t len)
{
    uint32_t *tokens = malloc((len + 1) * sizeof *tokens);
    size_t count = tok_encode(t, bytes, len, tokens), at = 0;

    assert_true(count <= len);
    for (size_t i = 0; i < count; i++) {
        size_t piece_len;
        const unsigned char *piece = tok_piece(t, tokens[i], &piece_len);
        assert_true(piece_len > 0 && at + piece_len <= len);
        assert_memory_equal(piece, bytes + at, piece_len);
        at += piece_len;
    }
    assert_int_equal(at, len);
    free(tokens);
}

static void test_any_bytes_come_back(void **state)
{
    struct tok t = trained(512);
    struct rng rng;
    char bytes[700];

    (void)state;
    rng_init(&rng, 7, RNG_SAMPLE, 0);
    for (size_t i = 0; i < SENTENCES; i++)
        check_round_trip(&t, sentences[i], strlen(sentences[i]));
    for (int round = 0; round < 2000; round++) {
        size_t len = rng_below(&rng, sizeof bytes);
        /* few different bytes make long runs and many merges, all bytes make none */
        uint32_t kinds = 1 + rng_below(&rng, 256);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)(round % 2 ? rng_below(&rng, kinds) : ' ' + rng_below(&rng, 90));
        check_round_trip(&t, bytes, len);
    }
    memset(bytes, 'e', sizeof bytes);
    check_round_trip(&t, bytes, sizeof bytes);
    memset(bytes, ' ', sizeof bytes);
    check_round_trip(&t, bytes, sizeof bytes);
    tok_free(&t);
}

static void test_training_is_deterministic(void **state)
{
    struct tok a = trained(320), b = trained(320);

    (void)state;
    assert_int_equal(a.vocab, 320);
    assert_memory_equal(a.merge, b.merge, (a.vocab - TOK_FIRST_MERGE) * sizeof *a.merge);
    tok_free(&a);
    tok_free(&b);
}

/* "ab" 3 times, "bc" twice, "cd" once: merges by count, and by the smaller pair on a tie. */
static void test_the_most_frequent_pair_is_first(void **state)
{
    const struct tok_text texts[] = {{"ab ab ab bc bc cd", 17}};
    struct err e = ERR_INIT;
    struct tok t;

    (void)state;
    assert_int_equal(tok_train(&t, texts, 1, 272, &e), 0);
    /* words: "ab", " ab" twice, " bc" twice, " cd": a+b 3; ' '+a 2 = ' '+b 2 = b+c 2, ' ' first */
    assert_int_equal(t.merge[0].left, 'a');
    assert_int_equal(t.merge[0].right, 'b');
    assert_int_equal(t.merge[1].left, ' ');
    assert_int_equal(t.merge[1].right, 'b'); /* ' '+a went with the first merge */
    tok_free(&t);
}

static void test_a_small_corpus_gives_a_smaller_vocabulary(void **state)
{
    const struct tok_text texts[] = {{"aa", 2}};
    struct err e = ERR_INIT;
    struct tok t;
    size_t len;

    (void)state;
    assert_int_equal(tok_train(&t, texts, 1, 2048, &e), 0);
    assert_int_equal(t.vocab, 272);
    assert_string_equal((const char *)tok_piece(&t, 257, &len), "aa");
    assert_int_equal(len, 2);
    tok_piece(&t, 258, &len);
    assert_int_equal(len, 0); /* filler */
    check_round_trip(&t, "aaaa b", 6);
    tok_free(&t);
}

static void test_sizes_out_of_range(void **state)
{
    static const uint32_t bad[] = {0, 256, 257, 271, 273, 65537, 1u << 31};
    const struct tok_text texts[] = {{"aa", 2}};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err e = ERR_INIT;
        struct tok t;
        assert_int_equal(tok_train(&t, texts, 1, bad[i], &e), ERR_INVALID);
        assert_non_null(strstr(e.text, "vocabulary of"));
    }
}

static void test_stored_merges_are_checked(void **state)
{
    static const struct {
        struct tok_pair second; /* of two merges; the first joins a and b */
        const char *why;
    } bad[] = {
        {{300, 'a'}, "do not exist before it"},
        {{'a', 258}, "do not exist before it"},
        {{TOK_END, 'a'}, "do not exist before it"},
        {{'a', TOK_END}, "do not exist before it"},
        {{'a', 'b'}, "a second time"},
    };
    struct tok_pair merges[15];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err e = ERR_INIT;
        struct tok t;
        for (size_t m = 0; m < 15; m++)
            merges[m] = (struct tok_pair){TOK_END, TOK_END};
        merges[0] = (struct tok_pair){'a', 'b'};
        merges[1] = bad[i].second;
        assert_int_equal(tok_load(&t, merges, 272, &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, bad[i].why));
    }
    for (uint16_t m = 0; m < 15; m++) /* doubling: 2, 4, ... 64, 128 bytes */
        merges[m] = m ? (struct tok_pair){(uint16_t)(256 + m), (uint16_t)(256 + m)}
                      : (struct tok_pair){'a', 'a'};
    {
        struct err e = ERR_INIT;
        struct tok t;
        assert_int_equal(tok_load(&t, merges, 272, &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, "128 bytes, at most 64"));
    }
}

static void test_words(void **state)
{
    static const struct {
        const char *text;
        size_t first;
    } cases[] = {{"the cat", 3}, {" cat", 4},  {"  cat", 2}, {"12a", 2},           {"a1", 1},
                 {"...a", 3},    {" (a", 2},   {"\n\n a", 3}, {"caf\xC3\xA9 x", 5}, {" ", 1}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t want = cases[i].first, got = tok_word(cases[i].text, strlen(cases[i].text));
        if (want != got)
            fail_msg("\"%s\": first word of %zu bytes, expected %zu", cases[i].text, got, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_bytes_come_back),
        cmocka_unit_test(test_training_is_deterministic),
        cmocka_unit_test(test_the_most_frequent_pair_is_first),
        cmocka_unit_test(test_a_small_corpus_gives_a_smaller_vocabulary),
        cmocka_unit_test(test_sizes_out_of_range),
        cmocka_unit_test(test_stored_merges_are_checked),
        cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
