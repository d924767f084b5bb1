/* api_keys.c - /v1/admin/keys: make, list, rotate, end. The secret is in one answer and
 * nowhere else: who holds it on the way wipes it (docs/SECURITY.md). */
#include "server/api.h"

#include <string.h>
#include <time.h>

#include <sodium.h>

#include "server/auth.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/runtime.h"

/* ,"NAME":"2027-01-01T00:00:00Z", or null for 0 */
static void put_time(struct buf *b, const char *name, int64_t seconds)
{
    char text[32];
    time_t when = (time_t)seconds;
    struct tm tm;

    buf_format(b, ",\"%s\":", name);
    if (!seconds) {
        buf_add_text(b, "null");
        return;
    }
    gmtime_r(&when, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_put_text(b, text, strlen(text));
}

static void put_key(struct buf *b, const struct auth_key *k)
{
    buf_format(b, "\"id\":\"%s\",\"scope\":\"%s\",\"corpus\":", k->id,
               auth_scopes_name(k->scopes));
    if (k->corpus[0])
        json_put_text(b, k->corpus, strlen(k->corpus));
    else
        buf_add_text(b, "null");
    buf_add_text(b, ",\"label\":");
    json_put_text(b, k->label, strlen(k->label));
    put_time(b, "created", k->created);
    put_time(b, "expires", k->expires);
    put_time(b, "last_used", k->used);
    if (k->rate)
        buf_format(b, ",\"rate\":%u", k->rate);
    else
        buf_add_text(b, ",\"rate\":null");
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

/* ---- POST /v1/admin/keys and /v1/admin/keys/{id}/rotate -------------------------------------- */

struct key_post {
    struct auth_key key;
    struct auth_key old; /* rotate: the one before */
    uint64_t overlap_s;
    char text[AUTH_TEXT_CHARS + 1]; /* the whole key; wiped once it is in the answer */
};

/* The answer that shows a key. Room for all of it first: a buffer that grew would leave a copy of
 * the secret behind. Nothing here goes through printf, which keeps copies too. */
static void put_secret(struct job *j, struct key_post *post, const struct auth_key *old)
{
    struct buf *b = &j->reply_body;

    if (buf_reserve(b, 4096)) {
        buf_add_text(b, "{\"key\":\"");
        buf_add(b, post->text, AUTH_TEXT_CHARS);
        buf_add_text(b, "\",");
        put_key(b, &post->key);
        if (old) {
            buf_format(b, ",\"replaces\":{\"id\":\"%s\"", old->id);
            put_time(b, "expires", old->expires);
            buf_add(b, "}", 1);
        }
        buf_add(b, "}", 1);
    }
    sodium_memzero(post->text, sizeof post->text);
    j->secret = true;
    api_body_done(j);
}

static int check_grant(struct job *j, const struct auth_grant *g)
{
    if (strcmp(g->label, AUTH_FILE_LABEL) == 0) {
        err_set(&j->err, ERR_INVALID, "the label %s is the server's own", AUTH_FILE_LABEL);
        return err_at_field(&j->err, "label");
    }
    if (!g->corpus)
        return 0;
    if (g->scopes & SCOPE_ADMIN) {
        err_set(&j->err, ERR_INVALID, "a key of one corpus has the scope read or write");
        return err_at_field(&j->err, "scope");
    }
    return api_check_name(j, "corpus", g->corpus);
}

static int read_key(struct job *j, struct key_post *post, const json_t *doc)
{
    static const char *const members[] = {"scope", "label", "corpus", "expires_s", "rate", NULL};
    struct auth_grant grant = {.label = ""};
    const char *scope = NULL;
    uint64_t rate = 0;
    int code = json_only(doc, members, &j->err);

    if (!code)
        code = json_get_text(doc, "scope", 16, &scope, &j->err);
    if (!code)
        code = json_get_text(doc, "label", LIMIT_JSON_BODY, &grant.label, &j->err);
    if (!code)
        code = json_get_text(doc, "corpus", LIMIT_JSON_BODY, &grant.corpus, &j->err);
    if (!code)
        code = json_get_number(doc, "expires_s", 1, LIMIT_KEY_S, &grant.lifetime_s, &j->err);
    if (!code)
        code = json_get_number(doc, "rate", 1, LIMIT_KEY_RATE, &rate, &j->err);
    if (code)
        return code;
    grant.rate = (uint32_t)rate;
    if (!scope || !auth_scopes_from_name(scope, &grant.scopes)) {
        err_set(&j->err, ERR_INVALID, "member scope: must be read, write or admin");
        return err_at_field(&j->err, "scope");
    }
    code = check_grant(j, &grant);
    return code ? code : auth_make(&grant, &post->key, post->text, &j->err);
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
    put_secret(j, post, NULL);
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

/* Wiped also when the request failed half way, or its client left. */
void keys_post_finish(struct job *j)
{
    struct key_post *post = j->state;

    if (post)
        sodium_memzero(post->text, sizeof post->text);
}

int keys_rotate_work(struct job *j)
{
    static const char *const members[] = {"overlap_s", NULL};
    struct key_post *post = j->state = arena_new(&j->arena, 1, sizeof *post);
    json_t *doc = NULL;
    int code = 0;

    post->overlap_s = LIMIT_KEY_OVERLAP_DEFAULT_S;
    if (j->body_len == 0)
        return 0;
    code = json_read_object(j->body, j->body_len, JSON_CONTROL, &doc, &j->err);
    if (!code)
        code = json_only(doc, members, &j->err);
    if (!code)
        code = json_get_number(doc, "overlap_s", 0, LIMIT_KEY_OVERLAP_S, &post->overlap_s,
                               &j->err);
    json_decref(doc);
    return code;
}

static void rotate_key(struct job *j, struct key_post *post)
{
    if (auth_rotate(j->rt->auth, j->rt->store, j->path[0], post->overlap_s, &post->key, &post->old,
                    post->text, &j->err))
        return;
    api_audit(j, "key rotated", post->key.id);
    put_secret(j, post, &post->old);
}

void keys_rotate_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!job_stopped(jobs[i]))
            rotate_key(jobs[i], jobs[i]->state);
}

/* ---- DELETE /v1/admin/keys/{id} -------------------------------------------------------------- */

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
