/* test_crash.c - SIGKILL at any moment: what was acknowledged is there, a batch is whole or absent,
 * the store opens at once. Every child process opens the store itself and never returns. */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "storage/catalog.h"
#include "storage/writer.h"
#include "tests/unit/storage/coder.h"

enum { PER_BATCH = 40, KILLS = 40, DIM = 64 };

static const struct store_options options = {
    .create = true, .shard_bytes = 1 << 20, .chunk_bytes = 16 << 10, .coder = &fake_coder};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void assert_sound(struct store *s)
{
    struct verify_report r;
    struct err e = ERR_INIT;

    assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
    assert_int_equal(r.damaged_blocks + r.damaged_ids + r.ledger_faults, 0);
}

/* What a child tells its parent the moment a call has returned. */
struct ack {
    uint32_t batch;   /* committed */
    uint32_t deleted; /* or: this example was taken down; UINT32_MAX none */
};

static void die(const struct err *e)
{
    fprintf(stderr, "child: %s: %s\n", err_word(e->code), e->text);
    _exit(3);
}

static bool commit_numbered(struct store *s, struct corpus *c, uint32_t i, struct err *e)
{
    char name[16];
    struct made m;
    int rc;

    snprintf(name, sizeof name, "b%u", (unsigned)i);
    make_batch(&m, c, name, (uint64_t)i * PER_BATCH, PER_BATCH);
    rc = commit_one(s, &m, e);
    arena_free(&m.arena);
    return rc == 0;
}

/* Commits batch after batch, takes the first example of every third one down again, compacts now and
 * then; tells of each when it is done. */
static void child_main(const char *dir, uint32_t first, int pipe_fd)
{
    struct err e = ERR_INIT;
    struct store *s;
    struct corpus *c;

    if (store_open(dir, &options, &s, &e))
        die(&e);
    c = store_corpus_find(s, "c");
    for (uint32_t i = first;; i++) {
        struct ack ack = {.batch = i, .deleted = UINT32_MAX};

        if (!commit_numbered(s, c, i, &e))
            die(&e);
        if (write(pipe_fd, &ack, sizeof ack) != sizeof ack)
            _exit(4);
        if (i % 3 == 0) {
            char id[CORPUS_ID_MAX];

            ack.deleted = i * PER_BATCH;
            if (commit_delete(c, id, id_of(ack.deleted, id), &e))
                die(&e);
            if (write(pipe_fd, &ack, sizeof ack) != sizeof ack)
                _exit(4);
        }
        usleep(500);
        if (i % 25 == 24 && compact_corpus(c, NULL, NULL, &e))
            die(&e);
    }
}

struct life {
    uint32_t acked; /* batches [0, acked) were acknowledged */
    bool *dead;     /* per batch: its first example was taken down, acknowledged */
};

static void read_acks(int fd, struct life *l)
{
    struct ack a;

    while (read(fd, &a, sizeof a) == sizeof a) {
        if (a.deleted != UINT32_MAX)
            l->dead[a.batch] = true;
        else
            l->acked = a.batch + 1;
    }
}

/* All acknowledged batches are whole, at most one more is there, whole as well. */
static uint32_t check_after_kill(struct store *s, const struct life *l)
{
    struct corpus *c = store_corpus_find(s, "c");
    const struct view *v = corpus_view(c);
    uint64_t cap = (uint64_t)(l->acked + 2) * PER_BATCH;
    unsigned char *seen = mem_new((size_t)cap, 1);
    uint32_t batches = 0;

    (void)check_view(v, seen, cap);
    for (uint32_t b = 0; b < l->acked + 2; b++) {
        unsigned rows = 0;
        bool first = seen[(size_t)b * PER_BATCH];

        for (unsigned i = 1; i < PER_BATCH; i++)
            rows += seen[(size_t)b * PER_BATCH + i];
        assert_true(rows == 0 || rows == PER_BATCH - 1);
        if (b < l->acked)
            assert_int_equal(rows, PER_BATCH - 1);
        if (b < l->acked && l->dead[b])
            assert_false(first);
        if (rows)
            batches = b + 1;
        if (rows && b % 3 != 0)
            assert_true(first);
    }
    assert_true(batches <= l->acked + 1);
    free(seen);
    view_release(v);
    corpus_release(c);
    return batches;
}

static void test_kill_at_random(void **state)
{
    struct scratch *x = *state;
    struct life life = {.dead = mem_new(1 << 16, sizeof(bool))};
    uint32_t first = 0;
    double slowest = 0;
    struct store *s = open_store_with(x->store, options);

    corpus_release(make_corpus(s, "c", DIM, DTYPE_F32));
    store_close(s);
    for (int kill_no = 0; kill_no < KILLS; kill_no++) {
        int fds[2], status;
        double start;
        pid_t pid;

        assert_int_equal(pipe(fds), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(fds[0]);
            child_main(x->store, first, fds[1]);
        }
        close(fds[1]);
        usleep((useconds_t)(mix((uint64_t)kill_no) % 60000) + 2000);
        kill(pid, SIGKILL);
        read_acks(fds[0], &life);
        close(fds[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status)); /* and did not end by an error of its own */
        start = now();
        s = open_store_with(x->store, options);
        if (now() - start > slowest)
            slowest = now() - start;
        first = check_after_kill(s, &life);
        if (first > life.acked) /* it was committed, the answer did not come: that is allowed */
            life.acked = first;
        if (kill_no % 8 == 7)
            assert_sound(s);
        store_close(s);
    }
    assert_true(life.acked > KILLS);
    assert_true(slowest < 1.0);
    free(life.dead);
}

/* The very gap: chunks are durable in the shard, the ledger does not know them. */
static void write_orphans(const char *dir, uint32_t chunks)
{
    struct chunk_row rows[3];
    unsigned char encoding[DIM * 4] = {1};
    struct err e = ERR_INIT;
    struct writer w;
    struct store *s;
    struct corpus *c;

    if (store_open(dir, &options, &s, &e))
        die(&e);
    c = store_corpus_find(s, "c");
    for (uint32_t i = 0; i < 3; i++)
        rows[i] = (struct chunk_row){
            .sequence = 1000 + i, .norm = 1, .encoding = encoding, .id = "ghost", .id_len = 5};
    writer_begin(&w, &s->home, &c->shape, c->active, s->meta.next_chunk, s->meta.next_shard, false);
    for (uint32_t i = 0; i < chunks; i++)
        if (writer_add(&w, rows, 3, &e))
            die(&e);
    if (writer_finish(&w, &e))
        die(&e);
    _exit(0); /* as by SIGKILL: no clean-up */
}

static void test_orphan_chunks(void **state)
{
    struct scratch *x = *state;
    struct store *s = open_store_with(x->store, options);
    struct corpus *c = make_corpus(s, "c", DIM, DTYPE_F32);
    char *new_shard = fs_join(x->store, "shards/000002");
    int status;
    pid_t pid;

    put_examples(s, c, "a", 0, 50);
    corpus_release(c);
    store_close(s);
    for (int round = 0; round < 2; round++) {
        pid = fork();
        if (pid == 0)
            write_orphans(x->store, round == 0 ? 3 : 200); /* the second time into a new shard too */
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(fs_exists(new_shard), round == 1);

        s = open_store_with(x->store, (struct store_options){.read_only = true, .coder = &fake_coder});
        c = store_corpus_find(s, "c");
        assert_true(shard_has_orphans(c->active)); /* the test did what it says */
        check_corpus(c, 50, NULL);
        corpus_release(c);
        store_close(s);

        s = open_store_with(x->store, options);
        c = store_corpus_find(s, "c");
        assert_false(shard_has_orphans(c->active));
        assert_false(fs_exists(new_shard));
        check_corpus(c, 50, NULL);
        assert_sound(s);
        corpus_release(c);
        store_close(s);
    }
    s = open_store_with(x->store, options);
    c = store_corpus_find(s, "c");
    put_examples(s, c, "b", 50, 50);
    check_corpus(c, 100, NULL);
    assert_sound(s);
    corpus_release(c);
    store_close(s);
    free(new_shard);
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_kill_at_random),
        scratch_test(test_orphan_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
