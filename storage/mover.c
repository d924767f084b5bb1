/* mover.c - see mover.h. */
#include "storage/mover.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(struct err *e)
{
    return err_set(e, ERR_BUSY, "no memory to rewrite chunks with");
}

static const char *keep(struct arena *a, const void *from, size_t len, bool *failed)
{
    char *copy = arena_big(a, len ? len : 1, 1);

    if (!copy)
        *failed = true;
    else if (len)
        memcpy(copy, from, len);
    return copy;
}

static int read_row(uint32_t row, const struct block *rows, struct text_reader *texts,
                    struct arena *a, struct chunk_row *out, struct err *e)
{
    size_t id_len, text_len, meta_len;
    const char *text = NULL, *meta = NULL, *id = block_row_id(rows, row, &id_len);
    bool failed = false;

    text_len = meta_len = 0;
    if (texts->bytes && text_reader_row(texts, row, &text, &text_len, &meta, &meta_len, e))
        return (int)e->code;
    *out = (struct chunk_row){
        .sequence = block_row_sequence(rows, row),
        .norm = block_row_norm(rows, row),
        .id = keep(a, id, id_len, &failed),
        .id_len = (uint32_t)id_len,
        .text = text ? keep(a, text, text_len, &failed) : NULL,
        .text_len = (uint32_t)text_len,
        .meta = meta ? keep(a, meta, meta_len, &failed) : NULL,
        .meta_len = (uint32_t)meta_len,
    };
    return failed ? no_memory(e) : 0;
}

static int reserve(struct mover *m, size_t rows, struct err *e)
{
    if (m->count + rows > m->cap) {
        size_t cap = m->count + rows > m->cap * 2 ? m->count + rows : m->cap * 2;
        struct chunk_row *grown = realloc(m->rows, cap * sizeof *grown);

        if (!grown)
            return no_memory(e);
        m->rows = grown;
        m->cap = cap;
    }
    if (m->source_count == m->source_cap) {
        size_t cap = m->source_cap ? m->source_cap * 2 : 16;
        struct mover_source *grown = realloc(m->sources, cap * sizeof *grown);

        if (!grown)
            return no_memory(e);
        m->sources = grown;
        m->source_cap = cap;
    }
    return 0;
}

/* Ids, texts and numbers of the live rows. */
static int read_live(struct mover *m, const struct view_chunk *c, struct mover_source *src,
                     const struct block *rows, struct text_reader *texts, struct err *e)
{
    int rc = 0;

    for (uint32_t r = 0; rc == 0 && r < c->rows; r++) {
        if (view_row_dead(c, r))
            continue;
        rc = read_row(r, rows, texts, &src->arena, &m->rows[m->count + src->left], e);
        src->left += rc == 0;
    }
    return rc;
}

/* Encodings of the live rows, side by side. */
static int copy_live(const struct view_chunk *c, unsigned char *to, struct err *e)
{
    size_t row_bytes = c->shard->corpus.row_bytes;
    struct block b;

    if (block_open(c, BLOCK_ENCODINGS, &b, e))
        return (int)e->code;
    for (uint32_t r = 0; r < c->rows; r++)
        if (!view_row_dead(c, r)) {
            memcpy(to, b.bytes + r * row_bytes, row_bytes);
            to += row_bytes;
        }
    block_close(&b);
    return 0;
}

/* The rows' encodings and norms as they will be stored; out of the arena, transformed or not. */
static int encode(struct mover *m, const struct view_chunk *c, struct mover_source *src,
                  struct err *e)
{
    struct chunk_row *rows = m->rows + m->count;
    size_t row_bytes = c->shard->corpus.row_bytes, n = src->left;
    unsigned char *out = arena_big(&src->arena, n, row_bytes);
    unsigned char *in = m->to ? mem_big(n, row_bytes) : out;
    double *norms = mem_big(n, sizeof *norms);
    int rc = in && out && norms ? copy_live(c, in, e) : no_memory(e);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        rows[i].encoding = out + i * row_bytes;
        norms[i] = rows[i].norm;
    }
    if (rc == 0 && m->to)
        rc = m->to->rows(m->to->arg, in, norms, n, out, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rows[i].norm = norms[i];
    if (m->to)
        free(in);
    free(norms);
    return rc;
}

/* Codes of the live rows, one plane or the factors, side by side. */
static int copy_plane(const struct view_chunk *c, unsigned plane, const struct codes *to,
                      struct err *e)
{
    bool is_code = plane < CODER_PLANES;
    size_t each = is_code ? to->shape.plane_bytes[plane] : sizeof(float);
    uint32_t arrays = is_code ? 1 : to->shape.factors;
    unsigned char *at = is_code ? to->plane[plane] : (unsigned char *)to->factors;
    struct block b;

    if (block_open(c, chunk_plane_kind(plane), &b, e))
        return (int)e->code;
    for (uint32_t a = 0; a < arrays; a++)
        for (uint32_t r = 0; r < c->rows; r++)
            if (!view_row_dead(c, r)) {
                memcpy(at, b.bytes + ((size_t)a * c->rows + r) * each, each);
                at += each;
            }
    block_close(&b);
    return 0;
}

/* Rows that stay as they are keep their codes. Without them, or when they are damaged, the writer
 * makes them from the encodings: so a compaction repairs what verify has found. */
static int keep_codes(struct mover *m, const struct view_chunk *c, struct mover_source *src,
                      struct err *e)
{
    struct chunk_row *rows = m->rows + m->count;
    struct err damage = ERR_INIT;
    struct codes *kept;
    size_t bytes;
    void *memory = NULL;
    int rc = 0;

    if (m->to || !c->coded || shard_codes_doubted(c->shard, c->id))
        return 0;
    if (coder_bytes(&c->shard->corpus.codes, (uint32_t)src->left, &bytes))
        memory = arena_big(&src->arena, bytes, 1);
    if (!memory)
        return no_memory(e);
    kept = arena_new(&src->arena, 1, sizeof *kept);
    *kept = coder_layout(&c->shard->corpus.codes, (uint32_t)src->left, memory);
    for (unsigned p = 0; rc == 0 && p <= CODER_PLANES; p++)
        rc = copy_plane(c, p, kept, &damage);
    for (uint32_t i = 0; rc == 0 && i < kept->count; i++) {
        rows[i].codes = kept;
        rows[i].code_row = i;
    }
    if (rc != 0 && rc != ERR_CORRUPT)
        *e = damage;
    return rc == ERR_CORRUPT ? 0 : rc;
}

/* No block stays open while the transform computes. */
static int read_texts(struct mover *m, const struct view_chunk *c, struct mover_source *src,
                      struct err *e)
{
    struct block rows = {0}, texts = {0};
    struct text_reader reader = {0};
    bool has_texts = !m->mends || !shard_damage(c->shard, c->id).textless;
    int rc = block_open(c, BLOCK_ROWS, &rows, e);

    if (rc == 0 && has_texts)
        rc = block_open(c, BLOCK_TEXTS, &texts, e);
    if (rc == 0 && has_texts)
        rc = text_reader_open(&reader, texts.bytes, texts.len, c->rows, e);
    if (rc == 0)
        rc = read_live(m, c, src, &rows, &reader, e);
    text_reader_close(&reader);
    block_close(&texts);
    block_close(&rows);
    return rc;
}

int mover_take(struct mover *m, const struct view_chunk *c, struct err *e)
{
    struct mover_source *src;
    int rc;

    if (c->dead_count == c->rows)
        return 0;
    rc = reserve(m, c->rows, e);
    if (rc)
        return rc;
    src = &m->sources[m->source_count++];
    *src = (struct mover_source){0};
    shard_distrust(c->shard, c->id); /* what is written gets new sums: these are the last to look */
    rc = read_texts(m, c, src, e);
    if (rc == 0)
        rc = encode(m, c, src, e);
    if (rc == 0)
        rc = keep_codes(m, c, src, e);
    if (rc == 0)
        m->count += src->left;
    return rc;
}

/* Forgets the first `count` rows and the memory of sources that have none left. */
static void consume(struct mover *m, size_t count)
{
    size_t done = 0;

    memmove(m->rows, m->rows + count, (m->count - count) * sizeof *m->rows);
    m->count -= count;
    while (done < m->source_count && m->sources[done].left <= count) {
        count -= m->sources[done].left;
        arena_free(&m->sources[done++].arena);
    }
    if (done < m->source_count)
        m->sources[done].left -= count;
    memmove(m->sources, m->sources + done, (m->source_count - done) * sizeof *m->sources);
    m->source_count -= done;
}

int mover_flush(struct mover *m, bool all, struct err *e)
{
    while (m->count > 0) {
        uint32_t n = chunk_cut(m->rows, m->count, m->writer->corpus->row_bytes, m->chunk_bytes);

        if (n == m->count && !all)
            return 0;
        if (writer_add(m->writer, m->rows, n, e))
            return (int)e->code;
        consume(m, n);
    }
    return 0;
}

void mover_free(struct mover *m)
{
    for (size_t i = 0; i < m->source_count; i++)
        arena_free(&m->sources[i].arena);
    free(m->sources);
    free(m->rows);
    *m = (struct mover){0};
}
