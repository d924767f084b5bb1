/* limits.h - every bound of the server in one place, each with its reason. docs/protocol.md lists
 * the ones a client can meet; /v1/info reports them. */
#ifndef SERVER_LIMITS_H
#define SERVER_LIMITS_H

/* The wire */
#define LIMIT_HEAD_BYTES (16u << 10)        /* request line + headers: nginx takes 1 + 4 x 8 KiB */
#define LIMIT_HEADERS 64u                   /* fields; browsers send about 15 */
#define LIMIT_URI_BYTES (4u << 10)          /* the longest legal id, percent-encoded, is 768 */
#define LIMIT_JSON_BODY (8u << 20)          /* one JSON query row of 131,072 is 3 MiB */
#define LIMIT_JSON_DEPTH 32u                /* our own documents nest 6 deep */
#define LIMIT_BODY_DEFAULT (UINT64_C(256) << 20) /* one batch: 1,000 rows of 65,536 floats */
#define LIMIT_JSON_VALUES (1u << 20)        /* 48 MiB of jansson's, 8 rows of 131,072 */
#define LIMIT_TENSOR_HEADER (1u << 20)      /* safetensors JSON header; ours has two tensors */
#define LIMIT_CONNECTIONS 1024u             /* each idle one costs a few KiB */
#define LIMIT_PIPELINE 1u                   /* requests in flight per connection; more wait */
#define LIMIT_STREAM_QUEUE (4u << 20)       /* of a streamed reply waiting for its socket */
#define LIMIT_BUDGET_DEFAULT (UINT64_C(1) << 30) /* all request bodies in flight together */

/* Times, in milliseconds */
#define LIMIT_HEAD_MS 10000u    /* from the first byte to the end of the headers */
#define LIMIT_HEAD_GRACE_MS 500u /* a slower head may lose its place to a new connection */
#define LIMIT_IDLE_MS 60000u    /* a kept-alive connection without a request */
#define LIMIT_BODY_RATE 1024u   /* bytes a second, averaged, after a grace of LIMIT_HEAD_MS */
#define LIMIT_DEADLINE_MS 60000u /* default for one request's work */
#define LIMIT_SCRUB_MIB_S 16u   /* 1.4 TB a day; a fiftieth of a processor with its codes */
#define LIMIT_RECHECK_S 600u    /* a scan's 250 MB are summed in 17 ms; now and then is enough */
#define LIMIT_DRAIN_MS 30000u   /* SIGTERM: running requests get this long */

/* The data */
#define LIMIT_DIM 1048576u        /* 16 x the paper's 65,536; engine tiered takes a quarter */
#define LIMIT_BATCH_ROWS 65536u   /* ids of one batch are checked for duplicates in memory */
#define LIMIT_ID_BYTES 256u       /* an LMDB key is at most 511 */
#define LIMIT_TEXT_BYTES (1u << 20)
#define LIMIT_META_BYTES (64u << 10)
#define LIMIT_BLOCKS 1024u        /* blocks named in a manifest */
#define LIMIT_MANIFEST (256u << 10) /* read at every look at a corpus; 1,024 blocks take 60 KiB */
#define LIMIT_K 10000u            /* proponents or opponents of one query */
#define LIMIT_QUERIES 1024u       /* rows of one query request */
#define LIMIT_HITS 1048576u       /* of one answer, both ends: 24 MiB of lists a thread */
#define LIMIT_ANSWER_BYTES (UINT64_C(256) << 20) /* of one answer: as much as a body */
#define LIMIT_PAGE 1000u          /* examples in one page */
#define LIMIT_PAGE_BYTES (32u << 20) /* a page of long texts ends early; the cursor goes on */
#define LIMIT_FILTER_BYTES (1u << 20) /* of one filter: 10,000 ids of 100 bytes */
#define LIMIT_FILTER_DEPTH 32u    /* brackets in brackets: people write 3; bounds the stack */
#define LIMIT_FILTER_TESTS 1024u  /* comparisons: each is made for every row; sets go into a list */
#define LIMIT_FILTER_VALUES 65536u /* of all lists of one filter */
#define LIMIT_FILTER_KEPT (UINT64_C(64) << 20) /* bitmaps of rows: 1 filter over 512 million */
#define LIMIT_SEARCH_BYTES (64u << 10) /* of a text that is searched for: a long passage */
#define LIMIT_SEARCH_TERMS 1024u  /* each is a pass over its postings; a passage has some hundred */
#define LIMIT_SEARCH_WAIT_MS 10000u /* a search waits for its index, then says what is missing */
#define LIMIT_SAVED 10000u        /* saved queries of a corpus: a list walks over them */
#define LIMIT_SAVED_BYTES (64u << 10) /* of one, its gradient apart: prompt, target, output */
#define LIMIT_SAVED_GRADIENT (1u << 20) /* a record of the store: 262,144 elements */
#define LIMIT_SAVED_TAGS 32u
#define LIMIT_GROUPS 1000u        /* values of one grouping that are told apart: a page shows 20 */
#define LIMIT_BINS 512u           /* of a histogram: a screen's width */
#define LIMIT_BINS_LEAST 8u       /* fewer is no picture */
#define LIMIT_NAMED 1000u         /* example ids in one query: each is scored for every row of it */
#define LIMIT_CORPORA 10000u
#define LIMIT_KEYS 1000u
#define LIMIT_KEY_S (UINT64_C(10) * 366 * 86400) /* longest life of a key that ends by itself */
#define LIMIT_KEY_OVERLAP_S (UINT64_C(90) * 86400) /* the old key beside the new one: a quarter */
#define LIMIT_KEY_OVERLAP_DEFAULT_S UINT64_C(86400) /* time to carry it to where it is used */
#define LIMIT_KEY_MEMORY_S (30 * 86400) /* keys that ended are listed this long */
#define LIMIT_KEY_USED_S 600 /* last use is written down: one small commit */
#define LIMIT_KEY_RATE 1000000u /* requests a second: more than the loop parses */
#define LIMIT_TASKS_KEPT 1000u    /* finished jobs that /v1/jobs still answers for */

#define LIMIT_TASK_BYTES (UINT64_C(1) << 30) /* gradients of tasks that wait */
#define LIMIT_FIT_BYTES (UINT64_C(3) << 30) /* Gram sums at once; one block always fits */

/* The encoder: a process of the operator's, trusted to be named, not to be right */
#define LIMIT_ENCODER_QUEUE 32u   /* requests that wait for it: it serves one at a time */
#define LIMIT_ENCODER_LINE (1u << 20)  /* first line of an answer: a continuation, escaped */
#define LIMIT_ENCODER_BODY (32u << 20) /* 1,048,576 floats; or a token for each byte of a text */
#define LIMIT_ENCODER_TIMEOUT_MS 60000u /* one answer, its start included: loading takes longest */
#define LIMIT_PROMPT_BYTES (64u << 10) /* of a prompt or target: it travels in a tensor header */
#define LIMIT_CONTINUE_TOKENS 1024u

/* Inside */
#define LIMIT_READ_QUEUE 256u   /* jobs waiting for a reader; more is 503 at once */
#define LIMIT_JOIN_QUERIES 256u /* rows of one shared scan: past it a product gains no more */
#define LIMIT_JOIN_BYTES (64u << 20) /* of those rows, copied side by side */
#define LIMIT_JOIN_HITS 65536u  /* of one shared scan: 1.5 MiB of lists a thread */
#define LIMIT_WRITE_QUEUE 64u   /* batches waiting for the writer lane */
#define LIMIT_COMMIT_GROUP 32u  /* batches in one commit */
#define LIMIT_TASK_QUEUE 16u    /* maintenance tasks waiting */
#define LIMIT_SPARE_BYTES (4u << 20) /* for what is small when memory ends: 256 jobs of 16 KiB */

#endif
