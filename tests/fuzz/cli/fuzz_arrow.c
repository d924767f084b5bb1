/* fuzz_arrow.c - an Arrow file of a dataset on somebody's disk: every cell of every flat column of
 * every batch is read. */
#include "tests/fuzz/fuzz.h"

#include "client/cli/arrow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_file f;
    struct arrow *a;
    char why[512] = "";
    uint64_t rows = 0;

    fuzz_file_open(&f, data, size);
    if (!arrow_open(f.path, &a, why, sizeof why)) {
        fuzz_require(why[0] != '\0');
        fuzz_file_close(&f);
        return 0;
    }
    while (arrow_next(a, &rows, why, sizeof why) && rows > 0)
        for (unsigned c = 0; c < arrow_columns(a); c++) {
            fuzz_require(arrow_name(a, c));
            for (uint64_t r = 0; arrow_flat(a, c) && r < rows && r < 1000; r++)
                json_decref(arrow_cell(a, c, r, why, sizeof why));
        }
    arrow_close(a);
    fuzz_file_close(&f);
    return 0;
}
