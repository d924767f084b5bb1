/* pairs.c - see pairs.h. */
#include "client/lm/pairs.h"

#include <stdlib.h>
#include <string.h>

#include "client/lm/jsonl.h"
#include "storage/base/mem.h"

static const struct {
    const char *items; /* the member that holds them */
    size_t least;
    const char *known[5];
} kinds[] = {
    [PAIRS_PASSAGES] = {"passages", 1, {"id", "prompt", "target", "passages", NULL}},
    [PAIRS_CANDIDATES] = {"candidates", 0, {"id", "prompt", "target", "candidates", NULL}},
};

struct reading {
    struct pairs *ps;
    size_t cap; /* of ps->list */
    enum pairs_kind kind;
};

static struct pairs_text copy(const char *text)
{
    const size_t len = strlen(text);

    return (struct pairs_text){mem_copy(text, len), len};
}

static int read_id(json_t *object, char **out, struct err *e)
{
    const char *id;
    int rc = jsonl_string(object, "id", 1, &id, e);

    if (rc)
        return rc;
    if (strlen(id) > PAIRS_ID_MAX) {
        err_set(e, ERR_BAD_ID, "id has %zu bytes, at most %d", strlen(id), PAIRS_ID_MAX);
        err_at_limit(e, PAIRS_ID_MAX);
        return err_at_field(e, "id");
    }
    *out = mem_copy(id, strlen(id));
    return 0;
}

static int read_passage(json_t *value, struct pairs_item *item, struct err *e)
{
    static const char *const known[] = {"id", "text", NULL};
    const char *text;
    int rc = json_is_object(value) ? jsonl_check_members(value, known, e)
                                   : err_set(e, ERR_BAD_JSON, "not an object");

    if (!rc)
        rc = read_id(value, &item->id, e);
    if (!rc)
        rc = jsonl_string(value, "text", 1, &text, e);
    if (!rc)
        item->text = copy(text);
    return rc;
}

static int read_candidate(json_t *value, struct pairs_item *item, struct err *e)
{
    if (!json_is_string(value) || json_string_length(value) == 0)
        return err_set(e, ERR_BAD_JSON, "not a string, or an empty one");
    item->text = copy(json_string_value(value));
    return 0;
}

static int read_items(const struct reading *r, json_t *object, struct pair *p, struct err *e)
{
    const char *name = kinds[r->kind].items;
    json_t *array = json_object_get(object, name);
    const size_t count = json_array_size(array);
    int rc = 0;

    if ((array && !json_is_array(array)) || count < kinds[r->kind].least) {
        err_set(e, ERR_BAD_JSON, "\"%s\" must be an array of at least %zu", name,
                kinds[r->kind].least);
        return err_at_field(e, name);
    }
    if (count > PAIRS_ITEMS_MAX) {
        err_set(e, ERR_TOO_LARGE, "%zu %s in one line, at most %d", count, name, PAIRS_ITEMS_MAX);
        return err_at_limit(e, PAIRS_ITEMS_MAX);
    }
    p->items = mem_new(count ? count : 1, sizeof *p->items);
    for (size_t i = 0; i < count && !rc; i++) {
        json_t *value = json_array_get(array, i);
        p->count = i + 1;
        rc = r->kind == PAIRS_PASSAGES ? read_passage(value, &p->items[i], e)
                                       : read_candidate(value, &p->items[i], e);
        if (rc)
            err_wrap(e, "%s[%zu]: ", name, i);
    }
    return rc;
}

static int read_pair(const struct reading *r, json_t *object, struct pair *p, struct err *e)
{
    const char *prompt, *target;
    int rc = jsonl_check_members(object, kinds[r->kind].known, e);

    if (!rc)
        rc = read_id(object, &p->id, e);
    if (!rc)
        rc = jsonl_string(object, "prompt", 0, &prompt, e);
    if (!rc)
        p->prompt = copy(prompt);
    if (!rc)
        rc = jsonl_string(object, "target", 1, &target, e);
    if (!rc)
        p->target = copy(target);
    return rc ? rc : read_items(r, object, p, e);
}

static int add_line(void *ctx, size_t number, json_t *object, struct err *e)
{
    struct reading *r = ctx;
    struct pairs *ps = r->ps;
    int rc;

    if (ps->count == PAIRS_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d lines", PAIRS_MAX);
    if (ps->count == r->cap) {
        const size_t more = r->cap ? r->cap * 2 : 256;
        struct pair *grown = realloc(ps->list, more * sizeof *grown);
        if (!grown)
            return err_set(e, ERR_BUSY, "no memory for %zu lines", more);
        ps->list = grown;
        r->cap = more;
    }
    ps->list[ps->count] = (struct pair){.line = number};
    rc = read_pair(r, object, &ps->list[ps->count++], e);
    ps->items += ps->list[ps->count - 1].count;
    return rc;
}

int pairs_read(struct pairs *ps, const char *path, enum pairs_kind kind, struct err *e)
{
    struct reading r = {.ps = ps, .kind = kind};
    int rc;

    *ps = (struct pairs){0};
    rc = jsonl_read(path, PAIRS_LINE_MAX, add_line, &r, e);
    if (!rc && ps->count == 0)
        rc = err_set(e, ERR_INVALID, "%s: no lines in it", path);
    if (rc)
        pairs_free(ps);
    return rc;
}

void pairs_free(struct pairs *ps)
{
    for (size_t i = 0; i < ps->count; i++) {
        struct pair *p = &ps->list[i];
        for (size_t k = 0; k < p->count; k++) {
            free(p->items[k].id);
            free(p->items[k].text.bytes);
        }
        free(p->items);
        free(p->id);
        free(p->prompt.bytes);
        free(p->target.bytes);
    }
    free(ps->list);
    *ps = (struct pairs){0};
}

int pairs_at_line(const struct pair *p, struct err *e)
{
    err_wrap(e, "line %zu: ", p->line);
    return err_at_index(e, (int64_t)p->line);
}
