/* survey.h - what a query may ask beside its lists, and only all scores can answer: percentiles, a
 * histogram, sums by a field, the places of examples that are named. All of it comes out of one
 * pass over the rows (server/census.h) after the search. Reader threads, but for survey_parse. */
#ifndef SERVER_SURVEY_H
#define SERVER_SURVEY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/census.h"
#include "server/explain.h"
#include "server/job.h"

struct survey_named; /* an example that was asked for by id */

struct survey {
    bool percentile;
    uint64_t bins;      /* of the histogram; 0: none */
    const char *group;  /* path of a meta field, or NULL */
    const json_t *ids;  /* array, the caller's; or NULL */
    /* its own */
    struct groups groups;
    struct survey_named *named;
    size_t named_count;
    struct census census;
};

/* Parameters percentile, histogram and group. Loop thread. */
int survey_parse(struct job *j, struct survey *s);
/* Members of the same names, and ids. */
int survey_read(struct survey *s, const json_t *options, struct err *e);

/* How many of both ends the search must bring, whatever is shown of them: a histogram begins at the
 * lowest score and ends at the highest. */
void survey_least(const struct survey *s, size_t *k, size_t *opponents);
/* Entries that each query's answer has beside its lists. */
size_t survey_entries(const struct survey *s);

/* Before the search: a path that does not parse costs nothing. `view` is the part that is asked. */
int survey_prepare(struct job *j, struct survey *s, struct corpus *c, const struct view *view);

/* The pass, when anything is asked that needs it. Of each query's sorted lists pro and opp the
 * first k and opponents are shown. `x` is what scores are made by, as in `scan`. */
struct survey_found {
    const float *vectors;
    const double *lengths; /* or NULL, as scan's */
    size_t count;
    const struct topk *pro, *opp;
    size_t k, opponents;
};
int survey_take(struct job *j, struct survey *s, const struct scan *scan, const struct explain *x,
                const struct survey_found *found);

/* How many scores are lower than that of hit i of query q: proponents first, then opponents. NULL
 * when percentiles are not asked. */
const struct census_place *survey_places(const struct survey *s, size_t q);

/* Appends ,"histogram":... ,"ids":[...] ,"groups":[...] of query q: what was asked. */
void survey_put(struct buf *b, const struct survey *s, size_t q, uint64_t live);

#endif
