/* warm.c - see warm.h. Failures are ignored: a page that is not read now is read when it is
 * touched. */
#include "storage/warm.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STEP = 4096 }; /* pages asked about at once */

/* One call reads no more than the device's read-ahead, or largest request, and drops the rest
 * without a word; 128 KiB is the least that Linux sets up. */
enum { PIECE = 128 << 10 };

static bool pages_are_there(unsigned char *from, size_t pages, size_t page)
{
    unsigned char there[STEP];

    if (mincore(from, pages * page, there))
        return true; /* the file is not ours: the kernel does not tell */
    for (size_t i = 0; i < pages; i++)
        if (!(there[i] & 1))
            return false;
    return true;
}

static void read_ahead(unsigned char *from, size_t len)
{
    for (size_t done = 0; done < len; done += PIECE)
        (void)madvise(from + done, len - done < PIECE ? len - done : PIECE, MADV_WILLNEED);
}

/* Steps over the range; with `read`, has what is missing read. True when nothing was missing. */
static bool walk(const void *bytes, size_t len, bool read)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)bytes / page * page, end = (uintptr_t)bytes + len;
    bool all = true;

    while (from < end && (all || read)) {
        unsigned char *at = (unsigned char *)from;
        size_t pages = (end - from + page - 1) / page;

        if (pages > STEP)
            pages = STEP;
        if (!pages_are_there(at, pages, page)) {
            all = false;
            if (read)
                read_ahead(at, pages * page);
        }
        from += pages * page;
    }
    return all;
}

bool warm_is(const void *bytes, size_t len)
{
    return walk(bytes, len, false);
}

void warm_range(const void *bytes, size_t len)
{
    (void)walk(bytes, len, true);
}

void warm_cool(const void *bytes, size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)bytes / page * page, end = (uintptr_t)bytes + len;

#ifdef MADV_COLD
    (void)madvise((void *)from, end - from, MADV_COLD);
#else
    (void)from, (void)end;
#endif
}
