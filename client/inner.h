/* inner.h - what the files of libascribe share and never show. Public names start with asc_, these
 * with asc__ (the version script keeps them inside the shared library).
 *
 * The library stands alone: it includes nothing of storage, index or server, so that it can be
 * lifted out and shipped with a program.
 */
#ifndef CLIENT_INNER_H
#define CLIENT_INNER_H

#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/ascribe.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are sent as they lie in memory");

enum {
    ASC__TENSOR_HEADER_MAX = 1 << 20, /* the protocol's bound */
    ASC__PIECE = 1 << 20,             /* bytes read from a file at once */
    ASC__PROBLEM_MAX = 1 << 16,       /* an error document is a few hundred bytes */
    ASC__PAUSE_MAX_MS = 60000,        /* no Retry-After makes us wait longer */
};

/* --- error.c: filling a struct asc_error; each returns the status ----------------------------- */
int asc__fail(struct asc_error *e, enum asc_status status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int asc__fail_errno(struct asc_error *e, enum asc_status status, int errno_value, const char *what);
/* From an answer >= 400: its problem+json when it is one, else its status. */
int asc__fail_answer(struct asc_error *e, int http_status, const char *body, size_t len);
/* "corpora/x: " in front of the detail. */
void asc__wrap(struct asc_error *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- text.c: a growable buffer with sticky failure; paths; names ------------------------------ */
struct asc__buf {
    char *data; /* owned; NUL after len when not NULL */
    size_t len, cap;
    bool failed;
};

void asc__buf_add(struct asc__buf *b, const void *bytes, size_t len);
void asc__buf_text(struct asc__buf *b, const char *text);
void asc__buf_format(struct asc__buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void asc__buf_json(struct asc__buf *b, const char *text); /* quoted; sets failed when not UTF-8 */
void asc__buf_free(struct asc__buf *b);
/* Percent-encodes one path segment or query value. */
void asc__buf_escape(struct asc__buf *b, const char *segment);
/* "/v1/corpora/NAME" + rest, NAME checked and encoded. Free the buffer either way. */
int asc__corpus_path(struct asc__buf *b, const char *corpus, const char *rest, struct asc_error *e);
int asc__no_memory(struct asc_error *e, uint64_t bytes);
uint64_t asc__now_ms(void); /* monotonic */

/* --- url.c ------------------------------------------------------------------------------------ */
struct asc__url {
    char *base;   /* "http://host:port", without a slash at the end; owned */
    char *socket; /* path of a unix socket, or NULL; owned */
    bool plain;   /* http, not https */
};
int asc__url_parse(const char *text, struct asc__url *out, struct asc_error *e);
void asc__url_free(struct asc__url *u);

/* --- body.c: a request's body in parts, in memory or in a file -------------------------------- */
struct asc__part {
    const void *data; /* or NULL and then: */
    int fd;
    uint64_t offset;
    uint64_t len;
};

struct asc__body {
    struct asc__part part[4];
    unsigned count;
    uint64_t len;
    char *head, *text; /* owned: the safetensors header, examples written by us */
};

void asc__body_part(struct asc__body *b, const void *data, uint64_t len);
void asc__body_file(struct asc__body *b, int fd, uint64_t offset, uint64_t len);
/* Copies up to len bytes from `at`; gives how many (0 at the end), or -1 with errno: a file that
 * became shorter is EIO. */
int64_t asc__body_read(const struct asc__body *b, uint64_t at, void *out, size_t len);
/* XXH64, for names; XXH3-128 in hex, by which the server knows a body again. */
int asc__body_hash(const struct asc__body *b, uint64_t *out, struct asc_error *e);
int asc__body_content(const struct asc__body *b, char out[ASC_HASH_MAX + 1], struct asc_error *e);
/* To a temporary name beside `path`, synced, then renamed. */
int asc__body_save(const struct asc__body *b, const char *path, struct asc_error *e);
void asc__body_free(struct asc__body *b);

/* A file that appears whole and synced, or not at all: a temporary name beside it, then a rename.
 */
struct asc__save {
    int fd;
    char *path, *temporary; /* owned */
};
int asc__save_open(struct asc__save *s, const char *path, struct asc_error *e);
int asc__save_write(struct asc__save *s, const void *bytes, size_t len, struct asc_error *e);
/* rc 0: keeps the file; else removes it. Gives rc, or what keeping it failed with. */
int asc__save_close(struct asc__save *s, int rc, struct asc_error *e);

/* batch.c: the safetensors bodies of a batch and of a query. Free with asc__body_free, also on
 * failure. */
int asc__body_of_batch(const struct asc_batch *batch, struct asc__body *out, struct asc_error *e);
int asc__body_of_query(const struct asc_query *q, struct asc__body *out, struct asc_error *e);
/* One tensor `name` of at most `most` rows, from the query's vectors or body. */
int asc__body_of_vectors(const struct asc_query *q, const char *name, uint64_t most,
                         struct asc__body *out, struct asc_error *e);

/* One row `gradient` and the JSON text `query`. */
int asc__body_of_saved(const struct asc_query *q, const char *members, struct asc__body *out,
                       struct asc_error *e);

/* asc_batch_name for a body. */
int asc__name_of(uint64_t position, const struct asc__body *b, char out[ASC_NAME_MAX + 1],
                 struct asc_error *e);

/* --- npy.c, tensor.c, matrix.c: files of vectors ---------------------------------------------- */
struct asc__npy {
    enum asc_dtype dtype;
    uint64_t rows, dim;
    uint64_t data_offset;
};
enum { ASC__NPY_HEADER_MAX = 1 << 16 };
/* Checks the first bytes of a .npy (`len` of them; the whole file or at least its header) against
 * the file's size. No I/O. */
int asc__npy_parse(const unsigned char *head, size_t len, uint64_t file_size, struct asc__npy *out,
                   struct asc_error *e);

struct asc__tensor {
    char name[128];
    char dtype[8];
    uint64_t shape[8];
    unsigned rank;
    uint64_t begin, end; /* bytes from the start of the file */
};

struct asc__tensors {
    struct asc__tensor *list; /* owned, in file order */
    size_t count;
    json_t *metadata; /* owned, or NULL */
};
/* Parses a safetensors header of `len` bytes (without its 8-byte length) for data of data_len. */
int asc__tensors_parse(const char *header, size_t len, uint64_t data_len, struct asc__tensors *out,
                       struct asc_error *e);
/* Reads and parses the header of an open file, or of bytes in memory. */
int asc__tensors_read(int fd, uint64_t file_size, struct asc__tensors *out, struct asc_error *e);
int asc__tensors_bytes(const void *bytes, size_t len, struct asc__tensors *out,
                       struct asc_error *e);
const struct asc__tensor *asc__tensors_find(const struct asc__tensors *t, const char *name);
void asc__tensors_free(struct asc__tensors *t);
bool asc__dtype_parse(const char *name, enum asc_dtype *out);

/* Opens a regular file for reading; gives its size. -1 on failure. */
int asc__file_open(const char *path, uint64_t *out_size, struct asc_error *e);
/* Reads exactly len bytes at offset. */
int asc__file_read(int fd, uint64_t offset, void *out, size_t len, struct asc_error *e);

struct asc_matrix {
    int fd; /* owned */
    uint64_t rows, dim;
    enum asc_dtype dtype;
    uint64_t offset; /* of row 0 */
    uint64_t file_size;
    int64_t mtime_ns; /* at open: a file that changes while it is sent is refused */
    char *path;       /* owned */
};
int asc__matrix_unchanged(const struct asc_matrix *m, struct asc_error *e);

/* --- http.c: the only file that names curl ---------------------------------------------------- */
enum asc__retry {
    ASC__RETRY_NEVER,
    ASC__RETRY_UNSENT, /* not safe twice: only when the server cannot have begun it */
    ASC__RETRY_SAFE,
};

struct asc__request {
    const char *method;
    const char *path;
    const char *content_type;     /* of the body, or NULL */
    const struct asc__body *body; /* or NULL */
    const char *fingerprint;      /* X-Ascribe-Fingerprint, or NULL */
    enum asc__retry retry;
    /* A 2xx answer's bytes as they come; NULL: kept in the reply. */
    int (*sink)(void *user, const void *bytes, size_t len);
    void *user;
};

struct asc__reply {
    int status;
    char *data; /* owned, NUL added; never NULL on success without a sink */
    size_t len;
};

struct asc_client {
    struct asc_options options; /* defaults filled in; key belongs to the client */
    struct asc__url url;
    char *key_header; /* owned, wiped when freed */
    struct asc__wire *wire;
    atomic_bool cancelled;
};

int asc__wire_open(struct asc__wire **out, struct asc_error *e);
void asc__wire_close(struct asc__wire *w);
int asc__perform(struct asc_client *c, const struct asc__request *r, struct asc__reply *out,
                 struct asc_error *e);
/* The pause before attempt + 1: doubling from backoff_ms, a jitter of a quarter, at least what the
 * server asked for, at most ASC__PAUSE_MAX_MS. */
uint64_t asc__pause_ms(const struct asc_options *o, unsigned attempt, int retry_after_s,
                       uint32_t random);

/* damage.c: of a whole answer. Clear it after a failure as well. */
int asc__damage_fill(const json_t *answer, struct asc_damage *out, struct asc_error *e);
void asc__damage_clear(struct asc_damage *d);

/* query.c: the hits of a search; an answer's JSON and its results go together. */
int asc__answer_of_search(const json_t *o, struct asc_answer *a, struct asc_error *e);

/* --- json.c: answers -------------------------------------------------------------------------- */
/* Performs and parses a JSON object; *out is owned by the caller (json_decref). */
int asc__call(struct asc_client *c, const char *method, const char *path, const char *json,
              enum asc__retry retry, json_t **out, int *out_status, struct asc_error *e);
/* job.c: the answer to a request that starts a job, or a job alone */
int asc__job_fill(const json_t *o, struct asc_job *out, struct asc_error *e);
int asc__json_parse(const char *text, size_t len, json_t **out, struct asc_error *e);
uint64_t asc__json_u64(const json_t *o, const char *name);
double asc__json_real(const json_t *o, const char *name, double otherwise);
void asc__json_word(const json_t *o, const char *name, char *out, size_t cap);
/* A copy of a string; of a string member; of any member as JSON. NULL when there is none. The
 * caller's. */
char *asc__json_text(const json_t *v, size_t *out_len);
char *asc__json_copy(const json_t *o, const char *name, size_t *out_len);
char *asc__json_dump(const json_t *o, const char *name);
int asc__json_missing(struct asc_error *e, const char *what, const char *member);

#endif
