/* writer.c - see writer.h. */
#include "storage/writer.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/push.h"

/* LMDB keeps what a transaction wrote in memory; past this, a full chunk with its codes, it is
 * committed and the next begun. The chunks do not exist before the ledger names them, so a cut here
 * is not visible. */
#define TXN_BYTES_MAX (UINT64_C(48) << 20)

/* Inner pages and meta pages beside the values of one chunk. */
enum { CHUNK_EXTRA = 64 << 10 };

void writer_begin(struct writer *w, struct shard_home *home, const struct shard_corpus *corpus,
                  struct shard *active, uint64_t next_chunk, uint32_t next_shard, bool apart)
{
    *w = (struct writer){.home = home,
                         .corpus = corpus,
                         .next_chunk = next_chunk,
                         .next_shard = next_shard,
                         .apart = apart};
    if (active && !apart) {
        shard_retain(active);
        w->given = active;
        w->given_tail = active->tail;
        if (!shard_is_lost(active)) /* else it is sealed with this commit, and a new one made */
            w->shard = active;
    }
}

static int commit_txn(struct writer *w, struct err *e)
{
    struct push push;
    int rc;

    if (!w->in_txn)
        return 0;
    push_begin(&push, &w->shard->db, w->txn_bytes);
    rc = txn_commit(&w->txn, e);
    push_end(&push);
    w->in_txn = false;
    w->txn_bytes = 0;
    if (rc)
        return rc;
    w->shard->tail = w->next_chunk - 1;
    return 0;
}

static int make_shard(struct writer *w, uint64_t room, struct err *e)
{
    struct shard **grown = realloc(w->made, (w->made_count + 1) * sizeof *grown);

    if (w->apart)
        require(w->next_shard < w->shard_limit);
    if (!grown)
        return err_set(e, ERR_BUSY, "no memory for the list of shards");
    w->made = grown;
    if (shard_make(w->home, w->next_shard, w->corpus, room, w->apart, &grown[w->made_count], e))
        return (int)e->code;
    w->shard = w->made[w->made_count++];
    w->next_shard++;
    return 0;
}

/* A shard that holds chunks takes another only while it stays below shard_bytes. */
static bool has_room(struct writer *w, uint64_t need)
{
    uint64_t used = w->in_txn ? w->used : shard_used(w->shard);
    bool is_empty = w->shard->tail == 0 && w->txn_bytes == 0;

    return is_empty || used + w->txn_bytes + need + CHUNK_EXTRA <= w->home->shard_bytes;
}

static int choose_shard(struct writer *w, uint64_t need, struct err *e)
{
    if (w->shard && has_room(w, need))
        return w->txn_bytes + need > TXN_BYTES_MAX ? commit_txn(w, e) : 0;
    if (commit_txn(w, e))
        return (int)e->code;
    return make_shard(w, need + CHUNK_EXTRA, e);
}

static int begin_txn(struct writer *w, uint64_t need, struct err *e)
{
    if (!w->in_txn) {
        w->used = shard_used(w->shard);
        shard_begin_write(w->shard, &w->txn);
        w->in_txn = true;
    }
    if (w->txn.err.code != ERR_OK) {
        *e = w->txn.err;
        return (int)e->code;
    }
    return db_make_room(&w->shard->db, w->txn_bytes + need + CHUNK_EXTRA, e);
}

static int note_chunk(struct writer *w, const struct chunk *c, struct err *e)
{
    if (w->chunk_count == w->chunk_cap) {
        size_t cap = w->chunk_cap ? w->chunk_cap * 2 : 8;
        struct writer_chunk *grown = realloc(w->chunks, cap * sizeof *grown);

        if (!grown)
            return err_set(e, ERR_BUSY, "no memory for the list of chunks");
        w->chunks = grown;
        w->chunk_cap = cap;
    }
    w->chunks[w->chunk_count++] = (struct writer_chunk){
        .record = {.id = w->next_chunk,
                   .shard = w->shard->id,
                   .rows = c->count,
                   .first_sequence = c->rows[0].sequence,
                   .last_sequence = c->rows[c->count - 1].sequence,
                   .bytes = c->bytes,
                   .code_version = c->corpus->codes.version,
                   .summed = true},
        .shard = w->shard,
    };
    w->next_chunk++;
    w->txn_bytes += c->bytes;
    return 0;
}

int writer_add(struct writer *w, const struct chunk_row *rows, uint32_t count, struct err *e)
{
    struct chunk c;
    int rc = chunk_build(&c, w->corpus, rows, count, e);

    if (rc == 0)
        rc = choose_shard(w, c.bytes, e);
    if (rc == 0)
        rc = begin_txn(w, c.bytes, e);
    if (rc == 0) {
        chunk_put(&c, &w->txn, w->shard, w->next_chunk);
        if (w->txn.err.code != ERR_OK) {
            *e = w->txn.err;
            rc = (int)e->code;
        }
    }
    if (rc == 0)
        rc = note_chunk(w, &c, e);
    chunk_free(&c);
    return rc;
}

int writer_finish(struct writer *w, struct err *e)
{
    int rc = commit_txn(w, e);

    if (w->apart)
        w->shard = NULL;
    for (size_t i = w->settled; rc == 0 && w->apart && i < w->made_count; i++) {
        atomic_store(&w->made[i]->sealed, true);
        rc = shard_settle(w->made[i], e);
        if (rc == 0)
            rc = fs_sync_dir(w->made[i]->dir, e);
        if (rc == ERR_SYNC_FAILED)
            atomic_store(&w->home->latch->failed, true);
    }
    w->settled = w->made_count;
    return rc;
}

static void end(struct writer *w, bool doom)
{
    if (w->in_txn)
        txn_abort(&w->txn);
    for (size_t i = 0; i < w->made_count; i++) {
        if (doom)
            atomic_store(&w->made[i]->doomed, true);
        shard_release(w->made[i]);
    }
    shard_release(w->given);
    free(w->made);
    free(w->chunks);
    *w = (struct writer){0};
}

void writer_keep(struct writer *w)
{
    end(w, false);
}

void writer_abandon(struct writer *w)
{
    if (w->given)
        w->given->tail = w->given_tail;
    end(w, true);
}
