/* warm.h - reading ahead of a mapped block: exactly it, and nothing of its neighbours.
 *
 * Shards are mapped without read-ahead (storage/db.h): around a fault the kernel would read
 * megabytes of the rows that lie beside the codes, and push the codes of others out of memory. So
 * whoever is about to read a range says so. Any thread.
 */
#ifndef STORAGE_WARM_H
#define STORAGE_WARM_H

#include <stdbool.h>
#include <stddef.h>

/* Is all of the range in memory? One system call in 16 MiB. When the kernel does not tell, yes. */
bool warm_is(const void *bytes, size_t len);

/* Has the kernel begin to read what of the range is not in memory; does not wait. Costs one system
 * call in 16 MiB when all of it is there: 3 us in 6 MiB. */
void warm_range(const void *bytes, size_t len);

/* The range may be the first to leave memory again. A hint. */
void warm_cool(const void *bytes, size_t len);

#endif
