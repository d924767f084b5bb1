/* metrics.h - counters, gauges and histograms, as Prometheus text.
 *
 * One X-macro row a number. Adding is one relaxed atomic: any thread, any time. metrics_text reads
 * what is there without stopping anybody, so a page may be torn by a few counts between rows.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"

struct metrics;
struct route;

/* NAME, name on the page, type, factor (what one unit of the stored integer is worth), help */
#define METRIC_LIST(X)                                                                             \
    X(BYTES_IN, "ascribe_received_bytes_total", "counter", 1, "Bytes read from clients")           \
    X(BYTES_OUT, "ascribe_sent_bytes_total", "counter", 1, "Bytes handed to sockets")              \
    X(ACCEPTED, "ascribe_connections_accepted_total", "counter", 1, "Connections accepted")        \
    X(REFUSED, "ascribe_connections_refused_total", "counter", 1, "Connections over the limit")    \
    X(CONNECTIONS, "ascribe_connections", "gauge", 1, "Open connections")                          \
    X(BODY_BYTES, "ascribe_body_bytes", "gauge", 1, "Bodies and large replies in memory")          \
    X(TIMEOUTS, "ascribe_slow_clients_total", "counter", 1, "Clients too slow to send or to read") \
    X(CANCELLED, "ascribe_cancelled_total", "counter", 1, "Requests whose client left")            \
    X(BUSY, "ascribe_busy_total", "counter", 1, "Requests refused because a bound was reached")    \
    X(DENIED, "ascribe_denied_total", "counter", 1, "Requests without a right key")                \
    X(RATE_LIMITED, "ascribe_rate_limited_total", "counter", 1, "Requests past their key's rate")  \
    X(AUDIT_LOST, "ascribe_audit_lost_total", "counter", 1, "Audit lines that met a write error")  \
    X(COMMITS, "ascribe_commits_total", "counter", 1, "Commit groups made durable")                \
    X(COMMIT_JOBS, "ascribe_commit_requests_total", "counter", 1, "Requests in those groups")      \
    X(COMMIT_NS, "ascribe_commit_seconds_total", "counter", 1e-9, "Time spent committing")         \
    X(ROWS_INGESTED, "ascribe_examples_ingested_total", "counter", 1, "Examples stored")           \
    X(ROWS_DUPLICATE, "ascribe_examples_duplicate_total", "counter", 1, "Examples already there")  \
    X(ROWS_DELETED, "ascribe_examples_deleted_total", "counter", 1, "Examples taken down")         \
    X(QUERIES, "ascribe_queries_total", "counter", 1, "Query rows answered")                       \
    X(ROWS_SCANNED, "ascribe_rows_scanned_total", "counter", 1, "Rows an engine looked at")        \
    X(ROWS_EXACT, "ascribe_rows_exact_total", "counter", 1, "Rows scored by the exact kernel")     \
    X(ROWS_BITS, "ascribe_rows_bits_total", "counter", 1, "Rows read in the one-bit plane")        \
    X(ROWS_SIX, "ascribe_rows_six_total", "counter", 1, "Rows read in the six-bit plane")          \
    X(ROWS_LOW, "ascribe_rows_low_total", "counter", 1, "Rows read in the plane of low bits")      \
    X(QUERIES_TASK, "ascribe_queries_task_total", "counter", 1, "Query rows under a task")         \
    X(FITS, "ascribe_fits_total", "counter", 1, "Fits that ended well")                            \
    X(FIT_ROWS, "ascribe_fit_rows_total", "counter", 1, "Rows carried over by fits")               \
    X(AGAIN, "ascribe_encoded_again_total", "counter", 1, "Batches that met a fit on their way")   \
    X(TASKS_MADE, "ascribe_tasks_made_total", "counter", 1, "Tasks made")                          \
    X(TASKS_EXTENDED, "ascribe_tasks_extended_total", "counter", 1, "Denominators written anew")   \
    X(SCAN_NS, "ascribe_scan_seconds_total", "counter", 1e-9, "Time spent searching, all threads") \
    X(SCAN_WAIT_NS, "ascribe_scan_wait_seconds_total", "counter", 1e-9, "Waited for a scan")       \
    X(ENCODER_READY, "ascribe_encoder_ready", "gauge", 1, "1: the encoder takes requests")         \
    X(ENCODER_QUEUE, "ascribe_encoder_queue", "gauge", 1, "Requests waiting for the encoder")      \
    X(ENCODER_REQUESTS, "ascribe_encoder_requests_total", "counter", 1, "Asked of the encoder")    \
    X(ENCODER_FAILURES, "ascribe_encoder_failures_total", "counter", 1, "Of those, failed")        \
    X(ENCODER_RESTARTS, "ascribe_encoder_restarts_total", "counter", 1, "Starts after the first")  \
    X(ENCODER_NS, "ascribe_encoder_seconds_total", "counter", 1e-9, "Time it took to answer")      \
    X(CORRUPT, "ascribe_corruption_found_total", "counter", 1, "Damaged blocks or texts met")      \
    X(SCRUB_BYTES, "ascribe_scrub_bytes_total", "counter", 1, "Encodings read again by the scrub") \
    X(SCRUB_DAMAGE, "ascribe_scrub_findings_total", "counter", 1, "Damaged blocks it found")       \
    X(SCRUB_PASSES, "ascribe_scrub_passes_total", "counter", 1, "Times it read everything")        \
    X(SCRUB_LAST, "ascribe_scrub_last_pass_seconds", "gauge", 1, "When it last did, Unix time")    \
    X(FLAT_BYTES, "ascribe_flat_cache_bytes", "gauge", 1, "Engine flat: resident indexes")         \
    X(QUEUE_READ, "ascribe_queue_read", "gauge", 1, "Requests waiting for a reader")               \
    X(QUEUE_WRITE, "ascribe_queue_write", "gauge", 1, "Requests waiting for the writer lane")      \
    X(RUNNING, "ascribe_running", "gauge", 1, "Requests being worked on")                          \
    X(PARKED, "ascribe_parked", "gauge", 1, "Requests in a shared scan, or waiting for one")       \
    X(READERS, "ascribe_readers", "gauge", 1, "Reader threads")                                    \
    X(STORE_CORPORA, "ascribe_store_corpora", "gauge", 1, "Corpora")                               \
    X(STORE_EXAMPLES, "ascribe_store_examples", "gauge", 1, "Live examples")                       \
    X(STORE_TOMBSTONES, "ascribe_store_tombstones", "gauge", 1, "Deleted, not yet purged")         \
    X(STORE_BATCHES, "ascribe_store_batches", "gauge", 1, "Batches")                               \
    X(STORE_SHARDS, "ascribe_store_shards", "gauge", 1, "Shards")                                  \
    X(STORE_CHUNKS, "ascribe_store_chunks", "gauge", 1, "Chunks")                                  \
    X(STORE_LEDGER, "ascribe_store_ledger_bytes", "gauge", 1, "Ledger on disk")                    \
    X(STORE_BYTES, "ascribe_store_shard_bytes", "gauge", 1, "Shards on disk")                      \
    X(STORE_SLOTS, "ascribe_store_reader_slots", "gauge", 1, "LMDB reader slots in use")           \
    X(RSS, "process_resident_memory_bytes", "gauge", 1, "Resident memory, page cache included")    \
    X(UPTIME, "ascribe_uptime_seconds", "gauge", 1, "Since start")

enum metric {
#define METRIC_ENUM(name, word, type, factor, help) METRIC_##name,
    METRIC_LIST(METRIC_ENUM)
#undef METRIC_ENUM
        METRIC_COUNT
};

/* `routes` is the table the per-route rows are kept for. */
struct metrics *metrics_new(const struct route *routes, size_t route_count);
void metrics_free(struct metrics *m);

void metrics_add(struct metrics *m, enum metric which, uint64_t n);
void metrics_set(struct metrics *m, enum metric which, uint64_t value);
uint64_t metrics_get(const struct metrics *m, enum metric which);

/* One finished request. route is NULL when none was found. Loop thread (the transport calls it). */
void metrics_request(struct metrics *m, const struct route *route, int status, uint64_t ns);

/* One scan that answered so many requests. Any thread. */
void metrics_scan(struct metrics *m, size_t requests);

/* Appends the whole page (text/plain; version=0.0.4). */
void metrics_text(const struct metrics *m, struct buf *out);

#endif
