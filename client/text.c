/* text.c - a growable buffer whose failure is sticky, percent-encoding, names, the clock. No I/O.
 */
#include "client/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool reserve(struct asc__buf *b, size_t more)
{
    size_t cap = b->cap ? b->cap : 256;
    char *data;

    if (b->failed || more >= SIZE_MAX / 2 - b->len) {
        b->failed = true;
        return false;
    }
    while (cap < b->len + more + 1)
        cap *= 2;
    if (cap == b->cap)
        return true;
    data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void asc__buf_add(struct asc__buf *b, const void *bytes, size_t len)
{
    if (!reserve(b, len))
        return;
    if (len)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void asc__buf_text(struct asc__buf *b, const char *text)
{
    asc__buf_add(b, text, strlen(text));
}

void asc__buf_format(struct asc__buf *b, const char *fmt, ...)
{
    char piece[512];
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(piece, sizeof piece, fmt, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof piece)
        b->failed = true; /* only short pieces are formatted; long ones are added */
    else
        asc__buf_add(b, piece, (size_t)len);
}

void asc__buf_json(struct asc__buf *b, const char *text)
{
    json_t *string = json_string(text); /* NULL when it is not UTF-8 */
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

    if (quoted)
        asc__buf_text(b, quoted);
    else
        b->failed = true;
    free(quoted);
    json_decref(string);
}

void asc__buf_free(struct asc__buf *b)
{
    free(b->data);
    *b = (struct asc__buf){0};
}

void asc__buf_escape(struct asc__buf *b, const char *segment)
{
    /* "." and ".." alone are steps in a path and must not look like ones. */
    bool dots = strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0;

    for (const unsigned char *p = (const unsigned char *)segment; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || *p == '-' || *p == '_' || *p == '~' ||
                     (*p == '.' && !dots);

        if (plain)
            asc__buf_add(b, p, 1);
        else
            asc__buf_format(b, "%%%02X", *p);
    }
}

int asc__corpus_path(struct asc__buf *b, const char *corpus, const char *rest, struct asc_error *e)
{
    if (!corpus || !*corpus || strlen(corpus) > ASC_NAME_MAX)
        return asc__fail(e, ASC_ARGUMENT, "bad_name", "a corpus name has 1 to %d characters",
                         ASC_NAME_MAX);
    asc__buf_text(b, "/v1/corpora/");
    asc__buf_escape(b, corpus);
    asc__buf_text(b, rest);
    return b->failed ? asc__no_memory(e, b->len) : 0;
}

uint64_t asc__now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}
