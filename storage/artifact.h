/* artifact.h - large immutable files beside the shards: what was computed once from a corpus and is
 * read in place ever after (whitening, lenses, denominators). Storage does not know what is in
 * them.
 *
 * STORE/artifacts/NNNNNN: a 64-byte head, the payload, then a XXH3-128 of every piece of it.
 * Written and synced before any ledger transaction names it; a file that the ledger does not
 * name does not exist and is removed when the store is next opened. An artifact belongs to one
 * corpus, goes with it, and never changes. A handle keeps file and mapping alive.
 */
#ifndef STORAGE_ARTIFACT_H
#define STORAGE_ARTIFACT_H

#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"
#include "storage/store.h"

struct artifact;
struct artifact_writer;

/* Begins a new file under an id of its own. Any thread; one owner. Ends with
 * artifact_writer_end. */
int artifact_begin(struct store *s, struct artifact_writer **out, struct err *e);
int artifact_add(struct artifact_writer *w, const void *bytes, size_t len, struct err *e);
/* Makes file and name durable; the handle (one reference) counts as unnamed: unless a ledger
 * transaction takes it up (rewrite_corpus, annex_put), its last release removes the
 * file. */
int artifact_finish(struct artifact_writer *w, struct artifact **out, struct err *e);
/* Always; removes what was not finished. NULL is fine. */
void artifact_writer_end(struct artifact_writer *w);

void artifact_retain(struct artifact *a);
void artifact_release(struct artifact *a); /* NULL is fine */
uint64_t artifact_id(const struct artifact *a);
uint64_t artifact_bytes(const struct artifact *a); /* of the payload */

/* [R] The payload, in memory for as long as the handle lives, aligned to 64 bytes. The first
 * call maps the file and checks every piece (some 0.1 s a GiB from the page cache), and so does the
 * first in each round of store_recheck; the place stays the same. CORRUPT names the piece. */
int artifact_map(struct artifact *a, const unsigned char **out, size_t *out_len, struct err *e);

#endif
