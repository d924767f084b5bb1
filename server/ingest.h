/* ingest.h - one batch as it travels: a safetensors file with `gradients` and `examples` ->
 * checked, encoded as the corpus's state says, in the form that storage commits. The HTTP route
 * and the offline verb both use it. */
#ifndef SERVER_INGEST_H
#define SERVER_INGEST_H

#include <stddef.h>

#include "server/stop.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"
#include "storage/commit.h"
#include "storage/corpus.h"

struct pool;

/* Decodes `body` for corpus `c` and fills the "in" part of *out but its name; memory is `a`'s, and
 * the body may be written over, so both must live until the commit. *out is zeroed, or, when the
 * same body is decoded once more (STALE), as the last time left it. Rows are encoded
 * (server/encode.h) on up to all readers of `pool` (NULL: on this thread alone). `stated` is the
 * fingerprint from a header, or NULL; one in the file counts as well. Of several bad rows the first
 * is reported. Errors: docs/protocol.md, "Ingest". */
int ingest_decode(unsigned char *body, size_t len, struct corpus *c, const char *stated,
                  struct pool *pool, const struct stop *stop, struct arena *a,
                  struct commit_batch *out, struct err *e);

/* 0, or FINGERPRINT naming both: `stated` (64 hex digits; NULL is no statement) is the corpus's. */
int ingest_check_fingerprint(const struct corpus *c, const char *stated, struct err *e);

#endif
