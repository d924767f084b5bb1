/* image.c - heads and sections of images. See image.h. */
#include "index/image.h"

#include <string.h>

#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

/* Matrices are read in place, so the image's order must be the machine's. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "images are little-endian");

void image_head(unsigned char *head, const char magic[8], uint64_t bytes)
{
    memcpy(head, magic, 8);
    bytes_put_le32(head + 8, IMAGE_VERSION);
    bytes_put_le32(head + 12, 0);
    bytes_put_le64(head + 16, bytes);
}

int image_open(const unsigned char *head, size_t len, const char magic[8], const char *what,
               size_t *out_bytes, struct err *e)
{
    uint64_t bytes;

    require((uintptr_t)head % IMAGE_NEEDS == 0);
    if (len < IMAGE_HEAD)
        return err_set(e, ERR_CORRUPT, "%s: %zu bytes, shorter than a head", what, len);
    if (memcmp(head, magic, 8) != 0)
        return err_set(e, ERR_CORRUPT, "%s: does not begin with %.8s", what, magic);
    if (bytes_get_le32(head + 8) != IMAGE_VERSION || bytes_get_le32(head + 12) != 0)
        return err_set(e, ERR_CORRUPT, "%s: version %u; this program reads version %d", what,
                       bytes_get_le32(head + 8), IMAGE_VERSION);
    bytes = bytes_get_le64(head + 16);
    if (bytes > len || bytes < IMAGE_HEAD)
        return err_set(e, ERR_CORRUPT, "%s: says it has %llu bytes, and %zu are there", what,
                       (unsigned long long)bytes, len);
    *out_bytes = (size_t)bytes;
    return 0;
}

size_t image_section(size_t count, size_t size)
{
    size_t bytes, padded;

    if (!mem_mul(count, size, &bytes) || !mem_add(bytes, IMAGE_ALIGN - 1, &padded))
        return SIZE_MAX;
    return padded & ~(size_t)(IMAGE_ALIGN - 1);
}

void image_put_f64(unsigned char *p, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    bytes_put_le64(p, bits);
}

double image_get_f64(const unsigned char *p)
{
    uint64_t bits = bytes_get_le64(p);
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}
