/* fuzz_text.c - a TEXTS block whose checksum somehow held: rows (two bytes), then the payload. No
 * row's text lies outside of what was inflated. */
#include "tests/fuzz/fuzz.h"

#include "storage/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text_reader r;
    struct err e = ERR_INIT;
    uint32_t rows;
    void *payload;

    if (size < 2)
        return 0;
    rows = (uint32_t)data[0] | (uint32_t)data[1] << 8;
    payload = fuzz_exact(data + 2, size - 2);
    if (!text_reader_open(&r, payload, size - 2, rows, &e)) {
        for (uint32_t i = 0; i < rows && i < 4096; i++) {
            const char *text = NULL, *meta = NULL;
            size_t text_len = 0, meta_len = 0;
            volatile char last;

            if (text_reader_row(&r, i, &text, &text_len, &meta, &meta_len, &e))
                continue;
            if (text && text_len)
                last = text[text_len - 1];
            if (meta && meta_len)
                last = meta[meta_len - 1];
            (void)last;
        }
        text_reader_close(&r);
    }
    free(payload);
    return 0;
}
