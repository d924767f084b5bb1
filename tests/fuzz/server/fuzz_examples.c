/* fuzz_examples.c - the JSON Lines of a batch. What is taken has as many examples as lines, ids that
 * the check for ids takes, and metas that are JSON. */
#include "tests/fuzz/fuzz.h"

#include "server/examples.h"
#include "server/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct commit_example *list;
    struct arena a = {0};
    struct err e = ERR_INIT;
    size_t rows = 0;

    for (size_t i = 0; i < size; i++)
        rows += data[i] == '\n';
    rows += size > 0 && data[size - 1] != '\n';
    if (rows == 0 || rows > 65536)
        return 0;
    if (!examples_read(data, size, rows, NULL, &a, &list, &e)) {
        for (size_t i = 0; i < rows; i++) {
            json_t *meta;

            fuzz_require(!examples_check_id(list[i].id, list[i].id_len, &e));
            if (list[i].text)
                fuzz_require(bytes_utf8_error(list[i].text, list[i].text_len) == list[i].text_len);
            if (list[i].meta) {
                fuzz_require(!json_read_object(list[i].meta, list[i].meta_len, JSON_DATA, &meta, &e));
                json_decref(meta);
            }
        }
    } else {
        fuzz_require(e.text[0] != '\0');
    }
    arena_free(&a);
    return 0;
}
