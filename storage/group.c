/* group.c - see group.h. */
#include "storage/group.h"

#include <stdlib.h>
#include <string.h>

#include "storage/annex.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"
#include "storage/hash.h"
#include "storage/text.h"

/* ---- The ids of the group: open addressing, sized once for all examples ---------------------- */

struct group_ids {
    size_t cap;
    struct {
        const char *id; /* the caller's; NULL: free */
        uint32_t len, corpus;
    } slots[];
};

static int ids_new(struct group *g, size_t examples, struct err *e)
{
    size_t cap = 16, bytes;

    while (cap < examples * 2)
        cap *= 2;
    bytes = cap * sizeof g->ids->slots[0] + sizeof *g->ids;
    g->ids = mem_big(bytes, 1);
    if (!g->ids)
        return err_set(e, ERR_BUSY, "no memory for the ids of %zu examples", examples);
    memset(g->ids, 0, bytes);
    g->ids->cap = cap;
    return 0;
}

/* False when it was there. */
static bool ids_add(struct group_ids *ids, uint32_t corpus, const char *id, uint32_t len)
{
    size_t i = (size_t)XXH3_64bits_withSeed(id, len, corpus) & (ids->cap - 1);

    for (; ids->slots[i].id; i = (i + 1) & (ids->cap - 1))
        if (ids->slots[i].corpus == corpus && ids->slots[i].len == len &&
            memcmp(ids->slots[i].id, id, len) == 0)
            return false;
    ids->slots[i].id = id;
    ids->slots[i].len = len;
    ids->slots[i].corpus = corpus;
    return true;
}

/* ---- One batch ------------------------------------------------------------------------------- */

static size_t corpus_index(struct group *g, struct corpus *c)
{
    size_t i = 0;

    while (i < g->corpus_count && g->corpora[i].corpus != c)
        i++;
    if (i == g->corpus_count) {
        g->corpora[i] = (struct group_corpus){.corpus = c, .counts = c->counts};
        g->corpus_count++;
    }
    return i;
}

static int check_examples(const struct commit_batch *b, struct err *e)
{
    for (uint32_t i = 0; i < b->count; i++) {
        const struct commit_example *x = &b->examples[i];
        uint64_t text = (uint64_t)(x->text ? x->text_len : 0) + (x->meta ? x->meta_len : 0);

        if (x->id_len == 0 || x->id_len > CORPUS_ID_MAX) {
            (void)err_set(e, ERR_BAD_ID, "example %u has an id of %u bytes; 1 to %d are taken",
                          (unsigned)i, (unsigned)x->id_len, CORPUS_ID_MAX);
            return err_at_index(e, i);
        }
        if (text > TEXT_ROW_MAX) {
            (void)err_set(e, ERR_TOO_LARGE, "example %u has %llu bytes of text and meta",
                          (unsigned)i, (unsigned long long)text);
            (void)err_at_index(e, i);
            return err_at_limit(e, (int64_t)TEXT_ROW_MAX);
        }
    }
    return 0;
}

static void conflict(struct commit_batch *b)
{
    (void)err_set(&b->err, ERR_BATCH_CONFLICT,
                  "batch %s of corpus %s was committed before with other content", b->name,
                  b->corpus->def.name);
}

static void answer(struct commit_batch *b, const struct ledger_batch *record, bool already)
{
    b->already = already;
    b->examples_new = record->examples_new;
    b->duplicates = record->duplicates;
    b->sequence = record->sequence;
}

/* Has this name been seen, in the group or in the ledger? True when nothing is left to do. */
static bool is_known(struct group *g, struct group_batch *gb, struct txn *t)
{
    struct commit_batch *b = gb->batch;
    struct ledger_batch before;

    for (size_t i = 0; i < g->batch_count; i++) {
        const struct group_batch *other = &g->batches[i];

        if (!other->is_new || other->batch->corpus != b->corpus ||
            strcmp(other->batch->name, b->name) != 0)
            continue;
        if (memcmp(other->record.content_hash, b->content_hash, HASH_BYTES) != 0)
            conflict(b);
        else
            answer(b, &other->record, true);
        return true;
    }
    if (planted(BATCH_FORGOTTEN) || !ledger_get_batch(t, b->corpus->id, b->name, &before))
        return t->err.code != ERR_OK;
    if (memcmp(before.content_hash, b->content_hash, HASH_BYTES) != 0)
        conflict(b);
    else
        answer(b, &before, true);
    return true;
}

static bool reserve_rows(struct group_corpus *gc, size_t more)
{
    size_t cap = gc->row_count + more;
    struct chunk_row *grown;

    if (cap <= gc->row_cap)
        return true;
    if (cap < gc->row_cap * 2)
        cap = gc->row_cap * 2;
    grown = realloc(gc->rows, cap * sizeof *grown);
    if (!grown)
        return false;
    gc->rows = grown;
    gc->row_cap = cap;
    return true;
}

static void plan_examples(struct group *g, struct group_batch *gb, struct txn *t)
{
    struct group_corpus *gc = &g->corpora[gb->corpus];
    const struct commit_batch *b = gb->batch;
    size_t row_bytes = b->corpus->shape.row_bytes;

    for (uint32_t i = 0; i < b->count; i++) {
        const struct commit_example *x = &b->examples[i];
        uint64_t sequence;

        if (ledger_get_id(t, b->corpus->id, x->id, x->id_len, &sequence) ||
            !ids_add(g->ids, b->corpus->id, x->id, x->id_len)) {
            gb->record.duplicates++;
            continue;
        }
        gc->rows[gc->row_count++] = (struct chunk_row){
            .sequence = gc->counts.next_sequence++,
            .norm = b->norms[i],
            .encoding = (const unsigned char *)b->encodings + i * row_bytes,
            .id = x->id,
            .text = x->text,
            .meta = x->meta,
            .id_len = x->id_len,
            .text_len = x->text_len,
            .meta_len = x->meta_len,
            .codes = b->codes,
            .code_row = i,
        };
        gb->record.examples_new++;
    }
    gc->counts.examples += gb->record.examples_new;
    gc->counts.batches++;
    gb->record.sequence = gc->counts.next_sequence;
    gb->is_new = true;
}

/* Encoded for a state that is no longer the corpus's: its rows must not stand beside the others. */
static bool is_stale(struct commit_batch *b)
{
    uint64_t now = view_epoch(b->corpus->view);

    if (b->epoch == now || planted(STALE_TAKEN))
        return false;
    (void)err_set(&b->err, ERR_STALE, "batch %s was encoded for epoch %llu of corpus %s, now %llu",
                  b->name, (unsigned long long)b->epoch, b->corpus->def.name,
                  (unsigned long long)now);
    return true;
}

static int plan_batch(struct group *g, struct commit_batch *b, struct txn *t, struct err *e)
{
    struct group_batch *gb = &g->batches[g->batch_count];

    *gb = (struct group_batch){.batch = b};
    memcpy(gb->record.content_hash, b->content_hash, HASH_BYTES);
    if (atomic_load(&b->corpus->dropped)) {
        (void)err_set(&b->err, ERR_UNKNOWN_CORPUS, "corpus %s was dropped", b->corpus->def.name);
    } else if (!store_name_valid(b->name, strlen(b->name))) {
        (void)err_set(&b->err, ERR_INVALID, "a batch name is [a-z0-9][a-z0-9_-]{0,62}");
    } else if (check_examples(b, &b->err) == 0 && !is_known(g, gb, t) && !is_stale(b)) {
        gb->corpus = corpus_index(g, b->corpus);
        if (!reserve_rows(&g->corpora[gb->corpus], b->count))
            return err_set(e, ERR_BUSY, "no memory for a commit of %u examples",
                           (unsigned)b->count);
        plan_examples(g, gb, t);
    }
    g->batch_count++;
    if (t->err.code != ERR_OK)
        *e = t->err;
    return (int)t->err.code;
}

int group_plan(struct group *g, struct store *s, struct commit_batch *const *batches, size_t count,
               struct err *e)
{
    size_t examples = 0;
    struct txn t;
    int rc;

    *g = (struct group){.batches = mem_new(count, sizeof *g->batches),
                        .corpora = mem_new(count, sizeof *g->corpora)};
    for (size_t i = 0; i < count; i++) {
        struct commit_batch *b = batches[i];

        err_clear(&b->err);
        b->already = false;
        b->examples_new = b->duplicates = b->sequence = 0;
        examples += b->count;
    }
    rc = ids_new(g, examples, e);
    if (rc)
        return rc;
    txn_begin_read(&t, &s->ledger);
    rc = (int)t.err.code;
    if (rc)
        *e = t.err;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = plan_batch(g, batches[i], &t, e);
    txn_abort(&t);
    return rc;
}

void group_free(struct group *g)
{
    for (size_t i = 0; i < g->corpus_count; i++)
        free(g->corpora[i].rows);
    free(g->corpora);
    free(g->batches);
    free(g->ids);
    *g = (struct group){0};
}
