/* auth.c - see auth.h. */
#include "server/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "server/limits.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/store.h"

enum { ID_BYTES = 8, SECRET_BYTES = 32, RECORD_VERSION = 1 };
enum { RECORD_HEAD = 1 + 1 + 8 + AUTH_HASH_BYTES }; /* then the label */

/* The label of the key in DIR/admin.key; it is what --new-admin-key withdraws. */
static const char FILE_LABEL[] = "admin.key";

struct auth {
    pthread_mutex_t lock;
    struct auth_key *keys; /* owned, by id */
    size_t count, room;
};

struct auth *auth_new(void)
{
    struct auth *a = mem_new(1, sizeof *a);

    require(sodium_init() >= 0);
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

void auth_free(struct auth *a)
{
    if (!a)
        return;
    pthread_mutex_destroy(&a->lock);
    free(a->keys);
    free(a);
}

/* ---- keys and their text --------------------------------------------------------------------- */

static void hash_secret(const unsigned char secret[SECRET_BYTES],
                        unsigned char out[AUTH_HASH_BYTES])
{
    crypto_generichash(out, AUTH_HASH_BYTES, secret, SECRET_BYTES, NULL, 0);
}

bool auth_scopes_from_name(const char *name, unsigned *out)
{
    if (strcmp(name, "read") == 0)
        *out = SCOPE_READ;
    else if (strcmp(name, "write") == 0)
        *out = SCOPE_READ | SCOPE_WRITE;
    else if (strcmp(name, "admin") == 0)
        *out = SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN;
    else
        return false;
    return true;
}

const char *auth_scopes_name(unsigned scopes)
{
    if (scopes & SCOPE_ADMIN)
        return "admin";
    if (scopes & SCOPE_WRITE)
        return "write";
    return scopes & SCOPE_READ ? "read" : "none";
}

static int check_label(const char *label, struct err *e)
{
    size_t len = strlen(label);

    if (len > AUTH_LABEL_MAX) {
        err_set(e, ERR_INVALID, "the label has %zu bytes, at most %d are taken", len,
                AUTH_LABEL_MAX);
        err_at_limit(e, AUTH_LABEL_MAX);
        return err_at_field(e, "label");
    }
    for (const unsigned char *p = (const unsigned char *)label; *p; p++)
        if (*p < ' ' || *p == 0x7f) {
            err_set(e, ERR_INVALID, "the label has a control character");
            return err_at_field(e, "label");
        }
    if (bytes_utf8_error(label, len) != len) {
        err_set(e, ERR_BAD_UTF8, "the label is not UTF-8");
        return err_at_field(e, "label");
    }
    return 0;
}

int auth_make(unsigned scopes, const char *label, struct auth_key *out,
              char text[AUTH_TEXT_CHARS + 1], struct err *e)
{
    unsigned char id[ID_BYTES], secret[SECRET_BYTES];
    char hex[2 * SECRET_BYTES + 1];
    struct auth_key k = {.scopes = scopes, .created = (int64_t)time(NULL)};

    if (check_label(label, e))
        return (int)e->code;
    memcpy(k.label, label, strlen(label) + 1);
    randombytes_buf(id, sizeof id);
    randombytes_buf(secret, sizeof secret);
    bytes_hex(id, sizeof id, k.id);
    bytes_hex(secret, sizeof secret, hex);
    hash_secret(secret, k.hash);
    snprintf(text, AUTH_TEXT_CHARS + 1, "asc_%s_%s", k.id, hex);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(hex, sizeof hex);
    *out = k;
    return 0;
}

/* asc_<16 hex>_<64 hex>: false when the text has another form. */
static bool parse_text(const char *text, char id[AUTH_ID_CHARS + 1],
                       unsigned char secret[SECRET_BYTES])
{
    size_t bytes;

    if (strlen(text) != AUTH_TEXT_CHARS || strncmp(text, "asc_", 4) != 0 || text[20] != '_' ||
        strspn(text + 4, "0123456789abcdef") != AUTH_ID_CHARS)
        return false;
    memcpy(id, text + 4, AUTH_ID_CHARS);
    id[AUTH_ID_CHARS] = '\0';
    return sodium_hex2bin(secret, SECRET_BYTES, text + 21, 2 * SECRET_BYTES, NULL, &bytes, NULL) ==
               0 &&
           bytes == SECRET_BYTES;
}

/* ---- the list: sorted by id, under the lock -------------------------------------------------- */

static size_t place(const struct auth *a, const char *id, bool *out_there)
{
    size_t low = 0, high = a->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(a->keys[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *out_there = low < a->count && strcmp(a->keys[low].id, id) == 0;
    return low;
}

void auth_publish(struct auth *a, const struct auth_key *k)
{
    size_t at;
    bool there;

    pthread_mutex_lock(&a->lock);
    at = place(a, k->id, &there);
    if (!there) {
        if (a->count == a->room) {
            a->room = a->room ? 2 * a->room : 16;
            a->keys = realloc(a->keys, a->room * sizeof *a->keys);
            require(a->keys != NULL);
        }
        memmove(a->keys + at + 1, a->keys + at, (a->count - at) * sizeof *a->keys);
        a->count++;
    }
    a->keys[at] = *k;
    pthread_mutex_unlock(&a->lock);
}

static size_t admins(const struct auth *a)
{
    size_t n = 0;

    for (size_t i = 0; i < a->count; i++)
        n += (a->keys[i].scopes & SCOPE_ADMIN) != 0;
    return n;
}

int auth_withdraw(struct auth *a, const char *id, struct auth_key *out, struct err *e)
{
    size_t at;
    bool there;
    int rc = 0;

    pthread_mutex_lock(&a->lock);
    at = place(a, id, &there);
    if (!there) {
        rc = err_set(e, ERR_UNKNOWN_KEY, "no key has the id \"%.32s\"", id);
    } else if ((a->keys[at].scopes & SCOPE_ADMIN) && admins(a) == 1) {
        rc = err_set(e, ERR_CONFLICT, "%s is the last admin key; make another one first", id);
    } else {
        *out = a->keys[at];
        memmove(a->keys + at, a->keys + at + 1, (a->count - at - 1) * sizeof *a->keys);
        a->count--;
    }
    pthread_mutex_unlock(&a->lock);
    return rc;
}

size_t auth_list(struct auth *a, struct auth_key *out, size_t max)
{
    size_t count;

    pthread_mutex_lock(&a->lock);
    count = a->count;
    for (size_t i = 0; i < count && i < max; i++) {
        out[i] = a->keys[i];
        memset(out[i].hash, 0, sizeof out[i].hash);
    }
    pthread_mutex_unlock(&a->lock);
    return count;
}

/* ---- the check ------------------------------------------------------------------------------- */

static int unauthorized(struct err *e, const char *what)
{
    return err_set(e, ERR_UNAUTHORIZED, "%s", what);
}

int auth_check(struct auth *a, const char *header, unsigned *out_scopes,
               char out_id[AUTH_ID_CHARS + 1], struct err *e)
{
    /* what an unknown id is compared with: nobody has a secret of this hash */
    static const unsigned char nobody[AUTH_HASH_BYTES];
    unsigned char secret[SECRET_BYTES], hash[AUTH_HASH_BYTES], kept[AUTH_HASH_BYTES];
    char id[AUTH_ID_CHARS + 1];
    unsigned scopes = 0;
    size_t at;
    bool there;

    if (!header)
        return unauthorized(e, "no key: send Authorization: Bearer KEY");
    if (strncasecmp(header, "Bearer ", 7) != 0)
        return unauthorized(e, "of the schemes only Bearer is taken");
    header += 7 + strspn(header + 7, " ");
    if (!parse_text(header, id, secret))
        return unauthorized(e, "the key has not the form asc_<id>_<secret>");
    hash_secret(secret, hash);
    sodium_memzero(secret, sizeof secret);
    pthread_mutex_lock(&a->lock);
    at = place(a, id, &there);
    memcpy(kept, there ? a->keys[at].hash : nobody, sizeof kept);
    if (there)
        scopes = a->keys[at].scopes;
    pthread_mutex_unlock(&a->lock);
    if (sodium_memcmp(hash, kept, sizeof hash) != 0 || !there)
        return unauthorized(e, "the key is not known");
    *out_scopes = scopes;
    memcpy(out_id, id, sizeof id);
    return 0;
}

/* ---- records --------------------------------------------------------------------------------- */

int auth_save(struct auth *a, struct store *s, const struct auth_key *k, struct err *e)
{
    unsigned char record[RECORD_HEAD + AUTH_LABEL_MAX];
    size_t label = strlen(k->label);
    size_t count = auth_list(a, NULL, 0);

    if (count >= LIMIT_KEYS) {
        err_set(e, ERR_BUSY, "there are %u keys already; take one away first", LIMIT_KEYS);
        return err_at_limit(e, LIMIT_KEYS);
    }
    record[0] = RECORD_VERSION;
    record[1] = (unsigned char)k->scopes;
    bytes_put_le64(record + 2, (uint64_t)k->created);
    memcpy(record + 10, k->hash, AUTH_HASH_BYTES);
    memcpy(record + RECORD_HEAD, k->label, label);
    return store_record_put(s, STORE_KEYS, k->id, AUTH_ID_CHARS, record, RECORD_HEAD + label, e);
}

int auth_erase(struct store *s, const char *id, struct err *e)
{
    return store_record_delete(s, STORE_KEYS, id, strlen(id), e);
}

struct loading {
    struct auth *auth;
    size_t unreadable;
};

static bool load_one(void *arg, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    struct loading *l = arg;
    const unsigned char *record = value;
    struct auth_key k = {.scopes = 0};

    if (key_len != AUTH_ID_CHARS || value_len < RECORD_HEAD ||
        value_len > RECORD_HEAD + AUTH_LABEL_MAX || record[0] != RECORD_VERSION) {
        l->unreadable++;
        return true;
    }
    memcpy(k.id, key, key_len);
    k.scopes = record[1];
    k.created = (int64_t)bytes_get_le64(record + 2);
    memcpy(k.hash, record + 10, AUTH_HASH_BYTES);
    memcpy(k.label, record + RECORD_HEAD, value_len - RECORD_HEAD);
    auth_publish(l->auth, &k);
    return true;
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
static int write_file(const char *dir, const char *text, struct err *e)
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
    failed = write_all(fd, text, strlen(text));
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
    char text[AUTH_TEXT_CHARS + 2];
    struct auth_key k;
    unsigned scopes = 0;
    int rc;

    auth_scopes_from_name("admin", &scopes);
    if (auth_make(scopes, FILE_LABEL, &k, text, e))
        return (int)e->code;
    text[AUTH_TEXT_CHARS] = '\n';
    text[AUTH_TEXT_CHARS + 1] = '\0';
    rc = write_file(store_dir(s), text, e);
    sodium_memzero(text, sizeof text);
    if (rc || auth_save(a, s, &k, e))
        return (int)e->code;
    auth_publish(a, &k);
    return 0;
}

/* The keys that admin.key held before now. */
static int withdraw_old(struct auth *a, struct store *s, const struct auth_key *old, size_t count,
                        struct err *e)
{
    struct auth_key gone;

    for (size_t i = 0; i < count; i++)
        if (strcmp(old[i].label, FILE_LABEL) == 0 &&
            (auth_withdraw(a, old[i].id, &gone, e) || auth_erase(s, old[i].id, e)))
            return (int)e->code;
    return 0;
}

int auth_start(struct auth *a, struct store *s, bool renew, struct err *e)
{
    struct loading l = {.auth = a};
    struct auth_key *old;
    size_t count;
    int rc = 0;

    if (store_record_each(s, STORE_KEYS, "", 0, load_one, &l, e))
        return (int)e->code;
    if (l.unreadable)
        return err_set(e, ERR_CORRUPT, "%zu key records are damaged or of a newer version",
                       l.unreadable);
    if (admins(a) && !renew)
        return 0;
    count = a->count;
    old = mem_new(count, sizeof *old);
    auth_list(a, old, count);
    rc = make_admin(a, s, e);
    if (!rc && renew)
        rc = withdraw_old(a, s, old, count, e);
    free(old);
    return rc;
}
