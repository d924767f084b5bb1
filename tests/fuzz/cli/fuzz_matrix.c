/* fuzz_matrix.c - a .npy or safetensors file of vectors: opened by its content, the first and the
 * last row read. */
#include "tests/fuzz/fuzz.h"

#include "client/ascribe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct asc_matrix *m;
    struct asc_error e;
    struct fuzz_file f;

    fuzz_file_open(&f, data, size);
    if (asc_matrix_open(f.path, NULL, &m, &e)) {
        fuzz_require(e.detail[0] != '\0');
    } else {
        uint64_t rows = asc_matrix_rows(m), dim = asc_matrix_dim(m);
        size_t element = asc_dtype_size(asc_matrix_dtype(m));
        void *row;

        fuzz_require(element > 0 && dim <= size && rows <= size && rows * dim * element <= size);
        row = malloc(dim * element + 1);
        fuzz_require(row);
        if (rows > 0) {
            fuzz_require(!asc_matrix_read(m, 0, 1, row, &e));
            fuzz_require(!asc_matrix_read(m, rows - 1, 1, row, &e));
        }
        free(row);
        asc_matrix_close(m);
    }
    fuzz_file_close(&f);
    return 0;
}
