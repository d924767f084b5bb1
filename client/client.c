/* client.c - opening and closing a client, the generic request, info and readiness.
 * Thread: the client's, but for asc_cancel, which any thread and any signal handler may call.
 */
#include "client/inner.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "asc_cancel is called from signal handlers");

static void wipe_free(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void fill_defaults(struct asc_options *o)
{
    if (!o->connect_timeout_ms)
        o->connect_timeout_ms = 5000;
    if (!o->idle_timeout_ms)
        o->idle_timeout_ms = 90000; /* the server's own deadline is 60 s */
    if (!o->retries)
        o->retries = 5;
    if (!o->backoff_ms)
        o->backoff_ms = 200;
    if (!o->max_response)
        o->max_response = UINT64_C(256) << 20;
}

static int take_key(struct asc_client *c, const char *key, struct asc_error *e)
{
    struct asc__buf b = {0};

    if (!key || !*key)
        return 0;
    for (const char *p = key; *p; p++)
        if (*p <= 0x20 || *p >= 0x7f)
            return asc__fail(e, ASC_ARGUMENT, "bad_key", "the key has a space or a byte that is "
                             "not printable at %td", p - key);
    if (strlen(key) > 512)
        return asc__fail(e, ASC_ARGUMENT, "bad_key", "the key has %zu bytes; 512 are the most",
                         strlen(key));
    asc__buf_text(&b, "Authorization: Bearer ");
    asc__buf_text(&b, key);
    if (b.failed)
        return asc__no_memory(e, 512);
    c->key_header = b.data;
    return 0;
}

int asc_open(const char *url, const struct asc_options *options, struct asc_client **out,
             struct asc_error *e)
{
    struct asc_client *c;
    int rc;

    if (options && options->size && options->size != sizeof *options)
        return asc__fail(e, ASC_ARGUMENT, "bad_options",
                         "struct asc_options has %zu bytes here and %zu in the program",
                         sizeof *options, options->size);
    c = calloc(1, sizeof *c);
    if (!c)
        return asc__no_memory(e, sizeof *c);
    if (options)
        c->options = *options;
    fill_defaults(&c->options);
    atomic_init(&c->cancelled, false);
    rc = take_key(c, c->options.key, e);
    c->options.key = NULL;
    if (rc == 0)
        rc = asc__url_parse(url, &c->url, e);
    if (rc == 0)
        rc = asc__wire_open(&c->wire, e);
    if (rc != 0) {
        asc_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void asc_close(struct asc_client *c)
{
    if (!c)
        return;
    asc__wire_close(c->wire);
    asc__url_free(&c->url);
    wipe_free(c->key_header);
    free(c);
}

void asc_cancel(struct asc_client *c)
{
    atomic_store(&c->cancelled, true);
}

int asc_request(struct asc_client *c, const char *method, const char *path, const char *json,
                char **out_body, size_t *out_len, int *out_status, struct asc_error *e)
{
    struct asc__body body = {0};
    struct asc__request r = {.method = method, .path = path};
    struct asc__reply reply = {0};
    int rc;

    if (path[0] != '/' || strpbrk(path, " \r\n"))
        return asc__fail(e, ASC_ARGUMENT, "bad_path", "a path begins with / and has no spaces");
    r.retry = strcmp(method, "POST") == 0 ? ASC__RETRY_UNSENT : ASC__RETRY_SAFE;
    if (json) {
        asc__body_part(&body, json, strlen(json));
        r.body = &body;
        r.content_type = "application/json";
    }
    rc = asc__perform(c, &r, &reply, e);
    if (rc != 0)
        return rc;
    if (out_len)
        *out_len = reply.len;
    if (out_status)
        *out_status = reply.status;
    if (out_body)
        *out_body = reply.data;
    else
        free(reply.data);
    return 0;
}

int asc_info(struct asc_client *c, char **out_json, struct asc_error *e)
{
    return asc_request(c, "GET", "/v1/info", NULL, out_json, NULL, NULL, e);
}

int asc_ready(struct asc_client *c, struct asc_error *e)
{
    struct asc__request r = {.method = "GET", .path = "/readyz"};
    struct asc__reply reply = {0};
    int rc = asc__perform(c, &r, &reply, e);

    free(reply.data);
    return rc;
}
