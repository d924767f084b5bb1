/* commit.h - writing: batches in, examples out. All calls are [W] (storage/store.h).
 *
 * A commit has one order, and only this one: chunks into the corpus's shard, durable; then the
 * ledger transaction, durable; then the caller may acknowledge. A chunk whose id is not below the
 * ledger's counter does not exist; the next commit writes over it, the next open removes it.
 * Batches that wait together are committed together: two syncs of each environment for all of them.
 */
#ifndef STORAGE_COMMIT_H
#define STORAGE_COMMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"
#include "storage/corpus.h"
#include "storage/store.h"

/* One example of a batch; pointers stay the caller's, read during the commit only.
 * The caller has checked: id 1..256 bytes of UTF-8 without control bytes, unique in the batch; text
 * and meta UTF-8, meta a JSON object in compact form. Storage checks the id's length again. */
struct commit_example {
    const char *id;
    uint32_t id_len;
    uint32_t text_len;
    const char *text; /* NULL: none */
    const char *meta; /* NULL: none */
    uint32_t meta_len;
};

struct commit_batch {
    /* in */
    struct corpus *corpus;
    const char *name;               /* a valid store name */
    unsigned char content_hash[16]; /* of what the client sent: decides "same batch" */
    uint32_t count;
    const void *encodings; /* count x corpus_row_bytes, unit rows in the corpus's dtype */
    const double *norms;   /* count, |x| before normalising */
    const struct commit_example *examples;
    const struct codes *codes; /* of these rows (corpus_codes_new); NULL: made by the commit */
    uint64_t epoch; /* of the view whose state the rows were encoded by (storage/annex.h) */
    /* out; valid when err.code is ERR_OK */
    struct err err;        /* this batch's own failure: BATCH_CONFLICT; STALE: encode it again */
    bool already;          /* was committed before with the same content: nothing written now */
    uint64_t examples_new; /* stored by this batch (then or now) */
    uint64_t duplicates;   /* ids that were already in the corpus: skipped, the first stays */
    uint64_t sequence;     /* corpus's next sequence after this batch */
};

/* Commits all batches of a group; each is all or nothing. Returns 0 when the group reached the disk
 * (single batches may still carry their own err); otherwise nothing of the group is committed and
 * every batch carries the error: FULL (writing may go on when there is room), SYNC_FAILED (the
 * store has failed for good), IO, CORRUPT. A full shard rolls over to a new one inside the call. */
int commit_group(struct store *s, struct commit_batch *const *batches, size_t count, struct err *e);

/* Deletes by id, effective and durable on return: UNKNOWN_EXAMPLE when it is not there. The id may
 * be ingested again later and gets a new sequence. */
int commit_delete(struct corpus *c, const char *id, size_t id_len, struct err *e);

#endif
