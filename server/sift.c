/* sift.c - see sift.h. One bitmap of matching rows for each (chunk, filter), in a table under one
 * mutex that is held for look-ups and copies only; the least recently used go first. */
#include "server/sift.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/pool.h"
#include "storage/base/check.h"
#include "storage/text.h"

/* ---- what is kept ---------------------------------------------------------------------------- */

enum { BUCKETS = 4096 };

struct kept {
    struct kept *next;           /* of its bucket */
    struct kept *newer, *older;  /* by use */
    uint64_t chunk;
    unsigned char key[16];
    size_t words;
    uint64_t match[];
};

struct sift {
    pthread_mutex_t lock;
    struct kept *buckets[BUCKETS];
    struct kept *newest, *oldest;
    uint64_t bytes, budget;
};

struct sift *sift_new(uint64_t budget_bytes)
{
    struct sift *s = mem_new(1, sizeof *s);

    s->budget = budget_bytes;
    require(pthread_mutex_init(&s->lock, NULL) == 0);
    return s;
}

void sift_free(struct sift *s)
{
    struct kept *k, *older;

    if (!s)
        return;
    for (k = s->newest; k; k = older) {
        older = k->older;
        free(k);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

uint64_t sift_bytes(struct sift *s)
{
    uint64_t bytes;

    pthread_mutex_lock(&s->lock);
    bytes = s->bytes;
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

static struct kept **bucket_of(struct sift *s, uint64_t chunk, const unsigned char key[16])
{
    /* the key is a keyed-strength hash already; chunk ids are consecutive */
    return &s->buckets[(bytes_get_le64(key) + chunk) % BUCKETS];
}

static void unlink_use(struct sift *s, struct kept *k)
{
    *(k->newer ? &k->newer->older : &s->newest) = k->older;
    *(k->older ? &k->older->newer : &s->oldest) = k->newer;
}

static void link_newest(struct sift *s, struct kept *k)
{
    k->newer = NULL;
    k->older = s->newest;
    *(s->newest ? &s->newest->newer : &s->oldest) = k;
    s->newest = k;
}

static size_t size_of(const struct kept *k)
{
    return sizeof *k + k->words * sizeof k->match[0];
}

/* Under the lock. */
static struct kept *find(struct sift *s, uint64_t chunk, const unsigned char key[16])
{
    struct kept *k = *bucket_of(s, chunk, key);

    while (k && (k->chunk != chunk || memcmp(k->key, key, sizeof k->key) != 0))
        k = k->next;
    return k;
}

static void drop_oldest(struct sift *s)
{
    struct kept *k = s->oldest, **at = bucket_of(s, k->chunk, k->key);

    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    unlink_use(s, k);
    s->bytes -= size_of(k);
    free(k);
}

/* Copies what is kept; false when there is nothing. */
static bool recall(struct sift *s, uint64_t chunk, const unsigned char key[16], uint64_t *match,
                   size_t words)
{
    struct kept *k;

    pthread_mutex_lock(&s->lock);
    k = find(s, chunk, key);
    if (k) {
        require(k->words == words);
        memcpy(match, k->match, words * sizeof *match);
        unlink_use(s, k);
        link_newest(s, k);
    }
    pthread_mutex_unlock(&s->lock);
    return k != NULL;
}

static void keep(struct sift *s, uint64_t chunk, const unsigned char key[16], const uint64_t *match,
                 size_t words)
{
    struct kept *k = malloc(sizeof *k + words * sizeof *match), **bucket;

    if (!k)
        return;
    k->chunk = chunk;
    k->words = words;
    memcpy(k->key, key, sizeof k->key);
    memcpy(k->match, match, words * sizeof *match);
    pthread_mutex_lock(&s->lock);
    if (find(s, chunk, key) || size_of(k) > s->budget) {
        free(k);
    } else {
        bucket = bucket_of(s, chunk, key);
        k->next = *bucket;
        *bucket = k;
        link_newest(s, k);
        s->bytes += size_of(k);
        while (s->bytes > s->budget)
            drop_oldest(s);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- one chunk ------------------------------------------------------------------------------- */

int sift_parse(const char *text, size_t len, struct arena *a, struct sift_by *out, struct err *e)
{
    struct sift_by by = {.filter = NULL};
    int code = text ? filter_parse(text, len, a, &by.filter, e) : 0;

    if (code)
        return code;
    if (text)
        crypto_generichash(by.key, sizeof by.key, (const unsigned char *)text, len, NULL, 0);
    *out = by;
    return 0;
}

struct reading {
    const struct view_chunk *chunk;
    struct block rows, texts;
    struct text_reader reader;
    bool with_meta;
};

static int reading_open(struct reading *r, const struct view_chunk *chunk, bool with_meta,
                        struct err *e)
{
    int code;

    *r = (struct reading){.chunk = chunk, .with_meta = with_meta};
    code = block_open(chunk, BLOCK_ROWS, &r->rows, e);
    if (code || !with_meta)
        return code;
    code = block_open(chunk, BLOCK_TEXTS, &r->texts, e);
    if (!code) {
        code = text_reader_open(&r->reader, r->texts.bytes, r->texts.len, chunk->rows, e);
        if (code)
            block_close(&r->texts);
    }
    if (code)
        block_close(&r->rows);
    return code;
}

static void reading_close(struct reading *r)
{
    if (r->with_meta) {
        text_reader_close(&r->reader);
        block_close(&r->texts);
    }
    block_close(&r->rows);
}

static int reading_row(struct reading *r, uint32_t row, struct filter_row *out, struct err *e)
{
    const char *text;
    size_t text_len;

    *out = (struct filter_row){.sequence = block_row_sequence(&r->rows, row),
                               .norm = block_row_norm(&r->rows, row)};
    out->id = block_row_id(&r->rows, row, &out->id_len);
    if (!r->with_meta)
        return 0;
    return text_reader_row(&r->reader, row, &text, &text_len, &out->meta, &out->meta_len, e);
}

/* Every stored row is judged, dead ones too: what is kept stays right when tombstones come. */
static int judge(const struct sift_by *by, const struct view_chunk *chunk, uint64_t *match,
                 const struct stop *stop, struct err *e)
{
    struct filter_row row;
    struct reading r;
    int code = reading_open(&r, chunk, filter_reads_meta(by->filter), e);

    if (code)
        return code;
    for (uint32_t i = 0; !code && i < chunk->rows; i++) {
        bool yes = false;

        if (i % 256 == 0 && stop_asked(stop)) {
            code = err_set(e, ERR_CANCELLED, "stopped while filtering");
            break;
        }
        code = reading_row(&r, i, &row, e);
        if (!code)
            code = filter_match(by->filter, &row, &yes, e);
        if (yes)
            match[i / 64] |= UINT64_C(1) << (i % 64);
    }
    reading_close(&r);
    if (code && code != ERR_CANCELLED)
        err_wrap(e, "corpus chunk %llu: ", (unsigned long long)chunk->id);
    return code;
}

/* ---- a view ---------------------------------------------------------------------------------- */

struct sifting {
    struct sift *kept;
    const struct sift_by *by;
    const struct view *view;
    struct view_chunk *chunks; /* of the new view */
    uint64_t *words;           /* all bitmaps; each chunk's from at[i] on */
    size_t *at;
    const struct stop *stop;
    struct err *errs; /* one a slot */
    _Atomic size_t next;
    _Atomic bool halt;
};

static size_t words_of(const struct view_chunk *c)
{
    return ((size_t)c->rows + 63) / 64;
}

/* Turns the bitmap of matches into one of dead rows. */
static void bury(struct view_chunk *c, const struct view_chunk *from, uint64_t *bits)
{
    uint32_t alive = 0;

    for (size_t i = 0; i < words_of(from); i++) {
        if (from->dead)
            bits[i] &= ~from->dead[i];
        alive += (uint32_t)__builtin_popcountll(bits[i]);
        bits[i] = ~bits[i];
    }
    *c = *from;
    c->dead = bits;
    c->dead_count = from->rows - alive;
}

static int sift_chunk(struct sifting *s, size_t i, struct err *e)
{
    const struct view_chunk *from = &s->view->chunks[i];
    uint64_t *bits = s->words + s->at[i];
    size_t words = words_of(from);

    if (from->dead_count == from->rows) { /* deleted, or left out as damaged: not to be read */
        memset(bits, 0, words * sizeof *bits);
        bury(&s->chunks[i], from, bits);
        return 0;
    }
    if (!recall(s->kept, from->id, s->by->key, bits, words)) {
        memset(bits, 0, words * sizeof *bits);
        if (judge(s->by, from, bits, s->stop, e))
            return (int)e->code;
        keep(s->kept, from->id, s->by->key, bits, words);
    }
    bury(&s->chunks[i], from, bits);
    return 0;
}

static void sift_share(void *arg, unsigned slot)
{
    struct sifting *s = arg;

    for (;;) {
        size_t i = atomic_fetch_add(&s->next, 1);

        if (i >= s->view->chunk_count || atomic_load(&s->halt))
            return;
        if (stop_asked(s->stop))
            err_set(&s->errs[slot], ERR_CANCELLED, "stopped at chunk %zu", i);
        else if (!sift_chunk(s, i, &s->errs[slot]))
            continue;
        atomic_store(&s->halt, true);
        return;
    }
}

static int reserve(struct sifting *s, struct arena *a, struct err *e)
{
    const struct view *v = s->view;
    size_t words = 0, count = v->chunk_count ? v->chunk_count : 1;

    s->chunks = arena_big(a, count, sizeof *s->chunks);
    s->at = arena_big(a, count, sizeof *s->at);
    if (!s->chunks || !s->at)
        return err_set(e, ERR_BUSY, "no memory to filter %zu chunks", v->chunk_count);
    for (size_t i = 0; i < v->chunk_count; i++) {
        s->at[i] = words;
        words += words_of(&v->chunks[i]);
    }
    s->words = arena_big(a, words ? words : 1, sizeof *s->words);
    return s->words ? 0 : err_set(e, ERR_BUSY, "no memory to filter %zu x 64 rows", words);
}

static int run(struct sifting *s, struct pool *pool, struct arena *a, struct err *e)
{
    unsigned width = pool ? pool_readers(pool) : 1;

    if (width > s->view->chunk_count)
        width = s->view->chunk_count ? (unsigned)s->view->chunk_count : 1;
    s->errs = arena_new(a, width, sizeof *s->errs);
    for (unsigned i = 0; i < width; i++)
        s->errs[i] = ERR_INIT;
    if (pool)
        pool_fanout(pool, width, sift_share, s);
    else
        sift_share(s, 0);
    for (unsigned i = 0; i < width; i++)
        if (s->errs[i].code && (!e->code || e->code == ERR_CANCELLED))
            *e = s->errs[i];
    return (int)e->code;
}

int sift_view(struct sift *kept, const struct sift_by *by, const struct view *v, struct pool *pool,
              const struct stop *stop, struct arena *a, const struct view **out, struct err *e)
{
    struct sifting s = {.kept = kept, .by = by, .view = v, .stop = stop};
    struct view *sifted;
    int code;

    if (!by->filter) {
        *out = v;
        return 0;
    }
    code = reserve(&s, a, e);
    if (!code)
        code = run(&s, pool, a, e);
    if (code)
        return code;
    sifted = arena_new(a, 1, sizeof *sifted);
    *sifted = *v;
    sifted->chunks = s.chunks;
    sifted->live = 0;
    for (size_t i = 0; i < v->chunk_count; i++)
        sifted->live += s.chunks[i].rows - s.chunks[i].dead_count;
    *out = sifted;
    return 0;
}
