/* test_http.c - requests against a scripted server in a thread: what is retried, what is not, how long
 * the pauses are, what is bounded, how errors read. Each connection plays the next line of a script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/inner.h"

enum act {
    ANSWER,    /* the text, after the whole request */
    RESET,     /* read the request, then reset the connection */
    DRIP,      /* the text, ten bytes at a time, with pauses */
    SILENT,    /* read the request and say nothing until the test ends */
    KEEP,      /* the text, keep the connection a moment, then close it without a word */
    EARLY,     /* the text as soon as the head is there, then close without reading the body */
};

struct play {
    enum act act;
    const char *text;
};

struct server {
    int listener;
    int stop[2]; /* a pipe: closing ends SILENT plays */
    pthread_t thread;
    const struct play *script; /* ends with a NULL text of ANSWER */
    unsigned served;
    char url[160];
    struct asc__buf seen; /* every request, as it came */
};

/* Reads one request: head, then as many bytes as Content-Length says. */
static void read_request(struct server *s, int fd, bool head_only)
{
    size_t from = s->seen.len, want = SIZE_MAX;
    char piece[65536];

    while (s->seen.len - from < want) {
        ssize_t got = read(fd, piece, sizeof piece);
        const char *end;

        if (got <= 0)
            return;
        asc__buf_add(&s->seen, piece, (size_t)got);
        end = strstr(s->seen.data + from, "\r\n\r\n");
        if (end && want == SIZE_MAX) {
            const char *length = strcasestr(s->seen.data + from, "\r\ncontent-length:");

            want = (size_t)(end + 4 - (s->seen.data + from));
            if (length && length < end && !head_only)
                want += strtoul(length + 17, NULL, 10);
            if (strcasestr(s->seen.data + from, "100-continue") && !head_only)
                assert_int_equal(write(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25), 25);
        }
    }
}

static void play(struct server *s, int fd, const struct play *p)
{
    struct linger hard = {.l_onoff = 1};
    struct pollfd wait = {.fd = s->stop[0]};
    size_t len = p->text ? strlen(p->text) : 0;

    read_request(s, fd, p->act == EARLY);
    if (p->act == RESET)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    else if (p->act == SILENT)
        poll(&wait, 1, 20000);
    else if (p->act == DRIP)
        for (size_t at = 0; at < len; at += 10) {
            size_t n = len - at < 10 ? len - at : 10;

            assert_int_equal(write(fd, p->text + at, n), n);
            poll(NULL, 0, 30);
        }
    else if (len)
        assert_int_equal(write(fd, p->text, len), len);
    if (p->act == KEEP)
        poll(NULL, 0, 20); /* until the client has put it by */
    if (p->act == EARLY)
        shutdown(fd, SHUT_WR);
    close(fd);
}

static void *serve(void *user)
{
    struct server *s = user;

    for (const struct play *p = s->script; p->text || p->act != ANSWER; p++) {
        int fd = accept(s->listener, NULL, NULL);

        if (fd < 0)
            break;
        s->served++;
        play(s, fd, p);
    }
    return NULL;
}

static void start(struct server *s, const struct play *script, const char *socket_path)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t len = sizeof in;

    *s = (struct server){.script = script};
    assert_int_equal(pipe(s->stop), 0);
    s->listener = socket(socket_path ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    if (socket_path) {
        memcpy(un.sun_path, socket_path, strlen(socket_path));
        unlink(socket_path);
        assert_int_equal(bind(s->listener, (struct sockaddr *)&un, sizeof un), 0);
        snprintf(s->url, sizeof s->url, "unix:%s", socket_path);
    } else {
        assert_int_equal(bind(s->listener, (struct sockaddr *)&in, sizeof in), 0);
        assert_int_equal(getsockname(s->listener, (struct sockaddr *)&in, &len), 0);
        snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u", ntohs(in.sin_port));
    }
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

/* Ends the thread, whatever it is doing; gives how many connections it saw. */
static unsigned end(struct server *s)
{
    close(s->stop[1]);
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
    close(s->stop[0]);
    return s->served;
}

static struct asc_client *client(const struct server *s, const struct asc_options *more)
{
    struct asc_options o = more ? *more : (struct asc_options){0};
    struct asc_client *c;
    struct asc_error e;

    if (!o.backoff_ms)
        o.backoff_ms = 5;
    assert_int_equal(asc_open(s->url, &o, &c, &e), 0);
    return c;
}

#define JSON(status, extra, body)                                                                  \
    "HTTP/1.1 " status "\r\nContent-Type: application/json\r\nConnection: close\r\n" extra          \
    "\r\n" body
#define STORED JSON("201 Created", "", "{\"batch\":\"b\",\"examples\":1,\"duplicates\":0,\"sequence\":1}")
#define SAME JSON("200 OK", "", "{\"batch\":\"b\",\"examples\":1,\"duplicates\":0,\"sequence\":1}")
#define BUSY(extra)                                                                                \
    JSON("503 Service Unavailable", extra,                                                         \
         "{\"status\":503,\"code\":\"busy\",\"detail\":\"the queue is full\",\"request_id\":\"r1\"}")

static const float row[2] = {1, 2};
static const struct asc_example one = {"a", "text", NULL};
static const struct asc_batch batch = {.name = "b", .rows = 1, .dim = 2, .dtype = ASC_F32,
                                       .gradients = row, .examples = &one};

static void ingest_survives_503_and_resets(void **state)
{
    static const struct play script[] = {
        {ANSWER, BUSY("")}, {RESET, NULL}, {ANSWER, BUSY("")}, {ANSWER, SAME}, {0}};
    struct server s;
    struct asc_client *c;
    struct asc_ingested got;
    struct asc_error e;
    char *first, *last;

    (void)state;
    start(&s, script, NULL);
    c = client(&s, &(struct asc_options){.key = "asc_id_secret"});
    assert_int_equal(asc_ingest(c, "corpus", &batch, &got, &e), 0);
    assert_int_equal(got.examples, 1);
    assert_true(got.resent);
    assert_string_equal(got.batch, "b");
    asc_close(c);
    assert_int_equal(end(&s), 4);
    /* each time the same whole body */
    first = s.seen.data;
    assert_int_equal(strncmp(first, "PUT /v1/corpora/corpus/batches/b HTTP/1.1\r\n", 43), 0);
    assert_non_null(strstr(first, "Authorization: Bearer asc_id_secret\r\n"));
    assert_non_null(strstr(first, "Content-Type: application/vnd.safetensors\r\n"));
    assert_int_equal(s.seen.len % 4, 0);
    last = first + s.seen.len / 4 * 3;
    assert_memory_equal(first, last, s.seen.len / 4);
    asc__buf_free(&s.seen);
}

static void retry_after_is_honoured(void **state)
{
    static const struct play script[] = {{ANSWER, BUSY("Retry-After: 1\r\n")}, {ANSWER, STORED}, {0}};
    struct server s;
    struct asc_client *c;
    struct asc_ingested got;
    uint64_t begin = asc__now_ms(), took;

    (void)state;
    start(&s, script, NULL);
    c = client(&s, NULL);
    assert_int_equal(asc_ingest(c, "corpus", &batch, &got, NULL), 0);
    assert_false(got.resent);
    took = asc__now_ms() - begin;
    assert_true(took >= 1000);
    assert_true(took < 10000);
    asc_close(c);
    assert_int_equal(end(&s), 2);
    asc__buf_free(&s.seen);
}

static void refusals_are_final(void **state)
{
    static const char answer[] =
        "HTTP/1.1 422 Unprocessable Content\r\nContent-Type: application/problem+json\r\n"
        "Connection: close\r\n\r\n"
        "{\"type\":\"about:blank\",\"status\":422,\"code\":\"not_finite\",\"detail\":\"row 3: NaN\\n\\u001b[2J\","
        "\"request_id\":\"5f1c\",\"field\":\"gradients\",\"index\":3,\"limit\":7}";
    static const struct play script[] = {{ANSWER, answer}, {ANSWER, STORED}, {0}};
    struct server s;
    struct asc_client *c;
    struct asc_error e;

    (void)state;
    start(&s, script, NULL);
    c = client(&s, NULL);
    assert_int_equal(asc_ingest(c, "corpus", &batch, NULL, &e), ASC_REFUSED);
    assert_int_equal(e.http_status, 422);
    assert_string_equal(e.code, "not_finite");
    assert_string_equal(e.detail, "row 3: NaN  [2J"); /* nothing that moves a cursor */
    assert_string_equal(e.request_id, "5f1c");
    assert_string_equal(e.field, "gradients");
    assert_int_equal(e.index, 3);
    assert_int_equal(e.limit, 7);
    assert_int_equal(e.attempts, 1);
    asc_close(c);
    assert_int_equal(end(&s), 1);
    asc__buf_free(&s.seen);
}

/* 413 while a long body is on its way: the refusal is what is reported, not a broken pipe. */
static void an_early_refusal_is_heard(void **state)
{
    static const char answer[] =
        "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/problem+json\r\n"
        "Connection: close\r\nContent-Length: 44\r\n\r\n"
        "{\"status\":413,\"code\":\"too_large\",\"limit\":10}";
    static const struct play script[] = {{EARLY, answer}, {ANSWER, STORED}, {0}};
    size_t len = 8 << 20;
    char *body = calloc(1, len);
    struct server s;
    struct asc_client *c;
    struct asc_error e;

    (void)state;
    start(&s, script, NULL);
    c = client(&s, NULL);
    assert_int_equal(asc_ingest_body(c, "corpus", "b", body, len, NULL, &e), ASC_REFUSED);
    assert_string_equal(e.code, "too_large");
    asc_close(c);
    assert_int_equal(end(&s), 1);
    asc__buf_free(&s.seen);
    free(body);
}

/* A new key is not asked for twice: the first request may have made one. */
static void what_is_not_safe_is_sent_once(void **state)
{
    static const struct play reset[] = {{RESET, NULL}, {ANSWER, STORED}, {0}};
    static const struct play busy[] = {
        {ANSWER, BUSY("")}, {ANSWER, JSON("201 Created", "", "{\"key\":\"asc_a_b\",\"id\":\"a\",\"scope\":\"read\"}")}, {0}};
    struct server s;
    struct asc_client *c;
    struct asc_error e;
    const struct asc_key_grant grant = {.scope = "read", .label = "x"};
    struct asc_key key;

    (void)state;
    start(&s, reset, NULL);
    c = client(&s, NULL);
    assert_int_equal(asc_key_create(c, &grant, &key, &e), ASC_NETWORK);
    assert_string_equal(e.code, "connection");
    asc_close(c);
    assert_int_equal(end(&s), 1);
    asc__buf_free(&s.seen);

    start(&s, busy, NULL); /* 503 is said before anything is done */
    c = client(&s, NULL);
    assert_int_equal(asc_key_create(c, &grant, &key, &e), 0);
    assert_string_equal(key.secret, "asc_a_b");
    asc_key_clear(&key);
    asc_close(c);
    assert_int_equal(end(&s), 2);
    asc__buf_free(&s.seen);
}

/* A kept connection that the server has closed since is no broken request: even what is sent only
 * once goes out again, on a new one. */
static void a_stale_connection_is_replaced(void **state)
{
    static const struct play script[] = {
        {KEEP, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"name\":\"x\"}"},
        {ANSWER, JSON("201 Created", "", "{\"key\":\"asc_a_b\",\"id\":\"a\",\"scope\":\"read\"}")},
        {0}};
    struct server s;
    struct asc_client *c;
    struct asc_corpus corpus;
    struct asc_error e;
    const struct asc_key_grant grant = {.scope = "read", .label = "x"};
    struct asc_key key;

    (void)state;
    start(&s, script, NULL);
    c = client(&s, &(struct asc_options){.retries = -1});
    assert_int_equal(asc_corpus_get(c, "x", &corpus, &e), 0);
    asc_corpus_clear(&corpus);
    poll(NULL, 0, 100);
    assert_int_equal(asc_key_create(c, &grant, &key, &e), 0);
    asc_key_clear(&key);
    asc_close(c);
    assert_int_equal(end(&s), 2);
    asc__buf_free(&s.seen);
}

/* The first DELETE was done, its answer lost; the second finds nothing. That is success. */
static void a_delete_whose_answer_was_lost_succeeds(void **state)
{
    static const struct play script[] = {
        {RESET, NULL}, {ANSWER, JSON("404 Not Found", "", "{\"code\":\"unknown_example\"}")}, {0}};
    static const struct play absent[] = {
        {ANSWER, JSON("404 Not Found", "", "{\"code\":\"unknown_example\"}")}, {0}};
    struct server s;
    struct asc_client *c;
    struct asc_error e;

    (void)state;
    start(&s, script, NULL);
    c = client(&s, NULL);
    assert_int_equal(asc_example_delete(c, "corpus", "a/b", &e), 0);
    asc_close(c);
    assert_int_equal(end(&s), 2);
    assert_non_null(strstr(s.seen.data, "DELETE /v1/corpora/corpus/examples/a%2Fb "));
    asc__buf_free(&s.seen);

    start(&s, absent, NULL);
    c = client(&s, NULL);
    assert_int_equal(asc_example_delete(c, "corpus", "a", &e), ASC_REFUSED);
    assert_string_equal(e.code, "unknown_example");
    asc_close(c);
    end(&s);
    asc__buf_free(&s.seen);
}

static void silence_is_a_timeout(void **state)
{
    static const struct play script[] = {{SILENT, NULL}, {0}};
    struct server s;
    struct asc_client *c;
    struct asc_error e;
    uint64_t begin = asc__now_ms();

    (void)state;
    start(&s, script, NULL);
    c = client(&s, &(struct asc_options){.idle_timeout_ms = 250, .retries = -1});
    assert_int_equal(asc_ingest(c, "corpus", &batch, NULL, &e), ASC_NETWORK);
    assert_string_equal(e.code, "timeout");
    assert_true(asc__now_ms() - begin < 5000);
    asc_close(c);
    end(&s);
    asc__buf_free(&s.seen);
}

/* Slow is not silent: 16 pauses of 30 ms pass under a bound of 250 ms. */
static void a_slow_answer_is_waited_for(void **state)
{
    static const struct play script[] = {{DRIP, STORED}, {0}};
    struct server s;
    struct asc_client *c;
    uint64_t begin = asc__now_ms();

    (void)state;
    start(&s, script, NULL);
    c = client(&s, &(struct asc_options){.idle_timeout_ms = 250, .retries = -1});
    assert_int_equal(asc_ingest(c, "corpus", &batch, NULL, NULL), 0);
    assert_true(asc__now_ms() - begin > 250);
    asc_close(c);
    end(&s);
    asc__buf_free(&s.seen);
}

static void nobody_there(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct server s = {0};
    struct asc_client *c;
    struct asc_error e;

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0); /* bound, not listening */
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    snprintf(s.url, sizeof s.url, "http://127.0.0.1:%u", ntohs(in.sin_port));
    c = client(&s, &(struct asc_options){.retries = 2});
    assert_int_equal(asc_ingest(c, "corpus", &batch, NULL, &e), ASC_NETWORK);
    assert_string_equal(e.code, "unreachable");
    assert_int_equal(e.attempts, 3);
    asc_close(c);
    close(fd);
}

static void a_unix_socket_works(void **state)
{
    static const struct play script[] = {{ANSWER, STORED}, {0}};
    char path[64];
    struct server s;
    struct asc_client *c;

    (void)state;
    snprintf(path, sizeof path, "/tmp/asc-test-%ld.sock", (long)getpid());
    start(&s, script, path);
    c = client(&s, NULL);
    assert_int_equal(asc_ingest(c, "corpus", &batch, NULL, NULL), 0);
    asc_close(c);
    end(&s);
    unlink(path);
    asc__buf_free(&s.seen);
}

/* --- Answers --------------------------------------------------------------------------------------- */

static int info_of(const char *answer, const struct asc_options *o, struct asc_error *e)
{
    const struct play script[] = {{ANSWER, answer}, {0}};
    struct server s;
    struct asc_client *c;
    struct asc_corpus corpus;
    int rc;

    start(&s, script, NULL);
    c = client(&s, o);
    rc = asc_corpus_get(c, "x", &corpus, e);
    if (rc == 0)
        asc_corpus_clear(&corpus);
    asc_close(c);
    end(&s);
    asc__buf_free(&s.seen);
    return rc;
}

static void answers_that_are_not_ours(void **state)
{
    static const char *const bad[] = {
        JSON("200 OK", "", "<html>"), JSON("200 OK", "", ""), JSON("200 OK", "", "[1]"),
        JSON("200 OK", "", "{}"), JSON("200 OK", "", "{\"name\":1}"),
        JSON("302 Found", "Location: http://127.0.0.1:1/\r\n", ""),
    };
    const struct asc_options once = {.retries = -1};
    struct asc_error e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(info_of(bad[i], &once, &e), ASC_PROTOCOL);
    assert_int_equal(info_of("SSH-2.0-x\r\n", &once, &e), ASC_NETWORK);
    assert_int_equal(info_of(JSON("200 OK", "Content-Length: 900\r\n", "{\"na"), &once, &e),
                     ASC_NETWORK);
    assert_int_equal(info_of(JSON("500 Oops", "", "not json"), &once, &e), ASC_SERVER);
    assert_string_equal(e.detail, "the server answered 500");
}

static void answers_are_bounded(void **state)
{
    const struct asc_options small = {.retries = -1, .max_response = 16};
    struct asc_error e;

    (void)state;
    assert_int_equal(info_of(JSON("200 OK", "", "{\"name\":\"xxxxxxxxxxxxxxxxx\"}"), &small, &e),
                     ASC_PROTOCOL);
    assert_string_equal(e.code, "answer_too_large");
}

static void a_query_reads_every_bit(void **state)
{
    static const char answer[] = JSON(
        "200 OK", "",
        "{\"results\":[{\"proponents\":[{\"id\":\"a\",\"score\":0.99511044139646609,\"rank\":1,"
        "\"sequence\":17,\"text\":\"t\\u0000u\",\"meta\":{\"k\":1}},{\"id\":\"b\",\"score\":1,\"rank\":2,"
        "\"sequence\":18,\"text\":null,\"meta\":null}],\"opponents\":[{\"id\":\"c\",\"score\":-5e-324,"
        "\"rank\":1,\"sequence\":0}]}],\"exact\":\"certified\",\"engine\":\"flat\",\"examples\":3,"
        "\"generation\":41,\"delta\":1e-6,\"read\":{\"bits\":9,\"six\":8,\"low\":7,\"proposed\":3,\"exact\":2},\"took_ms\":12.5}");
    static const struct play script[] = {{ANSWER, answer}, {0}};
    const struct asc_query q = {.rows = 1, .dim = 2, .dtype = ASC_F32, .vectors = row, .k = 2,
                                .opponents = 1, .engine = "flat", .precision = "probabilistic",
                                .delta = 0.25};
    struct asc_answer *a;
    struct server s;
    struct asc_client *c;

    (void)state;
    start(&s, script, NULL);
    c = client(&s, NULL);
    assert_int_equal(asc_query(c, "x", &q, &a, NULL), 0);
    assert_non_null(strstr(s.seen.data, "POST /v1/corpora/x/query?k=2&opponents=1&text=1&engine=flat"
                                           "&precision=probabilistic&delta=0.25 "));
    assert_int_equal(a->count, 1);
    assert_int_equal(a->results[0].proponent_count, 2);
    assert_true(a->results[0].proponents[0].score == 0.99511044139646609);
    assert_int_equal(a->results[0].proponents[0].text_len, 3);
    assert_memory_equal(a->results[0].proponents[0].text, "t\0u", 3);
    assert_string_equal(a->results[0].proponents[0].meta, "{\"k\":1}");
    assert_true(a->results[0].proponents[1].score == 1.0);
    assert_null(a->results[0].proponents[1].text);
    assert_true(a->results[0].opponents[0].score == -5e-324);
    assert_string_equal(a->exact, "certified");
    assert_int_equal(a->generation, 41);
    assert_true(a->delta == 1e-6);
    assert_int_equal(a->rows_exact, 2);
    assert_int_equal(a->rows_proposed, 3);
    assert_int_equal(a->rows_bits, 9);
    assert_int_equal(a->rows_six, 8);
    assert_int_equal(a->rows_low, 7);
    asc_answer_free(a);
    asc_close(c);
    end(&s);
    asc__buf_free(&s.seen);
}

/* --- Stopping, pauses ------------------------------------------------------------------------------- */

static int stop_at_second(void *user, const struct asc_transfer *t)
{
    unsigned *ticks = user;

    (void)t;
    return ++*ticks >= 2;
}

static void a_tick_stops_a_call(void **state)
{
    static const struct play script[] = {{SILENT, NULL}, {0}};
    unsigned ticks = 0;
    struct server s;
    struct asc_client *c;
    struct asc_error e;
    uint64_t begin = asc__now_ms();

    (void)state;
    start(&s, script, NULL);
    c = client(&s, &(struct asc_options){.on_tick = stop_at_second, .user = &ticks});
    assert_int_equal(asc_ingest(c, "corpus", &batch, NULL, &e), ASC_ABORTED);
    assert_true(asc__now_ms() - begin < 2000);
    asc_cancel(c);
    assert_int_equal(asc_ready(c, &e), ASC_ABORTED);
    asc_close(c);
    end(&s);
    asc__buf_free(&s.seen);
}

static void pauses_grow_to_a_bound(void **state)
{
    const struct asc_options o = {.backoff_ms = 200};

    (void)state;
    assert_int_equal(asc__pause_ms(&o, 1, -1, 0), 200);
    assert_int_equal(asc__pause_ms(&o, 2, -1, 0), 400);
    assert_int_equal(asc__pause_ms(&o, 6, -1, 0), 6400);
    assert_int_equal(asc__pause_ms(&o, 7, -1, 0), 6400);
    assert_int_equal(asc__pause_ms(&o, 4000000000u, -1, 0), 6400);
    assert_in_range(asc__pause_ms(&o, 1, -1, 255), 240, 250); /* at most a quarter of jitter */
    assert_int_equal(asc__pause_ms(&o, 1, 7, 0), 7000);
    assert_int_equal(asc__pause_ms(&o, 1, 100000, 0), ASC__PAUSE_MAX_MS);
    assert_int_equal(asc__pause_ms(&o, 6, 1, 0), 6400);
}

static void opening(void **state)
{
    static const char *const bad_keys[] = {"a b", "a\r\nX-Evil: 1", "k\xc3\xa4", "\x7f"};
    struct asc_options o = {0};
    struct asc_client *c = NULL;
    struct asc_error e;

    (void)state;
    for (size_t i = 0; i < sizeof bad_keys / sizeof *bad_keys; i++) {
        o.key = bad_keys[i];
        assert_int_equal(asc_open("http://h", &o, &c, &e), ASC_ARGUMENT);
    }
    o.key = NULL;
    o.size = sizeof o + 8;
    assert_int_equal(asc_open("http://h", &o, &c, &e), ASC_ARGUMENT);
    assert_int_equal(asc_open("nonsense", NULL, &c, &e), ASC_ARGUMENT);
    assert_null(c);
    asc_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ingest_survives_503_and_resets),
        cmocka_unit_test(retry_after_is_honoured),
        cmocka_unit_test(refusals_are_final),
        cmocka_unit_test(an_early_refusal_is_heard),
        cmocka_unit_test(what_is_not_safe_is_sent_once),
        cmocka_unit_test(a_stale_connection_is_replaced),
        cmocka_unit_test(a_delete_whose_answer_was_lost_succeeds),
        cmocka_unit_test(silence_is_a_timeout),
        cmocka_unit_test(a_slow_answer_is_waited_for),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(a_unix_socket_works),
        cmocka_unit_test(answers_that_are_not_ours),
        cmocka_unit_test(answers_are_bounded),
        cmocka_unit_test(a_query_reads_every_bit),
        cmocka_unit_test(a_tick_stops_a_call),
        cmocka_unit_test(pauses_grow_to_a_bound),
        cmocka_unit_test(opening),
    };

    signal(SIGPIPE, SIG_IGN); /* the scripted server's, not the client's */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
