/* test_codes.c - codes and row sums: through every path that writes chunks, in every mix of rows with
 * and without codes; single rows by their own sums; damage; stores of formats 1 and 2. */
#include <fcntl.h>
#include <zstd.h>

#include "storage/annex.h"
#include "storage/catalog.h"
#include "storage/shard.h"
#include "tests/unit/storage/coder.h"

static struct store *open_coded(const char *dir, struct fake *f)
{
    return open_store_with(dir, (struct store_options){.create = true,
                                                       .shard_bytes = 1 << 20,
                                                       .chunk_bytes = 16 << 10,
                                                       .coder = f ? &f->coder : NULL});
}

static void assert_sound(struct store *s, struct verify_report *out)
{
    struct verify_report r;
    struct err e = ERR_INIT;

    assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
    assert_int_equal(r.damaged_blocks + r.damaged_ids + r.ledger_faults, 0);
    if (out)
        *out = r;
}

static void delete_example(struct corpus *c, uint64_t n)
{
    char id[CORPUS_ID_MAX];
    struct err e = ERR_INIT;

    assert_ok(commit_delete(c, id, id_of(n, id), &e), &e);
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* Made by the commit: a group of batches of two corpora, one too narrow for codes; many chunks. */
static void test_commit_makes_codes(void **state)
{
    struct scratch *x = *state;
    struct fake f;
    struct store *s = open_coded(x->store, fake_init(&f, 3));
    struct corpus *c = make_corpus(s, "c", 100, DTYPE_F16), *d = make_corpus(s, "d", 7, DTYPE_F32);
    const struct view *v;
    struct err e = ERR_INIT;
    struct block b;

    put_examples(s, c, "a", 0, 300);
    put_examples(s, d, "a", 0, 50);
    put_examples(s, c, "b", 300, 1);
    assert_int_equal(check_codes(c, f.version), 301);
    assert_int_equal(f.rows, 301);
    assert_int_equal(corpus_code_shape(d)->version, 0);
    v = corpus_view(d);
    assert_false(v->chunks[0].coded);
    assert_true(v->chunks[0].summed);
    assert_int_equal(block_open(&v->chunks[0], BLOCK_SIX, &b, &e), ERR_INTERNAL);
    assert_non_null(strstr(e.text, "corpus d: shard 000002: chunk"));
    view_release(v);
    corpus_release(c);
    corpus_release(d);
    store_close(s);
    s = open_coded(x->store, &f);
    c = store_corpus_find(s, "c");
    assert_int_equal(check_codes(c, f.version), 301);
    check_corpus(c, 301, NULL);
    assert_sound(s, NULL);
    corpus_release(c);
    store_close(s);
}

static struct codes *codes_of_batch(struct corpus *c, struct made *m, uint32_t slice)
{
    struct err e = ERR_INIT;
    struct codes *out;

    assert_ok(corpus_codes_new(c, m->batch.count, &m->arena, &out, &e), &e);
    for (uint32_t at = 0, n; at < m->batch.count; at += n) {
        n = m->batch.count - at < slice ? m->batch.count - at : slice;
        assert_ok(corpus_codes_make(c,
                                    (const unsigned char *)m->batch.encodings +
                                        at * corpus_row_bytes(c),
                                    at, n, out, &e),
                  &e);
    }
    return out;
}

/* Batches that bring their codes, some rows of them duplicates, beside one that does not. */
static void test_codes_made_ahead(void **state)
{
    struct scratch *x = *state;
    struct fake f;
    struct store *s = open_coded(x->store, fake_init(&f, 1));
    struct corpus *c = make_corpus(s, "c", 33, DTYPE_F32);
    struct err e = ERR_INIT;
    struct made m[3];
    struct commit_batch *list[3];
    unsigned before;

    put_examples(s, c, "first", 40, 13);
    make_batch(&m[0], c, "a", 0, 90); /* 40 to 52 are there */
    make_batch(&m[1], c, "b", 85, 200);
    make_batch(&m[2], c, "z", 285, 1);
    m[0].batch.codes = codes_of_batch(c, &m[0], 7);
    m[1].batch.codes = codes_of_batch(c, &m[1], 200);
    m[2].batch.codes = codes_of_batch(c, &m[2], 1);
    before = f.rows;
    for (int i = 0; i < 3; i++)
        list[i] = &m[i].batch;
    assert_ok(commit_group(s, list, 3, &e), &e);
    assert_int_equal(m[0].batch.duplicates, 13);
    assert_int_equal(m[1].batch.duplicates, 5);
    assert_int_equal(f.rows, before); /* none was made twice */
    assert_int_equal(check_codes(c, f.version), 286);
    for (int i = 0; i < 3; i++)
        arena_free(&m[i].arena);
    make_batch(&m[0], c, "c", 286, 20);
    make_batch(&m[1], c, "d", 306, 20);
    m[0].batch.codes = codes_of_batch(c, &m[0], 20);
    assert_ok(commit_group(s, list, 2, &e), &e);
    assert_int_equal(check_codes(c, f.version), 326);
    check_corpus(c, 326, NULL);
    assert_sound(s, NULL);
    arena_free(&m[0].arena);
    arena_free(&m[1].arena);
    corpus_release(c);
    store_close(s);
}

/* A coder that fails leaves nothing behind, and the next commit goes on. */
static void test_coder_fails(void **state)
{
    struct scratch *x = *state;
    struct fake f;
    struct store *s = open_coded(x->store, fake_init(&f, 1));
    struct corpus *c = make_corpus(s, "c", 64, DTYPE_F32);
    struct err e = ERR_INIT;
    struct made m;

    put_examples(s, c, "a", 0, 10);
    make_batch(&m, c, "b", 10, 10);
    atomic_store(&f.fails, true);
    assert_int_equal(commit_one(s, &m, &e), ERR_BUSY);
    assert_int_equal(m.batch.err.code, ERR_BUSY);
    check_corpus(c, 10, NULL);
    atomic_store(&f.fails, false);
    err_clear(&e);
    assert_ok(commit_one(s, &m, &e), &e);
    arena_free(&m.arena);
    assert_int_equal(check_codes(c, f.version), 20);
    assert_sound(s, NULL);
    corpus_release(c);
    store_close(s);
}

/* ---- Stores without codes, or with others ---------------------------------------------------- */

static void compact(struct corpus *c)
{
    struct err e = ERR_INIT;

    assert_ok(compact_corpus(c, NULL, NULL, &e), &e);
}

static void test_compact_writes_codes(void **state)
{
    struct scratch *x = *state;
    struct fake f, g;
    struct store *s = open_coded(x->store, NULL);
    struct corpus *c = make_corpus(s, "c", 256, DTYPE_F32); /* 16 rows a chunk */
    unsigned char dead[100] = {0};
    uint64_t generation;
    struct corpus_stats st;
    unsigned made;

    put_examples(s, c, "a", 0, 64); /* whole chunks: nothing to join, nothing dead */
    corpus_release(c);
    store_close(s);
    fake_init(&g, 9);
    s = open_coded(x->store, fake_init(&f, 2));
    c = store_corpus_find(s, "c");
    put_examples(s, c, "b", 64, 32);
    corpus_stats(c, &st);
    assert_int_equal(st.coded, 32);
    delete_example(c, 70);
    dead[70] = 1;
    corpus_stats(c, &st);
    assert_int_equal(st.coded, 31);
    made = f.rows;
    compact(c);
    assert_int_equal(check_codes(c, f.version), 95);
    corpus_stats(c, &st);
    assert_int_equal(st.coded, 95);
    assert_int_equal(f.rows, made + 64); /* the others kept theirs */
    assert_sound(s, NULL);
    corpus_stats(c, &st);
    generation = st.generation;
    compact(c); /* and now nothing is left to do */
    corpus_stats(c, &st);
    assert_int_equal(st.generation, generation);
    corpus_release(c);
    store_close(s);
    s = open_coded(x->store, &g); /* a later program's codes are others */
    c = store_corpus_find(s, "c");
    {
        const struct view *v = corpus_view(c);
        struct err e = ERR_INIT;
        struct block b;

        assert_false(v->chunks[0].coded);
        assert_int_equal(v->chunks[0].code_version, 2);
        assert_int_equal(block_open(&v->chunks[0], BLOCK_BITS, &b, &e), ERR_INTERNAL);
        view_release(v);
    }
    assert_sound(s, NULL); /* sums alone */
    compact(c);
    assert_int_equal(check_codes(c, g.version), 95);
    check_corpus(c, 96, dead);
    corpus_release(c);
    store_close(s);
    s = open_coded(x->store, NULL); /* a reader without a coder */
    c = store_corpus_find(s, "c");
    check_corpus(c, 96, dead);
    assert_sound(s, NULL);
    corpus_release(c);
    store_close(s);
}

static int turned(void *arg, const void *in, double *norms, size_t count, void *out, struct err *e)
{
    (void)arg, (void)e, (void)norms;
    for (size_t i = 0; i < count * 128; i++)
        ((unsigned char *)out)[i] = ((const unsigned char *)in)[i] ^ 0x55;
    return 0;
}

static void test_rewrite_writes_codes(void **state)
{
    struct scratch *x = *state;
    struct rewrite_to to = {.rows = turned, .text = "{}"};
    struct fake f;
    struct store *s = open_coded(x->store, fake_init(&f, 2));
    struct corpus *c = make_corpus(s, "c", 32, DTYPE_F32);
    struct err e = ERR_INIT;

    put_examples(s, c, "a", 0, 200);
    delete_example(c, 5);
    assert_ok(rewrite_corpus(c, &to, NULL, NULL, &e), &e);
    assert_int_equal(check_codes(c, f.version), 199);
    assert_sound(s, NULL);
    corpus_release(c);
    store_close(s);
}

static void test_backup_keeps_codes(void **state)
{
    struct scratch *x = *state;
    char *backup = fs_join(x->root, "backup"), *restored = fs_join(x->root, "restored");
    struct fake f;
    struct store *s = open_coded(x->store, fake_init(&f, 2));
    struct corpus *c = make_corpus(s, "c", 32, DTYPE_BF16);
    struct err e = ERR_INIT;

    put_examples(s, c, "a", 0, 300);
    corpus_release(c);
    assert_ok(backup_store(s, backup, NULL, &e), &e);
    store_close(s);
    assert_ok(restore_store(backup, restored, NULL, &e), &e);
    s = open_coded(restored, &f);
    c = store_corpus_find(s, "c");
    assert_int_equal(check_codes(c, f.version), 300);
    assert_sound(s, NULL);
    corpus_release(c);
    store_close(s);
    free(backup);
    free(restored);
}

/* ---- Single rows ----------------------------------------------------------------------------- */

enum { ROW = 64 * 4 };

static void flip_row(const char *store, const void *row, size_t at)
{
    char *path = fs_join(store, "shards/000001/data.mdb");
    FILE *f = fopen(path, "r+b");
    unsigned char *all;
    long size;
    bool found = false;

    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);
    all = mem_new((size_t)size, 1);
    assert_int_equal(fread(all, 1, (size_t)size, f), size);
    for (long i = 0; i + ROW <= size && !found; i++) {
        found = memcmp(all + i, row, ROW) == 0;
        if (found) {
            fseek(f, i + (long)at, SEEK_SET);
            fputc(all[i + (long)at] ^ 4, f);
        }
    }
    assert_true(found);
    free(all);
    fclose(f);
    free(path);
}

static void check_row(const struct view_chunk *k, const struct block *b, uint32_t row)
{
    unsigned char expected[ROW];
    const unsigned char *got;
    struct err e = ERR_INIT;

    fill_encoding(expected, ROW, row);
    assert_ok(block_row(k, b, row, &got, &e), &e);
    assert_memory_equal(got, expected, ROW);
}

/* One damaged row: its neighbours are served, it never is, and the whole block neither. */
static void test_rows_by_their_own_sums(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_coded(x->store, NULL);
    struct corpus *c = make_corpus(s, "c", 64, DTYPE_F32);
    const struct view_chunk *k;
    const struct view *v;
    const unsigned char *got;
    unsigned char row[ROW];
    struct err e = ERR_INIT;
    struct verify_report r;
    struct block b;

    put_examples(s, c, "a", 0, 40);
    corpus_release(c);
    store_close(s);
    fill_encoding(row, ROW, 17);
    flip_row(x->store, row, 200);
    s = open_coded(x->store, NULL);
    c = store_corpus_find(s, "c");
    v = corpus_view(c);
    k = &v->chunks[0];
    assert_ok(block_open_rows(k, &b, &e), &e);
    for (int turn = 0; turn < 2; turn++)
        for (uint32_t i = 0; i < 40; i++)
            if (i != 17)
                check_row(k, &b, i);
    for (int turn = 0; turn < 2; turn++) {
        assert_int_equal(block_row(k, &b, 17, &got, &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, "chunk 1: encodings: row 17"));
    }
    block_close(&b);
    assert_int_equal(block_open_row(k, 17, &b, &e), ERR_CORRUPT);
    assert_int_equal(block_open(k, BLOCK_ENCODINGS, &b, &e), ERR_CORRUPT);
    err_clear(&e);
    assert_ok(block_open_row(k, 39, &b, &e), &e);
    assert_int_equal(b.len, ROW);
    fill_encoding(row, ROW, 39);
    assert_memory_equal(b.bytes, row, ROW);
    block_close(&b);
    assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
    assert_int_equal(r.damaged_blocks, 1);
    assert_int_equal(r.damaged_ids, 1);
    view_release(v);
    corpus_release(c);
    store_close(s);
}

static bool row_seen(const struct view_chunk *c, uint32_t row)
{
    uint64_t round;

    return shard_row_seen(c->shard, c->id, row, &round);
}

/* After the whole block was right, rows are not summed again; both ways give the same bytes. */
static void test_rows_after_the_block(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_coded(x->store, NULL);
    struct corpus *c = make_corpus(s, "c", 64, DTYPE_F32);
    const struct view *v;
    struct err e = ERR_INIT;
    struct block whole, b;

    put_examples(s, c, "a", 0, 64);
    v = corpus_view(c);
    assert_false(row_seen(&v->chunks[0], 0));
    assert_ok(block_open_rows(&v->chunks[0], &b, &e), &e);
    check_row(&v->chunks[0], &b, 63);
    assert_true(row_seen(&v->chunks[0], 63));
    assert_false(row_seen(&v->chunks[0], 62));
    assert_ok(block_open(&v->chunks[0], BLOCK_ENCODINGS, &whole, &e), &e);
    assert_true(row_seen(&v->chunks[0], 62));
    check_row(&v->chunks[0], &b, 62);
    block_close(&b);
    block_close(&whole);
    view_release(v);
    corpus_release(c);
    store_close(s);
}

/* Whatever is prefetched, there or not, right or not: nothing happens but that it may be read. */
static void test_prefetch(void **state)
{
    struct scratch *x = *state;
    struct fake f;
    struct store *s = open_coded(x->store, fake_init(&f, 1));
    struct corpus *c = make_corpus(s, "c", 2048, DTYPE_F32), *d = make_corpus(s, "d", 4, DTYPE_F32);
    const struct view *v, *w;

    put_examples(s, c, "a", 0, 20);
    put_examples(s, d, "a", 0, 20);
    v = corpus_view(c);
    w = corpus_view(d);
    for (unsigned i = 0; i < CHUNK_KINDS; i++) {
        block_prefetch(&v->chunks[0], chunk_kinds[i]);
        block_prefetch(&w->chunks[0], chunk_kinds[i]); /* has no codes */
    }
    for (int turn = 0; turn < 2; turn++) { /* summed, then seen */
        struct err e = ERR_INIT;
        struct block few, whole;

        assert_ok(block_open_sparse(&v->chunks[0], BLOCK_SIX, &few, &e), &e);
        assert_ok(block_open(&v->chunks[0], BLOCK_SIX, &whole, &e), &e);
        few.cold = true; /* as if it were */
        block_ahead(&few, 0, few.len);
        block_ahead(&few, few.len, 0);
        block_ahead(&few, 17, 1025);
        assert_int_equal(few.len, whole.len);
        assert_memory_equal(few.bytes, whole.bytes, whole.len);
        block_close(&few);
        block_close(&whole);
        assert_int_equal(block_open_sparse(&w->chunks[0], BLOCK_SIX, &few, &e), ERR_INTERNAL);
    }
    assert_int_equal(check_codes(c, f.version), 20);
    view_release(v);
    view_release(w);
    corpus_release(c);
    corpus_release(d);
    store_close(s);
}

/* ---- Codes that are not the rows' ------------------------------------------------------------ */

static char last_finding[512];

static void keep_finding(void *arg, const char *line)
{
    (void)arg;
    snprintf(last_finding, sizeof last_finding, "%s", line);
}

/* Whole and sound blocks whose content another coder of the same version made: only making the codes
 * again finds it, and no example is called damaged. */
static void test_verify_makes_codes_again(void **state)
{
    struct scratch *x = *state;
    struct fake f, liar;
    struct store *s = open_coded(x->store, fake_init(&liar, 2));
    struct corpus *c = make_corpus(s, "c", 40, DTYPE_F32);
    struct err e = ERR_INIT;
    struct verify_report r;

    liar.version = 77; /* what fake_encode makes; the shape was asked for before */
    put_examples(s, c, "a", 0, 9);
    corpus_release(c);
    store_close(s);
    s = open_coded(x->store, NULL);
    assert_sound(s, NULL); /* nobody here can tell */
    store_close(s);
    s = open_coded(x->store, fake_init(&f, 2));
    assert_ok(verify_store(s, keep_finding, NULL, NULL, &r, &e), &e);
    assert_int_equal(r.damaged_blocks, 1);
    assert_int_equal(r.damaged_ids, 0);
    assert_non_null(strstr(last_finding, "codes (1 bit): not those of row 0"));
    c = store_corpus_find(s, "c");
    compact(c);
    assert_int_equal(check_codes(c, f.version), 9);
    assert_sound(s, NULL);
    corpus_release(c);
    store_close(s);
}

static void test_damaged_codes(void **state)
{
    struct scratch *x = *state;
    char *path = fs_join(x->store, "shards/000001/data.mdb");
    static const unsigned char head[] = {'a', 's', 'c', 'b', 1, 's', 1, 6, 1, 0, 0, 0, 1, 0, 0, 0, 1};
    struct fake f;
    struct store *s = open_coded(x->store, fake_init(&f, 6));
    struct corpus *c = make_corpus(s, "c", 64, DTYPE_F32);
    const struct view *v;
    struct err e = ERR_INIT;
    struct verify_report r;
    struct block b;
    unsigned char *all;
    long size, at = -1;
    FILE *file;

    put_examples(s, c, "a", 0, 40);
    corpus_release(c);
    store_close(s);
    file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    all = mem_new((size_t)size, 1);
    assert_int_equal(fread(all, 1, (size_t)size, file), size);
    for (long i = 0; i + (long)sizeof head <= size; i++) /* a split page may hold a stale copy */
        if (memcmp(all + i, head, sizeof head) == 0) {
            at = i + CHUNK_HEADER_BYTES + 100;
            fseek(file, at, SEEK_SET);
            fputc(all[at] ^ 1, file);
        }
    assert_true(at >= 0);
    fclose(file);
    s = open_coded(x->store, &f);
    c = store_corpus_find(s, "c");
    v = corpus_view(c);
    assert_int_equal(block_open(&v->chunks[0], BLOCK_SIX, &b, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "chunk 1: codes (6 bits): the checksum is wrong"));
    err_clear(&e);
    assert_ok(block_open(&v->chunks[0], BLOCK_BITS, &b, &e), &e);
    block_close(&b);
    view_release(v);
    check_corpus(c, 40, NULL); /* the examples are whole */
    assert_ok(verify_store(s, keep_finding, NULL, NULL, &r, &e), &e);
    assert_int_equal(r.damaged_blocks, 1);
    assert_int_equal(r.damaged_ids, 0);
    compact(c); /* which makes them again */
    assert_int_equal(check_codes(c, f.version), 40);
    assert_sound(s, NULL);
    corpus_release(c);
    store_close(s);
    free(all);
    free(path);
}

/* ---- Stores of older formats ----------------------------------------------------------------- */

/* tests/unit/storage/old/formatN: the files of a store that this program's ancestor of format N
 * wrote (the examples of fixture.h; shards of 128 KiB, chunks of 16 rows), each a zstd frame. Corpus
 * "old": 24 x f32, examples 0 to 59 without 3 and 41; in format 2 it was rewritten once, into the same
 * rows. Corpus "half": 6 x f16, examples 0 to 8. */
static bool unpack_one(void *arg, const char *name)
{
    const char *const *dirs = arg; /* from, to */
    char *from = fs_join(dirs[0], name), *base = mem_copy(name, strlen(name)), *dir, *path;
    static char raw[256 << 10], packed[64 << 10];
    struct err e = ERR_INIT;
    size_t len, got;

    *strchr(base, '.') = '\0';
    if (strcmp(base, "ledger") == 0) {
        dir = fs_join(dirs[1], base);
    } else {
        char *shards = fs_join(dirs[1], "shards");

        dir = fs_join(shards, base);
        free(shards);
    }
    assert_ok(fs_read_file(from, packed, sizeof packed, &len, &e), &e);
    got = ZSTD_decompress(raw, sizeof raw, packed, len);
    assert_false(ZSTD_isError(got));
    assert_ok(fs_make_dir(dir, true, &e), &e);
    path = fs_join(dir, "data.mdb");
    assert_ok(fs_write_file(path, raw, got, &e), &e);
    free(path);
    free(dir);
    free(base);
    free(from);
    return true;
}

static void unpack(struct scratch *x, unsigned format)
{
    char from[64], *shards = fs_join(x->store, "shards"), *path = fs_join(x->store, "FORMAT");
    const char *dirs[] = {from, x->store};
    struct err e = ERR_INIT;

    snprintf(from, sizeof from, "tests/unit/storage/old/format%u", format);
    assert_ok(fs_make_dir(x->store, false, &e), &e);
    assert_ok(fs_make_dir(shards, false, &e), &e);
    assert_ok(fs_list(from, unpack_one, dirs, &e), &e);
    assert_ok(fs_write_file(path, "ascribe store 1\n", 16, &e), &e);
    free(shards);
    free(path);
}

static uint32_t format_of(struct store *s)
{
    return s->meta.format;
}

static void check_old(struct store *s, uint64_t more)
{
    struct corpus *old = store_corpus_find(s, "old"), *half = store_corpus_find(s, "half");
    unsigned char *dead = mem_new((size_t)(60 + more), 1);

    dead[3] = dead[41] = 1;
    assert_non_null(old);
    assert_non_null(half);
    check_corpus(old, 60 + more, dead);
    check_corpus(half, 9, NULL);
    free(dead);
    corpus_release(old);
    corpus_release(half);
}

/* Opened, read, verified; a batch, a deletion and a compaction later it is a store of today. */
static void old_store(struct scratch *x, unsigned format)
{
    struct fake f;
    struct store *s;
    struct corpus *c, *half;
    struct made m;
    struct err e = ERR_INIT;
    const struct view *v;
    struct block b;

    unpack(x, format);
    s = open_coded(x->store, fake_init(&f, 4));
    assert_int_equal(format_of(s), format);
    check_old(s, 0);
    assert_sound(s, NULL);
    c = store_corpus_find(s, "old");
    half = store_corpus_find(s, "half");
    v = corpus_view(c);
    assert_false(v->chunks[0].coded || v->chunks[0].summed);
    assert_ok(block_open_row(&v->chunks[0], 2, &b, &e), &e); /* by the sum of the block */
    assert_true(row_seen(&v->chunks[0], 0));
    block_close(&b);
    view_release(v);
    make_batch(&m, c, "new", 60, 30);
    m.batch.epoch = format == 2;
    assert_ok(commit_one(s, &m, &e), &e);
    assert_int_equal(m.batch.examples_new, 30);
    arena_free(&m.arena);
    assert_int_equal(format_of(s), LEDGER_FORMAT_CODES);
    check_old(s, 30);
    corpus_release(c);
    corpus_release(half);
    store_close(s);
    s = open_coded(x->store, &f); /* chunks of both kinds side by side */
    assert_int_equal(format_of(s), LEDGER_FORMAT_CODES);
    check_old(s, 30);
    assert_sound(s, NULL);
    c = store_corpus_find(s, "old");
    compact(c);
    assert_int_equal(check_codes(c, f.version), 88);
    check_old(s, 30);
    assert_sound(s, NULL);
    corpus_release(c);
    store_close(s);
}

static void test_format_1(void **state)
{
    old_store(*state, 1);
}

static void test_format_2(void **state)
{
    old_store(*state, 2);
}

/* What a later program writes is left alone. */
static void test_later_format(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_coded(x->store, NULL);
    struct err e = ERR_INIT;
    struct ledger_meta m = s->meta;
    struct txn t;

    m.format = LEDGER_FORMAT_CODES + 1;
    txn_begin_write(&t, &s->ledger);
    ledger_put_meta(&t, &m);
    assert_ok(txn_commit(&t, &e), &e);
    store_close(s);
    assert_int_equal(store_open(x->store, &(struct store_options){0}, &s, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, "format 4, this program knows 3"));
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_commit_makes_codes),
        scratch_test(test_codes_made_ahead),
        scratch_test(test_coder_fails),
        scratch_test(test_compact_writes_codes),
        scratch_test(test_rewrite_writes_codes),
        scratch_test(test_backup_keeps_codes),
        scratch_test(test_rows_by_their_own_sums),
        scratch_test(test_rows_after_the_block),
        scratch_test(test_prefetch),
        scratch_test(test_verify_makes_codes_again),
        scratch_test(test_damaged_codes),
        scratch_test(test_format_1),
        scratch_test(test_format_2),
        scratch_test(test_later_format),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
