/* bm25.c - see bm25.h.
 *
 * Locks, in the order they may be taken: `write` (one indexes at a time, by small steps, so that a
 * search which has to catch up never waits long behind the background), `gate` (searches read the
 * file under it; throwing the file away takes it alone), `idle` (connections that wait). */
#include "server/bm25.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "server/limits.h"
#include "server/log.h"
#include "server/scan.h"
#include "server/textdb.h"
#include "server/thread.h"
#include "storage/base/check.h"
#include "storage/store.h"

enum {
    PAGE_ROWS = 64,         /* of texts read at once: at most 64 MiB */
    STEP_ROWS = 512,        /* one transaction */
    STEP_BYTES = 1 << 20,
    IDLE_CONNECTIONS = 8,
    ATTEMPTS = 3,           /* the file is made again at most so often for one search */
    TICK_MS = 500,
    STALE_SLACK = 1024,     /* deleted texts that are not worth a new index */
    LOWEST_PRIORITY = 19,
};

struct bm25 {
    struct store *store;
    char *path;
    pthread_mutex_t write;
    struct textdb *writer; /* under `write`; NULL: not open */
    struct textdb_mark *marks;
    size_t mark_count;
    _Atomic bool damaged; /* throw it away before it is used again */
    pthread_rwlock_t gate;
    pthread_mutex_t idle;
    struct textdb *connections[IDLE_CONNECTIONS];
    size_t connection_count;
    pthread_t thread;
    pthread_mutex_t lock; /* of stopping */
    pthread_cond_t wake;
    _Atomic bool stopping;
};

/* ---- the file -------------------------------------------------------------------------------- */

/* Under `write`. */
static void close_writer(struct bm25 *b)
{
    textdb_close(b->writer);
    free(b->marks);
    b->writer = NULL;
    b->marks = NULL;
    b->mark_count = 0;
}

static void close_idle(struct bm25 *b)
{
    pthread_mutex_lock(&b->idle);
    while (b->connection_count)
        textdb_close(b->connections[--b->connection_count]);
    pthread_mutex_unlock(&b->idle);
}

/* Under `write`. */
static void throw_away(struct bm25 *b)
{
    pthread_rwlock_wrlock(&b->gate);
    close_writer(b);
    close_idle(b);
    textdb_remove(b->path);
    atomic_store(&b->damaged, false);
    pthread_rwlock_unlock(&b->gate);
}

/* Notes damage, so that whoever opens the file next begins anew. */
static void note_damage(struct bm25 *b, const struct err *e)
{
    if (!atomic_exchange(&b->damaged, true))
        log_note(LOG_WARN, "text index", "made again: %s", e->text);
}

static int open_marked(struct bm25 *b, struct err *e)
{
    int code = textdb_open(b->path, true, &b->writer, e);

    if (!code)
        code = textdb_marks(b->writer, &b->marks, &b->mark_count, e);
    if (code)
        close_writer(b);
    return code;
}

/* Under `write`: the writer is open, on a file that seems sound. */
static int open_writer(struct bm25 *b, struct err *e)
{
    if (atomic_load(&b->damaged))
        throw_away(b);
    if (b->writer || !open_marked(b, e))
        return 0;
    if (e->code != ERR_CORRUPT)
        return (int)e->code;
    note_damage(b, e);
    throw_away(b);
    err_clear(e);
    return open_marked(b, e);
}

/* Under a read lock of `gate`. */
static int take_connection(struct bm25 *b, struct textdb **out, struct err *e)
{
    struct textdb *db = NULL;

    pthread_mutex_lock(&b->idle);
    if (b->connection_count)
        db = b->connections[--b->connection_count];
    pthread_mutex_unlock(&b->idle);
    if (!db && textdb_open(b->path, false, &db, e))
        return (int)e->code;
    *out = db;
    return 0;
}

static void give_connection(struct bm25 *b, struct textdb *db)
{
    pthread_mutex_lock(&b->idle);
    if (b->connection_count < IDLE_CONNECTIONS) {
        b->connections[b->connection_count++] = db;
        db = NULL;
    }
    pthread_mutex_unlock(&b->idle);
    textdb_close(db);
}

/* ---- indexing -------------------------------------------------------------------------------- */

static struct textdb_mark *find_mark(struct bm25 *b, uint32_t corpus)
{
    for (size_t i = 0; i < b->mark_count; i++)
        if (b->marks[i].corpus == corpus)
            return &b->marks[i];
    return NULL;
}

/* One past the last sequence of a view. */
static uint64_t end_of(const struct view *v)
{
    return v->chunk_count ? v->chunks[v->chunk_count - 1].last_sequence + 1 : 0;
}

/* More than a quarter of what is indexed is gone, or the marks are of another past of this store (a
 * ledger that was put back). */
static bool is_stale(const struct textdb_mark *mark, const struct view *v, uint64_t next_sequence)
{
    return mark->next > next_sequence || mark->texts > v->live + v->live / 3 + STALE_SLACK;
}

static int begin_corpus(struct bm25 *b, uint32_t corpus, struct textdb_mark **out, struct err *e)
{
    struct textdb_mark *mark = find_mark(b, corpus), *grown;
    int code = textdb_begin(b->writer, e);

    if (!code)
        code = textdb_drop(b->writer, corpus, e);
    if (!code)
        code = textdb_create(b->writer, corpus, e);
    if (!code)
        code = textdb_commit(b->writer, e);
    if (code) {
        textdb_rollback(b->writer);
        return code;
    }
    if (!mark) {
        grown = reallocarray(b->marks, b->mark_count + 1, sizeof *grown);
        if (!grown)
            return err_set(e, ERR_BUSY, "no memory for %zu marks", b->mark_count + 1);
        b->marks = grown;
        mark = &b->marks[b->mark_count++];
    }
    *mark = (struct textdb_mark){.corpus = corpus};
    *out = mark;
    return 0;
}

/* The texts of up to STEP_ROWS examples from mark->next on, in a transaction; moves the mark. */
static int add_texts(struct bm25 *b, const struct view *v, struct textdb_mark *mark, struct err *e)
{
    size_t rows = 0, bytes = 0, count = PAGE_ROWS;
    int code = 0;

    while (!code && count == PAGE_ROWS && rows < STEP_ROWS && bytes < STEP_BYTES) {
        struct arena page = {0};
        struct example *list = NULL;

        code = view_page(v, mark->next - 1, mark->next == 0, PAGE_ROWS, &page, &list, &count, e);
        for (size_t i = 0; !code && i < count; i++) {
            if (list[i].text) {
                code = textdb_add(b->writer, mark->corpus, list[i].sequence, list[i].text,
                                  list[i].text_len, e);
                mark->texts++;
                bytes += list[i].text_len;
            }
            mark->next = list[i].sequence + 1;
        }
        rows += count;
        arena_free(&page);
    }
    if (!code && count < PAGE_ROWS)
        mark->next = end_of(v);
    return code;
}

/* One step for one corpus, under `write`; *out_next is how far it is then. */
static int index_step(struct bm25 *b, struct corpus *c, const struct view *v, uint64_t *out_next,
                      struct err *e)
{
    struct textdb_mark *mark, moved;
    struct corpus_stats stats;
    int code = open_writer(b, e);

    if (code)
        return code;
    corpus_stats(c, &stats);
    mark = find_mark(b, corpus_id(c));
    if (!mark || is_stale(mark, v, stats.next_sequence))
        code = begin_corpus(b, corpus_id(c), &mark, e);
    if (code || mark->next >= end_of(v)) {
        *out_next = code ? 0 : mark->next;
        return code;
    }
    moved = *mark;
    code = textdb_begin(b->writer, e);
    if (!code)
        code = add_texts(b, v, &moved, e);
    if (!code)
        code = textdb_mark(b->writer, &moved, e);
    if (!code)
        code = textdb_commit(b->writer, e);
    if (code) {
        textdb_rollback(b->writer);
        return code;
    }
    *mark = moved;
    *out_next = mark->next;
    return 0;
}

/* The same with the lock, and damage noted. Damage of the store itself, met while its texts are
 * read, must not be taken for damage of the file: that one names itself. */
static int step(struct bm25 *b, struct corpus *c, const struct view *v, uint64_t *out_next,
                struct err *e)
{
    int code;

    pthread_mutex_lock(&b->write);
    code = index_step(b, c, v, out_next, e);
    if (code == ERR_CORRUPT && strncmp(e->text, "text.sqlite", 11) == 0)
        note_damage(b, e);
    pthread_mutex_unlock(&b->write);
    return code;
}

/* ---- the background -------------------------------------------------------------------------- */

static void release_list(struct corpus **list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        corpus_release(list[i]);
    free(list);
}

static bool is_listed(struct corpus *const *list, size_t count, uint32_t id)
{
    for (size_t i = 0; i < count; i++)
        if (corpus_id(list[i]) == id)
            return true;
    return false;
}

/* Tables of corpora that are no more. The list is made under the lock: a corpus made later has no
 * mark yet. */
static void forget_dropped(struct bm25 *b)
{
    struct err e = ERR_INIT;
    struct corpus **list = NULL;
    size_t count;

    pthread_mutex_lock(&b->write);
    count = store_corpus_list(b->store, &list);
    for (size_t i = 0; b->writer && i < b->mark_count; i++) {
        uint32_t id = b->marks[i].corpus;

        if (is_listed(list, count, id))
            continue;
        if (textdb_begin(b->writer, &e) || textdb_drop(b->writer, id, &e) ||
            textdb_commit(b->writer, &e)) {
            textdb_rollback(b->writer);
            note_damage(b, &e);
            break;
        }
        b->marks[i--] = b->marks[--b->mark_count];
    }
    pthread_mutex_unlock(&b->write);
    release_list(list, count);
}

/* Brings one corpus up to date, giving way to searches after every step. */
static void follow(struct bm25 *b, struct corpus *c)
{
    const struct view *v = corpus_view_sound(c, true);
    uint64_t next = 0;
    struct err e = ERR_INIT;

    while (v->live && next < end_of(v) && !atomic_load(&b->stopping))
        if (step(b, c, v, &next, &e))
            break; /* said by note_damage, or by the search that meets it */
    view_release(v);
}

static bool wait_tick(struct bm25 *b)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)TICK_MS * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&b->lock);
    if (!atomic_load(&b->stopping))
        pthread_cond_timedwait(&b->wake, &b->lock, &until);
    pthread_mutex_unlock(&b->lock);
    return !atomic_load(&b->stopping);
}

static void *background(void *arg)
{
    struct bm25 *b = arg;

    setpriority(PRIO_PROCESS, (id_t)gettid(), LOWEST_PRIORITY);
    while (wait_tick(b)) {
        struct corpus **list = NULL;
        size_t count = store_corpus_list(b->store, &list);

        for (size_t i = 0; i < count; i++)
            follow(b, list[i]);
        release_list(list, count);
        forget_dropped(b);
    }
    return NULL;
}

struct bm25 *bm25_new(struct store *store)
{
    struct bm25 *b = mem_new(1, sizeof *b);
    pthread_condattr_t steady; /* a wall clock set back would let it sleep for years */
    size_t room = strlen(store_dir(store)) + sizeof "/text.sqlite";

    b->store = store;
    b->path = mem_new(room, 1);
    snprintf(b->path, room, "%s/text.sqlite", store_dir(store));
    require(pthread_mutex_init(&b->write, NULL) == 0);
    require(pthread_rwlock_init(&b->gate, NULL) == 0);
    require(pthread_mutex_init(&b->idle, NULL) == 0);
    require(pthread_mutex_init(&b->lock, NULL) == 0);
    require(pthread_condattr_init(&steady) == 0);
    require(pthread_condattr_setclock(&steady, CLOCK_MONOTONIC) == 0);
    require(pthread_cond_init(&b->wake, &steady) == 0);
    pthread_condattr_destroy(&steady);
    thread_start(&b->thread, "text-index", background, b);
    return b;
}

void bm25_free(struct bm25 *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    atomic_store(&b->stopping, true);
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    close_idle(b);
    close_writer(b); /* last: SQLite then folds its log into the file */
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
    pthread_mutex_destroy(&b->idle);
    pthread_rwlock_destroy(&b->gate);
    pthread_mutex_destroy(&b->write);
    free(b->path);
    free(b);
}

/* ---- search ---------------------------------------------------------------------------------- */

/* Until everything of the view is in, or the time is over. */
static int catch_up(struct bm25 *b, const struct bm25_query *q, uint64_t until, uint64_t *out_next,
                    struct err *e)
{
    int code;

    for (;;) {
        code = step(b, q->corpus, q->whole, out_next, e);
        if (code || *out_next >= end_of(q->whole) || scan_now() > until)
            return code;
        if (stop_asked(q->stop))
            return err_set(e, ERR_CANCELLED, "stopped while the text index caught up");
    }
}

/* All matches there are, in ascending sequence. */
static int match(struct bm25 *b, const struct bm25_query *q, struct buf *hits, struct err *e)
{
    struct buf query = {0};
    struct textdb *db = NULL;
    int code;

    pthread_rwlock_rdlock(&b->gate);
    code = take_connection(b, &db, e);
    if (!code)
        code = textdb_terms(db, q->text, q->len, &query, e);
    if (!code && query.len)
        code = textdb_match(db, corpus_id(q->corpus), (const char *)query.data, q->stop, hits, e);
    if (code && db)
        textdb_close(db);
    else if (db)
        give_connection(b, db);
    pthread_rwlock_unlock(&b->gate);
    buf_free(&query);
    if (code == ERR_CORRUPT)
        note_damage(b, e);
    return code;
}

/* The first row of an open block from `row` on whose sequence is not below. */
static uint32_t row_from(const struct block *rows, uint32_t row, uint32_t end, uint64_t sequence)
{
    while (row < end) {
        uint32_t middle = row + (end - row) / 2;

        if (block_row_sequence(rows, middle) < sequence)
            row = middle + 1;
        else
            end = middle;
    }
    return row;
}

/* The hits that lie in one chunk: offered when they are live rows of it. Returns how many were
 * passed. */
static int offer_chunk(const struct view *v, size_t chunk, const struct textdb_hit *hits,
                       size_t count, size_t *passed, struct bm25_answer *out, struct err *e)
{
    const struct view_chunk *c = &v->chunks[chunk];
    struct block rows;
    uint32_t row = 0;
    size_t i = 0;
    int code;

    while (i < count && hits[i].sequence < c->first_sequence)
        i++; /* lies between chunks: purged, or not in this part */
    if (i < count && hits[i].sequence <= c->last_sequence && c->dead_count < c->rows) {
        code = block_open(c, BLOCK_ROWS, &rows, e);
        if (code)
            return code;
        for (; i < count && hits[i].sequence <= c->last_sequence; i++) {
            row = row_from(&rows, row, c->rows, hits[i].sequence);
            if (row == c->rows || block_row_sequence(&rows, row) != hits[i].sequence ||
                view_row_dead(c, row))
                continue;
            out->matches++;
            topk_offer(&out->hits, &(struct topk_hit){.score = hits[i].score,
                                                      .sequence = hits[i].sequence,
                                                      .chunk = (uint32_t)chunk,
                                                      .row = row});
        }
        block_close(&rows);
    }
    while (i < count && hits[i].sequence <= c->last_sequence)
        i++;
    *passed = i;
    return 0;
}

/* Live examples of the view at or past `next`. */
static int count_missing(const struct view *v, uint64_t next, uint64_t *out, struct err *e)
{
    uint64_t missing = 0;

    for (size_t i = v->chunk_count; i-- > 0 && v->chunks[i].last_sequence >= next;) {
        const struct view_chunk *c = &v->chunks[i];
        struct block rows;

        if (c->first_sequence >= next) {
            missing += scan_live(c);
            continue;
        }
        if (block_open(c, BLOCK_ROWS, &rows, e))
            return (int)e->code;
        for (uint32_t row = row_from(&rows, 0, c->rows, next); row < c->rows; row++)
            missing += !view_row_dead(c, row);
        block_close(&rows);
    }
    *out = missing;
    return 0;
}

static int rank(const struct bm25_query *q, const struct buf *found, struct arena *a,
                struct bm25_answer *out, struct err *e)
{
    const struct textdb_hit *hits = (const void *)found->data;
    size_t count = found->len / sizeof *hits, k = q->k < q->part->live ? q->k : q->part->live;
    struct topk_hit *slots = arena_big(a, k ? k : 1, sizeof *slots);
    int code = 0;

    if (!slots)
        return err_set(e, ERR_BUSY, "no memory for a list of %zu", k);
    topk_init(&out->hits, TOPK_HIGHEST, k, slots);
    for (size_t i = 0; !code && count && i < q->part->chunk_count; i++) {
        size_t passed = 0;

        if (stop_asked(q->stop))
            return err_set(e, ERR_CANCELLED, "stopped while ranking");
        code = offer_chunk(q->part, i, hits, count, &passed, out, e);
        hits += passed;
        count -= passed;
    }
    topk_sort(&out->hits);
    return code;
}

/* The table was missing: with a mark that is damage; without, the corpus was dropped meanwhile, and
 * the next attempt makes a table for those who still look at it. */
static void note_missing(struct bm25 *b, uint32_t corpus, const struct err *e)
{
    pthread_mutex_lock(&b->write);
    if (find_mark(b, corpus))
        note_damage(b, e);
    pthread_mutex_unlock(&b->write);
}

static int find_all(struct bm25 *b, const struct bm25_query *q, struct buf *found, uint64_t *next,
                    struct err *e)
{
    uint64_t until = scan_now() + (uint64_t)LIMIT_SEARCH_WAIT_MS * 1000000;
    int code = 0;

    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        err_clear(e);
        found->len = 0;
        code = catch_up(b, q, until, next, e);
        if (!code)
            code = match(b, q, found, e);
        if (code == ERR_CONFLICT)
            note_missing(b, corpus_id(q->corpus), e);
        else if (code != ERR_CORRUPT || !atomic_load(&b->damaged))
            return code;
    }
    /* the store is sound: it is the disk under the file */
    return err_set(e, ERR_IO, "text.sqlite was made anew and could still not be read");
}

int bm25_search(struct bm25 *b, const struct bm25_query *q, struct arena *a,
                struct bm25_answer *out, struct err *e)
{
    struct bm25_answer answer = {.matches = 0};
    struct buf found = {0};
    int code = find_all(b, q, &found, &answer.indexed_through, e);

    if (!code)
        code = rank(q, &found, a, &answer, e);
    if (!code)
        code = count_missing(q->part, answer.indexed_through, &answer.missing, e);
    buf_free(&found);
    if (!code)
        *out = answer;
    return code;
}
