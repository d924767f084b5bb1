/* What is damaged is left out and named; what is not is served, and nothing wrong ever. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/annex.h"
#include "storage/ledger.h"
#include "storage/maintain.h"
#include "tests/unit/storage/coder.h"
#include "tests/unit/storage/hurt.h"

enum { DIM = 64, ROW = DIM * 4, EXAMPLES = 60 };

static struct fake coder;

static struct store *reopen(const char *dir)
{
    return open_store_with(
        dir, (struct store_options){.create = true, .coder = &fake_init(&coder, 1)->coder});
}

/* Three chunks of twenty; ex-25 is deleted. */
static void make_store(const char *dir)
{
    struct store *s = reopen(dir);
    struct corpus *c = make_corpus(s, "c", DIM, DTYPE_F32);
    struct err e = ERR_INIT;

    put_examples(s, c, "a", 0, 20);
    put_examples(s, c, "b", 20, 20);
    put_examples(s, c, "c", 40, 20);
    assert_ok(commit_delete(c, "ex-25", 5, &e), &e);
    corpus_release(c);
    store_close(s);
}

static bool is_named(const struct view *v, uint64_t n)
{
    char id[CORPUS_ID_MAX];
    size_t len = id_of(n, id);

    for (size_t i = 0; v->damage && i < v->damage->id_count; i++)
        if (v->damage->ids[i].len == len && memcmp(v->damage->ids[i].id, id, len) == 0)
            return true;
    return false;
}

/* Reads every live row of a view as a scan and a page would; CORRUPT at the first damage. */
static int read_all(const struct view *v, bool single, bool texts, struct err *e)
{
    struct arena a = {0};
    struct block rows, b;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < v->chunk_count; i++) {
        const struct view_chunk *c = &v->chunks[i];
        unsigned char expected[ROW];

        if (c->dead_count == c->rows)
            continue;
        rc = block_open(c, BLOCK_ROWS, &rows, e);
        if (rc)
            break;
        rc = single ? block_open_rows(c, &b, e) : block_open(c, BLOCK_ENCODINGS, &b, e);
        for (uint32_t r = 0; rc == 0 && r < c->rows; r++) {
            const unsigned char *got = b.bytes + (size_t)r * ROW;
            uint64_t n = block_row_sequence(&rows, r);

            if (view_row_dead(c, r))
                continue;
            if (single)
                rc = block_row(c, &b, r, &got, e);
            if (rc == 0) {
                fill_encoding(expected, ROW, n);
                assert_memory_equal(got, expected, ROW);
                assert_true(block_row_norm(&rows, r) == norm_of(n));
            }
        }
        if (b.txn)
            block_close(&b);
        block_close(&rows);
        for (uint32_t r = 0; texts && rc == 0 && r < c->rows; r++) {
            struct example x;
            char text[TEXT_MAX];

            if (view_row_dead(c, r))
                continue;
            rc = view_example(v, i, r, &a, &x, e);
            if (rc == 0 && has_text(x.sequence)) {
                assert_int_equal(x.text_len, text_of(x.sequence, text));
                assert_memory_equal(x.text, text, x.text_len);
            }
        }
        for (unsigned p = 0; rc == 0 && view_chunk_coded(c) && p <= CODER_PLANES; p++) {
            rc = block_open(c, chunk_plane_kind(p), &b, e);
            if (rc == 0)
                block_close(&b);
        }
    }
    arena_free(&a);
    return rc;
}

/* As a request does: begins again on a view without what it met. Gives the view it ended with. */
static const struct view *read_on(struct store *s, struct corpus *c, bool single, bool texts)
{
    const struct view *v = NULL;
    struct err e = ERR_INIT;
    uint64_t known;
    int rc;

    do {
        view_release(v);
        known = store_damage(s);
        v = corpus_view_sound(c, texts);
        err_clear(&e);
        rc = read_all(v, single, texts, &e);
    } while (rc == ERR_CORRUPT && store_damage(s) != known);
    assert_ok(rc, &e);
    return v;
}

/* Everything that is live is in the view or named. */
static void check_whole(const struct view *v, uint64_t live)
{
    uint64_t named = v->damage ? v->damage->examples : 0;

    assert_int_equal(v->live + named, live);
    assert_int_equal(named, v->damage ? v->damage->id_count : 0);
}

static void check_lost(struct scratch *x, bool single, bool texts, uint64_t first, uint64_t end)
{
    struct store *s = reopen(x->store);
    struct corpus *c = store_corpus_find(s, "c");
    const struct view *v = read_on(s, c, single, texts), *again;

    check_whole(v, EXAMPLES - 1);
    for (uint64_t n = 0; n < EXAMPLES; n++)
        assert_true(is_named(v, n) == (n >= first && n < end && n != 25));
    view_release(v);
    v = corpus_view_sound(c, texts);
    again = corpus_view_sound(c, texts); /* kept until something changes */
    assert_ptr_equal(again, v);
    view_release(again);
    view_release(v);
    v = corpus_view(c); /* those who write see everything, and fail at it */
    assert_int_equal(v->live, EXAMPLES - 1);
    assert_null(v->damage);
    view_release(v);
    corpus_release(c);
    store_close(s);
}

static void test_one_row(void **state)
{
    struct scratch *x = *state;

    make_store(x->store);
    hurt_block(x->store, 2, BLOCK_ENCODINGS, CHUNK_HEADER_BYTES + 13 * ROW + 7);
    check_lost(x, false, false, 33, 34);
    check_lost(x, true, false, 33, 34);
    hurt_block(x->store, 2, BLOCK_ENCODINGS, CHUNK_HEADER_BYTES + 14 * ROW);
    check_lost(x, false, true, 33, 35);
}

static void test_table_of_rows(void **state)
{
    struct scratch *x = *state;

    make_store(x->store);
    hurt_block(x->store, 2, BLOCK_ROWS, CHUNK_HEADER_BYTES + 30);
    check_lost(x, false, false, 20, 40);
    hurt_block(x->store, 3, BLOCK_ROWS, 1);
    check_lost(x, true, false, 20, 60);
}

static void test_texts(void **state)
{
    struct scratch *x = *state;

    make_store(x->store);
    hurt_block(x->store, 3, BLOCK_TEXTS, CHUNK_HEADER_BYTES + 40);
    check_lost(x, false, true, 40, 60);
    check_lost(x, false, false, 0, 0); /* vectors are served */
}

/* Sums of rows, codes, headers: nobody's row is lost, and a compaction makes them anew. */
static void test_derived(void **state)
{
    struct scratch *x = *state;
    static const struct {
        enum block_kind kind;
        size_t at;
    } hurts[] = {{BLOCK_SUMS, CHUNK_HEADER_BYTES + 3}, {BLOCK_BITS, CHUNK_HEADER_BYTES + 5},
                 {BLOCK_FACTORS, 9},                   {BLOCK_SIX, CHUNK_HEADER_BYTES},
                 {BLOCK_ENCODINGS, 20}};
    struct err e = ERR_INIT;

    for (size_t i = 0; i < sizeof hurts / sizeof hurts[0]; i++) {
        struct verify_report r;
        struct corpus *c;
        struct store *s;

        assert_ok(fs_remove_tree(x->store, 4, &e), &e);
        make_store(x->store);
        hurt_block(x->store, 2, hurts[i].kind, hurts[i].at);
        for (int single = 0; single < 2; single++)
            check_lost(x, single, true, 0, 0);
        s = reopen(x->store);
        c = store_corpus_find(s, "c");
        assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
        assert_int_equal(r.damaged_blocks, 1);
        assert_int_equal(r.damaged_ids, 0);
        assert_ok(compact_corpus(c, NULL, NULL, &e), &e);
        assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
        assert_int_equal(r.damaged_blocks + r.damaged_ids + r.ledger_faults, 0);
        assert_int_equal(r.examples, EXAMPLES - 1);
        corpus_release(c);
        store_close(s);
    }
}

static void test_shard_that_does_not_open(void **state)
{
    struct scratch *x = *state;
    char *data = fs_join(x->store, "shards/000001/data.mdb");
    FILE *f;

    make_store(x->store);
    f = fopen(data, "r+b");
    assert_non_null(f);
    for (int i = 0; i < 8192; i++)
        fputc(0, f);
    fclose(f);
    check_lost(x, false, false, 0, EXAMPLES);
    assert_int_equal(unlink(data), 0);
    check_lost(x, true, true, 0, EXAMPLES);
    free(data);
}

/* ---- The ledger ------------------------------------------------------------------------------ */

/* Opens, and everything is there; the record is sound again when it is opened next. */
static void check_healed(struct scratch *x, const char *what)
{
    for (int again = 0; again < 2; again++) {
        struct store *s = reopen(x->store);
        struct corpus *c = store_corpus_find(s, "c");
        const struct view *v = read_on(s, c, false, true);
        struct verify_report r;
        struct corpus_stats stats;
        struct err e = ERR_INIT;
        size_t chunk;
        uint32_t row;

        assert_int_equal(store_healed(s), again ? 0 : 1);
        if (!again)
            assert_non_null(strstr(store_healed_line(s, 0), what));
        assert_null(v->damage);
        assert_int_equal(v->live, EXAMPLES - 1);
        assert_false(view_locate(v, 25, &chunk, &row, &e));
        corpus_stats(c, &stats);
        assert_int_equal(stats.next_sequence, EXAMPLES);
        assert_int_equal(stats.batches, 3);
        assert_int_equal(stats.tombstones, 1);
        assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
        assert_int_equal(r.ledger_faults + r.damaged_blocks, 0);
        view_release(v);
        corpus_release(c);
        store_close(s);
    }
}

static void test_ledger_made_again(void **state)
{
    struct scratch *x = *state;
    unsigned char counts[32];
    unsigned char chunk[20] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 20};
    unsigned char dead[20] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 2};
    unsigned char shard[12] = {0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0};
    const struct view *v;
    struct store *s;
    struct corpus *c;

    make_store(x->store);
    bytes_put_le64(counts, EXAMPLES);
    bytes_put_le64(counts + 8, EXAMPLES - 1);
    bytes_put_le64(counts + 16, 1);
    bytes_put_le64(counts + 24, 3);
    hurt_record(x->store, counts, sizeof counts, 9);
    check_healed(x, "counts");
    hurt_record(x->store, chunk, sizeof chunk, 17);
    check_healed(x, "chunk 2");
    hurt_record(x->store, dead, sizeof dead, 13);
    check_healed(x, "sequence 25");
    hurt_record(x->store, shard, sizeof shard, 8);
    check_healed(x, "shard 000001");
    s = reopen(x->store); /* the shard is sealed now: a batch goes into another */
    c = store_corpus_find(s, "c");
    put_examples(s, c, "d", EXAMPLES, 20);
    corpus_release(c);
    store_close(s);
    s = reopen(x->store);
    c = store_corpus_find(s, "c");
    v = corpus_view(c);
    check_whole(v, EXAMPLES + 19);
    view_release(v);
    corpus_release(c);
    store_close(s);
}

/* Of the definition the first of two records is hit, as its key's length before the key tells. */
static void test_what_all_stands_on(void **state)
{
    struct scratch *x = *state;
    unsigned char corpus[14] = {4, 0, 0, 0, 0, 1, DIM, 0, 0, 0, DTYPE_F32};
    const unsigned char meta[5] = {'s', 't', 'a', 't', 'e'};
    struct store *s;
    struct corpus *c;

    make_store(x->store);
    hurt_record(x->store, corpus, sizeof corpus, 12);
    check_healed(x, "table corpora");
    for (size_t at = 5; at < 29; at += 8) { /* format, numbers, the check */
        hurt_record(x->store, meta, sizeof meta, at);
        check_healed(x, "state record");
    }
    s = reopen(x->store);
    c = store_corpus_find(s, "c");
    put_examples(s, c, "d", EXAMPLES, 20);
    corpus_release(c);
    c = make_corpus(s, "other", DIM, DTYPE_F32);
    put_examples(s, c, "a", 0, 20);
    corpus_release(c);
    store_close(s);
    s = reopen(x->store);
    assert_int_equal(store_healed(s), 0);
    c = store_corpus_find(s, "other");
    assert_non_null(c);
    corpus_release(c);
    store_close(s);
}

static void put_task(const char *dir, const char *text)
{
    struct store *s = reopen(dir);
    struct corpus *c = store_corpus_find(s, "c");
    struct err e = ERR_INIT;

    assert_ok(annex_put(c, &(struct annex_def){.name = "t", .text = text}, NULL, &e), &e);
    corpus_release(c);
    store_close(s);
}

/* Opens and says so; the task's text, or NULL when there is none, again and again. */
static void check_task(struct scratch *x, const char *said, const char *text)
{
    for (int again = 0; again < 2; again++) {
        struct store *s = reopen(x->store);
        struct corpus *c = store_corpus_find(s, "c");
        struct annex *a = annex_find(c, "t");
        struct verify_report r;
        struct err e = ERR_INIT;

        assert_int_equal(store_healed(s), again ? 0 : 1);
        if (!again)
            assert_non_null(strstr(store_healed_line(s, 0), said));
        assert_int_equal(a != NULL, text != NULL);
        if (a)
            assert_string_equal(annex_def(a)->text, text);
        assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
        assert_int_equal(r.ledger_faults, 0);
        annex_release(a);
        corpus_release(c);
        store_close(s);
    }
}

static void test_task(void **state)
{
    struct scratch *x = *state;
    const unsigned char first[8] = {6, 0, 4, 0, 0, 0, 1, 't'};

    make_store(x->store);
    put_task(x->store, "a task's text");
    hurt_record(x->store, first, sizeof first, 8 + 16 + 3);
    check_task(x, "table records", "a task's text");
    hurt_record(x->store, first + 2, 6, 6 + 16 + 3); /* both */
    check_task(x, "corpus c: task t", NULL);
    put_task(x->store, "made anew");
    hurt_record(x->store, first, sizeof first, 8 + 16 + 3);
    check_task(x, "table records", "made anew");
}

/* Damage under an open store, after everything was read: unseen in that round of checks, named in
 * the next; more of it in the same chunk in the one after that. */
static void test_round(void **state)
{
    struct scratch *x = *state;
    struct store *s;
    struct corpus *c;
    const struct view *v;
    struct err e = ERR_INIT;
    struct block b;

    for (int single = 0; single < 2; single++) {
        make_store(x->store);
        s = reopen(x->store);
        c = store_corpus_find(s, "c");
        v = read_on(s, c, single, true);
        assert_null(v->damage);
        hurt_block(x->store, 2, BLOCK_ENCODINGS, CHUNK_HEADER_BYTES + 13 * ROW + 7);
        assert_ok(block_open_row(&v->chunks[1], 13, &b, &e), &e);
        block_close(&b);
        view_release(v);
        for (uint64_t lost = 1; lost < 3; lost++) {
            store_recheck(s);
            v = read_on(s, c, single, true);
            check_whole(v, EXAMPLES - 1);
            assert_int_equal(v->damage->examples, lost);
            assert_true(is_named(v, 33));
            assert_true(is_named(v, 34) == (lost == 2));
            view_release(v);
            if (lost == 1)
                hurt_block(x->store, 2, BLOCK_ENCODINGS, CHUNK_HEADER_BYTES + 14 * ROW);
        }
        hurt_block(x->store, 3, BLOCK_ROWS, CHUNK_HEADER_BYTES + 30);
        hurt_block(x->store, 2, BLOCK_SIX, CHUNK_HEADER_BYTES + 3);
        hurt_block(x->store, 1, BLOCK_TEXTS, CHUNK_HEADER_BYTES + 40);
        store_recheck(s);
        v = read_on(s, c, single, true);
        assert_int_equal(v->damage->examples, 42);
        assert_false(view_chunk_coded(&v->chunks[1]));
        view_release(v);
        corpus_release(c);
        store_close(s);
        assert_int_equal(scratch_teardown(state), 0);
        assert_int_equal(scratch_setup(state), 0);
        x = *state;
    }
}

/* A note of what was read in a round that is over says nothing; who distrusts a chunk reads it. */
static void test_late_note(void **state)
{
    struct scratch *x = *state;
    struct store *s;
    struct corpus *c;
    const struct view *v;
    struct err e = ERR_INIT;
    struct shard *shard;
    uint64_t round, now;

    make_store(x->store);
    s = reopen(x->store);
    c = store_corpus_find(s, "c");
    v = corpus_view(c);
    shard = v->chunks[1].shard;
    assert_int_equal(shard_block_mark(shard, 2, 0, &round), SHARD_UNSEEN);
    store_recheck(s);
    shard_block_note(shard, 2, 0, round);
    shard_row_note(shard, 2, 3, 20, round);
    assert_int_equal(shard_block_mark(shard, 2, 0, &now), SHARD_UNSEEN);
    assert_false(shard_row_seen(shard, 2, 3, &now));
    assert_int_equal(now, round + 1);
    shard_block_note(shard, 2, 0, now);
    assert_int_equal(shard_block_mark(shard, 2, 0, &now), SHARD_RIGHT);
    assert_true(shard_row_seen(shard, 2, 3, &now));
    store_recheck(s);
    assert_int_equal(shard_block_mark(shard, 2, 0, &now), SHARD_STALE);
    assert_false(shard_row_seen(shard, 2, 3, &now));
    assert_ok(block_distrust(&v->chunks[1], &e), &e);
    assert_int_equal(shard_block_mark(shard, 2, 0, &now), SHARD_RIGHT);
    hurt_block(x->store, 2, BLOCK_ENCODINGS, CHUNK_HEADER_BYTES + 13 * ROW + 7);
    assert_int_equal(block_distrust(&v->chunks[1], &e), ERR_CORRUPT);
    assert_int_equal(store_damage(s), 1 + shard_is_doubtful(shard, 2));
    view_release(v);
    corpus_release(c);
    store_close(s);
}

/* What a compaction writes gets new sums, so it looks at what it copies, in whatever round. */
static void test_compaction_looks(void **state)
{
    struct scratch *x = *state;
    struct store *s;
    struct corpus *c;
    struct err e = ERR_INIT;

    make_store(x->store);
    s = reopen(x->store);
    c = store_corpus_find(s, "c");
    view_release(read_on(s, c, false, true));
    hurt_block(x->store, 2, BLOCK_ENCODINGS, CHUNK_HEADER_BYTES + 13 * ROW + 7);
    assert_int_equal(compact_corpus(c, NULL, NULL, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "1 of 20 rows"));
    corpus_release(c);
    store_close(s);
}

/* A second record that is hit is a fault for verify, and written again by a repair. */
static void test_second(void **state)
{
    struct scratch *x = *state;
    const unsigned char second[10] = {8, 0, '2', LEDGER_RECORDS, 4, 0, 0, 0, 1, 't'};
    struct repair_report report;
    struct verify_report r;
    struct err e = ERR_INIT;
    struct store *s;

    make_store(x->store);
    put_task(x->store, "a task's text");
    hurt_record(x->store, second, sizeof second, 10 + 16 + 3);
    s = reopen(x->store);
    assert_int_equal(store_healed(s), 0);
    assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
    assert_int_equal(r.ledger_faults, 1);
    assert_ok(repair_store(s, NULL, NULL, NULL, NULL, &report, &e), &e);
    assert_int_equal(report.after.ledger_faults, 0);
    store_close(s);
}

/* A chunk whose record and whose table of rows are both gone cannot be placed: that must be said. */
static void test_ledger_that_cannot(void **state)
{
    struct scratch *x = *state;
    unsigned char chunk[20] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 20};
    struct store_options o = {.coder = &fake_init(&coder, 1)->coder};
    struct err e = ERR_INIT;
    struct store *s = NULL;

    make_store(x->store);
    hurt_block(x->store, 2, BLOCK_ROWS, CHUNK_HEADER_BYTES + 30);
    hurt_record(x->store, chunk, sizeof chunk, 17);
    assert_int_equal(store_open(x->store, &o, &s, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "table chunks"));
}

/* ---- Any bit --------------------------------------------------------------------------------- */

struct tally {
    uint64_t examples, texts, batches;
};

static void count_lost(void *arg, const char *corpus, const char *id, size_t len, const char *what)
{
    struct tally *t = arg;

    assert_string_equal(corpus, "c");
    assert_true(len > 0 && id);
    t->examples += strcmp(what, "example") == 0;
    t->texts += strcmp(what, "texts") == 0;
    t->batches += strcmp(what, "batch") == 0;
}

/* True when the store opened. Then every example is served rightly or named, before the repair and
 * after it, and what the repair leaves is sound. */
static bool live_with(struct scratch *x)
{
    struct store_options o = {.coder = &fake_init(&coder, 1)->coder};
    struct repair_report report;
    struct tally lost = {0};
    struct err e = ERR_INIT;
    const struct view *v;
    struct store *s = NULL;
    struct corpus *c;

    if (store_open(x->store, &o, &s, &e)) {
        assert_int_equal(e.code, ERR_CORRUPT);
        return false;
    }
    c = store_corpus_find(s, "c");
    assert_non_null(c);
    v = read_on(s, c, true, false);
    check_whole(v, EXAMPLES - 1);
    view_release(v);
    corpus_release(c);
    store_close(s);
    s = open_store_with(x->store, o);
    assert_ok(repair_store(s, count_lost, &lost, NULL, NULL, &report, &e), &e);
    assert_int_equal(report.after.damaged_blocks + report.after.damaged_ids, 0);
    assert_int_equal(report.after.ledger_faults, 0);
    assert_int_equal(report.after.examples + lost.examples, EXAMPLES - 1);
    assert_int_equal(report.examples, lost.examples);
    assert_int_equal(report.texts, lost.texts);
    store_close(s);
    s = open_store_with(x->store, o);
    c = store_corpus_find(s, "c");
    v = corpus_view(c);
    assert_int_equal(v->live, EXAMPLES - 1 - lost.examples);
    if (!lost.texts)
        assert_ok(read_all(v, false, true, &e), &e);
    view_release(v);
    corpus_release(c);
    store_close(s);
    return true;
}

static void test_any_bit(void **state)
{
    struct scratch *x = *state;
    unsigned opened[2] = {0};
    struct err e = ERR_INIT;

    for (uint64_t n = 0; n < 80; n++) {
        static const char *const names[] = {"shards/000001/data.mdb", "ledger/data.mdb"};
        struct file f;

        assert_ok(fs_remove_tree(x->store, 4, &e), &e);
        make_store(x->store);
        f = file_read(x->store, names[n % 2]);
        file_flip(&f, 8192 + mix(n) % (f.size - 8192));
        file_free(&f);
        opened[n % 2] += live_with(x);
    }
    assert_true(opened[0] >= 36);
    assert_true(opened[1] >= 30);
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_one_row),   scratch_test(test_table_of_rows),
        scratch_test(test_texts),     scratch_test(test_derived),
        scratch_test(test_shard_that_does_not_open),
        scratch_test(test_ledger_made_again), scratch_test(test_ledger_that_cannot),
        scratch_test(test_what_all_stands_on), scratch_test(test_task), scratch_test(test_second),
        scratch_test(test_any_bit), scratch_test(test_round), scratch_test(test_late_note),
        scratch_test(test_compaction_looks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
