/* fuzz_gold.c - a file of right answers for `ascribe eval`: what is taken has an id and gold. */
#include "tests/fuzz/fuzz.h"

#include "client/cli/gold.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct gold_needs needs = {.text = size & 1, .bucket = size & 2 ? "kind" : NULL};
    struct fuzz_file f;
    struct gold g;
    char why[512] = "";

    fuzz_file_open(&f, data, size);
    if (gold_open(&g, f.path, &needs, why, sizeof why)) {
        for (size_t i = 0; i < g.count; i++) {
            fuzz_require(g.list[i].id && json_is_object(g.list[i].object));
            fuzz_require(gold_right_count(&g.list[i]) == json_object_size(g.list[i].right));
        }
    } else {
        fuzz_require(why[0] != '\0');
    }
    gold_close(&g);
    fuzz_file_close(&f);
    return 0;
}
