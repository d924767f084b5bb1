/* fuzz_ckpt.c - a checkpoint file. A file whose checksum is wrong goes no further than that, so what
 * stands behind it is reached by the merges alone (fuzz_tok.c); here it is the header. */
#include "tests/fuzz/fuzz.h"

#include "client/lm/ckpt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_file f;
    struct model m;
    struct err e = ERR_INIT;

    fuzz_file_open(&f, data, size);
    if (!ckpt_load(&m, f.path, &e)) {
        fuzz_require(m.params && m.second && strlen(m.fingerprint) == MODEL_FINGERPRINT_LEN);
        model_free(&m);
    } else {
        fuzz_require(e.text[0] != '\0');
    }
    fuzz_file_close(&f);
    return 0;
}
