/* push.c - see push.h. */
#include "storage/push.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

/* Below this the copy is over before a thread has started. */
#define PUSH_BYTES_MIN (UINT64_C(4) << 20)

enum { PAUSE_NS = 300000 }; /* the kernel copies a megabyte or two in that time */

/* Without the WAIT flags the call consumes no error of the file: fdatasync still reports it. A
 * range that is not written yet is no error either. */
static void *run(void *arg)
{
    struct push *p = arg;
    struct timespec pause = {.tv_nsec = PAUSE_NS};

    while (!atomic_load_explicit(&p->over, memory_order_relaxed)) {
        nanosleep(&pause, NULL);
        if (sync_file_range(p->fd, (off_t)p->from, (off_t)p->len, SYNC_FILE_RANGE_WRITE))
            break; /* not for this file system */
    }
    return NULL;
}

void push_begin(struct push *p, const struct db *db, uint64_t len)
{
    *p = (struct push){.fd = db_descriptor(db), .from = db_used(db), .len = len};
    if (len >= PUSH_BYTES_MIN && p->fd >= 0)
        p->running = pthread_create(&p->thread, NULL, run, p) == 0;
}

void push_end(struct push *p)
{
    atomic_store_explicit(&p->over, true, memory_order_relaxed);
    if (p->running)
        pthread_join(p->thread, NULL);
    p->running = false;
}
