/* fuzz_tok.c - a tokenizer's merges from a file (count first, one byte), and a text for it. Any text
 * encodes, into tokens that exist, and decodes to itself. */
#include "tests/fuzz/fuzz.h"

#include "client/lm/tok.h"

static void round_trip(const struct tok *t, const char *text, size_t len)
{
    uint32_t *tokens = malloc((len + 1) * sizeof *tokens);
    size_t count, at = 0;

    fuzz_require(tokens);
    count = tok_encode(t, text, len, tokens);
    fuzz_require(count <= len);
    for (size_t i = 0; i < count; i++) {
        size_t piece_len;
        const unsigned char *piece;

        fuzz_require(tokens[i] < t->vocab && tokens[i] != TOK_END);
        piece = tok_piece(t, tokens[i], &piece_len);
        fuzz_require(piece_len > 0 && piece_len <= len - at && !memcmp(text + at, piece, piece_len));
        at += piece_len;
    }
    fuzz_require(at == len);
    free(tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t merges = size ? (uint32_t)data[0] : 0;
    struct tok_pair *pairs;
    struct err e = ERR_INIT;
    struct tok t;

    merges |= 15; /* TOK_FIRST_MERGE + 15 is the smallest vocabulary: a multiple of 16 */
    if (size < 1 + merges * sizeof *pairs)
        return 0;
    pairs = fuzz_exact(data + 1, merges * sizeof *pairs);
    if (!tok_load(&t, pairs, TOK_FIRST_MERGE + merges, &e)) {
        round_trip(&t, (const char *)data + 1 + merges * sizeof *pairs,
                   size - 1 - merges * sizeof *pairs);
        tok_free(&t);
    }
    free(pairs);
    return 0;
}
