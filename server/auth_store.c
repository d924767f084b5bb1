/* auth_store.c - see auth.h. What the store keeps of the keys: a record each, one record of when
 * they were last used, and the file admin.key. All of it [W], or at start. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/auth.h"
#include "server/limits.h"
#include "storage/base/bytes.h"
#include "storage/base/mem.h"

/* u8 version, u8 scopes, u64 created, the hash; from version 2 on u64 expires, u32 rate, u8 length
 * of the corpus, the corpus; then the label. */
enum { VERSION_1 = 1, VERSION_2 = 2 };
enum { HEAD_1 = 1 + 1 + 8 + AUTH_HASH_BYTES, HEAD_2 = HEAD_1 + 8 + 4 + 1 };
enum { RECORD_MAX = HEAD_2 + STORE_NAME_MAX + AUTH_LABEL_MAX };

/* The record of last use: under a key that is no id; u8 version, then id (as 8 bytes) and u64 Unix
 * seconds for each. */
static const char USED_KEY[] = "used";
enum { USED_VERSION = 1, USED_ROW = AUTH_ID_CHARS / 2 + 8 };

/* ---- records --------------------------------------------------------------------------------- */

static int put_record(struct store *s, const struct auth_key *k, struct err *e)
{
    unsigned char record[RECORD_MAX];
    size_t label = strlen(k->label), corpus = strlen(k->corpus);

    record[0] = VERSION_2;
    record[1] = (unsigned char)k->scopes;
    bytes_put_le64(record + 2, (uint64_t)k->created);
    memcpy(record + 10, k->hash, AUTH_HASH_BYTES);
    bytes_put_le64(record + HEAD_1, (uint64_t)k->expires);
    bytes_put_le32(record + HEAD_1 + 8, k->rate);
    record[HEAD_2 - 1] = (unsigned char)corpus;
    memcpy(record + HEAD_2, k->corpus, corpus);
    memcpy(record + HEAD_2 + corpus, k->label, label);
    return store_record_put(s, STORE_KEYS, k->id, AUTH_ID_CHARS, record, HEAD_2 + corpus + label,
                            e);
}

int auth_save(struct auth *a, struct store *s, const struct auth_key *k, struct err *e)
{
    if (auth_list(a, NULL, 0) >= LIMIT_KEYS) {
        err_set(e, ERR_BUSY, "there are %u keys already; take one away first", LIMIT_KEYS);
        return err_at_limit(e, LIMIT_KEYS);
    }
    return put_record(s, k, e);
}

int auth_erase(struct store *s, const char *id, struct err *e)
{
    return store_record_delete(s, STORE_KEYS, id, strlen(id), e);
}

/* False: damaged, or of a version that is not known. */
static bool read_record(const unsigned char *record, size_t len, struct auth_key *k)
{
    size_t head = len && record[0] == VERSION_2 ? HEAD_2 : HEAD_1, corpus = 0;

    if (len < head || record[0] < VERSION_1 || record[0] > VERSION_2)
        return false;
    k->scopes = record[1];
    k->created = (int64_t)bytes_get_le64(record + 2);
    memcpy(k->hash, record + 10, AUTH_HASH_BYTES);
    if (record[0] == VERSION_2) {
        k->expires = (int64_t)bytes_get_le64(record + HEAD_1);
        k->rate = bytes_get_le32(record + HEAD_1 + 8);
        corpus = record[HEAD_2 - 1];
    }
    if (corpus > STORE_NAME_MAX || len - head < corpus || len - head - corpus > AUTH_LABEL_MAX)
        return false;
    memcpy(k->corpus, record + head, corpus);
    memcpy(k->label, record + head + corpus, len - head - corpus);
    return true;
}

static void read_used(struct auth *a, const unsigned char *record, size_t len)
{
    if (len < 1 || record[0] != USED_VERSION)
        return; /* only for people to look at: not worth a refusal to start */
    for (size_t at = 1; len - at >= USED_ROW; at += USED_ROW) {
        char id[AUTH_ID_CHARS + 1];
        struct auth_key k;

        bytes_hex(record + at, AUTH_ID_CHARS / 2, id);
        if (!auth_copy(a, id, &k))
            continue;
        k.used = (int64_t)bytes_get_le64(record + at + AUTH_ID_CHARS / 2);
        auth_publish(a, &k);
    }
}

struct loading {
    struct auth *auth;
    size_t unreadable;
};

static bool load_one(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct loading *l = arg;
    struct auth_key k = {.scopes = 0};

    if (key_len == sizeof USED_KEY - 1 && memcmp(key, USED_KEY, key_len) == 0) {
        read_used(l->auth, value, value_len); /* behind all ids, which are hex digits */
        return true;
    }
    if (key_len != AUTH_ID_CHARS || !read_record(value, value_len, &k)) {
        l->unreadable++;
        return true;
    }
    memcpy(k.id, key, key_len);
    auth_publish(l->auth, &k);
    return true;
}

/* A row, for a key that was ever used. */
static size_t put_used(unsigned char *row, const struct auth_key *k)
{
    size_t bytes;

    if (!k->used || sodium_hex2bin(row, AUTH_ID_CHARS / 2, k->id, AUTH_ID_CHARS, NULL, &bytes,
                                   NULL) != 0)
        return 0;
    bytes_put_le64(row + AUTH_ID_CHARS / 2, (uint64_t)k->used);
    return USED_ROW;
}

int auth_save_used(struct auth *a, struct store *s, struct err *e)
{
    struct auth_key *keys;
    unsigned char *record;
    size_t count, len = 1;
    int code;

    if (!auth_take_used(a))
        return 0;
    keys = mem_new(LIMIT_KEYS, sizeof *keys);
    record = mem_new(1 + LIMIT_KEYS * USED_ROW, 1);
    count = auth_list(a, keys, LIMIT_KEYS);
    record[0] = USED_VERSION;
    for (size_t i = 0; i < count && i < LIMIT_KEYS; i++)
        len += put_used(record + len, &keys[i]);
    code = store_record_put(s, STORE_KEYS, USED_KEY, sizeof USED_KEY - 1, record, len, e);
    free(keys);
    free(record);
    return code;
}

/* ---- admin.key ------------------------------------------------------------------------------- */

static int write_all(int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) ? errno : 0;
}

static int sync_directory(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = 0;

    if (fd < 0)
        return errno;
    if (fsync(fd))
        failed = errno;
    close(fd);
    return failed;
}

/* Beside, synced, renamed: a crash leaves the old file or the new one, whole and 0600. */
static int write_file(const char *dir, const char text[AUTH_TEXT_CHARS + 1], struct err *e)
{
    char path[4096], beside[4096];
    int fd, failed;

    if (snprintf(path, sizeof path, "%s/admin.key", dir) >= (int)sizeof path ||
        snprintf(beside, sizeof beside, "%s/admin.key.new", dir) >= (int)sizeof beside)
        return err_set(e, ERR_INVALID, "the store's path is too long");
    unlink(beside); /* of a start that crashed here */
    fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, errno, beside);
    failed = write_all(fd, text, AUTH_TEXT_CHARS);
    if (!failed)
        failed = write_all(fd, "\n", 1);
    close(fd);
    if (!failed && rename(beside, path))
        failed = errno;
    if (!failed)
        failed = sync_directory(dir);
    return failed ? err_errno(e, failed, path) : 0;
}

/* The file first: a crash in between leaves a key that is not known, and the next start makes
 * another one, because there is still no admin key. */
static int make_admin(struct auth *a, struct store *s, struct err *e)
{
    struct auth_grant all = {.label = AUTH_FILE_LABEL};
    char text[AUTH_TEXT_CHARS + 1];
    struct auth_key k;
    int code;

    auth_scopes_from_name("admin", &all.scopes);
    code = auth_make(&all, &k, text, e);
    if (!code)
        code = write_file(store_dir(s), text, e);
    sodium_memzero(text, sizeof text);
    if (!code)
        code = auth_save(a, s, &k, e);
    if (!code)
        auth_publish(a, &k);
    return code;
}

static int remove_key(struct auth *a, struct store *s, const char *id, struct err *e)
{
    struct auth_key gone;
    int code = auth_withdraw(a, id, &gone, e);

    return code ? code : auth_erase(s, id, e);
}

/* The keys that admin.key held before now. */
static int withdraw_old(struct auth *a, struct store *s, const struct auth_key *old, size_t count,
                        struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(old[i].label, AUTH_FILE_LABEL) == 0 && remove_key(a, s, old[i].id, e))
            return (int)e->code;
    return 0;
}

static bool any_lasting(const struct auth_key *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (auth_is_lasting(&keys[i]))
            return true;
    return false;
}

/* Who rotates keys every day must not run into LIMIT_KEYS after three years. */
static int forget_ended(struct auth *a, struct store *s, const struct auth_key *keys, size_t count,
                        struct err *e)
{
    int64_t before = (int64_t)time(NULL) - LIMIT_KEY_MEMORY_S;

    for (size_t i = 0; i < count; i++)
        if (auth_has_expired(&keys[i], before) && remove_key(a, s, keys[i].id, e))
            return (int)e->code;
    return 0;
}

int auth_start(struct auth *a, struct store *s, bool renew, struct err *e)
{
    struct loading l = {.auth = a};
    struct auth_key *old;
    size_t count;
    int code = 0;

    if (store_record_each(s, STORE_KEYS, "", 0, load_one, &l, e))
        return (int)e->code;
    if (l.unreadable)
        return err_set(e, ERR_CORRUPT, "%zu key records are damaged or of a newer version",
                       l.unreadable);
    count = auth_list(a, NULL, 0);
    old = mem_new(count, sizeof *old);
    auth_list(a, old, count);
    code = forget_ended(a, s, old, count, e);
    if (!code && (renew || !any_lasting(old, count)))
        code = make_admin(a, s, e);
    if (!code && renew)
        code = withdraw_old(a, s, old, count, e);
    free(old);
    return code;
}

/* ---- rotation -------------------------------------------------------------------------------- */

/* The new key is durable before the old one is told to end: at no moment is there none. */
static int replace(struct auth *a, struct store *s, const struct auth_key *fresh,
                   const struct auth_key *old, const char text[AUTH_TEXT_CHARS + 1], struct err *e)
{
    int code = auth_save(a, s, fresh, e);

    if (code)
        return code;
    auth_publish(a, fresh);
    if (auth_is_lasting(fresh) && strcmp(fresh->label, AUTH_FILE_LABEL) == 0)
        code = write_file(store_dir(s), text, e);
    if (!code)
        code = put_record(s, old, e);
    if (!code)
        auth_publish(a, old);
    return code;
}

int auth_rotate(struct auth *a, struct store *s, const char *id, uint64_t overlap_s,
                struct auth_key *out_new, struct auth_key *out_old, char text[AUTH_TEXT_CHARS + 1],
                struct err *e)
{
    int64_t now = (int64_t)time(NULL);
    struct auth_key old, fresh;
    struct auth_grant same;
    uint64_t lifetime;
    int code;

    if (!auth_copy(a, id, &old))
        return err_set(e, ERR_UNKNOWN_KEY, "no key has the id \"%.32s\"", id);
    if (auth_has_expired(&old, now))
        return err_set(e, ERR_CONFLICT, "the key %s has ended; make a new one", id);
    lifetime = old.expires ? (uint64_t)(old.expires - old.created) : 0;
    same = (struct auth_grant){.scopes = old.scopes,
                               .label = old.label,
                               .corpus = old.corpus[0] ? old.corpus : NULL,
                               .lifetime_s = lifetime,
                               .rate = old.rate};
    code = auth_make(&same, &fresh, text, e);
    if (!old.expires || old.expires > now + (int64_t)overlap_s)
        old.expires = now + (int64_t)overlap_s;
    if (!code)
        code = replace(a, s, &fresh, &old, text, e);
    if (code)
        return code;
    *out_new = fresh;
    *out_old = old;
    return 0;
}
