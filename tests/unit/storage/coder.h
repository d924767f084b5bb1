/* coder.h - a coder for tests, whose codes say whose they are: a hash of the row, stretched. With a
 * comparison of all codes of a corpus with what its rows give. */
#ifndef TESTS_UNIT_STORAGE_CODER_H
#define TESTS_UNIT_STORAGE_CODER_H

#include <stdatomic.h>

#include "storage/chunk.h"
#include "tests/unit/storage/fixture.h"

enum { FACTORS = 3 }; /* of a row */

struct fake {
    struct store_coder coder;
    uint32_t version;
    uint32_t least_dim; /* corpora of fewer dimensions get no codes */
    atomic_uint rows;   /* made so far */
    atomic_bool fails;
};

/* FNV-1a over the row (Fowler, Noll, Vo). */
MAYBE uint64_t fake_sum(const void *row, size_t row_bytes, uint32_t version)
{
    uint64_t sum = UINT64_C(14695981039346656037) + version;

    for (size_t i = 0; i < row_bytes; i++)
        sum = (sum ^ ((const unsigned char *)row)[i]) * UINT64_C(1099511628211);
    return sum;
}

MAYBE unsigned char fake_byte(uint64_t sum, unsigned plane, size_t at)
{
    return (unsigned char)(mix(sum + plane * 131u + at / 8) >> (at % 8 * 8));
}

MAYBE float fake_factor(uint64_t sum, uint32_t k)
{
    return (float)(fake_byte(sum, 7, k) + 256u * k);
}

MAYBE void fake_shape(void *arg, uint32_t dim, enum dtype dtype, struct coder_shape *out)
{
    const struct fake *f = arg;

    (void)dtype;
    if (dim >= f->least_dim)
        *out = (struct coder_shape){f->version, {(dim + 7) / 8, dim / 2 + 1, dim / 4 + 3}, FACTORS};
}

MAYBE int fake_encode(void *arg, uint32_t dim, enum dtype dtype, const void *const *rows,
                      uint32_t first, uint32_t count, const struct codes *out, struct err *e)
{
    struct fake *f = arg;

    if (atomic_load(&f->fails))
        return err_set(e, ERR_BUSY, "the coder has no memory");
    require(count > 0 && first + count <= out->count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t sum = fake_sum(rows[i], dim * dtype_size(dtype), f->version);

        for (unsigned p = 0; p < CODER_PLANES; p++)
            for (size_t at = 0, n = out->shape.plane_bytes[p]; at < n; at++)
                out->plane[p][(first + i) * n + at] = fake_byte(sum, p, at);
        for (uint32_t k = 0; k < FACTORS; k++)
            out->factors[k * out->count + first + i] = fake_factor(sum, k);
    }
    atomic_fetch_add(&f->rows, count);
    return 0;
}

MAYBE struct fake *fake_init(struct fake *f, uint32_t version)
{
    *f = (struct fake){.version = version, .least_dim = 8};
    f->coder = (struct store_coder){f, fake_shape, fake_encode};
    return f;
}

/* One for files that need nothing of it but that there are codes. */
static struct fake fake_one = {.version = 1, .least_dim = 1};
static const struct store_coder fake_coder = {&fake_one, fake_shape, fake_encode};

MAYBE void check_plane(const struct view_chunk *k, unsigned plane, const struct block *x,
                       const struct block *b, uint32_t version)
{
    const struct shard_corpus *of = &k->shard->corpus;
    size_t each = plane < CODER_PLANES ? of->codes.plane_bytes[plane] : 0;

    assert_int_equal(b->len, coder_plane_bytes(&of->codes, plane, k->rows));
    for (uint32_t r = 0; r < k->rows; r++) {
        uint64_t sum = fake_sum(x->bytes + r * of->row_bytes, of->row_bytes, version);

        for (size_t at = 0; at < each; at++)
            assert_int_equal(b->bytes[r * each + at], fake_byte(sum, plane, at));
        for (uint32_t a = 0; plane == CODER_PLANES && a < FACTORS; a++) {
            float got;

            memcpy(&got, b->bytes + ((size_t)a * k->rows + r) * sizeof got, sizeof got);
            assert_true(got == fake_factor(sum, a));
        }
    }
}

/* Every chunk of the corpus has codes, and they are those of its rows. Returns the rows. */
MAYBE uint64_t check_codes(struct corpus *c, uint32_t version)
{
    const struct view *v = corpus_view(c);
    struct err e = ERR_INIT;
    uint64_t rows = 0;

    for (size_t i = 0; i < v->chunk_count; i++) {
        const struct view_chunk *k = &v->chunks[i];
        struct block x, b;

        assert_true(k->coded && k->summed && k->code_version == version);
        assert_ok(block_open(k, BLOCK_ENCODINGS, &x, &e), &e);
        for (unsigned p = 0; p <= CODER_PLANES; p++) {
            assert_ok(block_open(k, chunk_plane_kind(p), &b, &e), &e);
            check_plane(k, p, &x, &b, version);
            block_close(&b);
        }
        block_close(&x);
        rows += k->rows;
    }
    view_release(v);
    return rows;
}

#endif
