/* pages.h - an LMDB data file looked at without LMDB, before LMDB maps it.
 *
 * LMDB 0.9 trusts its pages: a flipped bit in one leads it out of the file or round in circles,
 * and the process dies of it. So whoever opens an environment has its tree walked first, with
 * plain reads. Reads only; any thread; knows the layout of LMDB 0.9 on 64-bit machines and nothing
 * of what is stored.
 */
#ifndef STORAGE_PAGES_H
#define STORAGE_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/err.h"

/* Enough for the whole of a shard and for the ledger of some millions of examples; about 30 ms.
 * What lies beyond in a larger ledger is checked by verify alone. */
#define PAGES_AT_OPEN UINT64_C(16384)

/* Checks both meta pages of the file, then every page that the newer one leads to: where it is,
 * what it says it is, that nothing in it points out of it or out of the file, that no page is used
 * twice or both used and free, and that keys ascend. Stops without an error after `limit` pages
 * were read. `runs`: the first page of every value that has pages of its own, too. LMDB does not
 * look at it for reading, only when the value is replaced; and values with checksums name their
 * own damage. A file that is missing or empty is sound. CORRUPT names the page; IO. */
int pages_check(const char *path, uint64_t limit, bool runs, struct err *e);

#endif
