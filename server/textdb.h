/* textdb.h - the file text.sqlite: for each corpus one FTS5 table of its texts and how far they are
 * in it. The only file that knows SQLite.
 *
 * Everything in it is derived: damage is never repaired, the file is thrown away. The tables hold
 * terms, not texts (contentless). A row's rowid is the example's sequence.
 * A textdb is one connection, used by one thread at a time; many may read beside one writer. */
#ifndef SERVER_TEXTDB_H
#define SERVER_TEXTDB_H

#include <stddef.h>
#include <stdint.h>

#include "server/stop.h"
#include "storage/base/bytes.h"
#include "storage/base/err.h"

struct textdb;

/* Errors of every call: CORRUPT when the file is damaged or not ours (throw it away), FULL, BUSY
 * (no memory), IO, CANCELLED. */

/* Opens or creates. `check`: reads the whole file for damage first. textdb_close. */
int textdb_open(const char *path, bool check, struct textdb **out, struct err *e);
void textdb_close(struct textdb *db);
/* Removes the file and what SQLite keeps beside it. Nobody may have it open. */
void textdb_remove(const char *path);

/* How far a corpus is: every text of a sequence below `next` is in. */
struct textdb_mark {
    uint32_t corpus;
    uint64_t next;
    uint64_t texts; /* in the table, those of deleted examples included */
};
/* All marks; *out is the caller's (free). */
int textdb_marks(struct textdb *db, struct textdb_mark **out, size_t *out_count, struct err *e);

/* Writing: between begin and commit; rollback after any error (and harmless else). */
int textdb_begin(struct textdb *db, struct err *e);
int textdb_commit(struct textdb *db, struct err *e);
void textdb_rollback(struct textdb *db);
/* An empty table for the corpus, with a mark at 0. */
int textdb_create(struct textdb *db, uint32_t corpus, struct err *e);
int textdb_drop(struct textdb *db, uint32_t corpus, struct err *e);
int textdb_add(struct textdb *db, uint32_t corpus, uint64_t sequence, const char *text, size_t len,
               struct err *e);
int textdb_mark(struct textdb *db, const struct textdb_mark *mark, struct err *e);

/* The terms of a text as a query: each quoted, joined by OR. Empty when there is none; at most
 * LIMIT_SEARCH_TERMS (TOO_LARGE). */
int textdb_terms(struct textdb *db, const char *text, size_t len, struct buf *out, struct err *e);

struct textdb_hit {
    uint64_t sequence;
    double score; /* BM25, k1 1.2, b 0.75; higher is better */
};
/* Every match of such a query, ascending by sequence, appended to `out` as struct textdb_hit.
 * CONFLICT when the corpus has no table. */
int textdb_match(struct textdb *db, uint32_t corpus, const char *query, const struct stop *stop,
                 struct buf *out, struct err *e);

#endif
