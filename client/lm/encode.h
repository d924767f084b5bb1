/* encode.h - encodes a whole corpus, with several threads, into batches that go somewhere: into a
 * folder of files (encode_folder.h) or to a server (encode_server.h).
 *
 * A batch is named by its place and a hash of what it is made from (model, options, lines), so the
 * name is known before the work, a broken run is simply run again, and a batch that arrives twice
 * is recognised. */
#ifndef CLIENT_LM_ENCODE_H
#define CLIENT_LM_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/lm/encoder.h"
#include "client/lm/passages.h"
#include "storage/base/dtype.h"

enum { ENCODE_BATCH_MAX = 4096, ENCODE_NAME_MAX = 64 };

struct encode_batch {
    const char *name;      /* "b000012-<16 hex digits>" */
    size_t rows;
    uint32_t dim;
    enum dtype dtype;
    const void *gradients; /* (rows, dim) */
    const char *lines;     /* JSON Lines, one object a row */
    size_t lines_len;
};

/* Where batches go. prepare runs once, before anything else; every thread then opens a lane of its
 * own, and uses and closes it alone. */
struct encode_sink {
    void *ctx;
    /* corpus: the definition (encoder_plan_describe). names: all batches of the run, ascending. */
    int (*prepare)(void *ctx, const struct buf *corpus, char (*names)[ENCODE_NAME_MAX],
                   size_t count, struct err *e);
    int (*open)(void *ctx, void **out_lane, struct err *e);
    bool (*has)(void *lane, const struct encode_batch *b); /* gradients is NULL here */
    /* Takes the batch; may return before it is safe, */
    int (*put)(void *lane, const struct encode_batch *b, struct err *e);
    /* and then this waits until all of the lane's are. */
    int (*settle)(void *lane, struct err *e);
    void (*close)(void *lane); /* what is not settled is dropped; lane may be NULL */
};

struct encode_options {
    uint64_t batch_rows;  /* passages in one batch */
    uint64_t threads;
    enum dtype dtype;
};

struct encode_progress {
    size_t done, total;   /* passages, kept ones included */
    size_t kept;          /* passages in batches that were there already */
};

/* `tell` (may be NULL) is called under a lock, from any of the threads, after every batch. Errors
 * of a passage name its id; the first error stops all threads after the batch they are at. */
int encode_run(const struct encoder_plan *plan, const struct passages *ps,
               const struct encode_options *o, const struct encode_sink *sink,
               void (*tell)(void *ctx, const struct encode_progress *p), void *ctx, struct err *e);

#endif
