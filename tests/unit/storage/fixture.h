/* fixture.h - what the tests of storage share: a scratch directory, made-up batches whose content
 * follows from (seed, row) alone, and a comparison of a whole corpus with what was put in. */
#ifndef TESTS_UNIT_STORAGE_FIXTURE_H
#define TESTS_UNIT_STORAGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/base/dtype.h"
#include "storage/base/mem.h"
#include "storage/commit.h"
#include "storage/corpus.h"
#include "storage/fs.h"
#include "storage/maintain.h"
#include "storage/store.h"

#define MAYBE __attribute__((unused)) static

#define assert_ok(call, e)                                                                         \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        if (rc_ != 0)                                                                              \
            print_error("%s:%d: %s: %s\n", __FILE__, __LINE__, err_word((e)->code), (e)->text);    \
        assert_int_equal(rc_, 0);                                                                  \
    } while (0)

/* ---- Scratch --------------------------------------------------------------------------------- */

struct scratch {
    char root[128];  /* removed at the end */
    char store[160]; /* root/store, not made */
};

MAYBE int scratch_setup(void **state)
{
    const char *base = getenv("TMPDIR");
    struct scratch *s = mem_new(1, sizeof *s);

    if (!base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(s->root, sizeof s->root, "%s/ascribe-storage-XXXXXX", base);
    if (!mkdtemp(s->root))
        return -1;
    snprintf(s->store, sizeof s->store, "%s/store", s->root);
    *state = s;
    return 0;
}

MAYBE int scratch_teardown(void **state)
{
    struct scratch *s = *state;
    struct err e = ERR_INIT;
    int rc = fs_remove_tree(s->root, 6, &e);

    if (rc)
        print_error("%s\n", e.text);
    free(s);
    return rc;
}

MAYBE struct store *open_store_with(const char *dir, struct store_options o)
{
    struct err e = ERR_INIT;
    struct store *s = NULL;

    assert_ok(store_open(dir, &o, &s, &e), &e);
    return s;
}

MAYBE struct store *open_store(const char *dir)
{
    return open_store_with(dir, (struct store_options){.create = true});
}

MAYBE struct corpus *make_corpus(struct store *s, const char *name, uint32_t dim, enum dtype dtype)
{
    struct corpus_def def = {.dim = dim, .dtype = dtype, .manifest = "{\"made\":\"up\"}"};
    struct err e = ERR_INIT;
    struct corpus *c = NULL;
    bool created;

    snprintf(def.name, sizeof def.name, "%s", name);
    memset(def.fingerprint, 7, sizeof def.fingerprint);
    assert_ok(store_corpus_create(s, &def, &created, &c, &e), &e);
    return c;
}

/* ---- Made-up examples ------------------------------------------------------------------------ */

/* splitmix64 (Steele, Lea, Flood 2014). */
MAYBE uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

MAYBE void fill_encoding(unsigned char *out, size_t len, uint64_t example)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)(mix(example * 1315423911u + i / 8) >> (i % 8 * 8));
}

MAYBE double norm_of(uint64_t example)
{
    return (double)(mix(example) % 100000) / 7.0 + 0.25;
}

enum { TEXT_MAX = 700 };

/* Some have no text, some an empty one, some no meta. */
MAYBE size_t text_of(uint64_t example, char *out)
{
    size_t len = mix(example ^ 1) % 600, at = 0;

    while (at < len)
        at += (size_t)snprintf(out + at, TEXT_MAX - at, "word%llu ",
                               (unsigned long long)(mix(example + at) % 97));
    out[len] = '\0';
    return len;
}
MAYBE bool has_text(uint64_t example)
{
    return example % 7 != 3;
}
MAYBE bool has_meta(uint64_t example)
{
    return example % 5 != 2;
}
MAYBE size_t meta_of(uint64_t example, char *out)
{
    return (size_t)snprintf(out, TEXT_MAX, "{\"source\":\"s%llu\"}", (unsigned long long)(example % 9));
}
MAYBE size_t id_of(uint64_t example, char *out)
{
    return (size_t)snprintf(out, CORPUS_ID_MAX, "ex-%llu", (unsigned long long)example);
}

/* A batch of examples first, first+1, ... */
struct made {
    struct commit_batch batch;
    struct arena arena;
};

MAYBE void make_batch(struct made *m, struct corpus *c, const char *name, uint64_t first,
                      uint32_t count)
{
    size_t row = corpus_row_bytes(c);
    unsigned char *encodings;
    struct commit_example *examples;
    double *norms;

    *m = (struct made){0};
    encodings = arena_new(&m->arena, count, row);
    examples = arena_new(&m->arena, count, sizeof *examples);
    norms = arena_new(&m->arena, count, sizeof *norms);
    for (uint32_t i = 0; i < count; i++) {
        char text[TEXT_MAX];
        struct commit_example *x = &examples[i];

        fill_encoding(encodings + i * row, row, first + i);
        norms[i] = norm_of(first + i);
        x->id_len = (uint32_t)id_of(first + i, text);
        x->id = arena_copy(&m->arena, text, x->id_len);
        if (has_text(first + i)) {
            x->text_len = (uint32_t)text_of(first + i, text);
            x->text = arena_copy(&m->arena, text, x->text_len);
        }
        if (has_meta(first + i)) {
            x->meta_len = (uint32_t)meta_of(first + i, text);
            x->meta = arena_copy(&m->arena, text, x->meta_len);
        }
    }
    m->batch = (struct commit_batch){.corpus = c,
                                     .name = arena_copy(&m->arena, name, strlen(name)),
                                     .count = count,
                                     .encodings = encodings,
                                     .norms = norms,
                                     .examples = examples};
    for (int i = 0; i < 16; i++)
        m->batch.content_hash[i] = (unsigned char)(mix(first * 977 + count) >> (i % 8));
}

MAYBE int commit_one(struct store *s, struct made *m, struct err *e)
{
    struct commit_batch *list[] = {&m->batch};

    return commit_group(s, list, 1, e);
}

/* Commits examples [first, first + count) as a batch and expects all of them to be new. */
MAYBE void put_examples(struct store *s, struct corpus *c, const char *name, uint64_t first,
                        uint32_t count)
{
    struct err e = ERR_INIT;
    struct made m;

    make_batch(&m, c, name, first, count);
    assert_ok(commit_one(s, &m, &e), &e);
    assert_int_equal(m.batch.err.code, ERR_OK);
    assert_int_equal(m.batch.examples_new, count);
    arena_free(&m.arena);
}

/* ---- Comparison ------------------------------------------------------------------------------ */

/* Compares what a row holds with the example its id names; returns that example's number. */
MAYBE uint64_t check_example(const struct example *x, const unsigned char *encoding,
                             size_t row_bytes)
{
    unsigned char *expected = mem_new(row_bytes, 1);
    uint64_t n = strtoull(x->id + 3, NULL, 10);
    char text[TEXT_MAX];

    assert_int_equal(x->id_len, id_of(n, text));
    assert_memory_equal(x->id, text, x->id_len);
    assert_true(x->norm == norm_of(n));
    fill_encoding(expected, row_bytes, n);
    assert_memory_equal(encoding, expected, row_bytes);
    assert_int_equal(x->text != NULL, has_text(n));
    if (x->text) {
        assert_int_equal(x->text_len, text_of(n, text));
        assert_memory_equal(x->text, text, x->text_len + 1);
    }
    assert_int_equal(x->meta != NULL, has_meta(n));
    if (x->meta) {
        assert_int_equal(x->meta_len, meta_of(n, text));
        assert_memory_equal(x->meta, text, x->meta_len + 1);
    }
    free(expected);
    return n;
}

/* Every live row of the view is right, sequences ascend; fills seen[n] for examples below `cap`.
 * Returns how many live rows there are. */
MAYBE uint64_t check_view(const struct view *v, unsigned char *seen, uint64_t cap)
{
    size_t row_bytes = corpus_row_bytes(v->corpus), live = 0, count;
    struct arena a = {0};
    struct err e = ERR_INIT;
    struct example *page;
    uint64_t last = 0;

    assert_ok(view_page(v, 0, true, SIZE_MAX, &a, &page, &count, &e), &e);
    assert_int_equal(count, v->live);
    for (size_t i = 0; i < v->chunk_count; i++) {
        const struct view_chunk *c = &v->chunks[i];
        struct block encodings, rows;

        assert_ok(block_open(c, BLOCK_ENCODINGS, &encodings, &e), &e);
        assert_ok(block_open(c, BLOCK_ROWS, &rows, &e), &e);
        assert_int_equal(encodings.len, c->rows * row_bytes);
        for (uint32_t r = 0; r < c->rows; r++) {
            uint64_t sequence = block_row_sequence(&rows, r), n;

            assert_true((i == 0 && r == 0) || sequence > last);
            last = sequence;
            if (view_row_dead(c, r))
                continue;
            assert_int_equal(page[live].sequence, sequence);
            n = check_example(&page[live++], encodings.bytes + r * row_bytes, row_bytes);
            if (n < cap) {
                assert_int_equal(seen[n], 0);
                seen[n] = 1;
            }
        }
        block_close(&rows);
        block_close(&encodings);
    }
    assert_int_equal(live, v->live);
    arena_free(&a);
    return live;
}

/* The corpus holds exactly the examples [0, count), but those in `dead` (may be NULL). */
MAYBE void check_corpus(struct corpus *c, uint64_t count, const unsigned char *dead)
{
    unsigned char *seen = mem_new((size_t)count, 1);
    const struct view *v = corpus_view(c);
    struct corpus_stats st;
    uint64_t live = check_view(v, seen, count);

    corpus_stats(c, &st);
    assert_int_equal(st.examples, live);
    for (uint64_t n = 0; n < count; n++)
        assert_int_equal(seen[n], !(dead && dead[n]));
    view_release(v);
    free(seen);
}

#endif
