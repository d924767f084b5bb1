/* shard.h - one shard: an LMDB environment of its own that holds chunks of one corpus.
 *
 * A shard only grows; what is deleted is said by the ledger's tombstones, and a shard goes as a
 * whole. The environment is opened at first use (a store of thousands of shards opens at once).
 * An active shard takes chunks from the writer lane; a sealed one never changes again and is opened
 * without lock file and reader slots. Keys are chunk id and block kind: storage/key.h.
 */
#ifndef STORAGE_SHARD_H
#define STORAGE_SHARD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/coder.h"
#include "storage/db.h"
#include "storage/store.h"
#include "storage/txn.h"

/* What all shards of a store share. While `holds` is above zero no directory is removed (a backup
 * is copying); directories whose shard died meanwhile wait in `waiting`. */
struct shard_home {
    char *dir; /* STORE/shards, owned */
    struct db_latch *latch;
    uint64_t shard_bytes;
    bool read_only;
    _Atomic uint64_t damage; /* grows with everything that is newly found damaged */
    _Atomic uint64_t round; /* of checks: what was right in an older one is stale (store_recheck) */
    pthread_mutex_t lock; /* guards the rest */
    struct shard *first;  /* every shard that has a handle; no references */
    unsigned holds;
    char **waiting; /* owned paths */
    size_t waiting_count;
};

void shard_home_init(struct shard_home *h, const char *store_dir, struct db_latch *latch);
void shard_home_fini(struct shard_home *h);
void shard_home_hold(struct shard_home *h);
void shard_home_release(struct shard_home *h);

/* [R] A reference to the shard, or NULL: nothing has a handle on it, so nothing writes to it. */
struct shard *shard_home_find(struct shard_home *h, uint32_t id);

/* The corpus a shard belongs to, as far as its blocks say it. */
struct shard_corpus {
    uint32_t id, dim, dtype;
    size_t row_bytes;
    const struct store_coder *coder; /* or NULL */
    struct coder_shape codes;        /* of new chunks; version 0: none */
    char name[STORE_NAME_MAX + 1];
};

struct shard_seen; /* what reading has shown since the store was opened: storage/shard_seen.c */

struct shard {
    atomic_uint refs;
    struct shard *next, **link; /* the home's list, under its lock */
    uint32_t id;
    struct shard_home *home;
    struct shard_corpus corpus;
    char *dir; /* owned */
    atomic_bool sealed;
    atomic_bool unreadable; /* its environment cannot be opened: what it holds is damaged */
    atomic_bool doomed;   /* not in the ledger any more: the directory goes with the last use */
    uint64_t tail;        /* writer lane: the last chunk to keep; nothing exists after it */
    pthread_mutex_t lock; /* guards the rest */
    bool is_open;
    struct db db;
    struct shard_seen *seen; /* owned: an open-addressing table */
    size_t seen_count, seen_cap;
};

enum { SHARD_NAME_BYTES = 16 };
void shard_name(uint32_t id, char out[SHARD_NAME_BYTES]); /* "000042" */

/* A handle on a shard that the ledger names; touches no file. One reference. */
struct shard *shard_new(struct shard_home *home, uint32_t id, const struct shard_corpus *corpus,
                        bool sealed, uint64_t tail);

/* [W] Makes a new shard, durably: directory, files and the names of both are synced. `room` is the
 * least it must be able to hold. With no_sync (compact) its writes are flushed by shard_settle. */
int shard_make(struct shard_home *home, uint32_t id, const struct shard_corpus *corpus,
               uint64_t room, bool no_sync, struct shard **out, struct err *e);

void shard_retain(struct shard *s);
void shard_release(struct shard *s);

/* [W] Can its environment not be opened, because it is damaged or gone? */
bool shard_is_lost(struct shard *s);
/* [W] Begins a write; what lies past the tail is removed first. Errors are sticky in *t. */
void shard_begin_write(struct shard *s, struct txn *t);
/* [W] Are there chunks past the tail? False also when that cannot be read: a write will say why. */
bool shard_has_orphans(struct shard *s);
/* [W] Bytes in use, for the decision to roll over. */
uint64_t shard_used(struct shard *s);
/* [W] Closes a no_sync environment durably; the next use opens it as what it then is. */
int shard_settle(struct shard *s, struct err *e);
/* [W] Closes the environment of a shard nobody reads yet. */
void shard_close(struct shard *s);

/* [R] Begins a read. Errors are sticky in *t. */
void shard_begin_read(struct shard *s, struct txn *t);

/* [R] Copies the environment's file to `path`, synced; `report` as in fs_copy_file (a sealed shard
 * reports piece by piece, an active one at its end). */
int shard_copy(struct shard *s, const char *path, fs_report *report, void *arg, struct err *e);

/* [R] Was this block's checksum found right: never, in an older round of checks, in this one? Note
 * that it was; `round` is the one that stood before it was read, and when it is over, nothing is
 * noted. */
enum shard_mark { SHARD_UNSEEN, SHARD_STALE, SHARD_RIGHT };
enum shard_mark shard_block_mark(struct shard *s, uint64_t chunk, unsigned kind_bit,
                                 uint64_t *out_round);
void shard_block_note(struct shard *s, uint64_t chunk, unsigned kind_bit, uint64_t round);
/* The same of one row of its encodings in this round; true also when the whole block was right. */
bool shard_row_seen(struct shard *s, uint64_t chunk, uint32_t row, uint64_t *out_round);
void shard_row_note(struct shard *s, uint64_t chunk, uint32_t row, uint32_t rows, uint64_t round);
/* Forgets all that was right of a chunk. */
void shard_distrust(struct shard *s, uint64_t chunk);
/* [R] What was found damaged (storage/damage.h). Codes and sums of rows follow from the encodings:
 * they are not read again, and a compaction makes them anew (`doubtful`: it has something to make,
 * or a header to mend). */
bool shard_codes_doubted(struct shard *s, uint64_t chunk);
bool shard_sums_doubted(struct shard *s, uint64_t chunk);
bool shard_is_doubtful(struct shard *s, uint64_t chunk);
void shard_codes_doubt(struct shard *s, uint64_t chunk);
void shard_sums_doubt(struct shard *s, uint64_t chunk);
void shard_doubt(struct shard *s, uint64_t chunk);
void shard_note_textless(struct shard *s, uint64_t chunk);
void shard_note_lost(struct shard *s, uint64_t chunk);
/* Takes the bitmap; gives the one that counts, with all that was bad before. It never changes and
 * lives as long as the shard. */
const uint64_t *shard_note_bad(struct shard *s, uint64_t chunk, uint64_t *bad, uint32_t rows);

struct shard_damage {
    bool lost;           /* its table of rows, or the whole shard, cannot be read */
    bool textless;       /* its texts cannot */
    const uint64_t *bad; /* rows whose encodings are wrong; NULL: none that is known */
};
struct shard_damage shard_damage(struct shard *s, uint64_t chunk);
void shard_seen_free(struct shard *s);

void shard_clear_readers(struct shard *s); /* slots of dead processes, when it is open */
uint64_t shard_file_bytes(const struct shard *s);

#endif
