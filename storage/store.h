/* store.h - a store: one directory, one LOCK, one ledger, many shards.
 *
 * Layout (docs/format.md):  LOCK  FORMAT  ledger/  shards/NNNNNN/  backups/  admin.key (the
 * server's)
 *
 * Threads. Calls marked [W] change the store: they are made by one thread at a time, the writer
 * lane. Calls marked [R] may be made by any thread at any moment, beside one writer. No call keeps
 * an LMDB transaction open after it returns, except block_open (storage/corpus.h) until
 * block_close. Ownership. The store owns everything below it; what callers hold of it they hold by
 * a reference (corpus_release, view_release) and must give back before store_close.
 */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

struct store;
struct corpus;
struct store_coder; /* storage/coder.h */

struct store_options {
    uint64_t shard_bytes; /* a shard holds at most this; 0 = STORE_SHARD_BYTES. Tests use 1 MiB */
    uint64_t chunk_bytes; /* encodings in one chunk; 0 = STORE_CHUNK_BYTES */
    bool create;          /* make the store when the directory is missing or empty */
    bool read_only;       /* take the lock shared, write nothing (verify, export) */
    const struct store_coder *coder; /* outlives the store; NULL: chunks get no codes */
};

#define STORE_SHARD_BYTES (UINT64_C(16) << 30) /* address space is reserved, disk is not */
#define STORE_CHUNK_BYTES (UINT64_C(32) << 20) /* one LMDB value; 512 rows of 16,384 floats */

/* Opens (or creates, durably) the store at `dir`. Refuses: another process holds LOCK (BUSY),
 * FORMAT is newer (CONFLICT, with both versions, not one byte changed), something else stands there
 * (INVALID). Removes what no ledger names: shard directories and temporary ones; chunks past the
 * ledger's counter. Work is bounded by the number of chunks, not of rows: ready within a second.
 * Ends with store_close. */
int store_open(const char *dir, const struct store_options *options, struct store **out_store,
               struct err *e);
void store_close(struct store *s);

const char *store_dir(const struct store *s);

/* [R] After a failed sync or EIO on write: true for ever; every [W] call answers SYNC_FAILED. The
 * server then exits with its own code; nothing is retried (docs/architecture.md, P1). */
bool store_has_failed(const struct store *s);

/* Records of the ledger that were damaged and could be made again when the store was opened
 * (storage/heal.h), as lines for people. */
size_t store_healed(const struct store *s);
const char *store_healed_line(const struct store *s, size_t i);

/* [R] Grows with everything that reading newly finds damaged (corpus_view_sound). 0: nothing
 * yet. */
uint64_t store_damage(const struct store *s);

/* [R] Begins a new round of checks: what was found right stays so only in its round, so blocks,
 * rows and artifacts are summed again when they are next read. Costs nothing by itself; nothing
 * that is open changes. What is on the disk alone and is read here and there is left to the scrub
 * (block_open_sparse). */
void store_recheck(struct store *s);

/* ---- Corpora --------------------------------------------------------------------------------- */

enum { STORE_NAME_MAX = 63, STORE_FINGERPRINT_BYTES = 32 };

/* True for [a-z0-9][a-z0-9_-]{0,62}: corpora, batches, tasks, saved queries. */
bool store_name_valid(const char *name, size_t len);

struct corpus_def {
    char name[STORE_NAME_MAX + 1];
    uint32_t dim;   /* elements of one encoding */
    uint32_t dtype; /* enum dtype */
    unsigned char fingerprint[STORE_FINGERPRINT_BYTES]; /* hash of the manifest, the server's */
    const char *manifest; /* JSON text, opaque here; copied */
};

/* [W] Durable when it returns. The same name with the same fingerprint: 0 and *out_created false;
 * with another: CORPUS_CONFLICT. *out_corpus is a reference (corpus_release). */
int store_corpus_create(struct store *s, const struct corpus_def *def, bool *out_created,
                        struct corpus **out_corpus, struct err *e);

/* [R] A reference to the corpus, or NULL when there is none of that name. */
struct corpus *store_corpus_find(struct store *s, const char *name);

/* [R] References to all corpora, by name; the array is the caller's (free), each entry too
 * (corpus_release). */
size_t store_corpus_list(struct store *s, struct corpus ***out_list);

/* [W] Drops a corpus: gone from the ledger, durably, when this returns; shard directories are
 * removed when the last view is released. UNKNOWN_CORPUS when there is none. */
int store_corpus_drop(struct store *s, const char *name, struct err *e);

/* ---- Small records beside the data (API keys, later tasks and saved queries) ----------------- */

/* Part of the format. Annexes are storage's own (storage/annex.h). */
enum store_table { STORE_KEYS = 1, STORE_TASKS = 2, STORE_QUERIES = 3, STORE_ANNEXES = 4 };

/* Keys up to 320 bytes, values up to 1 MiB, opaque. put and delete are [W] and durable on return;
 * get and each are [R]. get fills *out (buf_free); UNKNOWN_KEY when there is none.
 * each calls visit for every record whose key starts with `prefix`, in key order, outside any
 * transaction; visit returns false to stop. delete of what is not there is UNKNOWN_KEY. */
int store_record_put(struct store *s, enum store_table t, const void *key, size_t key_len,
                     const void *value, size_t value_len, struct err *e);
int store_record_get(struct store *s, enum store_table t, const void *key, size_t key_len,
                     struct buf *out, struct err *e);
int store_record_delete(struct store *s, enum store_table t, const void *key, size_t key_len,
                        struct err *e);
typedef bool store_visit(void *arg, const void *key, size_t key_len, const void *value,
                         size_t value_len);
int store_record_each(struct store *s, enum store_table t, const void *prefix, size_t prefix_len,
                      store_visit *visit, void *arg, struct err *e);

/* ---- Numbers for operators ------------------------------------------------------------------- */

struct store_stats {
    uint64_t corpora, shards, chunks, batches, examples, tombstones;
    uint64_t bytes_ledger, bytes_shards; /* on disk */
    uint64_t readers;                    /* LMDB reader slots in use, ledger */
};
/* [R] Cheap: from memory and stat(2). */
void store_stats(struct store *s, struct store_stats *out);

/* [R] Clears reader slots of dead processes (LMDB's mdb_reader_check); the server's timer calls
 * it. */
void store_housekeep(struct store *s);

#endif
