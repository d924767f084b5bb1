/* cache.h - built things by key, under a byte budget, shared by threads.
 *
 * A thing is built by the first thread that misses it, outside the lock, while others that want it
 * wait; it is pinned while used and given up when unpinned and least recently used. Scans go round
 * and round, and plain LRU would then always give up what is wanted next; so what was used within
 * the last CACHE_RECENT rounds stays, and the newcomer does without. Any thread may call anything.
 */
#ifndef INDEX_CACHE_H
#define INDEX_CACHE_H

#include <stdint.h>

enum { CACHE_RECENT = 256 };

struct cache;
struct cache_item;

/* destroy(thing) is called without the lock held. */
struct cache *cache_new(uint64_t budget_bytes, void (*destroy)(void *thing));
void cache_free(struct cache *c); /* nothing may be pinned */

/* A caller's next round (one search, one share of it): tells recent use from old. */
uint64_t cache_round(struct cache *c);

enum cache_answer {
    CACHE_READY,  /* *out is pinned; cache_thing has it; cache_release when done */
    CACHE_BUILD,  /* *out is the caller's to build; then cache_built, and it is pinned */
    CACHE_NO_ROOM /* nothing was found and there is no room for `bytes`; *out is NULL */
};

enum cache_answer cache_take(struct cache *c, uint64_t round, uint64_t key, uint64_t bytes,
                             struct cache_item **out);
/* Ends CACHE_BUILD. thing = NULL: it failed; the item is gone and must not be released. */
void cache_built(struct cache *c, struct cache_item *item, void *thing);
void *cache_thing(const struct cache_item *item);
void cache_release(struct cache *c, struct cache_item *item);

/* Drops `key`, at once or when the last user releases it. */
void cache_forget(struct cache *c, uint64_t key);
uint64_t cache_bytes(struct cache *c); /* held now, what is being built included; <= budget */

#endif
