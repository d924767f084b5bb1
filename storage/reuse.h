/* reuse.h - what a new backup has in common with an older one beside it: sealed shards, which never
 * change. They become hard links instead of copies, so a backup costs what came since.
 *
 * That two shards of one number are the same is not believed but read: both hold the same blocks,
 * with the same checksums in their headers. One thread; the base is read, never written.
 */
#ifndef STORAGE_REUSE_H
#define STORAGE_REUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"
#include "storage/shard.h"

struct reuse {
    char *dir;        /* of the base; owned, NULL: no base */
    uint32_t *sealed; /* numbers of its sealed shards, ascending; owned */
    size_t count;
};

/* `base` is a backup. INVALID when it is not. reuse_end in any case. */
int reuse_begin(struct reuse *r, const char *base, struct err *e);
void reuse_end(struct reuse *r);

/* Makes `to` another name of the base's file of this shard. False when the base has none, or
 * another one, or the file system cannot: then it is to be copied. */
bool reuse_shard(const struct reuse *r, struct shard *live, const char *to);

#endif
