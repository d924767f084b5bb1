/* tok_train.c - learns a tokenizer's merges (tok.h) from texts.
 *
 * Works on the distinct words and how often each occurs. Each round takes the most frequent pair,
 * joins it in the words that hold it, and keeps the pair counts up to date by taking those words'
 * pairs out before and putting them in after. Single-threaded; about a second for 20,000
 * passages. */
#include <stdlib.h>
#include <string.h>

#include "client/lm/tok.h"
#include "storage/base/mem.h"

struct word {
    uint32_t start;   /* of its symbols in `symbols` */
    uint32_t count;   /* symbols now */
    uint32_t bytes;   /* symbols at first */
    uint32_t spare;
    int64_t times;    /* occurrences in the texts */
};

struct pair_count {
    uint32_t key; /* left << 16 | right */
    uint32_t used;
    int64_t times;
};

struct learner {
    struct word *words; /* owned */
    size_t word_count, word_cap;
    uint16_t *symbols;  /* owned */
    size_t symbol_count, symbol_cap;
    uint32_t *index;    /* owned; hash table of words: number + 1, 0 = empty */
    size_t index_slots;
    struct pair_count *pairs; /* owned; hash table */
    size_t pair_count, pair_slots;
    bool failed;        /* out of memory: sticky, asked once at the end */
};

static void *grown(struct learner *l, void *p, size_t count, size_t size)
{
    size_t bytes;
    void *q = mem_mul(count, size, &bytes) ? realloc(p, bytes) : NULL;

    if (!q) {
        l->failed = true;
        return p;
    }
    return q;
}

/* FNV-1a over the first symbols, which are the bytes. */
static uint64_t hash_bytes(const char *bytes, size_t len)
{
    uint64_t h = 14695981039346656037u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)bytes[i]) * 1099511628211u;
    return h ^ h >> 29;
}

static bool same_word(const struct learner *l, const struct word *w, const char *bytes, size_t len)
{
    if (w->bytes != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (l->symbols[w->start + i] != (unsigned char)bytes[i])
            return false;
    return true;
}

static void rehash_words(struct learner *l)
{
    size_t slots = l->index_slots ? l->index_slots * 2 : 1 << 16;
    uint32_t *index = mem_big(slots, sizeof *index);

    if (!index) {
        l->failed = true;
        return;
    }
    memset(index, 0, slots * sizeof *index);
    for (size_t n = 0; n < l->word_count; n++) {
        const struct word *w = &l->words[n];
        char bytes[TOK_WORD_MAX];
        size_t s;
        for (size_t i = 0; i < w->bytes; i++)
            bytes[i] = (char)l->symbols[w->start + i];
        for (s = hash_bytes(bytes, w->bytes) & (slots - 1); index[s]; s = (s + 1) & (slots - 1))
            ;
        index[s] = (uint32_t)n + 1;
    }
    free(l->index);
    l->index = index;
    l->index_slots = slots;
}

static void new_word(struct learner *l, size_t slot, const char *bytes, size_t len)
{
    struct word *w;

    if (l->word_count == l->word_cap) {
        size_t cap = l->word_cap ? l->word_cap * 2 : 4096;
        l->words = grown(l, l->words, cap, sizeof *l->words);
        l->word_cap = l->failed ? l->word_cap : cap;
    }
    if (l->symbol_count + len > l->symbol_cap) {
        size_t cap = l->symbol_cap ? l->symbol_cap * 2 : 1 << 16;
        l->symbols = grown(l, l->symbols, cap, sizeof *l->symbols);
        l->symbol_cap = l->failed ? l->symbol_cap : cap;
    }
    if (l->failed || l->symbol_count + len > UINT32_MAX) {
        l->failed = true;
        return;
    }
    w = &l->words[l->word_count++];
    *w = (struct word){.start = (uint32_t)l->symbol_count,
                       .count = (uint32_t)len,
                       .bytes = (uint32_t)len,
                       .times = 1};
    for (size_t i = 0; i < len; i++)
        l->symbols[l->symbol_count++] = (unsigned char)bytes[i];
    l->index[slot] = (uint32_t)l->word_count;
}

static void count_word(struct learner *l, const char *bytes, size_t len)
{
    if (2 * l->word_count >= l->index_slots)
        rehash_words(l);
    if (l->failed)
        return;
    for (size_t s = hash_bytes(bytes, len) & (l->index_slots - 1);;
         s = (s + 1) & (l->index_slots - 1)) {
        if (l->index[s] == 0) {
            new_word(l, s, bytes, len);
            return;
        }
        if (same_word(l, &l->words[l->index[s] - 1], bytes, len)) {
            l->words[l->index[s] - 1].times++;
            return;
        }
    }
}

static struct pair_count *pair_slot(struct pair_count *pairs, size_t slots, uint32_t key)
{
    size_t s = (size_t)(key * 0x9E3779B97F4A7C15u >> 32) & (slots - 1);

    while (pairs[s].used && pairs[s].key != key)
        s = (s + 1) & (slots - 1);
    return &pairs[s];
}

static void rehash_pairs(struct learner *l)
{
    size_t slots = l->pair_slots ? l->pair_slots * 2 : 1 << 14;
    struct pair_count *pairs = mem_big(slots, sizeof *pairs);

    if (!pairs) {
        l->failed = true;
        return;
    }
    memset(pairs, 0, slots * sizeof *pairs);
    l->pair_count = 0;
    for (size_t i = 0; i < l->pair_slots; i++)
        if (l->pairs[i].times > 0) { /* pairs that are gone are dropped here */
            *pair_slot(pairs, slots, l->pairs[i].key) = l->pairs[i];
            l->pair_count++;
        }
    free(l->pairs);
    l->pairs = pairs;
    l->pair_slots = slots;
}

static void add_pairs(struct learner *l, const struct word *w, int64_t times)
{
    const uint16_t *s = l->symbols + w->start;

    for (uint32_t i = 0; i + 1 < w->count && !l->failed; i++) {
        uint32_t key = (uint32_t)s[i] << 16 | s[i + 1];
        struct pair_count *pair;
        if (2 * l->pair_count >= l->pair_slots)
            rehash_pairs(l);
        if (l->failed)
            return;
        pair = pair_slot(l->pairs, l->pair_slots, key);
        if (!pair->used) {
            *pair = (struct pair_count){.key = key, .used = 1};
            l->pair_count++;
        }
        pair->times += times;
    }
}

static const struct pair_count *most_frequent(const struct learner *l)
{
    const struct pair_count *best = NULL;

    for (size_t i = 0; i < l->pair_slots; i++) {
        const struct pair_count *p = &l->pairs[i];
        if (p->times > 0 && (!best || p->times > best->times ||
                             (p->times == best->times && p->key < best->key)))
            best = p;
    }
    return best;
}

static bool holds(const struct learner *l, const struct word *w, struct tok_pair p)
{
    const uint16_t *s = l->symbols + w->start;

    for (uint32_t i = 0; i + 1 < w->count; i++)
        if (s[i] == p.left && s[i + 1] == p.right)
            return true;
    return false;
}

static void join(struct learner *l, struct word *w, struct tok_pair p, uint32_t token)
{
    uint16_t *s = l->symbols + w->start;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < w->count; kept++) {
        bool here = i + 1 < w->count && s[i] == p.left && s[i + 1] == p.right;
        s[kept] = here ? (uint16_t)token : s[i];
        i += here ? 2 : 1;
    }
    w->count = kept;
}

static void merge_everywhere(struct learner *l, struct tok_pair p, uint32_t token)
{
    for (size_t n = 0; n < l->word_count && !l->failed; n++) {
        struct word *w = &l->words[n];
        if (!holds(l, w, p))
            continue;
        add_pairs(l, w, -w->times);
        join(l, w, p, token);
        add_pairs(l, w, w->times);
    }
}

/* Fills merges; returns the vocabulary reached, a multiple of 16. */
static uint32_t learn(struct learner *l, uint32_t vocab, struct tok_pair *merges)
{
    uint32_t token = TOK_FIRST_MERGE;

    for (size_t n = 0; n < l->word_count; n++)
        add_pairs(l, &l->words[n], l->words[n].times);
    for (; token < vocab && !l->failed; token++) {
        const struct pair_count *best = most_frequent(l);
        struct tok_pair p;
        if (!best)
            break;
        p = (struct tok_pair){(uint16_t)(best->key >> 16), (uint16_t)best->key};
        merges[token - TOK_FIRST_MERGE] = p;
        merge_everywhere(l, p, token);
    }
    for (; token % 16 || token < TOK_VOCAB_MIN; token++)
        merges[token - TOK_FIRST_MERGE] = (struct tok_pair){TOK_END, TOK_END};
    return token;
}

int tok_train(struct tok *t, const struct tok_text *texts, size_t count, uint32_t vocab,
              struct err *e)
{
    struct learner l = {0};
    struct tok_pair *merges;
    int rc;

    if (vocab < TOK_VOCAB_MIN || vocab > TOK_VOCAB_MAX || vocab % 16)
        return err_set(e, ERR_INVALID, "vocabulary of %u: a multiple of 16 from %d to %d", vocab,
                       TOK_VOCAB_MIN, TOK_VOCAB_MAX);
    merges = mem_new(vocab, sizeof *merges);
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0; at < texts[i].len && !l.failed;) {
            size_t len = tok_word(texts[i].bytes + at, texts[i].len - at);
            count_word(&l, texts[i].bytes + at, len);
            at += len;
        }
    vocab = learn(&l, vocab, merges);
    rc = l.failed ? err_set(e, ERR_BUSY, "no memory to train a tokenizer on %zu texts", count)
                  : tok_load(t, merges, vocab, e);
    free(merges);
    free(l.words);
    free(l.symbols);
    free(l.index);
    free(l.pairs);
    return rc;
}
