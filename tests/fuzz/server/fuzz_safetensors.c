/* fuzz_safetensors.c - a body that says it is safetensors: every tensor it is found to have lies
 * inside it, and is as long as its shape says. */
#include "tests/fuzz/fuzz.h"

#include "server/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors st;
    struct arena a = {0};
    struct err e = ERR_INIT;
    size_t total = 0;

    if (!safetensors_read(data, size, &a, &st, &e)) {
        fuzz_require(st.count <= SAFETENSORS_COUNT);
        for (size_t i = 0; i < st.count; i++) {
            const struct safetensor *t = &st.tensors[i], *same;
            enum dtype type;
            size_t rows;

            fuzz_require(t->data >= data && t->bytes <= (size_t)(data + size - t->data));
            fuzz_require(!safetensors_find(&st, t->name, &same, &e) && same == t);
            if (!safetensors_rows(t, 4, 65536, &rows, &type, &e))
                fuzz_require(rows * 4 * dtype_size(type) == t->bytes);
            total += t->bytes;
        }
        fuzz_require(total < size);
    } else {
        fuzz_require(e.text[0] != '\0');
    }
    arena_free(&a);
    return 0;
}
