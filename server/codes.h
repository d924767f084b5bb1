/* codes.h - the coder that the server brings to its stores: index/code.h behind storage/coder.h.
 * Rows get codes when those are no larger than the row: from 80 dimensions of f32, 160 of f16.
 */
#ifndef SERVER_CODES_H
#define SERVER_CODES_H

#include "server/stop.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"
#include "storage/corpus.h"

struct pool;

/* For struct store_options. Any thread. */
extern const struct store_coder codes_coder;

/* The codes of `count` encodings that lie side by side, in `a`, made on up to all readers of `pool`
 * (NULL: on this thread alone), so that the writer lane need not. *out is NULL when the corpus gets
 * none. BUSY, CANCELLED. */
int codes_run(const struct corpus *c, const void *encodings, uint32_t count, struct pool *pool,
              const struct stop *stop, struct arena *a, const struct codes **out, struct err *e);

#endif
