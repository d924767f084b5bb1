/* descriptors.h - how many files the process may have open, and so how many connections. */
#ifndef SERVER_DESCRIPTORS_H
#define SERVER_DESCRIPTORS_H

#include <stdint.h>

#include "storage/base/err.h"

/* Raises the soft limit (RLIMIT_NOFILE) as far as is wanted and allowed: what is open now, `wanted`
 * connections, and a reserve for shards to come, backups and indexes. Where that is not allowed,
 * fewer connections must do: *connections, with a warning in the log. An open store must never miss
 * a descriptor because of its callers. ERR_LIMIT when not even a few would be left. At the start,
 * after the store was opened. */
int descriptors_fit(uint64_t wanted, uint64_t *connections, struct err *e);

#endif
