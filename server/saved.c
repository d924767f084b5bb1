/* saved.c - see saved.h. Keys: 'q' corpus name for an entry, 'g' corpus name NUL nonce for a
 * gradient; the corpus as 4 bytes, big-endian. An entry: nonce, created (8), dim (4), JSON. */
#include "server/saved.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/limits.h"
#include "storage/base/mem.h"

enum { HEAD = SAVED_NONCE + 12, PREFIX = 5, KEY_MAX = PREFIX + STORE_NAME_MAX + 1 + SAVED_NONCE };

struct key {
    unsigned char bytes[KEY_MAX];
    size_t len;
};

static struct key key_of(char kind, uint32_t corpus, const char *name)
{
    struct key k = {.len = PREFIX + strlen(name)};

    k.bytes[0] = (unsigned char)kind;
    bytes_put_be32(k.bytes + 1, corpus);
    memcpy(k.bytes + PREFIX, name, k.len - PREFIX);
    return k;
}

static struct key gradient_key(uint32_t corpus, const char *name,
                               const unsigned char nonce[SAVED_NONCE])
{
    struct key k = key_of('g', corpus, name);

    k.bytes[k.len++] = '\0';
    memcpy(k.bytes + k.len, nonce, SAVED_NONCE);
    k.len += SAVED_NONCE;
    return k;
}

static int unknown(const char *name, struct err *e)
{
    return err_set(e, ERR_UNKNOWN_QUERY, "no saved query \"%s\"", name);
}

static int damaged(const char *name, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "saved query \"%s\": its record does not fit together", name);
}

static bool read_entry(const unsigned char *bytes, size_t len, struct saved *out)
{
    if (len < HEAD)
        return false;
    memcpy(out->nonce, bytes, SAVED_NONCE);
    out->created = bytes_get_le64(bytes + SAVED_NONCE);
    out->dim = bytes_get_le32(bytes + SAVED_NONCE + 8);
    out->text = (const char *)bytes + HEAD;
    out->text_len = len - HEAD;
    return true;
}

int saved_get(struct store *s, uint32_t corpus, const char *name, struct buf *record,
              struct saved *out, struct err *e)
{
    struct key k = key_of('q', corpus, name);
    int code = store_record_get(s, STORE_QUERIES, k.bytes, k.len, record, e);

    if (code == ERR_UNKNOWN_KEY)
        return unknown(name, e);
    if (code)
        return code;
    return read_entry(record->data, record->len, out) ? 0 : damaged(name, e);
}

int saved_gradient(struct store *s, uint32_t corpus, const char *name, const struct saved *of,
                   struct buf *gradient, struct err *e)
{
    struct key k = gradient_key(corpus, name, of->nonce);
    int code = store_record_get(s, STORE_QUERIES, k.bytes, k.len, gradient, e);

    if (code == ERR_UNKNOWN_KEY) /* replaced or deleted since the entry was read */
        return unknown(name, e);
    if (!code && gradient->len != (size_t)of->dim * sizeof(float))
        return damaged(name, e);
    return code;
}

/* ---- walks ----------------------------------------------------------------------------------- */

struct walk {
    saved_visit *visit;
    void *arg;
    struct err *err;
};

static bool visit_entry(void *arg, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
    struct walk *w = arg;
    char name[STORE_NAME_MAX + 1] = "";
    struct saved entry;

    memcpy(name, (const char *)key + PREFIX,
           key_len - PREFIX < sizeof name ? key_len - PREFIX : sizeof name - 1);
    if (!read_entry(value, value_len, &entry)) {
        damaged(name, w->err);
        return false;
    }
    return w->visit(w->arg, name, &entry);
}

int saved_each(struct store *s, uint32_t corpus, saved_visit *visit, void *arg, struct err *e)
{
    struct key k = key_of('q', corpus, "");
    struct walk w = {visit, arg, e};
    int code = store_record_each(s, STORE_QUERIES, k.bytes, k.len, visit_entry, &w, e);

    return code ? code : (int)e->code;
}

static bool count_entry(void *arg, const char *name, const struct saved *entry)
{
    (void)name;
    (void)entry;
    return ++*(size_t *)arg < LIMIT_SAVED;
}

/* ---- changes --------------------------------------------------------------------------------- */

static int check_room(struct store *s, uint32_t corpus, struct err *e)
{
    size_t count = 0;

    if (saved_each(s, corpus, count_entry, &count, e))
        return (int)e->code;
    if (count < LIMIT_SAVED)
        return 0;
    err_set(e, ERR_TOO_LARGE, "the corpus has %u saved queries, the most it takes", LIMIT_SAVED);
    return err_at_limit(e, LIMIT_SAVED);
}

/* The gradient of an entry that is no more. Failure leaves a record that nobody names. */
static void drop_gradient(struct store *s, uint32_t corpus, const char *name,
                          const struct saved *of)
{
    struct key k = gradient_key(corpus, name, of->nonce);
    struct err ignored = ERR_INIT;

    store_record_delete(s, STORE_QUERIES, k.bytes, k.len, &ignored);
}

static int put_records(struct store *s, uint32_t corpus, const char *name, const struct saved *x,
                       const float *gradient, struct err *e)
{
    struct key g = gradient_key(corpus, name, x->nonce), q = key_of('q', corpus, name);
    unsigned char head[HEAD];
    struct buf entry = {0};
    int code;

    memcpy(head, x->nonce, SAVED_NONCE);
    bytes_put_le64(head + SAVED_NONCE, x->created);
    bytes_put_le32(head + SAVED_NONCE + 8, x->dim);
    buf_add(&entry, head, sizeof head);
    buf_add(&entry, x->text, x->text_len);
    if (entry.failed)
        code = err_set(e, ERR_BUSY, "no memory for a saved query");
    else
        code = store_record_put(s, STORE_QUERIES, g.bytes, g.len, gradient,
                                x->dim * sizeof *gradient, e);
    if (!code)
        code = store_record_put(s, STORE_QUERIES, q.bytes, q.len, entry.data, entry.len, e);
    buf_free(&entry);
    return code;
}

int saved_put(struct store *s, uint32_t corpus, const char *name, const char *text, size_t text_len,
              const float *gradient, uint32_t dim, bool *out_created, struct err *e)
{
    struct saved now = {
        .created = (uint64_t)time(NULL), .dim = dim, .text = text, .text_len = text_len};
    struct saved before;
    struct buf record = {0};
    int code = saved_get(s, corpus, name, &record, &before, e);
    bool created = code == ERR_UNKNOWN_QUERY;

    if (created) {
        err_clear(e);
        code = check_room(s, corpus, e);
    }
    randombytes_buf(now.nonce, sizeof now.nonce);
    if (!code)
        code = put_records(s, corpus, name, &now, gradient, e);
    if (!code && !created)
        drop_gradient(s, corpus, name, &before);
    buf_free(&record);
    if (!code)
        *out_created = created;
    return code;
}

int saved_delete(struct store *s, uint32_t corpus, const char *name, struct err *e)
{
    struct key k = key_of('q', corpus, name);
    struct buf record = {0};
    struct saved entry;
    int code = saved_get(s, corpus, name, &record, &entry, e);

    if (!code)
        code = store_record_delete(s, STORE_QUERIES, k.bytes, k.len, e);
    if (!code)
        drop_gradient(s, corpus, name, &entry);
    buf_free(&record);
    return code;
}

static bool keep_key(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct buf *keys = arg;
    unsigned char len[4];

    (void)value;
    (void)value_len;
    bytes_put_le32(len, (uint32_t)key_len);
    buf_add(keys, len, sizeof len);
    buf_add(keys, key, key_len);
    return !keys->failed;
}

/* Whatever is left after a failure is seen by nobody: corpus ids do not come again. */
void saved_forget(struct store *s, uint32_t corpus)
{
    for (const char *kind = "qg"; *kind; kind++) {
        struct key k = key_of(*kind, corpus, "");
        struct err e = ERR_INIT;
        struct buf keys = {0};

        store_record_each(s, STORE_QUERIES, k.bytes, k.len, keep_key, &keys, &e);
        for (size_t at = 0; !e.code && at < keys.len;) {
            size_t len = bytes_get_le32(keys.data + at);

            store_record_delete(s, STORE_QUERIES, keys.data + at + 4, len, &e);
            at += 4 + len;
        }
        buf_free(&keys);
    }
}
