/* test_arrow.c - Arrow files: their values, every cut of one, every byte of it changed, and offsets
 * and lengths that lie. The files are made here, FlatBuffers and all, so that each number in them has a
 * place that a test can name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/arrow.c"
#include "client/cli/flatbuf.c"

enum { ROWS = 3, COLUMNS = 4, BUFFERS = 9, INT = 2, FLOAT = 3, TEXT = 5, BOOL = 6 };

struct file {
    unsigned char p[8192];
    size_t len;
    /* places that tests change */
    size_t schema, endianness, batch, meta_len, rows, node, buffers, body, header_type;
};

static void store(struct file *f, size_t at, uint64_t value, unsigned bytes)
{
    memcpy(f->p + at, &value, bytes);
}

static size_t put(struct file *f, uint64_t value, unsigned bytes)
{
    size_t at = f->len;

    assert_true(at + bytes <= sizeof f->p);
    store(f, at, value, bytes);
    f->len += bytes;
    return at;
}

/* A table whose fields have eight bytes each; those not in `present` are absent. */
static size_t put_table(struct file *f, unsigned fields, unsigned present)
{
    size_t vtable = put(f, 4 + 2 * fields, 2);

    put(f, 4 + 8 * fields, 2);
    for (unsigned i = 0; i < fields; i++)
        put(f, present >> i & 1 ? 4 + 8 * i : 0, 2);
    vtable = put(f, f->len - vtable, 4);
    for (unsigned i = 0; i < fields; i++)
        put(f, 0, 8);
    return vtable;
}

static size_t slot(size_t table, unsigned field)
{
    return table + 4 + 8 * field;
}

/* The offset at `at` points to what is put next. */
static void point(struct file *f, size_t at)
{
    store(f, at, f->len - at, 4);
}

/* Length and metadata of a message; *out_length is where its length stands, to be set at the end. */
static size_t begin(struct file *f, unsigned type, size_t *out_length, size_t *out_body_len)
{
    size_t root, message;

    put(f, 0xffffffff, 4);
    *out_length = put(f, 0, 4);
    root = put(f, 0, 4);
    message = put_table(f, 4, 0xf);
    store(f, root, message - root, 4);
    store(f, slot(message, 1), type, 1);
    f->header_type = slot(message, 1);
    *out_body_len = slot(message, 3);
    point(f, slot(message, 2));
    return message;
}

static size_t header(struct file *f, size_t message, unsigned fields, unsigned present)
{
    size_t table = put_table(f, fields, present);

    store(f, slot(message, 2), table - slot(message, 2), 4);
    return table;
}

static void put_schema(struct file *f)
{
    static const struct {
        const char *name;
        unsigned type, value;
    } columns[COLUMNS] = {{"n", INT, 32}, {"x", FLOAT, 2}, {"ok", BOOL, 0}, {"text", TEXT, 0}};
    size_t length, body_len, message = begin(f, 1, &length, &body_len), list, table;

    f->schema = header(f, message, 2, 3);
    f->endianness = slot(f->schema, 0);
    point(f, slot(f->schema, 1));
    put(f, COLUMNS, 4);
    list = f->len;
    for (unsigned i = 0; i < COLUMNS; i++)
        put(f, 0, 4);
    for (unsigned i = 0; i < COLUMNS; i++) {
        size_t name = strlen(columns[i].name), of;

        table = put_table(f, 6, 1 << 0 | 1 << 2 | 1 << 3);
        store(f, list + 4 * i, table - (list + 4 * i), 4);
        store(f, slot(table, 2), columns[i].type, 1);
        point(f, slot(table, 0));
        put(f, name, 4);
        for (size_t c = 0; c < name; c++)
            put(f, (unsigned char)columns[i].name[c], 1);
        of = put_table(f, 2, 3);
        store(f, slot(table, 3), of - slot(table, 3), 4);
        store(f, slot(of, 0), columns[i].value, 4);
        store(f, slot(of, 1), 1, 1);
    }
    store(f, length, f->len - length - 4, 4);
}

/* -5, null, 7; 1.5, NaN, -2; true, false, true; "", "one", "zwei". */
static void put_batch(struct file *f)
{
    static const double x[ROWS] = {1.5, __builtin_nan(""), -2};
    static const uint32_t lengths[BUFFERS] = {1, 12, 0, 24, 0, 1, 0, 16, 7};
    size_t body_len, message, table, at = 0;

    f->batch = f->len;
    message = begin(f, 3, &f->meta_len, &body_len);
    table = header(f, message, 4, 7);
    f->rows = slot(table, 0);
    store(f, f->rows, ROWS, 8);
    point(f, slot(table, 1));
    put(f, COLUMNS, 4);
    f->node = f->len;
    for (unsigned i = 0; i < COLUMNS; i++) {
        put(f, ROWS, 8);
        put(f, i == 0, 8);
    }
    point(f, slot(table, 2));
    put(f, BUFFERS, 4);
    f->buffers = f->len;
    for (unsigned i = 0; i < BUFFERS; i++) {
        put(f, at, 8);
        put(f, lengths[i], 8);
        at += lengths[i];
    }
    store(f, f->meta_len, f->len - f->meta_len - 4, 4);
    store(f, body_len, at, 8);
    f->body = f->len;
    put(f, 5, 1);
    put(f, (uint32_t)-5, 4);
    put(f, 0, 4);
    put(f, 7, 4);
    memcpy(f->p + f->len, x, sizeof x);
    f->len += sizeof x;
    put(f, 5, 1);
    put(f, 0, 4);
    put(f, 0, 4);
    put(f, 3, 4);
    put(f, 7, 4);
    memcpy(f->p + f->len, "onezwei", 7);
    f->len += 7;
}

static void make(struct file *f)
{
    *f = (struct file){.len = 0};
    put_schema(f);
    put_batch(f);
}

/* Reads all there is as one JSON text in `all`, or gives why not. True when it could be read. */
static bool read_all(const void *bytes, size_t len, char *all, size_t cap, char *why)
{
    char path[] = "/tmp/ascribe-arrow-XXXXXX";
    int fd = mkstemp(path);
    struct arrow *a = NULL;
    uint64_t rows = 0;
    bool ok;

    *all = *why = '\0';
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
    ok = arrow_open(path, &a, why, 256);
    unlink(path);
    while (ok && (ok = arrow_next(a, &rows, why, 256)) && rows > 0)
        for (uint64_t r = 0; ok && r < rows && r < 100; r++)
            for (unsigned c = 0; ok && c < arrow_columns(a); c++) {
                json_t *v = arrow_cell(a, c, r, why, 256);
                char *text = v ? json_dumps(v, JSON_ENCODE_ANY) : NULL;
                size_t used = strlen(all);

                ok = v != NULL;
                if (text)
                    snprintf(all + used, cap - used, "%s ", text);
                free(text);
                json_decref(v);
            }
    if (a)
        arrow_close(a);
    assert_int_equal(ok, *why == '\0'); /* what fails says why, and nothing else does */
    return ok;
}

static const char whole[] = "-5 1.5 true \"\" null null false \"one\" 7 -2.0 true \"zwei\" ";

static void test_values(void **state)
{
    struct file f, framed;
    char all[4096], why[256];

    (void)state;
    make(&f);
    assert_true(read_all(f.p, f.len, all, sizeof all, why));
    assert_string_equal(all, whole);
    put(&f, 0xffffffff, 4); /* says that it ends */
    put(&f, 0, 4);
    put(&f, 0x123456, 4);
    assert_true(read_all(f.p, f.len, all, sizeof all, why));
    assert_string_equal(all, whole);
    framed = (struct file){.len = 8}; /* a file, and not a stream */
    memcpy(framed.p, "ARROW1\0\0", 8);
    put_schema(&framed);
    put_batch(&framed);
    put_batch(&framed);
    assert_true(read_all(framed.p, framed.len, all, sizeof all, why));
    assert_int_equal(strlen(all), 2 * strlen(whole));
}

static void test_every_cut(void **state)
{
    struct file f;
    char all[4096], why[256];

    (void)state;
    make(&f);
    for (size_t len = 0; len < f.len; len++) {
        bool ok = read_all(f.p, len, all, sizeof all, why);

        assert_int_equal(ok, len == f.batch); /* a schema alone: no rows */
        assert_string_equal(all, "");
    }
}

/* Whatever it says then: an answer or a refusal, within what was allocated. */
static void test_every_byte(void **state)
{
    static const unsigned char change[] = {0x01, 0x80, 0xff};
    struct file f;
    char all[65536], why[256];

    (void)state;
    make(&f);
    for (size_t at = 0; at < f.len; at++)
        for (size_t i = 0; i < sizeof change; i++) {
            f.p[at] ^= change[i];
            read_all(f.p, f.len, all, sizeof all, why);
            f.p[at] ^= change[i];
        }
}

static void test_hostile_numbers(void **state)
{
    struct file f;
    char all[4096], why[256];

    (void)state;
    make(&f);
    const struct {
        size_t at;
        uint64_t value;
        unsigned bytes;
        const char *says;
    } cases[] = {
        {f.meta_len, 0x7fffffff, 4, "bytes of metadata"},
        {f.meta_len, 0x00ffffff, 4, "cut off"},
        {f.meta_len, 4, 4, "damaged"},
        {f.endianness, 1, 2, "big-endian"},
        {f.header_type, 4, 1, "type 4"},
        {f.rows, ROWS + 1, 8, "values in a batch"},
        {f.rows, UINT64_MAX, 8, "does not fit"},
        {f.node, UINT64_MAX, 8, "values in a batch"},
        {f.buffers, UINT64_MAX, 8, "a buffer of"},
        {f.buffers + 8, UINT64_MAX, 8, "a buffer of"},
        {f.buffers + 16, 62, 8, "a buffer of"},      /* begins inside the body, ends behind it */
        {f.buffers + 16 + 8, 11, 8, "a buffer of"},  /* a byte less than the rows need */
        {f.buffers + 16 * 7 + 8, 12, 8, "a buffer of"}, /* three offsets, where four are needed */
        {f.body + 1 + 12 + 24 + 1 + 4, 9, 4, "a text from"}, /* an offset behind the bytes */
        {f.body + 1 + 12 + 24 + 1 + 8, 0xffffffff, 4, "a text from"},
        {f.body + 1 + 12 + 24 + 1 + 16, 0xff, 1, "UTF-8"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make(&f);
        store(&f, cases[i].at, cases[i].value, cases[i].bytes);
        if (read_all(f.p, f.len, all, sizeof all, why) || !strstr(why, cases[i].says))
            fail_msg("case %zu: \"%s\" instead of \"%s\"; %s", i, why, cases[i].says, all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_hostile_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
