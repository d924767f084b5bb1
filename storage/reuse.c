/* reuse.c - see reuse.h. */
#include "storage/reuse.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/base/bytes.h"
#include "storage/base/mem.h"
#include "storage/chunk.h"
#include "storage/ledger.h"

int reuse_begin(struct reuse *r, const char *base, struct err *e)
{
    char *ledger_dir = fs_join(base, "ledger"), *format = fs_join(base, "FORMAT");
    struct db_latch latch = {0};
    struct ledger_shard shard;
    struct ledger_walk w;
    struct span key, value;
    struct buf ids = {0};
    struct db ledger;
    struct txn t;
    int rc = 0;

    *r = (struct reuse){0};
    if (!fs_exists(format))
        rc = err_set(e, ERR_INVALID, "%s is not a backup", base);
    if (rc == 0)
        rc = ledger_open(&ledger, ledger_dir, true, &latch, e);
    if (rc == 0) {
        txn_begin_read(&t, &ledger);
        ledger_walk_begin(&w, &t, LEDGER_SHARDS, NULL);
        w.lenient = true;
        while (ledger_walk_next(&w, &key, &value))
            if (!w.damaged && ledger_parse_shard(key, value, &shard) &&
                shard.state == LEDGER_SHARD_SEALED)
                buf_add(&ids, &shard.id, sizeof shard.id);
        ledger_walk_end(&w);
        txn_abort(&t);
        db_close(&ledger);
        r->dir = mem_copy(base, strlen(base));
        r->sealed = (uint32_t *)(void *)ids.data;
        r->count = ids.failed ? 0 : ids.len / sizeof *r->sealed;
    }
    free(format);
    free(ledger_dir);
    return rc;
}

void reuse_end(struct reuse *r)
{
    free(r->dir);
    free(r->sealed);
    *r = (struct reuse){0};
}

static bool has(const struct reuse *r, uint32_t id)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->sealed[i] == id)
            return true;
    return false;
}

/* Key, length and header, which holds the checksum over the rest. */
static bool same_block(struct span ka, struct span va, struct span kb, struct span vb)
{
    return ka.len == kb.len && memcmp(ka.bytes, kb.bytes, ka.len) == 0 && va.len == vb.len &&
           va.len >= CHUNK_HEADER_BYTES && memcmp(va.bytes, vb.bytes, CHUNK_HEADER_BYTES) == 0;
}

static bool same_blocks(struct txn *a, struct txn *b)
{
    struct key all = {.len = 0};
    struct span ka, va, kb, vb;
    struct cursor x, y;
    bool more_a, more_b, same = true;

    cursor_open(&x, a, 0);
    cursor_open(&y, b, 0);
    more_a = cursor_seek(&x, &all, &ka, &va);
    more_b = cursor_seek(&y, &all, &kb, &vb);
    while (same && more_a && more_b) {
        same = same_block(ka, va, kb, vb);
        more_a = cursor_next(&x, &ka, &va);
        more_b = cursor_next(&y, &kb, &vb);
    }
    cursor_close(&y);
    cursor_close(&x);
    return same && !more_a && !more_b && a->err.code == ERR_OK && b->err.code == ERR_OK;
}

static bool same_shard(struct shard *live, const char *dir)
{
    struct db_options o = {.map_bytes = 1 << 20, .table_count = 1, .read_only = true};
    struct db_latch latch = {0};
    struct err ignored = ERR_INIT;
    struct txn a, b;
    struct db db;
    bool same;

    if (db_open(&db, dir, &o, &latch, &ignored))
        return false;
    txn_begin_read(&b, &db);
    shard_begin_read(live, &a);
    same = same_blocks(&a, &b);
    txn_abort(&a);
    txn_abort(&b);
    db_close(&db);
    return same;
}

bool reuse_shard(const struct reuse *r, struct shard *live, const char *to)
{
    char name[SHARD_NAME_BYTES], *shards, *dir, *from;
    bool linked;

    if (!r->dir || !live || !atomic_load(&live->sealed) || !has(r, live->id))
        return false;
    shard_name(live->id, name);
    shards = fs_join(r->dir, "shards");
    dir = fs_join(shards, name);
    from = fs_join(dir, "data.mdb");
    linked = fs_size(from) == shard_file_bytes(live) && same_shard(live, dir) &&
             link(from, to) == 0;
    free(from);
    free(dir);
    free(shards);
    return linked;
}
