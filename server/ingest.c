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

/* A batch of float32 for a corpus of float32 that is not whitened needs no second copy of itself:
 * its rows become unit vectors where they lie. */
static bool fits_in_place(const struct encode *k)
{
    return !k->whiten && k->in_type == DTYPE_F32 && k->out_type == DTYPE_F32;
}

/* lengths: of the gradients, when the tensor holds their unit vectors by now; or NULL. */
static int read_gradients(const struct safetensor *t, const struct view *v, const double *lengths,
                          struct pool *pool, const struct stop *stop, struct arena *a,
                          struct commit_batch *out, struct err *e)
{
    const struct corpus_def *def = corpus_def(v->corpus);
    size_t row_bytes = corpus_row_bytes(v->corpus);
    struct encode k = {.in = t->data,
                       .dim = def->dim,
                       .lengths = lengths,
                       .out_type = (enum dtype)def->dtype,
                       .field = t->name};
    int code = safetensors_rows(t, def->dim, LIMIT_BATCH_ROWS, &k.rows, &k.in_type, e);

    if (!code)
        code = encode_whitening(v, &k.whiten, e);
    if (code)
        return code;
    k.out = fits_in_place(&k) ? (void *)(uintptr_t)t->data : arena_big(a, k.rows, row_bytes);
    k.norms = arena_big(a, k.rows, sizeof *k.norms);
    if (!k.out || !k.norms)
        return err_set(e, ERR_BUSY, "no memory for %zu encodings of %zu bytes", k.rows, row_bytes);
    if (lengths && k.out == k.in)
        memcpy(k.norms, lengths, k.rows * sizeof *k.norms);
    else
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

/* Not against forgery: a client that makes two bodies collide deceives only its own batch. */
static void hash_body(const unsigned char *body, size_t len, struct commit_batch *out)
{
    struct hash hash;

    hash_begin(&hash);
    hash_add(&hash, body, len);
    _Static_assert(sizeof out->content_hash == HASH_BYTES, "128 bits");
    hash_end(&hash, out->content_hash);
}

int ingest_decode(unsigned char *body, size_t len, struct corpus *c, const char *stated,
                  struct pool *pool, const struct stop *stop, struct arena *a,
                  struct commit_batch *out, struct err *e)
{
    static const char *const names[] = {"gradients", "examples", NULL};
    const struct safetensor *gradients = NULL, *examples = NULL;
    struct commit_batch batch = {.corpus = c};
    const double *lengths = NULL;
    struct safetensors st;
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

        if (out->encodings == gradients->data) {
            lengths = out->norms;
            memcpy(batch.content_hash, out->content_hash, sizeof batch.content_hash);
        } else {
            hash_body(body, len, &batch);
        }
        code = read_gradients(gradients, v, lengths, pool, stop, a, &batch, e);
        view_release(v);
    }
    if (!code)
        *out = batch;
    return code;
}
