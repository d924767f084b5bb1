/* catalog.h - the store in memory: what store.c, commit.c, corpus.c and the maintenance share.
 *
 * Locks, in the order they may be taken: store->lock (which corpora there are), corpus->lock (which
 * view is the latest), shard->lock, home->lock. None is held across a disk write. `meta`, `purge`
 * and corpus->active belong to the writer lane and have no lock.
 */
#ifndef STORAGE_CATALOG_H
#define STORAGE_CATALOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/corpus.h"
#include "storage/db.h"
#include "storage/ledger.h"
#include "storage/shard.h"
#include "storage/store.h"

struct annex;
struct healed;

struct store {
    char *dir;
    int lock_fd;
    bool read_only;
    uint64_t chunk_bytes;
    const struct store_coder *coder; /* or NULL */
    struct db ledger;
    struct db_latch latch;
    struct shard_home home;
    struct ledger_meta meta; /* writer lane */
    _Atomic uint64_t next_artifact; /* above all that the ledger names */
    uint32_t *purge;         /* writer lane: dropped corpora with records left in the ledger */
    size_t purge_count;
    struct healed *healed; /* records made again at open (storage/heal.h); owned */
    size_t healed_count;
    pthread_mutex_t lock;    /* guards corpora */
    struct corpus **corpora; /* one reference each, sorted by name */
    size_t corpus_count;
};

struct corpus {
    atomic_uint refs;
    struct store *store;
    uint32_t id;
    struct corpus_def def; /* manifest owned */
    struct shard_corpus shape;
    atomic_bool dropped;
    atomic_bool compacting;
    struct shard *active; /* writer lane; one reference, or NULL */
    struct annex *state;  /* writer lane; one reference, or NULL: as ingested */
    pthread_mutex_t lock; /* guards the rest */
    struct view *view;    /* the latest; storage/snapshot.h */
    struct view *sound[2]; /* of it, without and with all texts; or NULL (storage/damage.c) */
    uint64_t sound_at[2];  /* store_damage when they were made */
    struct ledger_counts counts;
    uint64_t bytes;  /* of all chunks */
    uint64_t shards; /* with chunks */
    uint64_t coded;  /* live rows of chunks that have codes */
    struct annex **annexes; /* named ones, by name; a reference each; only the lane changes them */
    size_t annex_count;
};

/* Reads the ledger into memory: corpora, chunks, tombstones. CORRUPT when it contradicts itself. */
int catalog_load(struct store *s, struct err *e);
void catalog_free(struct store *s);

/* A corpus that is not yet in the catalogue, with an empty view; one reference. */
struct corpus *catalog_corpus_new(struct store *s, uint32_t id, const struct corpus_def *def,
                                  const char *manifest, size_t manifest_len);
void catalog_add(struct store *s, struct corpus *c);    /* takes the reference */
struct corpus *catalog_find(struct store *s, const char *name); /* a reference, or NULL */
void catalog_remove(struct store *s, struct corpus *c); /* gives it back */

/* Makes `view` the latest (takes its reference) together with the counts and bytes that belong to
 * it. */
void catalog_publish(struct corpus *c, struct view *view, const struct ledger_counts *counts,
                     uint64_t bytes);

/* An error when the store takes no writes: open read-only, or the latch is set. */
int catalog_may_write(struct store *s, struct err *e);

#endif
