/* eval.c - the size of a batch is bounded by what its answer may weigh: an answer too large for one
 * request is asked for again in halves.
 */
#include "client/cli/eval.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH_BYTES = 64 << 20,  /* of query gradients */
    BATCH_ROWS = 1024,       /* the protocol's bound */
    BATCH_TEXTS = 16 << 10,  /* answers with texts in one reply */
    BATCH_HITS = 256 << 10,  /* without */
};

/* --- Progress --------------------------------------------------------------------------------- */

static void show(struct eval *ev, bool last)
{
    struct progress_state s = PROGRESS_STATE_NONE;
    uint64_t now_ms = (uint64_t)(progress_seconds(&ev->progress) * 1000);

    meter_feed(&ev->pace, now_ms, ev->done);
    s.rows = ev->done;
    s.rows_total = ev->gold->count;
    s.fraction = (double)ev->done / (double)ev->gold->count;
    s.eta_s = meter_eta(&ev->pace, ev->gold->count);
    progress_show(&ev->progress, &s, last);
}

static int on_tick(void *user, const struct asc_transfer *t)
{
    (void)t;
    show(user, false);
    return session_stopped();
}

/* Ends the bar, so that the error stands on a line of its own. */
static int fail(struct eval *ev, const struct asc_error *e)
{
    progress_end(&ev->progress);
    return out_error(ev->cli, e);
}

/* --- One list --------------------------------------------------------------------------------- */

/* Scores the next query's list, and writes it when lists are wanted. `opponents` as in pair.h. */
static int take_list(struct eval *ev, size_t near_count, const struct pair_hit *opponents,
                     size_t far_count)
{
    const struct gold_query *q = &ev->gold->list[ev->done];
    struct pair_list list = {ev->near, ev->correct, near_count, opponents, far_count};

    for (size_t i = 0; i < near_count; i++)
        ev->correct[i] = gold_is_right(q, ev->near[i].id);
    rank_score(ev->correct, near_count, &ev->scores[ev->done]);
    if (ev->lists && !pair_write(ev->lists, q->object, ev->corpus, &list)) {
        progress_end(&ev->progress);
        return out_input(ev->cli, "%s: could not be written", ev->lists->part);
    }
    ev->done++;
    return EXIT_OK;
}

static void note_state(struct eval *ev, uint64_t examples, uint64_t generation)
{
    ev->changed = ev->changed || (ev->done > 0 && generation != ev->generation);
    ev->examples = examples;
    ev->generation = generation;
}

static int bad_answer(struct eval *ev, const char *what)
{
    struct asc_error e = {.status = ASC_PROTOCOL, .code = "bad_answer", .index = -1, .limit = -1};

    snprintf(e.detail, sizeof e.detail, "query %s: the answer has no %s",
             ev->gold->list[ev->done].id, what);
    return fail(ev, &e);
}

/* --- By gradients ----------------------------------------------------------------------------- */

static size_t copy_hits(struct pair_hit *to, size_t most, const struct asc_hit *hits, size_t count)
{
    count = count < most ? count : most;
    for (size_t i = 0; i < count; i++)
        to[i] = (struct pair_hit){hits[i].id, hits[i].score, hits[i].text, hits[i].text_len};
    return count;
}

static int take_answer(struct eval *ev, const struct asc_answer *a, uint64_t rows)
{
    int rc = EXIT_OK;

    if (a->count != rows)
        return bad_answer(ev, "list for each query");
    note_state(ev, a->examples, a->generation);
    memcpy(ev->engine_used, a->engine, sizeof ev->engine_used);
    memcpy(ev->exact, a->exact, sizeof ev->exact);
    for (size_t i = 0; rc == 0 && i < a->count; i++) {
        const struct asc_result *r = &a->results[i];
        size_t near = copy_hits(ev->near, ev->k, r->proponents, r->proponent_count);
        size_t far = copy_hits(ev->far, ev->k, r->opponents, r->opponent_count);

        rc = take_list(ev, near, ev->far, far);
    }
    return rc;
}

/* The server counts rows from the first of a batch; a person looks them up in the file. */
static int query_failed(struct eval *ev, const struct asc_query *q, struct asc_error *e)
{
    size_t len = strlen(e->detail);

    if (e->index >= 0 && (uint64_t)e->index < q->rows && e->http_status == 422) {
        e->index += (int64_t)q->first_row;
        snprintf(e->detail + len, sizeof e->detail - len, " (row %" PRId64 " of %.200s, query %s)",
                 e->index, ev->queries_path, ev->gold->list[e->index].id);
    }
    return fail(ev, e);
}

/* The answer: the server says so before it sends one, the library of one that comes. */
static bool too_large(const struct asc_error *e)
{
    return strcmp(e->code, "too_large") == 0 || strcmp(e->code, "answer_too_large") == 0;
}

static int ask_gradients(struct eval *ev)
{
    struct asc_query q = {.matrix = ev->matrix, .k = ev->k, .opponents = ev->lists ? ev->k : 0,
                          .engine = ev->engine, .task = ev->task, .no_text = !ev->lists,
                          .score = ev->score, .filter = ev->filter};
    uint64_t row = asc_matrix_dim(ev->matrix) * asc_dtype_size(asc_matrix_dtype(ev->matrix));
    uint64_t batch = row ? BATCH_BYTES / row : 1;
    uint64_t most = ev->lists ? BATCH_TEXTS / (2 * (uint64_t)ev->k) : BATCH_HITS / ev->k;
    int rc = EXIT_OK;

    batch = batch > BATCH_ROWS ? BATCH_ROWS : batch;
    batch = batch > most ? most : batch;
    while (rc == 0 && ev->done < ev->gold->count) {
        uint64_t left = ev->gold->count - ev->done, rounds;
        struct asc_answer *a;
        struct asc_error e;

        batch = batch < 1 ? 1 : batch;
        /* Even ones: a small rest would go through another engine than all the others. */
        rounds = (left + batch - 1) / batch;
        q.first_row = ev->done;
        q.rows = (left + rounds - 1) / rounds;
        rc = asc_query(ev->client, ev->corpus, &q, &a, &e);
        if (rc != 0 && q.rows > 1 && too_large(&e)) {
            batch = q.rows / 2;
            rc = EXIT_OK;
            continue;
        }
        if (rc != 0)
            return query_failed(ev, &q, &e);
        rc = take_answer(ev, a, q.rows);
        asc_answer_free(a);
        show(ev, false);
    }
    return rc;
}

/* --- By words --------------------------------------------------------------------------------- */

static int take_search(struct eval *ev, const struct asc_answer *a)
{
    const struct asc_result *r = a->results;
    size_t near;

    if (a->count != 1)
        return bad_answer(ev, "list");
    near = copy_hits(ev->near, ev->k, r->proponents, r->proponent_count);
    if (a->missing > ev->missing)
        ev->missing = a->missing;
    note_state(ev, a->examples, a->generation);
    return take_list(ev, near, NULL, 0);
}

static int search(struct eval *ev)
{
    const struct gold_query *q = &ev->gold->list[ev->done];
    struct asc_search ask = {.text = gold_text(q, "text"), .k = ev->k, .filter = ev->filter,
                             .no_text = !ev->lists};
    struct asc_answer *a;
    struct asc_error e;
    int rc = asc_search(ev->client, ev->corpus, &ask, &a, &e);
    size_t said;

    if (rc != 0) {
        said = strlen(e.detail);
        if (rc == ASC_REFUSED)
            snprintf(e.detail + said, sizeof e.detail - said, " (query %.200s)", q->id);
        return fail(ev, &e);
    }
    rc = take_search(ev, a);
    asc_answer_free(a);
    return rc;
}

static int ask_words(struct eval *ev)
{
    int rc = EXIT_OK;

    while (rc == 0 && ev->done < ev->gold->count) {
        rc = search(ev);
        show(ev, false);
    }
    return rc;
}

/* --- The whole -------------------------------------------------------------------------------- */

int eval_run(struct eval *ev)
{
    char what[ASC_NAME_MAX + 8];
    int rc;

    ev->scores = calloc(ev->gold->count, sizeof *ev->scores);
    ev->near = calloc(ev->k, sizeof *ev->near);
    ev->far = calloc(ev->k, sizeof *ev->far);
    ev->correct = calloc(ev->k, sizeof *ev->correct);
    if (!ev->scores || !ev->near || !ev->far || !ev->correct)
        return out_input(ev->cli, "no memory for the figures of %zu queries", ev->gold->count);
    snprintf(what, sizeof what, "eval %.*s", ASC_NAME_MAX, ev->corpus);
    progress_start(&ev->progress, what, ev->cli->quiet);
    meter_start(&ev->pace, 0, 0);
    rc = session_open(ev->cli, on_tick, ev, &ev->client);
    if (rc != 0)
        return rc;
    rc = ev->matrix ? ask_gradients(ev) : ask_words(ev);
    if (rc == 0)
        show(ev, true);
    progress_end(&ev->progress);
    asc_close(ev->client);
    ev->client = NULL;
    return rc;
}

void eval_clear(struct eval *ev)
{
    free(ev->scores);
    free(ev->near);
    free(ev->far);
    free(ev->correct);
}
