/* txn.c - see txn.h. */
#include "storage/txn.h"

#include <errno.h>
#include <lmdb.h>

static void stick(struct txn *t, int rc, bool committing, const char *what)
{
    if (t->err.code == ERR_OK)
        (void)db_error(t->db, rc, committing, what, &t->err);
}

static bool is_dead(const struct txn *t)
{
    return t->err.code != ERR_OK || !t->handle;
}

static void begin(struct txn *t, struct db *db, bool writes)
{
    int rc;

    *t = (struct txn){.db = db, .writes = writes, .err = ERR_INIT};
    if (writes && atomic_load(&db->latch->failed)) {
        (void)err_set(&t->err, ERR_SYNC_FAILED,
                      "%s: an earlier sync failed; the store takes no more writes", db->dir);
        return;
    }
    rc = mdb_txn_begin(db->env, NULL, writes ? 0 : MDB_RDONLY, &t->handle);
    if (rc) {
        t->handle = NULL;
        stick(t, rc, false, "begin");
    }
}

void txn_begin_read(struct txn *t, struct db *db)
{
    begin(t, db, false);
}

void txn_begin_write(struct txn *t, struct db *db)
{
    begin(t, db, true);
}

/* When it was a meta page that could not be written, LMDB gives the environment up for this
 * process; then no error may promise that writing can go on. */
static bool has_panicked(struct db *db)
{
    MDB_txn *probe = NULL;
    int rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &probe);

    if (rc == 0)
        mdb_txn_abort(probe);
    return rc == MDB_PANIC;
}

int txn_commit(struct txn *t, struct err *e)
{
    if (!is_dead(t)) {
        int rc = mdb_txn_commit(t->handle);

        t->handle = NULL;
        if (rc && has_panicked(t->db))
            rc = MDB_PANIC;
        if (rc)
            stick(t, rc, t->writes, "commit");
    }
    txn_abort(t);
    if (t->err.code != ERR_OK)
        *e = t->err;
    return (int)t->err.code;
}

void txn_abort(struct txn *t)
{
    if (t->handle)
        mdb_txn_abort(t->handle);
    t->handle = NULL;
}

void txn_fail(struct txn *t, const struct err *why)
{
    if (t->err.code == ERR_OK)
        t->err = *why;
}

/* LMDB takes keys without const and does not write to them. */
static MDB_val val(const void *bytes, size_t len)
{
    return (MDB_val){.mv_size = len, .mv_data = (void *)(uintptr_t)bytes};
}

static struct span span(MDB_val v)
{
    return (struct span){.bytes = v.mv_data, .len = v.mv_size};
}

bool txn_get(struct txn *t, unsigned table, const struct key *k, struct span *out)
{
    MDB_val key = val(k->bytes, k->len), value;
    int rc;

    if (is_dead(t))
        return false;
    rc = mdb_get(t->handle, t->db->table[table], &key, &value);
    if (rc == 0) {
        *out = span(value);
        return true;
    }
    if (rc != MDB_NOTFOUND)
        stick(t, rc, false, "read");
    return false;
}

void txn_put(struct txn *t, unsigned table, const struct key *k, const void *value, size_t len)
{
    void *room = txn_reserve(t, table, k, len);

    if (room && len)
        memcpy(room, value, len);
}

void *txn_reserve(struct txn *t, unsigned table, const struct key *k, size_t len)
{
    MDB_val key = val(k->bytes, k->len), value = {.mv_size = len};
    int rc;

    if (is_dead(t))
        return NULL;
    rc = mdb_put(t->handle, t->db->table[table], &key, &value, MDB_RESERVE);
    if (rc == 0)
        return value.mv_data;
    stick(t, rc, rc == EIO, "write"); /* a large transaction spills to the disk early */
    return NULL;
}

bool txn_delete(struct txn *t, unsigned table, const struct key *k)
{
    MDB_val key = val(k->bytes, k->len);
    int rc;

    if (is_dead(t))
        return false;
    rc = mdb_del(t->handle, t->db->table[table], &key, NULL);
    if (rc && rc != MDB_NOTFOUND)
        stick(t, rc, rc == EIO, "delete");
    return rc == 0;
}

void cursor_open(struct cursor *c, struct txn *t, unsigned table)
{
    int rc;

    *c = (struct cursor){.txn = t};
    if (is_dead(t))
        return;
    rc = mdb_cursor_open(t->handle, t->db->table[table], &c->handle);
    if (rc) {
        c->handle = NULL;
        stick(t, rc, false, "cursor");
    }
}

void cursor_close(struct cursor *c)
{
    if (c->handle)
        mdb_cursor_close(c->handle);
    c->handle = NULL;
}

static bool move(struct cursor *c, MDB_val key, MDB_cursor_op op, struct span *out_key,
                 struct span *out_value)
{
    MDB_val value = {0};
    int rc;

    if (!c->handle || is_dead(c->txn))
        return false;
    rc = mdb_cursor_get(c->handle, &key, &value, op);
    if (rc == 0) {
        *out_key = span(key);
        *out_value = span(value);
        return true;
    }
    if (rc != MDB_NOTFOUND)
        stick(c->txn, rc, false, "walk");
    return false;
}

bool cursor_seek(struct cursor *c, const struct key *k, struct span *out_key,
                 struct span *out_value)
{
    MDB_val key = val(k->bytes, k->len);

    return move(c, key, k->len ? MDB_SET_RANGE : MDB_FIRST, out_key, out_value);
}

bool cursor_next(struct cursor *c, struct span *out_key, struct span *out_value)
{
    return move(c, (MDB_val){0}, MDB_NEXT, out_key, out_value);
}

bool cursor_last(struct cursor *c, struct span *out_key, struct span *out_value)
{
    return move(c, (MDB_val){0}, MDB_LAST, out_key, out_value);
}

void cursor_delete(struct cursor *c)
{
    int rc;

    if (!c->handle || is_dead(c->txn))
        return;
    rc = mdb_cursor_del(c->handle, 0);
    if (rc)
        stick(c->txn, rc, rc == EIO, "delete");
}
