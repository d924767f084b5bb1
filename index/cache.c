/* cache.c - see cache.h. One lock, one condition; builders and users work outside them.
 *
 * An item is in the table from the moment its building starts until it is given up or forgotten. A
 * forgotten one that is pinned lives on outside the table, and the last release destroys it.
 */
#include "index/cache.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

enum { BUCKETS = 4096 }; /* a power of two; chunks of a full cache are thousands at most */

struct cache_item {
    uint64_t key, bytes;
    uint64_t round;  /* of the last use */
    unsigned pins;
    bool built;
    bool forgotten;            /* not in the table; destroyed by the last release */
    void *thing;               /* owned once built */
    struct cache_item *chain;  /* bucket */
    struct cache_item *older, *newer;
};

struct cache {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a building ended */
    uint64_t budget, bytes, round;
    void (*destroy)(void *thing);
    struct cache_item *oldest, *newest; /* all items of the table */
    struct cache_item *bucket[BUCKETS];
};

struct cache *cache_new(uint64_t budget_bytes, void (*destroy)(void *thing))
{
    struct cache *c = mem_new(1, sizeof *c);

    c->budget = budget_bytes;
    c->destroy = destroy;
    require(pthread_mutex_init(&c->lock, NULL) == 0);
    require(pthread_cond_init(&c->changed, NULL) == 0);
    return c;
}

/* Multiplicative hashing: chunk ids are small and consecutive. */
static struct cache_item **bucket_of(struct cache *c, uint64_t key)
{
    return &c->bucket[key * UINT64_C(0x9E3779B97F4A7C15) >> 52 & (BUCKETS - 1)];
}

static struct cache_item *find(struct cache *c, uint64_t key)
{
    struct cache_item *i = *bucket_of(c, key);

    while (i && i->key != key)
        i = i->chain;
    return i;
}

static void unlink_age(struct cache *c, struct cache_item *i)
{
    *(i->older ? &i->older->newer : &c->oldest) = i->newer;
    *(i->newer ? &i->newer->older : &c->newest) = i->older;
    i->older = i->newer = NULL;
}

static void link_newest(struct cache *c, struct cache_item *i)
{
    i->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = i;
    c->newest = i;
}

/* Out of the table; its bytes are no longer counted. */
static void take_out(struct cache *c, struct cache_item *i)
{
    struct cache_item **at = bucket_of(c, i->key);

    while (*at != i)
        at = &(*at)->chain;
    *at = i->chain;
    unlink_age(c, i);
    i->chain = NULL;
    c->bytes -= i->bytes;
}

static void destroy_chain(struct cache *c, struct cache_item *i)
{
    while (i) {
        struct cache_item *next = i->chain;

        if (i->thing)
            c->destroy(i->thing);
        free(i);
        i = next;
    }
}

void cache_free(struct cache *c)
{
    if (!c)
        return;
    while (c->oldest) {
        struct cache_item *i = c->oldest;

        require(i->pins == 0);
        take_out(c, i);
        destroy_chain(c, i);
    }
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

uint64_t cache_round(struct cache *c)
{
    uint64_t round;

    pthread_mutex_lock(&c->lock);
    round = ++c->round;
    pthread_mutex_unlock(&c->lock);
    return round;
}

static bool may_go(const struct cache *c, const struct cache_item *i)
{
    return i->pins == 0 && i->built && c->round - i->round > CACHE_RECENT;
}

/* Takes out enough old items for `bytes` more and returns them as a chain; takes none, and sets
 * *fits to false, when that is not to be had. */
static struct cache_item *make_room(struct cache *c, uint64_t bytes, bool *fits)
{
    struct cache_item *gone = NULL, *next;
    uint64_t can = c->budget - c->bytes;

    for (struct cache_item *i = c->oldest; i && can < bytes; i = i->newer)
        if (may_go(c, i))
            can += i->bytes;
    *fits = bytes <= can;
    for (struct cache_item *i = c->oldest; *fits && c->budget - c->bytes < bytes; i = next) {
        next = i->newer;
        if (!may_go(c, i))
            continue;
        take_out(c, i);
        i->chain = gone;
        gone = i;
    }
    return gone;
}

static struct cache_item *item_new(struct cache *c, uint64_t round, uint64_t key, uint64_t bytes)
{
    struct cache_item *i = mem_new(1, sizeof *i);
    struct cache_item **bucket = bucket_of(c, key);

    i->key = key;
    i->bytes = bytes;
    i->round = round;
    i->pins = 1;
    i->chain = *bucket;
    *bucket = i;
    link_newest(c, i);
    c->bytes += bytes;
    return i;
}

enum cache_answer cache_take(struct cache *c, uint64_t round, uint64_t key, uint64_t bytes,
                             struct cache_item **out)
{
    struct cache_item *i, *gone = NULL;
    enum cache_answer answer = CACHE_READY;
    bool fits;

    pthread_mutex_lock(&c->lock);
    while ((i = find(c, key)) && !i->built)
        pthread_cond_wait(&c->changed, &c->lock);
    if (i) {
        i->pins++;
        i->round = round > i->round ? round : i->round;
        unlink_age(c, i);
        link_newest(c, i);
    } else {
        gone = make_room(c, bytes, &fits);
        answer = fits ? CACHE_BUILD : CACHE_NO_ROOM;
        if (fits)
            i = item_new(c, round, key, bytes);
    }
    pthread_mutex_unlock(&c->lock);
    destroy_chain(c, gone);
    *out = i;
    return answer;
}

void cache_built(struct cache *c, struct cache_item *item, void *thing)
{
    pthread_mutex_lock(&c->lock);
    item->thing = thing;
    item->built = true;
    if (!thing && !item->forgotten)
        take_out(c, item);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    if (!thing)
        destroy_chain(c, item);
}

/* Set before the item was handed out, and not changed while it is pinned: no lock. */
void *cache_thing(const struct cache_item *item)
{
    return item->thing;
}

void cache_release(struct cache *c, struct cache_item *item)
{
    bool last;

    pthread_mutex_lock(&c->lock);
    require(item->pins > 0);
    last = --item->pins == 0 && item->forgotten;
    pthread_mutex_unlock(&c->lock);
    if (last)
        destroy_chain(c, item);
}

void cache_forget(struct cache *c, uint64_t key)
{
    struct cache_item *i;
    bool now = false;

    pthread_mutex_lock(&c->lock);
    i = find(c, key);
    if (i) {
        take_out(c, i);
        i->forgotten = true;
        now = i->pins == 0;
        pthread_cond_broadcast(&c->changed); /* who waited finds nothing and builds its own */
    }
    pthread_mutex_unlock(&c->lock);
    if (now)
        destroy_chain(c, i);
}

uint64_t cache_bytes(struct cache *c)
{
    uint64_t bytes;

    pthread_mutex_lock(&c->lock);
    bytes = c->bytes;
    pthread_mutex_unlock(&c->lock);
    return bytes;
}
