/* verb_tail_patch.c - `ascribe-lm tail-patch`: what one training step on each passage would do to
 * the probability of a target. */
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
#include "client/lm/tail_patch.h"
#include "client/lm/tensorfile.h"
#include "storage/base/bytes.h"

static void tell(void *ctx, const struct tail_patch_progress *p)
{
    const struct meter *m = ctx;
    const double elapsed = meter_clock() - m->start;
    const struct meter_value values[] = {
        {"passages", (double)p->done, 0},
        {"steps", (double)p->steps, 0},
        {"steps/s", (double)p->steps / (elapsed > 0 ? elapsed : 1), 0},
    };

    meter_tell(ctx, (double)p->done / (double)p->total, values, sizeof values / sizeof values[0]);
}

/* One line of the answer. */
static int add_line(struct buf *out, const struct pair *p, const struct tail_patch *t, size_t pair,
                    struct err *e)
{
    const double before = t->before[pair], *after = t->after + t->first[pair];
    json_t *passages = json_array();
    json_t *line = json_pack("{s:s, s:f, s:f, s:o}", "id", p->id, "probability", exp(before),
                             "log_probability", before, "passages", passages);

    for (size_t k = 0; k < p->count; k++)
        json_array_append_new(passages,
                              json_pack("{s:s, s:f, s:f}", "id", p->items[k].id, "d_probability",
                                        exp(after[k]) - exp(before), "d_log_probability",
                                        after[k] - before));
    return jsonl_add(out, line, e);
}

static int write_answer(const char *path, const struct pairs *ps, const struct tail_patch *t,
                        struct err *e)
{
    struct buf out = {0};
    int rc = 0;

    for (size_t i = 0; i < ps->count && !rc; i++)
        rc = add_line(&out, &ps->list[i], t, i, e);
    if (!rc)
        rc = tensorfile_write_bytes(path, out.data, out.len, e);
    buf_free(&out);
    return rc;
}

struct request { /* what the command line asks for */
    const char *model, *pairs, *out;
    struct patch_options options;
    uint64_t threads;
};

static int run(const struct request *r, struct err *e)
{
    struct tail_patch t = {0};
    struct meter meter;
    struct pairs ps = {0};
    struct model m = {0};
    int rc = ckpt_load(&m, r->model, e);

    if (!rc)
        rc = pairs_read(&ps, r->pairs, PAIRS_PASSAGES, e);
    meter_init(&meter, "tail-patch");
    if (!rc) {
        rc = tail_patch_run(&t, &m, &ps, &r->options, (unsigned)r->threads, tell, &meter, e);
        if (rc)
            err_wrap(e, "%s: ", r->pairs);
    }
    if (!rc)
        rc = write_answer(r->out, &ps, &t, e);
    if (!rc)
        printf("{\"pairs\":%zu,\"passages\":%zu,\"steps\":%zu,\"optimizer\":\"%s\",\"rate\":%g,"
               "\"elapsed_s\":%.1f}\n",
               ps.count, ps.items, t.steps,
               r->options.plain ? "sgd" : model_optimizer_name(m.optimizer), r->options.rate,
               meter_clock() - meter.start);
    tail_patch_free(&t);
    pairs_free(&ps);
    model_free(&m);
    return rc;
}

int verb_tail_patch(int argc, char *const argv[], struct err *e)
{
    const char *optimizer = "auto";
    struct request r = {.options = {.rate = 4e-5}, .threads = crew_processors()};
    const struct opts_row rows[] = {
        {"model", OPTS_TEXT, &r.model, 0, 0, "checkpoint (required)"},
        {"pairs", OPTS_TEXT, &r.pairs, 0, 0,
         "JSON Lines with id, prompt, target, passages [{id, text}] (required)"},
        {"out", OPTS_TEXT, &r.out, 0, 0, "JSON Lines to write (required)"},
        {"rate", OPTS_NUMBER, &r.options.rate, 0, 1, "learning rate of the one step"},
        {"optimizer", OPTS_TEXT, &optimizer, 0, 0,
         "auto: the checkpoint's, with its second moment; or sgd"},
        {"threads", OPTS_COUNT, &r.threads, 1, CREW_MAX, "the result does not depend on it"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    int rc;

    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        opts_help(stdout, rows, count);
        return 0;
    }
    rc = opts_parse(rows, count, argc, argv, e);
    r.options.plain = strcmp(optimizer, "sgd") == 0;
    if (!rc && !r.options.plain && strcmp(optimizer, "auto") != 0) {
        err_set(e, ERR_INVALID, "--optimizer %.40s: must be auto or sgd", optimizer);
        rc = err_at_field(e, "optimizer");
    }
    return rc ? rc : run(&r, e);
}
