/* flatbuf.c - see flatbuf.h. */
#include "client/cli/flatbuf.h"

#include <string.h>

uint64_t flatbuf_load(struct flatbuf *f, uint64_t at, unsigned bytes)
{
    uint64_t v = 0;

    if (f->bad || at > f->len || bytes > f->len - at) {
        f->bad = true;
        return 0;
    }
    memcpy(&v, f->p + at, bytes); /* little-endian, as this host */
    return v;
}

uint64_t flatbuf_field(struct flatbuf *f, uint64_t table, unsigned index)
{
    int64_t vtable = (int64_t)table - (int32_t)flatbuf_load(f, table, 4);
    uint64_t size, offset;

    if (vtable < 0) {
        f->bad = true;
        return 0;
    }
    size = flatbuf_load(f, (uint64_t)vtable, 2);
    if (4 + 2 * (uint64_t)index + 2 > size)
        return 0;
    offset = flatbuf_load(f, (uint64_t)vtable + 4 + 2 * (uint64_t)index, 2);
    return offset ? table + offset : 0;
}

uint64_t flatbuf_scalar(struct flatbuf *f, uint64_t table, unsigned index, unsigned bytes)
{
    uint64_t at = flatbuf_field(f, table, index);

    return at ? flatbuf_load(f, at, bytes) : 0;
}

uint64_t flatbuf_follow(struct flatbuf *f, uint64_t at)
{
    return at ? at + flatbuf_load(f, at, 4) : 0;
}

uint64_t flatbuf_child(struct flatbuf *f, uint64_t table, unsigned index)
{
    return flatbuf_follow(f, flatbuf_field(f, table, index));
}

uint64_t flatbuf_vector(struct flatbuf *f, uint64_t table, unsigned index, unsigned element,
                        uint64_t *count)
{
    uint64_t at = flatbuf_child(f, table, index);

    *count = at ? flatbuf_load(f, at, 4) : 0;
    if (at && (f->bad || *count > (f->len - at - 4) / element)) {
        f->bad = true;
        *count = 0;
    }
    return at + 4;
}
