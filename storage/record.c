/* record.c - the small records beside the data: store_record_* of store.h. */
#include <stdlib.h>
#include <string.h>

#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/store.h"

enum { KEY_BYTES_MAX = 320, PAGE_RECORDS = 256, PAGE_BYTES = 4 << 20 };
#define VALUE_BYTES_MAX ((size_t)1 << 20)

static int make_key(enum store_table t, const void *key, size_t len, struct key *out, struct err *e)
{
    if (len == 0 || len > KEY_BYTES_MAX)
        return err_set(e, ERR_INVALID, "a record key of %zu bytes; 1 to %d are taken", len,
                       KEY_BYTES_MAX);
    out->bytes[0] = (unsigned char)t;
    memcpy(out->bytes + 1, key, len);
    out->len = len + 1;
    return 0;
}

int store_record_put(struct store *s, enum store_table table, const void *key, size_t key_len,
                     const void *value, size_t value_len, struct err *e)
{
    struct txn t;
    struct key k;

    if (make_key(table, key, key_len, &k, e) || catalog_may_write(s, e))
        return (int)e->code;
    if (value_len > VALUE_BYTES_MAX) {
        (void)err_set(e, ERR_TOO_LARGE, "a record of %zu bytes; at most 1 MiB", value_len);
        return err_at_limit(e, (int64_t)VALUE_BYTES_MAX);
    }
    txn_begin_write(&t, &s->ledger);
    ledger_put(&t, LEDGER_RECORDS, &k, value, value_len);
    return txn_commit(&t, e);
}

static int none(struct err *e)
{
    return err_set(e, ERR_UNKNOWN_KEY, "there is no such record");
}

int store_record_get(struct store *s, enum store_table table, const void *key, size_t key_len,
                     struct buf *out, struct err *e)
{
    struct span value;
    struct txn t;
    struct key k;
    bool found;

    if (make_key(table, key, key_len, &k, e))
        return (int)e->code;
    txn_begin_read(&t, &s->ledger);
    found = ledger_get(&t, LEDGER_RECORDS, &k, &value);
    if (found)
        buf_add(out, value.bytes, value.len);
    txn_abort(&t);
    if (t.err.code != ERR_OK) {
        *e = t.err;
        return (int)e->code;
    }
    if (!found)
        return none(e);
    return out->failed ? err_set(e, ERR_BUSY, "no memory for a record") : 0;
}

int store_record_delete(struct store *s, enum store_table table, const void *key, size_t key_len,
                        struct err *e)
{
    struct txn t;
    struct key k;
    bool found;

    if (make_key(table, key, key_len, &k, e) || catalog_may_write(s, e))
        return (int)e->code;
    txn_begin_write(&t, &s->ledger);
    found = ledger_delete(&t, LEDGER_RECORDS, &k);
    if (!found && t.err.code == ERR_OK) {
        txn_abort(&t);
        return none(e);
    }
    return txn_commit(&t, e);
}

/* ---- Walk: a page is copied out, the transaction ended, then the visits are made ------------- */

struct record {
    size_t key_at, key_len, value_at, value_len;
};

struct page {
    struct buf bytes;
    struct record records[PAGE_RECORDS];
    size_t count;
    struct key last; /* the next page starts behind it; empty before the first */
    bool is_end;
};

static void read_page(struct page *p, struct txn *t, const struct key *prefix)
{
    struct ledger_walk w;
    struct span key, value;

    ledger_walk_begin(&w, t, LEDGER_RECORDS, prefix);
    if (p->last.len)
        ledger_walk_after(&w, &p->last);
    p->count = 0;
    p->bytes.len = 0;
    while (p->count < PAGE_RECORDS && p->bytes.len < PAGE_BYTES) {
        p->is_end = !ledger_walk_next(&w, &key, &value);
        if (p->is_end)
            break;
        p->records[p->count++] =
            (struct record){p->bytes.len, key.len, p->bytes.len + key.len, value.len};
        buf_add(&p->bytes, key.bytes, key.len);
        buf_add(&p->bytes, value.bytes, value.len);
        p->last = key_bytes(key.bytes, key.len);
    }
    ledger_walk_end(&w);
}

int store_record_each(struct store *s, enum store_table table, const void *prefix,
                      size_t prefix_len, store_visit *visit, void *arg, struct err *e)
{
    struct page *p = mem_new(1, sizeof *p);
    struct key k = {.len = 1, .bytes = {(unsigned char)table}};
    bool go_on = true;
    int rc = 0;

    if (prefix_len)
        rc = make_key(table, prefix, prefix_len, &k, e);
    while (rc == 0 && go_on && !p->is_end) {
        struct txn t;

        txn_begin_read(&t, &s->ledger);
        read_page(p, &t, &k);
        txn_abort(&t);
        if (t.err.code != ERR_OK) {
            *e = t.err;
            rc = (int)e->code;
        } else if (p->bytes.failed) {
            rc = err_set(e, ERR_BUSY, "no memory for a page of records");
        }
        for (size_t i = 0; rc == 0 && go_on && i < p->count; i++) {
            const struct record *r = &p->records[i];

            go_on = visit(arg, p->bytes.data + r->key_at + 1, r->key_len - 1,
                          p->bytes.data + r->value_at, r->value_len);
        }
    }
    buf_free(&p->bytes);
    free(p);
    return rc;
}
