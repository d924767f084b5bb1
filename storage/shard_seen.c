/* shard_seen.c - what reading a shard's chunks has shown since the store was opened: which blocks
 * and rows were right, and what was not (storage/damage.h). Part of shard.h. Any thread, under the
 * shard's lock. */
#include <stdlib.h>

#include "storage/base/mem.h"
#include "storage/shard.h"

/* Of the bits in shard_seen.kinds: BLOCK_ENCODINGS's own (chunk_kind_bit), and some that are no
 * kind's. */
#define SEEN_ENCODINGS UINT32_C(1)
#define SEEN_DOUBTFUL (UINT32_C(1) << 31) /* what follows from the encodings is to be made again */
#define SEEN_UNCODED (UINT32_C(1) << 30)  /* its codes are not to be read */
#define SEEN_UNSUMMED (UINT32_C(1) << 29) /* its sums of rows are not */
#define SEEN_TEXTLESS (UINT32_C(1) << 28) /* its texts cannot be */
#define SEEN_LOST (UINT32_C(1) << 27)     /* not one row of it can be */
#define SEEN_RIGHT (SEEN_LOST - 1)        /* the kinds' own bits */

/* One chunk's; a table in open addressing. */
struct shard_seen {
    uint64_t chunk;  /* 0: free (chunk ids start at 1) */
    uint64_t round;  /* of checks: what was right in an earlier one is stale */
    uint32_t kinds;  /* one bit a kind, right in this round; and those above */
    uint32_t before; /* the kinds that were right in an earlier one */
    uint64_t *rows;  /* bitmap of this round, once a single row was checked; owned */
    struct bad *bad; /* damaged rows, the latest first; owned */
};

/* A bitmap of damaged rows never changes: readers hold it without a lock. One that says more takes
 * its place, and it stays, for them. */
struct bad {
    struct bad *older;
    uint64_t *rows; /* owned */
};

void shard_seen_free(struct shard *s)
{
    for (size_t i = 0; i < s->seen_cap; i++) {
        free(s->seen[i].rows);
        while (s->seen[i].bad) {
            struct bad *b = s->seen[i].bad;

            s->seen[i].bad = b->older;
            free(b->rows);
            free(b);
        }
    }
    free(s->seen);
}

static struct shard_seen *slot(struct shard_seen *table, size_t cap, uint64_t chunk)
{
    size_t i = (size_t)(chunk * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (cap - 1);

    while (table[i].chunk && table[i].chunk != chunk)
        i = (i + 1) & (cap - 1);
    return &table[i];
}

static void grow_seen(struct shard *s)
{
    size_t cap = s->seen_cap ? s->seen_cap * 2 : 64;
    struct shard_seen *table = mem_new(cap, sizeof *table);

    for (size_t i = 0; i < s->seen_cap; i++)
        if (s->seen[i].chunk)
            *slot(table, cap, s->seen[i].chunk) = s->seen[i];
    free(s->seen);
    s->seen = table;
    s->seen_cap = cap;
}

/* What was right becomes what was right before. */
static void make_stale(struct shard_seen *found)
{
    found->before |= found->kinds & SEEN_RIGHT;
    found->kinds &= ~SEEN_RIGHT;
    free(found->rows);
    found->rows = NULL;
}

/* The chunk's entry as of this round, or NULL. Under the lock; valid until the next call. */
static struct shard_seen *known(struct shard *s, uint64_t chunk, uint64_t round)
{
    struct shard_seen *found = s->seen_cap ? slot(s->seen, s->seen_cap, chunk) : NULL;

    if (!found || !found->chunk)
        return NULL;
    if (found->round < round) {
        make_stale(found);
        found->round = round;
    }
    return found;
}

enum shard_mark shard_block_mark(struct shard *s, uint64_t chunk, unsigned kind_bit,
                                 uint64_t *out_round)
{
    enum shard_mark mark = SHARD_UNSEEN;
    const struct shard_seen *found;

    *out_round = atomic_load(&s->home->round);
    pthread_mutex_lock(&s->lock);
    found = known(s, chunk, *out_round);
    if (found && (found->kinds >> kind_bit & 1))
        mark = SHARD_RIGHT;
    else if (found && (found->before >> kind_bit & 1))
        mark = SHARD_STALE;
    pthread_mutex_unlock(&s->lock);
    return mark;
}

/* The chunk's entry, new or not. Under the lock; valid until the next call. */
static struct shard_seen *entry(struct shard *s, uint64_t chunk)
{
    struct shard_seen *found;

    if (s->seen_count * 2 >= s->seen_cap)
        grow_seen(s);
    found = slot(s->seen, s->seen_cap, chunk);
    if (!found->chunk) {
        s->seen_count++;
        *found = (struct shard_seen){.chunk = chunk, .round = atomic_load(&s->home->round)};
    }
    return found;
}

/* The entry to note in what was read in `round`; NULL when that is over: it is read again. */
static struct shard_seen *entry_of(struct shard *s, uint64_t chunk, uint64_t round)
{
    struct shard_seen *found = entry(s, chunk);

    (void)known(s, chunk, atomic_load(&s->home->round));
    return found->round == round ? found : NULL;
}

void shard_block_note(struct shard *s, uint64_t chunk, unsigned kind_bit, uint64_t round)
{
    struct shard_seen *found;

    pthread_mutex_lock(&s->lock);
    found = entry_of(s, chunk, round);
    if (found)
        found->kinds |= 1u << kind_bit;
    pthread_mutex_unlock(&s->lock);
}

bool shard_row_seen(struct shard *s, uint64_t chunk, uint32_t row, uint64_t *out_round)
{
    const struct shard_seen *found;
    bool seen;

    *out_round = atomic_load(&s->home->round);
    pthread_mutex_lock(&s->lock);
    found = known(s, chunk, *out_round);
    seen = found && ((found->kinds & SEEN_ENCODINGS) ||
                     (found->rows && (found->rows[row / 64] >> (row % 64) & 1)));
    pthread_mutex_unlock(&s->lock);
    return seen;
}

void shard_row_note(struct shard *s, uint64_t chunk, uint32_t row, uint32_t rows, uint64_t round)
{
    struct shard_seen *found;

    pthread_mutex_lock(&s->lock);
    found = entry_of(s, chunk, round);
    if (found && !found->rows)
        found->rows = mem_new((rows + 63) / 64, sizeof *found->rows);
    if (found)
        found->rows[row / 64] |= UINT64_C(1) << (row % 64);
    pthread_mutex_unlock(&s->lock);
}

void shard_distrust(struct shard *s, uint64_t chunk)
{
    struct shard_seen *found;

    pthread_mutex_lock(&s->lock);
    found = known(s, chunk, atomic_load(&s->home->round));
    if (found) {
        make_stale(found);
        found->before = 0;
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- Damage ---------------------------------------------------------------------------------- */

static bool has(struct shard *s, uint64_t chunk, uint32_t flag)
{
    bool found = false;

    pthread_mutex_lock(&s->lock);
    if (s->seen_cap)
        found = slot(s->seen, s->seen_cap, chunk)->kinds & flag;
    pthread_mutex_unlock(&s->lock);
    return found;
}

static void flag(struct shard *s, uint64_t chunk, uint32_t flags)
{
    struct shard_seen *found;
    bool is_new;

    pthread_mutex_lock(&s->lock);
    found = entry(s, chunk);
    is_new = (found->kinds & flags) != flags;
    found->kinds |= flags;
    pthread_mutex_unlock(&s->lock);
    if (is_new)
        atomic_fetch_add(&s->home->damage, 1);
}

bool shard_codes_doubted(struct shard *s, uint64_t chunk)
{
    return has(s, chunk, SEEN_UNCODED);
}

bool shard_sums_doubted(struct shard *s, uint64_t chunk)
{
    return has(s, chunk, SEEN_UNSUMMED);
}

bool shard_is_doubtful(struct shard *s, uint64_t chunk)
{
    return has(s, chunk, SEEN_DOUBTFUL);
}

void shard_codes_doubt(struct shard *s, uint64_t chunk)
{
    flag(s, chunk, SEEN_DOUBTFUL | SEEN_UNCODED);
}

void shard_sums_doubt(struct shard *s, uint64_t chunk)
{
    flag(s, chunk, SEEN_DOUBTFUL | SEEN_UNSUMMED);
}

void shard_doubt(struct shard *s, uint64_t chunk)
{
    flag(s, chunk, SEEN_DOUBTFUL);
}

void shard_note_textless(struct shard *s, uint64_t chunk)
{
    flag(s, chunk, SEEN_TEXTLESS);
}

void shard_note_lost(struct shard *s, uint64_t chunk)
{
    flag(s, chunk, SEEN_LOST);
}

/* Adds to `bad` what was known; false when it then says no more than that. */
static bool says_more(uint64_t *bad, const struct bad *known, size_t words)
{
    bool more = !known;

    for (size_t i = 0; known && i < words; i++) {
        more |= (bad[i] & ~known->rows[i]) != 0;
        bad[i] |= known->rows[i];
    }
    return more;
}

const uint64_t *shard_note_bad(struct shard *s, uint64_t chunk, uint64_t *bad, uint32_t rows)
{
    struct shard_seen *found;
    struct bad *latest;
    bool is_new;

    pthread_mutex_lock(&s->lock);
    found = entry(s, chunk);
    is_new = says_more(bad, found->bad, ((size_t)rows + 63) / 64);
    if (is_new) {
        latest = mem_new(1, sizeof *latest);
        *latest = (struct bad){.older = found->bad, .rows = bad};
        found->bad = latest;
    } else {
        free(bad);
    }
    bad = found->bad->rows;
    pthread_mutex_unlock(&s->lock);
    if (is_new)
        atomic_fetch_add(&s->home->damage, 1);
    return bad;
}

struct shard_damage shard_damage(struct shard *s, uint64_t chunk)
{
    struct shard_damage d = {.lost = atomic_load(&s->unreadable)};
    const struct shard_seen *found;

    pthread_mutex_lock(&s->lock);
    if (s->seen_cap) {
        found = slot(s->seen, s->seen_cap, chunk);
        d.lost |= (found->kinds & SEEN_LOST) != 0;
        d.textless = found->kinds & SEEN_TEXTLESS;
        d.bad = found->bad ? found->bad->rows : NULL;
    }
    pthread_mutex_unlock(&s->lock);
    return d;
}
