/* filter_match.c - see filter.h: one example against a parsed filter. A meta is parsed at the first
 * test that reads it, so that a filter which decides by id costs no more. Any thread. */
#include <string.h>

#include "server/filter.h"
#include "server/filter_tree.h"

int filter_compare(const struct filter_value *a, const struct filter_value *b)
{
    size_t common = a->len < b->len ? a->len : b->len;
    int order;

    if (a->type != b->type)
        return a->type < b->type ? -1 : 1;
    if (a->type == VALUE_NUMBER)
        return (a->number > b->number) - (a->number < b->number);
    if (a->type != VALUE_TEXT)
        return 0;
    order = common ? memcmp(a->text, b->text, common) : 0;
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

/* One match: the row, and its meta once it was needed. */
struct match {
    const struct filter_row *row;
    json_t *meta;
    bool parsed;
    struct err *err;
};

int filter_meta(const char *meta, size_t len, json_t **out, struct err *e)
{
    json_error_t fault;

    *out = NULL;
    if (!meta)
        return 0;
    *out = json_loadb(meta, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &fault);
    if (*out)
        return 0;
    return err_set(e, ERR_CORRUPT, "a stored meta is no JSON at byte %d", fault.position);
}

const json_t *filter_find(const json_t *meta, const struct filter_path *path)
{
    const json_t *at = meta;

    for (size_t i = 0; at && i < path->count; i++)
        at = json_object_getn(at, path->names[i].text, path->names[i].len);
    return at;
}

static struct filter_value value_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        return (struct filter_value){.type = VALUE_TEXT,
                                     .text = json_string_value(v),
                                     .len = json_string_length(v)};
    case JSON_INTEGER:
    case JSON_REAL:
        return (struct filter_value){.type = VALUE_NUMBER, .number = json_number_value(v)};
    case JSON_TRUE:
        return (struct filter_value){.type = VALUE_TRUE};
    case JSON_FALSE:
        return (struct filter_value){.type = VALUE_FALSE};
    case JSON_NULL:
        return (struct filter_value){.type = VALUE_NULL};
    default:
        return (struct filter_value){.type = VALUE_OTHER};
    }
}

static bool is_in(const struct filter *f, const struct filter_value *v)
{
    size_t low = 0, high = f->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = filter_compare(&f->values[middle], v);

        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* Does this value pass? Values of another type than the filter's only ever differ. */
static bool passes(const struct filter *f, const struct filter_value *v)
{
    const struct filter_value *want = f->values;

    if (f->kind == FILTER_IN)
        return is_in(f, v);
    if (v->type != want->type)
        return false;
    switch (f->op) {
    case OP_EQUAL:
    case OP_UNEQUAL: /* the caller turns it round */
        return filter_compare(v, want) == 0;
    case OP_LESS:
        return filter_compare(v, want) < 0;
    case OP_AT_MOST:
        return filter_compare(v, want) <= 0;
    case OP_MORE:
        return filter_compare(v, want) > 0;
    case OP_AT_LEAST:
        return filter_compare(v, want) >= 0;
    case OP_PREFIX:
        return v->len >= want->len && (!want->len || memcmp(v->text, want->text, want->len) == 0);
    }
    return false;
}

/* An array passes when one of its elements does. */
static bool any_passes(const struct filter *f, const json_t *found)
{
    struct filter_value v;

    if (!json_is_array(found)) {
        v = value_of(found);
        return passes(f, &v);
    }
    for (size_t i = 0; i < json_array_size(found); i++) {
        v = value_of(json_array_get(found, i));
        if (passes(f, &v))
            return true;
    }
    return false;
}

static const json_t *find_meta(struct match *m, const struct filter *f)
{
    if (!m->parsed) {
        m->parsed = true;
        filter_meta(m->row->meta, m->row->meta_len, &m->meta, m->err);
    }
    return filter_find(m->meta, &f->path);
}

static bool test(struct match *m, const struct filter *f)
{
    struct filter_value v = {.type = VALUE_NUMBER};
    const json_t *found;

    switch (f->field) {
    case FIELD_META:
        found = find_meta(m, f);
        if (f->kind == FILTER_HAS)
            return found != NULL;
        return found && any_passes(f, found);
    case FIELD_ID:
        v = (struct filter_value){
            .type = VALUE_TEXT, .text = m->row->id, .len = m->row->id_len};
        break;
    case FIELD_SEQUENCE:
        v.number = (double)m->row->sequence;
        break;
    case FIELD_NORM:
        v.number = m->row->norm;
        break;
    }
    return passes(f, &v);
}

/* As deep as the filter has levels and tests: bounded by its limits. */
static bool matches(struct match *m, const struct filter *f)
{
    switch (f->kind) {
    case FILTER_AND:
        return matches(m, f->left) && matches(m, f->right);
    case FILTER_OR:
        return matches(m, f->left) || matches(m, f->right);
    case FILTER_NOT:
        return !matches(m, f->left);
    default:
        return test(m, f) != (f->kind == FILTER_COMPARE && f->op == OP_UNEQUAL);
    }
}

int filter_match(const struct filter *f, const struct filter_row *row, bool *out, struct err *e)
{
    struct match m = {.row = row, .err = e};
    bool found = matches(&m, f);

    if (m.meta)
        json_decref(m.meta);
    if (m.parsed && row->meta && !m.meta)
        return (int)e->code;
    *out = found;
    return 0;
}
