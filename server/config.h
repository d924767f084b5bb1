/* config.h - what the server was told. One table row a setting (config.c): it serves the flag
 * --name, the environment's ASCRIBE_NAME and the file given by --config; a flag beats the
 * environment, the environment beats the file. Everything is checked before anything is opened.
 * Immutable once loaded: any thread may read it.
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "server/log.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"

enum { CONFIG_LISTEN_MAX = 8 };

struct config {
    const char *store; /* directory; never NULL after config_load */
    const char *file;  /* --config, or NULL */
    const char *listen[CONFIG_LISTEN_MAX]; /* HOST:PORT, [V6]:PORT or unix:PATH */
    size_t listen_count;
    bool create;           /* make the store when missing or empty */
    bool new_admin_key;    /* replace admin.key, revoking the old one */
    bool behind_tls_proxy; /* the operator vouches for TLS in front of a non-loopback bind */
    uint64_t threads;      /* readers; 0 was resolved to the number of processors */
    uint64_t body_limit;   /* bytes of one tensor body */
    uint64_t body_budget;  /* bytes of all bodies in flight together */
    uint64_t memory;       /* bytes engine `flat` may keep resident */
    uint64_t scrub_mib_s;  /* 0: no scrub */
    uint64_t recheck_s;    /* 0: what was found right stays so */
    uint64_t shard_bytes;  /* 0: STORE_SHARD_BYTES */
    uint64_t chunk_bytes;  /* 0: STORE_CHUNK_BYTES */
    uint64_t connections;
    uint64_t read_queue;
    const char *encoder; /* command line of the encoder, or NULL */
    uint64_t encoder_timeout_ms;
    uint64_t deadline_ms, head_ms, idle_ms, write_ms, drain_ms;
    enum log_level log_level;
    bool no_landlock;    /* keep rights that confine.h would give up */
    const char *audit;   /* "log", "off" or a path (server/audit.h) */
    uint64_t rate, rate_burst; /* requests a second of one key, and at once; 0: no limit */
    struct arena arena; /* owns the strings */
};

enum config_result { CONFIG_RUN, CONFIG_HELP, CONFIG_VERSION };

/* Reads flags (argv[0] is skipped), environment and file into *c, defaults for the rest, and
 * checks every value. INVALID, with field = the setting's name, on the first thing that is
 * wrong. Ends with config_free, also after a failure. */
int config_load(struct config *c, int argc, char **argv, enum config_result *out, struct err *e);
void config_free(struct config *c);

/* The settings' part of --help, one row a setting, from the same table. */
void config_help(FILE *out);

/* A number with an optional unit K, M, G or T (powers of 1024). False when it is not one. */
bool config_bytes(const char *text, uint64_t *out);

#endif
