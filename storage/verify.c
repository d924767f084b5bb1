/* verify.c - verify_store of maintain.h: walks everything a store holds and names what is damaged.
 *
 * Per corpus, first the ledger's own invariants in one read transaction, then every block of every
 * chunk of a view. Beside ingest: what was deleted since the view was taken is asked about again
 * before it counts as a fault. Changes nothing.
 */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/annex.h"
#include "storage/artifact_file.h"
#include "storage/base/bytes.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/chunk.h"
#include "storage/maintain.h"
#include "storage/snapshot.h"
#include "storage/text.h"
#include "storage/verify_codes.h"
#include "storage/warm.h"

enum { PATIENCE_MS = 50 }; /* between a ledger commit and its view lie microseconds */

struct check {
    struct store *s;
    struct corpus *corpus; /* the one being walked */
    void (*finding)(void *arg, const char *line);
    void *arg;
    const struct maintain_progress *progress;
    uint64_t done, total;
    struct verify_report report;
    struct err *e;
};

static void __attribute__((format(printf, 2, 3))) say(struct check *k, const char *fmt, ...)
{
    char line[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (k->finding)
        k->finding(k->arg, line);
}

#define ledger_fault(k, ...)                                                                       \
    do {                                                                                           \
        (k)->report.ledger_faults++;                                                               \
        say((k), __VA_ARGS__);                                                                     \
    } while (0)

static int advance(struct check *k, uint64_t bytes)
{
    k->done += bytes;
    if (k->progress && k->progress->report &&
        !k->progress->report(k->progress->arg, k->done, k->total))
        return err_set(k->e, ERR_CANCELLED, "verify was cancelled");
    return 0;
}

/* ---- The ledger of one corpus ---------------------------------------------------------------- */

struct tally {
    struct txn txn;
    struct view_chunk *chunks; /* as the ledger has them, by sequence */
    size_t chunk_count;
    struct ledger_counts counts;
    uint64_t rows, ids, tombstones, batches, examples_new;
};

static const char *name_of(const struct check *k)
{
    return k->corpus->def.name;
}

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
            ledger_fault(k, "corpus %s: ledger: a chunk record is damaged", name_of(k));
            continue;
        }
        if (!tally_shard_is_ours(k, y, c.shard))
            ledger_fault(k, "corpus %s: ledger: chunk %llu is in shard %06u, which is not its own",
                         name_of(k), (unsigned long long)c.id, (unsigned)c.shard);
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
            ledger_fault(k, "corpus %s: ledger: chunks %llu and %llu overlap", name_of(k),
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
            ledger_fault(k, "corpus %s: ledger: a tombstone is damaged", name_of(k));
        else if (!in_a_chunk(y, d.sequence, &at) || y->chunks[at].id != d.chunk ||
                 d.row >= y->chunks[at].rows)
            ledger_fault(k, "corpus %s: ledger: the tombstone of sequence %llu points at no row",
                         name_of(k), (unsigned long long)d.sequence);
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
            ledger_fault(k, "corpus %s: ledger: the record of id \"%.*s\" is damaged", name_of(k),
                         (int)key.len - 4, key.bytes + 4);
            k->report.damaged_ids++;
        } else if (!in_a_chunk(y, sequence, &at) || is_tombstone(y, k->corpus->id, sequence)) {
            ledger_fault(k, "corpus %s: ledger: id \"%.*s\" names sequence %llu, which is no live row",
                         name_of(k), (int)key.len - 4, key.bytes + 4, (unsigned long long)sequence);
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
            ledger_fault(k, "corpus %s: ledger: the record of batch %.*s is damaged", name_of(k),
                         (int)key.len - 4, key.bytes + 4);
            continue;
        }
        y->examples_new += b.examples_new;
        if (b.sequence > y->counts.next_sequence)
            ledger_fault(k, "corpus %s: ledger: batch %.*s ends past the next sequence", name_of(k),
                         (int)key.len - 4, key.bytes + 4);
    }
    ledger_walk_end(&w);
}

static void compare(struct check *k, const char *what, uint64_t counted, uint64_t recorded)
{
    if (counted != recorded)
        ledger_fault(k, "corpus %s: ledger: %s: %llu counted, %llu recorded", name_of(k), what,
                     (unsigned long long)counted, (unsigned long long)recorded);
}

static int check_ledger(struct check *k)
{
    struct tally y = {0};

    txn_begin_read(&y.txn, &k->s->ledger);
    if (ledger_get_counts(&y.txn, k->corpus->id, &y.counts)) {
        tally_chunks(k, &y);
        tally_tombstones(k, &y);
        tally_ids(k, &y);
        tally_batches(k, &y);
        compare(k, "ids and examples", y.ids, y.counts.examples);
        compare(k, "tombstones", y.tombstones, y.counts.tombstones);
        compare(k, "rows less tombstones, and examples", y.rows - y.tombstones, y.counts.examples);
        compare(k, "batches", y.batches, y.counts.batches);
        compare(k, "examples of all batches, and sequences", y.examples_new,
                y.counts.next_sequence);
    } else if (!atomic_load(&k->corpus->dropped)) {
        ledger_fault(k, "corpus %s: ledger: the counts are missing or damaged", name_of(k));
    }
    txn_abort(&y.txn);
    free(y.chunks);
    if (y.txn.err.code == ERR_CORRUPT)
        ledger_fault(k, "corpus %s: %s", name_of(k), y.txn.err.text);
    else if (y.txn.err.code != ERR_OK)
        *k->e = y.txn.err;
    return y.txn.err.code == ERR_CORRUPT ? 0 : (int)y.txn.err.code;
}

/* ---- The blocks of one chunk ----------------------------------------------------------------- */

/* Names every live example of a damaged chunk: from the chunk itself when its table of rows is sound,
 * else from the ledger. */
static void name_rows(struct check *k, const struct view_chunk *c, const struct block *rows,
                      const char *what)
{
    for (uint32_t r = 0; r < c->rows; r++) {
        size_t len;
        const char *id = block_row_id(rows, r, &len);

        if (!view_row_dead(c, r))
            say(k, "corpus %s: example \"%.*s\": its %s are damaged", name_of(k), (int)len, id,
                what);
    }
}

static void name_from_ledger(struct check *k, const struct view_chunk *c, const char *what)
{
    struct key prefix = key_u32(k->corpus->id);
    struct ledger_walk w;
    struct span key, value;
    uint64_t sequence;
    struct txn t;

    txn_begin_read(&t, &k->s->ledger);
    ledger_walk_begin(&w, &t, LEDGER_IDS, &prefix);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value))
        if (ledger_parse_u64(value, &sequence) && sequence >= c->first_sequence &&
            sequence <= c->last_sequence)
            say(k, "corpus %s: example \"%.*s\": its %s are damaged", name_of(k), (int)key.len - 4,
                key.bytes + 4, what);
    ledger_walk_end(&w);
    txn_abort(&t);
}

/* Was the row deleted since the view was taken? A takedown is in the ledger a moment before it is in
 * the latest view; so a row that still seems live is asked about again for a while. */
static bool died_meanwhile(struct check *k, uint64_t sequence)
{
    struct err ignored = ERR_INIT;
    bool is_live = true;

    for (int i = 0; is_live && i < PATIENCE_MS; i++) {
        const struct view *now = corpus_view(k->corpus);
        size_t chunk;
        uint32_t row;

        is_live = view_locate(now, sequence, &chunk, &row, &ignored);
        view_release(now);
        if (is_live)
            usleep(1000);
    }
    return !is_live;
}

/* A live row's id must lead back to the row. */
static void check_id(struct check *k, struct txn *t, const struct view_chunk *c, uint32_t row,
                     const struct block *rows)
{
    uint64_t expected = block_row_sequence(rows, row), sequence = 0;
    size_t len;
    const char *id = block_row_id(rows, row, &len);

    if (len > 0 && len <= CORPUS_ID_MAX && ledger_get_id(t, k->corpus->id, id, len, &sequence) &&
        sequence == expected)
        return;
    if (!died_meanwhile(k, expected))
        ledger_fault(k, "corpus %s: chunk %llu: id \"%.*s\" of sequence %llu is not in the ledger",
                     name_of(k), (unsigned long long)c->id, (int)len, id,
                     (unsigned long long)expected);
}

static void check_rows(struct check *k, const struct view_chunk *c, const struct block *rows)
{
    uint64_t last = c->first_sequence;
    struct txn t;

    if (block_row_sequence(rows, 0) != c->first_sequence ||
        block_row_sequence(rows, c->rows - 1) != c->last_sequence)
        ledger_fault(k, "corpus %s: chunk %llu: its sequences are not those of the ledger",
                     name_of(k), (unsigned long long)c->id);
    txn_begin_read(&t, &k->s->ledger);
    for (uint32_t r = 0; r < c->rows; r++) {
        uint64_t sequence = block_row_sequence(rows, r);

        if ((r > 0 && sequence <= last) || !isfinite(block_row_norm(rows, r)))
            ledger_fault(k, "corpus %s: chunk %llu: row %u has a wrong sequence or norm", name_of(k),
                         (unsigned long long)c->id, (unsigned)r);
        last = sequence;
        if (!view_row_dead(c, r))
            check_id(k, &t, c, r, rows);
    }
    txn_abort(&t);
    k->report.rows += c->rows;
    k->report.examples += c->rows - c->dead_count;
}

static int check_texts(struct check *k, const struct view_chunk *c, const struct block *texts,
                       struct err *e)
{
    struct text_reader r;
    int rc = text_reader_open(&r, texts->bytes, texts->len, c->rows, e);

    for (uint32_t row = 0; rc == 0 && row < c->rows; row++) {
        const char *text, *meta;
        size_t text_len, meta_len;

        rc = text_reader_row(&r, row, &text, &text_len, &meta, &meta_len, e);
        k->report.texts += rc == 0 && text != NULL;
    }
    if (r.bytes)
        text_reader_close(&r);
    if (rc)
        err_wrap(e, "corpus %s: shard %06u: chunk %llu: texts: ", name_of(k), (unsigned)c->shard->id,
                 (unsigned long long)c->id);
    return rc;
}

/* Reads a block with its checksum, whether it was seen before or not. */
static int open_checked(const struct view_chunk *c, enum block_kind kind, struct block *out,
                        struct err *e)
{
    struct key key = key_block(c->id, (unsigned char)kind);
    struct span value, payload;
    struct txn t;
    int rc;

    shard_begin_read(c->shard, &t);
    if (txn_get(&t, 0, &key, &value)) {
        warm_range(value.bytes, value.len);
        rc = chunk_check(value, c, kind, true, &payload, e);
    } else {
        *e = t.err;
        if (e->code == ERR_OK)
            (void)err_set(e, ERR_CORRUPT,
                          "corpus %s: shard %06u: chunk %llu: %s: the block is missing",
                          c->shard->corpus.name, (unsigned)c->shard->id, (unsigned long long)c->id,
                          chunk_kind_name(kind));
        rc = (int)e->code;
    }
    if (rc) {
        txn_abort(&t);
        return rc;
    }
    *out = (struct block){.bytes = payload.bytes, .len = payload.len, .txn = t.handle};
    return 0;
}

/* One chunk under check: the blocks that were sound stay open until its end. */
struct sound {
    struct block block[CHUNK_KINDS];
    bool is[CHUNK_KINDS];
    bool counted; /* its examples, among the damaged */
};

static void report_damage(struct check *k, const struct view_chunk *c, struct sound *s,
                          enum block_kind kind, const struct err *e)
{
    unsigned rows = chunk_kind_bit(BLOCK_ROWS), plane;
    bool is_derived = kind == BLOCK_SUMS || chunk_kind_is_code(kind, &plane);

    k->report.damaged_blocks++;
    say(k, "%s (%u examples, sequences %llu to %llu)", e->text, (unsigned)(c->rows - c->dead_count),
        (unsigned long long)c->first_sequence, (unsigned long long)c->last_sequence);
    if (is_derived && kind != BLOCK_SUMS)
        shard_codes_doubt(c->shard, c->id);
    if (is_derived) /* no example is lost with it */
        return;
    if (!s->counted)
        k->report.damaged_ids += c->rows - c->dead_count;
    s->counted = true;
    if (s->is[rows])
        name_rows(k, c, &s->block[rows], chunk_kind_name(kind));
    else
        name_from_ledger(k, c, chunk_kind_name(kind));
}

static int check_block(struct check *k, const struct view_chunk *c, struct sound *s,
                       enum block_kind kind, struct err *e)
{
    unsigned bit = chunk_kind_bit(kind);
    int rc = open_checked(c, kind, &s->block[bit], e);

    s->is[bit] = rc == 0;
    if (rc == 0 && kind == BLOCK_ROWS)
        check_rows(k, c, &s->block[bit]);
    if (rc == 0 && kind == BLOCK_TEXTS)
        rc = check_texts(k, c, &s->block[bit], e);
    return rc;
}

/* Sound blocks against each other: what is made from the encodings must be what they give. */
static int check_derived(struct check *k, const struct view_chunk *c, struct sound *s)
{
    unsigned encodings = chunk_kind_bit(BLOCK_ENCODINGS), sums = chunk_kind_bit(BLOCK_SUMS);
    unsigned bits = chunk_kind_bit(BLOCK_BITS);
    bool can_code = c->coded && c->shard->corpus.coder;
    struct err e = ERR_INIT;
    int rc = 0;

    for (unsigned p = 0; p <= CODER_PLANES; p++)
        can_code = can_code && s->is[bits + p];
    if (s->is[encodings] && s->is[sums] &&
        verify_sums(c, &s->block[encodings], &s->block[sums], &e))
        report_damage(k, c, s, BLOCK_SUMS, &e);
    if (s->is[encodings] && can_code)
        rc = verify_codes(c, &s->block[encodings], &s->block[bits], &e);
    if (rc == ERR_CORRUPT)
        report_damage(k, c, s, BLOCK_BITS, &e);
    else if (rc)
        *k->e = e;
    return rc == ERR_CORRUPT ? 0 : rc;
}

static int check_chunk(struct check *k, const struct view_chunk *c)
{
    static const enum block_kind order[CHUNK_KINDS] = {
        BLOCK_ROWS, BLOCK_TEXTS, BLOCK_ENCODINGS, BLOCK_SUMS,
        BLOCK_BITS, BLOCK_SIX,   BLOCK_LOW,       BLOCK_FACTORS};
    struct sound s = {0};
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < CHUNK_KINDS; i++) {
        struct err e = ERR_INIT;

        if (chunk_has(c, order[i]))
            rc = check_block(k, c, &s, order[i], &e);
        if (rc == ERR_CORRUPT)
            report_damage(k, c, &s, order[i], &e);
        else if (rc)
            *k->e = e;
        rc = rc == ERR_CORRUPT ? 0 : rc;
    }
    if (rc == 0)
        rc = check_derived(k, c, &s);
    for (unsigned i = 0; i < CHUNK_KINDS; i++)
        if (s.block[i].txn)
            block_close(&s.block[i]);
    k->report.chunks += rc == 0;
    return rc;
}

/* ---- Shards: nothing in them that the ledger does not name ----------------------------------- */

struct place {
    struct shard *shard;
    uint64_t chunk;
};

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->shard->id != y->shard->id)
        return x->shard->id < y->shard->id ? -1 : 1;
    return (x->chunk > y->chunk) - (x->chunk < y->chunk);
}

/* Walks the keys of one shard against its places, both ascending. What lies past the last one may be
 * a commit under way, or left by one that failed: it does not exist. */
static void check_keys(struct check *k, const struct place *places, size_t count)
{
    struct key all = {.len = 0};
    struct span key, value;
    struct cursor c;
    struct txn t;
    size_t i = 0;
    bool more;

    shard_begin_read(places[0].shard, &t);
    cursor_open(&c, &t, 0);
    for (more = cursor_seek(&c, &all, &key, &value); more && i < count;
         more = cursor_next(&c, &key, &value)) {
        uint64_t chunk = key.len == 9 ? bytes_get_be64(key.bytes) : 0;

        while (i < count && places[i].chunk < chunk)
            i++;
        if (i < count && places[i].chunk != chunk)
            ledger_fault(k, "corpus %s: shard %06u: holds chunk %llu, which the ledger does not name",
                         name_of(k), (unsigned)places[0].shard->id, (unsigned long long)chunk);
    }
    cursor_close(&c);
    txn_abort(&t);
}

static void check_shards(struct check *k, const struct view *v)
{
    struct place *places = mem_new(v->chunk_count, sizeof *places);
    size_t from = 0;

    for (size_t i = 0; i < v->chunk_count; i++)
        places[i] = (struct place){v->chunks[i].shard, v->chunks[i].id};
    if (v->chunk_count)
        qsort(places, v->chunk_count, sizeof *places, by_place);
    for (size_t i = 1; i <= v->chunk_count; i++)
        if (i == v->chunk_count || places[i].shard != places[from].shard) {
            check_keys(k, places + from, i - from);
            from = i;
        }
    free(places);
}

/* ---- All ------------------------------------------------------------------------------------- */

static uint64_t chunk_bytes(const struct view_chunk *c)
{
    return (uint64_t)c->rows * c->shard->corpus.row_bytes;
}

static bool report_piece(void *arg, uint64_t bytes)
{
    struct check *k = arg;

    return advance(k, bytes) == 0;
}

/* Every byte of the files behind a state or a task. */
static int check_files(struct check *k, struct annex *a)
{
    const struct annex_def *def = annex_def(a);
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < def->artifact_count; i++) {
        struct err e = ERR_INIT;

        rc = artifact_check(def->artifacts[i], report_piece, k, &e);
        if (rc == ERR_CORRUPT) {
            k->report.damaged_blocks++;
            say(k, "corpus %s: %s%s: %s", name_of(k), *def->name ? "task " : "state", def->name, e.text);
            rc = 0;
        } else if (rc && k->e->code == ERR_OK) {
            *k->e = e;
        }
        k->report.bytes += artifact_bytes(def->artifacts[i]);
    }
    return rc;
}

static int check_annexes(struct check *k, struct corpus *c)
{
    const struct view *v = corpus_view(c);
    struct annex **list;
    size_t count = annex_list(c, &list);
    int rc = v->state ? check_files(k, v->state) : 0;

    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            rc = check_files(k, list[i]);
        annex_release(list[i]);
    }
    free(list);
    view_release(v);
    return rc;
}

static int check_corpus(struct check *k, struct corpus *c)
{
    const struct view *v = corpus_view(c);
    int rc;

    k->corpus = c;
    rc = check_ledger(k);
    if (rc == 0)
        check_shards(k, v);
    for (size_t i = 0; rc == 0 && i < v->chunk_count; i++) {
        rc = check_chunk(k, &v->chunks[i]);
        if (rc == 0)
            rc = advance(k, chunk_bytes(&v->chunks[i]));
        k->report.bytes += chunk_bytes(&v->chunks[i]);
    }
    view_release(v);
    return rc ? rc : check_annexes(k, c);
}

/* Tables that belong to no corpus. */
static int check_records(struct check *k)
{
    struct ledger_walk w;
    struct ledger_meta m;
    struct span key, value;
    struct txn t;

    txn_begin_read(&t, &k->s->ledger);
    ledger_walk_begin(&w, &t, LEDGER_RECORDS, NULL);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value))
        if (w.damaged)
            ledger_fault(k, "ledger: a record of table %u is damaged", (unsigned)key.bytes[0]);
    ledger_walk_end(&w);
    if (!ledger_get_meta(&t, &m))
        ledger_fault(k, "ledger: the state record is damaged");
    txn_abort(&t);
    if (t.err.code != ERR_OK && t.err.code != ERR_CORRUPT)
        *k->e = t.err;
    return t.err.code == ERR_CORRUPT ? 0 : (int)t.err.code;
}

int verify_store(struct store *s, void (*finding)(void *arg, const char *line), void *arg,
                 const struct maintain_progress *p, struct verify_report *out, struct err *e)
{
    struct check k = {.s = s, .finding = finding, .arg = arg, .progress = p, .e = e};
    struct corpus **list;
    size_t count = store_corpus_list(s, &list);
    int rc;

    for (size_t i = 0; i < count; i++) {
        const struct view *v = corpus_view(list[i]);

        k.total += v->rows * corpus_row_bytes(list[i]);
        view_release(v);
    }
    rc = check_records(&k);
    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            rc = check_corpus(&k, list[i]);
        corpus_release(list[i]);
    }
    free(list);
    if (rc == 0)
        *out = k.report;
    return rc;
}
