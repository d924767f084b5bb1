/* txn.h - a sticky-error transaction on one environment, and a cursor.
 *
 * The first failure is kept in `err`; every later call does nothing and says "none"; txn_commit
 * reports it. So a caller writes the whole story and asks once. A transaction lives on the stack of
 * one function, on one thread, and not longer than the work needs. Spans point into the map (or
 * into a dirty page) and are valid until the transaction ends or, when it writes, until the next
 * write.
 */
#ifndef STORAGE_TXN_H
#define STORAGE_TXN_H

#include <stdbool.h>
#include <stddef.h>

#include "storage/base/err.h"
#include "storage/db.h"
#include "storage/key.h"

struct MDB_txn;
struct MDB_cursor;

struct span {
    const unsigned char *bytes;
    size_t len;
};

struct txn {
    struct db *db;
    struct MDB_txn *handle; /* NULL when it could not begin or has ended */
    bool writes;
    struct err err;
};

/* Begin; a failure shows in txn->err. A write to a store whose latch is set is SYNC_FAILED. */
void txn_begin_read(struct txn *t, struct db *db);
void txn_begin_write(struct txn *t, struct db *db);

/* Ends it. Commit reports the sticky error (and has then aborted), or its own. Both may be called
 * on a transaction that never began; abort also on one that has ended. */
int txn_commit(struct txn *t, struct err *e);
void txn_abort(struct txn *t);

/* Records a failure found by the caller (a record that does not parse); the first one stays. */
void txn_fail(struct txn *t, const struct err *why);

bool txn_get(struct txn *t, unsigned table, const struct key *k, struct span *out);
void txn_put(struct txn *t, unsigned table, const struct key *k, const void *value, size_t len);
/* Room for a value that the caller fills before the next call on this transaction; NULL on
 * failure. */
void *txn_reserve(struct txn *t, unsigned table, const struct key *k, size_t len);
/* True when it was there. */
bool txn_delete(struct txn *t, unsigned table, const struct key *k);

struct cursor {
    struct txn *txn;
    struct MDB_cursor *handle;
};

void cursor_open(struct cursor *c, struct txn *t, unsigned table);
void cursor_close(struct cursor *c);
/* First entry with key >= k, the next one, the last one; false at the end or on failure. */
bool cursor_seek(struct cursor *c, const struct key *k, struct span *out_key,
                 struct span *out_value);
bool cursor_next(struct cursor *c, struct span *out_key, struct span *out_value);
bool cursor_last(struct cursor *c, struct span *out_key, struct span *out_value);
/* Deletes the entry the cursor stands on; cursor_next then gives the one after it. */
void cursor_delete(struct cursor *c);

/* Does the key start with these bytes? */
static inline bool span_starts(struct span s, const void *prefix, size_t len)
{
    return s.len >= len && memcmp(s.bytes, prefix, len) == 0;
}

#endif
