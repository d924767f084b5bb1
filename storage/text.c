/* text.c - see text.h. */
#include "storage/text.h"

#include <pthread.h>
#include <string.h>
#include <zstd.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/chunk.h"

enum {
    HEAD_BYTES = 8,
    ROW_BYTES = 16,
    FRAME_BYTES = 16,
    FRAME_RAW = 4 << 10, /* a hit inflates one: 7 us; 64 KiB took 75, a fifth fewer bytes */
    LEVEL = 3,
};
#define NONE UINT32_MAX

/* ---- Build ----------------------------------------------------------------------------------- */

struct build {
    struct buf table, raw, frame_table, frames;
    uint32_t frame_count;
    ZSTD_CCtx *zstd;
};

static void flush_frame(struct build *b)
{
    unsigned char entry[FRAME_BYTES];
    size_t bound = ZSTD_compressBound(b->raw.len), stored;

    if (b->raw.len == 0 || !buf_reserve(&b->frames, bound))
        return;
    stored = ZSTD_compressCCtx(b->zstd, b->frames.data + b->frames.len, bound, b->raw.data,
                               b->raw.len, LEVEL);
    if (ZSTD_isError(stored)) {
        b->frames.failed = true;
        return;
    }
    bytes_put_le64(entry, b->frames.len);
    bytes_put_le32(entry + 8, (uint32_t)stored);
    bytes_put_le32(entry + 12, (uint32_t)b->raw.len);
    buf_add(&b->frame_table, entry, sizeof entry);
    b->frames.len += stored;
    b->raw.len = 0;
    b->frame_count++;
}

static void add_row(struct build *b, const struct chunk_row *row)
{
    unsigned char entry[ROW_BYTES];
    size_t text_len = row->text ? row->text_len : 0, meta_len = row->meta ? row->meta_len : 0;

    if (b->raw.len + text_len + meta_len > FRAME_RAW)
        flush_frame(b);
    bytes_put_le32(entry, b->frame_count);
    bytes_put_le32(entry + 4, (uint32_t)b->raw.len);
    bytes_put_le32(entry + 8, row->text ? row->text_len : NONE);
    bytes_put_le32(entry + 12, row->meta ? row->meta_len : NONE);
    buf_add(&b->table, entry, sizeof entry);
    buf_add(&b->raw, row->text, text_len);
    buf_add(&b->raw, row->meta, meta_len);
}

int text_build(const struct chunk_row *rows, uint32_t count, struct buf *out, struct err *e)
{
    struct build b = {.zstd = ZSTD_createCCtx()};
    unsigned char head[HEAD_BYTES];
    bool failed = !b.zstd;

    for (uint32_t i = 0; i < count && !failed; i++)
        add_row(&b, &rows[i]);
    if (!failed) {
        flush_frame(&b);
        bytes_put_le32(head, count);
        bytes_put_le32(head + 4, b.frame_count);
        buf_add(out, head, sizeof head);
        buf_add(out, b.table.data, b.table.len);
        buf_add(out, b.frame_table.data, b.frame_table.len);
        buf_add(out, b.frames.data, b.frames.len);
        failed = b.table.failed || b.raw.failed || b.frame_table.failed || b.frames.failed ||
                 out->failed;
    }
    buf_free(&b.table);
    buf_free(&b.raw);
    buf_free(&b.frame_table);
    buf_free(&b.frames);
    (void)ZSTD_freeCCtx(b.zstd);
    return failed ? err_set(e, ERR_BUSY, "no memory for the texts of %u examples", (unsigned)count)
                  : 0;
}

/* ---- Read ------------------------------------------------------------------------------------ */

/* Making a context costs more than inflating a frame with it: each thread keeps one, 160 KB. */
static pthread_key_t context_key;
static pthread_once_t context_once = PTHREAD_ONCE_INIT;

static void free_context(void *context)
{
    (void)ZSTD_freeDCtx(context);
}

static void make_key(void)
{
    require(pthread_key_create(&context_key, free_context) == 0);
}

/* The calling thread's, or NULL when there is no memory. */
static ZSTD_DCtx *own_context(void)
{
    ZSTD_DCtx *context;

    (void)pthread_once(&context_once, make_key);
    context = pthread_getspecific(context_key);
    if (context)
        return context;
    context = ZSTD_createDCtx();
    if (context && pthread_setspecific(context_key, context)) {
        (void)ZSTD_freeDCtx(context);
        context = NULL;
    }
    return context;
}

int text_reader_open(struct text_reader *r, const void *bytes, size_t len, uint32_t rows,
                     struct err *e)
{
    *r = (struct text_reader){.bytes = bytes, .len = len, .frame = -1};
    if (len >= HEAD_BYTES) {
        r->rows = bytes_get_le32(r->bytes);
        r->frames = bytes_get_le32(r->bytes + 4);
    }
    if (len < HEAD_BYTES || r->rows != rows ||
        (len - HEAD_BYTES) / ROW_BYTES < (uint64_t)r->rows + r->frames)
        return err_set(e, ERR_CORRUPT, "the table of texts does not fit its block");
    return 0;
}

void text_reader_close(struct text_reader *r)
{
    buf_free(&r->raw);
}

static int inflate(struct text_reader *r, uint32_t frame, struct err *e)
{
    size_t tables = HEAD_BYTES + (size_t)r->rows * ROW_BYTES + (size_t)r->frames * FRAME_BYTES;
    const unsigned char *entry;
    ZSTD_DCtx *context;
    uint64_t offset;
    uint32_t stored, raw;
    size_t got;

    if (frame >= r->frames)
        return err_set(e, ERR_CORRUPT, "text frame %u of %u", (unsigned)frame, (unsigned)r->frames);
    entry = r->bytes + HEAD_BYTES + (size_t)r->rows * ROW_BYTES + (size_t)frame * FRAME_BYTES;
    offset = bytes_get_le64(entry);
    stored = bytes_get_le32(entry + 8);
    raw = bytes_get_le32(entry + 12);
    if (offset > r->len - tables || stored > r->len - tables - offset || raw > TEXT_ROW_MAX)
        return err_set(e, ERR_CORRUPT, "text frame %u lies outside its block", (unsigned)frame);
    r->frame = -1;
    r->raw.len = 0;
    context = own_context();
    if (!context || !buf_reserve(&r->raw, (size_t)raw + 1))
        return err_set(e, ERR_BUSY, "no memory for a text frame of %u bytes", (unsigned)raw);
    got = ZSTD_decompressDCtx(context, r->raw.data, raw, r->bytes + tables + offset, stored);
    if (ZSTD_isError(got) || got != raw)
        return err_set(e, ERR_CORRUPT, "text frame %u does not decompress", (unsigned)frame);
    r->raw.len = raw;
    r->frame = frame;
    return 0;
}

int text_reader_row(struct text_reader *r, uint32_t row, const char **out_text,
                    size_t *out_text_len,
                    const char **out_meta, size_t *out_meta_len, struct err *e)
{
    const unsigned char *entry = r->bytes + HEAD_BYTES + (size_t)row * ROW_BYTES;
    uint32_t frame = bytes_get_le32(entry), offset = bytes_get_le32(entry + 4);
    uint32_t text = bytes_get_le32(entry + 8), meta = bytes_get_le32(entry + 12);
    size_t text_len = text == NONE ? 0 : text, meta_len = meta == NONE ? 0 : meta;
    static const char empty[1];
    const char *base = empty;

    if (text_len + meta_len > 0) {
        if (r->frame != (int64_t)frame && inflate(r, frame, e))
            return (int)e->code;
        if (offset > r->raw.len || text_len + meta_len > r->raw.len - offset)
            return err_set(e, ERR_CORRUPT, "the text of row %u lies outside its frame",
                           (unsigned)row);
        base = (const char *)r->raw.data + offset;
    }
    *out_text = text == NONE ? NULL : base;
    *out_text_len = text_len;
    *out_meta = meta == NONE ? NULL : base + text_len;
    *out_meta_len = meta_len;
    return 0;
}
