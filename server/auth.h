/* auth.h - API keys: who may do what, until when, how often, and to which corpus.
 *
 * A key is the text asc_<id>_<secret>: id 16 hex digits (public, for the logs), secret 32 random
 * bytes in hex. Kept of it: BLAKE2b-256 of the secret, never the secret; a fast hash is right
 * because the secret has 256 bits of entropy of its own. Records live in the store's table
 * STORE_KEYS under the id; all are in memory, so a check never touches the store (the loop makes
 * it). Scopes nest: admin includes write includes read.
 *
 * A key may end by itself, may belong to one corpus (then it is never of scope admin) and may have
 * a rate of its own. At all times one admin key is there that never ends by itself. When a key was
 * last used is written down now and then (auth_save_used), not at each use.
 *
 * auth.c is the list in memory, auth_store.c what the store keeps of it and the file admin.key.
 * Threads: auth_check, auth_find, auth_list, auth_publish and auth_withdraw from any thread (one
 * short lock); what touches the store is marked [W] as in storage/store.h.
 */
#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/job.h"
#include "storage/base/err.h"
#include "storage/store.h"

struct auth;

enum {
    AUTH_ID_CHARS = 16,
    AUTH_TEXT_CHARS = 4 + 16 + 1 + 64, /* asc_ id _ secret */
    AUTH_LABEL_MAX = 64,
    AUTH_HASH_BYTES = 32
};

/* The label of the key in DIR/admin.key; no other key is given it. */
#define AUTH_FILE_LABEL "admin.key"

/* What a key is to allow. */
struct auth_grant {
    unsigned scopes;    /* bits of enum scope, nested ones included */
    const char *label;  /* UTF-8, for people; may be "" */
    const char *corpus; /* a name: only this one; NULL: all */
    uint64_t lifetime_s; /* 0: it does not end by itself */
    uint32_t rate;      /* requests a second; 0: the server's */
};

struct auth_key {
    char id[AUTH_ID_CHARS + 1];
    char label[AUTH_LABEL_MAX + 1];
    char corpus[STORE_NAME_MAX + 1]; /* "": all */
    unsigned scopes;
    uint32_t rate;
    int64_t created, expires, used; /* Unix seconds; expires and used: 0 is never */
    unsigned char hash[AUTH_HASH_BYTES];
    double tokens;      /* requests that may come at once (auth.c) */
    uint64_t filled_ns; /* when that was so; 0: a bucket that was never drawn from */
};

/* Who sent a request. */
struct auth_caller {
    char id[AUTH_ID_CHARS + 1]; /* "" when the key had not even the form of one */
    char label[AUTH_LABEL_MAX + 1];
    char corpus[STORE_NAME_MAX + 1];
    unsigned scopes;
    unsigned wait_s; /* RATE_LIMITED: until it may come again */
};

struct auth *auth_new(void);
void auth_free(struct auth *a);

/* Before threads start: requests a second for a key that has no rate of its own, and how many may
 * come at once (0: twice the rate). rate 0: no limit. */
void auth_set_rate(struct auth *a, uint64_t rate, uint64_t burst);

/* [W] At start: loads all records; when no lasting admin key is among them (a new store), or
 * `renew`, makes one, writes DIR/admin.key (0600, durable) and its record. renew withdraws the one
 * before it. Keys that ended more than LIMIT_KEY_MEMORY_S ago are forgotten. */
int auth_start(struct auth *a, struct store *s, bool renew, struct err *e);

/* Checks an Authorization header's value (NULL: there was none) and draws one request from the
 * key's bucket. Fills *out, its id also when the key is refused. UNAUTHORIZED, KEY_EXPIRED,
 * RATE_LIMITED. The same time for an unknown id as for a wrong secret. */
int auth_check(struct auth *a, const char *header, struct auth_caller *out, struct err *e);

/* "read", "write", "admin" to nested bits and back (the highest one names the set). */
bool auth_scopes_from_name(const char *name, unsigned *out);
const char *auth_scopes_name(unsigned scopes);

/* A new key with its secret in `text` (AUTH_TEXT_CHARS and NUL; wipe it). Not yet known to anyone.
 * INVALID on a label that is too long or has control characters, BAD_UTF8. */
int auth_make(const struct auth_grant *grant, struct auth_key *out, char text[AUTH_TEXT_CHARS + 1],
              struct err *e);

/* [W] The record into the store, durable on return; BUSY at LIMIT_KEYS. Then publish. */
int auth_save(struct auth *a, struct store *s, const struct auth_key *k, struct err *e);
/* Makes the key work, or changes it. */
void auth_publish(struct auth *a, const struct auth_key *k);

/* [W] A second key for whoever has this one: same rights, same length of life, a secret of its own
 * (`text`). The old one ends overlap_s from now, or when it would have anyway; what it becomes is
 * *out_old. When it is the key of DIR/admin.key, the file gets the new one. Durable and in force
 * on return; a failure half way leaves both in force. UNKNOWN_KEY, KEY_EXPIRED, BUSY. */
int auth_rotate(struct auth *a, struct store *s, const char *id, uint64_t overlap_s,
                struct auth_key *out_new, struct auth_key *out_old, char text[AUTH_TEXT_CHARS + 1],
                struct err *e);

/* Ends a key at once, for every request that is not yet past its check. UNKNOWN_KEY; CONFLICT for
 * the last lasting admin key. `out` gets what it was, for auth_publish when auth_erase then
 * fails. */
int auth_withdraw(struct auth *a, const char *id, struct auth_key *out, struct err *e);
/* [W] Removes the record, durable on return. */
int auth_erase(struct store *s, const char *id, struct err *e);

/* A copy of one key, its hash zeroed. False: there is none. */
bool auth_find(struct auth *a, const char *id, struct auth_key *out);
/* Copies up to `max` keys, by id, into out; returns how many there are. Hashes are zeroed. */
size_t auth_list(struct auth *a, struct auth_key *out, size_t max);

/* True when a key was used since the last auth_save_used, and that was LIMIT_KEY_USED_S ago. */
bool auth_used_due(struct auth *a);
/* [W] Writes down when each key was last used: one record, durable on return. Nothing when none was
 * since the last time. */
int auth_save_used(struct auth *a, struct store *s, struct err *e);

/* ---- between the auth files ------------------------------------------------------------------ */

/* Was a key used since this was last asked? */
bool auth_take_used(struct auth *a);
/* auth_find, with the hash. */
bool auth_copy(struct auth *a, const char *id, struct auth_key *out);
/* An admin key of every corpus that does not end by itself. */
bool auth_is_lasting(const struct auth_key *k);
/* Has it ended? `now` in Unix seconds. */
bool auth_has_expired(const struct auth_key *k, int64_t now);

#endif
