/* test_fault.c - the n-th write, sync or allocation of disk fails, for every n until none is hit.
 *
 * pwrite, writev, fdatasync, fsync and fallocate are defined here; liblmdb.so's calls come to them as
 * well, because an executable's symbols go first. The expectation is always the same: a clean error,
 * nothing half done, what was committed before is there; after ENOSPC writing goes on, after EIO it
 * never does until the store is opened again.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/uio.h>

#include "tests/unit/storage/coder.h"

/* ---- The fault ------------------------------------------------------------------------------- */

static struct {
    int countdown; /* fails when it gets to 0; negative: never */
    int error;     /* errno */
    bool short_write;
    bool hit;
    bool sync_only;
} fault = {.countdown = -1};

static bool fails(bool is_sync)
{
    if (fault.countdown < 0 || (fault.sync_only && !is_sync))
        return false;
    if (--fault.countdown >= 0)
        return false;
    fault.hit = true;
    errno = fault.error;
    return true;
}

#define real(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    if (fails(false))
        return -1;
    return real(pwrite)(fd, bytes, len, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    if (fails(false))
        return -1;
    return real(pwrite64)(fd, bytes, len, at);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    if (fails(false)) {
        if (!fault.short_write)
            return -1;
        return real(writev)(fd, pieces, count > 1 ? 1 : count);
    }
    return real(writev)(fd, pieces, count);
}

int fdatasync(int fd)
{
    return fails(true) ? -1 : real(fdatasync)(fd);
}

int fsync(int fd)
{
    return fails(true) ? -1 : real(fsync)(fd);
}

int fallocate(int fd, int mode, off_t at, off_t len)
{
    /* a disk breaks in writes and syncs; what fails in an allocation is room */
    if (fault.error == ENOSPC && fails(false))
        return -1;
    return real(fallocate)(fd, mode, at, len);
}

static void arm(int n, int error)
{
    fault.error = error;
    fault.hit = false;
    fault.countdown = n;
}

static void disarm(void)
{
    fault.countdown = -1;
    fault.short_write = false;
    fault.sync_only = false;
}

/* ---- What is tried --------------------------------------------------------------------------- */

static const struct store_options options = {
    .create = true, .shard_bytes = 256 << 10, .chunk_bytes = 32 << 10, .coder = &fake_coder};

static void assert_sound(struct store *s)
{
    struct verify_report r;
    struct err e = ERR_INIT;

    assert_ok(verify_store(s, NULL, NULL, NULL, &r, &e), &e);
    assert_int_equal(r.damaged_blocks + r.damaged_ids + r.ledger_faults, 0);
}

enum op { OP_COMMIT, OP_DELETE, OP_CREATE, OP_DROP, OP_RECORD, OP_COMPACT, OP_COUNT };

static int try_op(struct store *s, struct corpus *c, enum op op, struct err *e)
{
    struct corpus_def def = {.name = "new", .dim = 4, .dtype = DTYPE_F32, .manifest = "{}"};
    struct corpus *made_corpus;
    struct made m;
    bool created;
    int rc = 0;

    switch (op) {
    case OP_COMMIT: /* rolls over into two new shards */
        make_batch(&m, c, "second", 100, 500);
        rc = commit_one(s, &m, e);
        assert_int_equal(m.batch.err.code, rc);
        arena_free(&m.arena);
        break;
    case OP_DELETE:
        rc = commit_delete(c, "ex-50", 5, e);
        break;
    case OP_CREATE:
        rc = store_corpus_create(s, &def, &created, &made_corpus, e);
        if (rc == 0)
            corpus_release(made_corpus);
        break;
    case OP_DROP:
        rc = store_corpus_drop(s, "other", e);
        break;
    case OP_RECORD:
        rc = store_record_put(s, STORE_KEYS, "k", 1, "v", 1, e);
        break;
    case OP_COMPACT:
        rc = compact_corpus(c, NULL, NULL, e);
        break;
    case OP_COUNT:
        break;
    }
    return rc;
}

/* The corpus is as before the operation, or as after it, and nothing in between. */
static void check_either(struct corpus *c, enum op op, bool *out_after)
{
    unsigned char dead[600] = {0};
    struct corpus_stats st;

    corpus_stats(c, &st);
    *out_after = op == OP_COMMIT ? st.next_sequence == 600 : op == OP_DELETE && st.examples == 98;
    dead[7] = 1;
    if (op == OP_DELETE && *out_after)
        dead[50] = 1;
    check_corpus(c, op == OP_COMMIT && *out_after ? 600 : 100, dead);
}

static struct store *prepared(const char *dir, struct corpus **out)
{
    struct store *s = open_store_with(dir, options);
    struct corpus *other = make_corpus(s, "other", 8, DTYPE_F32);
    struct err e = ERR_INIT;

    *out = make_corpus(s, "c", 128, DTYPE_F32);
    put_examples(s, *out, "first", 0, 60);
    put_examples(s, *out, "more", 60, 40);
    put_examples(s, other, "first", 0, 10);
    assert_ok(commit_delete(*out, "ex-7", 4, &e), &e);
    corpus_release(other);
    return s;
}

/* One run: the n-th call fails. False when the operation ended before the fault was reached. */
static bool run(const struct scratch *x, enum op op, int n, int error, bool sync_only)
{
    struct err e = ERR_INIT, ignored = ERR_INIT;
    struct corpus *c;
    struct store *s = prepared(x->store, &c);
    bool after, hit;
    int rc;

    fault.sync_only = sync_only;
    arm(n, error);
    rc = try_op(s, c, op, &e);
    hit = fault.hit;
    disarm();
    if (!hit)
        assert_ok(rc, &e);
    after = false;
    if (!store_has_failed(s)) /* LMDB may refuse to read after a meta page could not be written */
        check_either(c, op, &after);
    if (rc) { /* refused: nothing of it is there, and the text says what failed */
        assert_false(after);
        assert_true(e.text[0] != '\0');
        if (error == EIO)
            assert_int_equal(rc, ERR_SYNC_FAILED);
        else /* FULL means that writing may go on; else the latch is set */
            assert_int_equal(rc, store_has_failed(s) ? ERR_SYNC_FAILED : ERR_FULL);
    }
    if (error == EIO && rc) { /* fail-stop */
        assert_true(store_has_failed(s));
        assert_int_equal(try_op(s, c, OP_DELETE, &ignored), ERR_SYNC_FAILED);
        assert_int_equal(try_op(s, c, op, &ignored), ERR_SYNC_FAILED);
    } else if (rc && !store_has_failed(s)) { /* there is room again */
        assert_ok(try_op(s, c, op, &e), &e);
    }
    corpus_release(c);
    store_close(s);

    s = open_store_with(x->store, options);
    c = store_corpus_find(s, "c");
    check_either(c, op, &after);
    assert_sound(s);
    if (!after && (op == OP_COMMIT || op == OP_DELETE)) {
        err_clear(&e);
        assert_ok(try_op(s, c, op, &e), &e);
        check_either(c, op, &after);
        assert_true(after);
    }
    corpus_release(c);
    store_close(s);
    assert_ok(fs_remove_tree(x->store, 3, &e), &e);
    return hit;
}

static void sweep(void **state, int error, bool sync_only, int least)
{
    struct scratch *x = *state;
    int points = 0;

    for (int op = 0; op < OP_COUNT; op++)
        for (int n = 0; run(x, (enum op)op, n, error, sync_only); n++)
            points++;
    print_message("             %d points\n", points);
    assert_true(points >= least);
}

static void test_no_room_at_every_call(void **state)
{
    sweep(state, ENOSPC, false, 30);
}

static void test_io_error_at_every_call(void **state)
{
    sweep(state, EIO, false, 30);
}

static void test_io_error_at_every_sync(void **state)
{
    sweep(state, EIO, true, 10);
}

/* A backup that cannot be written leaves no trace and does not stop the store. */
static void test_failed_backups(void **state)
{
    struct scratch *x = *state;
    char *backup = fs_join(x->root, "backup"), *part = fs_join(x->root, "backup.part");
    struct corpus *c;
    struct store *s = prepared(x->store, &c);
    struct err e = ERR_INIT;
    int n = 0;

    for (;; n++) {
        int rc;

        arm(n, EIO);
        rc = backup_store(s, backup, NULL, &e);
        disarm();
        if (!fault.hit)
            break;
        assert_true(rc != 0);
        assert_false(fs_exists(part));
        assert_false(store_has_failed(s));
        err_clear(&e);
        if (fs_exists(backup)) /* only the last sync, after the rename, can fail so */
            assert_ok(fs_remove_tree(backup, 3, &e), &e);
    }
    assert_true(n >= 5);
    assert_true(fs_exists(backup));
    put_examples(s, c, "on", 100, 10);
    corpus_release(c);
    store_close(s);
    free(backup);
    free(part);
}

/* A disk that is really full: a tmpfs of 6 MiB. */
static void test_full_disk(void **state)
{
    struct scratch *x = *state;
    char *disk = fs_join(x->root, "disk"), *dir, *ballast;
    struct err e = ERR_INIT;
    struct store *s;
    struct corpus *c;
    struct corpus_stats st;
    unsigned whole = 0, full = 0;
    char name[16];
    int fd;

    assert_ok(fs_make_dir(disk, false, &e), &e);
    if (mount("none", disk, "tmpfs", 0, "size=6m") != 0) {
        print_message("             skipped: no tmpfs can be mounted here (%s)\n", strerror(errno));
        free(disk);
        return;
    }
    dir = fs_join(disk, "store");
    ballast = fs_join(disk, "ballast");
    fd = open(ballast, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 2 << 20), 0);
    close(fd);
    s = open_store_with(dir, (struct store_options){.create = true, .chunk_bytes = 64 << 10, .coder = &fake_coder});
    c = make_corpus(s, "c", 256, DTYPE_F32);
    for (unsigned i = 0; i < 60 && full < 5; i++) {
        struct made m;

        snprintf(name, sizeof name, "b%u", whole);
        make_batch(&m, c, name, whole * 100, 100);
        if (commit_one(s, &m, &e) == 0)
            whole++;
        else
            full++;
        if (full)
            assert_int_equal(e.code, ERR_FULL);
        arena_free(&m.arena);
    }
    assert_int_equal(full, 5);
    assert_true(whole >= 3);
    assert_false(store_has_failed(s));
    check_corpus(c, whole * 100, NULL); /* reads go on */
    assert_int_equal(unlink(ballast), 0);
    snprintf(name, sizeof name, "b%u", whole);
    put_examples(s, c, name, whole * 100, 100); /* and so do writes, with room */
    corpus_release(c);
    store_close(s);
    s = open_store(dir);
    c = store_corpus_find(s, "c");
    corpus_stats(c, &st);
    assert_int_equal(st.examples, (whole + 1) * 100);
    check_corpus(c, st.examples, NULL);
    assert_sound(s);
    corpus_release(c);
    store_close(s);
    assert_int_equal(umount(disk), 0);
    free(dir);
    free(ballast);
    free(disk);
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_no_room_at_every_call),
        scratch_test(test_io_error_at_every_call),
        scratch_test(test_io_error_at_every_sync),
        scratch_test(test_failed_backups),
        scratch_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
