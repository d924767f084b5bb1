/* verify_ledger.c - see verify_part.h: chunks, tombstones, ids, batches and counts of one corpus.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/base/bytes.h"
#include "storage/catalog.h"
#include "storage/snapshot.h"
#include "storage/verify_part.h"

struct tally {
    struct txn txn;
    struct view_chunk *chunks; /* as the ledger has them, by sequence */
    size_t chunk_count;
    struct ledger_counts counts;
    uint64_t rows, ids, tombstones, batches, examples_new;
};

static int by_sequence(const void *a, const void *b)
{
    const struct view_chunk *x = a, *y = b;

    return (x->first_sequence > y->first_sequence) - (x->first_sequence < y->first_sequence);
}

static bool tally_shard_is_ours(struct check *k, struct tally *y, uint32_t shard)
{
    struct key key = key_u32(shard);
    struct ledger_shard record;
    struct span value;

    return ledger_get(&y->txn, LEDGER_SHARDS, &key, &value) &&
           ledger_parse_shard((struct span){key.bytes, key.len}, value, &record) &&
           record.corpus == k->corpus->id;
}

static void tally_chunks(struct check *k, struct tally *y)
{
    struct key prefix = key_u32(k->corpus->id);
    struct ledger_walk w;
    struct ledger_chunk c;
    struct span key, value;
    struct buf list = {0};

    ledger_walk_begin(&w, &y->txn, LEDGER_CHUNKS, &prefix);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value)) {
        struct view_chunk v;

        if (w.damaged || !ledger_parse_chunk(key, value, &c)) {
            ledger_fault(k, "corpus %s: ledger: a chunk record is damaged", verify_name(k));
            continue;
        }
        if (!tally_shard_is_ours(k, y, c.shard))
            ledger_fault(k, "corpus %s: ledger: chunk %llu is in shard %06u, which is not its own",
                         verify_name(k), (unsigned long long)c.id, (unsigned)c.shard);
        v = (struct view_chunk){.id = c.id,
                                .rows = c.rows,
                                .first_sequence = c.first_sequence,
                                .last_sequence = c.last_sequence};
        buf_add(&list, &v, sizeof v);
        y->rows += c.rows;
    }
    ledger_walk_end(&w);
    y->chunks = (struct view_chunk *)(void *)list.data;
    y->chunk_count = list.len / sizeof *y->chunks;
    if (y->chunk_count)
        qsort(y->chunks, y->chunk_count, sizeof *y->chunks, by_sequence);
    for (size_t i = 1; i < y->chunk_count; i++)
        if (y->chunks[i].first_sequence <= y->chunks[i - 1].last_sequence)
            ledger_fault(k, "corpus %s: ledger: chunks %llu and %llu overlap", verify_name(k),
                         (unsigned long long)y->chunks[i - 1].id,
                         (unsigned long long)y->chunks[i].id);
}

static bool in_a_chunk(const struct tally *y, uint64_t sequence, size_t *out_chunk)
{
    struct view v = {.chunks = y->chunks, .chunk_count = y->chunk_count};

    return snapshot_find(&v, sequence, out_chunk);
}

static void tally_tombstones(struct check *k, struct tally *y)
{
    struct key prefix = key_u32(k->corpus->id);
    struct ledger_tombstone d;
    struct ledger_walk w;
    struct span key, value;
    size_t at;

    ledger_walk_begin(&w, &y->txn, LEDGER_TOMBSTONES, &prefix);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value)) {
        y->tombstones++;
        if (w.damaged || !ledger_parse_tombstone(key, value, &d))
            ledger_fault(k, "corpus %s: ledger: a tombstone is damaged", verify_name(k));
        else if (!in_a_chunk(y, d.sequence, &at) || y->chunks[at].id != d.chunk ||
                 d.row >= y->chunks[at].rows)
            ledger_fault(k, "corpus %s: ledger: the tombstone of sequence %llu points at no row",
                         verify_name(k), (unsigned long long)d.sequence);
    }
    ledger_walk_end(&w);
}

static bool is_tombstone(struct tally *y, uint32_t corpus, uint64_t sequence)
{
    struct key key = key_u32_u64(corpus, sequence);
    struct span value;

    return txn_get(&y->txn, LEDGER_TOMBSTONES, &key, &value);
}

static void tally_ids(struct check *k, struct tally *y)
{
    struct key prefix = key_u32(k->corpus->id);
    struct ledger_walk w;
    struct span key, value;
    uint64_t sequence;
    size_t at;

    ledger_walk_begin(&w, &y->txn, LEDGER_IDS, &prefix);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value)) {
        y->ids++;
        if (w.damaged || !ledger_parse_u64(value, &sequence)) {
            ledger_fault(k, "corpus %s: ledger: the record of id \"%.*s\" is damaged",
                         verify_name(k),
                         (int)key.len - 4, key.bytes + 4);
            k->report.damaged_ids++;
        } else if (!in_a_chunk(y, sequence, &at) || is_tombstone(y, k->corpus->id, sequence)) {
            ledger_fault(k,
                         "corpus %s: ledger: id \"%.*s\" names sequence %llu, which is no live row",
                         verify_name(k), (int)key.len - 4, key.bytes + 4,
                         (unsigned long long)sequence);
        }
    }
    ledger_walk_end(&w);
}

static void tally_batches(struct check *k, struct tally *y)
{
    struct key prefix = key_u32(k->corpus->id);
    struct ledger_batch b;
    struct ledger_walk w;
    struct span key, value;

    ledger_walk_begin(&w, &y->txn, LEDGER_BATCHES, &prefix);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value)) {
        y->batches++;
        if (w.damaged || !ledger_parse_batch(value, &b)) {
            ledger_fault(k, "corpus %s: ledger: the record of batch %.*s is damaged",
                         verify_name(k),
                         (int)key.len - 4, key.bytes + 4);
            continue;
        }
        y->examples_new += b.examples_new;
        if (b.sequence > y->counts.next_sequence)
            ledger_fault(k, "corpus %s: ledger: batch %.*s ends past the next sequence",
                         verify_name(k),
                         (int)key.len - 4, key.bytes + 4);
    }
    ledger_walk_end(&w);
}

static void compare(struct check *k, const char *what, uint64_t counted, uint64_t recorded)
{
    if (counted != recorded)
        ledger_fault(k, "corpus %s: ledger: %s: %llu counted, %llu recorded", verify_name(k), what,
                     (unsigned long long)counted, (unsigned long long)recorded);
}

/* What could not be read, for want of memory say, is no finding. */
static bool was_read(const struct txn *t)
{
    return t->err.code == ERR_OK || t->err.code == ERR_CORRUPT;
}

static void compare_all(struct check *k, const struct tally *y)
{
    compare(k, "ids and examples", y->ids, y->counts.examples);
    compare(k, "tombstones", y->tombstones, y->counts.tombstones);
    compare(k, "rows less tombstones, and examples", y->rows - y->tombstones, y->counts.examples);
    compare(k, "batches", y->batches, y->counts.batches);
    if (y->examples_new > y->counts.next_sequence) /* less: a repair dropped a batch's record */
        compare(k, "examples of all batches, and sequences", y->examples_new,
                y->counts.next_sequence);
}

int verify_ledger(struct check *k)
{
    struct tally y = {0};

    txn_begin_read(&y.txn, &k->s->ledger);
    if (ledger_get_counts(&y.txn, k->corpus->id, &y.counts)) {
        tally_chunks(k, &y);
        tally_tombstones(k, &y);
        tally_ids(k, &y);
        tally_batches(k, &y);
        if (was_read(&y.txn))
            compare_all(k, &y);
    } else if (was_read(&y.txn) && !atomic_load(&k->corpus->dropped)) {
        ledger_fault(k, "corpus %s: ledger: the counts are missing or damaged", verify_name(k));
    }
    txn_abort(&y.txn);
    free(y.chunks);
    if (y.txn.err.code == ERR_CORRUPT)
        ledger_fault(k, "corpus %s: %s", verify_name(k), y.txn.err.text);
    else if (y.txn.err.code != ERR_OK)
        *k->e = y.txn.err;
    return y.txn.err.code == ERR_CORRUPT ? 0 : (int)y.txn.err.code;
}
