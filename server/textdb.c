/* textdb.c - see textdb.h. Statements are made where they are used: each costs microseconds beside
 * what it does, and none can outlive its table. */
#include "server/textdb.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/limits.h"
#include "storage/base/mem.h"

enum { OURS = 0x61736374 /* "asct" */, SCHEMA = 1, ASK_EVERY = 10000 /* of SQLite's steps */ };

/* The tokenizer of the tables and of queries: one and the same, so that terms meet. */
#define TOKENIZER "unicode61"
static const char *tokenizer_options[] = {"remove_diacritics", "2"};

struct textdb {
    sqlite3 *db;
    sqlite3_stmt *add; /* into table `add_to`, while a transaction lasts */
    uint32_t add_to;
    fts5_tokenizer tokenizer;
    Fts5Tokenizer *terms;
};

/* ---- errors ---------------------------------------------------------------------------------- */

static int failed(struct textdb *t, int rc, const char *what, struct err *e)
{
    enum err_code code = ERR_CORRUPT; /* a missing table is damage too */

    if (rc == SQLITE_NOMEM)
        code = ERR_BUSY;
    else if (rc == SQLITE_FULL)
        code = ERR_FULL;
    else if (rc == SQLITE_INTERRUPT)
        code = ERR_CANCELLED;
    else if (rc == SQLITE_CANTOPEN || rc == SQLITE_PERM || rc == SQLITE_READONLY ||
             rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
        code = ERR_IO;
    return err_set(e, code, "text.sqlite: %s: %s", what,
                   t->db ? sqlite3_errmsg(t->db) : sqlite3_errstr(rc));
}

/* Extended codes say more than is needed here. */
static int plain(int rc)
{
    return rc & 0xff;
}

static int run(struct textdb *t, const char *sql, struct err *e)
{
    int rc = plain(sqlite3_exec(t->db, sql, NULL, NULL, NULL));

    return rc ? failed(t, rc, sql, e) : 0;
}

static int prepare(struct textdb *t, const char *sql, sqlite3_stmt **out, struct err *e)
{
    int rc = plain(sqlite3_prepare_v2(t->db, sql, -1, out, NULL));

    return rc ? failed(t, rc, sql, e) : 0;
}

/* ---- open ------------------------------------------------------------------------------------ */

static int number(struct textdb *t, const char *sql, int64_t *out, struct err *e)
{
    sqlite3_stmt *s;
    int rc;

    if (prepare(t, sql, &s, e))
        return (int)e->code;
    rc = plain(sqlite3_step(s));
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return rc == SQLITE_ROW ? 0 : failed(t, rc, sql, e);
}

static int check_file(struct textdb *t, struct err *e)
{
    sqlite3_stmt *s;
    bool sound;
    int rc;

    if (prepare(t, "PRAGMA quick_check(1)", &s, e))
        return (int)e->code;
    rc = plain(sqlite3_step(s));
    sound = rc == SQLITE_ROW && strcmp((const char *)sqlite3_column_text(s, 0), "ok") == 0;
    sqlite3_finalize(s);
    if (rc != SQLITE_ROW)
        return failed(t, rc, "quick_check", e);
    return sound ? 0 : err_set(e, ERR_CORRUPT, "text.sqlite: its pages contradict each other");
}

static int lay_out(struct textdb *t, struct err *e)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "BEGIN IMMEDIATE; PRAGMA application_id=%d; PRAGMA user_version=%d;"
             "CREATE TABLE mark(corpus INTEGER PRIMARY KEY, next INTEGER, texts INTEGER); COMMIT",
             OURS, SCHEMA);
    return run(t, sql, e);
}

static int check_layout(struct textdb *t, struct err *e)
{
    int64_t application = 0, version = 0, tables = 0;

    if (number(t, "SELECT count(*) FROM sqlite_master", &tables, e) ||
        number(t, "PRAGMA application_id", &application, e) ||
        number(t, "PRAGMA user_version", &version, e))
        return (int)e->code;
    if (application == 0 && tables == 0)
        return lay_out(t, e);
    if (application != OURS || version != SCHEMA)
        return err_set(e, ERR_CORRUPT, "text.sqlite: application %" PRId64 ", version %" PRId64
                       " is not ours", application, version);
    return 0;
}

static int find_tokenizer(struct textdb *t, struct err *e)
{
    fts5_api *api = NULL;
    sqlite3_stmt *s;
    void *with;
    int rc;

    if (prepare(t, "SELECT fts5(?1)", &s, e))
        return (int)e->code;
    sqlite3_bind_pointer(s, 1, (void *)&api, "fts5_api_ptr", NULL);
    sqlite3_step(s);
    rc = sqlite3_finalize(s);
    if (rc == SQLITE_OK && api)
        rc = api->xFindTokenizer(api, TOKENIZER, &with, &t->tokenizer);
    if (rc == SQLITE_OK && api)
        rc = t->tokenizer.xCreate(with, tokenizer_options, 2, &t->terms);
    if (rc == SQLITE_NOMEM)
        return err_set(e, ERR_BUSY, "no memory to search by words");
    if (!api || rc != SQLITE_OK)
        return err_set(e, ERR_INTERNAL, "this SQLite has no FTS5 with tokenizer " TOKENIZER);
    return 0;
}

/* SQLite would make it readable by others; what it keeps beside it takes the same mode. A file that
 * is there is not touched: closing a descriptor of it would end the locks of other connections. */
static void make_private(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd >= 0)
        close(fd);
}

int textdb_open(const char *path, bool check, struct textdb **out, struct err *e)
{
    struct textdb *t = mem_new(1, sizeof *t);
    int rc, code;

    make_private(path);
    rc = plain(sqlite3_open_v2(path, &t->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                               SQLITE_OPEN_NOMUTEX, NULL));
    code = rc ? failed(t, rc, "open", e) : 0;
    if (!code) {
        sqlite3_busy_timeout(t->db, 5000);
        /* WAL: readers beside a writer; NORMAL: sound after a power cut, if a little behind */
        code = run(t, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                      "PRAGMA journal_size_limit=67108864", e);
    }
    if (!code && check)
        code = check_file(t, e);
    if (!code)
        code = check_layout(t, e);
    if (!code)
        code = find_tokenizer(t, e);
    if (code)
        textdb_close(t);
    else
        *out = t;
    return code;
}

static void end_adding(struct textdb *t)
{
    sqlite3_finalize(t->add);
    t->add = NULL;
}

void textdb_close(struct textdb *t)
{
    if (!t)
        return;
    end_adding(t);
    if (t->terms)
        t->tokenizer.xDelete(t->terms);
    sqlite3_close(t->db);
    free(t);
}

void textdb_remove(const char *path)
{
    static const char *const beside[] = {"", "-wal", "-shm", "-journal"};
    size_t room = strlen(path) + 16;
    char *name = mem_new(room, 1);

    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        snprintf(name, room, "%s%s", path, beside[i]);
        unlink(name);
    }
    free(name);
}

/* ---- writing --------------------------------------------------------------------------------- */

int textdb_begin(struct textdb *t, struct err *e)
{
    return run(t, "BEGIN IMMEDIATE", e);
}

int textdb_commit(struct textdb *t, struct err *e)
{
    end_adding(t);
    return run(t, "COMMIT", e);
}

void textdb_rollback(struct textdb *t)
{
    end_adding(t);
    if (!sqlite3_get_autocommit(t->db))
        sqlite3_exec(t->db, "ROLLBACK", NULL, NULL, NULL);
}

int textdb_create(struct textdb *t, uint32_t corpus, struct err *e)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "CREATE VIRTUAL TABLE t%" PRIu32 " USING fts5(text, content='', tokenize='" TOKENIZER
             " %s %s')", corpus, tokenizer_options[0], tokenizer_options[1]);
    if (run(t, sql, e))
        return (int)e->code;
    return textdb_mark(t, &(struct textdb_mark){.corpus = corpus}, e);
}

int textdb_drop(struct textdb *t, uint32_t corpus, struct err *e)
{
    char sql[128];

    snprintf(sql, sizeof sql,
             "DROP TABLE IF EXISTS t%" PRIu32 "; DELETE FROM mark WHERE corpus=%" PRIu32, corpus,
             corpus);
    return run(t, sql, e);
}

int textdb_add(struct textdb *t, uint32_t corpus, uint64_t sequence, const char *text, size_t len,
               struct err *e)
{
    char sql[96];
    int rc;

    if (!t->add || t->add_to != corpus) {
        end_adding(t);
        snprintf(sql, sizeof sql, "INSERT INTO t%" PRIu32 "(rowid, text) VALUES(?1, ?2)", corpus);
        if (prepare(t, sql, &t->add, e))
            return (int)e->code;
        t->add_to = corpus;
    }
    sqlite3_bind_int64(t->add, 1, (int64_t)sequence);
    sqlite3_bind_text64(t->add, 2, text, len, SQLITE_STATIC, SQLITE_UTF8);
    rc = plain(sqlite3_step(t->add));
    if (rc != SQLITE_DONE)
        failed(t, rc, "add a text", e);
    sqlite3_reset(t->add);
    sqlite3_clear_bindings(t->add);
    return rc == SQLITE_DONE ? 0 : (int)e->code;
}

int textdb_mark(struct textdb *t, const struct textdb_mark *mark, struct err *e)
{
    char sql[160];

    snprintf(sql, sizeof sql,
             "INSERT OR REPLACE INTO mark(corpus, next, texts) VALUES(%" PRIu32 ", %" PRIu64
             ", %" PRIu64 ")", mark->corpus, mark->next, mark->texts);
    return run(t, sql, e);
}

int textdb_marks(struct textdb *t, struct textdb_mark **out, size_t *out_count, struct err *e)
{
    struct textdb_mark *list = NULL;
    size_t count = 0;
    sqlite3_stmt *s;
    int rc;

    if (prepare(t, "SELECT corpus, next, texts FROM mark ORDER BY corpus", &s, e))
        return (int)e->code;
    while ((rc = plain(sqlite3_step(s))) == SQLITE_ROW) {
        struct textdb_mark *grown = reallocarray(list, count + 1, sizeof *grown);

        if (!grown) {
            rc = SQLITE_NOMEM;
            break;
        }
        list = grown;
        list[count++] = (struct textdb_mark){.corpus = (uint32_t)sqlite3_column_int64(s, 0),
                                             .next = (uint64_t)sqlite3_column_int64(s, 1),
                                             .texts = (uint64_t)sqlite3_column_int64(s, 2)};
    }
    if (rc != SQLITE_DONE)
        failed(t, rc, "read the marks", e);
    sqlite3_finalize(s);
    if (rc != SQLITE_DONE) {
        free(list);
        return (int)e->code;
    }
    *out = list;
    *out_count = count;
    return 0;
}

/* ---- asking ---------------------------------------------------------------------------------- */

struct terms {
    struct buf *out;
    size_t count;
};

/* FTS5 gives each term as it stands in the table. A quote cannot be in one, but costs nothing. */
static int take_term(void *arg, int flags, const char *term, int len, int from, int to)
{
    struct terms *t = arg;

    (void)flags;
    (void)from;
    (void)to;
    if (t->count++ == LIMIT_SEARCH_TERMS)
        return SQLITE_TOOBIG;
    buf_add_text(t->out, t->count > 1 ? " OR \"" : "\"");
    for (int i = 0; i < len; i++) {
        buf_add(t->out, &term[i], 1);
        if (term[i] == '"')
            buf_add(t->out, "\"", 1);
    }
    buf_add(t->out, "\"", 1);
    return SQLITE_OK;
}

int textdb_terms(struct textdb *t, const char *text, size_t len, struct buf *out, struct err *e)
{
    struct terms terms = {.out = out};
    int rc = t->tokenizer.xTokenize(t->terms, &terms, FTS5_TOKENIZE_QUERY, text, (int)len,
                                    take_term);

    if (rc == SQLITE_TOOBIG) {
        err_set(e, ERR_TOO_LARGE, "text: more than %u terms", LIMIT_SEARCH_TERMS);
        err_at_field(e, "text");
        return err_at_limit(e, LIMIT_SEARCH_TERMS);
    }
    if (rc)
        return failed(t, plain(rc), "split the text", e);
    if (terms.count)
        buf_add(out, "", 1); /* NUL */
    return out->failed ? err_set(e, ERR_BUSY, "no memory for the terms") : 0;
}

static int is_stopped(void *stop)
{
    return stop_asked(stop);
}

int textdb_match(struct textdb *t, uint32_t corpus, const char *query, const struct stop *stop,
                 struct buf *out, struct err *e)
{
    sqlite3_stmt *s;
    char sql[160];
    int rc;

    snprintf(sql, sizeof sql,
             "SELECT rowid, bm25(t%" PRIu32 ") FROM t%" PRIu32 " WHERE t%" PRIu32
             " MATCH ?1 ORDER BY rowid", corpus, corpus, corpus);
    rc = plain(sqlite3_prepare_v2(t->db, sql, -1, &s, NULL));
    if (rc == SQLITE_ERROR)
        return err_set(e, ERR_CONFLICT, "text.sqlite: no table for corpus %" PRIu32, corpus);
    if (rc)
        return failed(t, rc, "search", e);
    sqlite3_bind_text(s, 1, query, -1, SQLITE_STATIC);
    sqlite3_progress_handler(t->db, ASK_EVERY, is_stopped, (void *)(uintptr_t)stop);
    while ((rc = plain(sqlite3_step(s))) == SQLITE_ROW) {
        struct textdb_hit hit = {(uint64_t)sqlite3_column_int64(s, 0),
                                 -sqlite3_column_double(s, 1)};

        buf_add(out, &hit, sizeof hit);
        if (out->failed)
            break;
    }
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        failed(t, rc, "search", e);
    sqlite3_progress_handler(t->db, 0, NULL, NULL);
    sqlite3_finalize(s);
    if (out->failed)
        return err_set(e, ERR_BUSY, "no memory for the matches");
    return rc == SQLITE_DONE ? 0 : (int)e->code;
}
