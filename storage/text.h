/* text.h - the TEXTS block: texts and metas of a chunk, in zstd frames of about 4 KiB each (64 KiB
 * in blocks of earlier programs: nothing depends on it).
 *
 * A table says for every row which frame it is in and where, so that one text costs one small
 * frame. Layout (after the block header): u32 rows, u32 frames; rows x {u32 frame, u32 offset, u32
 * text length, u32 meta length} (length ~0: none); frames x {u64 offset, u32 stored, u32 raw};
 * frames.
 */
#ifndef STORAGE_TEXT_H
#define STORAGE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

struct chunk_row; /* storage/chunk.h */

/* Texts of one row together at most this; refused before anything is written. */
#define TEXT_ROW_MAX (UINT64_C(64) << 20)

/* Appends the block's payload to `out`. BUSY when there is no memory. */
int text_build(const struct chunk_row *rows, uint32_t count, struct buf *out, struct err *e);

/* Reads rows of one block; keeps the last frame, so that going through the rows in order inflates
 * each frame once. The block must stay open. Not thread-safe. */
struct text_reader {
    const unsigned char *bytes;
    size_t len;
    uint32_t rows, frames;
    struct buf raw; /* the frame in hand */
    int64_t frame;  /* its number, or -1 */
};

int text_reader_open(struct text_reader *r, const void *bytes, size_t len, uint32_t rows,
                     struct err *e);
void text_reader_close(struct text_reader *r);

/* text and meta point into the reader and are valid until its next call; NULL when there is
 * none. */
int text_reader_row(struct text_reader *r, uint32_t row, const char **out_text,
                    size_t *out_text_len,
                    const char **out_meta, size_t *out_meta_len, struct err *e);

#endif
