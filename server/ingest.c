/* ingest.c - see ingest.h. */
#include "server/ingest.h"

#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#include "index/vec.h"
#include "server/examples.h"
#include "server/limits.h"
#include "server/pool.h"
#include "server/safetensors.h"
#include "storage/hash.h"

/* Rows taken at a time: enough work to outweigh the counter, few enough to stop soon. */
enum { SPAN_ROWS = 32 };

int ingest_check_fingerprint(const struct corpus *c, const char *stated, struct err *e)
{
    char ours[2 * STORE_FINGERPRINT_BYTES + 1];

    if (!stated)
        return 0;
    bytes_hex(corpus_def(c)->fingerprint, STORE_FINGERPRINT_BYTES, ours);
    if (strcasecmp(stated, ours) == 0)
        return 0;
    err_set(e, ERR_FINGERPRINT, "made for fingerprint %.64s; corpus %s has %s", stated,
            corpus_def(c)->name, ours);
    return err_at_field(e, "fingerprint");
}

/* ---- normalising, by several threads --------------------------------------------------------- */

struct spread {
    const struct safetensor *in;
    enum dtype in_type, out_type;
    size_t rows, dim;
    unsigned char *encodings; /* rows x dim of out_type */
    double *norms;
    float *scratch;       /* dim floats a slot */
    struct err *errs;     /* one a slot */
    size_t *bad_row;      /* one a slot, SIZE_MAX: none */
    const struct stop *stop;
    _Atomic size_t next;  /* row */
    _Atomic size_t first_bad;
};

/* The lowest bad row is found whatever the order of threads: spans are handed out ascending, so all
 * below a bad one are in somebody's hands and end; those above need not begin. */
static void mark_bad(struct spread *s, unsigned slot, size_t row)
{
    size_t seen = atomic_load(&s->first_bad);

    s->bad_row[slot] = row;
    while (row < seen && !atomic_compare_exchange_weak(&s->first_bad, &seen, row))
        ;
}

static int one_row(struct spread *s, unsigned slot, size_t row)
{
    size_t in_bytes = s->dim * dtype_size(s->in_type);
    size_t out_bytes = s->dim * dtype_size(s->out_type);

    return vec_normalise(s->in->data + row * in_bytes, s->in_type, s->dim, s->out_type,
                         s->encodings + row * out_bytes, &s->norms[row],
                         s->scratch + slot * s->dim, s->in->name, row, &s->errs[slot]);
}

static void normalise_share(void *arg, unsigned slot)
{
    struct spread *s = arg;

    for (;;) {
        size_t row = atomic_fetch_add(&s->next, SPAN_ROWS);
        size_t end = row + SPAN_ROWS < s->rows ? row + SPAN_ROWS : s->rows;

        if (row >= s->rows || row > atomic_load(&s->first_bad))
            return;
        if (stop_asked(s->stop)) {
            err_set(&s->errs[slot], ERR_CANCELLED, "stopped at row %zu of %zu", row, s->rows);
            mark_bad(s, slot, row);
            return;
        }
        for (; row < end; row++)
            if (one_row(s, slot, row)) {
                mark_bad(s, slot, row);
                return;
            }
    }
}

static int normalise(struct spread *s, struct pool *pool, struct arena *a, struct err *e)
{
    size_t spans = (s->rows + SPAN_ROWS - 1) / SPAN_ROWS;
    unsigned width = pool ? pool_readers(pool) : 1;

    if (width > spans)
        width = (unsigned)spans;
    s->scratch = arena_big(a, width * s->dim, sizeof *s->scratch);
    s->errs = arena_new(a, width, sizeof *s->errs);
    s->bad_row = arena_new(a, width, sizeof *s->bad_row);
    if (!s->scratch)
        return err_set(e, ERR_BUSY, "no memory for %u scratch rows", width);
    for (unsigned i = 0; i < width; i++) {
        s->errs[i] = ERR_INIT;
        s->bad_row[i] = SIZE_MAX;
    }
    if (pool)
        pool_fanout(pool, width, normalise_share, s);
    else
        normalise_share(s, 0);
    for (unsigned i = 0; i < width; i++)
        if (s->bad_row[i] != SIZE_MAX && s->bad_row[i] == atomic_load(&s->first_bad)) {
            *e = s->errs[i];
            return (int)e->code;
        }
    return 0;
}

/* ---- the batch ------------------------------------------------------------------------------- */

static int read_gradients(const struct safetensor *t, struct corpus *c, struct pool *pool,
                          const struct stop *stop, struct arena *a, struct commit_batch *out,
                          struct err *e)
{
    const struct corpus_def *def = corpus_def(c);
    struct spread s = {.in = t,
                       .dim = def->dim,
                       .out_type = (enum dtype)def->dtype,
                       .stop = stop,
                       .first_bad = SIZE_MAX};
    int code = safetensors_rows(t, def->dim, LIMIT_BATCH_ROWS, &s.rows, &s.in_type, e);

    if (code)
        return code;
    s.encodings = arena_big(a, s.rows, corpus_row_bytes(c));
    s.norms = arena_big(a, s.rows, sizeof *s.norms);
    if (!s.encodings || !s.norms)
        return err_set(e, ERR_BUSY, "no memory for %zu encodings of %zu bytes", s.rows,
                       corpus_row_bytes(c));
    code = normalise(&s, pool, a, e);
    if (code)
        return code;
    out->count = (uint32_t)s.rows;
    out->encodings = s.encodings;
    out->norms = s.norms;
    return 0;
}

static int read_examples(const struct safetensor *t, const struct stop *stop, size_t rows,
                         struct arena *a, struct commit_batch *out, struct err *e)
{
    struct commit_example *examples = NULL;
    int code;

    if (t->bytes && (t->rank != 1 || strcmp(t->dtype, "U8") != 0)) {
        err_set(e, ERR_WRONG_DTYPE, "tensor examples: must be U8 of shape [bytes]");
        return err_at_field(e, "examples");
    }
    code = examples_read(t->data, t->bytes, rows, stop, a, &examples, e);
    if (!code)
        out->examples = examples;
    return code;
}

int ingest_decode(const unsigned char *body, size_t len, struct corpus *c, const char *stated,
                  struct pool *pool, const struct stop *stop, struct arena *a,
                  struct commit_batch *out, struct err *e)
{
    static const char *const names[] = {"gradients", "examples", NULL};
    const struct safetensor *gradients = NULL, *examples = NULL;
    struct commit_batch batch = {.corpus = c};
    struct safetensors st;
    struct hash hash;
    size_t rows;
    enum dtype type;
    int code = safetensors_read(body, len, a, &st, e);

    if (!code)
        code = safetensors_only(&st, names, e);
    if (!code)
        code = safetensors_find(&st, "gradients", &gradients, e);
    if (!code)
        code = safetensors_find(&st, "examples", &examples, e);
    if (!code)
        code = ingest_check_fingerprint(c, stated, e);
    if (!code)
        code = ingest_check_fingerprint(c, st.fingerprint, e);
    if (!code)
        code = safetensors_rows(gradients, corpus_def(c)->dim, LIMIT_BATCH_ROWS, &rows, &type, e);
    /* Ids and texts first: they cost little beside the vectors and are wrong more often. */
    if (!code)
        code = read_examples(examples, stop, rows, a, &batch, e);
    if (!code)
        code = read_gradients(gradients, c, pool, stop, a, &batch, e);
    if (code)
        return code;
    /* Not against forgery: a client that makes two bodies collide deceives only its own batch. */
    hash_begin(&hash);
    hash_add(&hash, body, len);
    _Static_assert(sizeof batch.content_hash == HASH_BYTES, "128 bits");
    hash_end(&hash, batch.content_hash);
    *out = batch;
    return 0;
}
