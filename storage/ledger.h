/* ledger.h - the records of the ledger: what exists. One source of truth (docs/format.md).
 *
 * Every value ends in a 32-bit check of (table, key, value), so a damaged record is CORRUPT and
 * never a wrong answer. Functions work on a sticky transaction (storage/txn.h): `get` is false
 * when there is no such record or the transaction has failed.
 */
#ifndef STORAGE_LEDGER_H
#define STORAGE_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/hash.h"
#include "storage/key.h"
#include "storage/store.h"
#include "storage/txn.h"

enum ledger_table { /* order is this program's, names are the format's */
    LEDGER_META,
    LEDGER_CORPORA,    /* corpus -> definition */
    LEDGER_COUNTS,     /* corpus -> counters */
    LEDGER_BATCHES,    /* corpus, name -> batch */
    LEDGER_IDS,        /* corpus, id -> sequence */
    LEDGER_CHUNKS,     /* corpus, chunk -> place and range */
    LEDGER_TOMBSTONES, /* corpus, sequence -> chunk, row */
    LEDGER_SHARDS,     /* shard -> corpus, state */
    LEDGER_RECORDS,    /* store_table, key -> bytes */
    LEDGER_DROPPED,    /* corpus -> nothing: its records wait for removal */
    LEDGER_TABLES
};

extern const char *const ledger_names[LEDGER_TABLES];

/* A store is of the first format until it holds an annex (storage/annex.h): a program that does
 * not know them would take rows in as if nothing had been fitted, and so must not open it. The
 * third says of every new chunk whether it has codes and sums of rows. A store's format only
 * grows. */
enum { LEDGER_FORMAT = 1, LEDGER_FORMAT_ANNEXES = 2, LEDGER_FORMAT_CODES = 3 };

/* Opens (or creates) the ledger's environment in `dir`. */
int ledger_open(struct db *db, const char *dir, bool read_only, struct db_latch *latch,
                struct err *e);

/* ---- Any record ------------------------------------------------------------------------------ */

void ledger_put(struct txn *t, enum ledger_table table, const struct key *k, const void *value,
                size_t len);
bool ledger_get(struct txn *t, enum ledger_table table, const struct key *k, struct span *out);
bool ledger_delete(struct txn *t, enum ledger_table table, const struct key *k);

/* Records without which a corpus says nothing (its definition, its state and tasks) stand twice: a
 * second time in table `meta`, far from the first. `second` reads that one; it is false as well,
 * and the transaction whole, when that is damaged too. */
void ledger_put_twice(struct txn *t, enum ledger_table table, const struct key *k,
                      const void *value, size_t len);
bool ledger_get_second(struct txn *t, enum ledger_table table, const struct key *k,
                       struct span *out);
void ledger_delete_twice(struct txn *t, enum ledger_table table, const struct key *k);

/* Walks the records whose key starts with `prefix`, in key order. With `lenient` a damaged
 * record is given with damaged = true and an empty value; else it fails the transaction. */
struct ledger_walk {
    struct cursor cursor;
    enum ledger_table table;
    struct key prefix, start;
    bool started, lenient, damaged;
};
void ledger_walk_begin(struct ledger_walk *w, struct txn *t, enum ledger_table table,
                       const struct key *prefix);
void ledger_walk_after(struct ledger_walk *w, const struct key *k); /* start behind this key */
bool ledger_walk_next(struct ledger_walk *w, struct span *out_key, struct span *out_value);
void ledger_walk_end(struct ledger_walk *w);

/* ---- Typed records --------------------------------------------------------------------------- */

struct ledger_meta {
    uint32_t format;
    uint32_t next_corpus, next_shard;
    uint64_t next_chunk;
};
bool ledger_get_meta(struct txn *t, struct ledger_meta *out);
void ledger_put_meta(struct txn *t, const struct ledger_meta *m);
void ledger_raise_format(struct ledger_meta *m, uint32_t format); /* never lowers it */

/* manifest of `out` points into the map. */
void ledger_put_corpus(struct txn *t, uint32_t corpus, const struct corpus_def *def);
bool ledger_parse_corpus(struct span value, struct corpus_def *out, struct span *out_manifest);

struct ledger_counts {
    uint64_t next_sequence; /* of the next new example */
    uint64_t examples;      /* live */
    uint64_t tombstones;
    uint64_t batches;
};
bool ledger_get_counts(struct txn *t, uint32_t corpus, struct ledger_counts *out);
void ledger_put_counts(struct txn *t, uint32_t corpus, const struct ledger_counts *c);

struct ledger_batch {
    unsigned char content_hash[HASH_BYTES];
    uint64_t examples_new, duplicates, sequence;
};
bool ledger_get_batch(struct txn *t, uint32_t corpus, const char *name, struct ledger_batch *out);
void ledger_put_batch(struct txn *t, uint32_t corpus, const char *name,
                      const struct ledger_batch *b);
bool ledger_parse_batch(struct span value, struct ledger_batch *out);

bool ledger_get_id(struct txn *t, uint32_t corpus, const char *id, size_t len, uint64_t *out);
void ledger_put_id(struct txn *t, uint32_t corpus, const char *id, size_t len, uint64_t sequence);
bool ledger_delete_id(struct txn *t, uint32_t corpus, const char *id, size_t len);
bool ledger_parse_u64(struct span value, uint64_t *out);

struct ledger_chunk {
    uint64_t id;
    uint32_t shard, rows;
    uint64_t first_sequence, last_sequence;
    uint64_t bytes; /* of its blocks, headers included */
    uint32_t code_version; /* 0: no codes */
    bool summed;           /* has the block of row sums */
};
void ledger_put_chunk(struct txn *t, uint32_t corpus, const struct ledger_chunk *c);
void ledger_delete_chunk(struct txn *t, uint32_t corpus, uint64_t chunk);
bool ledger_parse_chunk(struct span key, struct span value, struct ledger_chunk *out);

struct ledger_tombstone {
    uint64_t sequence, chunk;
    uint32_t row;
};
void ledger_put_tombstone(struct txn *t, uint32_t corpus, const struct ledger_tombstone *d);
void ledger_delete_tombstone(struct txn *t, uint32_t corpus, uint64_t sequence);
bool ledger_parse_tombstone(struct span key, struct span value, struct ledger_tombstone *out);

enum ledger_shard_state { LEDGER_SHARD_ACTIVE = 1, LEDGER_SHARD_SEALED = 2 };
struct ledger_shard {
    uint32_t id, corpus, state;
};
void ledger_put_shard(struct txn *t, const struct ledger_shard *s);
void ledger_delete_shard(struct txn *t, uint32_t shard);
bool ledger_parse_shard(struct span key, struct span value, struct ledger_shard *out);

/* Removes at most `limit` records of a dropped corpus, and its mark when none is left (true). */
bool ledger_purge(struct txn *t, uint32_t corpus, size_t limit);

#endif
