/* join.c - see join.h.
 *
 * A room is what room_step makes of three numbers: who waits, whether a call stands in the pool's
 * line, how many scans run.
 *
 *                    sit                    its turn                   over, nobody waits
 *   (no room)  ------------->  called  ------------------>  running  ------------------>  (no room)
 *                                 ^                            |
 *                                 +------- over, some wait ----+
 *
 * Lock order: the join's, then the pool's. A seat has one owner: its room while it waits, its batch
 * while it is scanned; a batch's seats are touched under the batch's own lock. */
#include "server/join.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/job.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/corpus.h"

/* Lists up to this long go together; longer ones with those of about their length, so that who asks
 * for ten does not pay for who asks for ten thousand. */
enum { DEPTH_SHORT = 128 };

struct room {
    struct room *next;
    /* what its seats have in common */
    const struct view *whole; /* held by each of them */
    struct scan scan;
    char *filter; /* owned, or NULL */
    unsigned depth;
    /* its state */
    struct join *join;
    struct join_seat *first, *last;
    bool called;
    unsigned running, most; /* scans at once */
};

struct join {
    pthread_mutex_t lock;
    struct room *rooms;
    struct pool *pool;
    struct metrics *metrics;
};

/* Those that one scan answers. */
struct batch {
    struct room *room;
    struct join_seat **seats; /* NULL: let go */
    size_t count, queries;
    struct join_seat *host; /* its view and lens are the scan's, so it stays to the end */
    struct arena arena;     /* what is the batch's: ends with the scan */
    pthread_mutex_t lock;   /* of seats, once the scan runs */
    _Atomic uint64_t swept_ns;
    _Atomic bool deserted; /* nobody is left who wants an answer */
};

struct join *join_new(struct pool *p, struct metrics *m)
{
    struct join *n = mem_new(1, sizeof *n);

    pthread_mutex_init(&n->lock, NULL);
    n->pool = p;
    n->metrics = m;
    return n;
}

void join_free(struct join *n)
{
    if (!n)
        return;
    require(!n->rooms);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

/* ---- rooms ----------------------------------------------------------------------------------- */

static unsigned depth_of(const struct engine_query *q)
{
    size_t deep = q->k > q->opponents ? q->k : q->opponents;

    return deep <= DEPTH_SHORT ? 0 : 64u - (unsigned)__builtin_clzll(deep);
}

static bool same_filter(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool room_fits(const struct room *r, const struct join_seat *s)
{
    return r->whole == s->whole && r->scan.lens == s->scan.lens &&
           !r->scan.lengths == !s->scan.lengths && r->scan.engine == s->scan.engine &&
           r->scan.precision == s->scan.precision && r->scan.delta == s->scan.delta &&
           r->depth == depth_of(&s->want) && same_filter(r->filter, s->filter);
}

/* A corpus of fewer chunks than there are readers cannot keep them all busy with one scan. */
static unsigned scans_at_once(const struct pool *p, const struct view *v)
{
    size_t readers = pool_readers(p), width = v->chunk_count ? v->chunk_count : 1;

    return width < readers ? (unsigned)(readers / width) : 1;
}

static struct room *room_of(struct join *n, const struct join_seat *s)
{
    struct room *r = n->rooms;

    while (r && !room_fits(r, s))
        r = r->next;
    if (r)
        return r;
    r = mem_new(1, sizeof *r);
    r->join = n;
    r->whole = s->whole;
    r->scan = s->scan;
    r->filter = s->filter ? mem_copy(s->filter, strlen(s->filter)) : NULL;
    r->depth = depth_of(&s->want);
    r->most = scans_at_once(n->pool, s->whole);
    r->next = n->rooms;
    n->rooms = r;
    return r;
}

static void room_free(struct room *r)
{
    struct room **at = &r->join->rooms;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    free(r->filter);
    free(r);
}

static void scan_room(void *room);

/* Lock held. What follows from what is there; the room may be gone afterwards. */
static void room_step(struct room *r)
{
    if (r->first && !r->called && r->running < r->most) {
        r->called = true;
        pool_call(r->join->pool, scan_room, r);
    } else if (!r->first && !r->called && !r->running) {
        room_free(r);
    }
}

static void sit(void *seat)
{
    struct join_seat *s = seat;
    struct join *n = s->join;
    struct room *r;

    pthread_mutex_lock(&n->lock);
    r = room_of(n, s);
    if (r->first)
        r->last->next = s;
    else
        r->first = s;
    r->last = s;
    room_step(r);
    pthread_mutex_unlock(&n->lock);
}

void join_sit(struct join *n, struct join_seat *s)
{
    s->join = n;
    s->next = NULL;
    s->err = ERR_INIT;
    s->since_ns = scan_now();
    s->job->park_arg = s;
    s->job->park = sit;
}

/* ---- who goes together ----------------------------------------------------------------------- */

static size_t hits_of(const struct join_seat *s)
{
    return s->want.count * (s->want.k + s->want.opponents);
}

static struct join_seat *room_take(struct room *r)
{
    struct join_seat *s = r->first;

    r->first = s->next;
    s->next = NULL;
    return s;
}

/* Lock held. From the front of the line as many as the bounds allow, one at least; as a list. */
static struct join_seat *take_seats(struct room *r, size_t *count, size_t *queries)
{
    struct join_seat *first = NULL, **last = &first;
    size_t hits = 0;

    *count = *queries = 0;
    while (r->first) { /* with nobody left in it the room's view may be gone */
        const struct join_seat *s = r->first;
        size_t dim = corpus_def(s->whole->corpus)->dim;

        if (first && (*queries + s->want.count > LIMIT_JOIN_QUERIES ||
                      (*queries + s->want.count) * dim * sizeof(float) > LIMIT_JOIN_BYTES ||
                      hits + hits_of(s) > LIMIT_JOIN_HITS))
            break;
        hits += hits_of(s);
        *queries += s->want.count;
        *count += 1;
        *last = room_take(r);
        last = &(*last)->next;
    }
    return first;
}

/* The one whose time is up last: nobody else's deadline has to wait for the scan's end. */
static struct join_seat *host_of(const struct batch *b)
{
    struct join_seat *host = b->seats[0];

    for (size_t i = 1; i < b->count; i++)
        if (host->job->deadline_ns && (!b->seats[i]->job->deadline_ns ||
                                       b->seats[i]->job->deadline_ns > host->job->deadline_ns))
            host = b->seats[i];
    return host;
}

/* ---- while it is scanned --------------------------------------------------------------------- */

/* Not more often: between small chunks it would cost more than they do. */
static const uint64_t SWEEP_NS = UINT64_C(1000000);

/* Takes those out of the line whose time is up; a list. */
static struct join_seat *leavers(struct room *r)
{
    struct join_seat *gone = NULL, **at = &r->first, *last = NULL;

    pthread_mutex_lock(&r->join->lock);
    while (*at) {
        struct join_seat *s = *at;

        if (stop_asked(&s->stop)) {
            *at = s->next;
            s->next = gone;
            gone = s;
        } else {
            last = s;
            at = &s->next;
        }
    }
    r->last = last;
    pthread_mutex_unlock(&r->join->lock);
    return gone;
}

/* Answers at once, on this thread: readers may all be scanning for long. */
static void let_go(struct join *n, struct join_seat *s)
{
    pool_run(n->pool, s->job);
}

/* Batch lock held. */
static void sweep(struct batch *b)
{
    bool left = !stop_asked(&b->host->stop);

    for (size_t i = 0; i < b->count; i++) {
        struct join_seat *s = b->seats[i];

        if (!s || s == b->host)
            continue;
        if (stop_asked(&s->stop)) {
            b->seats[i] = NULL;
            let_go(b->room->join, s);
        } else {
            left = true;
        }
    }
    if (!left)
        atomic_store(&b->deserted, true);
}

/* Between chunks, any thread of the scan. */
static bool batch_deserted(void *arg)
{
    struct batch *b = arg;
    uint64_t now = scan_now(), last = atomic_load(&b->swept_ns);

    if (now - last > SWEEP_NS && atomic_compare_exchange_strong(&b->swept_ns, &last, now)) {
        struct join_seat *gone = leavers(b->room), *next;

        for (; gone; gone = next) {
            next = gone->next;
            let_go(b->room->join, gone);
        }
        pthread_mutex_lock(&b->lock);
        sweep(b);
        pthread_mutex_unlock(&b->lock);
    }
    return atomic_load(&b->deserted);
}

/* ---- the scan -------------------------------------------------------------------------------- */

static struct scan scan_of(const struct batch *b, const struct stop *stop)
{
    struct scan scan = b->host->scan;

    scan.pool = b->room->join->pool;
    scan.stop = stop;
    return scan;
}

static void count_scan(const struct batch *b, size_t requests, size_t queries,
                       const struct scan_answer *a)
{
    struct metrics *m = b->room->join->metrics;

    if (!m)
        return;
    metrics_scan(m, requests);
    metrics_add(m, METRIC_QUERIES, queries);
    metrics_add(m, METRIC_ROWS_SCANNED, a->work.rows_proposed);
    metrics_add(m, METRIC_ROWS_EXACT, a->work.rows_exact);
    metrics_add(m, METRIC_ROWS_BITS, a->work.rows_bits);
    metrics_add(m, METRIC_ROWS_SIX, a->work.rows_six);
    metrics_add(m, METRIC_ROWS_LOW, a->work.rows_low);
    metrics_add(m, METRIC_SCAN_NS, a->scan_ns);
}

/* One request alone: its own vectors, its own arena. */
static void scan_alone(struct batch *b, struct join_seat *s, const struct stop *stop)
{
    struct scan scan = s->scan;

    scan.pool = b->room->join->pool;
    scan.stop = stop;
    s->requests = 1;
    s->queries = s->want.count;
    if (!scan_search(&scan, &s->want, &s->job->arena, &s->answer, &s->err))
        count_scan(b, 1, s->queries, &s->answer);
}

/* All queries side by side, each with its own depths. */
static int gather(struct batch *b, struct scan *scan, struct engine_query *all, struct err *e)
{
    size_t dim = corpus_def(scan->view->corpus)->dim, at = 0;
    size_t *each_k = arena_big(&b->arena, b->queries, sizeof *each_k);
    size_t *each_opponents = arena_big(&b->arena, b->queries, sizeof *each_opponents);
    double *lengths = arena_big(&b->arena, b->queries, sizeof *lengths);
    float *vectors = arena_big(&b->arena, b->queries * dim, sizeof *vectors);

    if (!each_k || !each_opponents || !lengths || !vectors)
        return err_set(e, ERR_BUSY, "no memory for %zu queries of %zu", b->queries, dim);
    for (size_t i = 0; i < b->count; i++) {
        const struct join_seat *s = b->seats[i];

        memcpy(vectors + at * dim, s->want.vectors, s->want.count * dim * sizeof *vectors);
        if (scan->lengths)
            memcpy(lengths + at, s->scan.lengths, s->want.count * sizeof *lengths);
        for (size_t q = 0; q < s->want.count; q++, at++) {
            each_k[at] = s->want.k;
            each_opponents[at] = s->want.opponents;
        }
        all->k = s->want.k > all->k ? s->want.k : all->k;
        all->opponents = s->want.opponents > all->opponents ? s->want.opponents : all->opponents;
    }
    all->vectors = vectors;
    all->count = b->queries;
    scan->each_k = each_k;
    scan->each_opponents = each_opponents;
    scan->lengths = scan->lengths ? lengths : NULL;
    return 0;
}

static struct topk *copy_lists(struct arena *a, const struct topk *from, size_t count)
{
    struct topk *to = arena_new(a, count, sizeof *to);

    for (size_t i = 0; i < count; i++) {
        to[i] = from[i];
        to[i].hits = arena_new(a, from[i].count, sizeof *to[i].hits); /* LIMIT_JOIN_HITS in all */
        memcpy(to[i].hits, from[i].hits, from[i].count * sizeof *to[i].hits);
    }
    return to;
}

/* Each its own part of the answer. */
static void deal(struct batch *b, const struct scan_answer *all, const size_t *first)
{
    for (size_t i = 0; i < b->count; i++) {
        struct join_seat *s = b->seats[i];

        if (!s)
            continue;
        s->answer = *all;
        s->answer.pro = copy_lists(&s->job->arena, all->pro + first[i], s->want.count);
        s->answer.opp = copy_lists(&s->job->arena, all->opp + first[i], s->want.count);
    }
}

static void fail_all(struct batch *b, const struct err *e)
{
    for (size_t i = 0; i < b->count; i++)
        if (b->seats[i])
            b->seats[i]->err = *e;
}

/* No memory for all at once may still be enough for one after the other. */
static void one_by_one(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++)
        if (b->seats[i])
            scan_alone(b, b->seats[i], &b->seats[i]->stop);
}

static void scan_together(struct batch *b, const struct stop *stop)
{
    struct scan scan = scan_of(b, stop);
    struct engine_query all = {0};
    size_t *first = arena_new(&b->arena, b->count, sizeof *first);
    struct scan_answer answer;
    struct err e = ERR_INIT;
    int code = gather(b, &scan, &all, &e);

    for (size_t i = 1; i < b->count; i++)
        first[i] = first[i - 1] + b->seats[i - 1]->want.count;
    if (!code)
        code = scan_search(&scan, &all, &b->arena, &answer, &e);
    if (code == ERR_BUSY) {
        one_by_one(b);
    } else if (code) {
        fail_all(b, &e);
    } else {
        count_scan(b, b->count, b->queries, &answer);
        deal(b, &answer, first);
    }
}

static void batch_begin(struct batch *b, struct join_seat *list, uint64_t now)
{
    struct metrics *m = b->room->join->metrics;

    b->seats = arena_new(&b->arena, b->count, sizeof *b->seats);
    for (size_t i = 0; list; list = list->next) {
        list->requests = b->count;
        list->queries = b->queries;
        list->waited_ns = now - list->since_ns;
        if (m)
            metrics_add(m, METRIC_SCAN_WAIT_NS, list->waited_ns);
        b->seats[i++] = list;
    }
    b->host = host_of(b);
    atomic_init(&b->swept_ns, 0); /* those who left while they waited: before the first chunk */
    pthread_mutex_init(&b->lock, NULL);
}

static void batch_end(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++)
        if (b->seats[i])
            pool_resume(b->room->join->pool, b->seats[i]->job);
    pthread_mutex_destroy(&b->lock);
    arena_free(&b->arena);
}

/* The room's turn: on a reader, from the pool's line. */
static void scan_room(void *room)
{
    struct room *r = room;
    struct join *n = r->join;
    struct batch b = {.room = r};
    struct stop stop = {batch_deserted, &b};
    struct join_seat *list;

    pthread_mutex_lock(&n->lock);
    r->called = false;
    r->running++;
    list = take_seats(r, &b.count, &b.queries);
    room_step(r);
    pthread_mutex_unlock(&n->lock);
    if (list) {
        batch_begin(&b, list, scan_now());
        if (b.count == 1)
            scan_alone(&b, list, &stop);
        else
            scan_together(&b, &stop);
        batch_end(&b);
    }
    pthread_mutex_lock(&n->lock);
    r->running--;
    room_step(r);
    pthread_mutex_unlock(&n->lock);
}
