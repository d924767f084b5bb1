/* coder.c - see coder.h: sizes and places of codes in memory. Any thread. */
#include "storage/coder.h"

#include "storage/base/check.h"
#include "storage/base/mem.h"

enum { ALIGN = 64 };

size_t coder_plane_bytes(const struct coder_shape *s, unsigned plane, uint32_t count)
{
    size_t row = plane < CODER_PLANES ? s->plane_bytes[plane] : (size_t)s->factors * sizeof(float);

    return row * count;
}

const unsigned char *coder_plane(const struct codes *c, unsigned plane)
{
    return plane < CODER_PLANES ? c->plane[plane] : (const unsigned char *)c->factors;
}

static size_t padded(const struct coder_shape *s, unsigned plane, uint32_t count)
{
    return (coder_plane_bytes(s, plane, count) + ALIGN - 1) / ALIGN * ALIGN;
}

bool coder_bytes(const struct coder_shape *s, uint32_t count, size_t *out)
{
    size_t total = 0;

    for (unsigned p = 0; p <= CODER_PLANES; p++)
        if (!mem_add(total, padded(s, p, count), &total))
            return false;
    *out = total;
    return true;
}

struct codes coder_layout(const struct coder_shape *s, uint32_t count, void *memory)
{
    struct codes c = {.shape = *s, .count = count};
    unsigned char *at = memory;

    require((uintptr_t)memory % ALIGN == 0);
    for (unsigned p = 0; p < CODER_PLANES; p++) {
        c.plane[p] = at;
        at += padded(s, p, count);
    }
    c.factors = (float *)(void *)at;
    return c;
}
