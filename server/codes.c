/* codes.c - see codes.h. */
#include "server/codes.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "index/code.h"
#include "server/pool.h"

enum { SLICE = 16 }; /* rows that one thread takes: 0.4 ms at 16,384 dimensions */

/* ---- the coder ------------------------------------------------------------------------------- */

static void shape(void *arg, uint32_t dim, enum dtype dtype, struct coder_shape *out)
{
    size_t bytes;

    (void)arg;
    if (dim > CODE_DIM_MAX)
        return;
    bytes = code_bits_bytes(dim, 1) + code_six_bytes(dim, 1) + code_low_bytes(dim, 1) +
            code_factors_bytes(1);
    if (bytes <= dim * dtype_size(dtype))
        *out = (struct coder_shape){.version = CODE_VERSION,
                                    .plane_bytes = {(uint32_t)code_bits_bytes(dim, 1),
                                                    (uint32_t)code_six_bytes(dim, 1),
                                                    (uint32_t)code_low_bytes(dim, 1)},
                                    .factors = CODE_FACTORS};
}

static int encode(void *arg, uint32_t dim, enum dtype dtype, const void *const *rows,
                  uint32_t first, uint32_t count, const struct codes *out, struct err *e)
{
    struct code_planes planes = {.bits = out->plane[0],
                                 .six = out->plane[1],
                                 .low = out->plane[2],
                                 .factors = (unsigned char *)out->factors,
                                 .rows = out->count};
    float *scratch = mem_big(code_padded(dim), sizeof *scratch);

    (void)arg;
    if (!scratch)
        return err_set(e, ERR_BUSY, "no memory to code rows of %u dimensions", (unsigned)dim);
    for (uint32_t i = 0; i < count; i++)
        code_rows(dtype, dim, rows[i], 0, first + i, 1, &planes, scratch);
    free(scratch);
    return 0;
}

const struct store_coder codes_coder = {.shape = shape, .encode = encode};

/* ---- a batch's, spread over the readers ------------------------------------------------------ */

struct spread {
    const struct corpus *corpus;
    const unsigned char *encodings;
    struct codes *codes;
    const struct stop *stop;
    struct err *errs; /* one a slot */
    _Atomic uint32_t next;
    atomic_bool halt;
};

static void share(void *arg, unsigned slot)
{
    struct spread *s = arg;
    uint32_t count = s->codes->count;

    while (!atomic_load(&s->halt)) {
        uint32_t row = atomic_fetch_add(&s->next, SLICE);

        if (row >= count)
            return;
        if (stop_asked(s->stop))
            err_set(&s->errs[slot], ERR_CANCELLED, "stopped at row %u of %u", (unsigned)row,
                    (unsigned)count);
        else if (!corpus_codes_make(s->corpus, s->encodings + row * corpus_row_bytes(s->corpus),
                                    row, count - row < SLICE ? count - row : SLICE, s->codes,
                                    &s->errs[slot]))
            continue;
        atomic_store(&s->halt, true);
    }
}

int codes_run(const struct corpus *c, const void *encodings, uint32_t count, struct pool *pool,
              const struct stop *stop, struct arena *a, const struct codes **out, struct err *e)
{
    struct spread s = {.corpus = c, .encodings = encodings, .stop = stop};
    unsigned width = pool ? pool_readers(pool) : 1;
    int code = corpus_codes_new(c, count, a, &s.codes, e);

    *out = NULL;
    if (code || !s.codes)
        return code;
    if (width > (count + SLICE - 1) / SLICE)
        width = (count + SLICE - 1) / SLICE;
    s.errs = arena_new(a, width, sizeof *s.errs);
    for (unsigned i = 0; i < width; i++)
        s.errs[i] = ERR_INIT;
    if (pool && width > 1)
        pool_fanout(pool, width, share, &s);
    else
        share(&s, 0);
    for (unsigned i = 0; i < width; i++)
        if (s.errs[i].code) {
            *e = s.errs[i];
            return (int)e->code;
        }
    *out = s.codes;
    return 0;
}
