/* image.h - the flat little-endian images in which matrices leave and enter the index: a writer
 * over the caller's sink, a bounds-checked reader over the caller's bytes.
 *
 * Sections start on IMAGE_ALIGN bytes from the image's start. Durability and checksums are the
 * business of whoever keeps the bytes. One owner at a time; no allocation.
 */
#ifndef INDEX_IMAGE_H
#define INDEX_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"

/* IMAGE_NEEDS: the alignment of a buffer that is read in place (LMDB gives 16). */
enum { IMAGE_ALIGN = 64, IMAGE_NEEDS = 8, IMAGE_VERSION = 1 };

/* Where written bytes go. `put` returns 0, or the code it set in e; then writing ends. */
struct image_sink {
    int (*put)(void *arg, const void *bytes, size_t len, struct err *e);
    void *arg;
};

/* What every head begins with; 24 bytes: magic, version u32, zero u32, bytes u64. */
enum { IMAGE_HEAD = 24 };
void image_head(unsigned char *head, const char magic[8], uint64_t bytes);

/* Checks magic, version and that `bytes` of the head is at most len; stores it. `what` opens the
 * message. CORRUPT with what stood there. The buffer must be aligned to IMAGE_NEEDS (our bug). */
int image_open(const unsigned char *head, size_t len, const char magic[8], const char *what,
               size_t *out_bytes, struct err *e);

/* len rounded up to IMAGE_ALIGN; SIZE_MAX when that or the product overflows. */
size_t image_section(size_t count, size_t size);

void image_put_f64(unsigned char *p, double v);
double image_get_f64(const unsigned char *p);

#endif
