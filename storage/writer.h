/* writer.h - puts chunks into the shards of one corpus, durably, rolling over when one is full.
 *
 * The first half of every commit and of every compaction: what it wrote exists only when a ledger
 * transaction names it. writer_finish makes everything durable; writer_abandon takes it back. The
 * caller then writes `chunks` and the states of the shards to the ledger. Writer lane, but for a
 * compaction's writer (`apart`), which has its own shards that nobody else knows.
 */
#ifndef STORAGE_WRITER_H
#define STORAGE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/chunk.h"
#include "storage/ledger.h"
#include "storage/shard.h"
#include "storage/txn.h"

struct writer_chunk {
    struct ledger_chunk record;
    struct shard *shard; /* the writer's reference */
};

struct writer {
    struct shard_home *home;
    const struct shard_corpus *corpus;
    uint64_t next_chunk; /* ids to give out; the caller puts them back into the ledger's counters */
    uint32_t next_shard;
    uint32_t shard_limit; /* apart: ids below it were reserved */
    bool apart;          /* new shards only, flushed once at the end */
    struct shard *given; /* the active shard at the start, or NULL; one reference */
    uint64_t given_tail;
    struct shard *shard; /* being written; not a reference of its own */
    struct shard **made; /* one reference each, in order */
    size_t made_count, settled; /* settled: durable and closed (apart) */
    struct writer_chunk *chunks;
    size_t chunk_count, chunk_cap;
    struct txn txn;
    bool in_txn;
    uint64_t used;      /* of the shard, when the transaction began */
    uint64_t txn_bytes; /* put in this transaction: LMDB holds them in memory until it commits */
};

void writer_begin(struct writer *w, struct shard_home *home, const struct shard_corpus *corpus,
                  struct shard *active, uint64_t next_chunk, uint32_t next_shard, bool apart);

/* Writes rows (at most one chunk's, see chunk_cut) as one chunk. After a failure only abandon. */
int writer_add(struct writer *w, const struct chunk_row *rows, uint32_t count, struct err *e);

/* Everything added is durable when this returns 0. An apart writer may go on: in a new shard. */
int writer_finish(struct writer *w, struct err *e);

/* After the ledger named it: what was written stays. After a failure: new shards are removed,
 * chunks in the given one are forgotten. Either ends the writer; both are fine on a zeroed one. */
void writer_keep(struct writer *w);
void writer_abandon(struct writer *w);

/* A chunk just written, as views show it. */
static inline struct view_chunk writer_view_chunk(const struct writer_chunk *c)
{
    return (struct view_chunk){.id = c->record.id,
                               .shard = c->shard,
                               .rows = c->record.rows,
                               .first_sequence = c->record.first_sequence,
                               .last_sequence = c->record.last_sequence,
                               .code_version = c->record.code_version,
                               .coded = c->record.code_version != 0,
                               .summed = c->record.summed};
}

/* The shard that is active after this write (no reference of its own), or NULL. */
static inline struct shard *writer_last(const struct writer *w)
{
    return w->shard;
}

#endif
