/* db.h - one LMDB environment: opening, limits, what its errors mean, and the fail-stop latch.
 *
 * With txn.c the only place that names mdb_*. Environments are opened once in a process, never with
 * WRITEMAP (a wild write would reach the disk, and a full disk would be SIGBUS), always NOTLS.
 * Shards are opened NORDAHEAD: their readers say what comes next (storage/warm.h). NOSYNC only
 * while a shard is built that nothing names yet. LMDB 0.9.24 goes on after a failed fdatasync; we
 * do not: the latch stops the whole store.
 */
#ifndef STORAGE_DB_H
#define STORAGE_DB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"
#include "storage/fs.h"

struct MDB_env;

enum { DB_TABLES_MAX = 12 };

/* Set once, never cleared, when a sync failed or a write met EIO. One for a store, all share it. */
struct db_latch {
    atomic_bool failed;
};

struct db_options {
    uint64_t map_bytes;         /* address space; raised to what the file needs */
    const char *const *tables;  /* names of databases, or NULL: only the unnamed one (table 0) */
    unsigned table_count;       /* at most DB_TABLES_MAX; 1 when tables is NULL */
    bool read_only;             /* no writer anywhere: no lock file, reader slots; one descriptor */
    bool fresh;                 /* it is being made: EIO here is a failed write */
    bool no_sync;               /* a shard in the making: db_sync before anything names it */
    bool no_read_ahead;         /* large values side by side, read one at a time */
};

struct db {
    struct MDB_env *env; /* owned */
    char *dir;           /* owned */
    struct db_latch *latch;
    bool read_only;
    unsigned table[DB_TABLES_MAX]; /* MDB_dbi of each */
};

/* Opens or, unless read_only, creates the environment in an existing directory. Files that LMDB
 * itself would trip over (damaged meta pages, a truncated file) are CORRUPT. Ends with db_close. */
int db_open(struct db *db, const char *dir, const struct db_options *o, struct db_latch *latch,
            struct err *e);
void db_close(struct db *db); /* a zeroed db is fine */

/* Bytes of the file up to the last page in use. */
uint64_t db_used(const struct db *db);

/* Makes sure that `more` bytes can be written at the end of the file: FULL when they cannot. LMDB
 * reports a disk that fills in the middle of a write as EIO, which could not be told from a broken
 * disk; so room is asked for first, where the file system can tell. */
int db_make_room(const struct db *db, uint64_t more, struct err *e);

/* The descriptor that data is written by, the environment's own; -1 when there is none. */
int db_descriptor(const struct db *db);

/* Flushes a no_sync environment. */
int db_sync(struct db *db, struct err *e);

/* A consistent copy of a live environment as `path` (must not exist), synced. */
int db_copy(struct db *db, const char *path, struct err *e);

unsigned db_readers(const struct db *db);
void db_clear_readers(struct db *db);

/* An LMDB or errno value as an error of ours; `committing` when a write was under way, in which
 * case all but FULL and BUSY sets the latch. Returns the code. */
int db_error(struct db *db, int rc, bool committing, const char *what, struct err *e);

#endif
