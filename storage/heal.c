/* heal.c - see heal.h. */
#include "storage/heal.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/base/mem.h"
#include "storage/chunk.h"
#include "storage/snapshot.h"

static void note(struct store *s, const struct healed *h)
{
    struct healed *grown = mem_new(s->healed_count + 1, sizeof *grown);

    if (s->healed_count)
        memcpy(grown, s->healed, s->healed_count * sizeof *grown);
    grown[s->healed_count++] = *h;
    free(s->healed);
    s->healed = grown;
}

/* A lookup on the way that met damage of its own has no say: the transaction itself is whole. */
static void forgive(struct txn *t)
{
    if (t->err.code == ERR_CORRUPT)
        err_clear(&t->err);
}

/* ---- What everything stands on --------------------------------------------------------------- */

/* Numbers that went to what is gone by now are not given again. */
enum { GAP = 1 << 10 };
#define CHUNK_GAP (UINT64_C(1) << 20)

/* The greatest number that keys of the table hold at `at`; damaged records have no say. */
static uint64_t greatest(struct txn *t, enum ledger_table table, size_t at, size_t width)
{
    struct ledger_walk w;
    struct span key, value;
    uint64_t most = 0;

    ledger_walk_begin(&w, t, table, NULL);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value))
        if (!w.damaged && key.len == at + width) {
            uint64_t n = width == 4 ? bytes_get_be32(key.bytes + at)
                                    : bytes_get_be64(key.bytes + at);

            most = n > most ? n : most;
        }
    ledger_walk_end(&w);
    return most;
}

void heal_meta(struct store *s, struct txn *t, struct ledger_meta *out)
{
    struct healed h = {.table = LEDGER_META,
                       .line = "ledger: the state record was damaged: made again"};
    uint64_t corpora = greatest(t, LEDGER_CORPORA, 0, 4), gone = greatest(t, LEDGER_DROPPED, 0, 4);

    out->format = LEDGER_FORMAT_CODES; /* it may hold all that is known */
    out->next_corpus = (uint32_t)(corpora > gone ? corpora : gone) + GAP;
    out->next_shard = (uint32_t)greatest(t, LEDGER_SHARDS, 0, 4) + GAP;
    out->next_chunk = greatest(t, LEDGER_CHUNKS, 4, 8) + CHUNK_GAP;
    h.meta = *out;
    note(s, &h);
}

bool heal_second(struct store *s, struct txn *t, enum ledger_table table, struct span key,
                 struct span *out_value)
{
    struct healed h = {.table = table, .key = key_bytes(key.bytes, key.len)};

    if (!ledger_get_second(t, table, &h.key, out_value))
        return false;
    snprintf(h.line, sizeof h.line, "ledger: a record of table %s was damaged: its second is sound",
             ledger_names[table]);
    note(s, &h);
    return true;
}

void heal_drop(struct store *s, enum ledger_table table, struct span key, const char *line)
{
    struct healed h = {.table = table, .key = key_bytes(key.bytes, key.len), .drop = true};

    snprintf(h.line, sizeof h.line, "%s", line);
    note(s, &h);
}

static void put_back(struct txn *t, const struct healed *h)
{
    struct span second;
    void *copy;

    if (!ledger_get_second(t, h->table, &h->key, &second))
        return;
    copy = mem_copy(second.bytes, second.len); /* writing moves pages */
    ledger_put(t, h->table, &h->key, copy, second.len);
    free(copy);
}

/* ---- The rest -------------------------------------------------------------------------------- */

bool heal_shard(struct store *s, struct txn *t, uint32_t id, struct ledger_shard *out)
{
    struct healed h = {.table = LEDGER_SHARDS};
    struct ledger_chunk chunk;
    struct ledger_walk w;
    struct span key, value;
    bool found = false;

    ledger_walk_begin(&w, t, LEDGER_CHUNKS, NULL);
    w.lenient = true;
    while (!found && ledger_walk_next(&w, &key, &value))
        found = !w.damaged && ledger_parse_chunk(key, value, &chunk) && chunk.shard == id;
    if (found)
        *out = (struct ledger_shard){id, bytes_get_be32(key.bytes), LEDGER_SHARD_SEALED};
    ledger_walk_end(&w);
    if (!found)
        return false;
    h.shard = *out;
    snprintf(h.line, sizeof h.line, "ledger: the record of shard %06u was damaged: made again", id);
    note(s, &h);
    return true;
}

/* One block of the chunk, its sum right; false when it is not there. */
static bool sound_block(struct txn *t, uint64_t chunk, enum block_kind kind, struct span *out)
{
    struct key k = key_block(chunk, (unsigned char)kind);

    return txn_get(t, 0, &k, out) && chunk_sum_is_right(*out);
}

static bool read_chunk(struct shard *shard, uint64_t id, struct ledger_chunk *out)
{
    struct span rows, codes, any;
    struct txn t;
    bool found;

    shard_begin_read(shard, &t);
    found = sound_block(&t, id, BLOCK_ROWS, &rows) && chunk_belongs(rows, shard, id, BLOCK_ROWS);
    if (found) {
        uint32_t count = bytes_get_le32(rows.bytes + 24);
        const unsigned char *sequences = rows.bytes + CHUNK_HEADER_BYTES + 8;

        *out = (struct ledger_chunk){
            .id = id,
            .shard = shard->id,
            .rows = count,
            .first_sequence = bytes_get_le64(sequences),
            .last_sequence = bytes_get_le64(sequences + (size_t)(count - 1) * 8),
            .code_version = sound_block(&t, id, BLOCK_BITS, &codes) ? codes.bytes[7] : 0,
            .summed = sound_block(&t, id, BLOCK_SUMS, &any),
        };
        for (unsigned i = 0; i < CHUNK_KINDS; i++) {
            struct key k = key_block(id, (unsigned char)chunk_kinds[i]);

            if (txn_get(&t, 0, &k, &any))
                out->bytes += chunk_stored_bytes(any.len - CHUNK_HEADER_BYTES);
        }
    }
    txn_abort(&t);
    return found;
}

bool heal_chunk(struct store *s, struct shard *const *shards, size_t count, const struct corpus *c,
                uint64_t id, struct ledger_chunk *out)
{
    struct healed h = {.table = LEDGER_CHUNKS, .corpus = c->id};
    bool found = false;

    for (size_t i = 0; !found && i < count; i++)
        found = shards[i]->corpus.id == c->id && read_chunk(shards[i], id, out);
    if (!found)
        return false;
    h.chunk = *out;
    snprintf(h.line, sizeof h.line,
             "ledger: corpus %s: the record of chunk %llu was damaged: made again", c->def.name,
             (unsigned long long)id);
    note(s, &h);
    return true;
}

bool heal_tombstone(struct store *s, struct txn *t, const struct corpus *c, const struct view *v,
                    uint64_t sequence, struct ledger_tombstone *out)
{
    struct healed h = {.table = LEDGER_TOMBSTONES, .corpus = c->id};
    struct err ignored = ERR_INIT;
    uint64_t now = UINT64_MAX;
    struct block rows;
    const char *id;
    size_t at, len;
    uint32_t row;
    bool lives;

    if (!view_locate(v, sequence, &at, &row, &ignored) ||
        block_open(&v->chunks[at], BLOCK_ROWS, &rows, &ignored))
        return false;
    id = block_row_id(&rows, row, &len);
    lives = block_row_sequence(&rows, row) != sequence || len == 0 || len > CORPUS_ID_MAX ||
            (ledger_get_id(t, c->id, id, len, &now) && now == sequence);
    forgive(t);
    block_close(&rows);
    if (lives)
        return false; /* the key is what was hit: which row is dead is not known */
    *out = (struct ledger_tombstone){sequence, v->chunks[at].id, row};
    h.tombstone = *out;
    snprintf(h.line, sizeof h.line,
             "ledger: corpus %s: the tombstone of sequence %llu was damaged: made again",
             c->def.name, (unsigned long long)sequence);
    note(s, &h);
    return true;
}

void heal_counts(struct store *s, struct txn *t, const struct corpus *c, const struct view *v,
                 struct ledger_counts *out)
{
    struct healed h = {.table = LEDGER_COUNTS, .corpus = c->id};
    struct key prefix = key_u32(c->id);
    struct ledger_batch b;
    struct ledger_walk w;
    struct span key, value;

    *out = (struct ledger_counts){.examples = v->live, .tombstones = v->rows - v->live};
    if (v->chunk_count)
        out->next_sequence = v->chunks[v->chunk_count - 1].last_sequence + 1;
    ledger_walk_begin(&w, t, LEDGER_BATCHES, &prefix);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value)) {
        out->batches++;
        if (!w.damaged && ledger_parse_batch(value, &b) && b.sequence > out->next_sequence)
            out->next_sequence = b.sequence;
    }
    ledger_walk_end(&w);
    h.counts = *out;
    snprintf(h.line, sizeof h.line, "ledger: corpus %s: the counts were damaged: made again",
             c->def.name);
    note(s, &h);
}

int heal_write(struct store *s, struct err *e)
{
    struct txn t;

    if (!s->healed_count)
        return 0;
    txn_begin_write(&t, &s->ledger);
    for (size_t i = 0; i < s->healed_count; i++) {
        const struct healed *h = &s->healed[i];

        if (h->drop)
            ledger_delete_twice(&t, h->table, &h->key);
        else if (h->key.len)
            put_back(&t, h);
        else if (h->table == LEDGER_META)
            ledger_put_meta(&t, &h->meta);
        else if (h->table == LEDGER_COUNTS)
            ledger_put_counts(&t, h->corpus, &h->counts);
        else if (h->table == LEDGER_SHARDS)
            ledger_put_shard(&t, &h->shard);
        else if (h->table == LEDGER_CHUNKS)
            ledger_put_chunk(&t, h->corpus, &h->chunk);
        else if (h->table == LEDGER_TOMBSTONES)
            ledger_put_tombstone(&t, h->corpus, &h->tombstone);
    }
    return txn_commit(&t, e);
}

void heal_free(struct store *s)
{
    free(s->healed);
    s->healed = NULL;
    s->healed_count = 0;
}
