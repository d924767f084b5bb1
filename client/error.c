/* error.c - filling a struct asc_error: from our own findings, from errno, from problem+json.
 * Never allocates but to parse the problem document; any thread.
 */
#include "client/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
    [ASC_OK] = "ok",           [ASC_ARGUMENT] = "argument", [ASC_INPUT] = "input",
    [ASC_NETWORK] = "network", [ASC_REFUSED] = "refused",   [ASC_SERVER] = "server",
    [ASC_PROTOCOL] = "protocol", [ASC_ABORTED] = "aborted", [ASC_MEMORY] = "memory",
};

const char *asc_status_name(enum asc_status status)
{
    if ((unsigned)status >= sizeof names / sizeof *names)
        return "unknown";
    return names[status];
}

const char *asc_version(void)
{
    return ASCRIBE_VERSION;
}

void asc_free(void *memory)
{
    free(memory);
}

static void start(struct asc_error *e, enum asc_status status, const char *code)
{
    memset(e, 0, sizeof *e);
    e->status = status;
    e->index = e->limit = -1;
    e->retry_after_s = -1;
    snprintf(e->code, sizeof e->code, "%s", code);
}

/* Details quote file names, tensor names and servers, and go to terminals: nothing in them may move
 * a cursor. */
static void plain(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
}

int asc__fail(struct asc_error *e, enum asc_status status, const char *code, const char *fmt, ...)
{
    va_list args;

    if (e) {
        start(e, status, code);
        va_start(args, fmt);
        vsnprintf(e->detail, sizeof e->detail, fmt, args);
        va_end(args);
        plain(e->detail);
    }
    return (int)status;
}

int asc__fail_errno(struct asc_error *e, enum asc_status status, int errno_value, const char *what)
{
    return asc__fail(e, status, "io", "%s: %s", what, strerror(errno_value));
}

int asc__no_memory(struct asc_error *e, uint64_t bytes)
{
    return asc__fail(e, ASC_MEMORY, "memory", "no memory for %llu bytes",
                     (unsigned long long)bytes);
}

void asc__wrap(struct asc_error *e, const char *fmt, ...)
{
    char inner[sizeof e->detail];
    va_list args;
    int used;

    if (!e)
        return;
    memcpy(inner, e->detail, sizeof inner);
    va_start(args, fmt);
    used = vsnprintf(e->detail, sizeof e->detail, fmt, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof e->detail)
        snprintf(e->detail + used, sizeof e->detail - (size_t)used, "%s", inner);
    plain(e->detail);
}

/* A string member of a problem document. */
static void take(const json_t *o, const char *name, char *out, size_t cap)
{
    const char *text = json_string_value(json_object_get(o, name));

    if (!text)
        return;
    snprintf(out, cap, "%s", text);
    plain(out);
}

int asc__fail_answer(struct asc_error *e, int http_status, const char *body, size_t len)
{
    enum asc_status status = http_status >= 500 ? ASC_SERVER : ASC_REFUSED;
    json_t *o;

    if (!e)
        return (int)status;
    start(e, status, "http");
    e->http_status = http_status;
    snprintf(e->detail, sizeof e->detail, "the server answered %d", http_status);
    o = body ? json_loadb(body, len, 0, NULL) : NULL;
    if (json_is_object(o)) {
        const json_t *index = json_object_get(o, "index"), *limit = json_object_get(o, "limit");

        take(o, "code", e->code, sizeof e->code);
        take(o, "detail", e->detail, sizeof e->detail);
        take(o, "request_id", e->request_id, sizeof e->request_id);
        take(o, "field", e->field, sizeof e->field);
        if (json_is_integer(index))
            e->index = json_integer_value(index);
        if (json_is_integer(limit))
            e->limit = json_integer_value(limit);
    }
    json_decref(o);
    return (int)status;
}
