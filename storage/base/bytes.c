/* bytes.c - see bytes.h. */
#include "storage/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/mem.h"
#include "storage/base/spare.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "stored tensors are little-endian and read in place");

void bytes_put_le32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

void bytes_put_le64(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

uint32_t bytes_get_le32(const void *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

uint64_t bytes_get_le64(const void *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

void bytes_put_be32(void *p, uint32_t v)
{
    bytes_put_le32(p, __builtin_bswap32(v));
}

void bytes_put_be64(void *p, uint64_t v)
{
    bytes_put_le64(p, __builtin_bswap64(v));
}

uint32_t bytes_get_be32(const void *p)
{
    return __builtin_bswap32(bytes_get_le32(p));
}

uint64_t bytes_get_be64(const void *p)
{
    return __builtin_bswap64(bytes_get_le64(p));
}

/* Length of the well-formed sequence at p (Unicode 15, table 3-7), or 0. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t len;

    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (left < len)
        return 0;
    if (p[0] == 0xE0)
        low = 0xA0; /* overlong */
    else if (p[0] == 0xED)
        high = 0x9F; /* surrogates */
    else if (p[0] == 0xF0)
        low = 0x90; /* overlong */
    else if (p[0] == 0xF4)
        high = 0x8F; /* past U+10FFFF */
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return len;
}

size_t bytes_utf8_error(const void *text, size_t len)
{
    const unsigned char *p = text;
    size_t i = 0;

    while (i < len) {
        size_t step = utf8_sequence(p + i, len - i);
        if (step == 0)
            return i;
        i += step;
    }
    return len;
}

void bytes_hex(const void *bytes, size_t len, char *out)
{
    static const char digit[] = "0123456789abcdef";
    const unsigned char *p = bytes;

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digit[p[i] >> 4];
        out[2 * i + 1] = digit[p[i] & 15];
    }
    out[2 * len] = '\0';
}

/* Up to here a buffer is an error's text or a head, which must not fail for want of memory. */
enum { SMALL = 16 * 1024 };

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

bool buf_reserve(struct buf *b, size_t more)
{
    size_t need, cap = b->cap ? b->cap : 256;
    unsigned char *grown;

    if (b->failed || !mem_add(b->len, more, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap)
        return true;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap <= SMALL)
        grown = spare_realloc(b->data, cap);
    else
        grown = spare_whole() ? realloc(b->data, cap) : NULL;
    if (!grown) {
        b->failed = true;
        return false;
    }
    b->data = grown;
    b->cap = cap;
    return true;
}

void buf_add(struct buf *b, const void *bytes, size_t len)
{
    if (len && buf_reserve(b, len)) {
        memcpy(b->data + b->len, bytes, len);
        b->len += len;
    }
}

void buf_add_text(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_format(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    int len;

    va_start(args, fmt);
    va_copy(again, args);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0)
        b->failed = true;
    else if (buf_reserve(b, (size_t)len + 1)) {
        vsnprintf((char *)b->data + b->len, (size_t)len + 1, fmt, again);
        b->len += (size_t)len;
    }
    va_end(again);
}
