/* passages.c - see passages.h. */
#include "client/lm/passages.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/jsonl.h"
#include "storage/base/mem.h"

/* The members of a line that a batch carries; anything else in it is left out. */
static json_t *kept_members(json_t *object)
{
    json_t *kept = json_object();
    json_t *meta = json_object_get(object, "meta");

    json_object_set(kept, "id", json_object_get(object, "id"));
    json_object_set(kept, "text", json_object_get(object, "text"));
    if (meta && !json_is_null(meta))
        json_object_set(kept, "meta", meta);
    return kept;
}

/* Ids go into paths and logs: no control characters. */
static int check_id(json_t *id, struct err *e)
{
    const char *text = json_string_value(id);
    const size_t len = json_string_length(id);
    bool control = false;

    for (size_t i = 0; i < len; i++)
        control |= (unsigned char)text[i] < 0x20 || text[i] == 0x7F;
    if (len > 0 && len <= PASSAGES_ID_MAX && !control)
        return 0;
    if (control) {
        err_set(e, ERR_BAD_ID, "id has a control character");
    } else {
        err_set(e, ERR_BAD_ID, "id has %zu bytes, must have 1 to %d", len, PASSAGES_ID_MAX);
        err_at_limit(e, PASSAGES_ID_MAX);
    }
    return err_at_field(e, "id");
}

static int check_meta(json_t *meta, struct err *e)
{
    size_t len;

    if (!meta || json_is_null(meta))
        return 0;
    if (!json_is_object(meta)) {
        err_set(e, ERR_BAD_JSON, "meta must be an object");
        return err_at_field(e, "meta");
    }
    len = json_dumpb(meta, NULL, 0, JSON_COMPACT);
    if (len > PASSAGES_META_MAX) {
        err_set(e, ERR_TOO_LARGE, "meta has %zu bytes, at most %d", len, PASSAGES_META_MAX);
        err_at_limit(e, PASSAGES_META_MAX);
        return err_at_field(e, "meta");
    }
    return 0;
}

static int check_members(json_t *object, struct err *e)
{
    json_t *id = json_object_get(object, "id"), *text = json_object_get(object, "text");
    int rc;

    if (!json_is_string(id) || !json_is_string(text)) {
        err_set(e, ERR_BAD_JSON, "\"id\" and \"text\" must be strings");
        return err_at_field(e, json_is_string(id) ? "text" : "id");
    }
    rc = check_id(id, e);
    if (rc)
        return rc;
    if (json_string_length(text) == 0) {
        err_set(e, ERR_BAD_JSON, "text is empty: it has no gradient");
        return err_at_field(e, "text");
    }
    return check_meta(json_object_get(object, "meta"), e);
}

struct reading {
    struct passages *ps;
    size_t cap; /* of ps->list */
};

static int add_object(struct reading *r, json_t *object, struct err *e)
{
    json_t *id = json_object_get(object, "id"), *text = json_object_get(object, "text"), *kept;
    struct passages *ps = r->ps;
    struct passage *p;
    char *line;

    if (ps->count == r->cap) {
        size_t more = r->cap ? r->cap * 2 : 1024;
        struct passage *grown = realloc(ps->list, more * sizeof *grown);
        if (!grown)
            return err_set(e, ERR_BUSY, "no memory for %zu passages", more);
        ps->list = grown;
        r->cap = more;
    }
    kept = kept_members(object);
    line = json_dumps(kept, JSON_COMPACT);
    json_decref(kept);
    if (!line)
        return err_set(e, ERR_BUSY, "no memory for a line");
    p = &ps->list[ps->count++];
    p->id = mem_copy(json_string_value(id), json_string_length(id));
    p->text = mem_copy(json_string_value(text), json_string_length(text));
    p->text_len = json_string_length(text);
    p->line = line;
    p->line_len = strlen(line);
    return 0;
}

static int add_line(void *ctx, size_t number, json_t *object, struct err *e)
{
    struct reading *r = ctx;
    int rc;

    (void)number;
    if (r->ps->count == PASSAGES_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d passages", PASSAGES_MAX);
    rc = check_members(object, e);
    return rc ? rc : add_object(r, object, e);
}

static int by_id(const void *a, const void *b)
{
    const struct passage *const *x = a, *const *y = b;
    int order = strcmp((*x)->id, (*y)->id);

    return order ? order : (*x < *y ? -1 : 1);
}

static int refuse_duplicates(const struct passages *ps, struct err *e)
{
    const struct passage **sorted = mem_big(ps->count, sizeof *sorted);
    int rc = 0;

    if (!sorted)
        return err_set(e, ERR_BUSY, "no memory to sort %zu ids", ps->count);
    for (size_t i = 0; i < ps->count; i++)
        sorted[i] = &ps->list[i];
    qsort(sorted, ps->count, sizeof *sorted, by_id);
    for (size_t i = 1; i < ps->count && !rc; i++)
        if (strcmp(sorted[i - 1]->id, sorted[i]->id) == 0) {
            err_set(e, ERR_DUPLICATE_ID, "id \"%.80s\" stands twice", sorted[i]->id);
            rc = err_at_index(e, (int64_t)(sorted[i] - ps->list) + 1);
        }
    free(sorted);
    return rc;
}

int passages_read(struct passages *ps, const char *path, struct err *e)
{
    struct reading r = {.ps = ps};
    int rc;

    *ps = (struct passages){0};
    rc = jsonl_read(path, PASSAGES_LINE_MAX, add_line, &r, e);
    if (!rc && ps->count == 0)
        rc = err_set(e, ERR_INVALID, "%s: no passages in it", path);
    if (!rc && refuse_duplicates(ps, e)) {
        err_wrap(e, "%s: ", path);
        rc = (int)e->code;
    }
    if (rc)
        passages_free(ps);
    return rc;
}

void passages_free(struct passages *ps)
{
    for (size_t i = 0; i < ps->count; i++) {
        free(ps->list[i].id);
        free(ps->list[i].text);
        free(ps->list[i].line);
    }
    free(ps->list);
    *ps = (struct passages){0};
}
