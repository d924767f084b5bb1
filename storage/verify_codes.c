/* verify_codes.c - see verify_codes.h. */
#include "storage/verify_codes.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/chunk.h"
#include "storage/shard.h"

enum { AT_ONCE = 64 }; /* rows coded again together */

static int differs(const struct view_chunk *c, const char *what, uint32_t row, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "corpus %s: shard %06u: chunk %llu: %s: not those of row %u",
                   c->shard->corpus.name, (unsigned)c->shard->id, (unsigned long long)c->id, what,
                   (unsigned)row);
}

int verify_sums(const struct view_chunk *c, const struct block *encodings, const struct block *sums,
                struct err *e)
{
    size_t row_bytes = c->shard->corpus.row_bytes;

    for (uint32_t r = 0; r < c->rows; r++)
        if (chunk_row_sum(c->id, r, encodings->bytes + r * row_bytes, row_bytes) !=
            bytes_get_le64(sums->bytes + (size_t)r * sizeof(uint64_t)))
            return differs(c, chunk_kind_name(BLOCK_SUMS), r, e);
    return 0;
}

/* Stored rows first .. first+count-1 against the same rows made now, one plane or the factors. */
static int compare_plane(const struct view_chunk *c, unsigned plane, const struct block *stored,
                         uint32_t first, uint32_t count, const struct codes *now, struct err *e)
{
    bool is_code = plane < CODER_PLANES;
    size_t each = is_code ? now->shape.plane_bytes[plane] : sizeof(float);
    uint32_t arrays = is_code ? 1 : now->shape.factors;

    for (uint32_t a = 0; a < arrays; a++)
        for (uint32_t r = 0; r < count; r++)
            if (memcmp(stored->bytes + ((size_t)a * c->rows + first + r) * each,
                       coder_plane(now, plane) + ((size_t)a * now->count + r) * each, each) != 0)
                return differs(c, chunk_kind_name(chunk_plane_kind(plane)), first + r, e);
    return 0;
}

static int compare_rows(const struct view_chunk *c, const struct block *encodings,
                        const struct block *planes, uint32_t first, const struct codes *room,
                        struct err *e)
{
    const struct shard_corpus *k = &c->shard->corpus;
    uint32_t count = c->rows - first < AT_ONCE ? c->rows - first : AT_ONCE;
    const void *rows[AT_ONCE];
    int rc;

    for (uint32_t i = 0; i < count; i++)
        rows[i] = encodings->bytes + (first + i) * k->row_bytes;
    rc = k->coder->encode(k->coder->arg, k->dim, (enum dtype)k->dtype, rows, 0, count, room, e);
    for (unsigned p = 0; rc == 0 && p <= CODER_PLANES; p++)
        rc = compare_plane(c, p, &planes[p], first, count, room, e);
    return rc;
}

int verify_codes(const struct view_chunk *c, const struct block *encodings,
                 const struct block planes[CODER_PLANES + 1], struct err *e)
{
    const struct shard_corpus *k = &c->shard->corpus;
    struct codes room;
    void *memory = NULL;
    size_t bytes;
    int rc = 0;

    require(c->coded && k->coder);
    if (coder_bytes(&k->codes, AT_ONCE, &bytes))
        memory = mem_big(bytes, 1);
    if (!memory)
        return err_set(e, ERR_BUSY, "no memory for the codes of %d rows", AT_ONCE);
    room = coder_layout(&k->codes, AT_ONCE, memory);
    for (uint32_t first = 0; rc == 0 && first < c->rows; first += AT_ONCE)
        rc = compare_rows(c, encodings, planes, first, &room, e);
    free(memory);
    return rc;
}
