/* api_scores.c - POST /v1/corpora/{c}/scores: every live example's score, as a streamed safetensors
 * file.
 *
 * The view is fixed at the start, so lengths are known: one cheap pass over the ids, then scores
 * by tiles of bounded memory. The first tile is computed before the first byte leaves: with few
 * enough scores that is all of them, and damage is still a proper error; later, it cuts the
 * stream. */
#include "server/api.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/limits.h"
#include "server/metrics.h"
#include "server/partial.h"
#include "server/queries.h"
#include "server/runtime.h"
#include "server/safetensors.h"
#include "server/scan.h"
#include "storage/base/check.h"

#define TILE_BYTES (64u << 20) /* of scores in memory, as float64 */
#define SEND_BYTES (256u << 10)

struct scores {
    bool wide;          /* F64 */
    const char *filter; /* NULL: everything */
    const char *task;   /* NULL: none */
    bool dot;           /* scores are not normalised */
    struct partial partial;
    /* work's own */
    struct corpus *corpus;
    const struct view *whole; /* held; what borrows from it ends first */
    const struct view *view;  /* the part of it that is asked */
    struct queries queries;
    struct api_task through;
    uint64_t ids_bytes;
    bool begun;
    struct buf out; /* waits to be sent */
};

static int check_dtype(const char *name, bool *wide, struct err *e)
{
    if (strcmp(name, "f32") == 0 || strcmp(name, "f64") == 0) {
        *wide = strcmp(name, "f64") == 0;
        return 0;
    }
    err_set(e, ERR_INVALID, "dtype \"%.32s\": f32 or f64", name);
    return err_at_field(e, "dtype");
}

int scores_parse(struct job *j)
{
    static const char *const names[] = {"dtype", "filter", "task", "score", NULL};
    struct scores *s = arena_new(&j->arena, 1, sizeof *s);
    const char *dtype;
    int code = job_query_only(j, names);

    j->state = s;
    if (!code)
        code = api_check_name(j, "corpus", j->path[0]);
    s->filter = job_query(j, "filter");
    s->task = job_query(j, "task");
    dtype = job_query(j, "dtype");
    if (!code && dtype)
        code = check_dtype(dtype, &s->wide, &j->err);
    if (!code)
        code = api_score(job_query(j, "score"), &s->dot, &j->err);
    return code;
}

/* ---- sending --------------------------------------------------------------------------------- */

static int flush(struct job *j, struct scores *s)
{
    int code;

    if (s->out.failed)
        return err_set(&j->err, ERR_BUSY, "no memory for the stream");
    code = s->out.len ? job_stream(j, s->out.data, s->out.len) : 0;
    s->out.len = 0;
    return code;
}

static int put(struct job *j, struct scores *s, const void *bytes, size_t len)
{
    buf_add(&s->out, bytes, len);
    return s->out.len >= SEND_BYTES || s->out.failed ? flush(j, s) : 0;
}

/* ---- ids and sequences ----------------------------------------------------------------------- */

/* Calls `take` for every live row, in ingest order. What it left in s->out is sent after the block
 * is closed: a slow client must not hold a read transaction. */
static int each_row(struct job *j, struct scores *s,
                    void (*take)(struct scores *s, const struct block *rows, uint32_t row))
{
    int code = 0;

    for (size_t i = 0; !code && i < s->view->chunk_count; i++) {
        const struct view_chunk *chunk = &s->view->chunks[i];
        struct block rows;

        if (job_stopped(j))
            return (int)j->err.code;
        if (!scan_live(chunk))
            continue;
        code = block_open(chunk, BLOCK_ROWS, &rows, &j->err);
        if (code)
            return code;
        for (uint32_t row = 0; row < chunk->rows; row++)
            if (!view_row_dead(chunk, row))
                take(s, &rows, row);
        block_close(&rows);
        code = put(j, s, NULL, 0);
    }
    return code;
}

static void measure_id(struct scores *s, const struct block *rows, uint32_t row)
{
    size_t len;

    block_row_id(rows, row, &len);
    s->ids_bytes += len + 1;
}

static void put_sequence(struct scores *s, const struct block *rows, uint32_t row)
{
    unsigned char le[8];

    bytes_put_le64(le, block_row_sequence(rows, row));
    buf_add(&s->out, le, sizeof le);
}

static void put_id(struct scores *s, const struct block *rows, uint32_t row)
{
    size_t len;
    const char *id = block_row_id(rows, row, &len);

    buf_add(&s->out, id, len);
    buf_add(&s->out, "\n", 1);
}

/* ---- the file -------------------------------------------------------------------------------- */

/* In descending alignment, so that every tensor lies on its own. */
static int begin(struct job *j, struct scores *s)
{
    const struct corpus_def *def = corpus_def(s->corpus);
    char fingerprint[2 * STORE_FINGERPRINT_BYTES + 1];
    char *generation = arena_format(&j->arena, "%" PRIu64, s->view->generation);
    size_t n = s->view->live, q = s->queries.count, width = s->wide ? 8 : 4;
    struct safetensors_spec specs[] = {
        {"sequences", "I64", 1, {n}, n * 8},
        {"scores", s->wide ? "F64" : "F32", 2, {q, n}, q * n * width},
        {"ids", "U8", 1, {s->ids_bytes}, s->ids_bytes},
    };
    const struct view_damage *damage = s->whole->damage;
    char *damaged = arena_format(&j->arena, "%" PRIu64, damage ? damage->examples : 0);
    struct safetensors_note notes[] = {
        {"corpus", def->name, strlen(def->name)},
        {"fingerprint", fingerprint, 2 * STORE_FINGERPRINT_BYTES},
        {"generation", generation, strlen(generation)},
        {"damaged", damaged, strlen(damaged)}, /* last: a whole answer goes without */
    };
    size_t note_count = damage ? 4 : 3;
    uint64_t total = specs[0].bytes + specs[1].bytes + specs[2].bytes;
    int code;

    bytes_hex(def->fingerprint, STORE_FINGERPRINT_BYTES, fingerprint);
    safetensors_header(&s->out, specs, 3, notes, note_count);
    if (s->out.failed)
        return err_set(&j->err, ERR_BUSY, "no memory for the stream");
    code = job_stream_begin(j, "application/vnd.safetensors", s->out.len + total);
    s->begun = true;
    /* How long the rest takes is the client's link: one that stands still is cut by the transport
     * (--write-ms), one that moves may finish. */
    j->deadline_ns = 0;
    return code ? code : each_row(j, s, put_sequence);
}

static int send_row(struct job *j, struct scores *s, const double *scores, size_t count)
{
    int code = 0;

    for (size_t i = 0; !code && i < count; i++) {
        float narrow = (float)scores[i];

        code = s->wide ? put(j, s, &scores[i], sizeof scores[i])
                       : put(j, s, &narrow, sizeof narrow);
    }
    return code;
}

/* Queries q .. q+count-1 against chunks first .. end-1, `rows` of them live, scored and sent. */
static int tile(struct job *j, struct scores *s, struct scan_scores *want, size_t q, size_t rows)
{
    struct stop stop = api_stop(j);
    struct scan scan = {
        .pool = j->rt->pool, .flat = j->rt->flat, .view = s->view, .stop = &stop,
        .lens = s->through.lens, .lengths = s->dot ? s->queries.lengths + q : NULL};
    struct arena own = {0};
    uint64_t began = scan_now();
    int code;

    want->vectors = s->queries.vectors + q * corpus_def(s->corpus)->dim;
    want->stride = rows;
    /* At most TILE_BYTES, or one chunk. */
    want->out = arena_big(&own, want->count * rows, sizeof *want->out);
    if (want->out)
        code = api_stopped(j, scan_score(&scan, want, &own, &j->err));
    else
        code = err_set(&j->err, ERR_BUSY, "no memory for %zu x %zu scores", want->count, rows);
    metrics_add(j->rt->metrics, METRIC_SCAN_NS, scan_now() - began);
    metrics_add(j->rt->metrics, METRIC_ROWS_EXACT, want->count * rows);
    if (!code && !s->begun)
        code = begin(j, s);
    for (size_t i = 0; !code && i < want->count; i++)
        code = send_row(j, s, want->out + i * rows, rows);
    arena_free(&own);
    return code;
}

/* Chunks from `first` whose live rows make at most `budget` scores, at least one chunk. */
static size_t segment(const struct view *v, size_t first, size_t budget, size_t *out_rows)
{
    size_t end = first, rows = 0;

    while (end < v->chunk_count &&
           (end == first || rows + scan_live(&v->chunks[end]) <= budget))
        rows += scan_live(&v->chunks[end++]);
    *out_rows = rows;
    return end;
}

/* Several queries at a time over the whole view; or, where one row of scores is already too
 * much, one query at a time over a part of it: both leave in the order of [q, n]. */
static int send_scores(struct job *j, struct scores *s)
{
    size_t budget = TILE_BYTES / sizeof(double), n = s->view->live;
    size_t together = n && n <= budget ? budget / n : 1;
    int code = 0;

    for (size_t q = 0; !code && q < s->queries.count; q += together) {
        size_t left = s->queries.count - q;
        struct scan_scores want = {.count = left < together ? left : together};

        while (!code && want.first < s->view->chunk_count) {
            size_t rows;

            want.end = segment(s->view, want.first, budget / together, &rows);
            code = tile(j, s, &want, q, rows);
            want.first = want.end;
        }
    }
    if (!code && !s->begun)
        code = begin(j, s);
    return code;
}

/* Members of a JSON body override parameters. */
static int read_options(struct scores *s, struct err *e)
{
    const json_t *options = s->queries.options;
    const char *dtype = s->wide ? "f64" : "f32", *score = NULL;
    int code;

    if (!options)
        return 0;
    code = json_get_text(options, "dtype", 64, &dtype, e);
    if (!code)
        code = check_dtype(dtype, &s->wide, e);
    if (!code)
        code = json_get_text(options, "score", 64, &score, e);
    if (!code)
        code = api_score(score, &s->dot, e);
    if (!code)
        code = json_get_text(options, "filter", LIMIT_FILTER_BYTES, &s->filter, e);
    return code ? code : json_get_text(options, "task", STORE_NAME_MAX, &s->task, e);
}

static int attempt(struct job *j, struct scores *s)
{
    static const char *const members[] = {"queries", "dtype", "filter", "task", "score", NULL};
    int code;

    s->whole = partial_view(j, &s->partial, s->corpus);
    code = queries_read(j, s->whole, members, &s->queries);
    if (!code)
        code = read_options(s, &j->err);
    s->partial.texts = s->filter != NULL;
    if (!code)
        code = api_filter(j, s->filter, s->whole, &s->view);
    if (!code)
        code = api_task_open(j, s->task, s->corpus, s->whole, &s->queries, &s->through);
    if (!code)
        code = each_row(j, s, measure_id);
    if (!code)
        code = send_scores(j, s);
    if (!code)
        code = each_row(j, s, put_id);
    if (!code)
        code = flush(j, s);
    metrics_add(j->rt->metrics, METRIC_QUERIES, code ? 0 : s->queries.count);
    queries_free(&s->queries);
    buf_free(&s->out);
    api_task_close(j, s->corpus, s->whole, &s->through);
    view_release(s->whole);
    return code;
}

int scores_work(struct job *j)
{
    struct scores *s = j->state, asked = *s;
    struct partial partial = {0};
    struct corpus *corpus;
    int code = api_corpus(j, &corpus);

    if (code)
        return code;
    do {
        *s = asked;
        s->corpus = corpus;
        s->partial = partial;
        code = attempt(j, s);
        partial = s->partial;
    } while (!s->begun && partial_again(j, &partial, code));
    corpus_release(corpus);
    return api_seen(j, code);
}
