/* test_maintain.c - verify on sound and damaged stores, backup and restore, compact. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "tests/unit/storage/coder.h"

/* ---- Helpers --------------------------------------------------------------------------------- */

struct findings {
    char text[64 << 10];
    unsigned lines;
};

static void note(void *arg, const char *line)
{
    struct findings *f = arg;
    size_t len = strlen(f->text);

    f->lines++;
    snprintf(f->text + len, sizeof f->text - len, "%s\n", line);
}

static struct verify_report verify(struct store *s, struct findings *f)
{
    struct verify_report r;
    struct err e = ERR_INIT;

    *f = (struct findings){0};
    assert_ok(verify_store(s, note, f, NULL, &r, &e), &e);
    return r;
}

static void assert_sound(struct store *s)
{
    static struct findings f;
    struct verify_report r = verify(s, &f);

    if (f.lines)
        print_error("%s", f.text);
    assert_int_equal(f.lines, 0);
    assert_int_equal(r.damaged_blocks + r.damaged_ids + r.ledger_faults, 0);
}

static void delete_example(struct corpus *c, uint64_t n)
{
    char id[CORPUS_ID_MAX];
    struct err e = ERR_INIT;

    assert_ok(commit_delete(c, id, id_of(n, id), &e), &e);
}

/* Where `needle` lies in a file; it must be there `nth` + 1 times at least. */
static long find_bytes(const char *path, const void *needle, size_t len, unsigned nth)
{
    FILE *f = fopen(path, "rb");
    unsigned char *all;
    long size, found = -1;

    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);
    all = mem_new((size_t)size, 1);
    assert_int_equal(fread(all, 1, (size_t)size, f), size);
    for (long i = 0; i + (long)len <= size; i++)
        if (memcmp(all + i, needle, len) == 0 && nth-- == 0) {
            found = i;
            break;
        }
    free(all);
    fclose(f);
    assert_true(found >= 0);
    return found;
}

static void flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    int c;

    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 0x10, f);
    fclose(f);
}

/* ---- Verify ---------------------------------------------------------------------------------- */

static void test_verify_sound(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store_with(x->store, (struct store_options){.create = true,
                                                                       .shard_bytes = 1 << 20,
                                                                       .chunk_bytes = 64 << 10, .coder = &fake_coder});
    struct corpus *c = make_corpus(s, "c", 256, DTYPE_F32), *d = make_corpus(s, "d", 3, DTYPE_F16);
    static struct findings f;
    struct verify_report r;
    struct err e = ERR_INIT;

    assert_sound(s); /* empty */
    put_examples(s, c, "a", 0, 3000);
    put_examples(s, c, "b", 3000, 10);
    put_examples(s, d, "a", 0, 100);
    for (uint64_t n = 0; n < 3000; n += 97)
        delete_example(c, n);
    put_examples(s, c, "back", 0, 1);
    assert_ok(store_record_put(s, STORE_KEYS, "k", 1, "v", 1, &e), &e);
    r = verify(s, &f);
    assert_string_equal(f.text, "");
    assert_int_equal(r.rows, 3111);
    assert_int_equal(r.examples, 3111 - 31);
    assert_true(r.bytes == 3011 * 1024 + 100 * 6);
    assert_true(r.texts > 2000 && r.texts < 3111);
    assert_ok(store_corpus_drop(s, "c", &e), &e);
    corpus_release(c);
    corpus_release(d);
    assert_sound(s);
    store_close(s);
    s = open_store_with(x->store, (struct store_options){.read_only = true, .coder = &fake_coder});
    assert_sound(s);
    store_close(s);
}

/* One flipped byte in each kind of block: the reader refuses, verify names corpus, shard, chunk, kind
 * and every example that is `lost`: all 19, or only those whose encodings were hit. */
static void damage_and_check(struct scratch *x, enum block_kind kind, const void *needle, size_t len,
                             long add, unsigned lost)
{
    char *path = fs_join(x->store, "shards/000001/data.mdb");
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 64, DTYPE_F32);
    static struct findings f;
    struct verify_report r;
    struct err e = ERR_INIT;
    const struct view *v;
    struct block b;

    put_examples(s, c, "a", 0, 20);
    put_examples(s, c, "b", 20, 20);
    delete_example(c, 25);
    corpus_release(c);
    store_close(s);
    flip(path, find_bytes(path, needle, len, 0) + add);
    s = open_store(x->store);
    c = store_corpus_find(s, "c");
    v = corpus_view(c);
    assert_int_equal(block_open(&v->chunks[1], kind, &b, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "corpus c: shard 000001: chunk 2"));
    assert_int_equal(block_open(&v->chunks[1], kind, &b, &e), ERR_CORRUPT); /* and every time */
    err_clear(&e);
    assert_ok(block_open(&v->chunks[0], kind, &b, &e), &e); /* its neighbour is served */
    block_close(&b);
    view_release(v);
    r = verify(s, &f);
    assert_int_equal(r.damaged_blocks, 1);
    assert_int_equal(r.damaged_ids, lost);
    assert_int_equal(r.ledger_faults, 0);
    assert_non_null(strstr(f.text, "corpus c: shard 000001: chunk 2"));
    assert_non_null(strstr(f.text, "19 examples"));
    assert_non_null(strstr(f.text, "\"ex-33\""));
    assert_true(!strstr(f.text, "\"ex-20\"") == (lost == 1));
    assert_null(strstr(f.text, "\"ex-25\""));
    assert_null(strstr(f.text, "\"ex-19\""));
    assert_int_equal(f.lines, lost + 1);
    corpus_release(c);
    store_close(s);
    free(path);
}

static void test_damaged_encodings(void **state)
{
    unsigned char row[256];

    fill_encoding(row, sizeof row, 33);
    damage_and_check(*state, BLOCK_ENCODINGS, row, sizeof row, 100, 1);
}

static void test_damaged_rows(void **state)
{
    damage_and_check(*state, BLOCK_ROWS, "ex-20ex-21ex-22", 15, 3, 19);
}

static void test_damaged_texts(void **state)
{
    /* the TEXTS block starts with its header: magic, version, kind, dtype 1, 0, corpus 1, shard 1,
     * chunk 2 */
    static const unsigned char head[] = {'a', 's', 'c', 'b', 1, 't', 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2};

    damage_and_check(*state, BLOCK_TEXTS, head, sizeof head, 700, 19);
}

/* A whole and sound block in another's place, as after a misdirected write. */
static void test_misdirected_block(void **state)
{
    struct scratch *x = *state;
    char *path = fs_join(x->store, "shards/000001/data.mdb");
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 2048, DTYPE_F32); /* 8 KiB a row */
    static unsigned char head[] = {'a', 's', 'c', 'b', 1, 'e', 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1};
    unsigned char block[48 + 4 * 8192];
    static struct findings f;
    struct verify_report r;
    long one, two;
    FILE *file;

    put_examples(s, c, "a", 0, 4);
    put_examples(s, c, "b", 4, 4);
    corpus_release(c);
    store_close(s);
    one = find_bytes(path, head, sizeof head, 0);
    head[16] = 2;
    two = find_bytes(path, head, sizeof head, 0);
    file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, one, SEEK_SET);
    assert_int_equal(fread(block, 1, sizeof block, file), sizeof block);
    fseek(file, two, SEEK_SET);
    assert_int_equal(fwrite(block, 1, sizeof block, file), sizeof block);
    fclose(file);
    s = open_store(x->store);
    r = verify(s, &f);
    assert_int_equal(r.damaged_blocks, 1);
    assert_int_equal(r.damaged_ids, 4);
    assert_non_null(strstr(f.text, "belongs elsewhere"));
    store_close(s);
    free(path);
}

/* Flips single bytes over all live parts of the ledger's and shard's files: whatever is hit, nothing
 * wrong is ever served: either an error that names damage, or the right answer. */
static void test_random_flips(void **state)
{
    struct scratch *x = *state;
    char *shard = fs_join(x->store, "shards/000001/data.mdb");
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 64, DTYPE_F32);
    unsigned found = 0, tried = 0;
    long size;

    put_examples(s, c, "a", 0, 200);
    corpus_release(c);
    store_close(s);
    size = (long)fs_size(shard);
    for (long at = 3 * 4096 + 60; at < size; at += 911) { /* past LMDB's own pages */
        static struct findings f;
        struct verify_report r;
        bool is_slack;

        flip(shard, at);
        s = open_store_with(x->store, (struct store_options){.read_only = true, .coder = &fake_coder});
        r = verify(s, &f);
        store_close(s);
        flip(shard, at);
        tried++;
        is_slack = r.damaged_blocks == 0;
        found += !is_slack;
    }
    assert_true(tried > 60);
    assert_true(found >= tried * 8 / 10); /* the rest is page padding that nobody reads */
    s = open_store(x->store);
    assert_sound(s);
    store_close(s);
    free(shard);
}

static void test_damaged_ledger_record(void **state)
{
    struct scratch *x = *state;
    char *path = fs_join(x->store, "ledger/data.mdb");
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 8, DTYPE_F32);
    static struct findings f;
    struct verify_report r;
    struct err e = ERR_INIT;
    uint64_t sequence;

    put_examples(s, c, "a", 0, 3);
    corpus_release(c);
    store_close(s);
    /* the key of ex-1 and, behind it, its value; older copies of the page do not matter */
    for (unsigned i = 0; i < 1; i++)
        flip(path, find_bytes(path, "\0\0\0\1ex-1", 8, i) + 8);
    s = open_store(x->store);
    c = store_corpus_find(s, "c");
    assert_int_equal(corpus_find_id(c, "ex-1", 4, &sequence, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "table ids"));
    err_clear(&e);
    assert_ok(corpus_find_id(c, "ex-2", 4, &sequence, &e), &e);
    r = verify(s, &f);
    assert_true(r.ledger_faults >= 1);
    assert_non_null(strstr(f.text, "\"ex-1\""));
    corpus_release(c);
    store_close(s);
    free(path);
}

static void test_damaged_meta_pages(void **state)
{
    struct scratch *x = *state;
    char *ledger = fs_join(x->store, "ledger/data.mdb");
    struct store *s = open_store(x->store);
    struct err e = ERR_INIT;

    store_close(s);
    flip(ledger, 4096 + 40); /* the page size that LMDB would divide by */
    assert_int_equal(store_open(x->store, &(struct store_options){0}, &s, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "meta pages"));
    flip(ledger, 4096 + 40);
    s = open_store(x->store);
    store_close(s);
    free(ledger);
}

static void test_truncated_shard(void **state)
{
    struct scratch *x = *state;
    char *path = fs_join(x->store, "shards/000001/data.mdb");
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 4096, DTYPE_F32);
    static struct findings f;
    struct verify_report r;

    put_examples(s, c, "a", 0, 20);
    put_examples(s, c, "b", 20, 20);
    corpus_release(c);
    store_close(s);
    assert_int_equal(truncate(path, (off_t)fs_size(path) - (300 << 10)), 0);
    s = open_store(x->store);
    r = verify(s, &f);
    assert_true(r.damaged_blocks >= 1); /* and not SIGBUS */
    store_close(s);
    assert_int_equal(unlink(path), 0);
    s = open_store(x->store);
    r = verify(s, &f);
    assert_true(r.damaged_blocks >= 1);
    assert_non_null(strstr(f.text, "data.mdb is missing"));
    store_close(s);
    free(path);
}

/* ---- Backup and restore ---------------------------------------------------------------------- */

static bool cancel_at_once(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    (void)done;
    (void)total;
    return false;
}

static void test_backup_and_restore(void **state)
{
    struct scratch *x = *state;
    struct maintain_progress cancel = {.report = cancel_at_once};
    char *backup = fs_join(x->root, "backups/one"), *part = fs_join(x->root, "backups/one.part"),
         *again = fs_join(x->root, "again"), *again_part = fs_join(x->root, "again.part"),
         *shard = fs_join(backup, "shards/000002/data.mdb");
    struct store *s = open_store_with(
        x->store,
        (struct store_options){.create = true, .shard_bytes = 1 << 20, .chunk_bytes = 64 << 10, .coder = &fake_coder});
    struct corpus *c = make_corpus(s, "c", 256, DTYPE_F32);
    unsigned char dead[3000] = {[7] = 1, [2999] = 1};
    struct err e = ERR_INIT;

    put_examples(s, c, "a", 0, 3000);
    delete_example(c, 7);
    delete_example(c, 2999);
    assert_int_equal(backup_store(s, backup, &cancel, &e), ERR_CANCELLED);
    assert_false(fs_exists(part));
    err_clear(&e);
    assert_ok(backup_store(s, backup, NULL, &e), &e);
    assert_int_equal(backup_store(s, backup, NULL, &e), ERR_CONFLICT);
    put_examples(s, c, "later", 3000, 10);
    corpus_release(c);
    store_close(s);

    assert_int_equal(restore_store(backup, x->store, NULL, &e), ERR_CONFLICT);
    assert_int_equal(restore_store(backup, again, &cancel, &e), ERR_CANCELLED);
    assert_false(fs_exists(again_part));
    err_clear(&e);
    assert_ok(restore_store(backup, again, NULL, &e), &e);
    s = open_store(again);
    c = store_corpus_find(s, "c");
    check_corpus(c, 3000, dead);
    assert_sound(s);
    put_examples(s, c, "later", 3000, 10); /* it is a store like any other */
    corpus_release(c);
    store_close(s);
    assert_ok(fs_remove_tree(again, 3, &e), &e);

    flip(shard, 5 * 4096 + 100); /* a damaged backup is not restored */
    assert_int_equal(restore_store(backup, again, NULL, &e), ERR_CORRUPT);
    assert_false(fs_exists(again));
    assert_false(fs_exists(again_part));
    free(backup);
    free(part);
    free(again);
    free(again_part);
    free(shard);
}

/* What was sealed then is shared; what came since, and what only looks alike, is copied. */
static void test_backup_since(void **state)
{
    struct scratch *x = *state;
    char *one = fs_join(x->root, "one"), *two = fs_join(x->root, "two"),
         *three = fs_join(x->root, "three"), *again = fs_join(x->root, "again");
    struct store_options o = {
        .create = true, .shard_bytes = 1 << 20, .chunk_bytes = 64 << 10, .coder = &fake_coder};
    struct store *s = open_store_with(x->store, o);
    struct corpus *c = make_corpus(s, "c", 256, DTYPE_F32);
    unsigned char dead[3500] = {[7] = 1};
    struct backup_report r;
    struct err e = ERR_INIT;
    uint64_t shards;

    put_examples(s, c, "a", 0, 3000);
    assert_int_equal(backup_store_since(s, one, x->root, NULL, &r, &e), ERR_INVALID);
    err_clear(&e);
    assert_ok(backup_store_since(s, one, NULL, NULL, &r, &e), &e);
    shards = r.shards_copied;
    assert_true(shards >= 4 && r.shards_linked == 0);
    put_examples(s, c, "b", 3000, 500);
    delete_example(c, 7);
    assert_ok(backup_store_since(s, two, one, NULL, &r, &e), &e);
    assert_int_equal(r.shards_linked, shards - 1); /* the last one was active */
    assert_true(r.shards_copied >= 1 && r.bytes_linked > 3 * r.bytes_copied / 2);
    assert_ok(fs_remove_tree(one, 3, &e), &e); /* each stands alone */
    assert_ok(restore_store(two, again, NULL, &e), &e);
    corpus_release(c);
    store_close(s);

    s = open_store_with(again, o);
    c = store_corpus_find(s, "c");
    check_corpus(c, 3500, dead);
    assert_ok(compact_corpus(c, NULL, NULL, &e), &e); /* the shard of ex-7 is another one now */
    assert_ok(backup_store_since(s, three, two, NULL, &r, &e), &e);
    assert_true(r.shards_linked >= 1 && r.shards_copied >= 1);
    corpus_release(c);
    store_close(s);
    assert_ok(fs_remove_tree(again, 3, &e), &e);
    assert_ok(restore_store(three, again, NULL, &e), &e);
    free(one);
    free(two);
    free(three);
    free(again);
}

struct ingest {
    struct store *s;
    struct corpus *c;
    atomic_bool stop;
    atomic_uint committed; /* batches */
    struct lane *lane;
};

enum { PER_BATCH = 25 };

static void *ingest_main(void *arg)
{
    struct ingest *g = arg;

    for (unsigned i = 0; !atomic_load(&g->stop); i++) {
        char name[16];

        snprintf(name, sizeof name, "b%u", i);
        put_examples(g->s, g->c, name, i * PER_BATCH, PER_BATCH);
        atomic_store(&g->committed, i + 1);
        usleep(3000);
    }
    return NULL;
}

/* Backups taken beside ingest restore to a whole number of batches, at least those committed before. */
static void test_backup_beside_ingest(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store_with(
        x->store,
        (struct store_options){.create = true, .shard_bytes = 1 << 20, .chunk_bytes = 64 << 10, .coder = &fake_coder});
    struct ingest g = {.s = s, .c = make_corpus(s, "c", 512, DTYPE_F32)};
    struct err e = ERR_INIT;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, ingest_main, &g), 0);
    for (int i = 0; i < 6; i++) {
        char name[32];
        char *backup, *restored;
        struct corpus_stats st;
        struct store *r;
        struct corpus *c;
        unsigned before;

        snprintf(name, sizeof name, "backup%d", i);
        backup = fs_join(x->root, name);
        snprintf(name, sizeof name, "restored%d", i);
        restored = fs_join(x->root, name);
        usleep(30000);
        before = atomic_load(&g.committed);
        assert_ok(backup_store(s, backup, NULL, &e), &e);
        assert_ok(restore_store(backup, restored, NULL, &e), &e);
        r = open_store(restored);
        c = store_corpus_find(r, "c");
        corpus_stats(c, &st);
        assert_int_equal(st.examples % PER_BATCH, 0);
        assert_true(st.examples >= before * PER_BATCH);
        check_corpus(c, st.examples, NULL);
        corpus_release(c);
        store_close(r);
        free(backup);
        free(restored);
    }
    atomic_store(&g.stop, true);
    pthread_join(thread, NULL);
    assert_sound(s);
    corpus_release(g.c);
    store_close(s);
}

/* ---- Compact --------------------------------------------------------------------------------- */

static void test_compact(void **state)
{
    struct scratch *x = *state;
    struct store_options o = {.create = true, .shard_bytes = 1 << 20, .chunk_bytes = 64 << 10, .coder = &fake_coder};
    struct store *s = open_store_with(x->store, o);
    struct corpus *c = make_corpus(s, "c", 256, DTYPE_F32); /* 64 rows a chunk */
    unsigned char *dead = mem_new(4000, 1);
    struct corpus_stats before, after, third;
    char *shard = fs_join(x->store, "shards/000001");
    const struct view *old;
    struct err e = ERR_INIT;
    uint64_t sequence;
    size_t chunk;
    uint32_t row;

    for (unsigned i = 0; i < 100; i++) { /* small chunks */
        char name[16];

        snprintf(name, sizeof name, "s%u", i);
        put_examples(s, c, name, i * 10, 10);
    }
    put_examples(s, c, "large", 1000, 3000);
    for (uint64_t n = 0; n < 4000; n++)
        if (mix(n) % 3 == 0 && n < 2000) {
            delete_example(c, n);
            dead[n] = 1;
        }
    old = corpus_view(c);
    corpus_stats(c, &before);
    assert_ok(compact_corpus(c, NULL, NULL, &e), &e);
    corpus_stats(c, &after);
    assert_int_equal(after.examples, before.examples);
    assert_int_equal(after.tombstones, 0);
    assert_true(after.chunks < before.chunks / 2);
    assert_true(after.bytes < before.bytes);
    check_corpus(c, 4000, dead);
    assert_sound(s);
    assert_int_equal(check_view(old, NULL, 0), before.examples); /* readers keep what they hold */
    assert_true(fs_exists(shard));
    view_release(old);
    assert_false(fs_exists(shard));
    assert_ok(corpus_find_id(c, "ex-3999", 7, &sequence, &e), &e);
    assert_int_equal(sequence, 3999);
    for (uint64_t n = 0; n < 4000; n++) { /* sequences stay, in chunks that now have gaps */
        const struct view *v = corpus_view(c);

        assert_int_equal(view_locate(v, n, &chunk, &row, &e), !dead[n]);
        view_release(v);
    }
    delete_example(c, 1001); /* a row of a chunk with gaps */
    dead[1001] = 1;
    corpus_release(c);
    store_close(s);

    s = open_store_with(x->store, o);
    c = store_corpus_find(s, "c");
    check_corpus(c, 4000, dead);
    put_examples(s, c, "again", 1001, 1);
    dead[1001] = 0;
    check_corpus(c, 4000, dead);
    assert_ok(compact_corpus(c, NULL, NULL, &e), &e);
    corpus_stats(c, &after);
    assert_ok(compact_corpus(c, NULL, NULL, &e), &e); /* nothing left to do: nothing done */
    corpus_stats(c, &third);
    assert_int_equal(after.generation, third.generation);
    check_corpus(c, 4000, dead);
    assert_sound(s);
    corpus_release(c);
    store_close(s);
    free(dead);
    free(shard);
}

static void test_compact_to_nothing(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 16, DTYPE_F32);
    struct maintain_progress cancel = {.report = cancel_at_once};
    struct corpus_stats st;
    struct err e = ERR_INIT;

    assert_ok(compact_corpus(c, NULL, NULL, &e), &e);
    put_examples(s, c, "a", 0, 10);
    for (uint64_t n = 0; n < 10; n++)
        delete_example(c, n);
    assert_int_equal(compact_corpus(c, NULL, &cancel, &e), ERR_CANCELLED);
    err_clear(&e);
    assert_sound(s);
    assert_ok(compact_corpus(c, NULL, NULL, &e), &e);
    corpus_stats(c, &st);
    assert_int_equal(st.chunks, 0);
    assert_int_equal(st.shards, 0);
    assert_int_equal(st.bytes, 0);
    assert_sound(s);
    put_examples(s, c, "b", 0, 10);
    check_corpus(c, 10, NULL);
    corpus_release(c);
    store_close(s);
    s = open_store(x->store);
    c = store_corpus_find(s, "c");
    check_corpus(c, 10, NULL);
    corpus_release(c);
    store_close(s);
}

/* A writer lane as the server has one: a mutex is enough. */
struct lane {
    pthread_mutex_t lock;
};

static int lane_run(void *arg, int (*work)(void *work_arg, struct err *e), void *work_arg,
                    struct err *e)
{
    struct lane *l = arg;
    int rc;

    pthread_mutex_lock(&l->lock);
    rc = work(work_arg, e);
    pthread_mutex_unlock(&l->lock);
    return rc;
}

static void *busy_main(void *arg)
{
    struct ingest *g = arg;

    for (unsigned i = 0; !atomic_load(&g->stop); i++) {
        char name[16];

        snprintf(name, sizeof name, "b%u", i);
        pthread_mutex_lock(&g->lane->lock);
        put_examples(g->s, g->c, name, i * PER_BATCH, PER_BATCH);
        delete_example(g->c, i * PER_BATCH + 3);
        if (i > 10)
            delete_example(g->c, (i - 10) * PER_BATCH + 4 + i % 3);
        pthread_mutex_unlock(&g->lane->lock);
        atomic_store(&g->committed, i + 1);
        usleep(3000);
    }
    return NULL;
}

static void *compact_main(void *arg)
{
    struct ingest *g = arg;
    struct maintain_lane ml = {.run = lane_run, .arg = g->lane};
    struct err e = ERR_INIT;

    while (!atomic_load(&g->stop)) {
        if (compact_corpus(g->c, &ml, NULL, &e))
            return g; /* not NULL: it failed */
        usleep(20000);
    }
    return NULL;
}

/* Which examples busy_main has taken down again, after `total` rounds. */
static unsigned char *dead_after(unsigned total)
{
    unsigned char *dead = mem_new((size_t)total * PER_BATCH, 1);

    for (unsigned i = 0; i < total; i++) {
        dead[i * PER_BATCH + 3] = 1;
        if (i > 10)
            dead[(i - 10) * PER_BATCH + 4 + i % 3] = 1;
    }
    return dead;
}

/* Ingest, takedowns, compactions and backups at once; every backup restores to a sound store. */
static void test_everything_at_once(void **state)
{
    struct scratch *x = *state;
    struct store_options o = {.create = true, .shard_bytes = 1 << 20, .chunk_bytes = 64 << 10, .coder = &fake_coder};
    struct store *s = open_store_with(x->store, o);
    struct lane lane = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct ingest g = {.s = s, .c = make_corpus(s, "c", 512, DTYPE_F32), .lane = &lane};
    struct verify_report r;
    unsigned char *dead;
    struct err e = ERR_INIT;
    pthread_t busy, compactor;
    void *failed;
    unsigned total;

    assert_int_equal(pthread_create(&busy, NULL, busy_main, &g), 0);
    assert_int_equal(pthread_create(&compactor, NULL, compact_main, &g), 0);
    for (int i = 0; i < 5; i++) {
        char name[32], *backup, *restored;

        snprintf(name, sizeof name, "backup%d", i);
        backup = fs_join(x->root, name);
        snprintf(name, sizeof name, "restored%d", i);
        restored = fs_join(x->root, name);
        usleep(60000);
        assert_ok(backup_store(s, backup, NULL, &e), &e);
        assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
        assert_int_equal(r.damaged_blocks + r.damaged_ids + r.ledger_faults, 0);
        assert_ok(restore_store(backup, restored, NULL, &e), &e);
        free(backup);
        free(restored);
    }
    atomic_store(&g.stop, true);
    pthread_join(busy, NULL);
    pthread_join(compactor, &failed);
    assert_null(failed);
    total = atomic_load(&g.committed);
    assert_true(total > 10);
    dead = dead_after(total);
    check_corpus(g.c, (uint64_t)total * PER_BATCH, dead);
    assert_sound(s);
    corpus_release(g.c);
    store_close(s);
    s = open_store_with(x->store, o);
    g.c = store_corpus_find(s, "c");
    check_corpus(g.c, (uint64_t)total * PER_BATCH, dead);
    assert_sound(s);
    corpus_release(g.c);
    store_close(s);
    free(dead);
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_verify_sound),
        scratch_test(test_damaged_encodings),
        scratch_test(test_damaged_rows),
        scratch_test(test_damaged_texts),
        scratch_test(test_misdirected_block),
        scratch_test(test_random_flips),
        scratch_test(test_damaged_ledger_record),
        scratch_test(test_damaged_meta_pages),
        scratch_test(test_truncated_shard),
        scratch_test(test_backup_and_restore), scratch_test(test_backup_since),
        scratch_test(test_backup_beside_ingest),
        scratch_test(test_compact),
        scratch_test(test_compact_to_nothing),
        scratch_test(test_everything_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
