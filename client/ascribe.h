/* ascribe.h - the C client of ascribe, a database for training-data attribution; the protocol
 * is docs/protocol.md.
 *
 * Link with -lascribe (pkg-config: ascribe). This header needs nothing else of ascribe; the
 * library needs libcurl, jansson and xxhash.
 *
 * Calls block. Those that can fail return 0 or an enum asc_status, and take `struct asc_error *e`
 * last (it may be NULL); outputs are untouched on failure. Strings are UTF-8 and end with a NUL.
 * What a call gives out belongs to the caller and is freed with the function named beside it; what
 * a call takes stays the caller's and need only live until the call returns.
 *
 * Threads: one client is used by one thread at a time (asc_cancel excepted); any number of clients
 * may be used at once. A program with threads calls asc_open once before it starts them, or
 * curl_global_init itself.
 *
 * Retries: a request that is safe to send again is sent again after a refused or broken
 * connection, a timeout, or an answer 408, 502, 503 or 504, with growing pauses (a Retry-After is
 * honoured). Every ingest is safe: its batch name makes it idempotent. Another answer
 * 4xx is never retried.
 */
#ifndef ASCRIBE_H
#define ASCRIBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- Errors ----------------------------------------------------------------------------------- */

enum asc_status {
    ASC_OK = 0,
    ASC_ARGUMENT, /* an argument of the call is wrong; nothing was sent */
    ASC_INPUT,    /* a local file is missing, unreadable or malformed; nothing was sent */
    ASC_NETWORK,  /* no whole answer came: refused, reset, timed out, no such host */
    ASC_REFUSED,  /* the server answered 4xx: it will answer the same again */
    ASC_SERVER,   /* the server answered 5xx */
    ASC_PROTOCOL, /* the answer is not one of protocol version 1, or is larger than max_response */
    ASC_ABORTED,  /* on_tick or asc_cancel asked to stop */
    ASC_MEMORY,   /* no memory for what was asked */
};

/* What went wrong. Filled on every failure; zeroed by nobody but the failing call. */
struct asc_error {
    enum asc_status status;
    int http_status;      /* of the answer, or 0 when none came */
    char code[40];        /* the server's word ("not_finite") or ours ("connection", "timeout") */
    char detail[512];     /* one line for a person, with the numbers */
    char request_id[64];  /* to find it in the server's log, or "" */
    char field[64];       /* the parameter, member or tensor at fault, or "" */
    int64_t index;        /* the row, line or byte at fault, or -1 */
    int64_t limit;        /* the bound that was passed, or -1 */
    int retry_after_s;    /* what the last answer asked for, or -1 */
    unsigned attempts;    /* how many times the request was sent */
};

/* "refused", "network", ...: a static string. */
const char *asc_status_name(enum asc_status status);

/* The library's version, "0.1.0": a static string. */
const char *asc_version(void);

/* Frees memory that a call here gave out as `char *` or `void *`. NULL is fine. */
void asc_free(void *memory);

/* --- A client --------------------------------------------------------------------------------- */

struct asc_client;

/* How one attempt is going. Bytes of bodies, without headers; a retry starts again from 0. */
struct asc_transfer {
    uint64_t sent, send_total;         /* the request's body */
    uint64_t received, receive_total;  /* the answer's body; receive_total is 0 when not known */
    unsigned attempt;                  /* 1 for the first */
};

/* All zero is right: every 0 or NULL means the default. */
struct asc_options {
    size_t size;                 /* sizeof(struct asc_options), or 0: later versions only append */
    const char *key;             /* "asc_<id>_<secret>"; copied. NULL: none is sent */
    unsigned connect_timeout_ms; /* default 5,000 */
    unsigned idle_timeout_ms;    /* no byte either way so long: failed; default 90,000 */
    int retries;                 /* further attempts; default 5; negative: none */
    unsigned backoff_ms;         /* the first pause; doubles to at most 32 times; default 200 */
    uint64_t max_response;       /* bytes of one answer held in memory; default 256 MiB */
    /* Called on the calling thread, at least every 200 ms while a request runs or a pause lasts.
     * Anything but 0 ends the call with ASC_ABORTED. Must not call this client. */
    int (*on_tick)(void *user, const struct asc_transfer *t);
    void *user;
};

/* Makes a client for a server: "http://HOST:PORT", "https://HOST[:PORT][/PREFIX]" (a proxy in
 * front), or "unix:PATH". Connects on the first call. `options` may be NULL. A plain http
 * connection never goes through a proxy, so that the key is not shown to one. Free with asc_close.
 */
int asc_open(const char *url, const struct asc_options *options, struct asc_client **out,
             struct asc_error *e);
void asc_close(struct asc_client *c);

/* Makes the running call, and every later one, return ASC_ABORTED within 200 ms. From any thread or
 * signal handler. */
void asc_cancel(struct asc_client *c);

/* Any request: method, path with its query ("/v1/info"), a JSON body or NULL. Gives the answer's
 * body (NUL added; free with asc_free) and its status. Answers >= 400 are errors as everywhere.
 * Retried as GET, PUT and DELETE are; a POST only when the server cannot have begun it. */
int asc_request(struct asc_client *c, const char *method, const char *path, const char *json,
                char **out_body, size_t *out_len, int *out_status, struct asc_error *e);

/* GET /v1/info as JSON text: version, simd, engines, dtypes, limits, uptime. Free with asc_free. */
int asc_info(struct asc_client *c, char **out_json, struct asc_error *e);

/* 0 when the server is up and takes requests (GET /readyz). Never retried. */
int asc_ready(struct asc_client *c, struct asc_error *e);

/* --- Corpora ---------------------------------------------------------------------------------- */

enum { ASC_NAME_MAX = 63, ASC_ID_MAX = 256 }; /* bytes, without the NUL */

struct asc_corpus {
    char name[ASC_NAME_MAX + 1];
    char fingerprint[65]; /* SHA-256 of the canonical manifest, hex */
    bool whitened;
    bool encoded;
    char dtype[8];        /* what is stored: "f32", "f16", "bf16"; "" in a list */
    uint64_t dim;         /* 0 in a list */
    uint64_t examples;    /* live */
    uint64_t deleted;
    uint64_t batches, chunks, shards;
    uint64_t bytes;
    uint64_t next_sequence;
    uint64_t generation;  /* grows with every change */
    char *manifest;       /* owned: compact JSON; NULL in a list */
};

/* Creates a corpus by its definition (JSON text, docs/protocol.md; {"dim":16384} is enough). The
 * same definition again is no error: *out_created says which it was. out and out_created may be
 * NULL. */
int asc_corpus_create(struct asc_client *c, const char *name, const char *definition,
                      struct asc_corpus *out, bool *out_created, struct asc_error *e);
int asc_corpus_get(struct asc_client *c, const char *name, struct asc_corpus *out,
                   struct asc_error *e);
/* All corpora, as an array of *out_count. Free with asc_corpora_free. */
int asc_corpus_list(struct asc_client *c, struct asc_corpus **out, size_t *out_count,
                    struct asc_error *e);
/* Drops a corpus with everything in it. There is no way back. */
int asc_corpus_drop(struct asc_client *c, const char *name, struct asc_error *e);
/* Frees what is inside (not the struct itself); asc_corpora_free frees a list whole. */
void asc_corpus_clear(struct asc_corpus *corpus);
void asc_corpora_free(struct asc_corpus *list, size_t count);

/* --- Vectors in files ------------------------------------------------------------------------- */

enum asc_dtype { ASC_F32 = 1, ASC_F16 = 2, ASC_BF16 = 3, ASC_F64 = 4 /* answers only */ };

size_t asc_dtype_size(enum asc_dtype t);      /* bytes an element; 0 when not one */
const char *asc_dtype_name(enum asc_dtype t); /* "F32", ...: as in safetensors */

/* A matrix in a file, read in pieces when it is sent, never held whole. One thread at a time may
 * open or close it; asc_ingest and asc_matrix_read may use one from several threads at once. */
struct asc_matrix;

/* Opens a .npy (versions 1 to 3; little-endian f4 or f2, C order, 2-D; 1-D is one row) or a
 * .safetensors file (`tensor` names one; NULL: "gradients", "queries", or the only one). The
 * content decides, not the name. ASC_INPUT with the reason when it is not such a file. Free with
 * asc_matrix_close. */
int asc_matrix_open(const char *path, const char *tensor, struct asc_matrix **out,
                    struct asc_error *e);
/* Opens raw numbers without a header: rows of `dim` elements one after another, little-endian, from
 * the first byte to the last. ASC_INPUT when the file's size is not a whole number of rows. */
int asc_matrix_open_raw(const char *path, uint64_t dim, enum asc_dtype dtype,
                        struct asc_matrix **out, struct asc_error *e);
void asc_matrix_close(struct asc_matrix *m);
uint64_t asc_matrix_rows(const struct asc_matrix *m);
uint64_t asc_matrix_dim(const struct asc_matrix *m);
enum asc_dtype asc_matrix_dtype(const struct asc_matrix *m);
/* Copies rows [first, first + count) to `out` (count * dim elements of the matrix's dtype). */
int asc_matrix_read(const struct asc_matrix *m, uint64_t first, uint64_t count, void *out,
                    struct asc_error *e);

/* Streams the raw bytes of one tensor of a safetensors file, in order, in pieces of at most 1 MiB.
 * Anything but 0 from `sink` ends it with ASC_ABORTED. */
int asc_tensor_read(const char *path, const char *tensor,
                    int (*sink)(void *user, const void *bytes, size_t len), void *user,
                    struct asc_error *e);

/* --- Ingest ----------------------------------------------------------------------------------- */

struct asc_example {
    const char *id;   /* 1 to 256 bytes, no control characters */
    const char *text; /* or NULL */
    const char *meta; /* a JSON object as text, or NULL */
};

/* One batch: `rows` gradients of `dim` elements and their examples. The gradients are in memory
 * (`gradients`, row after row, little-endian), or rows first_row onward of a `matrix`; the
 * examples are an array, or `lines`: JSON Lines, one object a row. */
struct asc_batch {
    const char *name;        /* [a-z0-9][a-z0-9_-]{0,62}; NULL: asc_batch_name at position 0 */
    const char *fingerprint; /* of the corpus it was made for, checked by the server; or NULL */
    uint64_t rows;           /* 1 to 65,536 */
    uint64_t dim;
    enum asc_dtype dtype;
    const void *gradients;           /* or NULL and then: */
    const struct asc_matrix *matrix; /* its dim and dtype stand for those above */
    uint64_t first_row;
    const struct asc_example *examples; /* or NULL and then: */
    const char *lines;
    size_t lines_len;
};

struct asc_ingested {
    char batch[ASC_NAME_MAX + 1];
    uint64_t examples;   /* stored by this batch */
    uint64_t duplicates; /* left out: their id was there already */
    uint64_t sequence;   /* the corpus's next sequence number */
    bool resent;         /* the server had this batch already and wrote nothing */
};

/* Sends one batch; on success it is durable (it survives kill -9, a crash, a power cut). Sending
 * the same batch again is always safe. `out` may be NULL. */
int asc_ingest(struct asc_client *c, const char *corpus, const struct asc_batch *batch,
               struct asc_ingested *out, struct asc_error *e);

/* The same for a finished safetensors file: in memory, or on disk (streamed). `name` NULL: made of
 * position 0 and the content. */
int asc_ingest_body(struct asc_client *c, const char *corpus, const char *name, const void *body,
                    size_t len, struct asc_ingested *out, struct asc_error *e);
int asc_ingest_file(struct asc_client *c, const char *corpus, const char *name, const char *path,
                    struct asc_ingested *out, struct asc_error *e);

/* The name of a batch from its position in a run and its content: "b000012-<16 hex digits>", the
 * XXH64 (seed 0) of the whole safetensors body. Equal input gives an equal name, on every machine.
 */
int asc_batch_name(uint64_t position, const struct asc_batch *batch, char out[ASC_NAME_MAX + 1],
                   struct asc_error *e);
int asc_batch_name_body(uint64_t position, const void *body, size_t len,
                        char out[ASC_NAME_MAX + 1], struct asc_error *e);
int asc_batch_name_file(uint64_t position, const char *path, char out[ASC_NAME_MAX + 1],
                        struct asc_error *e);

/* What the server knows of a batch by that name: as asc_ingest told it (`resent` is true), and the
 * hash of its content. ASC_REFUSED with code "unknown_batch" when it has none. */
enum { ASC_HASH_MAX = 32 };
int asc_batch_get(struct asc_client *c, const char *corpus, const char *name,
                  struct asc_ingested *out, char out_hash[ASC_HASH_MAX + 1], struct asc_error *e);

/* The hash of a batch's content, the XXH3-128 of the body that would be sent, in hex: the same as
 * asc_batch_get's when there is no need to send it. */
int asc_batch_hash(const struct asc_batch *batch, char out[ASC_HASH_MAX + 1], struct asc_error *e);
int asc_batch_hash_file(const char *path, char out[ASC_HASH_MAX + 1], struct asc_error *e);

/* Writes a batch as the safetensors file that asc_ingest_file takes: whole and synced, or not at
 * all (a temporary name beside it, then a rename). */
int asc_batch_save(const struct asc_batch *batch, const char *path, struct asc_error *e);

/* --- Examples --------------------------------------------------------------------------------- */

struct asc_stored {
    char *id;
    uint64_t sequence;
    double norm;     /* length of the gradient before it was normalised */
    char *text;      /* or NULL */
    size_t text_len; /* a text may hold NUL bytes */
    char *meta;      /* compact JSON, or NULL */
};

/* What an answer had to leave out because its stored bytes are damaged; what is there is right. */
struct asc_damage {
    bool partial;      /* false: the answer is whole, and the rest 0 */
    uint64_t examples; /* live ones that were left out */
    uint64_t chunks;   /* groups of rows that they lie in */
    char **ids;        /* of the first 1,000 */
    size_t id_count;
};

struct asc_page {
    struct asc_stored *examples; /* ascending by sequence */
    size_t count;
    char *next; /* cursor of the next page, NULL at the end */
    struct asc_damage damage; /* before and after this page too */
};

struct asc_encoding {
    void *data; /* dim elements of dtype */
    uint64_t dim;
    enum asc_dtype dtype;
    uint64_t sequence;
    double norm;
};

/* Free with asc_stored_clear / asc_page_clear / asc_encoding_clear (what is inside, not the
 * struct). */
int asc_example_get(struct asc_client *c, const char *corpus, const char *id,
                    struct asc_stored *out, struct asc_error *e);
/* `after`: a page's `next`, or NULL for the first; `limit` 1 to 1,000, 0: 100. */
int asc_example_page(struct asc_client *c, const char *corpus, const char *after, unsigned limit,
                     struct asc_page *out, struct asc_error *e);
/* The same, only those for which the filter holds (NULL: all). */
int asc_example_find(struct asc_client *c, const char *corpus, const char *filter,
                     const char *after, unsigned limit, struct asc_page *out, struct asc_error *e);
/* Takedown, effective at once. */
int asc_example_delete(struct asc_client *c, const char *corpus, const char *id,
                       struct asc_error *e);
int asc_example_encoding(struct asc_client *c, const char *corpus, const char *id,
                         struct asc_encoding *out, struct asc_error *e);
void asc_stored_clear(struct asc_stored *s);
void asc_page_clear(struct asc_page *p);
void asc_encoding_clear(struct asc_encoding *x);

/* --- Queries ---------------------------------------------------------------------------------- */

/* `rows` query gradients of `dim` elements in memory, or rows first_row onward of a `matrix`, or a
 * finished safetensors `body` with a tensor "queries". */
struct asc_query {
    uint64_t rows, dim; /* rows 1 to 1,024 */
    enum asc_dtype dtype;
    const void *vectors;             /* or NULL and then: */
    const struct asc_matrix *matrix; /* its dim and dtype stand; or NULL and then: */
    uint64_t first_row;
    const void *body;
    size_t body_len;
    const char *fingerprint; /* or NULL */
    uint32_t k;              /* proponents, 0 to 10,000 */
    uint32_t opponents;      /* 0 to 10,000 */
    const char *engine;      /* "tiered", "flat", "scan"; NULL: the server's choice */
    const char *task;        /* through this task; NULL: none */
    bool no_text;            /* leave texts and meta out */
    const char *filter; /* only examples for which it holds (docs/protocol.md); NULL: all */
    const char *saved;  /* run the saved query of that name: no vectors then; NULL: none */
    const char *like;   /* ask with the example of that id: no vectors then; NULL: none */
    bool blocks;        /* each block's share of every score */
    bool percentile;    /* where each hit stands among all scores */
    const char *group;  /* "meta.PATH": sums of all scores by this field; NULL: none */
    const char *score;  /* "cosine" or "dot", of vectors as long as they are; NULL: cosine */
    const char *precision; /* "certified" or "probabilistic"; NULL: certified */
    double delta;          /* with probabilistic: how often it may fail; 0: the server's choice */
};

struct asc_share {
    char *block;
    double share; /* all shares sum to the score */
};

struct asc_hit {
    char *id;
    double score; /* the server's, bit for bit */
    uint32_t rank; /* from 1 */
    uint64_t sequence;
    char *text; /* or NULL */
    size_t text_len;
    char *meta; /* compact JSON, or NULL */
    bool text_damaged; /* there may be a text and meta, but they cannot be read */
    double percentile; /* fraction of all scores that are lower; -1 when not asked */
    struct asc_share *blocks; /* NULL when not asked */
    size_t block_count;
};

struct asc_group {
    char *value; /* as JSON; NULL: all values that had no place of their own */
    uint64_t count;
    double sum, mean;
};

struct asc_result {
    struct asc_hit *proponents; /* best first */
    size_t proponent_count;
    struct asc_hit *opponents; /* most negative first */
    size_t opponent_count;
    struct asc_group *groups; /* highest sum first, the rest last; NULL when not asked */
    size_t group_count;
};

struct asc_answer {
    struct asc_result *results; /* one a query row */
    size_t count;
    char exact[16]; /* "certified" or "probabilistic": docs/exactness.md */
    double delta;   /* with the latter: the probability that a query's answer is wrong; else 0 */
    char engine[16];
    uint64_t examples, generation;
    struct asc_damage damage; /* .partial: examples are missing from the answer */
    /* Rows read: by FAISS, by the exact kernel, in the planes of engine tiered. */
    uint64_t rows_proposed, rows_exact, rows_bits, rows_six, rows_low;
    double took_ms; /* in the server */
    char *json;     /* the answer as it came */
    size_t json_len;
    /* of asc_search */
    uint64_t matches; /* examples that have any of the words */
    uint64_t indexed_through, missing; /* sequences below were searched; examples that were not */
};

/* Proponents and opponents of each query row. Free with asc_answer_free. */
int asc_query(struct asc_client *c, const char *corpus, const struct asc_query *q,
              struct asc_answer **out, struct asc_error *e);
void asc_answer_free(struct asc_answer *a);

/* Examples by the words of `text` (BM25). The answer has one result, with proponents alone. Free
 * with asc_answer_free. */
struct asc_search {
    const char *text;
    uint32_t k;         /* 0 to 10,000 */
    const char *filter; /* or NULL */
    bool no_text;       /* leave texts and meta out */
};
int asc_search(struct asc_client *c, const char *corpus, const struct asc_search *search,
               struct asc_answer **out, struct asc_error *e);

/* The encoder: a program behind the server that turns text into gradients (docs/encoder.md). Each
 * fails with code "no_encoder" where there is none, "encoder_failed", "encoder_timeout". */

/* Its state and model, as the server's JSON. The caller frees it. */
int asc_encoder_get(struct asc_client *c, char **out_json, struct asc_error *e);
/* What its model says after the prompt, at most `tokens` tokens (0: 8). The caller frees it. */
int asc_continue(struct asc_client *c, const char *prompt, unsigned tokens, char **out,
                 size_t *out_len, struct asc_error *e);
/* The gradient of a target after a prompt, as the `body` of a query. The caller frees it. */
int asc_encode(struct asc_client *c, const char *prompt, const char *target, void **out,
               size_t *out_len, struct asc_error *e);

struct asc_token {
    char *text;
    size_t text_len;
    uint64_t from, to; /* bytes of the example's text */
    double score;      /* what the token adds */
};
struct asc_explanation {
    double score, sum; /* the stored one; that of the tokens: equal for the corpus's own model */
    struct asc_token *tokens;
    size_t count;
};
/* What each token of an example adds to its score on one query (vectors of one row, body, or saved;
 * task and score count, the rest does not). Free with asc_explanation_clear what is inside. */
int asc_explain(struct asc_client *c, const char *corpus, const char *id,
                const struct asc_query *q, struct asc_explanation *out, struct asc_error *e);
void asc_explanation_clear(struct asc_explanation *x);

/* Saved queries. `members` is a JSON object of prompt, target, output, tags and methods, any of
 * them; NULL: none. `gradient` has one row. out_json (NULL when not wanted): the entry; asc_free.
 * asc_query with `saved` runs one. */
int asc_saved_put(struct asc_client *c, const char *corpus, const char *name, const char *members,
                  const struct asc_query *gradient, char **out_json, struct asc_error *e);
int asc_saved_get(struct asc_client *c, const char *corpus, const char *name, char **out_json,
                  struct asc_error *e);
/* A page {"queries":[...],"next":NAME or null}: after a name (NULL: from the start), with a tag
 * (NULL: any), at most `limit` (0: 100). */
int asc_saved_list(struct asc_client *c, const char *corpus, const char *after, const char *tag,
                   unsigned limit, char **out_json, struct asc_error *e);
int asc_saved_delete(struct asc_client *c, const char *corpus, const char *name,
                     struct asc_error *e);

/* Writes the query's vectors as a safetensors file that asc_matrix_open and the server take. */
int asc_query_save(const struct asc_query *q, const char *path, struct asc_error *e);

/* Every score of the corpus, streamed as the safetensors file of docs/protocol.md ("scores" [q,
 * n], "sequences", "ids"). `dtype` ASC_F32 or ASC_F64. `sink` gets the bytes in order on the
 * calling thread; anything but 0 from it ends the call with ASC_ABORTED. Retried only before the
 * first byte. */
int asc_scores(struct asc_client *c, const char *corpus, const struct asc_query *q,
               enum asc_dtype dtype, int (*sink)(void *user, const void *bytes, size_t len),
               void *user, struct asc_error *e);
/* The same into a file: whole and synced, or not at all. */
int asc_scores_save(struct asc_client *c, const char *corpus, const struct asc_query *q,
                    enum asc_dtype dtype, const char *path, struct asc_error *e);

/* --- Jobs, administration, keys --------------------------------------------------------------- */

struct asc_job {
    char id[64];
    char kind[32];
    char state[16];  /* queued running succeeded failed cancelled */
    double progress; /* 0 to 1 */
    double rate;     /* bytes a second, or -1 when not known */
    double eta_s;    /* or -1 */
    char created[40];
    char *result; /* compact JSON of a finished job, or NULL */
    char *error;  /* compact JSON of a failed one, or NULL */
};

bool asc_job_done(const struct asc_job *job); /* succeeded, failed or cancelled */
int asc_job_get(struct asc_client *c, const char *id, struct asc_job *out, struct asc_error *e);
/* Newest first. Free with asc_jobs_free. */
int asc_job_list(struct asc_client *c, struct asc_job **out, size_t *out_count,
                 struct asc_error *e);
int asc_job_cancel(struct asc_client *c, const char *id, struct asc_error *e);
/* Looks every poll_ms (0: 500) until the job is done; `look` (or NULL) sees each state, anything
 * but 0 from it ends the waiting with ASC_ABORTED, not the job. A job that failed is no error
 * here. */
int asc_job_wait(struct asc_client *c, const char *id, unsigned poll_ms,
                 int (*look)(void *user, const struct asc_job *job), void *user,
                 struct asc_job *out, struct asc_error *e);
void asc_job_clear(struct asc_job *job); /* what is inside */
void asc_jobs_free(struct asc_job *list, size_t count);

/* --- Fit and tasks ---------------------------------------------------------------------------- */

struct asc_fit {
    double damping;  /* negative: the server's default */
    uint64_t sample; /* rows the Hessian is taken from; 0: all */
};
/* Starts the job that whitens a corpus. `how` NULL: defaults. */
int asc_fit(struct asc_client *c, const char *corpus, const struct asc_fit *how,
            struct asc_job *out, struct asc_error *e);

struct asc_lambda {
    double value;        /* 0 <= value < 1; negative: by the rule */
    uint64_t downweight; /* of the rule; 0: the server's default */
};
/* Starts the job that makes a task of the gradients of an evaluation set (1 to 65,536 rows; k,
 * engine and the like are not looked at). `lambda` NULL: by the rule. */
int asc_task_put(struct asc_client *c, const char *corpus, const char *task,
                 const struct asc_query *gradients, const struct asc_lambda *lambda,
                 struct asc_job *out, struct asc_error *e);
/* As docs/protocol.md has them, compact JSON; free with free(). */
int asc_task_list(struct asc_client *c, const char *corpus, char **out_json, struct asc_error *e);
int asc_task_get(struct asc_client *c, const char *corpus, const char *task, char **out_json,
                 struct asc_error *e);
int asc_task_delete(struct asc_client *c, const char *corpus, const char *task,
                    struct asc_error *e);

/* Each starts a job. backup: shards that have not changed since the backup `base` are shared with
 * it; NULL: the latest, "none": a copy of everything. compact: `corpus` or NULL for all. */
int asc_backup(struct asc_client *c, const char *base, struct asc_job *out, struct asc_error *e);
int asc_verify(struct asc_client *c, struct asc_job *out, struct asc_error *e);
int asc_compact(struct asc_client *c, const char *corpus, struct asc_job *out,
                struct asc_error *e);

struct asc_key {
    char id[64];
    char scope[16];     /* read, write, admin */
    char created[40];   /* these as 2027-01-01T00:00:00Z */
    char expires[40];   /* "": it does not end by itself */
    char last_used[40]; /* "": never; written down by the server every ten minutes */
    char corpus[64];    /* the only corpus it is for; "": all */
    uint64_t rate;      /* requests a second; 0: the server's own limit */
    char *label;  /* owned */
    char *secret; /* owned: the whole key, from create and rotate only; else NULL */
};

/* What a new key is to allow. A zeroed struct: read, every corpus, no end. */
struct asc_key_grant {
    const char *scope;  /* NULL: read */
    const char *label;  /* or NULL */
    const char *corpus; /* only this one, with scope read or write; NULL: all */
    uint64_t expires_s; /* it ends so many seconds from now; 0: never */
    uint64_t rate;      /* requests a second; 0: the server's own limit */
};

/* Free with asc_key_clear; a list with asc_keys_free. */
int asc_key_create(struct asc_client *c, const struct asc_key_grant *grant, struct asc_key *out,
                   struct asc_error *e);
/* A second key with the rights of key `id`, which itself ends overlap_s from now. UINT64_MAX: as
 * the server has it, a day. */
int asc_key_rotate(struct asc_client *c, const char *id, uint64_t overlap_s, struct asc_key *out,
                   struct asc_error *e);
int asc_key_list(struct asc_client *c, struct asc_key **out, size_t *out_count,
                 struct asc_error *e);
int asc_key_revoke(struct asc_client *c, const char *id, struct asc_error *e);
void asc_key_clear(struct asc_key *key);
void asc_keys_free(struct asc_key *list, size_t count);

#ifdef __cplusplus
}
#endif

#endif
