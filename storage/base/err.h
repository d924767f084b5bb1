/* err.h - the one error type of the house: a code, one line of text, and what was at fault.
 *
 * Functions that can fail return int (0, or the enum err_code that was set) and take `struct err
 * *e` last. Outputs (`out_*`) are untouched on failure. The text is one impersonal line with the
 * numbers a person needs. The deepest failure speaks; callers may add context with err_wrap, never
 * replace it. Thread: an err belongs to its caller; nothing here is shared. Memory: no allocation.
 */
#ifndef STORAGE_BASE_ERR_H
#define STORAGE_BASE_ERR_H

#include <stdbool.h>
#include <stdint.h>

/* One row a code: NAME, word on the wire (stable, documented in docs/protocol.md), HTTP status,
 * may the same request succeed later unchanged, what it means. */
#define ERR_LIST(X)                                                                                \
    X(INVALID, "invalid_request", 400, false, "a parameter or field is not what the route takes")  \
    X(BAD_HTTP, "bad_http", 400, false, "the bytes are not a well-formed HTTP/1.1 request")        \
    X(BAD_JSON, "bad_json", 400, false, "the JSON does not parse or has the wrong shape")          \
    X(BAD_TENSOR, "bad_safetensors", 400, false, "the safetensors file is malformed")              \
    X(BAD_FILTER, "bad_filter", 400, false, "a filter or path does not parse; index is the byte")  \
    X(BAD_UTF8, "bad_utf8", 400, false, "a text is not UTF-8")                                     \
    X(UNAUTHORIZED, "unauthorized", 401, false, "no key, or a key that is not known")              \
    X(KEY_EXPIRED, "key_expired", 401, false, "the key was right and has ended")                   \
    X(FORBIDDEN, "forbidden", 403, false, "the key lacks the scope or is of another corpus")       \
    X(UNKNOWN_ROUTE, "unknown_route", 404, false, "no such route")                                 \
    X(UNKNOWN_CORPUS, "unknown_corpus", 404, false, "no such corpus")                              \
    X(UNKNOWN_EXAMPLE, "unknown_example", 404, false, "no such example in the corpus")             \
    X(UNKNOWN_BATCH, "unknown_batch", 404, false, "no such batch in the corpus")                   \
    X(UNKNOWN_JOB, "unknown_job", 404, false, "no such job")                                       \
    X(UNKNOWN_TASK, "unknown_task", 404, false, "no such task in the corpus")                      \
    X(UNKNOWN_QUERY, "unknown_query", 404, false, "no such saved query in the corpus")             \
    X(NO_ENCODER, "no_encoder", 404, false, "the server was started without an encoder")           \
    X(UNKNOWN_KEY, "unknown_key", 404, false, "no such key")                                       \
    X(METHOD, "method_not_allowed", 405, false, "the path exists, the method does not")            \
    X(SLOW_CLIENT, "request_timeout", 408, true, "the request did not arrive in time")             \
    X(CONFLICT, "conflict", 409, false, "something else stands under this name")                   \
    X(CORPUS_CONFLICT, "corpus_conflict", 409, false, "the corpus exists with another definition") \
    X(BATCH_CONFLICT, "batch_conflict", 409, false, "the batch exists with other content")         \
    X(ENCODED, "corpus_encoded", 409, false, "the corpus takes finished encodings, not gradients") \
    X(EMPTY, "corpus_empty", 409, true, "the corpus has no examples yet")                          \
    X(NOT_FITTED, "not_fitted", 409, true, "the corpus must be fitted first")                      \
    X(TASK_STALE, "task_stale", 409, false, "the corpus was fitted again after the task was made") \
    X(DAMAGED, "corpus_damaged", 409, false,                                                       \
      "part of the corpus is damaged: `ascribed repair` first")                                    \
    X(FINGERPRINT, "fingerprint_mismatch", 409, false, "made for another corpus manifest")         \
    X(LENGTH, "length_required", 411, false, "the route needs a body")                             \
    X(TOO_LARGE, "too_large", 413, false, "larger than a documented limit")                        \
    X(URI_TOO_LONG, "uri_too_long", 414, false, "the request target is too long")                  \
    X(MEDIA, "unsupported_media_type", 415, false, "the body's type is not one the route takes")   \
    X(WRONG_DIM, "wrong_dimension", 422, false, "the vectors have another dimension")              \
    X(WRONG_DTYPE, "wrong_dtype", 422, false, "the tensor has a dtype that is not taken here")     \
    X(NOT_FINITE, "not_finite", 422, false, "a value is NaN or infinite")                          \
    X(ZERO_GRADIENT, "zero_gradient", 422, false, "a row is all zeros and has no direction")       \
    X(BAD_ID, "bad_id", 422, false, "an id is empty, too long, not UTF-8 or has control bytes")    \
    X(DUPLICATE_ID, "duplicate_id", 422, false, "one id twice in one batch")                       \
    X(HEADERS_TOO_LARGE, "headers_too_large", 431, false, "the header block is too large")         \
    X(RATE_LIMITED, "rate_limited", 429, true, "the key has used up its rate; see Retry-After")    \
    X(CANCELLED, "cancelled", 499, true, "the client left or the job was cancelled")               \
    X(INTERNAL, "internal", 500, false, "a fault of the server; the log has the request id")       \
    X(CORRUPT, "corrupt", 500, false, "stored data is damaged; the text names what and where")     \
    X(IO, "io_error", 500, false, "the operating system failed a read or write")                   \
    X(SYNC_FAILED, "sync_failed", 500, false, "a sync failed; the store takes no more writes")     \
    X(ENCODER, "encoder_failed", 502, true, "the encoder died, refused or made no sense")          \
    X(BUSY, "busy", 503, true, "a bounded queue or budget is full")                                \
    X(STALE, "stale_encoding", 503, true, "the corpus was fitted while this was being encoded")    \
    X(DRAINING, "draining", 503, true, "the server is shutting down")                              \
    X(DEADLINE, "deadline", 504, true, "the work did not finish within its deadline")              \
    X(ENCODER_TIMEOUT, "encoder_timeout", 504, true, "the encoder did not answer in time")         \
    X(FULL, "storage_full", 507, true, "no room on the disk")

enum err_code {
    ERR_OK = 0,
#define ERR_ENUM(name, word, status, retry, meaning) ERR_##name,
    ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
        ERR_COUNT
};

enum { ERR_TEXT_MAX = 256, ERR_FIELD_MAX = 64 };

struct err {
    enum err_code code;
    char text[ERR_TEXT_MAX];   /* one line, no newline, always terminated */
    char field[ERR_FIELD_MAX]; /* name of the field or tensor at fault, or "" */
    int64_t index;             /* row, line or byte at fault (the text says which), or -1 */
    int64_t limit;             /* the limit that was passed, or -1 */
};

/* Back to "no error". Every struct err starts here (or as ERR_INIT). */
#define ERR_INIT ((struct err){.code = ERR_OK, .index = -1, .limit = -1})
void err_clear(struct err *e);

/* Sets code and text; clears field, index and limit. Returns `code`, for `return err_set(...)`. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds what was at fault to an error that is set. Each returns the error's code. */
int err_at_field(struct err *e, const char *field);
int err_at_index(struct err *e, int64_t index);
int err_at_limit(struct err *e, int64_t limit);

/* Puts context in front: "open shard 3: " + what stood there. Does nothing on no error. */
void err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Sets from an errno value: ENOSPC and EDQUOT become FULL, ENOMEM becomes BUSY, the rest IO.
 * `what` says what was tried. Returns the code. */
int err_errno(struct err *e, int errno_value, const char *what);

/* The table's columns. `code` must be a member of the enum. */
const char *err_word(enum err_code code);
int err_status(enum err_code code);
bool err_retryable(enum err_code code);
const char *err_meaning(enum err_code code);

#endif
