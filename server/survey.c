/* survey.c - see survey.h. */
#include "server/survey.h"

#include <inttypes.h>
#include <string.h>

#include "server/api.h"
#include "server/examples.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/runtime.h"

enum { ASK_EVERY = 64 };

struct survey_named {
    const char *id;
    bool there;          /* took part */
    struct topk_hit hit; /* but for the score, which is each query's own */
    uint64_t row;        /* of the view's live rows */
};

/* ---- what is asked --------------------------------------------------------------------------- */

static int check_bins(const struct survey *s, struct err *e)
{
    if (s->bins == 0 || s->bins >= LIMIT_BINS_LEAST)
        return 0;
    err_set(e, ERR_INVALID, "histogram: %u to %u bins, or 0 for none", LIMIT_BINS_LEAST,
            LIMIT_BINS);
    err_at_field(e, "histogram");
    return err_at_limit(e, LIMIT_BINS_LEAST);
}

int survey_parse(struct job *j, struct survey *s)
{
    int code = api_query_bool(j, "percentile", false, &s->percentile);

    if (!code)
        code = job_query_number(j, "histogram", 0, 0, LIMIT_BINS, &s->bins);
    s->group = job_query(j, "group");
    return code ? code : check_bins(s, &j->err);
}

static int check_ids(const json_t *ids, struct err *e)
{
    size_t count = json_array_size(ids);

    if (!json_is_array(ids) || count == 0 || count > LIMIT_NAMED) {
        err_set(e, ERR_INVALID, "member ids: an array of 1 to %u example ids", LIMIT_NAMED);
        err_at_field(e, "ids");
        return err_at_limit(e, LIMIT_NAMED);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(ids, i);
        int code;

        if (!json_is_string(id))
            code = err_set(e, ERR_INVALID, "member ids, element %zu: must be a string", i);
        else
            code = examples_check_id(json_string_value(id), json_string_length(id), e);
        if (code) {
            err_at_field(e, "ids");
            return err_at_index(e, (int64_t)i);
        }
    }
    return 0;
}

int survey_read(struct survey *s, const json_t *options, struct err *e)
{
    int code = json_get_bool(options, "percentile", &s->percentile, e);

    if (!code)
        code = json_get_number(options, "histogram", 0, LIMIT_BINS, &s->bins, e);
    if (!code)
        code = check_bins(s, e);
    if (!code)
        code = json_get_text(options, "group", LIMIT_META_BYTES, &s->group, e);
    s->ids = json_object_get(options, "ids");
    return !code && s->ids ? check_ids(s->ids, e) : code;
}

void survey_least(const struct survey *s, size_t *k, size_t *opponents)
{
    if (s->bins && *k == 0)
        *k = 1;
    if (s->bins && *opponents == 0)
        *opponents = 1;
}

size_t survey_entries(const struct survey *s)
{
    return json_array_size(s->ids);
}

/* ---- examples by name ------------------------------------------------------------------------ */

/* starts[i]: live rows of the chunks before i. */
static int find_starts(const struct view *v, struct arena *a, uint64_t **out, struct err *e)
{
    uint64_t *starts = arena_big(a, v->chunk_count + 1, sizeof *starts), live = 0;

    if (!starts)
        return err_set(e, ERR_BUSY, "no memory for the places of %zu chunks", v->chunk_count);
    for (size_t i = 0; i < v->chunk_count; i++) {
        starts[i] = live;
        live += scan_live(&v->chunks[i]);
    }
    *out = starts;
    return 0;
}

static uint64_t live_before(const struct view_chunk *c, uint32_t row)
{
    uint64_t dead = 0;

    for (uint32_t w = 0; c->dead && w < row / 64; w++)
        dead += (uint64_t)__builtin_popcountll(c->dead[w]);
    if (c->dead && row % 64)
        dead += (uint64_t)__builtin_popcountll(c->dead[row / 64] << (64 - row % 64));
    return row - dead;
}

static int find_named(struct survey_named *n, struct corpus *c, const struct view *v,
                      const uint64_t *starts, struct err *e)
{
    struct err none = ERR_INIT;
    uint32_t row = 0;
    size_t chunk = 0;
    int code = corpus_find_id(c, n->id, strlen(n->id), &n->hit.sequence, &none);

    if (code && code != ERR_UNKNOWN_EXAMPLE) {
        *e = none;
        return code;
    }
    n->there = !code && view_locate(v, n->hit.sequence, &chunk, &row, e);
    if (n->there) {
        n->hit.chunk = (uint32_t)chunk;
        n->hit.row = row;
        n->row = starts[chunk] + live_before(&v->chunks[chunk], row);
    }
    return (int)e->code;
}

static int prepare_named(struct job *j, struct survey *s, struct corpus *c, const struct view *v)
{
    uint64_t *starts = NULL;
    int code = find_starts(v, &j->arena, &starts, &j->err);

    s->named_count = json_array_size(s->ids);
    s->named = arena_new(&j->arena, s->named_count, sizeof *s->named);
    for (size_t i = 0; !code && i < s->named_count; i++) {
        s->named[i].id = json_string_value(json_array_get(s->ids, i));
        code = find_named(&s->named[i], c, v, starts, &j->err);
    }
    return code;
}

int survey_prepare(struct job *j, struct survey *s, struct corpus *c, const struct view *view)
{
    struct stop stop = api_stop(j);
    struct filter_path path;
    int code = s->ids ? prepare_named(j, s, c, view) : 0;

    if (code || !s->group)
        return code;
    code = filter_parse_path(s->group, strlen(s->group), "group", &j->arena, &path, &j->err);
    if (!code)
        code = groups_read(view, &path, &stop, &j->arena, &s->groups, &j->err);
    return api_stopped(j, code);
}

/* ---- the pass -------------------------------------------------------------------------------- */

static size_t put_list(struct census_place *to, const struct topk *list, size_t shown)
{
    size_t count = list->count < shown ? list->count : shown;

    for (size_t i = 0; i < count; i++)
        to[i] = (struct census_place){.score = list->hits[i].score, .row = CENSUS_NO_ROW};
    return count;
}

static int put_named(struct job *j, const struct survey *s, const struct explain *x,
                     const struct survey_found *f, size_t q, struct census_query *to)
{
    const float *query = f->vectors + q * corpus_def(x->view->corpus)->dim;
    const double *length = f->lengths ? &f->lengths[q] : NULL;
    int code = 0;

    for (size_t i = 0; !code && i < s->named_count; i++) {
        struct census_place *p = &to->places[to->place_count];

        if (i % ASK_EVERY == 0 && job_stopped(j))
            return (int)j->err.code;
        if (!s->named[i].there)
            continue;
        code = explain_score(x, query, length, &s->named[i].hit, &p->score, &j->err);
        p->row = s->named[i].row;
        to->place_count++;
    }
    return code;
}

/* What is asked of query q: shown hits first, where survey_places looks for them; named examples
 * that are there behind them. */
static int ask(struct job *j, struct survey *s, const struct explain *x,
               const struct survey_found *f, size_t q)
{
    struct census_query *to = &s->census.of[q];
    size_t room = f->pro[q].count + f->opp[q].count + s->named_count;

    to->places = arena_big(&j->arena, room + 1, sizeof *to->places);
    if (!to->places)
        return err_set(&j->err, ERR_BUSY, "no memory for the places of %zu examples", room);
    if (s->percentile) {
        to->place_count = put_list(to->places, &f->pro[q], f->k);
        to->place_count += put_list(to->places + to->place_count, &f->opp[q], f->opponents);
    }
    if (s->bins && f->pro[q].count) {
        to->high = f->pro[q].hits[0].score;
        to->low = f->opp[q].hits[0].score;
    }
    return put_named(j, s, x, f, q, to);
}

int survey_take(struct job *j, struct survey *s, const struct scan *scan, const struct explain *x,
                const struct survey_found *f)
{
    int code = 0;

    if (!s->percentile && !s->bins && !s->group && !s->ids)
        return 0;
    s->census = (struct census){.vectors = f->vectors,
                                .lengths = f->lengths,
                                .count = f->count,
                                .of = arena_new(&j->arena, f->count, sizeof *s->census.of),
                                .bins = s->bins,
                                .groups = s->group ? &s->groups : NULL};
    for (size_t q = 0; !code && q < f->count; q++)
        code = ask(j, s, x, f, q);
    if (!code)
        code = census_take(scan, &s->census, &j->arena, &j->err);
    return api_stopped(j, code);
}

/* ---- the answer ------------------------------------------------------------------------------ */

const struct census_place *survey_places(const struct survey *s, size_t q)
{
    return s->percentile ? s->census.of[q].places : NULL;
}

static void put_histogram(struct buf *b, const struct survey *s, const struct census_query *of,
                          uint64_t live)
{
    if (live == 0) {
        buf_add_text(b, ",\"histogram\":null");
        return;
    }
    buf_add_text(b, ",\"histogram\":{\"from\":");
    json_put_real(b, of->low);
    buf_add_text(b, ",\"to\":");
    json_put_real(b, of->high);
    buf_add_text(b, ",\"counts\":[");
    for (size_t i = 0; i < s->bins; i++)
        buf_format(b, "%s%" PRIu64, i ? "," : "", of->bins[i]);
    buf_add_text(b, "]}");
}

static void put_ids(struct buf *b, const struct survey *s, const struct census_query *of,
                    uint64_t live)
{
    const struct census_place *p = of->places + of->place_count;

    for (size_t i = 0; i < s->named_count; i++)
        p -= s->named[i].there; /* they are the last */
    buf_add_text(b, ",\"ids\":[");
    for (size_t i = 0; i < s->named_count; i++) {
        buf_add_text(b, i ? ",{\"id\":" : "{\"id\":");
        json_put_text(b, s->named[i].id, strlen(s->named[i].id));
        if (s->named[i].there) {
            buf_add_text(b, ",\"score\":");
            json_put_real(b, p->score);
            buf_format(b, ",\"rank\":%" PRIu64 ",\"percentile\":", p->rank);
            json_put_real(b, (double)p->below / (double)live);
            p++;
        } else {
            buf_add_text(b, ",\"missing\":true");
        }
        buf_add(b, "}", 1);
    }
    buf_add(b, "]", 1);
}

void survey_put(struct buf *b, const struct survey *s, size_t q, uint64_t live)
{
    if (s->bins)
        put_histogram(b, s, &s->census.of[q], live);
    if (s->ids)
        put_ids(b, s, &s->census.of[q], live);
    if (s->group)
        groups_put(b, &s->groups, s->census.of[q].sums);
}
