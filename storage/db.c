/* db.c - see db.h. */
#include "storage/db.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"
#include "storage/pages.h"

/* A search on one thread has up to seven blocks open, and there may be 1,024 threads; a slot is 64
 * bytes of the lock file, which is sparse but for the first thousand slots. */
enum { READER_SLOTS = 8190, LOCK_BYTES = 64 << 10, FILE_MODE = 0600 };

static int latch_error(struct db *db, const char *what, const char *why, struct err *e)
{
    atomic_store(&db->latch->failed, !planted(SYNC_FORGIVEN));
    return err_set(e, ERR_SYNC_FAILED, "%s: %s: %s; the store takes no more writes", db->dir, what,
                   why);
}

/* LMDB calls a write that came up short, as on a full disk, EIO. With hardly any room left that is
 * what it was: the transaction is not named by any meta page, its pages are written again by the
 * next one, so going on is safe. */
static bool disk_is_full(const struct db *db)
{
    struct statvfs fs;

    return statvfs(db->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < (UINT64_C(1) << 20);
}

int db_error(struct db *db, int rc, bool committing, const char *what, struct err *e)
{
    switch (rc) {
    case MDB_MAP_FULL:
        return err_set(e, ERR_FULL, "%s: %s: the map is full", db->dir, what);
    case MDB_READERS_FULL:
    case MDB_TXN_FULL:
    case ENOMEM:
        return err_set(e, ERR_BUSY, "%s: %s: %s", db->dir, what, mdb_strerror(rc));
    case ENOSPC:
    case EDQUOT:
        return err_set(e, ERR_FULL, "%s: %s: %s", db->dir, what, strerror(rc));
    case MDB_PANIC:
        return latch_error(db, what, "an earlier sync failed", e);
    case MDB_MAP_RESIZED: /* nobody else writes: a meta page says so */
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_CURSOR_FULL:
        return err_set(e, ERR_CORRUPT, "%s: %s: %s", db->dir, what, mdb_strerror(rc));
    default:
        break;
    }
    if (committing && rc == EIO && disk_is_full(db))
        return err_set(e, ERR_FULL, "%s: %s: no room on the disk", db->dir, what);
    if (committing)
        return latch_error(db, what, mdb_strerror(rc), e);
    return err_set(e, ERR_IO, "%s: %s: %s", db->dir, what, mdb_strerror(rc));
}

/* ---- Before LMDB touches a file -------------------------------------------------------------- */

/* Reading a mapped page past the end of the file is SIGBUS. A file that lost its tail is made long
 * again: the pages read as zeros, and checksums then name what is gone. */
static int check_length(struct db *db, const char *path, bool read_only, struct err *e)
{
    uint64_t need = db_used(db), have = fs_size(path);

    if (have >= need)
        return 0;
    if (read_only && need - have > UINT64_C(1) << 20)
        return err_set(e, ERR_CORRUPT, "%s: %llu bytes, but its pages reach to %llu", path,
                       (unsigned long long)have, (unsigned long long)need);
    if (truncate(path, (off_t)need) != 0)
        return err_errno(e, errno, path);
    return 0;
}

/* LMDB makes its lock file long and writes to it through a map: on a full disk that is SIGBUS.
 * Slots are taken from the front, so room at the front is asked for first. Only before the
 * environment is open: closing any descriptor of the file drops the locks that this process holds
 * on it. */
static int reserve_lock(const struct db *db, struct err *e)
{
    char *path = fs_join(db->dir, "lock.mdb");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE), rc = 0;

    if (fd < 0)
        rc = err_errno(e, errno, path);
    else if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOCK_BYTES) != 0 &&
             (errno == ENOSPC || errno == EDQUOT))
        rc = err_set(e, ERR_FULL, "%s: no room for %d bytes", path, LOCK_BYTES);
    if (fd >= 0)
        close(fd);
    free(path);
    return rc;
}

/* ---- Open ------------------------------------------------------------------------------------ */

static int open_tables(struct db *db, const struct db_options *o, struct err *e)
{
    MDB_txn *txn = NULL;
    bool reads = o->read_only || !o->tables; /* the unnamed table is always there */
    unsigned flags = reads ? 0 : MDB_CREATE;
    int rc = mdb_txn_begin(db->env, NULL, reads ? MDB_RDONLY : 0, &txn);

    for (unsigned i = 0; rc == 0 && i < o->table_count; i++) {
        MDB_dbi dbi = 0;

        rc = mdb_dbi_open(txn, o->tables ? o->tables[i] : NULL, flags, &dbi);
        db->table[i] = dbi;
    }
    if (rc == MDB_NOTFOUND)
        rc = MDB_CORRUPTED; /* a table that every version has is not there */
    if (rc == 0) {
        rc = mdb_txn_commit(txn);
        return rc ? db_error(db, rc, !reads, "open", e) : 0;
    }
    if (txn)
        mdb_txn_abort(txn);
    return db_error(db, rc, false, "open", e);
}

static int open_env(struct db *db, const char *data, const struct db_options *o, struct err *e)
{
    unsigned flags = MDB_NOTLS;
    int rc = mdb_env_create(&db->env);

    if (o->read_only)
        flags |= MDB_RDONLY | MDB_NOLOCK;
    if (o->no_sync || (o->tables ? planted(LEDGER_UNSYNCED) : planted(SHARD_UNSYNCED)))
        flags |= MDB_NOSYNC;
    if (o->no_read_ahead)
        flags |= MDB_NORDAHEAD;
    if (rc == 0)
        rc = mdb_env_set_mapsize(db->env, (size_t)o->map_bytes);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(db->env, READER_SLOTS);
    if (rc == 0 && o->tables)
        rc = mdb_env_set_maxdbs(db->env, o->table_count);
    if (rc == 0)
        rc = mdb_env_open(db->env, db->dir, flags, FILE_MODE);
    if (rc)
        return db_error(db, rc, rc == EIO && o->fresh, "open", e);
    if (check_length(db, data, o->read_only, e))
        return (int)e->code;
    return open_tables(db, o, e);
}

int db_open(struct db *db, const char *dir, const struct db_options *o, struct db_latch *latch,
            struct err *e)
{
    char *data = fs_join(dir, "data.mdb");
    int rc;

    require(o->table_count > 0 && o->table_count <= DB_TABLES_MAX);
    *db = (struct db){.latch = latch, .read_only = o->read_only};
    db->dir = mem_copy(dir, strlen(dir));
    /* the ledger's values are replaced; a shard's name their own damage, each for itself */
    rc = pages_check(data, o->read_only ? UINT64_MAX : PAGES_AT_OPEN, o->tables != NULL, e);
    if (planted(PAGES_UNCHECKED))
        rc = 0;
    if (rc == 0 && !o->read_only)
        rc = reserve_lock(db, e);
    if (rc == 0)
        rc = open_env(db, data, o, e);
    if (rc)
        db_close(db);
    free(data);
    return rc;
}

void db_close(struct db *db)
{
    if (db->env)
        mdb_env_close(db->env);
    free(db->dir);
    *db = (struct db){0};
}

/* ---- Size, room, sync, copy ------------------------------------------------------------------ */

uint64_t db_used(const struct db *db)
{
    MDB_envinfo info;
    MDB_stat st;

    if (mdb_env_info(db->env, &info) || mdb_env_stat(db->env, &st))
        return 0;
    return ((uint64_t)info.me_last_pgno + 1) * st.ms_psize;
}

int db_descriptor(const struct db *db)
{
    mdb_filehandle_t fd;

    return mdb_env_get_fd(db->env, &fd) ? -1 : fd;
}

int db_make_room(const struct db *db, uint64_t more, struct err *e)
{
    int fd = db_descriptor(db);
    struct stat st;

    if (fd < 0 || fstat(fd, &st))
        return 0;
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, st.st_size, (off_t)more) == 0)
        return 0;
    if (errno == ENOSPC || errno == EDQUOT)
        return err_set(e, ERR_FULL, "%s: no room for %llu more bytes", db->dir,
                       (unsigned long long)more);
    return 0; /* the file system cannot say: the commit itself will */
}

int db_sync(struct db *db, struct err *e)
{
    int rc = mdb_env_sync(db->env, 1);

    return rc ? db_error(db, rc, true, "sync", e) : 0;
}

int db_copy(struct db *db, const char *path, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
    int rc;

    if (fd < 0)
        return err_errno(e, errno, path);
    rc = mdb_env_copyfd2(db->env, fd, 0);
    if (rc == 0 && fsync(fd) != 0)
        rc = errno;
    close(fd);
    if (rc) /* the copy is lost, the store is not: no latch */
        return db_error(db, rc, false, "copy", e);
    return 0;
}

unsigned db_readers(const struct db *db)
{
    MDB_envinfo info;

    return mdb_env_info(db->env, &info) ? 0 : info.me_numreaders;
}

void db_clear_readers(struct db *db)
{
    int dead = 0;

    if (!db->read_only)
        (void)mdb_reader_check(db->env, &dead);
}
