/* fuzz_filter.c - a filter (up to the first newline) over a meta (the rest). A filter and its
 * negation never agree; an error points into the text. */
#include "tests/fuzz/fuzz.h"

#include "server/filter.h"
#include "storage/base/bytes.h"

static bool holds(const char *text, size_t len, struct arena *a, const struct filter_row *row,
                  bool *out)
{
    struct err e = ERR_INIT;
    const struct filter *f;

    return !filter_parse(text, len, a, &f, &e) && !filter_match(f, row, out, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *end = size ? memchr(text, '\n', size) : NULL;
    size_t len = end ? (size_t)(end - text) : size;
    struct filter_row row = {.id = "n01", .id_len = 3, .sequence = 7, .norm = 1.5,
                             .meta = end ? end + 1 : NULL, .meta_len = end ? size - len - 1 : 0};
    struct arena a = {0};
    const struct filter *f;
    struct filter_path path;
    struct err e = ERR_INIT;
    bool yes, no;

    if (len <= 65536) {
        if (filter_parse(text, len, &a, &f, &e)) {
            fuzz_require(e.text[0] && e.index >= -1 && e.index <= (int64_t)len);
        } else if (!filter_match(f, &row, &yes, &e)) {
            struct buf b = {0};

            buf_format(&b, "not (");
            buf_add(&b, text, len);
            buf_format(&b, ")");
            /* one level of brackets deeper may be one too deep */
            if (holds((const char *)b.data, b.len, &a, &row, &no))
                fuzz_require(yes != no);
            buf_free(&b);
        }
        filter_parse_path(text, len, "group", &a, &path, &e);
    }
    arena_free(&a);
    return 0;
}
