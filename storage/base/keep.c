/* keep.c - see keep.h. A block is its header, 64 bytes, then what the caller sees. */
#include "storage/base/keep.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/spare.h"

#if defined(__SANITIZE_ADDRESS__)
#define OWN_BLOCKS false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OWN_BLOCKS false
#endif
#endif
#ifndef OWN_BLOCKS
#define OWN_BLOCKS true
#endif

enum {
    ALIGNMENT = 64,
    MALLOC_BLOCK = 48 << 20,  /* the encodings of a full chunk, 32 MiB and a page, among LMDB's */
    MALLOC_KEEPS = 64 << 20,  /* at the end of an arena: one transaction of storage/writer.c */
    STEPS = 16,               /* sizes from a power of two to the next */
    FIRST_POWER = 18,         /* of KEEP_LEAST */
    SIZES = (64 - FIRST_POWER) * STEPS,
    LOOSE = STEPS / 2,        /* a block serves the sizes so many below its own */
};

struct block {
    _Alignas(ALIGNMENT) size_t room; /* with this header; 0: malloc's */
    struct block *older, *newer;     /* while kept */
    struct block *next, *before;     /* of the same size */
};
_Static_assert(sizeof(struct block) == ALIGNMENT, "what follows is aligned");
_Static_assert(KEEP_LEAST == (size_t)1 << FIRST_POWER, "the first size");

static struct {
    pthread_mutex_t lock;
    _Atomic bool begun;
    size_t used, kept;
    struct block *oldest, *newest;
    struct block *of_size[SIZES]; /* the warmest first */
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lock(void)
{
    require(pthread_mutex_lock(&all.lock) == 0);
}

static void unlock(void)
{
    require(pthread_mutex_unlock(&all.lock) == 0);
}

/* LMDB's blocks live for one commit each; mapped and unmapped one by one they would be zeroed anew
 * every time (docs/format.md, section 5). Where the threshold has a ceiling, nothing is mapped. */
void keep_begin(void)
{
    if (!mallopt(M_MMAP_THRESHOLD, MALLOC_BLOCK))
        (void)mallopt(M_MMAP_MAX, 0);
    (void)mallopt(M_TRIM_THRESHOLD, MALLOC_KEEPS);
    atomic_store(&all.begun, OWN_BLOCKS);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static unsigned power_of(size_t bytes)
{
    return 63 - (unsigned)__builtin_clzll(bytes);
}

/* Up to the next size: few, so that a block fits the next who asks for about as much. What is not
 * written of it has no pages. */
static bool round_room(size_t *bytes)
{
    size_t step = ((size_t)1 << power_of(*bytes)) / STEPS;

    if (!mem_add(*bytes, step - 1, bytes))
        return false;
    *bytes &= ~(step - 1);
    return true;
}

static size_t size_number(size_t room)
{
    unsigned power = power_of(room);

    return (power - FIRST_POWER) * (size_t)STEPS + (room >> (power - 4)) - STEPS;
}
_Static_assert(STEPS == 1 << 4, "of size_number");

/* ---- what is kept, by age and by size; lock held --------------------------------------------- */

static void link_kept(struct block *b)
{
    struct block **first = &all.of_size[size_number(b->room)];

    b->before = NULL;
    b->next = *first;
    if (b->next)
        b->next->before = b;
    *first = b;
    b->newer = NULL;
    b->older = all.newest;
    if (b->older)
        b->older->newer = b;
    else
        all.oldest = b;
    all.newest = b;
    all.kept += b->room;
}

static void unlink_kept(struct block *b)
{
    if (b->before)
        b->before->next = b->next;
    else
        all.of_size[size_number(b->room)] = b->next;
    if (b->next)
        b->next->before = b->before;
    if (b->newer)
        b->newer->older = b->older;
    else
        all.newest = b->older;
    if (b->older)
        b->older->newer = b->newer;
    else
        all.oldest = b->newer;
    all.kept -= b->room;
}

static bool is_excess(void)
{
    return all.oldest && all.used + all.kept > KEEP_BYTES;
}

/* The tightest, of equals the warmest; NULL: none fits. */
static struct block *take_kept(size_t room)
{
    size_t from = size_number(room);
    struct block *b = NULL;

    for (size_t i = from; !b && i < SIZES && i <= from + LOOSE; i++)
        b = all.of_size[i];
    if (b)
        unlink_kept(b);
    return b;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static struct block *map_block(size_t room)
{
    void *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* The kernel may have no room to note a hole between two mappings: then at least the pages go. */
static void unmap_block(struct block *b)
{
    size_t room = b->room;

    if (munmap(b, room))
        (void)madvise(b, room, MADV_DONTNEED);
}

static struct block *own_block(size_t room)
{
    struct block *b;

    lock();
    b = take_kept(room);
    if (b)
        all.used += b->room;
    unlock();
    if (b)
        return b;
    b = map_block(room);
    if (!b) { /* what is kept may be what is missing */
        keep_drop();
        b = map_block(room);
    }
    if (!b)
        return NULL;
    b->room = room;
    lock();
    all.used += room;
    unlock();
    return b;
}

void *keep_take(size_t count, size_t size)
{
    struct block *b;
    size_t bytes;

    if (!mem_mul(count, size, &bytes) || !mem_add(bytes, sizeof *b, &bytes))
        return NULL;
    if (bytes < KEEP_LEAST || !atomic_load(&all.begun)) {
        b = mem_big(bytes, 1);
        if (b)
            b->room = 0;
    } else {
        b = spare_whole() && round_room(&bytes) ? own_block(bytes) : NULL;
    }
    return b ? b + 1 : NULL;
}

void keep_give(void *p)
{
    struct block *b = p ? (struct block *)p - 1 : NULL;

    if (!b)
        return;
    if (!b->room) {
        free(b);
        return;
    }
    lock();
    all.used -= b->room;
    link_kept(b);
    unlock();
}

/* ---- bounds ---------------------------------------------------------------------------------- */

bool keep_excess(void)
{
    bool is;

    lock();
    is = is_excess();
    unlock();
    return is;
}

/* The oldest, out of the list, or NULL. Unmapped without the lock: others go on meanwhile. */
static struct block *take_oldest(bool whatever)
{
    struct block *b = NULL;

    lock();
    if (whatever ? all.oldest != NULL : is_excess()) {
        b = all.oldest;
        unlink_kept(b);
    }
    unlock();
    return b;
}

void keep_settle(void)
{
    struct block *b;

    while ((b = take_oldest(false)))
        unmap_block(b);
}

void keep_drop(void)
{
    struct block *b;

    while ((b = take_oldest(true)))
        unmap_block(b);
}

struct keep_stats keep_stats(void)
{
    struct keep_stats s;

    lock();
    s = (struct keep_stats){.used = all.used, .kept = all.kept};
    unlock();
    return s;
}
