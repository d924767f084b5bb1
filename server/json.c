/* json.c - see json.h. */
#include "server/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/limits.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"
#include "storage/base/spare.h"

/* One step of a walk over JSON text that need not be well-formed: is this byte inside a string? */
struct walk {
    bool in_string, escaped;
};

static bool walk_inside(struct walk *w, char c)
{
    if (!w->in_string) {
        w->in_string = c == '"';
        return w->in_string;
    }
    if (w->escaped)
        w->escaped = false;
    else if (c == '\\')
        w->escaped = true;
    else if (c == '"')
        w->in_string = false;
    return true;
}

/* Depth and number of values, before anything is allocated. Commas and openings bound the
 * values. */
static int check_shape(const char *text, size_t len, struct err *e)
{
    struct walk w = {0};
    size_t depth = 0, values = 1;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (walk_inside(&w, c))
            continue;
        if (c == '[' || c == '{') {
            values++;
            if (++depth > LIMIT_JSON_DEPTH && !planted(DEPTH_UNBOUND)) {
                err_set(e, ERR_BAD_JSON, "byte %zu: nested deeper than %u levels", i,
                        LIMIT_JSON_DEPTH);
                err_at_index(e, (int64_t)i);
                return err_at_limit(e, LIMIT_JSON_DEPTH);
            }
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        } else if (c == ',') {
            values++;
        }
    }
    if (values > LIMIT_JSON_VALUES) {
        err_set(e, ERR_TOO_LARGE, "about %zu values in one JSON document; at most %u are taken",
                values, LIMIT_JSON_VALUES);
        return err_at_limit(e, LIMIT_JSON_VALUES);
    }
    return 0;
}

/* jansson quotes what it met; that is the client's text and must stay one printable line. */
static int report(const json_error_t *fault, struct err *e)
{
    char text[JSON_ERROR_TEXT_LENGTH];
    size_t i;

    if (json_error_code(fault) == json_error_out_of_memory || spare_failed())
        return err_set(e, ERR_BUSY, "no memory for a JSON document");
    for (i = 0; i + 1 < sizeof text && fault->text[i]; i++)
        text[i] = fault->text[i] >= 0x20 && fault->text[i] < 0x7f ? fault->text[i] : '?';
    text[i] = '\0';
    err_set(e, ERR_BAD_JSON, "byte %d: %s", fault->position, text);
    return err_at_index(e, fault->position);
}

void json_prepare(void)
{
    json_set_alloc_funcs(spare_malloc, free);
}

int json_read(const void *text, size_t len, enum json_mode mode, json_t **out, struct err *e)
{
    size_t flags = JSON_REJECT_DUPLICATES;
    json_error_t fault;
    json_t *value;
    size_t bad;
    int code;

    if (mode == JSON_DATA)
        flags |= JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
    if (len > LIMIT_JSON_BODY) {
        err_set(e, ERR_TOO_LARGE, "%zu bytes of JSON; at most %u are taken", len, LIMIT_JSON_BODY);
        return err_at_limit(e, LIMIT_JSON_BODY);
    }
    bad = bytes_utf8_error(text, len);
    if (bad < len) {
        err_set(e, ERR_BAD_UTF8, "byte %zu: not UTF-8", bad);
        return err_at_index(e, (int64_t)bad);
    }
    code = check_shape(text, len, e);
    if (code)
        return code;
    (void)spare_failed(); /* jansson calls some failures of an allocation a wrong token */
    value = json_loadb(text, len, flags, &fault);
    if (!value)
        return report(&fault, e);
    *out = value;
    return 0;
}

int json_read_object(const void *text, size_t len, enum json_mode mode, json_t **out,
                     struct err *e)
{
    json_t *value = NULL;
    int code = json_read(text, len, mode, &value, e);

    if (code)
        return code;
    if (!json_is_object(value)) {
        json_decref(value);
        return err_set(e, ERR_BAD_JSON, "an array where an object belongs");
    }
    *out = value;
    return 0;
}

/* A member's name in a message: as much as fits, printable. */
static int unknown_member(const char *name, struct err *e)
{
    err_set(e, ERR_INVALID, "unknown member \"%.64s\"", name);
    return err_at_field(e, name);
}

int json_only(const json_t *object, const char *const names[], struct err *e)
{
    for (void *it = json_object_iter((json_t *)(uintptr_t)object); it;
         it = json_object_iter_next((json_t *)(uintptr_t)object, it)) {
        const char *name = json_object_iter_key(it);
        size_t i = 0;

        while (names[i] && strcmp(names[i], name) != 0)
            i++;
        if (!names[i])
            return unknown_member(name, e);
    }
    return 0;
}

static int wrong(const char *name, const char *what, struct err *e)
{
    err_set(e, ERR_INVALID, "member %s: must be %s", name, what);
    return err_at_field(e, name);
}

int json_get_number(const json_t *object, const char *name, uint64_t min, uint64_t max,
                    uint64_t *out, struct err *e)
{
    const json_t *value = json_object_get(object, name);
    json_int_t number;

    if (!value)
        return 0;
    if (!json_is_integer(value))
        return wrong(name, "a whole number", e);
    number = json_integer_value(value);
    if (number < 0 || (uint64_t)number < min || (uint64_t)number > max) {
        err_set(e, ERR_INVALID, "member %s: %lld is not within %llu and %llu", name,
                (long long)number, (unsigned long long)min, (unsigned long long)max);
        err_at_field(e, name);
        return err_at_limit(e, (int64_t)(number < 0 || (uint64_t)number < min ? min : max));
    }
    *out = (uint64_t)number;
    return 0;
}

int json_get_real(const json_t *object, const char *name, double *out, struct err *e)
{
    const json_t *value = json_object_get(object, name);

    if (!value)
        return 0;
    if (!json_is_number(value))
        return wrong(name, "a number", e);
    *out = json_number_value(value);
    return 0;
}

int json_get_bool(const json_t *object, const char *name, bool *out, struct err *e)
{
    const json_t *value = json_object_get(object, name);

    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return wrong(name, "true or false", e);
    *out = json_is_true(value);
    return 0;
}

int json_get_text(const json_t *object, const char *name, size_t max, const char **out,
                  struct err *e)
{
    const json_t *value = json_object_get(object, name);

    if (!value)
        return 0;
    if (!json_is_string(value))
        return wrong(name, "a string", e);
    if (json_string_length(value) > max) {
        err_set(e, ERR_TOO_LARGE, "member %s: %zu bytes; at most %zu are taken", name,
                json_string_length(value), max);
        err_at_field(e, name);
        return err_at_limit(e, (int64_t)max);
    }
    *out = json_string_value(value);
    return 0;
}

void json_put_text(struct buf *b, const char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;

    buf_add(b, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        size_t escape_len = 2;

        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        if (c == '\n')
            escape[1] = 'n';
        else if (c == '\t')
            escape[1] = 't';
        else if (c == '\r')
            escape[1] = 'r';
        else if (c == '"' || c == '\\')
            escape[1] = (char)c;
        else
            escape_len = 6;
        buf_add(b, text + from, i - from);
        buf_add(b, escape, escape_len);
        from = i + 1;
    }
    buf_add(b, text + from, len - from);
    buf_add(b, "\"", 1);
}

/* "1" reads back as a whole number in many languages: say that it is a real one. */
static void put_digits(struct buf *b, const char *digits)
{
    buf_add_text(b, digits);
    if (!strpbrk(digits, ".e"))
        buf_add(b, ".0", 2);
}

void json_put_real(struct buf *b, double v)
{
    char digits[32];

    require(isfinite(v));
    snprintf(digits, sizeof digits, "%.17g", v);
    put_digits(b, digits);
}

void json_put_short(struct buf *b, double v)
{
    char digits[32];

    require(isfinite(v));
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, v);
        if (strtod(digits, NULL) == v)
            break;
    }
    put_digits(b, digits);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_object(struct buf *b, const json_t *object)
{
    size_t count = json_object_size(object), i = 0;
    const char **names = mem_new(count, sizeof *names);

    for (void *it = json_object_iter((json_t *)(uintptr_t)object); it;
         it = json_object_iter_next((json_t *)(uintptr_t)object, it))
        names[i++] = json_object_iter_key(it);
    qsort(names, count, sizeof *names, by_bytes);
    for (i = 0; i < count; i++) {
        buf_add(b, i ? "," : "{", 1);
        json_put_text(b, names[i], strlen(names[i]));
        buf_add(b, ":", 1);
        json_put_canonical(b, json_object_get(object, names[i]));
    }
    buf_add_text(b, count ? "}" : "{}");
    free(names);
}

/* Recursion is bounded by LIMIT_JSON_DEPTH: json_read refused anything deeper. */
void json_put_canonical(struct buf *b, const json_t *value)
{
    if (json_is_object(value)) {
        put_object(b, value);
    } else if (json_is_array(value)) {
        buf_add(b, "[", 1);
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i)
                buf_add(b, ",", 1);
            json_put_canonical(b, json_array_get(value, i));
        }
        buf_add(b, "]", 1);
    } else if (json_is_string(value)) {
        json_put_text(b, json_string_value(value), json_string_length(value));
    } else if (json_is_integer(value)) {
        buf_format(b, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        json_put_short(b, json_real_value(value));
    } else {
        buf_add_text(b, json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null");
    }
}

size_t json_squeeze(const char *text, size_t len, char *out)
{
    struct walk w = {0};
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (walk_inside(&w, c) || (c != ' ' && c != '\t' && c != '\n' && c != '\r'))
            out[n++] = c;
    }
    return n;
}
