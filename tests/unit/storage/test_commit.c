/* test_commit.c - batches in, examples out: order, idempotence, duplicates, groups, rollover, views. */
#include "tests/unit/storage/fixture.h"

static void test_round_trip_of_every_dtype(void **state)
{
    static const struct {
        enum dtype dtype;
        uint32_t dim;
        size_t row_bytes;
    } cases[] = {{DTYPE_F32, 1, 4}, {DTYPE_F32, 129, 516}, {DTYPE_F16, 33, 66}, {DTYPE_BF16, 7, 14}};
    struct scratch *x = *state;
    struct store *s = open_store_with(
        x->store, (struct store_options){.create = true, .chunk_bytes = 16 << 10});

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct corpus *c;
        char name[16];

        snprintf(name, sizeof name, "c%zu", i);
        c = make_corpus(s, name, cases[i].dim, cases[i].dtype);
        assert_int_equal(corpus_row_bytes(c), cases[i].row_bytes);
        put_examples(s, c, "b0", 0, 300);
        put_examples(s, c, "b1", 300, 1);
        check_corpus(c, 301, NULL);
        corpus_release(c);
    }
    store_close(s);
    s = open_store(x->store);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct corpus *c;
        char name[16];

        snprintf(name, sizeof name, "c%zu", i);
        c = store_corpus_find(s, name);
        check_corpus(c, 301, NULL);
        corpus_release(c);
    }
    store_close(s);
}

static void test_resend_and_conflict(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 16, DTYPE_F32);
    struct err e = ERR_INIT;
    struct made m;

    put_examples(s, c, "first", 0, 10);
    make_batch(&m, c, "second", 5, 10);
    for (int i = 0; i < 4; i++) {
        if (i == 3) { /* and after the store was opened again */
            corpus_release(c);
            store_close(s);
            s = open_store(x->store);
            m.batch.corpus = c = store_corpus_find(s, "c");
        }
        assert_ok(commit_one(s, &m, &e), &e);
        assert_int_equal(m.batch.err.code, ERR_OK);
        assert_int_equal(m.batch.already, i > 0);
        assert_int_equal(m.batch.examples_new, 5);
        assert_int_equal(m.batch.duplicates, 5);
        assert_int_equal(m.batch.sequence, 15);
    }
    m.batch.content_hash[3] ^= 1;
    assert_ok(commit_one(s, &m, &e), &e);
    assert_int_equal(m.batch.err.code, ERR_BATCH_CONFLICT);
    assert_non_null(strstr(m.batch.err.text, "second"));
    check_corpus(c, 15, NULL);
    arena_free(&m.arena);
    corpus_release(c);
    store_close(s);
}

static void test_group(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 16, DTYPE_F32), *d = make_corpus(s, "d", 9, DTYPE_F16);
    struct made m[6];
    struct commit_batch *group[6];
    struct corpus_stats st;
    struct err e = ERR_INIT;

    make_batch(&m[0], c, "a", 0, 10);
    make_batch(&m[1], d, "a", 0, 7);   /* same name, other corpus */
    make_batch(&m[2], c, "b", 5, 10);  /* half of it is in "a" */
    make_batch(&m[3], c, "a", 0, 10);  /* resent in the same group */
    make_batch(&m[4], c, "b", 100, 3); /* same name, other content */
    make_batch(&m[5], c, "bad", 200, 2);
    ((struct commit_example *)(uintptr_t)m[5].batch.examples)[1].id_len = 257;
    for (int i = 0; i < 6; i++)
        group[i] = &m[i].batch;
    assert_ok(commit_group(s, group, 6, &e), &e);
    assert_int_equal(m[0].batch.examples_new, 10);
    assert_int_equal(m[0].batch.sequence, 10);
    assert_int_equal(m[1].batch.examples_new, 7);
    assert_int_equal(m[2].batch.examples_new, 5);
    assert_int_equal(m[2].batch.duplicates, 5);
    assert_int_equal(m[2].batch.sequence, 15);
    assert_true(m[3].batch.already);
    assert_int_equal(m[3].batch.sequence, 10);
    assert_int_equal(m[4].batch.err.code, ERR_BATCH_CONFLICT);
    assert_int_equal(m[5].batch.err.code, ERR_BAD_ID);
    assert_int_equal(m[5].batch.err.index, 1);
    check_corpus(c, 15, NULL);
    check_corpus(d, 7, NULL);
    corpus_stats(c, &st);
    assert_int_equal(st.chunks, 1); /* rows of one corpus share a chunk */
    assert_int_equal(st.batches, 2);
    for (int i = 0; i < 6; i++)
        arena_free(&m[i].arena);
    corpus_release(c);
    corpus_release(d);
    store_close(s);
    s = open_store(x->store);
    c = store_corpus_find(s, "c");
    check_corpus(c, 15, NULL);
    corpus_release(c);
    store_close(s);
}

static void test_only_duplicates(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 4, DTYPE_F32);
    struct corpus_stats st;
    struct err e = ERR_INIT;
    struct made m;

    put_examples(s, c, "one", 0, 10);
    make_batch(&m, c, "two", 0, 10);
    assert_ok(commit_one(s, &m, &e), &e);
    assert_int_equal(m.batch.duplicates, 10);
    assert_int_equal(m.batch.examples_new, 0);
    assert_ok(commit_one(s, &m, &e), &e);
    assert_true(m.batch.already);
    corpus_stats(c, &st);
    assert_int_equal(st.batches, 2);
    assert_int_equal(st.chunks, 1);
    assert_int_equal(st.next_sequence, 10);
    arena_free(&m.arena);
    make_batch(&m, c, "none", 0, 0);
    assert_ok(commit_one(s, &m, &e), &e);
    assert_int_equal(m.batch.err.code, ERR_OK);
    assert_int_equal(m.batch.sequence, 10);
    arena_free(&m.arena);
    corpus_release(c);
    store_close(s);
}

static void test_shard_rollover(void **state)
{
    struct scratch *x = *state;
    struct store_options o = {.create = true, .shard_bytes = 1 << 20, .chunk_bytes = 200 << 10};
    struct store *s = open_store_with(x->store, o);
    struct corpus *c = make_corpus(s, "c", 1024, DTYPE_F32); /* 4 KiB a row, 50 rows a chunk */
    struct corpus_stats st;
    struct store_stats ss;
    struct made m;
    struct err e = ERR_INIT;

    for (unsigned i = 0; i < 10; i++) {
        char name[16];

        snprintf(name, sizeof name, "b%u", i);
        put_examples(s, c, name, i * 75, 75);
    }
    make_batch(&m, c, "large", 750, 900); /* several shards in one commit */
    assert_ok(commit_one(s, &m, &e), &e);
    assert_int_equal(m.batch.examples_new, 900);
    arena_free(&m.arena);
    corpus_stats(c, &st);
    assert_true(st.shards >= 7);
    store_stats(s, &ss);
    assert_int_equal(ss.shards, st.shards);
    assert_int_equal(ss.examples, 1650);
    assert_true(ss.bytes_shards >= 1650 * 4096);
    assert_true(ss.bytes_shards < st.shards * ((1 << 20) + (256 << 10)));
    check_corpus(c, 1650, NULL);
    corpus_release(c);
    store_close(s);
    s = open_store_with(x->store, o);
    c = store_corpus_find(s, "c");
    check_corpus(c, 1650, NULL);
    put_examples(s, c, "more", 1650, 100);
    check_corpus(c, 1750, NULL);
    corpus_release(c);
    store_close(s);
}

/* One row, and so one chunk, that is larger than a whole shard. */
static void test_chunk_larger_than_a_shard(void **state)
{
    struct scratch *x = *state;
    struct store_options o = {.create = true, .shard_bytes = 1 << 20, .chunk_bytes = 1 << 20};
    struct store *s = open_store_with(x->store, o);
    struct corpus *c = make_corpus(s, "c", 40u << 20 >> 2, DTYPE_F32); /* 40 MiB */
    const struct view *v;

    put_examples(s, c, "b0", 0, 1);
    put_examples(s, c, "b1", 1, 2);
    corpus_release(c);
    store_close(s);
    s = open_store_with(x->store, o);
    c = store_corpus_find(s, "c");
    v = corpus_view(c);
    assert_int_equal(v->chunk_count, 3);
    assert_ptr_not_equal(v->chunks[0].shard, v->chunks[1].shard);
    view_release(v);
    check_corpus(c, 3, NULL);
    corpus_release(c);
    store_close(s);
}

static void test_views_do_not_change(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 8, DTYPE_F32);
    const struct view *empty = corpus_view(c), *ten, *nine;
    unsigned char dead[20] = {[4] = 1};
    struct err e = ERR_INIT;

    put_examples(s, c, "a", 0, 10);
    ten = corpus_view(c);
    assert_ok(commit_delete(c, "ex-4", 4, &e), &e);
    nine = corpus_view(c);
    put_examples(s, c, "b", 10, 10);
    assert_int_equal(empty->chunk_count, 0);
    assert_int_equal(check_view(ten, NULL, 0), 10);
    assert_int_equal(check_view(nine, NULL, 0), 9);
    assert_int_equal(nine->rows, 10);
    assert_int_equal(nine->chunks[0].dead_count, 1);
    assert_true(ten->generation > empty->generation);
    assert_true(nine->generation == ten->generation + 1);
    check_corpus(c, 20, dead);
    view_release(empty);
    view_release(ten);
    corpus_release(c); /* a view keeps its corpus alive */
    assert_string_equal(corpus_def(nine->corpus)->name, "c");
    view_release(nine);
    store_close(s);
}

static void test_takedown_and_return(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 8, DTYPE_F32);
    struct corpus_stats st;
    uint64_t sequence;
    struct err e = ERR_INIT;

    put_examples(s, c, "a", 0, 10);
    assert_ok(corpus_find_id(c, "ex-7", 4, &sequence, &e), &e);
    assert_int_equal(sequence, 7);
    assert_ok(commit_delete(c, "ex-7", 4, &e), &e);
    assert_int_equal(commit_delete(c, "ex-7", 4, &e), ERR_UNKNOWN_EXAMPLE);
    assert_int_equal(corpus_find_id(c, "ex-7", 4, &sequence, &e), ERR_UNKNOWN_EXAMPLE);
    assert_int_equal(corpus_find_id(c, "", 0, &sequence, &e), ERR_UNKNOWN_EXAMPLE);
    err_clear(&e);
    corpus_release(c);
    store_close(s);

    s = open_store(x->store); /* the tombstone came back */
    c = store_corpus_find(s, "c");
    assert_int_equal(corpus_find_id(c, "ex-7", 4, &sequence, &e), ERR_UNKNOWN_EXAMPLE);
    err_clear(&e);
    corpus_stats(c, &st);
    assert_int_equal(st.examples, 9);
    assert_int_equal(st.tombstones, 1);
    put_examples(s, c, "again", 7, 1);
    assert_ok(corpus_find_id(c, "ex-7", 4, &sequence, &e), &e);
    assert_int_equal(sequence, 10);
    check_corpus(c, 10, NULL);
    assert_ok(commit_delete(c, "ex-7", 4, &e), &e);
    corpus_stats(c, &st);
    assert_int_equal(st.tombstones, 2);
    corpus_release(c);
    store_close(s);
}

static void test_locate_and_page(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store_with(
        x->store, (struct store_options){.create = true, .chunk_bytes = 1 << 10});
    struct corpus *c = make_corpus(s, "c", 16, DTYPE_F32); /* 16 rows a chunk */
    unsigned char dead[100] = {[0] = 1, [31] = 1, [99] = 1};
    const struct view *v;
    struct arena a = {0};
    struct err e = ERR_INIT;
    struct example *page;
    uint64_t after = 0, expected = 0;
    bool from_start = true;
    size_t count, chunk;
    uint32_t row;

    put_examples(s, c, "a", 0, 100);
    for (uint64_t n = 0; n < 100; n++)
        if (dead[n]) {
            char id[CORPUS_ID_MAX];

            assert_ok(commit_delete(c, id, id_of(n, id), &e), &e);
        }
    v = corpus_view(c);
    for (uint64_t n = 0; n < 110; n++) {
        bool found = view_locate(v, n, &chunk, &row, &e);

        assert_int_equal(found, n < 100 && !dead[n]);
        if (found)
            assert_int_equal(v->chunks[chunk].first_sequence + row, n);
    }
    assert_int_equal(e.code, ERR_OK);
    do {
        assert_ok(view_page(v, after, from_start, 7, &a, &page, &count, &e), &e);
        for (size_t i = 0; i < count; i++, expected++) {
            char id[CORPUS_ID_MAX];

            while (dead[expected])
                expected++;
            assert_int_equal(page[i].sequence, expected);
            assert_int_equal(page[i].id_len, id_of(expected, id));
            assert_string_equal(page[i].id, id);
            after = page[i].sequence;
        }
        from_start = false;
    } while (count > 0);
    assert_int_equal(expected, 99);
    assert_ok(view_page(v, 0, false, 1, &a, &page, &count, &e), &e);
    assert_int_equal(page[0].sequence, 1); /* after 0 is not from the start */
    assert_ok(view_page(v, UINT64_MAX, false, 10, &a, &page, &count, &e), &e);
    assert_int_equal(count, 0);
    assert_ok(view_page(v, 0, true, SIZE_MAX, &a, &page, &count, &e), &e);
    assert_int_equal(count, 97);
    view_release(v);
    arena_free(&a);
    corpus_release(c);
    store_close(s);
}

/* Texts around and above the frame size, long ids, NULs inside. */
static void test_long_texts(void **state)
{
    static const size_t lengths[] = {0, 1, 65535, 65536, 65537, 3000000, 12};
    enum { COUNT = sizeof lengths / sizeof lengths[0] };
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 1, DTYPE_F32);
    struct commit_example ex[COUNT] = {0};
    float encodings[COUNT] = {0};
    double norms[COUNT] = {1};
    struct commit_batch b = {.corpus = c,
                             .name = "long",
                             .count = COUNT,
                             .encodings = encodings,
                             .norms = norms,
                             .examples = ex},
                        *group[] = {&b};
    const struct view *v;
    struct arena a = {0};
    struct err e = ERR_INIT;
    char *text = mem_new(3000000, 1);

    for (size_t i = 0; i < 3000000; i++)
        text[i] = (char)mix(i / 3);
    for (size_t i = 0; i < COUNT; i++) {
        char *id = arena_new(&a, 256, 1);

        memset(id, 'a' + (int)i, 256);
        ex[i] = (struct commit_example){.id = id,
                                        .id_len = 256,
                                        .text = text,
                                        .text_len = (uint32_t)lengths[i],
                                        .meta = i % 2 ? text + 5 : NULL,
                                        .meta_len = i % 2 ? (uint32_t)lengths[i] / 2 : 0};
    }
    assert_ok(commit_group(s, group, 1, &e), &e);
    v = corpus_view(c);
    for (uint32_t i = COUNT; i-- > 0;) {
        struct example got;

        assert_ok(view_example(v, 0, i, &a, &got, &e), &e);
        assert_int_equal(got.id_len, 256);
        assert_memory_equal(got.id, ex[i].id, 256);
        assert_non_null(got.text);
        assert_int_equal(got.text_len, lengths[i]);
        assert_memory_equal(got.text, text, lengths[i]);
        assert_int_equal(got.meta != NULL, i % 2);
        if (got.meta)
            assert_memory_equal(got.meta, text + 5, got.meta_len);
    }
    view_release(v);
    arena_free(&a);
    free(text);
    corpus_release(c);
    store_close(s);
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_round_trip_of_every_dtype),
        scratch_test(test_resend_and_conflict),
        scratch_test(test_group),
        scratch_test(test_only_duplicates),
        scratch_test(test_shard_rollover),
        scratch_test(test_chunk_larger_than_a_shard),
        scratch_test(test_views_do_not_change),
        scratch_test(test_takedown_and_return),
        scratch_test(test_locate_and_page),
        scratch_test(test_long_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
