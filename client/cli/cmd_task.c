/* cmd_task.c - `ascribe fit` and `ascribe task`: the corpus's Hessian, and evaluation sets. */
#include "client/cli/args.h"
#include "client/cli/verbs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A number at least 0; NULL: `otherwise`. */
static bool real(const char *text, double otherwise, double *out)
{
    char *end;

    *out = otherwise;
    if (!text)
        return true;
    *out = strtod(text, &end);
    return *text && !*end && isfinite(*out) && *out >= 0;
}

/* --- fit -------------------------------------------------------------------------------------- */

static const char fit_about[] =
    "Estimates the Hessian of the corpus from its stored gradients and whitens every row with it:\n"
    "from then on scores are TrackStar's. Queries and ingest go on meanwhile; the old rows serve\n"
    "until all are done. Waits for the job; interrupting leaves it to run.";

int cmd_fit(struct cli *cli, int argc, char **argv)
{
    const char *damping = NULL;
    struct asc_fit how = {.damping = -1};
    bool no_wait = false, wait = false;
    const struct arg list[] = {
        {"--damping", 0, ARG_TEXT, &damping, 0, 0, "X",
         "on the diagonal, times the mean eigenvalue of each block (0.1)"},
        {"--sample", 0, ARG_COUNT, &how.sample, 1, UINT64_MAX - 1, "N",
         "rows the Hessian is taken from, evenly spread (all)"},
        {"--wait", 0, ARG_FLAG, &wait, 0, 0, NULL, "until the job has ended: what it does anyway"},
        {"--no-wait", 0, ARG_FLAG, &no_wait, 0, 0, NULL, "print the job and leave it to run"},
        {0}};
    const struct args args = {"fit CORPUS [options]", fit_about, list, 1, 1};
    struct asc_client *c;
    struct asc_job job;
    struct asc_error e;
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (!real(damping, -1, &how.damping))
        return out_usage("fit", "--damping %s: a number, at least 0", damping);
    rc = session_open(cli, NULL, NULL, &c);
    if (rc != 0)
        return rc;
    if (asc_fit(c, argv[1], &how, &job, &e) != 0)
        rc = out_error(cli, &e);
    else
        rc = cmd_job_follow(cli, c, &job, "fit", no_wait);
    asc_close(c);
    return rc;
}

/* --- task ------------------------------------------------------------------------------------- */

struct task_options {
    const char *lambda, *tensor;
    uint64_t downweight;
    bool no_wait;
};

static int put(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct task_options *o = options;
    struct asc_lambda lambda = {.value = -1, .downweight = o->downweight};
    struct asc_query q = {0};
    struct asc_matrix *m;
    struct asc_job job;
    struct asc_error e;
    int rc;

    if (!real(o->lambda, -1, &lambda.value) || lambda.value >= 1)
        return out_usage("task", "--lambda %s: a number, at least 0 and below 1", o->lambda);
    if (asc_matrix_open(at[2], o->tensor, &m, &e) != 0)
        return out_error(cli, &e);
    q.matrix = m;
    q.rows = asc_matrix_rows(m);
    if (q.rows == 0)
        rc = out_input(cli, "%s: there are no rows in it", at[2]);
    else if (asc_task_put(c, at[0], at[1], &q, &lambda, &job, &e) != 0)
        rc = out_error(cli, &e);
    else
        rc = cmd_job_follow(cli, c, &job, "task", o->no_wait);
    asc_matrix_close(m);
    return rc;
}

static void print_row(const json_t *t)
{
    printf("%-24s %-6s %8.4f %8lld rows  rank %lld\n",
           json_string_value(json_object_get(t, "name")),
           json_string_value(json_object_get(t, "state")),
           json_number_value(json_object_get(t, "lambda")),
           (long long)json_integer_value(json_object_get(t, "rows")),
           (long long)json_integer_value(json_object_get(t, "rank")));
}

/* One task whole, or a line for each. */
static int show(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const char *corpus = at[0], *task = at[1];
    struct asc_error e;
    char *text = NULL;
    json_t *o;
    int rc = task ? asc_task_get(c, corpus, task, &text, &e)
                  : asc_task_list(c, corpus, &text, &e);

    (void)options;
    if (rc != 0)
        return out_error(cli, &e);
    o = json_loads(text, 0, NULL);
    free(text);
    if (cli->json) {
        out_json(o);
        return EXIT_OK;
    }
    if (task) {
        json_object_del(o, "spectra"); /* for plots: with --json */
        out_object(o);
    } else {
        size_t i;
        json_t *t;

        json_array_foreach(json_object_get(o, "tasks"), i, t)
            print_row(t);
    }
    json_decref(o);
    return EXIT_OK;
}

static int delete(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_error e;

    (void)options;
    if (asc_task_delete(c, at[0], at[1], &e) != 0)
        return out_error(cli, &e);
    return out_done(cli, "deleted", at[1]);
}

static const char task_about[] =
    "  task put CORPUS TASK FILE    from the gradients of an evaluation set (.npy, .safetensors)\n"
    "  task list CORPUS\n"
    "  task show CORPUS TASK        lambda, ranks; with --json the spectra too\n"
    "  task delete CORPUS TASK\n"
    "A task mixes the Hessian of its evaluation set into that of a fitted corpus, and no row is\n"
    "encoded again. Without --lambda it is chosen by the rule, for --downweight.";

int cmd_task(struct cli *cli, int argc, char **argv)
{
    static const struct verb verbs[] = {{"put", "CORPUS TASK FILE", 0, put},
                                        {"list", "CORPUS", 0, show},
                                        {"show", "CORPUS TASK", 0, show},
                                        {"delete", "CORPUS TASK", 0, delete},
                                        {0}};
    struct task_options o = {0};
    const struct arg list[] = {
        {"--lambda", 0, ARG_TEXT, &o.lambda, 0, 0, "X", "share of the task's Hessian, below 1"},
        {"--downweight", 0, ARG_COUNT, &o.downweight, 1, INT32_MAX, "N",
         "directions of 65,536 to hold down (1000)"},
        {"--tensor", 0, ARG_TEXT, &o.tensor, 0, 0, "NAME", "which tensor of a .safetensors"},
        {"--no-wait", 0, ARG_FLAG, &o.no_wait, 0, 0, NULL, "print the job and leave it to run"},
        {0}};
    const struct args args = {"task put|list|show|delete CORPUS [TASK [FILE]]", task_about, list, 2,
                              4};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (o.lambda && o.downweight)
        return out_usage("task", "--lambda or --downweight, not both");
    return verbs_run(cli, "task", verbs, count, argv, &o);
}
