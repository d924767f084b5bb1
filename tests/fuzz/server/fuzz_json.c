/* fuzz_json.c - a JSON document from outside. What is taken has a canonical form that reads back as
 * the same document, and the same text without its spaces still means it. */
#include "tests/fuzz/fuzz.h"

#include "server/json.h"

static void try_mode(const uint8_t *data, size_t size, enum json_mode mode)
{
    struct err e = ERR_INIT;
    json_t *doc, *again;
    struct buf b = {0}, c = {0};
    char *squeezed;

    if (json_read(data, size, mode, &doc, &e)) {
        fuzz_require(e.text[0] != '\0');
        return;
    }
    json_put_canonical(&b, doc);
    fuzz_require(!b.failed && !json_read(b.data, b.len, mode, &again, &e));
    json_put_canonical(&c, again);
    fuzz_require(b.len == c.len && !memcmp(b.data, c.data, b.len));
    json_decref(again);

    squeezed = malloc(size);
    fuzz_require(squeezed);
    fuzz_require(!json_read(squeezed, json_squeeze((const char *)data, size, squeezed), mode,
                            &again, &e));
    fuzz_require(json_equal(doc, again));
    json_decref(again);
    free(squeezed);
    json_decref(doc);
    buf_free(&b);
    buf_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_mode(data, size, JSON_CONTROL);
    try_mode(data, size, JSON_DATA);
    return 0;
}
