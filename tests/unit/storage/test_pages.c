/* test_pages.c - LMDB's data files looked at without LMDB: a sound one of every shape passes, and
 * what LMDB would follow out of the file, or back in time, is refused by name. */
#include <fcntl.h>
#include <sys/stat.h>

#include "storage/base/bytes.h"
#include "storage/pages.h"
#include "tests/unit/storage/coder.h"

enum { PAGE = 4096 };

static const struct store_options options = {
    .create = true, .shard_bytes = 256 << 10, .chunk_bytes = 32 << 10, .coder = &fake_coder};

struct file {
    char path[256];
    unsigned char *bytes;
    size_t len;
};

static void load(struct file *f)
{
    int fd = open(f->path, O_RDONLY);

    f->len = (size_t)fs_size(f->path);
    f->bytes = mem_new(f->len, 1);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, f->bytes, f->len), f->len);
    close(fd);
}

static void store_bytes(const struct file *f, size_t len)
{
    int fd = open(f->path, O_WRONLY | O_TRUNC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, f->bytes, len), len);
    close(fd);
}

static int look_at(const struct file *f, bool runs, struct err *e)
{
    err_clear(e);
    return pages_check(f->path, UINT64_MAX, runs, e);
}

static void assert_damaged(const struct file *f, const char *what)
{
    struct err e = ERR_INIT;
    int rc;

    store_bytes(f, f->len);
    rc = look_at(f, true, &e);
    if (rc != ERR_CORRUPT || !strstr(e.text, what))
        print_error("wanted %s, got %d: %s\n", what, rc, e.text);
    assert_int_equal(rc, ERR_CORRUPT);
    assert_non_null(strstr(e.text, what));
    assert_non_null(strstr(e.text, "data.mdb"));
}

/* A store with a ledger of several levels, pages given up, and values with pages of their own. */
static void begin(const struct scratch *x, struct file *f)
{
    struct store *s = open_store_with(x->store, options);
    struct corpus *c = make_corpus(s, "c", 64, DTYPE_F32);
    unsigned char large[9000] = {1};
    struct err e = ERR_INIT;

    for (unsigned i = 0; i < 30; i++) {
        char name[16];

        snprintf(name, sizeof name, "b%u", i);
        put_examples(s, c, name, i * 100, 100);
        assert_ok(store_record_put(s, STORE_KEYS, name, strlen(name), large, sizeof large, &e), &e);
        if (i % 3)
            assert_ok(store_record_delete(s, STORE_KEYS, name, strlen(name), &e), &e);
    }
    corpus_release(c);
    store_close(s);
    snprintf(f->path, sizeof f->path, "%s/ledger/data.mdb", x->store);
    load(f);
}

static void test_sound_files_pass(void **state)
{
    const struct scratch *x = *state;
    struct err e = ERR_INIT;
    struct file f, shard;
    char missing[300];

    begin(x, &f);
    assert_ok(look_at(&f, true, &e), &e);
    assert_true(f.len > 20 * PAGE);
    snprintf(shard.path, sizeof shard.path, "%s/shards/000001/data.mdb", x->store);
    assert_ok(look_at(&shard, true, &e), &e);
    assert_ok(pages_check(f.path, 3, true, &e), &e); /* a limit is no fault */
    snprintf(missing, sizeof missing, "%s.none", f.path);
    assert_ok(pages_check(missing, UINT64_MAX, true, &e), &e);
    store_bytes(&f, 0);
    assert_ok(look_at(&f, true, &e), &e);
    free(f.bytes);
}

static void test_meta_pages(void **state)
{
    unsigned char page[PAGE];
    struct file f;

    begin(*state, &f);
    memcpy(page, f.bytes, PAGE); /* LMDB would take the older one for the newer */
    memcpy(f.bytes, f.bytes + PAGE, PAGE);
    memcpy(f.bytes + PAGE, page, PAGE);
    assert_damaged(&f, "meta pages");
    memcpy(f.bytes + PAGE, f.bytes, PAGE);
    memcpy(f.bytes, page, PAGE);
    f.bytes[144] ^= 4; /* the transaction's number: same side, no neighbour */
    assert_damaged(&f, "neighbouring");
    f.bytes[144] ^= 4;
    f.bytes[40] = 0; /* bytes of a page: LMDB divides by it */
    f.bytes[41] = 0;
    assert_damaged(&f, "meta pages");
    f.bytes[41] = PAGE >> 8;
    memset(f.bytes + 136, 0x7f, 8); /* the last page */
    memset(f.bytes + PAGE + 136, 0x7f, 8);
    assert_damaged(&f, "far past");
    free(f.bytes);
}

/* Bits of every page that LMDB follows, one at a time. What is refused names the page; what is not
 * refused is opened and read without a signal, which is the test's own end. */
static void test_bits_of_structure(void **state)
{
    struct scratch *x = *state;
    size_t refused = 0, tried = 0;
    struct file f;

    begin(x, &f);
    for (size_t page = 2; page < f.len / PAGE; page += 2)
        for (size_t at = 0; at < 24; at += 5) {
            unsigned char *byte = f.bytes + page * PAGE + at;
            struct store_options o = options;
            struct err e = ERR_INIT;
            struct store *s = NULL;

            *byte ^= (unsigned char)(1u << (page + at) % 8);
            store_bytes(&f, f.len);
            tried++;
            o.read_only = true;
            o.create = false;
            if (look_at(&f, true, &e) == ERR_CORRUPT) {
                refused++;
                assert_int_equal(store_open(x->store, &o, &s, &e), ERR_CORRUPT);
            } else {
                struct verify_report r;

                if (store_open(x->store, &o, &s, &e) == 0)
                    (void)verify_store(s, NULL, NULL, NULL, &r, &e);
                store_close(s);
            }
            *byte ^= (unsigned char)(1u << (page + at) % 8);
        }
    assert_true(refused * 4 > tried); /* the rest lies in given-up pages and inside of values */
    free(f.bytes);
}

/* The file lost its end: for the ledger that is damage, whatever was there. */
static void test_cut_short(void **state)
{
    struct err e = ERR_INIT;
    struct file f;

    begin(*state, &f);
    store_bytes(&f, 6 * PAGE);
    assert_int_equal(look_at(&f, true, &e), ERR_CORRUPT);
    store_bytes(&f, PAGE);
    assert_int_equal(look_at(&f, true, &e), ERR_CORRUPT);
    store_bytes(&f, 77);
    assert_int_equal(look_at(&f, true, &e), ERR_CORRUPT);
    free(f.bytes);
}

/* A creation that was cut off may leave half a ledger; nothing was in it yet. */
static void test_torn_creation_is_made_again(void **state)
{
    struct scratch *x = *state;
    struct file f;
    struct store *s = open_store(x->store);
    char format[256];

    store_close(s);
    snprintf(format, sizeof format, "%s/FORMAT", x->store);
    assert_int_equal(unlink(format), 0);
    snprintf(f.path, sizeof f.path, "%s/ledger/data.mdb", x->store);
    load(&f);
    store_bytes(&f, PAGE);
    s = open_store(x->store);
    corpus_release(make_corpus(s, "c", 8, DTYPE_F32));
    store_close(s);
    free(f.bytes);
}

#define scratch_test(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_sound_files_pass), scratch_test(test_meta_pages),
        scratch_test(test_bits_of_structure), scratch_test(test_cut_short),
        scratch_test(test_torn_creation_is_made_again),
    };

    return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
