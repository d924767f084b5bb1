/* test_rewrite.c - every row through a transform, with batches and deletions between; artifacts and
 * annexes through reopening, backup and damage; what is cancelled leaves nothing. */
#include <fcntl.h>

#include "storage/annex.h"
#include "storage/artifact.h"
#include "tests/unit/storage/coder.h"

enum { DIM = 64, ROW = DIM * 4 };

static const struct store_options small = {
    .create = true, .shard_bytes = 1 << 20, .chunk_bytes = 16 << 10, .coder = &fake_coder};

struct scene {
    struct store *s;
    struct corpus *c;
    uint64_t next;    /* example */
    unsigned reports; /* of progress so far */
    unsigned stop_at; /* cancel at this one; 0: never */
    bool busy;        /* ingest and delete at every report */
};

/* The new encoding of a row: bytes turned, norm doubled. Its own inverse but for the norm. */
static int turn(void *arg, const void *in, double *norms, size_t count, void *out, struct err *e)
{
    const unsigned char *from = in;
    unsigned char *to = out;

    (void)arg, (void)e;
    for (size_t i = 0; i < count * ROW; i++)
        to[i] = from[i] ^ 0x55;
    for (size_t i = 0; i < count; i++)
        norms[i] *= 2;
    return 0;
}

static void delete_example(struct corpus *c, uint64_t n)
{
    char id[CORPUS_ID_MAX];
    struct err e = ERR_INIT;

    assert_ok(commit_delete(c, id, id_of(n, id), &e), &e);
}

static bool meanwhile(void *arg, uint64_t done, uint64_t total)
{
    struct scene *x = arg;
    char name[32];

    assert_true(done <= total);
    if (++x->reports == x->stop_at)
        return false;
    if (x->busy && x->reports <= 40) {
        snprintf(name, sizeof name, "during-%u", x->reports);
        put_examples(x->s, x->c, name, x->next, 5);
        delete_example(x->c, x->next + 1);
        delete_example(x->c, x->reports * 7);
        x->next += 5;
    }
    return true;
}

static struct artifact *make_artifact(struct store *s, size_t bytes)
{
    struct artifact_writer *w;
    struct artifact *a = NULL;
    struct err e = ERR_INIT;
    unsigned char step[1000];

    assert_ok(artifact_begin(s, &w, &e), &e);
    for (size_t at = 0; at < bytes; at += sizeof step) {
        size_t len = bytes - at < sizeof step ? bytes - at : sizeof step;

        for (size_t i = 0; i < len; i++)
            step[i] = (unsigned char)mix(at + i);
        assert_ok(artifact_add(w, step, len, &e), &e);
    }
    assert_ok(artifact_finish(w, &a, &e), &e);
    artifact_writer_end(w);
    return a;
}

static void check_artifact(struct artifact *a, size_t bytes)
{
    const unsigned char *p;
    struct err e = ERR_INIT;
    size_t len;

    assert_ok(artifact_map(a, &p, &len, &e), &e);
    assert_int_equal(len, bytes);
    for (size_t i = 0; i < len; i++)
        if (p[i] != (unsigned char)mix(i))
            fail_msg("byte %zu", i);
}

static unsigned files_in(const char *store)
{
    char *dir = fs_join(store, "artifacts"), command[512];
    unsigned count = 0;
    FILE *f;

    snprintf(command, sizeof command, "ls %s 2>/dev/null | wc -l", dir);
    f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%u", &count), 1);
    pclose(f);
    free(dir);
    return count;
}

static void say(void *arg, const char *line)
{
    if (!*(uint64_t *)arg) /* none is expected */
        print_error("%s\n", line);
}

static void assert_sound(struct store *s, uint64_t damaged)
{
    struct verify_report r;
    struct err e = ERR_INIT;

    assert_ok(verify_store(s, say, &damaged, NULL, &r, &e), &e);
    assert_int_equal(r.ledger_faults + r.damaged_ids, 0);
    assert_int_equal(r.damaged_blocks, damaged);
}

/* Every live row is what its id says, turned `times` times. */
static void check_rows(struct corpus *c, unsigned times, uint64_t expected)
{
    const struct view *v = corpus_view(c);
    unsigned char bytes[ROW];
    uint64_t live = 0;
    struct err e = ERR_INIT;

    assert_int_equal(v->live, expected);
    assert_int_equal(view_epoch(v), times);
    for (size_t i = 0; i < v->chunk_count; i++) {
        struct block b;

        assert_ok(block_open(&v->chunks[i], BLOCK_ENCODINGS, &b, &e), &e);
        for (uint32_t r = 0; r < v->chunks[i].rows; r++) {
            struct arena a = {0};
            struct example x;
            uint64_t n;

            if (view_row_dead(&v->chunks[i], r))
                continue;
            assert_ok(view_example(v, i, r, &a, &x, &e), &e);
            n = strtoull(x.id + 3, NULL, 10);
            fill_encoding(bytes, ROW, n);
            for (size_t k = 0; k < ROW && times % 2; k++)
                bytes[k] ^= 0x55;
            assert_memory_equal(bytes, b.bytes + r * ROW, ROW);
            assert_true(x.norm == norm_of(n) * (double)(1u << times));
            arena_free(&a);
            live++;
        }
        block_close(&b);
    }
    assert_int_equal(live, expected);
    view_release(v);
}

static int rewrite(struct scene *x, struct artifact *a, struct err *e)
{
    struct maintain_progress p = {.report = meanwhile, .arg = x};
    struct rewrite_to to = {.rows = turn, .text = "{\"turned\":1}", .artifact = a};

    x->reports = 0;
    return rewrite_corpus(x->c, &to, NULL, &p, e);
}

static void begin(struct scene *x, const char *store)
{
    *x = (struct scene){.s = open_store_with(store, small)};
    x->c = make_corpus(x->s, "c", DIM, DTYPE_F32);
    put_examples(x->s, x->c, "a", 0, 3000);
    put_examples(x->s, x->c, "b", 3000, 1);
    x->next = 3001;
}

static void reopen(struct scene *x, const char *store)
{
    corpus_release(x->c);
    store_close(x->s);
    x->s = open_store_with(store, small);
    x->c = store_corpus_find(x->s, "c");
    assert_non_null(x->c);
}

static void end(struct scene *x)
{
    corpus_release(x->c);
    store_close(x->s);
}

static void test_all_rows(void **state)
{
    struct scratch *scratch = *state;
    struct artifact *a;
    struct scene x;
    struct err e = ERR_INIT;
    const struct view *v;

    begin(&x, scratch->store);
    delete_example(x.c, 11);
    x.busy = true;
    a = make_artifact(x.s, (5 << 20) + 77);
    assert_ok(rewrite(&x, a, &e), &e);
    artifact_release(a);
    check_rows(x.c, 1, 3000 + 40 * 5 - 80);
    assert_sound(x.s, 0);
    reopen(&x, scratch->store);
    check_rows(x.c, 1, 3000 + 40 * 5 - 80);
    v = corpus_view(x.c);
    assert_string_equal(annex_def(v->state)->text, "{\"turned\":1}");
    check_artifact(annex_def(v->state)->artifacts[0], (5 << 20) + 77);
    view_release(v);
    x.busy = false;
    a = make_artifact(x.s, 10);
    assert_int_equal(files_in(scratch->store), 2);
    assert_ok(rewrite(&x, a, &e), &e);
    artifact_release(a);
    assert_int_equal(files_in(scratch->store), 1); /* the first state's file went with it */
    check_rows(x.c, 2, 3000 + 40 * 5 - 80);
    assert_ok(compact_corpus(x.c, NULL, NULL, &e), &e);
    check_rows(x.c, 2, 3000 + 40 * 5 - 80);
    assert_sound(x.s, 0);
    end(&x);
}

/* A batch encoded before the swap is refused after it, and taken when it was encoded again. */
static void test_stale_batch(void **state)
{
    struct scratch *scratch = *state;
    struct err e = ERR_INIT;
    struct scene x;
    struct made m;

    begin(&x, scratch->store);
    make_batch(&m, x.c, "late", 5000, 10);
    assert_ok(rewrite(&x, NULL, &e), &e);
    assert_ok(commit_one(x.s, &m, &e), &e);
    assert_int_equal(m.batch.err.code, ERR_STALE);
    check_rows(x.c, 1, 3001);
    m.batch.epoch = 1;
    assert_ok(commit_one(x.s, &m, &e), &e);
    assert_int_equal(m.batch.err.code, ERR_OK);
    m.batch.epoch = 0; /* known: the answer stays what it was */
    assert_ok(commit_one(x.s, &m, &e), &e);
    assert_int_equal(m.batch.err.code, ERR_OK);
    assert_true(m.batch.already);
    arena_free(&m.arena);
    end(&x);
}

static void test_cancelled(void **state)
{
    struct scratch *scratch = *state;
    struct err e = ERR_INIT;
    struct artifact *a;
    struct scene x;

    begin(&x, scratch->store);
    for (unsigned at = 1; at < 46; at += 5) {
        x.stop_at = at;
        a = make_artifact(x.s, 1000);
        assert_int_equal(rewrite(&x, a, &e), ERR_CANCELLED);
        artifact_release(a);
        assert_int_equal(files_in(scratch->store), 0);
        check_rows(x.c, 0, 3001);
    }
    reopen(&x, scratch->store);
    check_rows(x.c, 0, 3001);
    assert_sound(x.s, 0);
    end(&x);
}

static void test_annexes(void **state)
{
    struct scratch *scratch = *state;
    struct annex_def def = {.name = "t1", .text = "one", .artifact_count = 1};
    char *copy = fs_join(scratch->root, "copy"), *path;
    struct annex *first, *second, **list;
    struct err e = ERR_INIT;
    struct scene x;
    int fd;

    begin(&x, scratch->store);
    def.artifacts[0] = make_artifact(x.s, 4 << 20);
    assert_ok(annex_put(x.c, &def, NULL, &e), &e);
    artifact_release(def.artifacts[0]);
    assert_int_equal(annex_put(x.c, &def, NULL, &e), ERR_CONFLICT);
    first = annex_find(x.c, "t1");
    def.text = "two"; /* the same file */
    assert_ok(annex_put(x.c, &def, first, &e), &e);
    annex_release(first);
    assert_int_equal(files_in(scratch->store), 1);
    assert_ok(backup_store(x.s, copy, NULL, &e), &e);
    assert_int_equal(files_in(copy), 1);
    def.epoch = 3;
    second = annex_find(x.c, "t1");
    assert_int_equal(annex_put(x.c, &def, second, &e), ERR_STALE);
    annex_release(second);
    reopen(&x, scratch->store);
    second = annex_find(x.c, "t1");
    assert_non_null(second);
    assert_string_equal(annex_def(second)->text, "two");
    check_artifact(annex_def(second)->artifacts[0], 4 << 20);
    assert_int_equal(annex_list(x.c, &list), 1);
    annex_release(list[0]);
    free(list);
    path = fs_join(scratch->store, "artifacts/000001");
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, 99999), 1);
    close(fd);
    free(path);
    assert_sound(x.s, 1);
    assert_ok(annex_delete(x.c, "t1", &e), &e);
    assert_int_equal(annex_delete(x.c, "t1", &e), ERR_UNKNOWN_TASK);
    assert_int_equal(files_in(scratch->store), 1); /* while somebody has it */
    annex_release(second);
    assert_int_equal(files_in(scratch->store), 0);
    assert_sound(x.s, 0);
    end(&x);
    x.s = open_store_with(copy, small);
    x.c = store_corpus_find(x.s, "c");
    second = annex_find(x.c, "t1");
    check_artifact(annex_def(second)->artifacts[0], 4 << 20);
    annex_release(second);
    assert_ok(store_corpus_drop(x.s, "c", &e), &e);
    end(&x);
    assert_int_equal(files_in(copy), 0);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_rows, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_stale_batch, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_cancelled, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_annexes, scratch_setup, scratch_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
