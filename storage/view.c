/* view.c - finding and reading examples in a view: view_* of corpus.h. Any thread. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/corpus.h"
#include "storage/shard.h"
#include "storage/snapshot.h"
#include "storage/text.h"

/* ---- Locate ---------------------------------------------------------------------------------- */

/* A chunk that was never compacted has no gaps, and the row is a subtraction. */
static bool is_dense(const struct view_chunk *c)
{
    return c->last_sequence - c->first_sequence == c->rows - 1;
}

/* First row whose sequence is >= the one asked for; c->rows when there is none. */
static uint32_t row_from(const struct view_chunk *c, const struct block *rows, uint64_t sequence)
{
    uint32_t low = 0, high = c->rows;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (block_row_sequence(rows, middle) < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool find_row(const struct view_chunk *c, uint64_t sequence, uint32_t *out_row,
                     struct err *e)
{
    struct block rows;
    uint32_t row;
    bool found;

    if (is_dense(c)) {
        *out_row = (uint32_t)(sequence - c->first_sequence);
        return true;
    }
    if (block_open(c, BLOCK_ROWS, &rows, e))
        return false;
    row = row_from(c, &rows, sequence);
    found = row < c->rows && block_row_sequence(&rows, row) == sequence;
    block_close(&rows);
    if (found)
        *out_row = row;
    return found;
}

bool view_locate(const struct view *v, uint64_t sequence, size_t *out_chunk, uint32_t *out_row,
                 struct err *e)
{
    uint32_t row;
    size_t at;

    if (!snapshot_find(v, sequence, &at) || !find_row(&v->chunks[at], sequence, &row, e) ||
        view_row_dead(&v->chunks[at], row))
        return false;
    *out_chunk = at;
    *out_row = row;
    return true;
}

bool view_chunk_coded(const struct view_chunk *c)
{
    return c->coded && !shard_codes_doubted(c->shard, c->id);
}

/* ---- Read ------------------------------------------------------------------------------------ */

/* The two small blocks of a chunk, open together. */
struct pair {
    const struct view_chunk *chunk;
    struct block rows, texts;
    struct text_reader reader;
};

static void pair_close(struct pair *p)
{
    text_reader_close(&p->reader);
    if (p->texts.txn)
        block_close(&p->texts);
    if (p->rows.txn)
        block_close(&p->rows);
}

static int wrap(const struct view_chunk *c, struct err *e)
{
    err_wrap(e, "corpus %s: shard %06u: chunk %llu: ", c->shard->corpus.name,
             (unsigned)c->shard->id, (unsigned long long)c->id);
    return (int)e->code;
}

static int pair_open(struct pair *p, const struct view_chunk *c, struct err *e)
{
    *p = (struct pair){.chunk = c};
    if (block_open(c, BLOCK_ROWS, &p->rows, e) || block_open(c, BLOCK_TEXTS, &p->texts, e)) {
        pair_close(p);
        return (int)e->code;
    }
    if (text_reader_open(&p->reader, p->texts.bytes, p->texts.len, c->rows, e)) {
        pair_close(p);
        return wrap(c, e);
    }
    return 0;
}

static int copy_text(struct arena *a, const char *from, size_t len, const char **out, struct err *e)
{
    char *copy;

    if (!from)
        return 0;
    copy = arena_big(a, len + 1, 1);
    if (!copy)
        return err_set(e, ERR_BUSY, "no memory for a text of %zu bytes", len);
    if (len)
        memcpy(copy, from, len);
    copy[len] = '\0';
    *out = copy;
    return 0;
}

static int pair_row(struct pair *p, uint32_t row, struct arena *a, struct example *out,
                    struct err *e)
{
    struct example x = {0};
    const char *text, *meta, *id;

    if (text_reader_row(&p->reader, row, &text, &x.text_len, &meta, &x.meta_len, e))
        return wrap(p->chunk, e);
    x.sequence = block_row_sequence(&p->rows, row);
    x.norm = block_row_norm(&p->rows, row);
    id = block_row_id(&p->rows, row, &x.id_len);
    if (!isfinite(x.norm) || x.id_len == 0)
        return err_set(e, ERR_CORRUPT, "corpus %s: shard %06u: chunk %llu: rows: row %u is damaged",
                       p->chunk->shard->corpus.name, (unsigned)p->chunk->shard->id,
                       (unsigned long long)p->chunk->id, (unsigned)row);
    if (copy_text(a, id, x.id_len, &x.id, e) || copy_text(a, text, x.text_len, &x.text, e) ||
        copy_text(a, meta, x.meta_len, &x.meta, e))
        return (int)e->code;
    *out = x;
    return 0;
}

int view_example(const struct view *v, size_t chunk, uint32_t row, struct arena *a,
                 struct example *out, struct err *e)
{
    struct pair p;
    int rc;

    require(chunk < v->chunk_count);
    require(row < v->chunks[chunk].rows);
    rc = pair_open(&p, &v->chunks[chunk], e);
    if (rc)
        return rc;
    rc = pair_row(&p, row, a, out, e);
    pair_close(&p);
    return rc;
}

/* The live rows of one chunk from `row` on, until the page is full. */
static int page_chunk(const struct view_chunk *c, uint64_t from, struct arena *a,
                      struct example *page, size_t limit, size_t *count, struct err *e)
{
    struct pair p;
    int rc = pair_open(&p, c, e);
    uint32_t row;

    if (rc)
        return rc;
    row = from <= c->first_sequence ? 0 : row_from(c, &p.rows, from);
    for (; rc == 0 && row < c->rows && *count < limit; row++) {
        if (view_row_dead(c, row))
            continue;
        rc = pair_row(&p, row, a, &page[*count], e);
        *count += rc == 0;
    }
    pair_close(&p);
    return rc;
}

static size_t first_chunk(const struct view *v, uint64_t from)
{
    size_t low = 0, high = v->chunk_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (v->chunks[middle].last_sequence < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int view_page(const struct view *v, uint64_t after, bool from_start, size_t limit, struct arena *a,
              struct example **out, size_t *out_count, struct err *e)
{
    uint64_t from = from_start ? 0 : after + 1;
    struct example *page;
    size_t count = 0;
    int rc = 0;

    if (limit > v->live)
        limit = (size_t)v->live;
    page = arena_big(a, limit ? limit : 1, sizeof *page);
    if (!page)
        return err_set(e, ERR_BUSY, "no memory for a page of %zu examples", limit);
    if (from_start || after < UINT64_MAX)
        for (size_t i = first_chunk(v, from); rc == 0 && i < v->chunk_count && count < limit; i++)
            if (v->chunks[i].dead_count < v->chunks[i].rows)
                rc = page_chunk(&v->chunks[i], from, a, page, limit, &count, e);
    if (rc)
        return rc;
    *out = page;
    *out_count = count;
    return 0;
}
