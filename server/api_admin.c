/* api_admin.c - /v1/admin/verify, backup, compact: long work as jobs (server/upkeep.h). */
#include "server/api.h"

#include <string.h>

#include "server/upkeep.h"
#include "server/runtime.h"
#include "server/tasks.h"

/* The task was queued under `id` and has described itself in the body. */
static int started(struct job *j, const char *kind, const char *id)
{
    api_audit(j, kind, id);
    j->reply_location = arena_format(&j->arena, "/v1/jobs/%s", id);
    buf_add(&j->reply_body, "}", 1);
    return api_body_done(j);
}

static struct buf *opened(struct job *j)
{
    buf_add_text(&j->reply_body, "{\"job\":");
    return &j->reply_body;
}

/* "none", or the name of a backup: the moment and a number. */
static bool is_base(const char *base)
{
    return strcmp(base, "none") == 0 ||
           (*base >= '0' && *base <= '9' && strlen(base) < 48 &&
            strspn(base, "0123456789TZ-") == strlen(base));
}

int admin_backup_parse(struct job *j)
{
    static const char *const names[] = {"base", NULL};
    int code = job_query_only(j, names);
    const char *base = job_query(j, "base");

    if (code || !base || is_base(base))
        return code;
    err_set(&j->err, ERR_INVALID, "base \"%.48s\": the name of a backup, or none", base);
    return err_at_field(&j->err, "base");
}

int admin_backup_work(struct job *j)
{
    char id[TASK_ID_MAX];
    int code = upkeep_backup(j->rt, job_query(j, "base"), id, opened(j), &j->err);

    return code ? code : started(j, "backup", id);
}

int admin_verify_work(struct job *j)
{
    char id[TASK_ID_MAX];
    int code = upkeep_verify(j->rt, id, opened(j), &j->err);

    return code ? code : started(j, "verify", id);
}

int admin_compact_parse(struct job *j)
{
    static const char *const names[] = {"corpus", NULL};
    const char *corpus;
    int code = job_query_only(j, names);

    corpus = job_query(j, "corpus");
    return !code && corpus ? api_check_name(j, "corpus", corpus) : code;
}

int admin_compact_work(struct job *j)
{
    char id[TASK_ID_MAX];
    int code = upkeep_compact(j->rt, job_query(j, "corpus"), id, opened(j), &j->err);

    return code ? code : started(j, "compact", id);
}

int admin_reply(struct job *j)
{
    j->status = 202;
    return 0;
}
