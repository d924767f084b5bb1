/* content.c - see content.h. */
#include "tests/fault/content.h"

#include <stdio.h>

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

unsigned char content_byte(uint64_t seed, size_t at)
{
    return (unsigned char)(mix(seed + at / 8) >> (at % 8 * 8));
}

unsigned char content_turn(uint32_t epoch)
{
    return (unsigned char)(0x35 * epoch);
}

void content_encoding(uint32_t n, uint32_t epoch, unsigned char out[CONTENT_ROW])
{
    for (size_t i = 0; i < CONTENT_ROW; i++)
        out[i] = content_byte(n * 1315423911ull, i) ^ content_turn(epoch);
}

double content_norm(uint32_t n, uint32_t epoch)
{
    return ((double)(mix(n) % 100000) / 7.0 + 0.25) * (double)(1u << epoch);
}

size_t content_id(uint32_t n, char out[CONTENT_NAME])
{
    return (size_t)snprintf(out, CONTENT_NAME, "ex-%u", n);
}

bool content_has_text(uint32_t n)
{
    return n % 7 != 3;
}

size_t content_text(uint32_t n, char out[CONTENT_TEXT])
{
    size_t len = mix(n ^ 1) % 300, at = 0;

    while (at < len)
        at += (size_t)snprintf(out + at, CONTENT_TEXT - at, "word%u ",
                               (unsigned)(mix(n + at) % 97));
    out[len] = '\0';
    return len;
}

size_t content_meta(uint32_t n, char out[CONTENT_TEXT])
{
    return (size_t)snprintf(out, CONTENT_TEXT, "{\"source\":\"s%u\"}", n % 9);
}

/* Codes of a row: its bytes, mixed. */
static void code_shape(void *arg, uint32_t dim, enum dtype dtype, struct coder_shape *out)
{
    (void)arg;
    (void)dim;
    (void)dtype;
    *out = (struct coder_shape){1, {CONTENT_DIM / 8, CONTENT_DIM / 2, CONTENT_DIM / 4}, 2};
}

static int code_rows(void *arg, uint32_t dim, enum dtype dtype, const void *const *rows,
                     uint32_t first, uint32_t count, const struct codes *out, struct err *e)
{
    (void)arg;
    (void)dim;
    (void)dtype;
    (void)e;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t sum = 7;

        for (size_t b = 0; b < CONTENT_ROW; b++)
            sum = mix(sum ^ ((const unsigned char *)rows[i])[b]);
        for (unsigned p = 0; p < CODER_PLANES; p++)
            for (size_t at = 0; at < out->shape.plane_bytes[p]; at++)
                out->plane[p][(first + i) * out->shape.plane_bytes[p] + at] =
                    content_byte(sum + p, at);
        for (uint32_t f = 0; f < 2; f++)
            out->factors[f * out->count + first + i] = (float)(sum >> 40) + (float)f;
    }
    return 0;
}

const struct store_coder content_coder = {NULL, code_shape, code_rows};
