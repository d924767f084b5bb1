/* jsonl.c - see jsonl.h. */
#include "client/lm/jsonl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jansson refuses bad UTF-8 and, without JSON_ALLOW_NUL, escaped NULs. */
static int parse(const char *bytes, size_t len, json_t **out, struct err *e)
{
    json_error_t why;
    enum json_error_code code;

    *out = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &why);
    if (*out && json_is_object(*out))
        return 0;
    if (*out)
        return err_set(e, ERR_BAD_JSON, "not a JSON object");
    code = json_error_code(&why);
    return err_set(e, code == json_error_invalid_utf8 ? ERR_BAD_UTF8 : ERR_BAD_JSON, "%s",
                   why.text);
}

static int read_lines(FILE *file, size_t line_max,
                      int (*each)(void *ctx, size_t number, json_t *object, struct err *e),
                      void *ctx, struct err *e)
{
    size_t room = 0, number = 0;
    char *bytes = NULL;
    ssize_t got;
    int rc = 0;

    while (!rc && (got = getline(&bytes, &room, file)) >= 0) {
        size_t len = (size_t)got;
        json_t *object = NULL;
        number++;
        if (len && bytes[len - 1] == '\n')
            len--;
        if (len == 0)
            continue;
        if (len > line_max) {
            rc = err_set(e, ERR_TOO_LARGE, "%zu bytes in one line, at most %zu", len, line_max);
            err_at_limit(e, (int64_t)line_max);
        } else {
            rc = parse(bytes, len, &object, e);
        }
        if (!rc)
            rc = each(ctx, number, object, e);
        json_decref(object);
        if (rc) {
            err_wrap(e, "line %zu: ", number);
            err_at_index(e, (int64_t)number);
        }
    }
    if (!rc && ferror(file))
        rc = err_errno(e, errno, "read");
    free(bytes);
    return rc;
}

int jsonl_read(const char *path, size_t line_max,
               int (*each)(void *ctx, size_t number, json_t *object, struct err *e), void *ctx,
               struct err *e)
{
    FILE *file = fopen(path, "re");
    int rc;

    if (!file)
        return err_errno(e, errno, path);
    rc = read_lines(file, line_max, each, ctx, e);
    fclose(file);
    if (rc)
        err_wrap(e, "%s: ", path);
    return rc;
}

int jsonl_check_members(json_t *object, const char *const known[], struct err *e)
{
    const char *name;
    json_t *value;

    json_object_foreach(object, name, value) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], name) != 0)
            i++;
        if (!known[i]) {
            err_set(e, ERR_BAD_JSON, "unknown member \"%.40s\"", name);
            return err_at_field(e, name);
        }
    }
    return 0;
}

int jsonl_string(json_t *object, const char *name, size_t least, const char **out, struct err *e)
{
    json_t *value = json_object_get(object, name);

    if (json_is_string(value) && json_string_length(value) >= least) {
        *out = json_string_value(value);
        return 0;
    }
    if (!json_is_string(value))
        err_set(e, ERR_BAD_JSON, "\"%s\" must be a string", name);
    else
        err_set(e, ERR_BAD_JSON, "\"%s\" is empty", name);
    return err_at_field(e, name);
}

int jsonl_add(struct buf *out, json_t *object, struct err *e)
{
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    int rc = 0;

    json_decref(object);
    if (text) {
        buf_add_text(out, text);
        buf_add_text(out, "\n");
    }
    if (!text || out->failed)
        rc = err_set(e, ERR_BUSY, "no memory for the answer");
    free(text);
    return rc;
}
