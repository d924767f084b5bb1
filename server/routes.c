/* routes.c - the table of routes: what the server answers, and nothing else. One row is a route,
 * its scope, its line in /openapi.json, and the functions that stand together in one api_*.c. */
#include "server/api.h"
#include "server/api_meta.h"
#include "server/route.h"

const struct route route_table[] = {
    API_META_ROUTES,

    {"PUT", "/v1/corpora/{c}", SCOPE_WRITE, BODY_JSON, false, "Create a corpus", NULL,
     corpora_put_parse, corpora_put_work, corpora_put_commit, corpora_put_reply, NULL},
    {"GET", "/v1/corpora", SCOPE_READ, BODY_NONE, false, "List the corpora", NULL, api_parse_plain,
     corpora_list_work, NULL, api_ok, NULL},
    {"GET", "/v1/corpora/{c}", SCOPE_READ, BODY_NONE, false, "A corpus: manifest and numbers", NULL,
     api_parse_corpus, corpora_get_work, NULL, api_ok, NULL},
    {"DELETE", "/v1/corpora/{c}", SCOPE_ADMIN, BODY_NONE, false, "Drop a corpus", NULL,
     api_parse_corpus, corpora_delete_work, corpora_delete_commit, api_no_content, NULL},

    {"PUT", "/v1/corpora/{c}/batches/{b}", SCOPE_WRITE, BODY_TENSOR, false,
     "Ingest a batch: all or nothing, durable when answered, safe to resend", NULL,
     batches_put_parse, batches_put_work, batches_put_commit, batches_put_reply,
     batches_put_finish},

    {"GET", "/v1/corpora/{c}/examples", SCOPE_READ, BODY_NONE, false,
     "Examples in ingest order, by pages", "after limit filter", examples_list_parse,
     examples_list_work, NULL, api_ok, NULL},
    {"GET", "/v1/corpora/{c}/examples/{id}", SCOPE_READ, BODY_NONE, false, "One example", NULL,
     examples_parse, examples_get_work, NULL, api_ok, NULL},
    {"GET", "/v1/corpora/{c}/examples/{id}/encoding", SCOPE_READ, BODY_NONE, false,
     "One example's stored unit vector, as safetensors", NULL, examples_parse,
     examples_encoding_work, NULL, examples_encoding_reply, NULL},
    {"DELETE", "/v1/corpora/{c}/examples/{id}", SCOPE_WRITE, BODY_NONE, false,
     "Take an example down, effective at once", NULL, examples_parse, examples_delete_work,
     examples_delete_commit, api_no_content, NULL},

    {"POST", "/v1/corpora/{c}/query", SCOPE_READ, BODY_TENSOR, false,
     "Proponents and opponents of query gradients", "k opponents engine text filter task", query_parse,
     query_work, NULL, api_ok, NULL},
    {"POST", "/v1/corpora/{c}/fit", SCOPE_WRITE, BODY_NONE, false,
     "Start a fit: estimate the Hessian of the corpus and whiten its rows", "damping sample",
     fit_parse, fit_work, NULL, fit_reply, NULL},
    {"PUT", "/v1/corpora/{c}/tasks/{t}", SCOPE_WRITE, BODY_TENSOR, false,
     "Make a task from the gradients of an evaluation set", "lambda downweight", tasks_put_parse,
     tasks_put_work, NULL, tasks_put_reply, NULL},
    {"GET", "/v1/corpora/{c}/tasks", SCOPE_READ, BODY_NONE, false, "List the tasks", NULL,
     api_parse_corpus, tasks_list_work, NULL, api_ok, NULL},
    {"GET", "/v1/corpora/{c}/tasks/{t}", SCOPE_READ, BODY_NONE, false,
     "A task: lambda, ranks, spectra", NULL, tasks_parse, tasks_get_work, NULL, api_ok, NULL},
    {"DELETE", "/v1/corpora/{c}/tasks/{t}", SCOPE_WRITE, BODY_NONE, false, "Delete a task", NULL,
     tasks_parse, tasks_delete_work, tasks_delete_commit, api_no_content, NULL},
    {"POST", "/v1/corpora/{c}/scores", SCOPE_READ, BODY_TENSOR, false,
     "Every example's score, streamed as safetensors", "dtype filter task", scores_parse, scores_work,
     NULL, api_ok, NULL},

    {"GET", "/v1/jobs", SCOPE_READ, BODY_NONE, false, "Long work, newest first", NULL,
     api_parse_plain, NULL, NULL, jobs_list_reply, NULL},
    {"GET", "/v1/jobs/{j}", SCOPE_READ, BODY_NONE, false, "One job", NULL, api_parse_plain, NULL,
     NULL, jobs_get_reply, NULL},
    {"DELETE", "/v1/jobs/{j}", SCOPE_ADMIN, BODY_NONE, false, "Ask a job to stop", NULL,
     api_parse_plain, NULL, NULL, jobs_delete_reply, NULL},

    {"POST", "/v1/admin/backup", SCOPE_ADMIN, BODY_NONE, false, "Start a backup", NULL,
     api_parse_plain, admin_backup_work, NULL, admin_reply, NULL},
    {"POST", "/v1/admin/verify", SCOPE_ADMIN, BODY_NONE, false,
     "Start a check of everything that is stored", NULL, api_parse_plain, admin_verify_work, NULL,
     admin_reply, NULL},
    {"POST", "/v1/admin/compact", SCOPE_ADMIN, BODY_NONE, false,
     "Start a rewrite without what was deleted", "corpus", admin_compact_parse, admin_compact_work,
     NULL, admin_reply, NULL},
    {"GET", "/v1/admin/keys", SCOPE_ADMIN, BODY_NONE, false, "Keys, without their secrets", NULL,
     api_parse_plain, NULL, NULL, keys_list_reply, NULL},
    {"POST", "/v1/admin/keys", SCOPE_ADMIN, BODY_JSON, false, "Make a key", NULL, api_parse_plain,
     keys_post_work, keys_post_commit, keys_post_reply, NULL},
    {"DELETE", "/v1/admin/keys/{id}", SCOPE_ADMIN, BODY_NONE, false, "End a key, effective at once",
     NULL, api_parse_plain, keys_delete_work, keys_delete_commit, api_no_content, NULL},
};

const size_t route_count = sizeof route_table / sizeof route_table[0];
