/* api_jobs.c - /v1/jobs: list, look, cancel. The registry is memory (server/tasks.h), so the loop
 * answers by itself: a look at a job works however busy the readers are. */
#include "server/api.h"

#include "server/runtime.h"
#include "server/tasks.h"

int jobs_list_reply(struct job *j)
{
    buf_add_text(&j->reply_body, "{\"jobs\":");
    tasks_list(j->rt->tasks, j->key_corpus, &j->reply_body);
    buf_add(&j->reply_body, "}", 1);
    return api_body_done(j);
}

int jobs_get_reply(struct job *j)
{
    int code = tasks_describe(j->rt->tasks, j->path[0], j->key_corpus, &j->reply_body, &j->err);

    return code ? code : api_body_done(j);
}

int jobs_delete_reply(struct job *j)
{
    int code = tasks_cancel(j->rt->tasks, j->path[0], &j->err);

    if (code)
        return code;
    api_audit(j, "job cancelled", j->path[0]);
    buf_add_text(&j->reply_body, "{\"job\":");
    code = tasks_describe(j->rt->tasks, j->path[0], NULL, &j->reply_body, &j->err);
    buf_add(&j->reply_body, "}", 1);
    j->status = 202;
    return code ? code : api_body_done(j);
}
