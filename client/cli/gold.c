/* gold.c - each line becomes one object and one set of ids; ids of queries are unique. */
#include "client/cli/gold.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ascribe.h"
#include "client/cli/lines.h"

/* Where we are, for what has to be said. */
struct place {
    const char *path;
    size_t line;
    char *why;
    size_t why_cap;
};

static bool wrong(const struct place *at, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static bool wrong(const struct place *at, const char *fmt, ...)
{
    char text[300];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(at->why, at->why_cap, "%s: line %zu: %s", at->path, at->line, text);
    return false;
}

/* A string member; when it is optional it may be missing, but not something else. */
static bool check_string(const struct place *at, const json_t *o, const char *member, bool needed,
                         const char *what_for)
{
    const json_t *v = json_object_get(o, member);

    if (v ? json_is_string(v) : !needed)
        return true;
    return v ? wrong(at, "\"%s\" is not a string", member)
             : wrong(at, "there is no \"%s\"%s", member, what_for);
}

static bool read_right(const struct place *at, struct gold_query *q)
{
    const json_t *ids = json_object_get(q->object, "gold");

    if (!json_is_array(ids))
        return wrong(at, ids ? "\"gold\" is not an array of ids" : "there is no \"gold\"");
    q->right = json_object();
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);

        if (!json_is_string(id) || json_string_length(id) == 0)
            return wrong(at, "element %zu of \"gold\" is not an id", i);
        if (json_string_length(id) > ASC_ID_MAX)
            return wrong(at, "element %zu of \"gold\" has more than %d bytes", i, ASC_ID_MAX);
        if (json_object_set_new(q->right, json_string_value(id), json_true()) != 0)
            return wrong(at, "no memory");
    }
    return q->right != NULL || wrong(at, "no memory");
}

static bool read_query(const struct place *at, const char *line, size_t len,
                       const struct gold_needs *needs, struct gold_query *q)
{
    const json_t *bucket;
    json_error_t e;

    q->object = json_loadb(line, len, JSON_REJECT_DUPLICATES, &e);
    if (!q->object)
        return wrong(at, "not JSON, column %d: %.200s", e.column, e.text);
    if (!json_is_object(q->object))
        return wrong(at, "not a JSON object");
    if (!check_string(at, q->object, "id", true, "") ||
        !check_string(at, q->object, "text", needs->text, ", which --search asks for") ||
        !check_string(at, q->object, "prompt", needs->prompt, ", which --out writes") ||
        !check_string(at, q->object, "target", needs->target, ", which --out writes") ||
        !read_right(at, q))
        return false;
    q->id = json_string_value(json_object_get(q->object, "id"));
    if (!*q->id)
        return wrong(at, "\"id\" is empty");
    if (!needs->bucket)
        return true;
    bucket = json_object_get(q->object, needs->bucket);
    if (!bucket)
        return wrong(at, "there is no \"%s\", the field of the buckets", needs->bucket);
    if (!json_is_number(bucket) && !json_is_string(bucket) && !json_is_boolean(bucket))
        return wrong(at, "\"%s\" is no number, string or boolean", needs->bucket);
    return true;
}

static bool grow(struct gold *g)
{
    size_t cap = g->cap ? g->cap * 2 : 256;
    struct gold_query *list;

    if (g->count < g->cap)
        return true;
    list = realloc(g->list, cap * sizeof *list);
    if (!list)
        return false;
    g->list = list;
    g->cap = cap;
    return true;
}

static bool add_line(struct gold *g, json_t *seen, const struct place *at, const char *line,
                     size_t len, const struct gold_needs *needs)
{
    struct gold_query *q;
    const json_t *before;

    if (!grow(g))
        return wrong(at, "no memory");
    q = &g->list[g->count++];
    *q = (struct gold_query){0};
    if (!read_query(at, line, len, needs, q))
        return false;
    before = json_object_get(seen, q->id);
    if (before)
        return wrong(at, "query \"%.100s\" stands in line %lld already", q->id,
                     (long long)json_integer_value(before));
    if (json_object_set_new(seen, q->id, json_integer((json_int_t)at->line)) != 0)
        return wrong(at, "no memory");
    g->without += gold_right_count(q) == 0;
    return true;
}

static bool read_lines(struct gold *g, struct lines *l, struct place *at,
                       const struct gold_needs *needs)
{
    json_t *seen = json_object();
    uint64_t count = 0, bytes = 0;
    bool good = seen && lines_count(l, &count, at->why, at->why_cap);

    if (good && (count == 0 || count > GOLD_QUERIES_MAX)) {
        snprintf(at->why, at->why_cap, "%s: %llu lines, one a query: from 1 to %d are taken",
                 at->path, (unsigned long long)count, GOLD_QUERIES_MAX);
        good = false;
    }
    for (at->line = 1; good && at->line <= count; at->line++) {
        char *line;
        size_t len;

        good = lines_take(l, 1, &line, &len, at->why, at->why_cap);
        if (!good)
            break;
        bytes += len;
        good = bytes <= GOLD_BYTES_MAX ? add_line(g, seen, at, line, len, needs)
                                       : wrong(at, "more than %d bytes", GOLD_BYTES_MAX);
        free(line);
    }
    json_decref(seen);
    return good;
}

/* --- Buckets ---------------------------------------------------------------------------------- */

struct ranked {
    const json_t *value;
    size_t query;
};

/* Numbers by size, then strings, then false and true. */
static int order(const json_t *a, const json_t *b)
{
    int kind_a = json_is_number(a) ? 0 : json_is_string(a) ? 1 : 2;
    int kind_b = json_is_number(b) ? 0 : json_is_string(b) ? 1 : 2;

    if (kind_a != kind_b)
        return kind_a - kind_b;
    if (kind_a == 0)
        return (json_number_value(a) > json_number_value(b)) -
               (json_number_value(a) < json_number_value(b));
    if (kind_a == 1)
        return strcmp(json_string_value(a), json_string_value(b));
    return json_is_true(a) - json_is_true(b);
}

static int by_value(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return order(x->value, y->value);
}

static bool sort_buckets(struct gold *g, const char *field)
{
    struct ranked *list = calloc(g->count, sizeof *list);
    bool good = list != NULL;

    g->bucket_field = field;
    g->buckets = json_array();
    for (size_t i = 0; good && i < g->count; i++)
        list[i] = (struct ranked){json_object_get(g->list[i].object, field), i};
    if (good)
        qsort(list, g->count, sizeof *list, by_value);
    for (size_t i = 0; good && i < g->count; i++) {
        if (i == 0 || order(list[i - 1].value, list[i].value) != 0)
            good = json_array_append_new(g->buckets, json_deep_copy(list[i].value)) == 0;
        g->list[list[i].query].bucket = json_array_size(g->buckets) - 1;
    }
    free(list);
    return good;
}

/* --- The whole -------------------------------------------------------------------------------- */

bool gold_open(struct gold *g, const char *path, const struct gold_needs *needs, char *why,
               size_t why_cap)
{
    struct place at = {path, 0, why, why_cap};
    struct lines l;
    bool good;

    *g = (struct gold){0};
    if (!lines_open(&l, path, why, why_cap))
        return false;
    good = read_lines(g, &l, &at, needs);
    lines_close(&l);
    if (good && needs->bucket && !sort_buckets(g, needs->bucket)) {
        snprintf(why, why_cap, "no memory for the buckets of %zu queries", g->count);
        return false;
    }
    return good;
}

void gold_close(struct gold *g)
{
    for (size_t i = 0; i < g->count; i++) {
        json_decref(g->list[i].object);
        json_decref(g->list[i].right);
    }
    free(g->list);
    json_decref(g->buckets);
    *g = (struct gold){0};
}

size_t gold_right_count(const struct gold_query *q)
{
    return json_object_size(q->right);
}

bool gold_is_right(const struct gold_query *q, const char *id)
{
    return json_object_get(q->right, id) != NULL;
}

const char *gold_text(const struct gold_query *q, const char *member)
{
    const char *text = json_string_value(json_object_get(q->object, member));

    return text ? text : "";
}
