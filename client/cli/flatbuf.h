/* flatbuf.h - reads FlatBuffers: tables, vectors and scalars of one buffer in memory. It knows no
 * schema and never allocates. A position outside the buffer makes it `bad` for good: whoever reads
 * on gets zeros, and asks once at the end. One thread.
 *
 * Format: FlatBuffers, "Internals": offsets are unsigned and relative to where they stand, but that
 * of a table's vtable, which is signed and counts backwards. Positions here are from the start.
 */
#ifndef CLIENT_CLI_FLATBUF_H
#define CLIENT_CLI_FLATBUF_H

#include <stdbool.h>
#include <stdint.h>

struct flatbuf {
    const unsigned char *p; /* not owned */
    uint64_t len;
    bool bad; /* a position was outside: whatever was read since is zero */
};

/* The unsigned integer of 1 to 8 bytes at a position. */
uint64_t flatbuf_load(struct flatbuf *f, uint64_t at, unsigned bytes);

/* Where field `index` of a table lies; 0 when it is absent. */
uint64_t flatbuf_field(struct flatbuf *f, uint64_t table, unsigned index);

/* A field's unsigned integer; 0, its default in the schemas read here, when it is absent. */
uint64_t flatbuf_scalar(struct flatbuf *f, uint64_t table, unsigned index, unsigned bytes);

/* Where the offset at a position points: a table, a string or a vector; 0 for position 0. */
uint64_t flatbuf_follow(struct flatbuf *f, uint64_t at);

/* What a field points to; 0 when it is absent. */
uint64_t flatbuf_child(struct flatbuf *f, uint64_t table, unsigned index);

/* The first element of a vector whose elements take so many bytes; the vector is inside the buffer
 * whole, or *count is 0. */
uint64_t flatbuf_vector(struct flatbuf *f, uint64_t table, unsigned index, unsigned element,
                        uint64_t *count);

#endif
