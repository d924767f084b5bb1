/* api_fit.c - POST /v1/corpora/{c}/fit: starts the job of server/fit.h. */
#include "server/api.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/whiten.h"
#include "server/fit.h"
#include "server/runtime.h"

/* A plain decimal number; strtod alone would take spaces, hex and words too. */
int api_query_real(struct job *j, const char *name, double fallback, double *out)
{
    const char *text = job_query(j, name);
    char *end;
    double value;

    *out = fallback;
    if (!text)
        return 0;
    value = strtod(text, &end);
    if (*text == '\0' || *end != '\0' || text[strspn(text, "0123456789.eE+-")] != '\0' ||
        !isfinite(value)) {
        err_set(&j->err, ERR_INVALID, "parameter %s: \"%.40s\" is not a finite number", name, text);
        return err_at_field(&j->err, name);
    }
    *out = value;
    return 0;
}

int fit_parse(struct job *j)
{
    static const char *const names[] = {"damping", "sample", NULL};
    struct fit_options *o = arena_new(&j->arena, 1, sizeof *o);
    int code = job_query_only(j, names);

    j->state = o;
    if (!code)
        code = api_check_name(j, "corpus", j->path[0]);
    if (!code)
        code = api_query_real(j, "damping", WHITEN_DAMPING, &o->damping);
    if (!code && o->damping < 0) {
        err_set(&j->err, ERR_INVALID, "parameter damping: %g is negative", o->damping);
        code = err_at_field(&j->err, "damping");
    }
    if (!code)
        code = job_query_number(j, "sample", UINT64_MAX, 1, INT64_MAX, &o->sample);
    return code;
}

int fit_work(struct job *j)
{
    struct corpus *c = NULL;
    char id[TASK_ID_MAX];
    int code = api_corpus(j, &c);

    if (code)
        return code;
    buf_add_text(&j->reply_body, "{\"job\":");
    code = fit_start(j->rt, c, j->state, id, &j->reply_body, &j->err);
    corpus_release(c);
    if (code)
        return code;
    api_audit(j, "fit", j->path[0]);
    j->reply_location = arena_format(&j->arena, "/v1/jobs/%s", id);
    buf_add(&j->reply_body, "}", 1);
    return api_body_done(j);
}

int fit_reply(struct job *j)
{
    j->status = 202;
    return 0;
}
