/* verb_train.c - `ascribe-lm train`: a corpus into a checkpoint. */
#include "client/lm/verb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/ckpt.h"
#include "client/lm/crew.h"
#include "client/lm/meter.h"
#include "client/lm/opts.h"
#include "client/lm/train.h"
#include "storage/base/bytes.h"

struct watch {
    struct meter meter;
    double loss;      /* smoothed */
    const char *path; /* of the last checkpoint */
    size_t kept;      /* checkpoints before it */
};

static void tell(void *ctx, const struct train_progress *p)
{
    struct watch *w = ctx;
    const double elapsed = meter_clock() - w->meter.start;

    w->loss = p->step == 1 ? p->loss : 0.98 * w->loss + 0.02 * p->loss;
    const struct meter_value values[] = {
        {"step", (double)p->step, 0},
        {"loss", w->loss, 3},
        {"tokens/s", (double)p->tokens / (elapsed > 0 ? elapsed : 1), 0},
    };
    meter_tell(&w->meter, p->share, values, sizeof values / sizeof values[0]);
}

/* model.ckpt after 500 steps is model.step500.ckpt; a name without .ckpt has it added as well. */
static int keep(void *ctx, struct model *m, struct err *e)
{
    struct watch *w = ctx;
    const size_t len = strlen(w->path);
    const size_t stem = len > 5 && strcmp(w->path + len - 5, ".ckpt") == 0 ? len - 5 : len;
    struct buf name = {0};
    int rc;

    buf_add(&name, w->path, stem);
    buf_format(&name, ".step%llu.ckpt", (unsigned long long)m->steps);
    buf_add(&name, "", 1);
    rc = name.failed ? err_set(e, ERR_BUSY, "no memory for a name")
                     : ckpt_save(m, (const char *)name.data, e);
    w->kept += !rc;
    buf_free(&name);
    return rc;
}

/* "500,1500" into the steps to keep; their order and range are train_run's to check. */
static int parse_steps(const char *text, struct train_options *o, struct err *e)
{
    const char *at = text;
    char *end;

    while (at) {
        if (o->keeps == TRAIN_KEPT_MAX) {
            err_set(e, ERR_INVALID, "--checkpoint-steps: more than %d", TRAIN_KEPT_MAX);
            return err_at_field(e, "checkpoint-steps");
        }
        o->keep[o->keeps++] = strtoull(at, &end, 10);
        if (*at < '0' || *at > '9' || end - at > 10 || (*end && *end != ',')) {
            err_set(e, ERR_INVALID, "--checkpoint-steps %.60s: must be whole numbers with commas",
                    text);
            return err_at_field(e, "checkpoint-steps");
        }
        at = *end ? end + 1 : NULL;
    }
    return 0;
}

int verb_train(int argc, char *const argv[], struct err *e)
{
    const char *data = NULL, *path = NULL, *optimizer = "adam", *keeps = NULL;
    uint64_t vocab = 2048, context = 128, layers = 4, width = 128, heads = 4;
    struct train_options o = {.steps = 6000,
                              .batch = 16,
                              .rate = 2e-3,
                              .seed = 1,
                              .threads = crew_processors(),
                              .kept = keep};
    const struct opts_row rows[] = {
        {"data", OPTS_TEXT, &data, 0, 0, "corpus, JSON Lines with id, text, meta (required)"},
        {"out", OPTS_TEXT, &path, 0, 0, "checkpoint to write (required)"},
        {"steps", OPTS_COUNT, &o.steps, 0, 1e9, "steps at most; 0 = no limit"},
        {"checkpoint-steps", OPTS_TEXT, &keeps, 0, 0,
         "also save after these: 500,1500 makes OUT.step500.ckpt and so on"},
        {"minutes", OPTS_NUMBER, &o.minutes, 0, 1e6, "minutes at most; 0 = no limit"},
        {"seed", OPTS_COUNT, &o.seed, 0, 1.8e19, "of start values and order"},
        {"threads", OPTS_COUNT, &o.threads, 1, CREW_MAX, "the result does not depend on it"},
        {"batch", OPTS_COUNT, &o.batch, 1, 65536, "passages a step"},
        {"optimizer", OPTS_TEXT, &optimizer, 0, 0, "adam or adafactor"},
        {"rate", OPTS_NUMBER, &o.rate, 0, 1, "highest learning rate"},
        {"vocab", OPTS_COUNT, &vocab, TOK_VOCAB_MIN, TOK_VOCAB_MAX, "tokens, a multiple of 16"},
        {"context", OPTS_COUNT, &context, 2, SHAPE_CONTEXT_MAX, "tokens the model sees at once"},
        {"layers", OPTS_COUNT, &layers, 1, SHAPE_LAYERS_MAX, "layers"},
        {"width", OPTS_COUNT, &width, SHAPE_LANE, SHAPE_WIDTH_MAX, "a multiple of 16"},
        {"heads", OPTS_COUNT, &heads, 1, SHAPE_WIDTH_MAX, "attention heads; divide the width"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    struct passages ps;
    struct model m;
    struct watch watch = {0};
    int rc;

    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        opts_help(stdout, rows, count);
        return 0;
    }
    rc = opts_parse(rows, count, argc, argv, e);
    if (!rc)
        rc = model_optimizer_parse(optimizer, &o.optimizer, e);
    if (!rc)
        rc = parse_steps(keeps, &o, e);
    if (rc)
        return rc;
    o.shape = (struct shape){(uint32_t)vocab, (uint32_t)context, (uint32_t)layers, (uint32_t)width,
                             (uint32_t)heads};
    rc = passages_read(&ps, data, e);
    if (rc)
        return rc;
    meter_init(&watch.meter, "train");
    watch.path = path;
    rc = train_run(&m, &ps, &o, tell, &watch, e);
    passages_free(&ps);
    if (rc)
        return rc;
    rc = ckpt_save(&m, path, e);
    if (!rc)
        printf("{\"model\":\"%s\",\"parameters\":%zu,\"vocab\":%u,\"steps\":%llu,\"loss\":%.4f,"
               "\"checkpoints\":%zu}\n",
               m.fingerprint, shape_params(&m.shape), m.shape.vocab, (unsigned long long)m.steps,
               m.loss, watch.kept + 1);
    model_free(&m);
    return rc;
}
