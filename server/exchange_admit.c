/* exchange_admit.c - everything that is decided between a request's head and its body: framing,
 * target, route, key, scope, type, length, the route's own parse. Nothing of the body is read,
 * and no memory for it taken, before all of that has passed. See exchange.h. Loop thread.
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "server/auth.h"
#include "server/config.h"
#include "server/exchange.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/route.h"
#include "server/server.h"
#include "storage/base/keep.h"
#include "storage/base/keep.h"
#include "storage/base/plant.h"
#include "storage/base/spare.h"

static char *header(struct exchange *x, const struct head *h, const char *bytes, const char *name)
{
    unsigned count;
    const struct head_field *f = head_find(h, bytes, name, &count);

    if (count > 1) {
        err_set(&x->job.err, ERR_BAD_HTTP, "the header %s is there more than once", name);
        err_at_field(&x->job.err, name);
        return NULL;
    }
    return f ? arena_copy(&x->job.arena, bytes + f->value.at, f->value.len) : NULL;
}

/* A client's own request id is kept when it can stand in a header and in a log as it is. */
static void admit_request_id(struct exchange *x, const char *id)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    if (id && *id && strlen(id) <= JOB_REQUEST_ID_MAX && id[strspn(id, good)] == '\0')
        snprintf(x->job.request_id, sizeof x->job.request_id, "%s", id);
}

/* Where a proxy in front says that the request comes from: the client's word when there is none. */
static void admit_forwarded(struct exchange *x, const struct head *h, const char *bytes)
{
    unsigned count;
    const struct head_field *f = head_find(h, bytes, "X-Forwarded-For", &count);

    if (f)
        x->forwarded = arena_copy(&x->job.arena, bytes + f->value.at,
                                  f->value.len < 128 ? f->value.len : 128);
}

/* Of a right key or a wrong one: it stands in every log between here and there by now. */
static int refuse_key_in_url(struct job *j, const char *name)
{
    err_set(&j->err, ERR_INVALID, "the query parameter \"%.64s\" holds a key: keys go into the "
            "header Authorization; revoke this one, since URLs are logged on their way", name);
    return err_at_field(&j->err, name);
}

static int query_pair(struct job *j, const char *text, size_t len)
{
    const char *equals = memchr(text, '=', len);
    size_t name_len = equals ? (size_t)(equals - text) : len;
    const char *name = http_decode(&j->arena, text, name_len, true);
    const char *value = equals ? http_decode(&j->arena, equals + 1, len - name_len - 1, true) : "";

    if (!name || !value) {
        err_set(&j->err, ERR_INVALID, "a broken percent-escape in the query");
        return err_at_field(&j->err, name ? name : "query");
    }
    if (strncmp(value, "asc_", 4) == 0 && strlen(value) == AUTH_TEXT_CHARS) {
        sodium_memzero((char *)(uintptr_t)value, AUTH_TEXT_CHARS);
        return refuse_key_in_url(j, name);
    }
    if (job_query(j, name)) {
        err_set(&j->err, ERR_INVALID, "the query parameter \"%.64s\" is there twice", name);
        return err_at_field(&j->err, name);
    }
    if (j->query_count == JOB_QUERY_PARAMS) {
        err_set(&j->err, ERR_INVALID, "more than %d query parameters", JOB_QUERY_PARAMS);
        return err_at_limit(&j->err, JOB_QUERY_PARAMS);
    }
    j->query[j->query_count++] = (struct job_param){name, value};
    return 0;
}

static int admit_query(struct job *j, const char *query, size_t len)
{
    while (len) {
        const char *and = memchr(query, '&', len);
        size_t part = and ? (size_t)(and - query) : len;

        if (part && query_pair(j, query, part))
            return (int)j->err.code;
        if (!and)
            break;
        query += part + 1;
        len -= part + 1;
    }
    return 0;
}

/* May a key of one corpus come here? Either the path names that corpus, or the route is common. */
static bool within(const struct route *r, const struct job *j)
{
    static const char own[] = "/v1/corpora/{c}";

    return !j->key_corpus || (r->scope & SCOPE_COMMON) ||
           (strncmp(r->path, own, sizeof own - 1) == 0 && strcmp(j->path[0], j->key_corpus) == 0);
}

static int admit_key(struct exchange *x, const char *authorization)
{
    struct job *j = &x->job;
    struct auth_caller who;
    int code = auth_check(j->rt->auth, authorization, &who, &j->err);

    j->key_id = arena_copy(&j->arena, who.id, strlen(who.id));
    j->key_label = arena_copy(&j->arena, who.label, strlen(who.label));
    if (who.corpus[0])
        j->key_corpus = arena_copy(&j->arena, who.corpus, strlen(who.corpus));
    j->scopes = who.scopes;
    if (code == ERR_UNAUTHORIZED || code == ERR_KEY_EXPIRED)
        j->reply_extra = "WWW-Authenticate: Bearer\r\n";
    else if (code == ERR_RATE_LIMITED)
        j->reply_extra = arena_format(&j->arena, "Retry-After: %u\r\n", who.wait_s);
    return code;
}

/* Route, then key, then scope: without a key nothing but the open routes is told apart, and a key
 * of one corpus is not told which others there are. */
static int admit_route(struct exchange *x, const struct http_target *t, const char *authorization)
{
    struct job *j = &x->job;
    const char *method = x->head_only ? "GET" : x->framing.method;
    const struct route *r = NULL;
    char allow[64];
    int rc = route_find(j, method, t->path, t->path_len, &r, allow);

    j->route = r; /* for log and audit; whoever has no key is not told that there is one */
    if (r && r->scope == SCOPE_OPEN)
        return 0;
    if (admit_key(x, authorization))
        return (int)j->err.code;
    if (rc == ERR_METHOD)
        j->reply_extra = arena_format(&j->arena, "Allow: %s\r\n", allow);
    if (rc)
        return rc;
    if ((j->scopes & r->scope) == 0 && !planted(SCOPE_IGNORED))
        return err_set(&j->err, ERR_FORBIDDEN, "the key %s has the scope %s, this needs %s",
                       j->key_id, auth_scopes_name(j->scopes), auth_scopes_name(r->scope));
    if (!within(r, j))
        return err_set(&j->err, ERR_FORBIDDEN, "the key %s is for the corpus %s alone", j->key_id,
                       j->key_corpus);
    return 0;
}

/* An absent type passes: `curl -T file` sends none, and a body of the wrong kind does not parse. */
static int admit_type(struct job *j)
{
    const char *type = j->content_type;
    bool json = strcmp(type, "application/json") == 0;
    bool tensor = strcmp(type, "application/octet-stream") == 0 ||
                  strcmp(type, "application/vnd.safetensors") == 0;

    if (!*type || json || (tensor && j->route->body == BODY_TENSOR))
        return 0;
    err_set(&j->err, ERR_MEDIA, "the body is \"%.64s\"; taken here: application/json%s", type,
            j->route->body == BODY_TENSOR
                ? ", application/octet-stream, application/vnd.safetensors"
                : "");
    return err_at_field(&j->err, "Content-Type");
}

/* A compressed body would have to be unpacked under a bound of its own; nobody needs it here. */
static int admit_coding(struct job *j, const char *coding)
{
    if (!coding || http_equal(coding, strlen(coding), "identity"))
        return 0;
    err_set(&j->err, ERR_MEDIA, "the body is coded as \"%.64s\"; only identity is taken", coding);
    return err_at_field(&j->err, "Content-Encoding");
}

int exchange_too_large(struct exchange *x)
{
    err_set(&x->job.err, ERR_TOO_LARGE, "the body is larger than %llu bytes",
            (unsigned long long)x->body_limit);
    return err_at_limit(&x->job.err, (int64_t)x->body_limit);
}

static int admit_body(struct exchange *x)
{
    struct job *j = &x->job;
    const struct head_framing *f = &x->framing;
    bool some = f->chunked || f->length > 0;

    if (!some) {
        if (j->route->body == BODY_NONE || j->route->body_optional)
            return 0;
        return err_set(&j->err, ERR_LENGTH, "this route needs a body");
    }
    if (j->route->body == BODY_NONE)
        return err_set(&j->err, ERR_INVALID, "this route takes no body");
    if (admit_type(j) || admit_coding(j, x->coding))
        return (int)j->err.code;
    x->body_limit = LIMIT_JSON_BODY;
    if (j->route->body == BODY_TENSOR && strcmp(j->content_type, "application/json") != 0)
        x->body_limit = j->rt->config->body_limit;
    return f->length > x->body_limit ? exchange_too_large(x) : 0;
}

/* With the spare memory spent nothing new begins that would leave the loop. */
static int admit_memory(struct exchange *x)
{
    struct server *s = x->server;
    bool is_short = !spare_whole();

    if (is_short) {
        keep_drop(); /* warm blocks are a luxury now */
        is_short = !spare_whole();
    }
    if (is_short != s->short_of_memory)
        log_note(LOG_WARN, "memory", is_short ? "spent what was spare: refusing work"
                                              : "enough again: taking work");
    s->short_of_memory = is_short;
    if (is_short && x->job.route->work)
        return err_set(&x->job.err, ERR_BUSY, "the server has no memory left for more work");
    return 0;
}

/* Room for a Content-Length body at once: the kernel gives pages as they are written, and the
 * budget is charged as bytes arrive, so a promise alone costs nothing. One byte more for the
 * NUL. */
static int admit_room(struct exchange *x)
{
    struct job *j = &x->job;

    if (x->framing.chunked || x->framing.length == 0)
        return 0;
    x->body_room = (size_t)x->framing.length + 1;
    j->body = keep_take(x->body_room, 1);
    server_settle(x->server);
    if (!j->body)
        return err_set(&j->err, ERR_BUSY, "no memory for the body");
    return 0;
}

static int admit_headers(struct exchange *x, const struct head *h, const char *bytes,
                         char **authorization)
{
    struct job *j = &x->job;
    const char *type;

    admit_forwarded(x, h, bytes);
    admit_request_id(x, header(x, h, bytes, "X-Request-Id"));
    *authorization = header(x, h, bytes, "Authorization");
    type = header(x, h, bytes, "Content-Type");
    j->content_type = type ? http_media_type(&j->arena, type, strlen(type)) : "";
    j->fingerprint = header(x, h, bytes, "X-Ascribe-Fingerprint");
    j->if_none_match = header(x, h, bytes, "If-None-Match");
    x->coding = header(x, h, bytes, "Content-Encoding");
    return (int)j->err.code;
}

static int admit(struct exchange *x, const struct head *head, const char *bytes,
                 char **authorization)
{
    struct job *j = &x->job;
    struct http_target t;

    if (head_framing(head, bytes, &x->framing, &j->err))
        return (int)j->err.code;
    x->keep_alive = x->framing.keep_alive && !x->server->draining;
    x->head_only = strcmp(x->framing.method, "HEAD") == 0;
    if (admit_headers(x, head, bytes, authorization) ||
        http_target(bytes + head->target.at, head->target.len, &t, &j->err) ||
        admit_route(x, &t, *authorization))
        return (int)j->err.code;
    if (x->server->draining && j->route->work)
        return err_set(&j->err, ERR_DRAINING, "the server is shutting down");
    if (admit_memory(x) || admit_query(j, t.query, t.query_len) || admit_body(x))
        return (int)j->err.code;
    x->parsed = true;
    if (j->route->parse && j->route->parse(j))
        return (int)j->err.code;
    return admit_room(x);
}

/* The key is needed no longer: no copy of it outlives the head. The bytes it came in are wiped by
 * conn.c as it lets go of them. */
int exchange_admit(struct exchange *x, const struct head *head, const char *bytes)
{
    char *authorization = NULL;
    int code = admit(x, head, bytes, &authorization);

    if (authorization)
        sodium_memzero(authorization, strlen(authorization));
    return code;
}
