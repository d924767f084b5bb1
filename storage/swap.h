/* swap.h - replaces chunks of a corpus by others in one ledger transaction: the last act of compact
 * and of a rewrite. Writer lane.
 */
#ifndef STORAGE_SWAP_H
#define STORAGE_SWAP_H

#include <stddef.h>

#include "storage/annex.h"
#include "storage/catalog.h"
#include "storage/writer.h"

struct swap {
    struct corpus *c;
    /* For each chunk of the latest view, in its order: the chunk as it was when its live rows were
     * copied; NULL when it stays. A shard's chunks are replaced all or none. */
    const struct view_chunk *const *then;
    size_t then_count; /* the latest view may have more: those stay */
    struct writer *writer;         /* finished; kept when this returns 0 */
    const struct annex_def *state; /* the corpus's state from now on; NULL: as it is */
};

/* Either all of it is durable and visible, or nothing has changed. Rows deleted since they were
 * copied are dead in the new chunks as well. */
int swap_chunks(const struct swap *s, struct err *e);

#endif
