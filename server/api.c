/* api.c - see api.h. */
#include "server/api.h"

#include <string.h>

#include "server/metrics.h"
#include "server/runtime.h"
#include "server/scan.h"
#include "server/sift.h"
#include "storage/store.h"

int api_parse_plain(struct job *j)
{
    static const char *const none[] = {NULL};

    return job_query_only(j, none);
}

int api_check_name(struct job *j, const char *what, const char *text)
{
    if (store_name_valid(text, strlen(text)))
        return 0;
    err_set(&j->err, ERR_INVALID,
            "\"%.80s\" is not a name: 1 to 63 of a-z, 0-9, _ and -, the first a letter or digit",
            text);
    err_at_field(&j->err, what);
    return err_at_limit(&j->err, STORE_NAME_MAX);
}

int api_parse_corpus(struct job *j)
{
    int code = api_parse_plain(j);

    return code ? code : api_check_name(j, "corpus", j->path[0]);
}

int api_query_bool(struct job *j, const char *name, bool fallback, bool *out)
{
    const char *value = job_query(j, name);

    if (!value) {
        *out = fallback;
    } else if (strcmp(value, "1") == 0 || strcmp(value, "true") == 0) {
        *out = true;
    } else if (strcmp(value, "0") == 0 || strcmp(value, "false") == 0) {
        *out = false;
    } else {
        err_set(&j->err, ERR_INVALID, "parameter %s: must be 1, 0, true or false", name);
        return err_at_field(&j->err, name);
    }
    return 0;
}

int api_corpus(struct job *j, struct corpus **out)
{
    struct corpus *c = store_corpus_find(j->rt->store, j->path[0]);

    if (!c)
        return err_set(&j->err, ERR_UNKNOWN_CORPUS, "no corpus \"%s\"", j->path[0]);
    *out = c;
    return 0;
}

bool api_ended(void *job)
{
    struct job *j = job;

    return atomic_load_explicit(&j->cancelled, memory_order_relaxed) ||
           (j->deadline_ns && scan_now() > j->deadline_ns);
}

struct stop api_stop(struct job *j)
{
    return (struct stop){.asked = api_ended, .arg = j};
}

int api_stopped(struct job *j, int code)
{
    if (code == ERR_CANCELLED && job_stopped(j))
        return (int)j->err.code;
    return code;
}

int api_filter(struct job *j, const char *filter, const struct view *v, const struct view **out)
{
    struct stop stop = api_stop(j);
    struct sift_by by;
    int code = sift_parse(filter, filter ? strlen(filter) : 0, &j->arena, &by, &j->err);

    if (!code)
        code = sift_view(j->rt->sift, &by, v, j->rt->pool, &stop, &j->arena, out, &j->err);
    return api_stopped(j, code);
}

int api_score(const char *name, bool *dot, struct err *e)
{
    if (!name)
        return 0;
    *dot = strcmp(name, "dot") == 0;
    if (*dot || strcmp(name, "cosine") == 0)
        return 0;
    err_set(e, ERR_INVALID, "score \"%.32s\": cosine or dot", name);
    return err_at_field(e, "score");
}

int api_body_done(struct job *j)
{
    if (j->reply_body.failed)
        return err_set(&j->err, ERR_BUSY, "no memory for the answer");
    return 0;
}

bool api_body_is_json(const struct job *j)
{
    return strcmp(j->content_type, "application/json") == 0;
}

int api_seen(struct job *j, int code)
{
    if (code == ERR_CORRUPT)
        metrics_add(j->rt->metrics, METRIC_CORRUPT, 1);
    return code;
}

int api_ok(struct job *j)
{
    j->status = 200;
    return 0;
}

int api_no_content(struct job *j)
{
    j->status = 204;
    return 0;
}

void api_audit(struct job *j, const char *what, const char *on)
{
    j->audit_note = arena_format(&j->arena, "%s %s", what, on);
}
