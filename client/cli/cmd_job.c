/* cmd_job.c - `ascribe job`, and the verbs that start one and wait for it: backup, verify,
 * compact. */
#include "client/cli/args.h"
#include "client/cli/progress.h"
#include "client/cli/verbs.h"

#include <stdlib.h>
#include <string.h>

static json_t *as_json(const struct asc_job *j)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:f, s:s}", "id", j->id, "kind", j->kind, "state",
                          j->state, "progress", j->progress, "created", j->created);

    if (o)
        json_object_set_new(o, "rate", j->rate >= 0 ? json_real(j->rate) : json_null());
    if (o)
        json_object_set_new(o, "eta_s", j->eta_s >= 0 ? json_real(j->eta_s) : json_null());
    if (o && j->result)
        json_object_set_new(o, "result", json_loads(j->result, JSON_DECODE_ANY, NULL));
    if (o && j->error)
        json_object_set_new(o, "error", json_loads(j->error, JSON_DECODE_ANY, NULL));
    return o;
}

static void print_job(const struct cli *cli, const struct asc_job *j)
{
    json_t *o = as_json(j);

    if (cli->json) {
        out_json(o);
        return;
    }
    out_object(o);
    json_decref(o);
}

/* A job that ended without its work done is a failure of the command too. So is damage that verify
 * found: the job did well, the store did not. */
static int code_of(const struct asc_job *j)
{
    json_t *result = j->result ? json_loads(j->result, JSON_DECODE_ANY, NULL) : NULL;
    const json_t *findings = json_object_get(result, "findings");
    bool damage = json_is_array(findings)     ? json_array_size(findings) > 0
                  : json_is_integer(findings) ? json_integer_value(findings) > 0
                                              : false;

    json_decref(result);
    return strcmp(j->state, "succeeded") == 0 && !damage ? EXIT_OK : EXIT_SERVER;
}

static int look(void *user, const struct asc_job *j)
{
    struct progress_state s = PROGRESS_STATE_NONE;

    s.fraction = j->progress;
    s.rate = j->rate;
    s.eta_s = j->eta_s;
    s.note = j->state;
    progress_show(user, &s, asc_job_done(j));
    return session_stopped();
}

static int wait_for(struct cli *cli, struct asc_client *c, const char *id, const char *kind)
{
    struct progress p;
    struct asc_job job;
    struct asc_error e;
    char what[128];
    int rc;

    snprintf(what, sizeof what, "%s %s", kind, id);
    progress_start(&p, what, cli->quiet);
    rc = asc_job_wait(c, id, 200, look, &p, &job, &e);
    progress_end(&p);
    if (rc != 0) {
        if (session_stopped() && !cli->json)
            fprintf(stderr, "ascribe: interrupted; the job goes on: ascribe job wait %s\n", id);
        return session_stopped() ? EXIT_STOPPED : out_error(cli, &e);
    }
    print_job(cli, &job);
    rc = code_of(&job);
    asc_job_clear(&job);
    return rc;
}

static int list_all(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_job *list;
    struct asc_error e;
    size_t count;

    (void)at;
    (void)options;
    if (asc_job_list(c, &list, &count, &e) != 0)
        return out_error(cli, &e);
    if (!cli->json && count > 0)
        printf("%-12s %-10s %-10s %9s  %s\n", "job", "kind", "state", "progress", "created");
    for (size_t i = 0; i < count; i++)
        if (cli->json)
            out_json(as_json(&list[i]));
        else
            printf("%-12s %-10s %-10s %8.0f%%  %s\n", list[i].id, list[i].kind, list[i].state,
                   list[i].progress * 100, list[i].created);
    asc_jobs_free(list, count);
    return EXIT_OK;
}

static int show(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_job job;
    struct asc_error e;

    (void)options;
    if (asc_job_get(c, at[0], &job, &e) != 0)
        return out_error(cli, &e);
    print_job(cli, &job);
    asc_job_clear(&job);
    return EXIT_OK;
}

static int cancel(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_error e;

    (void)options;
    if (asc_job_cancel(c, at[0], &e) != 0)
        return out_error(cli, &e);
    if (cli->json)
        out_json(json_pack("{s:s}", "cancelling", at[0]));
    else
        printf("%s: asked to stop\n", at[0]);
    return EXIT_OK;
}

static int wait_until_done(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    (void)options;
    return wait_for(cli, c, at[0], "job");
}

int cmd_job(struct cli *cli, int argc, char **argv)
{
    static const struct verb verbs[] = {{"list", "", 0, list_all},
                                        {"show", "JOB", 0, show},
                                        {"cancel", "JOB", 0, cancel},
                                        {"wait", "JOB", 0, wait_until_done},
                                        {0}};
    const struct arg list[] = {{0}};
    const struct args args = {"job list|show|cancel|wait [JOB]",
                              "  job list          newest first\n"
                              "  job show JOB      state, progress, result\n"
                              "  job cancel JOB    ask it to stop\n"
                              "  job wait JOB      until it is done; exit code 4 when it failed",
                              list, 1, 2};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    return rc >= 0 ? rc : verbs_run(cli, "job", verbs, count, argv, NULL);
}

int cmd_job_follow(struct cli *cli, struct asc_client *c, struct asc_job *job, const char *kind,
               bool no_wait)
{
    int rc = EXIT_OK;

    if (no_wait)
        print_job(cli, job);
    else
        rc = wait_for(cli, c, job->id, kind);
    asc_job_clear(job);
    return rc;
}

/* --- The verbs that start a job --------------------------------------------------------------- */

enum kind { BACKUP, VERIFY, COMPACT };

/* `of`: of a backup its base, of a compaction its corpus, or NULL. */
static int begin(struct cli *cli, enum kind kind, const char *of, bool no_wait)
{
    static const char *const names[] = {"backup", "verify", "compact"};
    struct asc_client *c;
    struct asc_job job;
    struct asc_error e;
    int rc = session_open(cli, NULL, NULL, &c);

    if (rc != 0)
        return rc;
    rc = kind == BACKUP   ? asc_backup(c, of, &job, &e)
         : kind == VERIFY ? asc_verify(c, &job, &e)
                          : asc_compact(c, of, &job, &e);
    rc = rc != 0 ? out_error(cli, &e) : cmd_job_follow(cli, c, &job, names[kind], no_wait);
    asc_close(c);
    return rc;
}

static int starter(struct cli *cli, int argc, char **argv, enum kind kind, const char *usage,
                   const char *about)
{
    const char *base = NULL;
    bool no_wait = false;
    const struct arg wait = {"--no-wait", 0, ARG_FLAG, &no_wait, 0, 0, NULL,
                             "print the job and leave it to run"};
    const struct arg with_base[] = {
        {"--base", 0, ARG_TEXT, &base, 0, 0, "NAME",
         "the backup to share unchanged shards with; none: copy all (the latest)"},
        wait,
        {0}};
    const struct arg list[] = {wait, {0}};
    const struct args args = {usage, about, kind == BACKUP ? with_base : list, 0,
                              kind == COMPACT ? 1 : 0};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    return rc >= 0 ? rc : begin(cli, kind, count ? argv[1] : base, no_wait);
}

int cmd_job_backup(struct cli *cli, int argc, char **argv)
{
    return starter(cli, argc, argv, BACKUP, "backup [--base NAME|none] [--no-wait]",
                   "Has the server write a backup below STORE/backups/ while it serves on,\n"
                   "and waits for it. It costs what came since the one before: unchanged shards\n"
                   "are shared. `ascribed restore` makes a store of one.");
}

int cmd_job_verify(struct cli *cli, int argc, char **argv)
{
    return starter(cli, argc, argv, VERIFY, "verify [--no-wait]",
                   "Has the server read everything it stores and check every checksum, and waits.\n"
                   "Exit code 4 when anything is damaged; the result names it.");
}

int cmd_job_compact(struct cli *cli, int argc, char **argv)
{
    return starter(cli, argc, argv, COMPACT, "compact [CORPUS] [--no-wait]",
                   "Reclaims the room of deleted examples and joins small chunks, in one corpus\n"
                   "or in all, and waits.");
}
