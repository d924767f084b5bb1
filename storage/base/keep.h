/* keep.h - large blocks, kept warm. A block of tens of MiB that is given back to the kernel costs a
 * fault and a zeroed page for every 4 KiB when the next one is filled; one that malloc keeps is cut
 * into pieces by what comes between. So blocks of 256 KiB and more are mappings of their own, and
 * who is done with one leaves its pages to the next. What is kept and what is in use stay together
 * within KEEP_BYTES: what is in use beyond that is needed, and nothing is kept then.
 *
 * Until keep_begin, and under AddressSanitizer, every block is malloc's. Any thread.
 */
#ifndef STORAGE_BASE_KEEP_H
#define STORAGE_BASE_KEEP_H

#include <stdbool.h>
#include <stddef.h>

/* Two batches of 64 MiB on their way, with their codes: 166 MiB (docs/performance.md). */
#define KEEP_BYTES ((size_t)168 << 20)
#define KEEP_LEAST ((size_t)256 << 10) /* below, malloc is as good */

struct keep_stats {
    size_t used, kept; /* bytes of mappings, in use and kept: their room, not their pages */
};

/* Blocks are kept from now on, and malloc is told to do likewise, in its own way, with what LMDB
 * takes for a commit, up to 48 MiB a piece. Process-wide; once, at the start of main. */
void keep_begin(void);

/* Uninitialised memory, 64-byte aligned, for sizes from outside; NULL when count*size overflows or
 * there is none. It and the next never unmap anything: a moment's work on any thread. */
void *keep_take(size_t count, size_t size);
void keep_give(void *p); /* what keep_take returned, or NULL */

/* Is more than KEEP_BYTES used and kept, while something is kept? Then keep_settle gives the kernel
 * back what was not used for longest: 2 to 5 ms for 64 MiB, not for the loop thread. */
bool keep_excess(void);
void keep_settle(void);

/* Gives back all that is kept. */
void keep_drop(void);

struct keep_stats keep_stats(void);

#endif
