/* test_threads.c - readers beside one writer: commits, deletes, compactions and drops while several
 * threads hold views, look ids up, page and check every byte. Meant for the thread sanitizer too. */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/storage/coder.h"

enum { READERS = 4, BATCHES = 60, PER_BATCH = 20, DIM = 32 };

struct shared {
    struct store *s;
    struct corpus *c;
    atomic_bool stop;
    atomic_uint committed;  /* batches whose commit has returned */
    atomic_uint deleted;    /* the first example of each batch below it is gone */
    atomic_uint errors;     /* cmocka's asserts are for the main thread only */
    atomic_uint_fast64_t rows_checked;
};

#define expect(g, x)                                                                               \
    do {                                                                                           \
        if (!(x) && atomic_fetch_add(&(g)->errors, 1) < 5)                                         \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
    } while (0)

static void read_chunk(struct shared *g, const struct view_chunk *c)
{
    struct block encodings, rows;
    struct err e = ERR_INIT;
    unsigned char expected[DIM * 4];

    if (block_open(c, BLOCK_ENCODINGS, &encodings, &e)) {
        expect(g, e.code == ERR_OK);
        return;
    }
    expect(g, block_open(c, BLOCK_ROWS, &rows, &e) == 0);
    for (uint32_t r = 0; r < c->rows; r++) {
        size_t len;
        const char *id = block_row_id(&rows, r, &len);
        char text[32];

        snprintf(text, sizeof text, "%.*s", (int)len, id);
        fill_encoding(expected, sizeof expected, strtoull(text + 3, NULL, 10));
        expect(g, memcmp(expected, encodings.bytes + r * sizeof expected, sizeof expected) == 0);
        expect(g, r == 0 || block_row_sequence(&rows, r) > block_row_sequence(&rows, r - 1));
    }
    atomic_fetch_add(&g->rows_checked, c->rows);
    block_close(&rows);
    block_close(&encodings);
}

/* What was committed before the view was taken is in it; what was deleted before is not. */
static void read_round(struct shared *g, uint64_t turn)
{
    unsigned deleted = atomic_load(&g->deleted), committed = atomic_load(&g->committed);
    const struct view *v = corpus_view(g->c);
    struct arena a = {0};
    struct example *page;
    struct corpus_stats st;
    struct store_stats ss;
    struct err e = ERR_INIT;
    uint64_t sequence;
    size_t count = 0, chunk;
    uint32_t row;
    char id[CORPUS_ID_MAX];

    expect(g, v->live + deleted + 1 >= (uint64_t)committed * PER_BATCH);
    if (v->chunk_count)
        read_chunk(g, &v->chunks[mix(turn) % v->chunk_count]);
    expect(g, view_page(v, mix(turn + 1) % 500, turn % 3 == 0, 30, &a, &page, &count, &e) == 0);
    for (size_t i = 1; i < count; i++)
        expect(g, page[i].sequence > page[i - 1].sequence);
    if (committed > deleted) {
        uint64_t n = mix(turn + 2) % committed * PER_BATCH + 1 + turn % (PER_BATCH - 1);

        expect(g, corpus_find_id(g->c, id, id_of(n, id), &sequence, &e) == 0);
        expect(g, sequence == n);
        expect(g, view_locate(v, sequence, &chunk, &row, &e));
        expect(g, view_example(v, chunk, row, &a, &page[0], &e) == 0 || count == 0);
    }
    if (deleted) {
        uint64_t n = mix(turn + 3) % deleted * PER_BATCH;

        expect(g, corpus_find_id(g->c, id, id_of(n, id), &sequence, &e) == ERR_UNKNOWN_EXAMPLE);
        expect(g, !view_locate(v, n, &chunk, &row, &e));
    }
    corpus_stats(g->c, &st);
    store_stats(g->s, &ss);
    expect(g, st.generation >= v->generation);
    store_housekeep(g->s);
    view_release(v);
    arena_free(&a);
}

static void *reader_main(void *arg)
{
    struct shared *g = arg;

    for (uint64_t turn = 0; !atomic_load(&g->stop); turn += READERS)
        read_round(g, turn);
    return NULL;
}

/* Corpora that come and go beside the one that is read. */
static void churn(struct store *s, unsigned i)
{
    struct corpus *c;
    struct err e = ERR_INIT;
    char name[16];

    snprintf(name, sizeof name, "t%u", i % 3);
    c = store_corpus_find(s, name);
    if (c) {
        corpus_release(c);
        assert_ok(store_corpus_drop(s, name, &e), &e);
    }
    c = make_corpus(s, name, 4, DTYPE_BF16);
    put_examples(s, c, "b", 0, 5);
    corpus_release(c);
}

static void test_readers_beside_a_writer(void **state)
{
    struct scratch *x = *state;
    struct store_options o = {.create = true, .shard_bytes = 256 << 10, .chunk_bytes = 4 << 10,
                              .coder = &fake_coder};
    struct shared g = {.s = open_store_with(x->store, o)};
    struct store_stats ss;
    unsigned char dead[BATCHES * PER_BATCH] = {0};
    pthread_t readers[READERS];
    struct err e = ERR_INIT;

    g.c = make_corpus(g.s, "c", DIM, DTYPE_F32);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader_main, &g), 0);
    for (unsigned i = 0; i < BATCHES; i++) {
        char text[CORPUS_ID_MAX];

        snprintf(text, sizeof text, "b%u", i);
        put_examples(g.s, g.c, text, i * PER_BATCH, PER_BATCH);
        atomic_store(&g.committed, i + 1);
        if (i % 2) {
            uint64_t n = i / 2 * PER_BATCH;

            assert_ok(commit_delete(g.c, text, id_of(n, text), &e), &e);
            dead[n] = 1;
            atomic_store(&g.deleted, i / 2 + 1);
        }
        if (i % 10 == 9)
            assert_ok(compact_corpus(g.c, NULL, NULL, &e), &e);
        churn(g.s, i);
        usleep(2000);
    }
    atomic_store(&g.stop, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&g.errors), 0);
    assert_true(atomic_load(&g.rows_checked) > 1000);
    check_corpus(g.c, BATCHES * PER_BATCH, dead);
    store_stats(g.s, &ss);
    assert_int_equal(ss.corpora, 4);
    assert_int_equal(ss.readers <= 510, 1);
    corpus_release(g.c);
    store_close(g.s);
}

/* More open blocks at once than there are threads: slots are bounded, not tied to threads. */
static void test_many_open_blocks(void **state)
{
    enum { OPEN = 1024 * 7, PAST = 1100 }; /* the most readers there may be, all a search opens */
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", DIM, DTYPE_F32);
    struct block *blocks = mem_new(OPEN + PAST, sizeof *blocks);
    const struct view *v;
    struct err e = ERR_INIT;
    int open;

    put_examples(s, c, "a", 0, 10);
    v = corpus_view(c);
    for (open = 0; open < OPEN; open++)
        assert_ok(block_open(&v->chunks[0], BLOCK_ENCODINGS, &blocks[open], &e), &e);
    while (open < OPEN + PAST &&
           block_open(&v->chunks[0], BLOCK_ENCODINGS, &blocks[open], &e) == 0)
        open++;
    assert_int_equal(e.code, ERR_BUSY); /* past the slots: busy, not broken */
    put_examples(s, c, "b", 10, 10);
    while (open > 0)
        block_close(&blocks[--open]);
    err_clear(&e);
    assert_ok(block_open(&v->chunks[0], BLOCK_ENCODINGS, &blocks[0], &e), &e);
    block_close(&blocks[0]);
    view_release(v);
    check_corpus(c, 20, NULL);
    free(blocks);
    corpus_release(c);
    store_close(s);
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_readers_beside_a_writer),
        scratch_test(test_many_open_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
