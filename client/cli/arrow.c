/* arrow.c - see arrow.h. Three parts: messages (metadata in memory, bodies left in the file), the
 * schema, and record batches, of which only the columns that can be shown are read.
 */
#include "client/cli/arrow.h"

#include "client/cli/flatbuf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    META_MAX = 16 << 20, /* of one message; a schema with its features is some KiB */
    COLUMNS_MAX = 4096,
    DEPTH_MAX = 32,
    BUFFER_MAX = 1 << 30, /* one column of one record batch; writers cut at 1,000 rows */
};

/* --- The file --------------------------------------------------------------------------------- */

enum kind { KIND_OTHER, KIND_INT, KIND_FLOAT, KIND_BOOL, KIND_TEXT };

struct buffer {
    unsigned char *data; /* owned; NULL when not read */
    uint64_t len;
};

struct column {
    char *name; /* owned */
    enum kind kind;
    unsigned width; /* bytes of a value; of an offset for texts */
    bool is_signed;
    uint64_t node, buffer; /* the first of its own in a record batch */
    uint64_t nulls;        /* in the current batch */
    struct buffer valid, values, bytes;
};

struct arrow {
    int fd;
    char *path; /* owned */
    uint64_t size, at; /* of the file; of the next message */
    struct column *columns; /* owned */
    unsigned count;
    uint64_t nodes, buffers; /* of a record batch, by the schema */
    uint64_t rows; /* of the current batch */
};

struct message {
    unsigned char *meta; /* owned */
    struct flatbuf flat;
    uint64_t header; /* the table */
    unsigned type;
    uint64_t body, body_len; /* in the file */
};

enum { MESSAGE_END, MESSAGE_SCHEMA, MESSAGE_DICTIONARY, MESSAGE_BATCH };

static bool say(const struct arrow *a, char *why, size_t why_cap, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static bool say(const struct arrow *a, char *why, size_t why_cap, const char *fmt, ...)
{
    int used = snprintf(why, why_cap, "%.300s: ", a->path);
    va_list args;

    va_start(args, fmt);
    if (used >= 0 && (size_t)used < why_cap)
        vsnprintf(why + used, why_cap - (size_t)used, fmt, args);
    va_end(args);
    return false;
}

static bool read_at(const struct arrow *a, uint64_t at, void *out, uint64_t len, char *why,
                    size_t why_cap)
{
    unsigned char *to = out;

    if (at > a->size || len > a->size - at)
        return say(a, why, why_cap, "cut off: bytes %" PRIu64 " to %" PRIu64 " are wanted of %"
                   PRIu64, at, at + len, a->size);
    while (len > 0) {
        ssize_t got = pread(a->fd, to, (size_t)len, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return say(a, why, why_cap, "%s", got < 0 ? strerror(errno) : "became shorter");
        to += got;
        at += (uint64_t)got;
        len -= (uint64_t)got;
    }
    return true;
}

/* The next message: its metadata in memory, its body left in the file. */
static bool read_message(struct arrow *a, struct message *m, char *why, size_t why_cap)
{
    uint32_t word[2] = {0};
    uint64_t head = 4, root;

    *m = (struct message){.type = MESSAGE_END};
    if (a->at == a->size)
        return true; /* a stream may end without saying so */
    if (!read_at(a, a->at, &word[0], 4, why, why_cap))
        return false;
    if (word[0] == 0xffffffffu) { /* since 0.15 a marker stands before the length */
        if (!read_at(a, a->at + 4, &word[0], 4, why, why_cap))
            return false;
        head = 8;
    }
    if (word[0] == 0)
        return true;
    if (word[0] > META_MAX)
        return say(a, why, why_cap, "not Arrow: a message at byte %" PRIu64 " with %" PRIu32
                   " bytes of metadata", a->at, word[0]);
    m->meta = malloc(word[0]);
    if (!m->meta)
        return say(a, why, why_cap, "no memory");
    if (!read_at(a, a->at + head, m->meta, word[0], why, why_cap))
        return false;
    m->flat = (struct flatbuf){.p = m->meta, .len = word[0]};
    root = flatbuf_load(&m->flat, 0, 4);
    m->type = (unsigned)flatbuf_scalar(&m->flat, root, 1, 1);
    m->header = flatbuf_child(&m->flat, root, 2);
    m->body = a->at + head + word[0];
    m->body_len = flatbuf_scalar(&m->flat, root, 3, 8);
    if (m->flat.bad || m->header == 0 || m->body_len > a->size - m->body)
        return say(a, why, why_cap, "the message at byte %" PRIu64 " is damaged or cut off", a->at);
    a->at = m->body + m->body_len;
    return true;
}

/* --- The schema ------------------------------------------------------------------------------- */

/* Numbers of the union Type in Schema.fbs. */
enum type {
    TYPE_NULL = 1, TYPE_INT, TYPE_FLOAT, TYPE_BINARY, TYPE_TEXT, TYPE_BOOL, TYPE_DECIMAL, TYPE_DATE,
    TYPE_TIME, TYPE_TIMESTAMP, TYPE_INTERVAL, TYPE_LIST, TYPE_STRUCT, TYPE_UNION, TYPE_FIXED_BINARY,
    TYPE_FIXED_LIST, TYPE_MAP, TYPE_DURATION, TYPE_LARGE_BINARY, TYPE_LARGE_TEXT, TYPE_LARGE_LIST,
    TYPE_RUN_END, TYPE_BINARY_VIEW, TYPE_TEXT_VIEW, TYPE_LIST_VIEW, TYPE_LARGE_LIST_VIEW,
};

/* Buffers that a field of a type has in a batch, its children's not counted; -1: not known. */
static int own_buffers(struct flatbuf *f, uint64_t table, unsigned type)
{
    switch (type) {
    case TYPE_NULL: case TYPE_RUN_END:
        return 0;
    case TYPE_STRUCT: case TYPE_FIXED_LIST:
        return 1;
    case TYPE_UNION:
        /* a dense union (mode 1) has offsets beside its types */
        return flatbuf_scalar(f, flatbuf_child(f, table, 3), 0, 2) == 1 ? 2 : 1;
    case TYPE_INT: case TYPE_FLOAT: case TYPE_BOOL: case TYPE_DECIMAL: case TYPE_DATE:
    case TYPE_TIME: case TYPE_TIMESTAMP: case TYPE_INTERVAL: case TYPE_FIXED_BINARY:
    case TYPE_DURATION: case TYPE_LIST: case TYPE_LARGE_LIST: case TYPE_MAP:
        return 2;
    case TYPE_BINARY: case TYPE_TEXT: case TYPE_LARGE_BINARY: case TYPE_LARGE_TEXT:
    case TYPE_LIST_VIEW: case TYPE_LARGE_LIST_VIEW:
        return 3;
    }
    return -1;
}

/* Counts what a field and its children take in a batch. */
static bool count_field(struct arrow *a, struct flatbuf *f, uint64_t table, unsigned depth,
                        char *why, size_t why_cap)
{
    unsigned type = (unsigned)flatbuf_scalar(f, table, 2, 1);
    /* of a dictionary the indices lie here, the values elsewhere */
    bool dictionary = flatbuf_field(f, table, 4) != 0;
    int own = dictionary ? 2 : own_buffers(f, table, type);
    uint64_t count, first;

    if (own < 0 || depth > DEPTH_MAX)
        return say(a, why, why_cap, "a column of Arrow type %u, which is not known", type);
    a->nodes++;
    a->buffers += (uint64_t)own;
    if (dictionary)
        return true;
    first = flatbuf_vector(f, table, 5, 4, &count);
    if (count > COLUMNS_MAX || a->nodes > COLUMNS_MAX)
        return say(a, why, why_cap, "more than %d columns", COLUMNS_MAX);
    for (uint64_t i = 0; i < count; i++)
        if (!count_field(a, f, flatbuf_follow(f, first + 4 * i), depth + 1, why, why_cap))
            return false;
    return !f->bad || say(a, why, why_cap, "the schema is damaged");
}

static void take_kind(struct flatbuf *f, uint64_t table, struct column *c)
{
    unsigned type = (unsigned)flatbuf_scalar(f, table, 2, 1);
    uint64_t of = flatbuf_child(f, table, 3);

    if (flatbuf_field(f, table, 4) != 0)
        return; /* a dictionary: KIND_OTHER */
    if (type == TYPE_INT) {
        c->width = (unsigned)flatbuf_scalar(f, of, 0, 4) / 8;
        c->is_signed = flatbuf_scalar(f, of, 1, 1) != 0;
        if (c->width == 1 || c->width == 2 || c->width == 4 || c->width == 8)
            c->kind = KIND_INT;
    } else if (type == TYPE_FLOAT) {
        unsigned precision = (unsigned)flatbuf_scalar(f, of, 0, 2);

        c->width = precision == 1 ? 4 : 8;
        if (precision == 1 || precision == 2)
            c->kind = KIND_FLOAT;
    } else if (type == TYPE_BOOL) {
        c->kind = KIND_BOOL;
    } else if (type == TYPE_TEXT || type == TYPE_LARGE_TEXT) {
        c->width = type == TYPE_TEXT ? 4 : 8;
        c->kind = KIND_TEXT;
    }
}

static bool take_column(struct arrow *a, struct flatbuf *f, uint64_t table, struct column *c,
                        char *why, size_t why_cap)
{
    uint64_t name = flatbuf_child(f, table, 0), len = name ? flatbuf_load(f, name, 4) : 0;

    if (f->bad || (name && len > f->len - name - 4))
        return say(a, why, why_cap, "the schema is damaged");
    c->node = a->nodes;
    c->buffer = a->buffers;
    take_kind(f, table, c);
    c->name = name ? strndup((const char *)f->p + name + 4, (size_t)len) : strdup("");
    return c->name ? count_field(a, f, table, 0, why, why_cap)
                   : say(a, why, why_cap, "no memory");
}

static bool read_schema(struct arrow *a, char *why, size_t why_cap)
{
    struct message m;
    uint64_t count, first;
    bool ok = read_message(a, &m, why, why_cap);

    if (ok && m.type != MESSAGE_SCHEMA)
        ok = say(a, why, why_cap, "not Arrow: it does not begin with a schema");
    if (ok && flatbuf_scalar(&m.flat, m.header, 0, 2) != 0)
        ok = say(a, why, why_cap, "big-endian");
    first = ok ? flatbuf_vector(&m.flat, m.header, 1, 4, &count) : 0;
    if (ok && (m.flat.bad || count > COLUMNS_MAX))
        ok = say(a, why, why_cap, "the schema is damaged, or has more than %d columns",
                 COLUMNS_MAX);
    if (ok) {
        a->columns = calloc((size_t)count + 1, sizeof *a->columns);
        ok = a->columns || say(a, why, why_cap, "no memory");
    }
    for (uint64_t i = 0; ok && i < count; i++) {
        a->count = (unsigned)i + 1;
        ok = take_column(a, &m.flat, flatbuf_follow(&m.flat, first + 4 * i), &a->columns[i], why,
                         why_cap);
    }
    free(m.meta);
    return ok;
}

bool arrow_open(const char *path, struct arrow **out, char *why, size_t why_cap)
{
    struct arrow *a = calloc(1, sizeof *a);
    unsigned char magic[8] = {0};
    struct stat st;
    bool ok = a && (a->path = strdup(path));

    if (!ok) {
        snprintf(why, why_cap, "no memory");
        free(a);
        return false;
    }
    a->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (a->fd < 0 || fstat(a->fd, &st) != 0)
        ok = say(a, why, why_cap, "%s", strerror(errno));
    else if (!S_ISREG(st.st_mode))
        ok = say(a, why, why_cap, "not a regular file");
    else
        a->size = (uint64_t)st.st_size;
    ok = ok && read_at(a, 0, magic, a->size < 8 ? a->size : 8, why, why_cap);
    if (ok && memcmp(magic, "ARROW1\0\0", 8) == 0)
        a->at = 8; /* a file: the same messages, and a footer that is not needed to read in order */
    ok = ok && read_schema(a, why, why_cap);
    if (ok)
        *out = a;
    else
        arrow_close(a);
    return ok;
}

static void drop_buffers(struct arrow *a)
{
    for (unsigned i = 0; i < a->count; i++) {
        struct column *c = &a->columns[i];

        free(c->valid.data);
        free(c->values.data);
        free(c->bytes.data);
        c->valid = c->values = c->bytes = (struct buffer){0};
    }
    a->rows = 0;
}

void arrow_close(struct arrow *a)
{
    if (!a)
        return;
    drop_buffers(a);
    for (unsigned i = 0; i < a->count; i++)
        free(a->columns[i].name);
    free(a->columns);
    if (a->fd >= 0)
        close(a->fd);
    free(a->path);
    free(a);
}

unsigned arrow_columns(const struct arrow *a)
{
    return a->count;
}

const char *arrow_name(const struct arrow *a, unsigned column)
{
    return a->columns[column].name;
}

bool arrow_flat(const struct arrow *a, unsigned column)
{
    return a->columns[column].kind != KIND_OTHER;
}

/* --- A record batch --------------------------------------------------------------------------- */

/* Reads buffer `index` of a batch, which must have at least `need` bytes. */
static bool read_buffer(struct arrow *a, struct message *m, uint64_t list, uint64_t index,
                        uint64_t need, struct buffer *out, char *why, size_t why_cap)
{
    uint64_t offset = flatbuf_load(&m->flat, list + 16 * index, 8);
    uint64_t len = flatbuf_load(&m->flat, list + 16 * index + 8, 8);

    if (m->flat.bad || offset > m->body_len || len > m->body_len - offset || len < need ||
        len > BUFFER_MAX)
        return say(a, why, why_cap, "a buffer of %" PRIu64 " bytes at %" PRIu64 " of a body of %"
                   PRIu64 "; at least %" PRIu64 " and at most %d are wanted", len, offset,
                   m->body_len, need, BUFFER_MAX);
    out->data = malloc((size_t)len + 1);
    if (!out->data)
        return say(a, why, why_cap, "no memory");
    out->len = len;
    return read_at(a, m->body + offset, out->data, len, why, why_cap);
}

static bool read_column(struct arrow *a, struct message *m, struct column *c, uint64_t nodes,
                        uint64_t list, char *why, size_t why_cap)
{
    uint64_t rows = flatbuf_load(&m->flat, nodes + 16 * c->node, 8), need;

    if (rows != a->rows)
        return say(a, why, why_cap, "column %.60s has %" PRIu64 " values in a batch of %" PRIu64
                   " rows", c->name, rows, a->rows);
    c->nulls = flatbuf_load(&m->flat, nodes + 16 * c->node + 8, 8);
    if (c->nulls > 0 &&
        !read_buffer(a, m, list, c->buffer, (rows + 7) / 8, &c->valid, why, why_cap))
        return false;
    need = c->kind == KIND_BOOL ? (rows + 7) / 8
                                : (rows + (c->kind == KIND_TEXT && rows > 0)) * c->width;
    if (!read_buffer(a, m, list, c->buffer + 1, need, &c->values, why, why_cap))
        return false;
    return c->kind != KIND_TEXT ||
           read_buffer(a, m, list, c->buffer + 2, 0, &c->bytes, why, why_cap);
}

static bool read_batch(struct arrow *a, struct message *m, char *why, size_t why_cap)
{
    uint64_t nodes, node_count, list, list_count;
    bool ok = true;

    a->rows = flatbuf_scalar(&m->flat, m->header, 0, 8);
    nodes = flatbuf_vector(&m->flat, m->header, 1, 16, &node_count);
    list = flatbuf_vector(&m->flat, m->header, 2, 16, &list_count);
    if (flatbuf_field(&m->flat, m->header, 3) != 0)
        return say(a, why, why_cap, "compressed buffers; write it without compression");
    if (m->flat.bad || node_count != a->nodes || list_count != a->buffers ||
        a->rows > (uint64_t)BUFFER_MAX)
        return say(a, why, why_cap, "a record batch does not fit the schema (%" PRIu64
                   " fields of %" PRIu64 ", %" PRIu64 " buffers of %" PRIu64 ")", node_count,
                   a->nodes, list_count, a->buffers);
    for (unsigned i = 0; ok && i < a->count; i++)
        if (a->columns[i].kind != KIND_OTHER)
            ok = read_column(a, m, &a->columns[i], nodes, list, why, why_cap);
    return ok;
}

bool arrow_next(struct arrow *a, uint64_t *rows, char *why, size_t why_cap)
{
    bool ok = true;

    drop_buffers(a);
    while (ok && a->rows == 0) { /* batches may be empty */
        struct message m;
        bool end;

        ok = read_message(a, &m, why, why_cap);
        end = m.type == MESSAGE_END;
        if (ok && m.type == MESSAGE_BATCH) {
            drop_buffers(a);
            ok = read_batch(a, &m, why, why_cap);
        } else if (ok && !end && m.type != MESSAGE_DICTIONARY) {
            ok = say(a, why, why_cap, "a message of type %u, which is not known", m.type);
        }
        free(m.meta);
        if (end)
            break;
    }
    *rows = ok ? a->rows : 0;
    return ok;
}

static bool bit(const struct buffer *b, uint64_t row)
{
    return b->data[row / 8] >> (row % 8) & 1;
}

static json_t *text_cell(struct arrow *a, const struct column *c, uint64_t row, char *why,
                         size_t why_cap)
{
    uint64_t from = 0, to = 0;
    json_t *v;

    memcpy(&from, c->values.data + row * c->width, c->width);
    memcpy(&to, c->values.data + (row + 1) * c->width, c->width);
    if (from > to || to > c->bytes.len) {
        say(a, why, why_cap, "column %.60s: a text from %" PRIu64 " to %" PRIu64 " of %" PRIu64
            " bytes", c->name, from, to, c->bytes.len);
        return NULL;
    }
    v = json_stringn((const char *)c->bytes.data + from, (size_t)(to - from));
    if (!v)
        say(a, why, why_cap, "column %.60s: a text is not UTF-8", c->name);
    return v;
}

static json_t *int_cell(const struct column *c, uint64_t row)
{
    uint64_t v = 0;
    unsigned shift = 64 - 8 * c->width;

    memcpy(&v, c->values.data + row * c->width, c->width);
    if (!c->is_signed)
        return v > INT64_MAX ? json_real((double)v) : json_integer((json_int_t)v);
    return json_integer((json_int_t)(v << shift) >> shift); /* the sign, spread */
}

static json_t *float_cell(const struct column *c, uint64_t row)
{
    float narrow;
    double v;

    if (c->width == 4) {
        memcpy(&narrow, c->values.data + row * 4, 4);
        v = (double)narrow;
    } else {
        memcpy(&v, c->values.data + row * 8, 8);
    }
    return __builtin_isfinite(v) ? json_real(v) : json_null();
}

json_t *arrow_cell(struct arrow *a, unsigned column, uint64_t row, char *why, size_t why_cap)
{
    const struct column *c = &a->columns[column];

    if (row >= a->rows || c->kind == KIND_OTHER || (c->nulls > 0 && !bit(&c->valid, row)))
        return json_null();
    switch (c->kind) {
    case KIND_INT:
        return int_cell(c, row);
    case KIND_FLOAT:
        return float_cell(c, row);
    case KIND_BOOL:
        return json_boolean(bit(&c->values, row));
    case KIND_TEXT:
        return text_cell(a, c, row, why, why_cap);
    case KIND_OTHER:
        break;
    }
    return json_null();
}
