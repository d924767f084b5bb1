/* test_store.c - create, open, reopen, refuse; corpora; records. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/storage/fixture.h"

static void put_file(const char *dir, const char *name, const char *text)
{
    char *path = fs_join(dir, name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    free(path);
}

static void test_create_and_reopen(void **state)
{
    struct scratch *x = *state;
    struct store_options o = {0};
    struct err e = ERR_INIT;
    struct store *s;
    struct corpus *c;
    struct stat st;

    assert_int_equal(store_open(x->store, &o, &s, &e), ERR_INVALID);
    assert_false(fs_exists(x->store));
    s = open_store(x->store);
    assert_string_equal(store_dir(s), x->store);
    assert_int_equal(stat(x->store, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    c = make_corpus(s, "c4", 8, DTYPE_F32);
    put_examples(s, c, "b1", 0, 5);
    corpus_release(c);
    store_close(s);

    for (int i = 0; i < 3; i++) {
        s = open_store_with(x->store, (struct store_options){.read_only = i == 1});
        c = store_corpus_find(s, "c4");
        assert_non_null(c);
        assert_int_equal(corpus_def(c)->dim, 8);
        assert_string_equal(corpus_def(c)->manifest, "{\"made\":\"up\"}");
        check_corpus(c, 5, NULL);
        corpus_release(c);
        store_close(s);
    }
}

static void test_file_modes(void **state)
{
    struct scratch *x = *state;
    static const char *const files[] = {"LOCK", "FORMAT", "ledger/data.mdb", "ledger/lock.mdb",
                                        "shards/000001/data.mdb"};
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 4, DTYPE_F32);

    put_examples(s, c, "b", 0, 1);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char *path = fs_join(x->store, files[i]);
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        free(path);
    }
    corpus_release(c);
    store_close(s);
}

static void test_something_else_stands_there(void **state)
{
    struct scratch *x = *state;
    struct store_options o = {.create = true};
    struct err e = ERR_INIT;
    struct store *s;

    put_file(x->root, "thesis.tex", "\\documentclass{article}");
    assert_int_equal(store_open(x->root, &o, &s, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "thesis.tex"));
    put_file(x->root, "FORMAT", "something else\n");
    assert_int_equal(store_open(x->root, &o, &s, &e), ERR_INVALID);
}

/* Contents of every file of a store, one after the other in a fixed order. */
static void dump(const char *dir, struct buf *out)
{
    static const char *const files[] = {"LOCK", "FORMAT", "ledger/data.mdb", "ledger/lock.mdb",
                                        "shards/000001/data.mdb", "shards/000001/lock.mdb"};

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char *path = fs_join(dir, files[i]);
        unsigned char piece[4096];
        int fd = open(path, O_RDONLY);
        ssize_t got;

        assert_true(fd >= 0);
        while ((got = read(fd, piece, sizeof piece)) > 0)
            buf_add(out, piece, (size_t)got);
        close(fd);
        free(path);
    }
}

static void test_newer_format_is_refused_untouched(void **state)
{
    struct scratch *x = *state;
    struct store_options o = {.create = true};
    struct buf before = {0}, after = {0};
    struct err e = ERR_INIT;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 4, DTYPE_F32);

    put_examples(s, c, "b", 0, 3);
    corpus_release(c);
    store_close(s);
    put_file(x->store, "FORMAT", "ascribe store 2\n");
    dump(x->store, &before);
    assert_int_equal(store_open(x->store, &o, &s, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, "format 2"));
    assert_non_null(strstr(e.text, "knows 1"));
    dump(x->store, &after);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    buf_free(&before);
    buf_free(&after);
}

static void test_lock(void **state)
{
    struct scratch *x = *state;
    struct store_options writer = {0}, reader = {.read_only = true};
    struct store *s = open_store(x->store), *one, *two;
    struct err e = ERR_INIT;

    assert_int_equal(store_open(x->store, &writer, &two, &e), ERR_BUSY);
    assert_non_null(strstr(e.text, x->store));
    assert_int_equal(store_open(x->store, &reader, &two, &e), ERR_BUSY);
    store_close(s);
    err_clear(&e);
    assert_ok(store_open(x->store, &reader, &one, &e), &e);
    assert_ok(store_open(x->store, &reader, &two, &e), &e);
    assert_int_equal(store_open(x->store, &writer, &s, &e), ERR_BUSY);
    store_close(one);
    store_close(two);
}

static void test_read_only_writes_nothing(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 4, DTYPE_F32);
    struct err e = ERR_INIT;
    struct made m;

    put_examples(s, c, "b", 0, 3);
    corpus_release(c);
    store_close(s);
    s = open_store_with(x->store, (struct store_options){.read_only = true});
    c = store_corpus_find(s, "c");
    make_batch(&m, c, "b2", 10, 2);
    assert_int_equal(commit_one(s, &m, &e), ERR_INVALID);
    assert_int_equal(m.batch.err.code, ERR_INVALID);
    assert_int_equal(commit_delete(c, "ex-1", 4, &e), ERR_INVALID);
    assert_int_equal(store_record_put(s, STORE_KEYS, "k", 1, "v", 1, &e), ERR_INVALID);
    check_corpus(c, 3, NULL);
    arena_free(&m.arena);
    corpus_release(c);
    store_close(s);
}

/* A creation cut off before FORMAT was written is simply made again. */
static void test_half_created(void **state)
{
    struct scratch *x = *state;
    struct err e = ERR_INIT;
    char *format = fs_join(x->store, "FORMAT");
    struct store *s = open_store(x->store);

    store_close(s);
    assert_int_equal(unlink(format), 0);
    put_file(x->store, "FORMAT.part", "ascri");
    assert_int_equal(store_open(x->store, &(struct store_options){0}, &s, &e), ERR_INVALID);
    s = open_store(x->store);
    store_close(s);
    assert_true(fs_exists(format));
    free(format);
}

static void test_leftovers_are_removed(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 4, DTYPE_F32);
    char *shards = fs_join(x->store, "shards"), *stray = fs_join(shards, "000777"),
         *alien = fs_join(shards, "notes");
    struct err e = ERR_INIT;

    put_examples(s, c, "b", 0, 3);
    corpus_release(c);
    store_close(s);
    assert_ok(fs_make_dir(stray, false, &e), &e);
    put_file(stray, "data.mdb", "half");
    assert_ok(fs_make_dir(alien, false, &e), &e);
    s = open_store(x->store);
    assert_false(fs_exists(stray));
    assert_true(fs_exists(alien)); /* not a name we give: not ours to remove */
    c = store_corpus_find(s, "c");
    check_corpus(c, 3, NULL);
    corpus_release(c);
    store_close(s);
    free(shards);
    free(stray);
    free(alien);
}

static void test_corpora(void **state)
{
    struct scratch *x = *state;
    struct corpus_def def = {.name = "wiki", .dim = 3, .dtype = DTYPE_F16, .manifest = "{}"};
    struct store *s = open_store(x->store);
    struct corpus *c, *again, **list;
    struct err e = ERR_INIT;
    bool created;

    assert_ok(store_corpus_create(s, &def, &created, &c, &e), &e);
    assert_true(created);
    assert_int_equal(corpus_row_bytes(c), 6);
    assert_ok(store_corpus_create(s, &def, &created, &again, &e), &e);
    assert_false(created);
    assert_ptr_equal(c, again);
    corpus_release(again);
    def.fingerprint[0] = 1;
    assert_int_equal(store_corpus_create(s, &def, &created, &again, &e), ERR_CORPUS_CONFLICT);
    snprintf(def.name, sizeof def.name, "Wiki");
    assert_int_equal(store_corpus_create(s, &def, &created, &again, &e), ERR_INVALID);
    snprintf(def.name, sizeof def.name, "books");
    def.dim = 0;
    assert_int_equal(store_corpus_create(s, &def, &created, &again, &e), ERR_INVALID);
    def.dim = 5;
    def.dtype = 9;
    assert_int_equal(store_corpus_create(s, &def, &created, &again, &e), ERR_WRONG_DTYPE);
    def.dtype = DTYPE_BF16;
    assert_ok(store_corpus_create(s, &def, &created, &again, &e), &e);
    assert_int_equal(store_corpus_list(s, &list), 2);
    assert_string_equal(corpus_def(list[0])->name, "books");
    assert_string_equal(corpus_def(list[1])->name, "wiki");
    corpus_release(list[0]);
    corpus_release(list[1]);
    free(list);
    corpus_release(c);
    corpus_release(again);
    assert_null(store_corpus_find(s, "none"));
    store_close(s);
}

static void test_drop(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct corpus *c = make_corpus(s, "c", 4, DTYPE_F32), *d = make_corpus(s, "d", 4, DTYPE_F32);
    char *shard = fs_join(x->store, "shards/000001");
    struct err e = ERR_INIT;
    const struct view *v;
    struct made m;

    put_examples(s, c, "b", 0, 10);
    put_examples(s, d, "b", 0, 10);
    v = corpus_view(c);
    assert_ok(store_corpus_drop(s, "c", &e), &e);
    assert_int_equal(store_corpus_drop(s, "c", &e), ERR_UNKNOWN_CORPUS);
    assert_null(store_corpus_find(s, "c"));
    make_batch(&m, c, "b2", 20, 2);
    assert_ok(commit_one(s, &m, &e), &e);
    assert_int_equal(m.batch.err.code, ERR_UNKNOWN_CORPUS);
    arena_free(&m.arena);
    assert_int_equal(check_view(v, NULL, 0), 10); /* readers keep what they hold */
    corpus_release(c);
    assert_true(fs_exists(shard));
    view_release(v);
    assert_false(fs_exists(shard));
    c = make_corpus(s, "c", 4, DTYPE_F32); /* the name is free again, and empty */
    put_examples(s, c, "b", 0, 4);
    check_corpus(c, 4, NULL);
    check_corpus(d, 10, NULL);
    corpus_release(c);
    corpus_release(d);
    store_close(s);
    s = open_store(x->store);
    c = store_corpus_find(s, "c");
    check_corpus(c, 4, NULL);
    corpus_release(c);
    store_close(s);
    free(shard);
}

struct visits {
    char keys[64];
    unsigned count, stop_after;
};

static bool visit(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct visits *v = arg;

    assert_int_equal(value_len, key_len);
    assert_memory_equal(value, key, key_len);
    if (v->count < 4)
        snprintf(v->keys + strlen(v->keys), sizeof v->keys - strlen(v->keys), "%.*s,", (int)key_len,
                 (const char *)key);
    v->count++;
    return v->count != v->stop_after;
}

static void test_records(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store(x->store);
    struct visits v = {0};
    struct buf out = {0};
    struct err e = ERR_INIT;
    char key[400], *big = mem_new((1 << 20) + 1, 1);

    for (int i = 0; i < 700; i++) {
        int len = snprintf(key, sizeof key, "%s%03d", i % 2 ? "a" : "b", i);

        assert_ok(store_record_put(s, STORE_KEYS, key, (size_t)len, key, (size_t)len, &e), &e);
    }
    assert_ok(store_record_put(s, STORE_TASKS, "a001", 4, "other", 5, &e), &e);
    assert_ok(store_record_each(s, STORE_KEYS, "a", 1, visit, &v, &e), &e);
    assert_int_equal(v.count, 350);
    assert_string_equal(v.keys, "a001,a003,a005,a007,");
    v = (struct visits){.stop_after = 300};
    assert_ok(store_record_each(s, STORE_KEYS, NULL, 0, visit, &v, &e), &e);
    assert_int_equal(v.count, 300);
    v = (struct visits){0};
    assert_ok(store_record_each(s, STORE_KEYS, NULL, 0, visit, &v, &e), &e);
    assert_int_equal(v.count, 700);

    assert_ok(store_record_get(s, STORE_TASKS, "a001", 4, &out, &e), &e);
    assert_int_equal(out.len, 5);
    assert_memory_equal(out.data, "other", 5);
    assert_ok(store_record_delete(s, STORE_TASKS, "a001", 4, &e), &e);
    assert_int_equal(store_record_delete(s, STORE_TASKS, "a001", 4, &e), ERR_UNKNOWN_KEY);
    assert_int_equal(store_record_get(s, STORE_TASKS, "a001", 4, &out, &e), ERR_UNKNOWN_KEY);
    memset(key, 'k', sizeof key);
    err_clear(&e);
    assert_ok(store_record_put(s, STORE_KEYS, key, 320, "v", 1, &e), &e);
    assert_int_equal(store_record_put(s, STORE_KEYS, key, 321, "v", 1, &e), ERR_INVALID);
    assert_int_equal(store_record_put(s, STORE_KEYS, "", 0, "v", 1, &e), ERR_INVALID);
    err_clear(&e);
    assert_ok(store_record_put(s, STORE_KEYS, "big", 3, big, 1 << 20, &e), &e);
    assert_int_equal(store_record_put(s, STORE_KEYS, "big", 3, big, (1 << 20) + 1, &e),
                     ERR_TOO_LARGE);
    assert_int_equal(e.limit, 1 << 20);
    buf_free(&out);
    free(big);
    store_close(s);
}

static void test_names(void **state)
{
    (void)state;
    char long_name[65];

    memset(long_name, 'a', 64);
    assert_true(store_name_valid("a", 1));
    assert_true(store_name_valid("0_-z", 4));
    assert_true(store_name_valid(long_name, 63));
    assert_false(store_name_valid(long_name, 64));
    assert_false(store_name_valid("", 0));
    assert_false(store_name_valid("-a", 2));
    assert_false(store_name_valid("_a", 2));
    assert_false(store_name_valid("A", 1));
    assert_false(store_name_valid("a.b", 3));
    assert_false(store_name_valid("a/b", 3));
    assert_false(store_name_valid("a\0b", 3));
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_create_and_reopen),
        scratch_test(test_file_modes),
        scratch_test(test_something_else_stands_there),
        scratch_test(test_newer_format_is_refused_untouched),
        scratch_test(test_lock),
        scratch_test(test_read_only_writes_nothing),
        scratch_test(test_half_created),
        scratch_test(test_leftovers_are_removed),
        scratch_test(test_corpora),
        scratch_test(test_drop),
        scratch_test(test_records),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
