/* hits.c - see hits.h. */
#include "server/hits.h"

#include <inttypes.h>

#include "server/json.h"
#include "server/limits.h"

static void put_head(struct buf *b, const char *id, size_t id_len, const struct topk_hit *hit,
                     const struct hits_form *form)
{
    buf_add_text(b, "{\"id\":");
    json_put_text(b, id, id_len);
    buf_add_text(b, ",\"score\":");
    json_put_real(b, hit->score);
    buf_format(b, ",\"rank\":%zu,\"sequence\":%" PRIu64, form->rank, hit->sequence);
    if (form->more)
        buf_add(b, form->more->data, form->more->len);
}

/* Without text and meta: one block, nothing inflated. `more`: further members, or NULL. */
static int put_bare(struct buf *b, const struct view *v, const struct topk_hit *hit,
                    const struct hits_form *form, const char *more, struct err *e)
{
    struct block rows;
    const char *id;
    size_t len;
    int code = block_open(&v->chunks[hit->chunk], BLOCK_ROWS, &rows, e);

    if (code)
        return code;
    id = block_row_id(&rows, hit->row, &len);
    put_head(b, id, len, hit, form);
    if (more)
        buf_add_text(b, more);
    buf_add(b, "}", 1);
    block_close(&rows);
    return 0;
}

static int put_full(struct buf *b, const struct view *v, const struct topk_hit *hit,
                    const struct hits_form *form, struct err *e)
{
    struct arena own = {0};
    struct example x;
    int code = view_example(v, hit->chunk, hit->row, &own, &x, e);

    if (!code) {
        put_head(b, x.id, x.id_len, hit, form);
        buf_add_text(b, ",\"text\":");
        if (x.text)
            json_put_text(b, x.text, x.text_len);
        else
            buf_add_text(b, "null");
        buf_add_text(b, ",\"meta\":");
        buf_add(b, x.meta ? x.meta : "null", x.meta ? x.meta_len : 4);
        buf_add(b, "}", 1);
    }
    arena_free(&own);
    return code;
}

int hits_put(struct buf *b, const struct view *v, const struct topk_hit *hit,
             const struct hits_form *form, struct err *e)
{
    struct err bare = ERR_INIT;
    size_t mark;
    int code;

    if (b->len > LIMIT_ANSWER_BYTES) {
        err_set(e, ERR_TOO_LARGE,
                "the answer has more than %" PRIu64 " bytes; ask for less, or without texts",
                LIMIT_ANSWER_BYTES);
        err_at_field(e, "k");
        return err_at_limit(e, (int64_t)LIMIT_ANSWER_BYTES);
    }
    if (!form->text)
        return put_bare(b, v, hit, form, NULL, e);
    mark = b->len;
    code = put_full(b, v, hit, form, e);
    if (code != ERR_CORRUPT)
        return code;
    /* The hit and its score are right; only what it says cannot be read. */
    b->len = mark;
    return put_bare(b, v, hit, form, ",\"text\":null,\"meta\":null,\"damaged\":\"texts\"", &bare)
               ? code
               : (err_clear(e), 0);
}
