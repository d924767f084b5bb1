/* mem.h - memory. Small allocations whose size is ours draw on what is spare (spare.h) and end the
 * process when that is gone too; those whose size comes from a request or a file may fail and are
 * checked (mem_big, arena_big), and do fail while the spare is spent.
 *
 * arena: everything one request needs, freed at once. Not thread-safe; one owner at a time. Its
 * large blocks are storage/base/keep.h's.
 */
#ifndef STORAGE_BASE_MEM_H
#define STORAGE_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed memory for small things of our own; never NULL (aborts). Free with free(). */
void *mem_new(size_t count, size_t size);

/* Copies `len` bytes and adds a NUL; never NULL. Free with free(). */
char *mem_copy(const void *bytes, size_t len);

/* Uninitialised memory, 64-byte aligned, for sizes from outside; NULL when count*size overflows or
 * there is none. Free with free(). */
void *mem_big(size_t count, size_t size);

/* out = a*b or a+b; false (out untouched) on overflow. */
bool mem_mul(size_t a, size_t b, size_t *out);
bool mem_add(size_t a, size_t b, size_t *out);

struct arena_block;
struct arena {
    struct arena_block *head; /* owned */
    size_t total_bytes;       /* what all blocks hold */
};

/* A zeroed struct arena is ready. arena_free empties it and leaves it ready again. */
void arena_free(struct arena *a);
/* new: zeroed, aborts when there is none; big: raw, 64-byte aligned, NULL when there is none; copy:
 * adds a NUL, aborts when there is none. */
void *arena_new(struct arena *a, size_t count, size_t size);
void *arena_big(struct arena *a, size_t count, size_t size);
char *arena_copy(struct arena *a, const void *bytes, size_t len);
char *arena_format(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
