/* verb_encode.c - `ascribe-lm encode`: a corpus into batch files. */
#include "client/lm/verb.h"

#include <stdio.h>
#include <string.h>

#include "client/lm/ckpt.h"
#include "client/lm/crew.h"
#include "client/lm/encode.h"
#include "client/lm/meter.h"
#include "client/lm/opts.h"

struct watch {
    struct meter meter;
    struct encode_progress last;
};

static void tell(void *ctx, const struct encode_progress *p)
{
    struct watch *w = ctx;
    const double elapsed = meter_clock() - w->meter.start;
    const struct meter_value values[] = {
        {"passages", (double)p->done, 0},
        {"passages/s", (double)(p->done - p->kept) / (elapsed > 0 ? elapsed : 1), 0},
    };

    w->last = *p;
    meter_tell(&w->meter, (double)p->done / (double)p->total, values,
               sizeof values / sizeof values[0]);
}

static int encode(const struct model *m, const struct passages *ps, uint32_t dim,
                  enum encoder_second second, uint64_t seed, const struct encode_options *o,
                  struct err *e)
{
    struct watch watch = {0};
    struct encoder_plan plan;
    int rc = encoder_plan_init(&plan, m, dim, second, seed, e);

    if (rc)
        return rc;
    meter_init(&watch.meter, "encode");
    rc = encode_run(&plan, ps, o, tell, &watch, e);
    if (!rc)
        printf("{\"passages\":%zu,\"kept\":%zu,\"dim\":%u,\"elapsed_s\":%.1f}\n", watch.last.done,
               watch.last.kept, dim, meter_clock() - watch.meter.start);
    encoder_plan_fini(&plan);
    return rc;
}

int verb_encode(int argc, char *const argv[], struct err *e)
{
    const char *path = NULL, *data = NULL, *second_name = "adam", *dtype = "f32";
    uint64_t dim = 16384, seed = 1;
    enum encoder_second second;
    struct encode_options o = {.batch_rows = 256, .threads = crew_processors()};
    const struct opts_row rows[] = {
        {"model", OPTS_TEXT, &path, 0, 0, "checkpoint (required)"},
        {"data", OPTS_TEXT, &data, 0, 0, "corpus, JSON Lines with id, text, meta (required)"},
        {"out", OPTS_TEXT, &o.folder, 0, 0, "folder of corpus.json and batch files (required)"},
        {"dim", OPTS_COUNT, &dim, 1, ENCODER_DIM_MAX, "matrices * p * p: length of a row"},
        {"second-moment", OPTS_TEXT, &second_name, 0, 0, "adam or none"},
        {"seed", OPTS_COUNT, &seed, 0, 1.8e19, "of the projection"},
        {"batch-rows", OPTS_COUNT, &o.batch_rows, 1, ENCODE_BATCH_MAX, "passages in one file"},
        {"dtype", OPTS_TEXT, &dtype, 0, 0, "f32, bf16 or f16"},
        {"threads", OPTS_COUNT, &o.threads, 1, CREW_MAX, "the result does not depend on it"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    struct passages ps = {0};
    struct model m;
    int rc;

    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        opts_help(stdout, rows, count);
        return 0;
    }
    rc = opts_parse(rows, count, argc, argv, e);
    if (!rc && !dtype_from_name(dtype, &o.dtype))
        rc = err_set(e, ERR_INVALID, "--dtype %.40s: f32, bf16 or f16", dtype);
    if (!rc)
        rc = encoder_second_parse(second_name, &second, e);
    if (!rc)
        rc = ckpt_load(&m, path, e);
    if (rc)
        return rc;
    rc = passages_read(&ps, data, e);
    if (!rc)
        rc = encode(&m, &ps, (uint32_t)dim, second, seed, &o, e);
    passages_free(&ps);
    model_free(&m);
    return rc;
}
