/* tok.c - see tok.h: cutting text into words, and encoding them by the learned merges.
 * Learning the merges is in tok_train.c. */
#include "client/lm/tok.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

enum class { CLASS_SPACE, CLASS_LETTER, CLASS_DIGIT, CLASS_MARK };

/* Bytes from 0x80 on are letters, so that no UTF-8 character is cut in two by its class. */
static enum class class_of(char c)
{
    unsigned char u = (unsigned char)c;

    if (u == ' ' || (u >= '\t' && u <= '\r'))
        return CLASS_SPACE;
    if (u >= 0x80 || (u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z'))
        return CLASS_LETTER;
    return u >= '0' && u <= '9' ? CLASS_DIGIT : CLASS_MARK;
}

size_t tok_word(const char *bytes, size_t len)
{
    size_t max = len < TOK_WORD_MAX ? len : TOK_WORD_MAX, at = 0;
    enum class c;

    if (bytes[0] == ' ' && max > 1 && class_of(bytes[1]) != CLASS_SPACE)
        at = 1;
    c = class_of(bytes[at]);
    while (at < max && class_of(bytes[at]) == c)
        at++;
    return at;
}

static uint32_t slot_of(const struct tok *t, struct tok_pair p)
{
    uint32_t key = (uint32_t)p.left << 16 | p.right;

    return (key * 2654435761u) >> 7 & (t->slots - 1); /* Knuth's multiplicative hash */
}

/* The token that joins two, or 0. */
static uint32_t joined(const struct tok *t, uint32_t left, uint32_t right)
{
    struct tok_pair p = {(uint16_t)left, (uint16_t)right};

    for (uint32_t s = slot_of(t, p);; s = (s + 1) & (t->slots - 1)) {
        uint32_t token = t->slot[s];
        const struct tok_pair *m;
        if (token == 0)
            return 0;
        m = &t->merge[token - TOK_FIRST_MERGE];
        if (m->left == p.left && m->right == p.right)
            return token;
    }
}

/* Merges in the order in which they were learned: always the lowest token that some pair makes. */
static size_t encode_word(const struct tok *t, const char *bytes, size_t len, uint32_t *out)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)bytes[i];
    for (;;) {
        uint32_t best = 0;
        size_t kept = 0;
        for (size_t i = 0; i + 1 < len; i++) {
            uint32_t token = joined(t, out[i], out[i + 1]);
            if (token && (!best || token < best))
                best = token;
        }
        if (!best)
            return len;
        for (size_t i = 0; i < len; kept++) {
            const struct tok_pair *m = &t->merge[best - TOK_FIRST_MERGE];
            bool here = i + 1 < len && out[i] == m->left && out[i + 1] == m->right;
            out[kept] = here ? best : out[i];
            i += here ? 2 : 1;
        }
        len = kept;
    }
}

size_t tok_encode(const struct tok *t, const char *bytes, size_t len, uint32_t *out)
{
    size_t count = 0;

    for (size_t at = 0; at < len;) {
        size_t word = tok_word(bytes + at, len - at);
        count += encode_word(t, bytes + at, word, out + count);
        at += word;
    }
    return count;
}

const unsigned char *tok_piece(const struct tok *t, uint32_t token, size_t *out_len)
{
    require(token < t->vocab);
    *out_len = t->piece_len[token];
    return t->piece[token];
}

static int allocate(struct tok *t, uint32_t vocab, struct err *e)
{
    *t = (struct tok){.vocab = vocab, .slots = 1024};
    while (t->slots < 4 * vocab)
        t->slots *= 2;
    t->merge = mem_big(vocab, sizeof *t->merge);
    t->piece = mem_big(vocab, sizeof *t->piece);
    t->piece_len = mem_big(vocab, sizeof *t->piece_len);
    t->slot = mem_big(t->slots, sizeof *t->slot);
    if (!t->merge || !t->piece || !t->piece_len || !t->slot) {
        tok_free(t);
        return err_set(e, ERR_BUSY, "no memory for a vocabulary of %u", vocab);
    }
    memset(t->slot, 0, t->slots * sizeof *t->slot);
    memset(t->piece, 0, vocab * sizeof *t->piece);
    memset(t->piece_len, 0, vocab * sizeof *t->piece_len);
    for (uint32_t i = 0; i < 256; i++) {
        t->piece[i][0] = (unsigned char)i;
        t->piece_len[i] = 1;
    }
    return 0;
}

static int add_merge(struct tok *t, uint32_t token, struct tok_pair p, struct err *e)
{
    size_t left, right;
    uint32_t s;

    t->merge[token - TOK_FIRST_MERGE] = p;
    if (p.left == TOK_END && p.right == TOK_END)
        return 0; /* filler: never made, has no bytes */
    if (p.left >= token || p.right >= token || !t->piece_len[p.left] || !t->piece_len[p.right])
        return err_set(e, ERR_CORRUPT, "token %u joins %u and %u, which do not exist before it",
                       token, p.left, p.right);
    if (joined(t, p.left, p.right))
        return err_set(e, ERR_CORRUPT, "token %u joins %u and %u a second time", token, p.left,
                       p.right);
    left = t->piece_len[p.left];
    right = t->piece_len[p.right];
    if (left + right > TOK_WORD_MAX)
        return err_set(e, ERR_CORRUPT, "token %u has %zu bytes, at most %d", token, left + right,
                       TOK_WORD_MAX);
    memcpy(t->piece[token], t->piece[p.left], left);
    memcpy(t->piece[token] + left, t->piece[p.right], right);
    t->piece_len[token] = (uint8_t)(left + right);
    for (s = slot_of(t, p); t->slot[s]; s = (s + 1) & (t->slots - 1))
        ;
    t->slot[s] = token;
    return 0;
}

int tok_load(struct tok *t, const struct tok_pair *merges, uint32_t vocab, struct err *e)
{
    int rc;

    if (vocab < TOK_VOCAB_MIN || vocab > TOK_VOCAB_MAX || vocab % 16)
        return err_set(e, ERR_INVALID, "vocabulary of %u: a multiple of 16 from %d to %d", vocab,
                       TOK_VOCAB_MIN, TOK_VOCAB_MAX);
    rc = allocate(t, vocab, e);
    for (uint32_t token = TOK_FIRST_MERGE; token < vocab && !rc; token++) {
        rc = add_merge(t, token, merges[token - TOK_FIRST_MERGE], e);
        if (rc)
            tok_free(t);
    }
    return rc;
}

void tok_free(struct tok *t)
{
    free(t->merge);
    free(t->piece);
    free(t->piece_len);
    free(t->slot);
    *t = (struct tok){0};
}
