/* verify_codes.h - what follows from a chunk's encodings must be what it is: sums of rows, and
 * codes. Both are compared with what the encodings give now, whatever the blocks' own sums say. Any
 * thread.
 */
#ifndef STORAGE_VERIFY_CODES_H
#define STORAGE_VERIFY_CODES_H

#include "storage/corpus.h"

/* CORRUPT names the first row that differs. The blocks are open and of the right lengths. */
int verify_sums(const struct view_chunk *c, const struct block *encodings, const struct block *sums,
                struct err *e);

/* `planes` in the coder's order, the factors last; the chunk is `coded`. Needs memory for the codes
 * of 64 rows: BUSY. */
int verify_codes(const struct view_chunk *c, const struct block *encodings,
                 const struct block planes[CODER_PLANES + 1], struct err *e);

#endif
