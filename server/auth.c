/* auth.c - see auth.h. The list in memory: keys and their text, the check, the buckets. */
#include "server/auth.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "server/limits.h"
#include "server/server.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"

enum { ID_BYTES = 8, SECRET_BYTES = 32 };

struct auth {
    pthread_mutex_t lock;
    struct auth_key *keys; /* owned, by id */
    size_t count, room;
    double rate, burst; /* requests a second, requests; 0: no limit */
    bool used;          /* a key was, since that was last asked for */
    int64_t used_saved; /* Unix seconds */
};

struct auth *auth_new(void)
{
    struct auth *a = mem_new(1, sizeof *a);

    require(sodium_init() >= 0);
    pthread_mutex_init(&a->lock, NULL);
    a->used_saved = (int64_t)time(NULL);
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

void auth_set_rate(struct auth *a, uint64_t rate, uint64_t burst)
{
    a->rate = (double)rate;
    a->burst = (double)burst;
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

int auth_make(const struct auth_grant *grant, struct auth_key *out, char text[AUTH_TEXT_CHARS + 1],
              struct err *e)
{
    unsigned char id[ID_BYTES], secret[SECRET_BYTES];
    char hex[2 * SECRET_BYTES + 1];
    struct auth_key k = {.scopes = grant->scopes, .rate = grant->rate,
                         .created = (int64_t)time(NULL)};

    if (check_label(grant->label, e))
        return (int)e->code;
    require(!grant->corpus || strlen(grant->corpus) <= STORE_NAME_MAX);
    memcpy(k.label, grant->label, strlen(grant->label) + 1);
    if (grant->corpus)
        memcpy(k.corpus, grant->corpus, strlen(grant->corpus) + 1);
    if (grant->lifetime_s)
        k.expires = k.created + (int64_t)grant->lifetime_s;
    randombytes_buf(id, sizeof id);
    randombytes_buf(secret, sizeof secret);
    bytes_hex(id, sizeof id, k.id);
    bytes_hex(secret, sizeof secret, hex);
    hash_secret(secret, k.hash);
    memcpy(text, "asc_", 4); /* not printf, which keeps copies */
    memcpy(text + 4, k.id, AUTH_ID_CHARS);
    text[4 + AUTH_ID_CHARS] = '_';
    memcpy(text + 5 + AUTH_ID_CHARS, hex, sizeof hex);
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

bool auth_is_lasting(const struct auth_key *k)
{
    return (k->scopes & SCOPE_ADMIN) && !k->corpus[0] && !k->expires;
}

bool auth_has_expired(const struct auth_key *k, int64_t now)
{
    return k->expires && k->expires <= now && !planted(EXPIRED_TAKEN);
}

static size_t lasting(const struct auth *a)
{
    size_t n = 0;

    for (size_t i = 0; i < a->count; i++)
        n += auth_is_lasting(&a->keys[i]);
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
    } else if (auth_is_lasting(&a->keys[at]) && lasting(a) == 1) {
        rc = err_set(e, ERR_CONFLICT,
                     "%s is the last admin key that does not expire; make another one first", id);
    } else {
        *out = a->keys[at];
        memmove(a->keys + at, a->keys + at + 1, (a->count - at - 1) * sizeof *a->keys);
        a->count--;
    }
    pthread_mutex_unlock(&a->lock);
    return rc;
}

bool auth_copy(struct auth *a, const char *id, struct auth_key *out)
{
    bool there;
    size_t at;

    pthread_mutex_lock(&a->lock);
    at = place(a, id, &there);
    if (there)
        *out = a->keys[at];
    pthread_mutex_unlock(&a->lock);
    return there;
}

bool auth_find(struct auth *a, const char *id, struct auth_key *out)
{
    bool there = auth_copy(a, id, out);

    if (there)
        memset(out->hash, 0, sizeof out->hash);
    return there;
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

bool auth_used_due(struct auth *a)
{
    int64_t now = (int64_t)time(NULL);
    bool due;

    pthread_mutex_lock(&a->lock);
    due = a->used && now - a->used_saved >= LIMIT_KEY_USED_S;
    if (due)
        a->used_saved = now;
    pthread_mutex_unlock(&a->lock);
    return due;
}

bool auth_take_used(struct auth *a)
{
    bool used;

    pthread_mutex_lock(&a->lock);
    used = a->used;
    a->used = false;
    pthread_mutex_unlock(&a->lock);
    return used;
}

/* ---- the check ------------------------------------------------------------------------------- */

static int unauthorized(struct err *e, const char *what)
{
    return err_set(e, ERR_UNAUTHORIZED, "%s", what);
}

/* A token bucket: it fills at the rate, holds `burst`, and each request takes one. Under the
 * lock. False: empty, and *out_wait_s says when it is not. */
static bool draw(const struct auth *a, struct auth_key *k, uint64_t now_ns, unsigned *out_wait_s)
{
    double rate = k->rate ? (double)k->rate : a->rate;
    double burst = k->rate || a->burst == 0 ? 2 * rate : a->burst;

    if (rate == 0)
        return true;
    if (burst < 1)
        burst = 1;
    if (!k->filled_ns)
        k->tokens = burst;
    else
        k->tokens += (double)(now_ns - k->filled_ns) * 1e-9 * rate;
    if (k->tokens > burst)
        k->tokens = burst;
    k->filled_ns = now_ns;
    if (k->tokens < 1) {
        *out_wait_s = 1 + (unsigned)((1 - k->tokens) / rate);
        return false;
    }
    k->tokens -= 1;
    return true;
}

static int expired(const struct auth_key *k, struct err *e)
{
    time_t when = (time_t)k->expires;
    char text[32];
    struct tm tm;

    gmtime_r(&when, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return err_set(e, ERR_KEY_EXPIRED, "the key %s ended at %s", k->id, text);
}

/* The secret was right. */
static int admit(struct auth *a, const char *id, struct auth_caller *out, struct err *e)
{
    int64_t now = (int64_t)time(NULL);
    struct auth_key *k;
    bool there;
    int code = 0;
    size_t at;

    pthread_mutex_lock(&a->lock);
    at = place(a, id, &there);
    k = there ? &a->keys[at] : NULL;
    if (!k) {
        code = unauthorized(e, "the key is not known");
    } else if (auth_has_expired(k, now)) {
        code = expired(k, e);
    } else {
        memcpy(out->label, k->label, sizeof out->label);
        memcpy(out->corpus, k->corpus, sizeof out->corpus);
        out->scopes = k->scopes;
        a->used = true;
        k->used = now;
        if (!draw(a, k, server_now(), &out->wait_s))
            code = err_set(e, ERR_RATE_LIMITED, "the key %s has used up its rate", id);
    }
    pthread_mutex_unlock(&a->lock);
    return code;
}

/* Does a key of this id have this secret? What an unknown id is compared with: nobody has a secret
 * of the hash zero. */
static bool right(struct auth *a, const char *id, const unsigned char secret[SECRET_BYTES])
{
    unsigned char hash[AUTH_HASH_BYTES], kept[AUTH_HASH_BYTES] = {0};
    size_t at;
    bool there;

    hash_secret(secret, hash);
    pthread_mutex_lock(&a->lock);
    at = place(a, id, &there);
    if (there)
        memcpy(kept, a->keys[at].hash, sizeof kept);
    pthread_mutex_unlock(&a->lock);
    return sodium_memcmp(hash, kept, sizeof hash) == 0 && there;
}

int auth_check(struct auth *a, const char *header, struct auth_caller *out, struct err *e)
{
    unsigned char secret[SECRET_BYTES];
    int code;

    memset(out, 0, sizeof *out);
    if (!header)
        return unauthorized(e, "no key: send Authorization: Bearer KEY (in a URL none is taken)");
    if (strncasecmp(header, "Bearer ", 7) != 0)
        return unauthorized(e, "of the schemes only Bearer is taken");
    header += 7 + strspn(header + 7, " ");
    if (!parse_text(header, out->id, secret))
        code = unauthorized(e, "the key has not the form asc_<id>_<secret>");
    else if (!right(a, out->id, secret))
        code = unauthorized(e, "the key is not known");
    else
        code = admit(a, out->id, out, e);
    sodium_memzero(secret, sizeof secret);
    return code;
}
