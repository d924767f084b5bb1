/* damage.c - see damage.h. */
#include "storage/damage.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/chunk.h"
#include "storage/snapshot.h"

static size_t words_of(const struct view_chunk *c)
{
    return ((size_t)c->rows + 63) / 64;
}

/* ---- Noting ---------------------------------------------------------------------------------- */

const uint64_t *damage_rows(const struct view_chunk *c, const unsigned char *encodings,
                            const unsigned char *sums)
{
    size_t row_bytes = c->shard->corpus.row_bytes;
    uint64_t *bad = mem_new(words_of(c), sizeof *bad);

    for (uint32_t r = 0; r < c->rows; r++)
        if (chunk_row_sum(c->id, r, encodings + r * row_bytes, row_bytes) !=
            bytes_get_le64(sums + (size_t)r * sizeof(uint64_t)))
            bad[r / 64] |= UINT64_C(1) << (r % 64);
    return shard_note_bad(c->shard, c->id, bad, c->rows);
}

static const uint64_t *all_rows(const struct view_chunk *c)
{
    uint64_t *bad = mem_new(words_of(c), sizeof *bad);

    for (uint32_t r = 0; r < c->rows; r++)
        bad[r / 64] |= UINT64_C(1) << (r % 64);
    return shard_note_bad(c->shard, c->id, bad, c->rows);
}

/* The chunk's sums of rows, checked; false when it has none that can be trusted. */
static bool sums_of(const struct view_chunk *c, struct txn *t, struct span *out)
{
    struct key k = key_block(c->id, BLOCK_SUMS);
    struct err e = ERR_INIT;
    struct span value;

    if (!c->summed || t->err.code != ERR_OK || !t->handle || !txn_get(t, 0, &k, &value))
        return false;
    return chunk_check(value, c, BLOCK_SUMS, true, out, &e) == 0;
}

static uint32_t wrong_and_alive(const struct view_chunk *c, const uint64_t *bad)
{
    uint32_t count = 0;

    for (size_t i = 0; i < words_of(c); i++)
        count += (uint32_t)__builtin_popcountll(bad[i] & ~(c->dead ? c->dead[i] : 0));
    return count;
}

/* The sum over the whole says that something is wrong, the sums of the rows say where. */
static int met_encodings(const struct view_chunk *c, struct txn *t, struct span value,
                         struct span *out, struct err *e)
{
    const uint64_t *bad;
    size_t len = c->rows * c->shard->corpus.row_bytes;
    bool fits = value.len == CHUNK_HEADER_BYTES + len;
    struct span sums;
    uint32_t count;

    /* At every touch: to rows that are known to be wrong others may have come. */
    if (fits && sums_of(c, t, &sums))
        bad = damage_rows(c, value.bytes + CHUNK_HEADER_BYTES, sums.bytes);
    else
        bad = all_rows(c);
    shard_doubt(c->shard, c->id);
    count = wrong_and_alive(c, bad);
    if (!fits || count == c->rows)
        return (int)e->code;
    if (count)
        return err_set(e, ERR_CORRUPT,
                       "corpus %s: shard %06u: chunk %llu: encodings: the checksum is wrong: %u of "
                       "%u "
                       "rows are damaged", c->shard->corpus.name, (unsigned)c->shard->id,
                       (unsigned long long)c->id, (unsigned)count, (unsigned)c->rows);
    *out = (struct span){value.bytes + CHUNK_HEADER_BYTES, len};
    err_clear(e);
    return 0;
}

int damage_met(const struct view_chunk *c, enum block_kind kind, struct txn *t, struct span value,
               struct span *out_payload, struct err *e)
{
    if (atomic_load(&c->shard->unreadable))
        return (int)e->code; /* noted as a whole */
    switch (kind) {
    case BLOCK_ENCODINGS:
        return met_encodings(c, t, value, out_payload, e);
    case BLOCK_ROWS:
        shard_note_lost(c->shard, c->id);
        break;
    case BLOCK_TEXTS:
        shard_note_textless(c->shard, c->id);
        break;
    case BLOCK_SUMS:
        shard_sums_doubt(c->shard, c->id);
        break;
    default:
        shard_codes_doubt(c->shard, c->id);
    }
    return (int)e->code;
}

/* ---- Naming ---------------------------------------------------------------------------------- */

static void name_from_ledger(const struct view_chunk *c, struct corpus *corpus,
                             bool (*take)(void *arg, const char *id, size_t len), void *arg)
{
    struct key prefix = key_u32(corpus->id);
    struct ledger_walk w;
    struct span key, value;
    uint64_t sequence;
    struct txn t;

    txn_begin_read(&t, &corpus->store->ledger);
    ledger_walk_begin(&w, &t, LEDGER_IDS, &prefix);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value))
        if (ledger_parse_u64(value, &sequence) && sequence >= c->first_sequence &&
            sequence <= c->last_sequence &&
            !take(arg, (const char *)key.bytes + 4, key.len - 4))
            break;
    ledger_walk_end(&w);
    txn_abort(&t);
}

void damage_name(const struct view_chunk *c, struct corpus *corpus, const uint64_t *which,
                 bool (*take)(void *arg, const char *id, size_t len), void *arg)
{
    struct err ignored = ERR_INIT;
    struct block rows;
    bool more = true;

    if (block_open(c, BLOCK_ROWS, &rows, &ignored)) {
        name_from_ledger(c, corpus, take, arg);
        return;
    }
    for (uint32_t r = 0; more && r < c->rows; r++) {
        size_t len;
        const char *id = block_row_id(&rows, r, &len);

        if (!view_row_dead(c, r) && (!which || (which[r / 64] >> (r % 64) & 1)))
            more = take(arg, id, len);
    }
    block_close(&rows);
}

/* ---- The view without it --------------------------------------------------------------------- */

struct found { /* what a view's damage is part of */
    struct view_damage damage;
    struct arena arena;
    struct view_damage_id ids[VIEW_DAMAGE_IDS];
};

void damage_free(const struct view_damage *d)
{
    struct found *f = (struct found *)(uintptr_t)d;

    if (!f)
        return;
    arena_free(&f->arena);
    free(f);
}

static bool keep_id(void *arg, const char *id, size_t len)
{
    struct found *f = arg;

    if (f->damage.id_count < VIEW_DAMAGE_IDS)
        f->ids[f->damage.id_count++] =
            (struct view_damage_id){arena_copy(&f->arena, id, len), len};
    return f->damage.id_count < VIEW_DAMAGE_IDS;
}

/* The chunk as readers shall see it. Its new bitmap, or NULL when it stays as it is. */
static uint64_t *hide(struct found *f, struct corpus *corpus, const struct view_chunk *c,
                      bool texts)
{
    struct shard_damage d = shard_damage(c->shard, c->id);
    bool all = d.lost || (texts && d.textless);
    uint32_t hidden;
    uint64_t *dead;

    if (!all && !d.bad)
        return NULL;
    hidden = all ? c->rows - c->dead_count : wrong_and_alive(c, d.bad);
    if (!hidden)
        return NULL;
    if (f->damage.id_count < VIEW_DAMAGE_IDS)
        damage_name(c, corpus, all ? NULL : d.bad, keep_id, f);
    dead = snapshot_dead_new(c->rows, c->dead);
    for (uint32_t r = 0; r < c->rows; r++)
        if (all || (d.bad[r / 64] >> (r % 64) & 1))
            dead[r / 64] |= UINT64_C(1) << (r % 64);
    f->damage.examples += hidden;
    f->damage.chunks++;
    f->damage.rows |= !all;
    return dead;
}

static struct view *build(struct corpus *corpus, const struct view *v, bool texts)
{
    struct view_chunk *chunks = mem_new(v->chunk_count, sizeof *chunks);
    uint64_t **made = mem_new(v->chunk_count, sizeof *made);
    struct found *f = mem_new(1, sizeof *f);
    struct view *out;

    f->damage.ids = f->ids;
    for (size_t i = 0; i < v->chunk_count; i++) {
        chunks[i] = v->chunks[i];
        made[i] = hide(f, corpus, &v->chunks[i], texts);
        if (!made[i])
            continue;
        chunks[i].dead = made[i];
        chunks[i].dead_count = 0;
        for (size_t w = 0; w < words_of(&chunks[i]); w++)
            chunks[i].dead_count += (uint32_t)__builtin_popcountll(made[i][w]);
    }
    out = snapshot_of_state(corpus, v->state, chunks, v->chunk_count);
    out->generation = v->generation;
    out->damage = f->damage.examples ? &f->damage : NULL;
    if (!out->damage)
        damage_free(&f->damage);
    for (size_t i = 0; i < v->chunk_count; i++)
        snapshot_dead_release(made[i]);
    free(made);
    free(chunks);
    return out;
}

/* The kept one, when it is of this view and nothing was found since; a reference of its own. */
static struct view *kept(struct corpus *c, bool texts, uint64_t generation, uint64_t at)
{
    struct view *v = NULL;

    pthread_mutex_lock(&c->lock);
    if (c->sound[texts] && c->sound[texts]->generation == generation && c->sound_at[texts] == at) {
        v = c->sound[texts];
        snapshot_retain(v);
    }
    pthread_mutex_unlock(&c->lock);
    return v;
}

static void keep(struct corpus *c, bool texts, struct view *v, uint64_t at)
{
    struct view *old = v;

    pthread_mutex_lock(&c->lock);
    if (c->view->generation == v->generation) {
        old = c->sound[texts];
        c->sound[texts] = v;
        c->sound_at[texts] = at;
    }
    pthread_mutex_unlock(&c->lock);
    if (old)
        snapshot_release(old);
}

const struct view *damage_view(struct corpus *c, bool texts)
{
    uint64_t at = atomic_load(&c->store->home.damage);
    const struct view *now = corpus_view(c);
    struct view *v;

    if (!at)
        return now;
    v = kept(c, texts, now->generation, at);
    if (!v) {
        v = build(c, now, texts);
        snapshot_retain(v);
        keep(c, texts, v, at);
    }
    corpus_retain(c); /* the reference that view_release gives back; `now` had its own */
    view_release(now);
    return v;
}
