/* api_admin.c - /v1/admin: verify, backup, compact as jobs; keys. Each is noted in the log with the
 * key that asked. */
#include "server/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/auth.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/maintain_tasks.h"
#include "server/runtime.h"
#include "server/tasks.h"
#include "storage/store.h"

static void audit(const struct job *j, const char *what, const char *on)
{
    struct log_line line;

    log_begin(&line, LOG_INFO, "admin");
    log_text(&line, "what", what);
    log_text(&line, "on", on);
    log_text(&line, "key", j->key_id ? j->key_id : "");
    log_text(&line, "request", j->request_id);
    log_end(&line);
}

static void put_time(struct buf *b, int64_t seconds)
{
    char text[32];
    time_t when = (time_t)seconds;
    struct tm tm;

    gmtime_r(&when, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_put_text(b, text, strlen(text));
}

/* ---- jobs ---------------------------------------------------------------------------------------- */

/* The job was queued under `id`: the answer's body and Location. */
static int started(struct job *j, const char *kind, const char *id)
{
    int code;

    audit(j, kind, id);
    j->reply_location = arena_format(&j->arena, "/v1/jobs/%s", id);
    buf_add_text(&j->reply_body, "{\"job\":");
    code = tasks_describe(j->rt->tasks, id, &j->reply_body, &j->err);
    buf_add(&j->reply_body, "}", 1);
    return code ? code : api_body_done(j);
}

int admin_backup_work(struct job *j)
{
    char id[TASK_ID_MAX];
    int code = maintain_start_backup(j->rt, id, &j->err);

    return code ? code : started(j, "backup", id);
}

int admin_verify_work(struct job *j)
{
    char id[TASK_ID_MAX];
    int code = maintain_start_verify(j->rt, id, &j->err);

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
    int code = maintain_start_compact(j->rt, job_query(j, "corpus"), id, &j->err);

    return code ? code : started(j, "compact", id);
}

int admin_reply(struct job *j)
{
    j->status = 202;
    return 0;
}

/* ---- keys ---------------------------------------------------------------------------------------- */

static void put_key(struct buf *b, const struct auth_key *k)
{
    buf_format(b, "\"id\":\"%s\",\"scope\":\"%s\",\"label\":", k->id,
               auth_scopes_name(k->scopes));
    json_put_text(b, k->label, strlen(k->label));
    buf_add_text(b, ",\"created\":");
    put_time(b, k->created);
}

int keys_list_reply(struct job *j)
{
    struct auth_key *keys = arena_new(&j->arena, LIMIT_KEYS, sizeof *keys);
    size_t count = auth_list(j->rt->auth, keys, LIMIT_KEYS);

    if (count > LIMIT_KEYS)
        count = LIMIT_KEYS;
    buf_add_text(&j->reply_body, "{\"keys\":[");
    for (size_t i = 0; i < count; i++) {
        buf_add_text(&j->reply_body, i ? ",{" : "{");
        put_key(&j->reply_body, &keys[i]);
        buf_add(&j->reply_body, "}", 1);
    }
    buf_add_text(&j->reply_body, "]}");
    return api_body_done(j);
}

struct key_post {
    struct auth_key key;
    char text[AUTH_TEXT_CHARS + 1]; /* the secret: shown once, wiped with the arena's blocks */
};

static int read_key(struct job *j, struct key_post *post, const json_t *doc)
{
    static const char *const members[] = {"scope", "label", NULL};
    const char *scope = NULL, *label = "";
    unsigned scopes;
    int code = json_only(doc, members, &j->err);

    if (!code)
        code = json_get_text(doc, "scope", 16, &scope, &j->err);
    if (!code)
        code = json_get_text(doc, "label", AUTH_LABEL_MAX, &label, &j->err);
    if (code)
        return code;
    if (!scope || !auth_scopes_from_name(scope, &scopes)) {
        err_set(&j->err, ERR_INVALID, "member scope: must be read, write or admin");
        return err_at_field(&j->err, "scope");
    }
    return auth_make(scopes, label, &post->key, post->text, &j->err);
}

int keys_post_work(struct job *j)
{
    json_t *doc = NULL;
    int code = json_read_object(j->body, j->body_len, JSON_CONTROL, &doc, &j->err);

    if (code)
        return code;
    j->state = arena_new(&j->arena, 1, sizeof(struct key_post));
    code = read_key(j, j->state, doc);
    json_decref(doc);
    return code;
}

static void save_key(struct job *j, struct key_post *post)
{
    if (auth_save(j->rt->auth, j->rt->store, &post->key, &j->err))
        return;
    auth_publish(j->rt->auth, &post->key);
    audit(j, "key created", post->key.id);
    buf_format(&j->reply_body, "{\"key\":\"%s\",", post->text);
    put_key(&j->reply_body, &post->key);
    buf_add(&j->reply_body, "}", 1);
    api_body_done(j);
}

void keys_post_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!job_stopped(jobs[i]))
            save_key(jobs[i], jobs[i]->state);
}

int keys_post_reply(struct job *j)
{
    const struct key_post *post = j->state;

    j->status = 201;
    j->reply_location = arena_format(&j->arena, "/v1/admin/keys/%s", post->key.id);
    j->reply_extra = "Cache-Control: no-store\r\n";
    return 0;
}

int keys_delete_work(struct job *j)
{
    (void)j; /* all of it belongs to the writer lane */
    return 0;
}

/* First in memory, so that it ends at once; when the record cannot go, the key works again: what is
 * answered must hold after a restart too. */
static void delete_key(struct job *j)
{
    struct auth_key was;

    if (auth_withdraw(j->rt->auth, j->path[0], &was, &j->err))
        return;
    if (auth_erase(j->rt->store, was.id, &j->err))
        auth_publish(j->rt->auth, &was);
    else
        audit(j, "key deleted", was.id);
}

void keys_delete_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!job_stopped(jobs[i]))
            delete_key(jobs[i]);
}
