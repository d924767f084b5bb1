/* examples.c - see examples.h.
 *
 * jansson judges each line; ids and texts are taken from its tree, metas from the line itself. All
 * strings go to one buffer as long as the input: unescaping and squeezing never lengthen. */
#include "server/examples.h"

#include <sodium.h>
#include <string.h>

#include "server/json.h"
#include "server/limits.h"

enum { ASK_EVERY = 1024 }; /* lines between two questions whether to stop */

struct reader {
    struct commit_example *rows;
    char *text; /* where the next string goes */
    /* Open addressing over row numbers + 1; keyed hash, so ids cannot be chosen to collide. */
    uint32_t *slots;
    size_t mask;
    unsigned char key[crypto_shorthash_KEYBYTES];
};

static const char *keep(struct reader *r, const char *text, size_t len)
{
    char *at = r->text;

    if (len)
        memcpy(at, text, len);
    r->text += len;
    return at;
}

int examples_check_id(const char *id, size_t len, struct err *e)
{
    size_t bad;

    if (len == 0)
        return err_set(e, ERR_BAD_ID, "the id is empty");
    if (len > LIMIT_ID_BYTES) {
        err_set(e, ERR_BAD_ID, "the id has %zu bytes; at most %u are taken", len, LIMIT_ID_BYTES);
        return err_at_limit(e, LIMIT_ID_BYTES);
    }
    bad = bytes_utf8_error(id, len);
    if (bad < len)
        return err_set(e, ERR_BAD_ID, "the id is not UTF-8 at byte %zu", bad);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)id[i] < 0x20 || id[i] == 0x7f)
            return err_set(e, ERR_BAD_ID, "the id has a control character at byte %zu", i);
    return 0;
}

static int too_large(struct err *e, const char *what, size_t len, size_t limit)
{
    err_set(e, ERR_TOO_LARGE, "%s has %zu bytes; at most %zu are taken", what, len, limit);
    return err_at_limit(e, (int64_t)limit);
}

static int take_id(struct reader *r, const json_t *id, struct commit_example *row, struct err *e)
{
    int code;

    if (!id)
        return err_set(e, ERR_INVALID, "member id is missing");
    if (!json_is_string(id))
        return err_set(e, ERR_INVALID, "member id: must be a string");
    code = examples_check_id(json_string_value(id), json_string_length(id), e);
    if (code)
        return code;
    row->id_len = (uint32_t)json_string_length(id);
    row->id = keep(r, json_string_value(id), row->id_len);
    return 0;
}

static int take_text(struct reader *r, const json_t *text, struct commit_example *row,
                     struct err *e)
{
    if (!text || json_is_null(text))
        return 0;
    if (!json_is_string(text))
        return err_set(e, ERR_INVALID, "member text: must be a string");
    if (json_string_length(text) > LIMIT_TEXT_BYTES)
        return too_large(e, "the text", json_string_length(text), LIMIT_TEXT_BYTES);
    row->text_len = (uint32_t)json_string_length(text);
    row->text = keep(r, json_string_value(text), row->text_len);
    return 0;
}

/* The line is a well-formed object whose only object-valued member is meta: the text between the
 * second "{" outside strings and the "}" that closes it. */
static void find_meta(const char *line, size_t len, const char **out, size_t *out_len)
{
    bool in_string = false;
    size_t depth = 0, from = 0;

    for (size_t i = 0; i < len; i++) {
        char c = line[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else
                in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{') {
            if (++depth == 2)
                from = i;
        } else if (c == '}' && --depth == 1) {
            *out = line + from;
            *out_len = i + 1 - from;
            return;
        }
    }
}

static int take_meta(struct reader *r, const json_t *meta, const char *line, size_t len,
                     struct commit_example *row, struct err *e)
{
    const char *text = NULL;
    size_t text_len = 0;

    if (!meta || json_is_null(meta))
        return 0;
    if (!json_is_object(meta))
        return err_set(e, ERR_INVALID, "member meta: must be an object");
    find_meta(line, len, &text, &text_len);
    text_len = json_squeeze(text, text_len, r->text);
    if (text_len > LIMIT_META_BYTES)
        return too_large(e, "meta", text_len, LIMIT_META_BYTES);
    row->meta = r->text;
    row->meta_len = (uint32_t)text_len;
    r->text += text_len;
    return 0;
}

static bool blank(const char *line, size_t len)
{
    while (len && (*line == ' ' || *line == '\t' || *line == '\r'))
        line++, len--;
    return len == 0;
}

static int take_line(struct reader *r, const char *line, size_t len, struct commit_example *row,
                     struct err *e)
{
    static const char *const members[] = {"id", "text", "meta", NULL};
    json_t *object = NULL;
    int code;

    if (blank(line, len))
        return err_set(e, ERR_BAD_JSON, "a blank line");
    code = json_read_object(line, len, JSON_DATA, &object, e);
    if (code)
        return code;
    code = json_only(object, members, e);
    if (!code)
        code = take_id(r, json_object_get(object, "id"), row, e);
    if (!code)
        code = take_text(r, json_object_get(object, "text"), row, e);
    if (!code)
        code = take_meta(r, json_object_get(object, "meta"), line, len, row, e);
    json_decref(object);
    return code;
}

/* Enters row n into the set of ids; false, with the other row, when the id is there already. */
static bool enter(struct reader *r, size_t n, size_t *out_other)
{
    const struct commit_example *row = &r->rows[n];
    unsigned char hash[crypto_shorthash_BYTES];
    size_t at;

    crypto_shorthash(hash, (const unsigned char *)row->id, row->id_len, r->key);
    for (at = bytes_get_le64(hash) & r->mask; r->slots[at]; at = (at + 1) & r->mask) {
        const struct commit_example *other = &r->rows[r->slots[at] - 1];

        if (other->id_len == row->id_len && memcmp(other->id, row->id, row->id_len) == 0) {
            *out_other = r->slots[at] - 1;
            return false;
        }
    }
    r->slots[at] = (uint32_t)n + 1;
    return true;
}

static int reader_init(struct reader *r, size_t len, size_t rows, struct arena *a, struct err *e)
{
    size_t slots = 16, row_bytes;

    while (slots < rows * 2) /* rows <= LIMIT_BATCH_ROWS */
        slots *= 2;
    r->mask = slots - 1;
    r->rows = arena_big(a, rows, sizeof *r->rows);
    r->text = arena_big(a, len, 1);
    r->slots = arena_big(a, slots, sizeof *r->slots);
    if (!r->rows || !r->text || !r->slots)
        return err_set(e, ERR_BUSY, "no memory for %zu bytes of examples", len);
    row_bytes = rows * sizeof *r->rows;
    memset(r->rows, 0, row_bytes);
    memset(r->slots, 0, slots * sizeof *r->slots);
    randombytes_buf(r->key, sizeof r->key);
    return 0;
}

/* Which line it was. A byte offset inside the line stays in the text. */
static int at_line(struct err *e, size_t line)
{
    err_wrap(e, "tensor examples, line %zu: ", line);
    if (!e->field[0]) /* else the member that is unknown */
        err_at_field(e, "examples");
    return err_at_index(e, (int64_t)line);
}

static int wrong_count(struct err *e, size_t lines, bool more, size_t rows)
{
    err_set(e, ERR_INVALID, "tensor examples: %s %zu lines for %zu rows of gradients",
            more ? "more than" : "only", lines, rows);
    err_at_field(e, "examples");
    return err_at_index(e, (int64_t)lines);
}

int examples_read(const void *lines, size_t len, size_t rows, const struct stop *stop,
                  struct arena *a, struct commit_example **out, struct err *e)
{
    const char *at = lines, *end = at + len;
    struct reader r = {0};
    int code = reader_init(&r, len, rows, a, e);

    for (size_t n = 0; !code && n < rows; n++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t other = 0;

        if (at == end)
            return wrong_count(e, n, false, rows);
        if (n % ASK_EVERY == 0 && stop_asked(stop))
            return err_set(e, ERR_CANCELLED, "stopped at line %zu of %zu", n, rows);
        code = take_line(&r, at, (size_t)((newline ? newline : end) - at), &r.rows[n], e);
        if (!code && !enter(&r, n, &other))
            code = err_set(e, ERR_DUPLICATE_ID, "the id \"%.128s\" stands in line %zu too",
                           arena_copy(a, r.rows[n].id, r.rows[n].id_len), other);
        if (code)
            return at_line(e, n);
        at = newline ? newline + 1 : end;
    }
    if (!code && at != end)
        return wrong_count(e, rows, true, rows);
    if (!code)
        *out = r.rows;
    return code;
}
