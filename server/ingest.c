/* ingest.c - see ingest.h. */
#include "server/ingest.h"

#include <string.h>
#include <strings.h>

#include "server/codes.h"
#include "server/encode.h"
#include "server/examples.h"
#include "server/limits.h"
#include "server/safetensors.h"
#include "storage/annex.h"
#include "storage/hash.h"

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

/* ---- the batch ------------------------------------------------------------------------------- */

static int read_gradients(const struct safetensor *t, const struct view *v, struct pool *pool,
                          const struct stop *stop, struct arena *a, struct commit_batch *out,
                          struct err *e)
{
    const struct corpus_def *def = corpus_def(v->corpus);
    size_t row_bytes = corpus_row_bytes(v->corpus);
    struct encode k = {.in = t->data,
                       .dim = def->dim,
                       .out_type = (enum dtype)def->dtype,
                       .field = t->name};
    int code = safetensors_rows(t, def->dim, LIMIT_BATCH_ROWS, &k.rows, &k.in_type, e);

    if (!code)
        code = encode_whitening(v, &k.whiten, e);
    if (code)
        return code;
    k.out = arena_big(a, k.rows, row_bytes);
    k.norms = arena_big(a, k.rows, sizeof *k.norms);
    if (!k.out || !k.norms)
        return err_set(e, ERR_BUSY, "no memory for %zu encodings of %zu bytes", k.rows, row_bytes);
    code = encode_run(&k, pool, stop, e);
    if (!code)
        code = codes_run(v->corpus, k.out, (uint32_t)k.rows, pool, stop, a, &out->codes, e);
    if (code)
        return code;
    out->count = (uint32_t)k.rows;
    out->encodings = k.out;
    out->norms = k.norms;
    out->epoch = view_epoch(v);
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
    if (!code) {
        const struct view *v = corpus_view(c);

        code = read_gradients(gradients, v, pool, stop, a, &batch, e);
        view_release(v);
    }
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
