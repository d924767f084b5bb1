/* mem.c - allocation helpers and the arena. */
#include "storage/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/keep.h"
#include "storage/base/spare.h"

enum { ALIGNMENT = 64, SMALL_BLOCK = 16 * 1024 };

struct arena_block {
    struct arena_block *next;
    size_t size; /* bytes after the header */
    size_t used;
    bool kept; /* keep.h's */
    _Alignas(ALIGNMENT) unsigned char bytes[];
};

void *mem_new(size_t count, size_t size)
{
    void *p = spare_calloc(count, size);
    size_t bytes = SIZE_MAX;

    if (!p) {
        mem_mul(count, size, &bytes);
        spare_end(bytes);
    }
    return p;
}

char *mem_copy(const void *bytes, size_t len)
{
    char *p = mem_new(len + 1, 1);

    if (len)
        memcpy(p, bytes, len);
    return p;
}

bool mem_mul(size_t a, size_t b, size_t *out)
{
    size_t product;

    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

bool mem_add(size_t a, size_t b, size_t *out)
{
    size_t sum;

    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

/* The bytes of an aligned block; false on overflow. */
static bool padded_bytes(size_t count, size_t size, size_t *out)
{
    size_t bytes, padded;

    if (!mem_mul(count, size, &bytes) || !mem_add(bytes, ALIGNMENT - 1, &padded))
        return false;
    *out = padded & ~(size_t)(ALIGNMENT - 1);
    return true;
}

void *mem_big(size_t count, size_t size)
{
    size_t bytes;

    if (!padded_bytes(count, size, &bytes) || !spare_whole())
        return NULL;
    return aligned_alloc(ALIGNMENT, bytes ? bytes : ALIGNMENT);
}

/* must: of our own, so what is spare may go into it. */
static struct arena_block *arena_grow(struct arena *a, size_t need, bool must)
{
    size_t size = need > SMALL_BLOCK ? need : SMALL_BLOCK;
    size_t total;
    struct arena_block *b;
    bool kept = false;

    if (!mem_add(size, sizeof *b, &total) || !padded_bytes(total, 1, &total))
        return NULL;
    if (must) {
        b = spare_aligned(ALIGNMENT, total);
    } else if (total < KEEP_LEAST) {
        b = mem_big(total, 1);
    } else {
        b = keep_take(total, 1);
        keep_settle();
        kept = true;
    }
    if (!b)
        return NULL;
    b->size = size;
    b->kept = kept;
    b->used = 0;
    b->next = a->head;
    a->head = b;
    a->total_bytes += size;
    return b;
}

static void *arena_take(struct arena *a, size_t count, size_t size, bool must)
{
    size_t bytes;
    struct arena_block *b = a->head;
    void *p;

    if (!padded_bytes(count, size, &bytes))
        return NULL;
    if (!b || b->size - b->used < bytes)
        b = arena_grow(a, bytes, must);
    if (!b)
        return NULL;
    p = b->bytes + b->used;
    b->used += bytes;
    return p;
}

void *arena_big(struct arena *a, size_t count, size_t size)
{
    return arena_take(a, count, size, false);
}

void *arena_new(struct arena *a, size_t count, size_t size)
{
    void *p = arena_take(a, count, size, true);
    size_t bytes = SIZE_MAX;

    if (!mem_mul(count, size, &bytes) || !p)
        spare_end(bytes);
    memset(p, 0, bytes);
    return p;
}

char *arena_copy(struct arena *a, const void *bytes, size_t len)
{
    char *p = arena_new(a, len + 1, 1);

    if (len)
        memcpy(p, bytes, len);
    return p;
}

char *arena_format(struct arena *a, const char *fmt, ...)
{
    va_list args, again;
    int len;
    char *p;

    va_start(args, fmt);
    va_copy(again, args);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    require(len >= 0);
    p = arena_new(a, (size_t)len + 1, 1);
    vsnprintf(p, (size_t)len + 1, fmt, again);
    va_end(again);
    return p;
}

void arena_free(struct arena *a)
{
    struct arena_block *b = a->head;

    while (b) {
        struct arena_block *next = b->next;
        if (b->kept)
            keep_give(b);
        else
            free(b);
        b = next;
    }
    if (a->total_bytes >= KEEP_LEAST)
        keep_settle();
    *a = (struct arena){0};
}
