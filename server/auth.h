/* auth.h - API keys: who may do what.
 *
 * A key is the text asc_<id>_<secret>: id 16 hex digits (public, for the log), secret 32 random
 * bytes in hex. Kept of it: BLAKE2b-256 of the secret, never the secret; a fast hash is right
 * because the secret has 256 bits of entropy of its own. Records live in the store's table
 * STORE_KEYS under the id; all are in memory, so a check never touches the store (the loop makes
 * it). Scopes nest: admin includes write includes read.
 *
 * Threads: auth_check, auth_list, auth_publish and auth_withdraw from any thread (one short
 * lock); what touches the store is marked [W] as in storage/store.h.
 */
#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/job.h"
#include "storage/base/err.h"

struct store;
struct auth;

enum {
    AUTH_ID_CHARS = 16,
    AUTH_TEXT_CHARS = 4 + 16 + 1 + 64, /* asc_ id _ secret */
    AUTH_LABEL_MAX = 64,
    AUTH_HASH_BYTES = 32
};

struct auth_key {
    char id[AUTH_ID_CHARS + 1];
    char label[AUTH_LABEL_MAX + 1]; /* UTF-8, for people; may be "" */
    unsigned scopes;                /* bits of enum scope, nested ones included */
    int64_t created;                /* Unix seconds */
    unsigned char hash[AUTH_HASH_BYTES];
};

struct auth *auth_new(void);
void auth_free(struct auth *a);

/* [W] At start: loads all records; when no admin key is among them (a new store), or `renew`, makes
 * one, writes DIR/admin.key (0600, durable) and its record. renew withdraws the one before it. */
int auth_start(struct auth *a, struct store *s, bool renew, struct err *e);

/* Checks an Authorization header's value (NULL: there was none). Fills *out_scopes and out_id;
 * UNAUTHORIZED otherwise. The same time for an unknown id as for a wrong secret. */
int auth_check(struct auth *a, const char *header, unsigned *out_scopes,
               char out_id[AUTH_ID_CHARS + 1], struct err *e);

/* "read", "write", "admin" to nested bits and back (the highest one names the set). */
bool auth_scopes_from_name(const char *name, unsigned *out);
const char *auth_scopes_name(unsigned scopes);

/* A new key: nothing is known of it yet. `text` is shown to the caller once and kept nowhere.
 * INVALID (field "label") when the label is too long, has control bytes or is not UTF-8. */
int auth_make(unsigned scopes, const char *label, struct auth_key *out,
              char text[AUTH_TEXT_CHARS + 1], struct err *e);

/* [W] The record into the store, durable on return; BUSY at LIMIT_KEYS. Then publish. */
int auth_save(struct auth *a, struct store *s, const struct auth_key *k, struct err *e);
/* Makes the key work. */
void auth_publish(struct auth *a, const struct auth_key *k);

/* Ends a key at once, for every request that is not yet past its check. UNKNOWN_KEY; CONFLICT for
 * the last admin key. `out` gets what it was, for auth_publish when auth_erase then fails. */
int auth_withdraw(struct auth *a, const char *id, struct auth_key *out, struct err *e);
/* [W] Removes the record, durable on return. */
int auth_erase(struct store *s, const char *id, struct err *e);

/* Copies up to `max` keys, by id, into out; returns how many there are. Hashes are zeroed. */
size_t auth_list(struct auth *a, struct auth_key *out, size_t max);

#endif
