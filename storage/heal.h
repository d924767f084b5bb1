/* heal.h - records of the ledger that are damaged, made again from what else is known. At open.
 *
 *   state      from the numbers in use, and a step beyond them
 *   corpus, state of a corpus, task: from their second record (storage/ledger.h); a task without
 *              one is dropped, for it can be built again
 *   counts     from the chunks, tombstones and batches
 *   shard      from the chunk records that name it; taken for sealed, which is always safe
 *   chunk      from its blocks, when its shard holds a sound table of rows
 *   tombstone  from its key and the chunk's table of rows, unless an id still leads there
 *
 * What was made again is kept on the store, told to whoever opened it (store_healed), and written
 * back in one transaction unless the store is open for reading only. Writer lane, before anybody
 * else is there.
 */
#ifndef STORAGE_HEAL_H
#define STORAGE_HEAL_H

#include "storage/catalog.h"
#include "storage/ledger.h"

struct healed {
    enum ledger_table table;
    uint32_t corpus;
    struct key key; /* of a record that stands twice; else empty */
    bool drop;      /* it goes */
    union {
        struct ledger_meta meta;
        struct ledger_counts counts;
        struct ledger_shard shard;
        struct ledger_chunk chunk;
        struct ledger_tombstone tombstone;
    };
    char line[208]; /* for people */
};

/* Each: true when the record could be made again; then it is noted as well. `t` reads the ledger
 * and has no error before and after. */
void heal_meta(struct store *s, struct txn *t, struct ledger_meta *out);
bool heal_second(struct store *s, struct txn *t, enum ledger_table table, struct span key,
                 struct span *out_value);
void heal_drop(struct store *s, enum ledger_table table, struct span key, const char *line);
bool heal_shard(struct store *s, struct txn *t, uint32_t id, struct ledger_shard *out);
bool heal_chunk(struct store *s, struct shard *const *shards, size_t count, const struct corpus *c,
                uint64_t id, struct ledger_chunk *out);
bool heal_tombstone(struct store *s, struct txn *t, const struct corpus *c, const struct view *v,
                    uint64_t sequence, struct ledger_tombstone *out);
void heal_counts(struct store *s, struct txn *t, const struct corpus *c, const struct view *v,
                 struct ledger_counts *out);

int heal_write(struct store *s, struct err *e);
void heal_free(struct store *s);

#endif
