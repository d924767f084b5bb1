/* runtime.h - what every route may reach. Made by main, outlives jobs, freed after the pool. */
#ifndef SERVER_RUNTIME_H
#define SERVER_RUNTIME_H

struct config;
struct cost;
struct encoder;
struct scrubber;
struct store;

struct flat;
struct pool;
struct metrics;
struct audit;
struct auth;
struct tasks;
struct sift;
struct join;
struct bm25;
struct vitals;
struct server;

struct runtime {
    const struct config *config; /* immutable after start */
    struct store *store;
    struct pool *pool;
    struct flat *flat;       /* index/flat.h: the cache of engine `flat` */
    struct sift *sift;       /* server/sift.h: what filters let through */
    struct join *join;       /* server/join.h: scans that requests share */
    struct cost *cost;       /* server/cost.h: which engine for which query */
    struct bm25 *bm25;       /* server/bm25.h: search by words */
    struct vitals *vitals;   /* server/vitals.h: what corpora weigh, and how fast they grow */
    struct scrubber *scrubber; /* server/scrubber.h; NULL: none */
    struct encoder *encoder; /* server/encoder.h: turns text into gradients; NULL: none */
    struct auth *auth;       /* server/auth.h: keys, in memory and in the store */
    struct audit *audit;     /* server/audit.h: who did what; NULL: nobody asks */
    struct metrics *metrics; /* server/metrics.h */
    struct tasks *tasks;     /* server/tasks.h: the registry behind /v1/jobs */
    struct server *server;   /* server/server.h: the transport */
};

#endif
