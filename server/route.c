/* route.c - finding a request's row in the table. Linear: the table has some thirty rows, and a
 * comparison ends at the first segment that differs. Loop thread. */
#include "server/route.h"

#include <stdio.h>
#include <string.h>

#include "server/http.h"

enum { SEGMENTS_MAX = 8 };

struct segments {
    const char *text[SEGMENTS_MAX]; /* decoded */
    size_t count;
};

/* "/a/b%2Fc" -> "a", "b/c". False: an escape is broken. More segments than any route has are
 * counted as one too many, which fits nothing. */
static bool split(struct arena *a, const char *path, size_t len, struct segments *out)
{
    const char *end = path + len;

    out->count = 0;
    while (path < end) { /* path is at a slash */
        const char *next = ++path;
        char *text;
        while (next < end && *next != '/')
            next++;
        text = http_decode(a, path, (size_t)(next - path), false);
        if (!text)
            return false;
        if (out->count < SEGMENTS_MAX)
            out->text[out->count] = text;
        else
            next = end;
        out->count++;
        path = next;
    }
    return true;
}

/* Does the pattern fit? Captures go to `captures` in order. Empty captures do not fit. */
static bool fits(const char *pattern, const struct segments *s, const char *captures[])
{
    size_t at = 0, captured = 0;

    while (*pattern) {
        const char *end = strchr(++pattern, '/');
        size_t len = end ? (size_t)(end - pattern) : strlen(pattern);
        const char *have = at < s->count && at < SEGMENTS_MAX ? s->text[at++] : NULL;

        if (!have)
            return false;
        if (*pattern == '{') {
            if (!*have || captured == JOB_PATH_PARAMS)
                return false;
            captures[captured++] = have;
        } else if (strlen(have) != len || memcmp(have, pattern, len) != 0) {
            return false;
        }
        pattern += len;
    }
    return at == s->count;
}

/* "GET" also serves HEAD; rows of one path follow each other in no given order. */
static void allow_add(char allow[64], const char *method)
{
    size_t len = strlen(allow);
    const char *more = strcmp(method, "GET") == 0 ? "GET, HEAD" : method;

    if (strstr(allow, method) || len + strlen(more) + 3 > 64)
        return;
    snprintf(allow + len, 64 - len, "%s%s", len ? ", " : "", more);
}

int route_find(struct job *j, const char *method, const char *path, size_t path_len,
               const struct route **out, char allow[64])
{
    struct segments s;
    bool known = false;

    allow[0] = '\0';
    if (!split(&j->arena, path, path_len, &s)) {
        err_set(&j->err, ERR_INVALID, "the path has a broken percent-escape");
        return err_at_field(&j->err, "path");
    }
    for (size_t i = 0; i < route_count; i++) {
        const struct route *r = &route_table[i];
        const char *captures[JOB_PATH_PARAMS] = {NULL};

        if (!fits(r->path, &s, captures))
            continue;
        if (strcmp(r->method, method) == 0) {
            memcpy(j->path, captures, sizeof captures);
            *out = r;
            return 0;
        }
        known = true;
        allow_add(allow, r->method);
    }
    if (known)
        return err_set(&j->err, ERR_METHOD, "%s is not taken here, only %s", method, allow);
    return err_set(&j->err, ERR_UNKNOWN_ROUTE, "no route has this path; /openapi.json lists them");
}
