/* rewrite.c - rewrite_corpus of maintain.h: every live row through a transform, into new shards,
 * and the corpus's state with them.
 *
 * Rounds. Each takes the chunks that were committed since the last one; when little is left, the
 * lane does the rest and swaps, so no batch can come between. What is committed after the swap
 * is of the new epoch (storage/group.c). Whatever happens before the swap's commit leaves the
 * store as it was.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/maintain.h"
#include "storage/mover.h"
#include "storage/snapshot.h"
#include "storage/swap.h"

#define LANE_BYTES (UINT64_C(16) << 20) /* encodings that the lane may carry over: under a second */

enum { ROUNDS_MAX = 24 }; /* ingest that outruns the rewrite must wait for it in the end */

struct round {
    const struct view *view; /* what its chunks looked like when they were copied */
    size_t end;              /* chunks done with it */
};

struct rewrite {
    struct corpus *c;
    struct store *s;
    const struct rewrite_to *to;
    const struct maintain_progress *progress;
    struct writer writer;
    bool writing;
    struct mover mover;
    struct round rounds[ROUNDS_MAX + 1];
    size_t round_count;
    uint64_t done_bytes;
    bool swapped;
};

static size_t chunks_done(const struct rewrite *r)
{
    return r->round_count ? r->rounds[r->round_count - 1].end : 0;
}

static uint64_t rows_from(const struct view *v, size_t first)
{
    uint64_t rows = 0;

    for (size_t i = first; i < v->chunk_count; i++)
        rows += v->chunks[i].rows;
    return rows;
}

/* ---- On the lane: ids ------------------------------------------------------------------------ */

struct reservation {
    struct rewrite *r;
    uint64_t rows, chunks, bytes;
};

/* A chunk has a row at least; texts compress again to about what they were, and two new shards in a
 * row hold more than one old one. Ids are wide. */
static int reserve(void *arg, struct err *e)
{
    struct reservation *v = arg;
    struct rewrite *r = v->r;
    struct ledger_meta meta = r->s->meta;
    struct txn t;

    if (catalog_may_write(r->s, e))
        return (int)e->code;
    if (atomic_load(&r->c->dropped))
        return err_set(e, ERR_UNKNOWN_CORPUS, "corpus %s was dropped meanwhile", r->c->def.name);
    meta.next_chunk += v->rows;
    meta.next_shard += (uint32_t)(4 * v->bytes / r->s->home.shard_bytes + v->chunks + 8);
    txn_begin_write(&t, &r->s->ledger);
    ledger_put_meta(&t, &meta);
    if (txn_commit(&t, e))
        return (int)e->code;
    if (!r->writing)
        writer_begin(&r->writer, &r->s->home, &r->c->shape, NULL, 0, 0, true);
    r->writing = true;
    r->writer.next_chunk = r->s->meta.next_chunk;
    r->writer.next_shard = r->s->meta.next_shard;
    r->writer.shard_limit = meta.next_shard;
    r->s->meta = meta;
    return 0;
}

static int on_lane(const struct maintain_lane *lane, int (*work)(void *arg, struct err *e),
                   void *arg, struct err *e)
{
    return lane && lane->run ? lane->run(lane->arg, work, arg, e) : work(arg, e);
}

/* ---- A round --------------------------------------------------------------------------------- */

static int advance(struct rewrite *r, const struct view *v, size_t i, struct err *e)
{
    const struct maintain_progress *p = r->progress;
    uint64_t row_bytes = r->c->shape.row_bytes, left = rows_from(v, i + 1) * row_bytes;

    r->done_bytes += v->chunks[i].rows * row_bytes;
    if (atomic_load(&r->c->dropped))
        return err_set(e, ERR_UNKNOWN_CORPUS, "corpus %s was dropped meanwhile", r->c->def.name);
    if (p && p->report && !p->report(p->arg, r->done_bytes, r->done_bytes + left))
        return err_set(e, ERR_CANCELLED, "the rewrite of corpus %s was cancelled", r->c->def.name);
    return 0;
}

/* Copies what `v` has beyond the rounds before, durably. Takes the view. */
static int copy_round(struct rewrite *r, const struct view *v, struct err *e)
{
    size_t first = chunks_done(r);
    int rc = 0;

    r->rounds[r->round_count++] = (struct round){v, v->chunk_count};
    for (size_t i = first; rc == 0 && i < v->chunk_count; i++) {
        rc = mover_take(&r->mover, &v->chunks[i], e);
        if (rc == 0)
            rc = mover_flush(&r->mover, i + 1 == v->chunk_count, e);
        if (rc == 0)
            rc = advance(r, v, i, e);
    }
    return rc ? rc : writer_finish(&r->writer, e);
}

static struct reservation need(struct rewrite *r, const struct view *v)
{
    struct reservation n = {.r = r};

    for (size_t i = chunks_done(r); i < v->chunk_count; i++) {
        n.rows += v->chunks[i].rows;
        n.chunks++;
        if (i == 0 || v->chunks[i].shard != v->chunks[i - 1].shard)
            n.bytes += shard_file_bytes(v->chunks[i].shard);
    }
    return n;
}

static int next_round(struct rewrite *r, const struct view *v, const struct maintain_lane *lane,
                      struct err *e)
{
    struct reservation n = need(r, v);
    int rc = on_lane(lane, reserve, &n, e);

    if (rc == 0)
        return copy_round(r, v, e);
    view_release(v);
    return rc;
}

/* ---- On the lane: the rest, and the swap ----------------------------------------------------- */

static int swap_all(struct rewrite *r, struct err *e)
{
    size_t count = chunks_done(r), i = 0;
    const struct view_chunk **then = mem_new(count, sizeof *then);
    struct annex_def state = {.name = "",
                              .epoch = view_epoch(r->c->view) + 1,
                              .text = r->to->text,
                              .artifact_count = r->to->artifact ? 1 : 0,
                              .artifacts = {r->to->artifact}};
    struct swap s = {.c = r->c, .then_count = count, .writer = &r->writer, .state = &state};
    int rc;

    for (size_t k = 0; k < r->round_count; k++)
        for (; i < r->rounds[k].end; i++)
            then[i] = &r->rounds[k].view->chunks[i];
    s.then = then;
    rc = swap_chunks(&s, e);
    if (rc == 0)
        r->writing = false;
    r->swapped = rc == 0;
    free(then);
    return rc;
}

/* Leaves it to another round when too much has come since. */
static int finish(void *arg, struct err *e)
{
    struct rewrite *r = arg;
    const struct view *v = corpus_view(r->c);
    uint64_t left = rows_from(v, chunks_done(r));
    bool is_little = left * r->c->shape.row_bytes <= LANE_BYTES;
    int rc = 0;

    if (!is_little && r->round_count < ROUNDS_MAX) {
        view_release(v);
        return 0;
    }
    if (left > 0 || v->chunk_count > chunks_done(r))
        rc = next_round(r, v, NULL, e);
    else
        view_release(v);
    return rc ? rc : swap_all(r, e);
}

/* ---- All ------------------------------------------------------------------------------------- */

static int check_state(const struct rewrite *r, struct err *e)
{
    if (strlen(r->to->text) > ANNEX_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "a state of %zu bytes; at most 1 MiB",
                       strlen(r->to->text));
    return 0;
}

int rewrite_corpus(struct corpus *c, const struct rewrite_to *to, const struct maintain_lane *lane,
                   const struct maintain_progress *p, struct err *e)
{
    struct rewrite r = {.c = c, .s = c->store, .to = to, .progress = p};
    int rc = check_state(&r, e);

    if (rc)
        return rc;
    if (atomic_exchange(&c->compacting, true))
        return err_set(e, ERR_BUSY, "corpus %s is being rewritten already", c->def.name);
    r.mover = (struct mover){.writer = &r.writer, .chunk_bytes = r.s->chunk_bytes, .to = to};
    while (rc == 0 && !r.swapped) {
        const struct view *v = corpus_view(c);

        if (v->chunk_count > chunks_done(&r) || r.round_count == 0)
            rc = next_round(&r, v, lane, e);
        else
            view_release(v);
        if (rc == 0)
            rc = on_lane(lane, finish, &r, e);
    }
    if (r.writing)
        writer_abandon(&r.writer);
    mover_free(&r.mover);
    for (size_t i = 0; i < r.round_count; i++)
        view_release(r.rounds[i].view);
    atomic_store(&c->compacting, false);
    return rc;
}
