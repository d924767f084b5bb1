/* filter.c - see filter.h for the language: the parser. One pass, by descent; every failure names
 * the byte. Bounded in length, depth, tests and values before any of them is built. Pure. */
#include "server/filter.h"

#include <stdlib.h>
#include <string.h>

#include "server/filter_tree.h"
#include "server/limits.h"
#include "storage/base/bytes.h"

struct parser {
    const char *text;
    size_t len, at;
    const char *what; /* the parameter at fault */
    struct arena *arena;
    struct err *err;
    size_t depth, tests, values;
};

/* ---- errors ---------------------------------------------------------------------------------- */

/* "byte 7: expected a value, not "xyz"": what stands there is the client's text and is cut to
 * printable ASCII. */
static int bad_at(struct parser *p, size_t at, const char *expected)
{
    char found[24];
    size_t n = 0;

    while (n + 1 < sizeof found && at + n < p->len) {
        unsigned char c = (unsigned char)p->text[at + n];

        found[n++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    found[n] = '\0';
    if (n)
        err_set(p->err, ERR_BAD_FILTER, "%s: byte %zu: expected %s, not \"%s\"", p->what, at,
                expected, found);
    else
        err_set(p->err, ERR_BAD_FILTER, "%s: byte %zu: expected %s, but it ends here", p->what, at,
                expected);
    err_at_field(p->err, p->what);
    return err_at_index(p->err, (int64_t)at);
}

static int too_many(struct parser *p, const char *things, size_t limit)
{
    err_set(p->err, ERR_TOO_LARGE, "%s: byte %zu: more than %zu %s", p->what, p->at, limit,
            things);
    err_at_field(p->err, p->what);
    err_at_index(p->err, (int64_t)p->at);
    return err_at_limit(p->err, (int64_t)limit);
}

/* ---- words and marks ------------------------------------------------------------------------- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-' || (unsigned char)c >= 0x80;
}

static void skip_space(struct parser *p)
{
    while (p->at < p->len && is_space(p->text[p->at]))
        p->at++;
}

/* The next byte that is no space, or NUL at the end (a NUL in the text is refused before). */
static char peek(struct parser *p)
{
    skip_space(p);
    return p->at < p->len ? p->text[p->at] : '\0';
}

static bool take_char(struct parser *p, char c)
{
    if (peek(p) != c)
        return false;
    p->at++;
    return true;
}

static size_t name_length(const struct parser *p)
{
    size_t n = 0;

    while (p->at + n < p->len && is_name(p->text[p->at + n]))
        n++;
    return n;
}

static bool take_word(struct parser *p, const char *word)
{
    size_t n;

    skip_space(p);
    n = name_length(p);
    if (n != strlen(word) || memcmp(p->text + p->at, word, n) != 0)
        return false;
    p->at += n;
    return true;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* A JSON scalar of `len` bytes at p->at; jansson judges it. */
static int take_json(struct parser *p, size_t len, json_t **out)
{
    json_error_t fault;

    *out = json_loadb(p->text + p->at, len,
                      JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &fault);
    if (!*out)
        return bad_at(p, p->at,
                      p->text[p->at] == '"' ? "a well-formed JSON string" : "a JSON number");
    p->at += len;
    return 0;
}

static int take_string(struct parser *p, const char **out, size_t *out_len)
{
    size_t end = p->at + 1;
    json_t *value;
    int code;

    while (end < p->len && p->text[end] != '"')
        end += p->text[end] == '\\' ? 2 : 1;
    if (end >= p->len)
        return bad_at(p, p->len, "the end of the string");
    code = take_json(p, end + 1 - p->at, &value);
    if (code)
        return code;
    *out_len = json_string_length(value);
    *out = arena_copy(p->arena, json_string_value(value), *out_len);
    json_decref(value);
    return 0;
}

static int take_number(struct parser *p, double *out)
{
    size_t n = 0;
    json_t *value;
    int code;

    while (p->at + n < p->len && memchr("+-.0123456789eE", p->text[p->at + n], 15))
        n++;
    code = take_json(p, n, &value);
    if (code)
        return code;
    *out = json_real_value(value);
    json_decref(value);
    return 0;
}

static int take_value(struct parser *p, struct filter_value *out)
{
    struct filter_value v = {.type = VALUE_NULL};
    char c = peek(p);
    int code = 0;

    if (++p->values > LIMIT_FILTER_VALUES)
        return too_many(p, "values", LIMIT_FILTER_VALUES);
    if (c == '"') {
        v.type = VALUE_TEXT;
        code = take_string(p, &v.text, &v.len);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        v.type = VALUE_NUMBER;
        code = take_number(p, &v.number);
    } else if (take_word(p, "true")) {
        v.type = VALUE_TRUE;
    } else if (take_word(p, "false")) {
        v.type = VALUE_FALSE;
    } else if (!take_word(p, "null")) {
        code = bad_at(p, p->at, "a string in double quotes, a number, true, false or null");
    }
    if (!code)
        *out = v;
    return code;
}

/* ---- fields ---------------------------------------------------------------------------------- */

static int take_name(struct parser *p, struct filter_name *out)
{
    size_t n = name_length(p);

    if (p->at < p->len && p->text[p->at] == '"')
        return take_string(p, &out->text, &out->len);
    if (n == 0)
        return bad_at(p, p->at, "a name or a JSON string after the point");
    out->text = arena_copy(p->arena, p->text + p->at, n);
    out->len = n;
    p->at += n;
    return 0;
}

/* { "." name }, without spaces. */
static int take_path(struct parser *p, struct filter_path *out)
{
    struct filter_name names[LIMIT_JSON_DEPTH];
    struct filter_name *kept;
    size_t count = 0;

    while (p->at < p->len && p->text[p->at] == '.') {
        p->at++;
        if (count == LIMIT_JSON_DEPTH)
            return too_many(p, "names in a path", LIMIT_JSON_DEPTH);
        if (take_name(p, &names[count++]))
            return (int)p->err->code;
    }
    kept = arena_new(p->arena, count + 1, sizeof *kept);
    memcpy(kept, names, count * sizeof *kept);
    *out = (struct filter_path){kept, count};
    return 0;
}

static int take_field(struct parser *p, struct filter *f)
{
    size_t at;

    skip_space(p);
    at = p->at;
    if (take_word(p, "id")) {
        f->field = FIELD_ID;
    } else if (take_word(p, "sequence")) {
        f->field = FIELD_SEQUENCE;
    } else if (take_word(p, "norm")) {
        f->field = FIELD_NORM;
    } else if (take_word(p, "meta")) {
        f->field = FIELD_META;
        f->reads_meta = true;
        return take_path(p, &f->path);
    } else {
        return bad_at(p, at, "id, sequence, norm, meta.NAME, has, not or (");
    }
    return 0;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static int take_operator(struct parser *p, enum filter_op *out)
{
    static const struct {
        const char *text;
        enum filter_op op;
    } table[] = {{"!=", OP_UNEQUAL}, {"<=", OP_AT_MOST}, {">=", OP_AT_LEAST}, {"^=", OP_PREFIX},
                 {"=", OP_EQUAL},    {"<", OP_LESS},     {">", OP_MORE}};

    skip_space(p);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        size_t n = strlen(table[i].text);

        if (p->len - p->at >= n && memcmp(p->text + p->at, table[i].text, n) == 0) {
            *out = table[i].op;
            p->at += n;
            return 0;
        }
    }
    return bad_at(p, p->at, "one of = != < <= > >= ^= in");
}

/* A test that can never hold is a mistake: say so now. */
static int check_types(struct parser *p, const struct filter *f, const struct filter_value *v,
                       size_t at)
{
    bool number = v->type == VALUE_NUMBER, text = v->type == VALUE_TEXT;

    if (f->field == FIELD_ID && !text)
        return bad_at(p, at, "a string: that is what ids are");
    if ((f->field == FIELD_SEQUENCE || f->field == FIELD_NORM) && !number)
        return bad_at(p, at, "a number: that is what the field is");
    if (f->kind == FILTER_COMPARE && f->op == OP_PREFIX && !text)
        return bad_at(p, at, "a string after ^=");
    if (f->kind == FILTER_COMPARE && f->op >= OP_LESS && f->op <= OP_AT_LEAST && !number && !text)
        return bad_at(p, at, "a string or a number: others have no order");
    return 0;
}

static int take_checked(struct parser *p, const struct filter *f, struct filter_value *out)
{
    size_t at;

    peek(p);
    at = p->at;
    return take_value(p, out) ? (int)p->err->code : check_types(p, f, out, at);
}

static int by_value(const void *a, const void *b)
{
    return filter_compare(a, b);
}

/* "[" ... "]": sorted, so that a match is a binary search. */
static int take_list(struct parser *p, struct filter *f)
{
    struct filter_value *list = NULL;
    size_t count = 0, room = 0, kept = 0;
    int code = 0;

    if (!take_char(p, '['))
        return bad_at(p, p->at, "[ and a list of values");
    if (take_char(p, ']'))
        return 0;
    do {
        if (count == room) {
            size_t grown = room ? 2 * room : 16;
            struct filter_value *more = arena_big(p->arena, grown, sizeof *more);

            if (!more)
                return err_set(p->err, ERR_BUSY, "no memory for a list of %zu values", grown);
            if (count)
                memcpy(more, list, count * sizeof *more);
            list = more;
            room = grown;
        }
        code = take_checked(p, f, &list[count++]);
    } while (!code && take_char(p, ','));
    if (!code && !take_char(p, ']'))
        code = bad_at(p, p->at, ", or ]");
    if (code)
        return code;
    qsort(list, count, sizeof *list, by_value);
    for (size_t i = 0; i < count; i++)
        if (!kept || filter_compare(&list[kept - 1], &list[i]) != 0)
            list[kept++] = list[i];
    f->values = list;
    f->count = kept;
    return 0;
}

static struct filter *node(struct parser *p, enum filter_kind kind)
{
    struct filter *f = arena_new(p->arena, 1, sizeof *f);

    f->kind = kind;
    return f;
}

static struct filter *negation(struct parser *p, const struct filter *of)
{
    struct filter *f = node(p, FILTER_NOT);

    f->left = of;
    f->reads_meta = of->reads_meta;
    return f;
}

static int take_test(struct parser *p, const struct filter **out)
{
    struct filter *f = node(p, FILTER_COMPARE);
    struct filter_value *value;
    bool negated;

    if (++p->tests > LIMIT_FILTER_TESTS)
        return too_many(p, "tests", LIMIT_FILTER_TESTS);
    if (take_field(p, f))
        return (int)p->err->code;
    if (f->field == FIELD_META && f->path.count == 0)
        return bad_at(p, p->at, "a point and a name: meta.NAME");
    negated = take_word(p, "not");
    if (take_word(p, "in")) {
        f->kind = FILTER_IN;
        *out = negated ? negation(p, f) : f;
        return take_list(p, f);
    }
    if (negated)
        return bad_at(p, p->at, "in after not");
    if (take_operator(p, &f->op))
        return (int)p->err->code;
    value = arena_new(p->arena, 1, sizeof *value);
    f->values = value;
    f->count = 1;
    *out = f;
    return take_checked(p, f, value);
}

static int take_has(struct parser *p, const struct filter **out)
{
    struct filter *f = node(p, FILTER_HAS);

    if (++p->tests > LIMIT_FILTER_TESTS)
        return too_many(p, "tests", LIMIT_FILTER_TESTS);
    skip_space(p);
    if (!take_word(p, "meta"))
        return bad_at(p, p->at, "meta or meta.NAME after has");
    f->field = FIELD_META;
    f->reads_meta = true;
    *out = f;
    return take_path(p, &f->path);
}

/* ---- expressions ----------------------------------------------------------------------------- */

static int take_expression(struct parser *p, const struct filter **out);

static int take_group(struct parser *p, const struct filter **out)
{
    int code = take_expression(p, out);

    if (!code && !take_char(p, ')'))
        code = bad_at(p, p->at, "and, or or )");
    return code;
}

static int take_term(struct parser *p, const struct filter **out)
{
    const struct filter *f = NULL;
    bool negated = false;
    int code;

    while (take_word(p, "not"))
        negated = !negated;
    if (take_char(p, '(')) {
        if (++p->depth > LIMIT_FILTER_DEPTH)
            return too_many(p, "levels of brackets", LIMIT_FILTER_DEPTH);
        code = take_group(p, &f);
        p->depth--;
    } else {
        code = take_word(p, "has") ? take_has(p, &f) : take_test(p, &f);
    }
    if (!code)
        *out = negated ? negation(p, f) : f;
    return code;
}

static const struct filter *join(struct parser *p, enum filter_kind kind, const struct filter *left,
                                 const struct filter *right)
{
    struct filter *f = node(p, kind);

    f->left = left;
    f->right = right;
    f->reads_meta = left->reads_meta || right->reads_meta;
    return f;
}

static int take_conjunction(struct parser *p, const struct filter **out)
{
    const struct filter *all = NULL, *next = NULL;
    int code = take_term(p, &all);

    while (!code && take_word(p, "and")) {
        code = take_term(p, &next);
        if (!code)
            all = join(p, FILTER_AND, all, next);
    }
    *out = all;
    return code;
}

static int take_expression(struct parser *p, const struct filter **out)
{
    const struct filter *any = NULL, *next = NULL;
    int code = take_conjunction(p, &any);

    while (!code && take_word(p, "or")) {
        code = take_conjunction(p, &next);
        if (!code)
            any = join(p, FILTER_OR, any, next);
    }
    *out = any;
    return code;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int begin(struct parser *p)
{
    size_t bad;

    if (p->len > LIMIT_FILTER_BYTES) {
        err_set(p->err, ERR_TOO_LARGE, "%s: %zu bytes; at most %u are taken", p->what, p->len,
                LIMIT_FILTER_BYTES);
        err_at_field(p->err, p->what);
        return err_at_limit(p->err, LIMIT_FILTER_BYTES);
    }
    bad = bytes_utf8_error(p->text, p->len);
    if (bad < p->len)
        return bad_at(p, bad, "UTF-8");
    if (memchr(p->text, '\0', p->len))
        return bad_at(p, (size_t)((const char *)memchr(p->text, '\0', p->len) - p->text),
                      "text without NUL");
    return 0;
}

int filter_parse(const char *text, size_t len, struct arena *a, const struct filter **out,
                 struct err *e)
{
    struct parser p = {.text = text, .len = len, .what = "filter", .arena = a, .err = e};
    const struct filter *f = NULL;
    int code = begin(&p);

    if (!code)
        code = take_expression(&p, &f);
    if (!code && peek(&p))
        code = bad_at(&p, p.at, "and, or or the end");
    if (!code)
        *out = f;
    return code;
}

int filter_parse_path(const char *text, size_t len, const char *what, struct arena *a,
                      struct filter_path *out, struct err *e)
{
    struct parser p = {.text = text, .len = len, .what = what, .arena = a, .err = e};
    struct filter_path path = {NULL, 0};
    int code = begin(&p);

    if (!code && !take_word(&p, "meta"))
        code = bad_at(&p, p.at, "meta.NAME");
    if (!code)
        code = take_path(&p, &path);
    if (!code && (!path.count || p.at < len))
        code = bad_at(&p, p.at, path.count ? "the end" : "a point and a name");
    if (!code)
        *out = path;
    return code;
}

bool filter_reads_meta(const struct filter *f)
{
    return f->reads_meta;
}
