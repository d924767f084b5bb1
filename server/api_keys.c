/* api_keys.c - /v1/admin/keys: make, list, end. The secret is in one answer and nowhere else. */
#include "server/api.h"

#include <string.h>
#include <time.h>

#include "server/auth.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/runtime.h"

static void put_time(struct buf *b, int64_t seconds)
{
    char text[32];
    time_t when = (time_t)seconds;
    struct tm tm;

    gmtime_r(&when, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_put_text(b, text, strlen(text));
}

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
        code = json_get_text(doc, "label", LIMIT_JSON_BODY, &label, &j->err);
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
    api_audit(j, "key created", post->key.id);
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
        api_audit(j, "key deleted", was.id);
}

void keys_delete_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!job_stopped(jobs[i]))
            delete_key(jobs[i]);
}
