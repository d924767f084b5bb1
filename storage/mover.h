/* mover.h - carries live rows out of old chunks into new ones: the copying half of compact and of a
 * rewrite. Rows may pass through a transform on the way; what is written exists only when the
 * ledger names it (storage/writer.h). One thread; needs no lane.
 *
 * Every source chunk's rows are copied into an arena of their own: no transaction stays open
 * while the next is written.
 */
#ifndef STORAGE_MOVER_H
#define STORAGE_MOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/mem.h"
#include "storage/chunk.h"
#include "storage/maintain.h"
#include "storage/text.h"
#include "storage/writer.h"

struct mover_source {
    struct arena arena;
    size_t left; /* of its rows */
};

struct mover {
    struct writer *writer;
    uint64_t chunk_bytes;
    const struct rewrite_to *to; /* NULL: rows stay as they are */
    bool mends;                  /* rows whose texts are damaged come without them */
    struct chunk_row *rows;      /* that wait until they fill a chunk; owned */
    size_t count, cap;
    struct mover_source *sources; /* in order; the first may be half used; owned */
    size_t source_count, source_cap;
};

/* Takes the live rows of one chunk. Chunks come in the order of their sequences. */
int mover_take(struct mover *m, const struct view_chunk *c, struct err *e);
/* Writes full chunks; with `all` also what is left: new chunks must not reach across old ones. */
int mover_flush(struct mover *m, bool all, struct err *e);
void mover_free(struct mover *m);

#endif
