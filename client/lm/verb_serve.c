/* verb_serve.c - `ascribe-lm serve`: what `ascribed --encoder 'ascribe-lm serve ...'` runs. */
#include "client/lm/verb.h"

#include <stdio.h>
#include <string.h>

#include "client/lm/ckpt.h"
#include "client/lm/definition.h"
#include "client/lm/encoder.h"
#include "client/lm/opts.h"
#include "client/lm/serve.h"

struct request { /* what the command line asks for */
    const char *model, *like;
    uint64_t dim, seed;
    enum encoder_second second;
};

static int serve(const struct model *m, const struct request *r, const struct definition *like,
                 struct err *e)
{
    struct encoder_plan plan;
    int rc = definition_plan(like, &plan, m, r->dim, r->seed, r->second, e);

    if (rc)
        return rc;
    rc = serve_run(&plan, stdin, stdout, e);
    encoder_plan_fini(&plan);
    return rc;
}

static int run(struct request *r, struct err *e)
{
    struct definition like;
    struct model m = {0};
    int rc = definition_take(&like, r->like, &r->dim, &r->seed, &r->second, e);

    if (!rc)
        rc = ckpt_load(&m, r->model, e);
    if (!rc)
        rc = serve(&m, r, &like, e);
    model_free(&m);
    definition_free(&like);
    return rc;
}

int verb_serve(int argc, char *const argv[], struct err *e)
{
    const char *second = "auto";
    struct request r = {.dim = 16384, .seed = 1};
    const struct opts_row rows[] = {
        {"model", OPTS_TEXT, &r.model, 0, 0, "checkpoint (required)"},
        {"like", OPTS_TEXT, &r.like, 0, 0, "a corpus.json: takes the next three from it"},
        {"dim", OPTS_COUNT, &r.dim, 1, ENCODER_DIM_MAX, "as in encode"},
        {"second-moment", OPTS_TEXT, &second, 0, 0, "as in encode"},
        {"seed", OPTS_COUNT, &r.seed, 0, 9e18, "as in encode"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    int rc;

    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        opts_help(stdout, rows, count);
        return 0;
    }
    rc = opts_parse(rows, count, argc, argv, e);
    if (!rc)
        rc = encoder_second_parse(second, &r.second, e);
    return rc ? rc : run(&r, e);
}
