/* corpus.h - a corpus as readers see it: an immutable view, its chunks, its examples.
 *
 * An example's permanent name inside a corpus is its sequence: a 64-bit counter given at commit,
 * never reused, in ingest order. The ledger maps id -> sequence; chunks hold rows in sequence
 * order, so a rewrite (compact, fit) moves rows without touching ids (docs/adr/).
 *
 * All calls are [R] (storage/store.h): any thread, beside the writer.
 */
#ifndef STORAGE_CORPUS_H
#define STORAGE_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/dtype.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"
#include "storage/coder.h"
#include "storage/store.h"

enum { CORPUS_ID_MAX = 256 };

void corpus_retain(struct corpus *c);
void corpus_release(struct corpus *c);

/* Fixed at creation; valid as long as the reference. */
const struct corpus_def *corpus_def(const struct corpus *c);
size_t corpus_row_bytes(const struct corpus *c); /* dim * dtype_size */
/* Unique in the store and never given again, not even to a corpus of the same name. */
uint32_t corpus_id(const struct corpus *c);

/* The codes that chunks of this corpus are written with; version 0: none. */
const struct coder_shape *corpus_code_shape(const struct corpus *c);

/* Room in `a` for the codes of `count` rows; *out is NULL when this corpus gets none. BUSY. */
int corpus_codes_new(const struct corpus *c, uint32_t count, struct arena *a, struct codes **out,
                     struct err *e);
/* Makes the codes of rows first .. first+count-1; `encodings` is row `first`, the others lie behind
 * it. Any thread; several may fill parts of one struct codes at once. */
int corpus_codes_make(const struct corpus *c, const void *encodings, uint32_t first, uint32_t count,
                      struct codes *codes, struct err *e);

struct corpus_stats {
    uint64_t examples;   /* live */
    uint64_t tombstones; /* deleted, not yet purged */
    uint64_t coded;      /* live, in chunks that have codes */
    uint64_t batches, chunks, shards, bytes;
    uint64_t next_sequence;
    uint64_t generation; /* grows by one with every published change */
};
void corpus_stats(struct corpus *c, struct corpus_stats *out);

/* ---- View: what is committed at one moment; immutable; holds no transaction ------------------ */

struct shard; /* storage/shard.h */

struct view_chunk {
    uint64_t id;             /* unique in the store, never reused for other content */
    struct shard *shard;     /* kept alive by the view */
    uint32_t rows;           /* stored, dead ones included */
    uint32_t dead_count;
    uint64_t first_sequence; /* of row 0; rows ascend */
    uint64_t last_sequence;  /* of the last row */
    uint32_t code_version;   /* of the codes it was written with; 0: without */
    bool coded;              /* has codes, and they are those this program makes */
    bool summed;             /* has a sum of every row: block_open_rows reads single rows */
    const uint64_t *dead;    /* bitmap of rows, (rows+63)/64 words; NULL when none is dead */
};

struct annex; /* storage/annex.h */

/* What a view of corpus_view_sound leaves out because it cannot be read rightly. */
enum { VIEW_DAMAGE_IDS = 1000 };
struct view_damage {
    uint64_t examples; /* not deleted, and not in the view */
    size_t chunks;     /* they lie in */
    bool rows;         /* some of a chunk's rows only: its block of encodings holds wrong ones */
    size_t id_count;   /* ids known: of the first VIEW_DAMAGE_IDS examples */
    const struct view_damage_id {
        const char *id; /* ends in NUL as well */
        size_t len;
    } *ids;
};

struct view {
    const struct corpus *corpus;
    const struct view_damage *damage; /* NULL: nothing is left out */
    struct annex *state; /* how these rows are encoded; NULL: as ingested */
    uint64_t generation;
    uint64_t rows; /* dead ones included */
    uint64_t live;
    size_t chunk_count;
    const struct view_chunk *chunks; /* ascending by sequence, never overlapping */
};

/* The latest committed view (one short lock). Give back with view_release. */
const struct view *corpus_view(struct corpus *c);
void view_release(const struct view *v);

/* The same without what reading has found damaged so far: those rows are dead in it, and `damage`
 * names them (`texts`: chunks whose texts are damaged are left out as well, for who must read them
 * all). For readers who answer over the rest; work that writes takes corpus_view, and fails at
 * damage. Who meets CORRUPT and then finds store_damage grown may take a new one and try again. */
const struct view *corpus_view_sound(struct corpus *c, bool texts);

/* Was anything of the corpus's store found damaged? */
bool corpus_is_hurt(const struct corpus *c);

/* Are the codes of this chunk to be read: it is `coded`, and they were not found damaged. */
bool view_chunk_coded(const struct view_chunk *c);

static inline bool view_row_dead(const struct view_chunk *c, uint32_t row)
{
    return c->dead && ((c->dead[row / 64] >> (row % 64)) & 1);
}

/* ---- Blocks: the bytes of one chunk ---------------------------------------------------------- */

enum block_kind { /* values are part of the disk format */
    BLOCK_ENCODINGS = 'e', /* rows x dim x dtype: unit vectors */
    BLOCK_ROWS = 'r',      /* sequence and norm of every row, ids: storage/chunk.h */
    BLOCK_TEXTS = 't',     /* texts and metas, compressed: storage/text.h */
    BLOCK_SUMS = 'x',      /* a sum of every row of encodings; storage's own */
    BLOCK_BITS = 'b',      /* codes (storage/coder.h), when the chunk is coded */
    BLOCK_SIX = 's',
    BLOCK_LOW = 'l',
    BLOCK_FACTORS = 'f', /* float32 arrays of `rows` numbers, one after the other */
};

struct block {
    const unsigned char *bytes; /* after the 48-byte header; in the map; valid until block_close.
                                   64-byte aligned by layout, not by promise: use unaligned loads */
    size_t len;
    bool cold; /* of block_open_sparse: not all of it was in memory */
    void *txn; /* storage's own */
};

/* Opens one block of a chunk for reading: begins a read transaction, checks the checksum (with the
 * block's place inside it) on first touch in each round of store_recheck. CORRUPT names corpus,
 * shard, chunk, kind. Codes of a chunk that is not `coded` are INTERNAL: ask first. block_close
 * ends the transaction; both on the same thread, and soon. */
int block_open(const struct view_chunk *c, enum block_kind kind, struct block *out, struct err *e);
void block_close(struct block *b);
/* The same for a reader of a few places in it: what is not in memory is not read as a whole (but
 * for the checksum, at the very first touch; later rounds sum it when it is in memory). block_ahead
 * says which bytes come next; it costs nothing
 * unless the block was `cold`, does not wait and reports nothing. */
int block_open_sparse(const struct view_chunk *c, enum block_kind kind, struct block *out,
                      struct err *e);
void block_ahead(const struct block *b, size_t from, size_t len);
/* Has the kernel begin to read a block that is wanted soon, while another is worked on. Does not
 * wait and reports nothing: the block's own block_open will. */
void block_prefetch(const struct view_chunk *c, enum block_kind kind);

/* Bytes of a block as stored, its header too; the block itself is not read. Fails as block_open. */
int block_stored_bytes(const struct view_chunk *c, enum block_kind kind, uint64_t *out,
                       struct err *e);

/* Opens the encodings for reading single rows: no sum of the whole is checked, which would read all
 * of it, and each row's is when it is asked for. (In a chunk that is not `summed` the whole block
 * is checked, here.) */
int block_open_rows(const struct view_chunk *c, struct block *out, struct err *e);
/* One row's encoding, in the map, of a block that block_open_rows opened. CORRUPT when its sum is
 * wrong; a row that was right is not checked again in the same round. */
int block_row(const struct view_chunk *c, const struct block *b, uint32_t row,
              const unsigned char **out, struct err *e);
/* Both at once, for a single row: out->bytes is that row alone. */
int block_open_row(const struct view_chunk *c, uint32_t row, struct block *out, struct err *e);

/* Forgets what was found right of a chunk, and sums its encodings and its table of rows again: for
 * who was given what cannot be, or makes something of it that lasts. CORRUPT as block_open. */
int block_distrust(const struct view_chunk *c, struct err *e);

/* Reads of a ROWS block (storage/chunk.c); `row` < rows. norm: |x| before normalising, float64. */
uint64_t block_row_sequence(const struct block *rows, uint32_t row);
double block_row_norm(const struct block *rows, uint32_t row);
const char *block_row_id(const struct block *rows, uint32_t row, size_t *out_len); /* in the map */

/* ---- Examples -------------------------------------------------------------------------------- */

struct example { /* all memory in the arena given to the call; strings end in NUL as well */
    uint64_t sequence;
    double norm;
    const char *id;
    size_t id_len;
    const char *text; /* NULL when the example has none */
    size_t text_len;
    const char *meta; /* JSON object as text; NULL when none */
    size_t meta_len;
};

/* What the ledger keeps of a committed batch; durable once it is seen. */
struct corpus_batch {
    unsigned char content_hash[16]; /* as it was given to the commit */
    uint64_t examples_new, duplicates;
    uint64_t sequence; /* the corpus's next sequence after the batch */
};
/* UNKNOWN_BATCH when none of that name was committed. */
int corpus_find_batch(struct corpus *c, const char *name, struct corpus_batch *out, struct err *e);

/* id -> sequence; UNKNOWN_EXAMPLE when there is none, or it is deleted. */
int corpus_find_id(struct corpus *c, const char *id, size_t id_len, uint64_t *out_sequence,
                   struct err *e);

/* sequence -> its place in a view; false when the view has no live row of it. */
bool view_locate(const struct view *v, uint64_t sequence, size_t *out_chunk, uint32_t *out_row,
                 struct err *e);

/* Everything of one row but its encoding, copied into `a`. */
int view_example(const struct view *v, size_t chunk, uint32_t row, struct arena *a,
                 struct example *out, struct err *e);

/* Live examples with sequence > after (after_none: from the start), at most `limit`, ascending. */
int view_page(const struct view *v, uint64_t after, bool from_start, size_t limit, struct arena *a,
              struct example **out, size_t *out_count, struct err *e);

#endif
