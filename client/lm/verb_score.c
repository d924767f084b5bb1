/* verb_score.c - `ascribe-lm score`: what the model knows of a list of facts. */
#include "client/lm/verb.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/ckpt.h"
#include "client/lm/crew.h"
#include "client/lm/jsonl.h"
#include "client/lm/meter.h"
#include "client/lm/opts.h"
#include "client/lm/score.h"
#include "client/lm/tensorfile.h"
#include "storage/base/bytes.h"

static void tell(void *ctx, size_t done, size_t total)
{
    const struct meter *m = ctx;
    const double elapsed = meter_clock() - m->start;
    const struct meter_value values[] = {
        {"prompts", (double)done, 0},
        {"prompts/s", (double)done / (elapsed > 0 ? elapsed : 1), 0},
    };

    meter_tell(ctx, (double)done / (double)total, values, sizeof values / sizeof values[0]);
}

/* One line of the answer. */
static int add_line(struct buf *out, const struct pair *p, const struct score *s, struct err *e)
{
    json_t *candidates = json_array();
    json_t *line = json_pack("{s:s, s:f, s:f, s:b, s:I, s:o}", "id", p->id, "probability",
                             exp(s->target), "log_probability", s->target, "greedy",
                             (int)s->greedy, "rank", (json_int_t)s->rank, "candidates", candidates);

    for (size_t i = 0; i < p->count; i++)
        json_array_append_new(candidates, json_real(s->candidates[i]));
    return jsonl_add(out, line, e);
}

static int write_answer(const char *path, const struct pairs *ps, const struct scores *s,
                        struct err *e)
{
    struct buf out = {0};
    int rc = 0;

    for (size_t i = 0; i < ps->count && !rc; i++)
        rc = add_line(&out, &ps->list[i], &s->list[i], e);
    if (!rc)
        rc = tensorfile_write_bytes(path, out.data, out.len, e);
    buf_free(&out);
    return rc;
}

/* What it comes to, in one line. */
static void print_summary(const struct pairs *ps, const struct scores *s, double elapsed)
{
    size_t greedy = 0, first = 0, tenth = 0;
    double sum = 0;

    for (size_t i = 0; i < ps->count; i++) {
        greedy += s->list[i].greedy;
        first += s->list[i].rank == 1;
        tenth += s->list[i].rank <= 10;
        sum += s->list[i].target;
    }
    printf("{\"prompts\":%zu,\"greedy\":%.4f,\"rank_1\":%.4f,\"rank_10\":%.4f,"
           "\"log_probability\":%.4f,\"elapsed_s\":%.1f}\n",
           ps->count, (double)greedy / (double)ps->count, (double)first / (double)ps->count,
           (double)tenth / (double)ps->count, sum / (double)ps->count, elapsed);
}

static int run(const char *model, const char *pairs, const char *out, unsigned threads,
               struct err *e)
{
    struct scores s = {0};
    struct pairs ps = {0};
    struct model m = {0};
    struct meter meter;
    int rc = ckpt_load(&m, model, e);

    if (!rc)
        rc = pairs_read(&ps, pairs, PAIRS_CANDIDATES, e);
    meter_init(&meter, "score");
    if (!rc) {
        rc = score_run(&s, &m, &ps, threads, tell, &meter, e);
        if (rc)
            err_wrap(e, "%s: ", pairs);
    }
    if (!rc && out)
        rc = write_answer(out, &ps, &s, e);
    if (!rc)
        print_summary(&ps, &s, meter_clock() - meter.start);
    score_free(&s);
    pairs_free(&ps);
    model_free(&m);
    return rc;
}

int verb_score(int argc, char *const argv[], struct err *e)
{
    const char *model = NULL, *pairs = NULL, *out = NULL;
    uint64_t threads = crew_processors();
    const struct opts_row rows[] = {
        {"model", OPTS_TEXT, &model, 0, 0, "checkpoint (required)"},
        {"pairs", OPTS_TEXT, &pairs, 0, 0,
         "JSON Lines with id, prompt, target, candidates [text] (required)"},
        {"out", OPTS_TEXT, &out, 0, 0, "JSON Lines to write; the sum of it is printed"},
        {"threads", OPTS_COUNT, &threads, 1, CREW_MAX, "the result does not depend on it"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    int rc;

    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        opts_help(stdout, rows, count);
        return 0;
    }
    rc = opts_parse(rows, count, argc, argv, e);
    return rc ? rc : run(model, pairs, out, (unsigned)threads, e);
}
