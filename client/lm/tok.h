/* tok.h - a byte-pair tokenizer, trained on the corpus it serves.
 *
 * Tokens 0..255 are the bytes, TOK_END is the mark before and after a passage, and every further
 * token is the join of two earlier ones, in the order in which training found them (Sennrich,
 * Haddow, Birch: "Neural machine translation of rare words with subword units", 2016). Text is
 * first cut into words: an optional space and a run of letters, digits or other marks. Any bytes at
 * all encode, and decode to themselves. Immutable after making; any thread may encode. */
#ifndef CLIENT_LM_TOK_H
#define CLIENT_LM_TOK_H

#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"

enum {
    TOK_END = 256,
    TOK_FIRST_MERGE = 257,
    TOK_VOCAB_MIN = 272,   /* a multiple of 16 above the bytes: see shape.h */
    TOK_VOCAB_MAX = 65536,
    TOK_WORD_MAX = 64      /* bytes; longer runs are cut, which bounds the work a text can cause */
};

struct tok_pair {
    uint16_t left, right;
};

struct tok {
    uint32_t vocab;         /* tokens; vocab - TOK_FIRST_MERGE merges */
    struct tok_pair *merge; /* owned; merge[i] makes token TOK_FIRST_MERGE + i */
    unsigned char (*piece)[TOK_WORD_MAX]; /* owned; the bytes of each token */
    uint8_t *piece_len;     /* owned; 0 for TOK_END */
    uint32_t *slot;         /* owned; hash table pair -> token, 0 = empty */
    uint32_t slots;         /* a power of two */
};

struct tok_text {
    const char *bytes;
    size_t len;
};

/* Learns `vocab` tokens. Deterministic: the most frequent pair first, the smaller pair on a tie.
 * When the texts run out of pairs, the vocabulary stays smaller: rounded up to a multiple of 16
 * with tokens that never occur. BUSY when there is no memory, INVALID on a vocab out of range. */
int tok_train(struct tok *t, const struct tok_text *texts, size_t count, uint32_t vocab,
              struct err *e);

/* From stored merges, checked: CORRUPT when one names a token that does not exist yet. A merge of
 * TOK_END with itself marks a token that never occurs. */
int tok_load(struct tok *t, const struct tok_pair *merges, uint32_t vocab, struct err *e);
void tok_free(struct tok *t);

/* Tokens of `len` bytes into out (room for len); returns how many. */
size_t tok_encode(const struct tok *t, const char *bytes, size_t len, uint32_t *out);

/* The bytes of a token and their number; TOK_END has none. */
const unsigned char *tok_piece(const struct tok *t, uint32_t token, size_t *out_len);

/* Length of the first word of a text of `len` > 0 bytes: 1 to TOK_WORD_MAX. */
size_t tok_word(const char *bytes, size_t len);

#endif
