/* encoder_wire.c - see encoder_wire.h. */
#include "server/encoder_wire.h"

#include <math.h>
#include <string.h>

#include "server/json.h"
#include "server/limits.h"
#include "storage/base/check.h"

void encoder_answer_free(struct encoder_answer *a)
{
    json_decref(a->head);
    buf_free(&a->body);
    *a = (struct encoder_answer){0};
}

void encoder_frames_free(struct encoder_frames *f)
{
    buf_free(&f->line);
    encoder_answer_free(&f->answer);
    *f = (struct encoder_frames){0};
}

bool encoder_whole(const json_t *value, uint64_t *out)
{
    double v = json_number_value(value);

    if (!json_is_number(value) || !(v >= 0 && v <= 0x1p53) || v != floor(v))
        return false;
    *out = (uint64_t)v;
    return true;
}

bool encoder_frames_begun(const struct encoder_frames *f)
{
    return f->line.len || f->answer.head;
}

/* Up to 60 bytes of what was said instead, for people; err_set makes it one printable line. */
static int quote(struct err *e, const struct buf *line, const char *what)
{
    size_t shown = line->len < 60 ? line->len : 60;
    size_t good = bytes_utf8_error(line->data, shown);

    return err_set(e, ERR_ENCODER, "its answer %s: \"%.*s\"%s", what, (int)good,
                   good ? (const char *)line->data : "", good < line->len ? "..." : "");
}

static int read_members(struct encoder_frames *f, struct err *e)
{
    const json_t *head = f->answer.head, *id = json_object_get(head, "id"),
                 *ok = json_object_get(head, "ok"), *bytes = json_object_get(head, "bytes"),
                 *error = json_object_get(head, "error");
    uint64_t left = 0;

    if (!encoder_whole(id, &f->answer.id))
        return quote(e, &f->line, "has no id");
    if (!json_is_boolean(ok))
        return quote(e, &f->line, "has no ok, true or false");
    if (bytes && !encoder_whole(bytes, &left))
        return quote(e, &f->line, "has bytes that are no count");
    if (!json_is_true(ok) && !json_is_string(error))
        return quote(e, &f->line, "is not ok and has no error");
    if (left > LIMIT_ENCODER_BODY)
        return err_set(e, ERR_ENCODER, "its answer announces %llu bytes; at most %u are taken",
                       (unsigned long long)left, LIMIT_ENCODER_BODY);
    f->answer.ok = json_is_true(ok);
    f->answer.error = json_is_true(ok) ? NULL : json_string_value(error);
    f->left = (size_t)left;
    return 0;
}

static int read_line(struct encoder_frames *f, struct err *e)
{
    struct err why = ERR_INIT;
    int code;

    if (f->line.failed)
        return err_set(e, ERR_BUSY, "no memory for an answer");
    if (json_read_object(f->line.data, f->line.len, JSON_DATA, &f->answer.head, &why))
        return quote(e, &f->line, "is no JSON object");
    code = read_members(f, e);
    f->line.len = 0;
    return code;
}

static int feed_line(struct encoder_frames *f, const char *bytes, size_t len, size_t *used,
                     struct err *e)
{
    const char *end = memchr(bytes, '\n', len);
    size_t part = end ? (size_t)(end - bytes) : len;

    if (part > LIMIT_ENCODER_LINE - f->line.len)
        return err_set(e, ERR_ENCODER, "its answer has a first line of more than %u bytes",
                       LIMIT_ENCODER_LINE);
    buf_add(&f->line, bytes, part);
    *used = part + (end != NULL);
    return end ? read_line(f, e) : 0;
}

int encoder_frames_feed(struct encoder_frames *f, const void *bytes, size_t len, size_t *used,
                        bool *out_whole, struct err *e)
{
    const char *p = bytes;
    size_t part;
    int code;

    *used = 0;
    *out_whole = false;
    if (!f->answer.head) {
        code = feed_line(f, p, len, used, e);
        if (code || !f->answer.head)
            return code;
    }
    part = len - *used < f->left ? len - *used : f->left;
    buf_add(&f->answer.body, p + *used, part);
    if (f->answer.body.failed)
        return err_set(e, ERR_BUSY, "no memory for an answer of %zu bytes more", f->left);
    *used += part;
    f->left -= part;
    *out_whole = f->left == 0;
    return 0;
}

void encoder_frames_take(struct encoder_frames *f, struct encoder_answer *out)
{
    require(f->answer.head && f->left == 0);
    *out = f->answer;
    f->answer = (struct encoder_answer){0};
}
