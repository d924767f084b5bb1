/* push.h - starts the disk on what a commit is still writing.
 *
 * LMDB writes a whole transaction into the page cache and only then syncs it, so the disk would
 * stand still while the kernel copies. A helper thread tells the kernel meanwhile to begin with
 * what is already there. Only a hint: what is durable, and which errors are seen, is decided by the
 * sync that follows. Used by the thread that commits; the helper touches nothing but the
 * descriptor.
 */
#ifndef STORAGE_PUSH_H
#define STORAGE_PUSH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/db.h"

struct push {
    pthread_t thread;
    bool running; /* the thread was started */
    atomic_bool over;
    int fd;
    uint64_t from, len;
};

/* Before the commit of a transaction that adds about `len` bytes at the end of the file. Small ones
 * get no helper. push_end after it, in any case. */
void push_begin(struct push *p, const struct db *db, uint64_t len);
void push_end(struct push *p);

#endif
