/* test_ingest.c - a batch body becomes rows to commit: the right ones, the first fault, and
 * never a crash whatever the bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/kern.h"
#include "index/vec.h"
#include "server/ingest.h"
#include "server/limits.h"
#include "server/pool.h"
#include "server/safetensors.h"
#include "storage/hash.h"

enum { DIM = 24 };

struct fixture {
    char dir[64];
    struct store *store;
    struct pool *pool;
    struct corpus *corpora[4]; /* by enum dtype */
    uint64_t random;
};

static struct fixture fixture;

static uint64_t next(void)
{
    uint64_t *x = &fixture.random;

    *x ^= *x << 13; /* xorshift64 */
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void never(void *arg, struct job *j)
{
    (void)arg;
    (void)j;
    abort();
}

static int setup(void **state)
{
    struct store_options options = {.create = true};
    struct fixture *f = &fixture;
    struct err e = ERR_INIT;

    (void)state;
    f->random = 88172645463325252u;
    snprintf(f->dir, sizeof f->dir, "/tmp/ascribe-ingest-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(store_open(f->dir, &options, &f->store, &e), 0);
    for (enum dtype t = DTYPE_F32; t <= DTYPE_BF16; t++) {
        struct corpus_def def = {.dim = DIM, .dtype = (uint32_t)t, .manifest = "{}"};
        bool created;

        snprintf(def.name, sizeof def.name, "%s", dtype_name(t));
        memset(def.fingerprint, 0x5a, sizeof def.fingerprint);
        assert_int_equal(store_corpus_create(f->store, &def, &created, &f->corpora[t], &e), 0);
    }
    f->pool = pool_new(4, 4, never, NULL);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    pool_free(fixture.pool);
    for (enum dtype t = DTYPE_F32; t <= DTYPE_BF16; t++)
        corpus_release(fixture.corpora[t]);
    store_close(fixture.store);
    snprintf(command, sizeof command, "rm -rf '%s'", fixture.dir);
    return system(command);
}

/* A body of `n` rows, `fill(row, element)` of type t. `shift` spaces move the data off any
 * alignment. */
static void make_body(struct buf *b, size_t n, enum dtype t, float (*fill)(size_t, size_t),
                      const char *fingerprint, size_t shift)
{
    struct buf lines = {0};
    size_t fingerprint_len = fingerprint ? strlen(fingerprint) : 0;
    struct safetensors_note note = {"fingerprint", fingerprint, fingerprint_len};
    size_t start = b->len, header;

    for (size_t i = 0; i < n; i++)
        buf_format(&lines, "{\"id\":\"row-%zu\",\"text\":\"text %zu\",\"meta\":{\"n\":%zu}}\n",
                   i, i, i);
    safetensors_header(b,
                       (struct safetensors_spec[]){{"gradients", dtype_tensor_name(t), 2, {n, DIM},
                                                    n * DIM * dtype_size(t)},
                                                   {"examples", "U8", 1, {lines.len}, lines.len}},
                       2, &note, fingerprint ? 1 : 0);
    buf_add(b, "        ", shift);
    header = bytes_get_le64(b->data + start) + shift;
    bytes_put_le64(b->data + start, header);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < DIM; k++) {
            float v = fill(i, k);
            uint16_t half;

            if (t != DTYPE_F32)
                vec_narrow(&v, 1, t, &half);
            buf_add(b, t == DTYPE_F32 ? (void *)&v : (void *)&half, dtype_size(t));
        }
    buf_add(b, lines.data, lines.len);
    buf_free(&lines);
}

static int decode(const struct buf *b, enum dtype t, const char *stated, bool alone,
                  struct arena *a, struct commit_batch *out, struct err *e)
{
    *e = ERR_INIT;
    return ingest_decode(b->data, b->len, fixture.corpora[t], stated, alone ? NULL : fixture.pool,
                         NULL, a, out, e);
}

static float plain(size_t row, size_t k)
{
    return (float)((row * 7 + k * 3) % 11) - 4.5f;
}

static void test_every_pair_of_types(void **state)
{
    enum { ROWS = 150 };

    (void)state;
    for (enum dtype in = DTYPE_F32; in <= DTYPE_BF16; in++)
        for (enum dtype out = DTYPE_F32; out <= DTYPE_BF16; out++)
            for (int alone = 0; alone < 2; alone++) {
                struct commit_batch batch = {0};
                struct arena a = {0};
                struct buf b = {0};
                struct err e;

                make_body(&b, ROWS, in, plain, NULL, in + (unsigned)alone);
                assert_int_equal(decode(&b, out, NULL, alone, &a, &batch, &e), 0);
                assert_int_equal(batch.count, ROWS);
                for (size_t i = 0; i < ROWS; i++) {
                    unsigned char want[DIM * 4];
                    float row[DIM], scratch[DIM];
                    double norm;

                    for (size_t k = 0; k < DIM; k++)
                        row[k] = plain(i, k); /* exact in every type */
                    assert_int_equal(vec_normalise(row, DTYPE_F32, DIM, out, want, &norm, scratch,
                                                   "x", i, &e), 0);
                    assert_true(norm == batch.norms[i]);
                    assert_memory_equal((const char *)batch.encodings + i * DIM * dtype_size(out),
                                        want, DIM * dtype_size(out));
                    snprintf((char *)want, sizeof want, "row-%zu", i);
                    assert_memory_equal(batch.examples[i].id, want, batch.examples[i].id_len);
                }
                arena_free(&a);
                buf_free(&b);
            }
}

/* A second time, as after STALE: from unit rows where the first time left them in the body, else
 * from the gradients. The same encodings, and the hash of what was sent. */
static void test_decoded_once_more(void **state)
{
    enum { ROWS = 60 };

    (void)state;
    for (enum dtype in = DTYPE_F32; in <= DTYPE_BF16; in++)
        for (enum dtype out = DTYPE_F32; out <= DTYPE_BF16; out++) {
            size_t bytes = (size_t)ROWS * DIM * dtype_size(out);
            bool in_place = in == DTYPE_F32 && out == DTYPE_F32;
            struct commit_batch first, batch = {0};
            unsigned char sent[HASH_BYTES];
            struct arena a = {0};
            struct buf b = {0};
            void *rows = malloc(bytes);
            struct hash h;
            struct err e;

            make_body(&b, ROWS, in, plain, NULL, (unsigned)out);
            hash_begin(&h);
            hash_add(&h, b.data, b.len);
            hash_end(&h, sent);
            assert_int_equal(decode(&b, out, NULL, false, &a, &batch, &e), 0);
            assert_int_equal((const unsigned char *)batch.encodings > b.data &&
                                 (const unsigned char *)batch.encodings < b.data + b.len, in_place);
            assert_memory_equal(batch.content_hash, sent, HASH_BYTES);
            memcpy(rows, batch.encodings, bytes);
            first = batch;
            assert_int_equal(decode(&b, out, NULL, false, &a, &batch, &e), 0);
            assert_memory_equal(batch.encodings, rows, bytes);
            assert_memory_equal(batch.norms, first.norms, ROWS * sizeof *first.norms);
            assert_memory_equal(batch.content_hash, sent, HASH_BYTES);
            free(rows);
            arena_free(&a);
            buf_free(&b);
        }
}

static size_t bad_from; /* rows from here on are NaN */

static float nan_from(size_t row, size_t k)
{
    return row >= bad_from && k == 3 ? NAN : 1.0f;
}

static void test_the_first_bad_row_is_named_whoever_meets_it(void **state)
{
    (void)state;
    for (bad_from = 0; bad_from < 999; bad_from = bad_from * 2 + 31) {
        struct commit_batch batch = {0};
        struct arena a = {0};
        struct buf b = {0};
        struct err e;

        make_body(&b, 1000, DTYPE_F32, nan_from, NULL, 0);
        assert_int_equal(decode(&b, DTYPE_F16, NULL, false, &a, &batch, &e), ERR_NOT_FINITE);
        assert_int_equal(e.index, bad_from);
        assert_string_equal(e.field, "gradients");
        arena_free(&a);
        buf_free(&b);
    }
}

static void test_fingerprints(void **state)
{
    char right[65], wrong[65];

    (void)state;
    memset(wrong, '0', 64);
    for (size_t i = 0; i < 64; i += 2)
        memcpy(right + i, "5a", 2);
    right[64] = wrong[64] = '\0';
    for (int where = 0; where < 2; where++) {
        struct commit_batch batch = {0};
        struct arena a = {0};
        struct buf good = {0}, bad = {0};
        struct err e;

        make_body(&good, 3, DTYPE_F32, plain, where ? right : NULL, 0);
        make_body(&bad, 3, DTYPE_F32, plain, where ? wrong : NULL, 0);
        assert_int_equal(decode(&good, DTYPE_F32, where ? NULL : right, true, &a, &batch, &e), 0);
        assert_int_equal(decode(&bad, DTYPE_F32, where ? NULL : wrong, true, &a, &batch, &e),
                         ERR_FINGERPRINT);
        assert_non_null(strstr(e.text, right));
        assert_non_null(strstr(e.text, wrong));
        arena_free(&a);
        buf_free(&good);
        buf_free(&bad);
    }
}

static void test_the_hash_is_of_every_byte(void **state)
{
    struct commit_batch one = {0}, same = {0}, other = {0};
    struct buf b[3] = {{0}}; /* each of its own: decoding writes over it */
    struct arena a = {0};
    struct err e;

    (void)state;
    for (int i = 0; i < 3; i++)
        make_body(&b[i], 3, DTYPE_F32, plain, NULL, 0);
    assert_int_equal(decode(&b[0], DTYPE_F32, NULL, true, &a, &one, &e), 0);
    assert_int_equal(decode(&b[1], DTYPE_F32, NULL, false, &a, &same, &e), 0);
    assert_memory_equal(one.content_hash, same.content_hash, sizeof one.content_hash);
    b[2].data[b[2].len - 4] ^= 1; /* the last digit of the last meta */
    assert_int_equal(decode(&b[2], DTYPE_F32, NULL, true, &a, &other, &e), 0);
    assert_memory_not_equal(one.content_hash, other.content_hash, sizeof one.content_hash);
    arena_free(&a);
    for (int i = 0; i < 3; i++)
        buf_free(&b[i]);
}

static _Atomic bool stop_now;

static bool stopping(void *arg)
{
    (void)arg;
    return atomic_load(&stop_now);
}

static void test_it_stops_when_asked(void **state)
{
    struct stop stop = {.asked = stopping};
    struct commit_batch batch = {0};
    struct arena a = {0};
    struct buf b = {0};
    struct err e = ERR_INIT;

    (void)state;
    make_body(&b, 500, DTYPE_F32, plain, NULL, 0);
    atomic_store(&stop_now, true);
    assert_int_equal(ingest_decode(b.data, b.len, fixture.corpora[DTYPE_F32], NULL, fixture.pool,
                                   &stop, &a, &batch, &e), ERR_CANCELLED);
    arena_free(&a);
    buf_free(&b);
}

/* ---- bytes of any kind ----------------------------------------------------------------------- */

/* What a client may be told about a batch that is not well-formed. */
static bool is_refusal(int code)
{
    static const enum err_code codes[] = {
        ERR_INVALID,   ERR_BAD_JSON,    ERR_BAD_TENSOR, ERR_BAD_UTF8,
        ERR_TOO_LARGE, ERR_WRONG_DIM,   ERR_WRONG_DTYPE, ERR_NOT_FINITE,
        ERR_BAD_ID,    ERR_DUPLICATE_ID, ERR_FINGERPRINT, ERR_ZERO_GRADIENT};

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if ((int)codes[i] == code)
            return true;
    return false;
}

/* Parts that parsers trip over, put in anywhere. */
static const char *const pieces[] = {
    "{",    "}",    "[",         "]",            "\"",           ",",  ":",       "-1",
    "0",    "\n",   "\xff",      "1e999",        "\\u0000",      "\\ud800", "null", "true",
    "F16",  "\"id\":", "data_offsets", "__metadata__", "9223372036854775807",
    "18446744073709551616"};

static void mutate(struct buf *b)
{
    for (uint64_t n = next() % 3 + 1; n; n--) {
        const char *piece = pieces[next() % (sizeof pieces / sizeof pieces[0])];
        size_t at = next() % (b->len + 1), room = b->len - at;
        /* half of the time where the structure is */
        if (next() % 2)
            at = next() % ((b->len < 320 ? b->len : 320) + 1), room = b->len - at;

        switch (next() % 5) {
        case 0:
            if (room)
                b->data[at] ^= (unsigned char)(1u << next() % 8);
            break;
        case 1:
            b->len = at;
            break;
        case 2:
            if (room > strlen(piece))
                memcpy(b->data + at, piece, strlen(piece));
            break;
        case 3: { /* a piece goes in between, the length says so */
            struct buf grown = {0};

            buf_add(&grown, b->data, at);
            buf_add_text(&grown, piece);
            buf_add(&grown, b->data + at, room);
            if (at >= 8 && grown.len >= 8)
                bytes_put_le64(grown.data, bytes_get_le64(grown.data) + strlen(piece));
            buf_free(b);
            *b = grown;
            break;
        }
        default:
            if (room > 16)
                memmove(b->data + at, b->data + at + next() % 16, room - 16);
        }
    }
}

static void test_mutated_bodies_are_refused_or_read(void **state)
{
    size_t refused = 0;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct commit_batch batch = {0};
        struct arena a = {0};
        struct buf b = {0};
        unsigned char *exact;
        struct err e = ERR_INIT;
        int code;

        make_body(&b, 1 + next() % 4, (enum dtype)(1 + next() % 3), plain, NULL, 0);
        mutate(&b);
        exact = malloc(b.len + 1); /* the sanitizer sees a read past the one NUL the server puts */
        memcpy(exact, b.data ? b.data : exact, b.len);
        exact[b.len] = '\0';
        code = ingest_decode(exact, b.len, fixture.corpora[DTYPE_F32], NULL, NULL, NULL, &a,
                             &batch, &e);
        if (code && !is_refusal(code))
            fail_msg("round %d: %s: %s", i, err_word(e.code), e.text);
        refused += code != 0;
        free(exact);
        arena_free(&a);
        buf_free(&b);
    }
    assert_in_range(refused, 10000, 19999); /* both outcomes were met */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair_of_types),
        cmocka_unit_test(test_decoded_once_more),
        cmocka_unit_test(test_the_first_bad_row_is_named_whoever_meets_it),
        cmocka_unit_test(test_fingerprints),
        cmocka_unit_test(test_the_hash_is_of_every_byte),
        cmocka_unit_test(test_it_stops_when_asked),
        cmocka_unit_test(test_mutated_bodies_are_refused_or_read),
    };

    kern_init(NULL);
    return cmocka_run_group_tests_name("ingest", tests, setup, teardown);
}
