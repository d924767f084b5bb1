/* snapshot.c - see snapshot.h. */
#include "storage/snapshot.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "storage/annex.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/damage.h"

struct box { /* what a struct view is part of */
    struct view view;
    atomic_uint refs;
    struct view_chunk chunks[];
};

struct dead {
    atomic_uint refs;
    uint64_t words[];
};

static struct box *box_of(const struct view *v)
{
    return (struct box *)((uintptr_t)v - offsetof(struct box, view));
}

static struct dead *dead_of(const uint64_t *words)
{
    return (struct dead *)((uintptr_t)words - offsetof(struct dead, words));
}

uint64_t *snapshot_dead_new(uint32_t rows, const uint64_t *from)
{
    size_t bytes = ((size_t)rows + 63) / 64 * sizeof(uint64_t);
    struct dead *d = mem_new(1, sizeof *d + bytes);

    atomic_init(&d->refs, 1);
    if (from)
        memcpy(d->words, from, bytes);
    return d->words;
}

void snapshot_dead_release(const uint64_t *words)
{
    if (words && atomic_fetch_sub(&dead_of(words)->refs, 1) == 1)
        free(dead_of(words));
}

/* Neighbours mostly share a shard: one reference for a run of chunks is enough. */
static bool starts_run(const struct box *b, size_t i)
{
    return i == 0 || b->chunks[i].shard != b->chunks[i - 1].shard;
}

struct view *snapshot_new(struct corpus *c, const struct view_chunk *chunks, size_t count)
{
    return snapshot_of_state(c, c->state, chunks, count);
}

static struct box *box_new(size_t count)
{
    struct box *b = mem_new(1, sizeof *b + count * sizeof *b->chunks);

    atomic_init(&b->refs, 1);
    return b;
}

/* Takes a reference to all that the chunks in the box point to. */
static struct view *hold(struct box *b, struct corpus *c, struct annex *state, size_t count)
{
    if (state)
        annex_retain(state);
    b->view = (struct view){
        .corpus = c, .state = state, .chunk_count = count, .chunks = b->chunks};
    for (size_t i = 0; i < count; i++) {
        if (b->chunks[i].dead)
            atomic_fetch_add(&dead_of(b->chunks[i].dead)->refs, 1);
        if (starts_run(b, i))
            shard_retain(b->chunks[i].shard);
        b->view.rows += b->chunks[i].rows;
        b->view.live += b->chunks[i].rows - b->chunks[i].dead_count;
    }
    return &b->view;
}

struct view *snapshot_of_state(struct corpus *c, struct annex *state,
                               const struct view_chunk *chunks, size_t count)
{
    struct box *b = box_new(count);

    if (count)
        memcpy(b->chunks, chunks, count * sizeof *chunks);
    return hold(b, c, state, count);
}

void snapshot_retain(struct view *v)
{
    atomic_fetch_add(&box_of(v)->refs, 1);
}

void snapshot_release(struct view *v)
{
    struct box *b = box_of(v);

    if (atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    for (size_t i = b->view.chunk_count; i-- > 0;) {
        snapshot_dead_release(b->chunks[i].dead);
        if (starts_run(b, i))
            shard_release(b->chunks[i].shard);
    }
    annex_release(b->view.state);
    damage_free(b->view.damage);
    free(b);
}

struct corpus *snapshot_corpus(const struct view *v)
{
    return (struct corpus *)(uintptr_t)v->corpus;
}

struct view *snapshot_append(const struct view *v, const struct view_chunk *chunks, size_t count)
{
    size_t total = v->chunk_count + count;
    struct box *b = box_new(total); /* a view of 100,000 chunks is 6 MB: copied once, not twice */

    if (v->chunk_count)
        memcpy(b->chunks, v->chunks, v->chunk_count * sizeof *chunks);
    if (count)
        memcpy(b->chunks + v->chunk_count, chunks, count * sizeof *chunks);
    return hold(b, snapshot_corpus(v), v->state, total);
}

struct view *snapshot_kill(const struct view *v, size_t chunk, uint32_t row)
{
    struct view *made = snapshot_of_state(snapshot_corpus(v), v->state, v->chunks, v->chunk_count);
    struct view_chunk *c = &box_of(made)->chunks[chunk];
    uint64_t *dead = snapshot_dead_new(c->rows, c->dead);

    require(!view_row_dead(c, row));
    dead[row / 64] |= UINT64_C(1) << (row % 64);
    snapshot_dead_release(c->dead);
    c->dead = dead;
    c->dead_count++;
    made->live--;
    return made;
}

size_t snapshot_from(const struct view *v, uint64_t sequence)
{
    size_t low = 0, high = v->chunk_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (v->chunks[middle].last_sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool snapshot_find(const struct view *v, uint64_t sequence, size_t *out_chunk)
{
    size_t at = snapshot_from(v, sequence);

    if (at == v->chunk_count || v->chunks[at].first_sequence > sequence)
        return false;
    *out_chunk = at;
    return true;
}
