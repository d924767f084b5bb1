/* test_conn.c - the transport alone: a real loop, real sockets, a table of routes made for the
 * purpose, no store. What a client may do to a connection, and what it gets. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/auth.h"
#include "server/config.h"
#include "server/limits.h"
#include "server/listen.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/route.h"
#include "server/runtime.h"
#include "server/server.h"
#include "storage/base/check.h"

/* ---- the routes under test ------------------------------------------------------------------- */

static _Atomic unsigned works, cancels, finishes, commits, committed, largest_group;
static _Atomic bool gate_open;

static int parse_any(struct job *j)
{
    (void)j;
    return 0;
}

static int parse_teapot(struct job *j)
{
    err_set(&j->err, ERR_WRONG_DIM, "no tea");
    err_at_field(&j->err, "tea");
    err_at_index(&j->err, 3);
    return err_at_limit(&j->err, 7);
}

static int reply_ok(struct job *j)
{
    (void)j;
    return 0;
}

static int reply_text(struct job *j)
{
    buf_add_text(&j->reply_body, "ok\n");
    j->reply_type = "text/plain";
    return 0;
}

static int work_echo(struct job *j)
{
    atomic_fetch_add(&works, 1);
    if (j->body_len)
        require(j->body[j->body_len] == '\0');
    buf_format(&j->reply_body, "%s:", j->path[0]);
    buf_add(&j->reply_body, j->body, j->body_len);
    return 0;
}

static int work_slow(struct job *j)
{
    struct timespec nap = {0, 2000000};
    uint64_t ms, until;

    if (job_query_number(j, "ms", 100, 0, 100000, &ms))
        return (int)j->err.code;
    until = server_now() + ms * 1000000;
    atomic_fetch_add(&works, 1);
    while (server_now() < until) {
        if (job_stopped(j)) {
            atomic_fetch_add(&cancels, 1);
            return (int)j->err.code;
        }
        nanosleep(&nap, NULL);
    }
    buf_add_text(&j->reply_body, "slept");
    return 0;
}

static int work_big(struct job *j)
{
    require(buf_reserve(&j->reply_body, 7 << 20));
    memset(j->reply_body.data, 'b', 7 << 20);
    j->reply_body.len = 7 << 20;
    return 0;
}

static int work_stream(struct job *j)
{
    static const char page[65536];
    uint64_t total, given;
    int rc = 0;

    if (job_query_number(j, "bytes", 0, 0, UINT64_C(1) << 40, &total) ||
        job_query_number(j, "given", total, 0, UINT64_C(1) << 40, &given) ||
        job_stream_begin(j, "application/octet-stream", total))
        return (int)j->err.code;
    while (given && !rc) {
        size_t n = given < sizeof page ? (size_t)given : sizeof page;
        rc = job_stream(j, page, n);
        given -= n;
    }
    if (rc)
        atomic_fetch_add(&cancels, 1);
    return rc;
}

static void commit_all(struct job *const *jobs, size_t count)
{
    struct timespec nap = {0, 1000000};

    while (!atomic_load(&gate_open))
        nanosleep(&nap, NULL);
    atomic_fetch_add(&commits, 1);
    atomic_fetch_add(&committed, (unsigned)count);
    if (count > atomic_load(&largest_group))
        atomic_store(&largest_group, (unsigned)count);
    for (size_t i = 0; i < count; i++)
        buf_add_text(&jobs[i]->reply_body, "committed");
}

static void finish_any(struct job *j)
{
    (void)j;
    atomic_fetch_add(&finishes, 1);
}

const struct route route_table[] = {
    {"GET", "/healthz", SCOPE_OPEN, BODY_NONE, false, "", NULL, parse_any, NULL, NULL, reply_text, NULL},
    {"GET", "/plain", SCOPE_READ, BODY_NONE, false, "", NULL, parse_any, NULL, NULL, reply_text, finish_any},
    {"GET", "/teapot", SCOPE_READ, BODY_NONE, false, "", NULL, parse_teapot, NULL, NULL, reply_text, finish_any},
    {"PUT", "/echo/{name}", SCOPE_WRITE, BODY_TENSOR, false, "", NULL, parse_any, work_echo, NULL, reply_ok, finish_any},
    {"POST", "/json", SCOPE_READ, BODY_JSON, false, "", NULL, parse_any, work_echo, NULL, reply_ok, finish_any},
    {"GET", "/slow", SCOPE_READ, BODY_NONE, false, "", "ms", parse_any, work_slow, NULL, reply_ok, finish_any},
    {"GET", "/big", SCOPE_READ, BODY_NONE, false, "", NULL, parse_any, work_big, NULL, reply_ok,
     finish_any},
    {"GET", "/stream", SCOPE_READ, BODY_NONE, false, "", "bytes", parse_any, work_stream, NULL, reply_ok, finish_any},
    {"PUT", "/commit", SCOPE_WRITE, BODY_JSON, true, "", NULL, parse_any, NULL, commit_all, reply_ok, finish_any},
    {"DELETE", "/plain", SCOPE_ADMIN, BODY_NONE, false, "", NULL, parse_any, NULL, NULL, reply_ok, finish_any},
};
const size_t route_count = sizeof route_table / sizeof *route_table;

/* ---- the server under test ------------------------------------------------------------------- */

static struct {
    struct config config;
    struct runtime rt;
    pthread_t thread;
    int port, exit_code;
    char write_key[AUTH_TEXT_CHARS + 1], read_key[AUTH_TEXT_CHARS + 1];
    char auth[128]; /* the write key's header line */
} t;

static char socket_path[] = "/tmp/ascribe-test-conn-XXXXXX";

static void *run(void *arg)
{
    (void)arg;
    t.exit_code = server_run(t.rt.server);
    return NULL;
}

static void make_key(const char *scope, char text[AUTH_TEXT_CHARS + 1])
{
    struct auth_key k;
    struct err e = ERR_INIT;
    struct auth_grant grant = {.label = ""};

    assert_true(auth_scopes_from_name(scope, &grant.scopes));
    assert_int_equal(auth_make(&grant, &k, text, &e), 0);
    auth_publish(t.rt.auth, &k);
}

static void start(void)
{
    struct err e = ERR_INIT;
    char spec[160];

    log_set_level(t.config.log_level);
    t.rt.config = &t.config;
    t.rt.metrics = metrics_new(route_table, route_count);
    t.rt.auth = auth_new();
    make_key("write", t.write_key);
    make_key("read", t.read_key);
    snprintf(t.auth, sizeof t.auth, "Host: x\r\nAuthorization: Bearer %s\r\n", t.write_key);
    server_new(&t.rt);
    t.rt.pool = pool_new(2, (unsigned)t.config.read_queue, server_job_done, t.rt.server);
    assert_int_equal(server_listen(t.rt.server, "127.0.0.1:0", &e), 0);
    snprintf(spec, sizeof spec, "unix:%s/socket", socket_path);
    assert_int_equal(server_listen(t.rt.server, spec, &e), 0);
    t.port = atoi(strrchr(server_address(t.rt.server, 0), ':') + 1);
    assert_int_equal(pthread_create(&t.thread, NULL, run, NULL), 0);
}

static void stop(void)
{
    server_stop(t.rt.server, EXIT_DONE);
    pthread_join(t.thread, NULL);
    pool_free(t.rt.pool);
    assert_int_equal(t.rt.server->body_bytes, 0);
    assert_int_equal(t.rt.server->conn_count, 0);
    assert_int_equal(t.rt.server->in_pool, 0);
    server_free(t.rt.server);
    auth_free(t.rt.auth);
    metrics_free(t.rt.metrics);
    memset(&t.rt, 0, sizeof t.rt);
}

static int setup(void **state)
{
    char *args[] = {"ascribed", "--store",      "unused", "--head-ms",   "300",  "--idle-ms",
                    "900",      "--write-ms",   "400",    "--drain-ms",  "3000", "--body-limit",
                    "8M",       "--body-budget", "16M",   "--log-level", "error"};
    enum config_result what;
    struct err e = ERR_INIT;

    (void)state;
    works = cancels = finishes = commits = committed = largest_group = 0;
    gate_open = true;
    assert_int_equal(config_load(&t.config, sizeof args / sizeof *args, args, &what, &e), 0);
    start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stop();
    config_free(&t.config);
    return 0;
}

/* ---- the client ------------------------------------------------------------------------------ */

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)t.port)};
    struct timeval limit = {5, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static void say(int fd, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        p += n;
        len -= (size_t)n;
    }
}

static void say_text(int fd, const char *text)
{
    say(fd, text, strlen(text));
}

static void ask(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void ask(int fd, const char *fmt, ...)
{
    char text[8192];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    say_text(fd, text);
}

struct answer {
    int status; /* 0: the connection ended before one */
    bool close;
    char head[4096];
    char body[65536];
    size_t len;
};

static bool hear_byte(int fd, char *out)
{
    return recv(fd, out, 1, 0) == 1;
}

static struct answer *hear_for(int fd, bool head_only)
{
    static struct answer a;
    size_t n = 0, want = 0;
    char *length;

    memset(&a, 0, sizeof a);
    while (n + 1 < sizeof a.head && !(n >= 4 && memcmp(a.head + n - 4, "\r\n\r\n", 4) == 0))
        if (!hear_byte(fd, a.head + n++))
            return &a;
    a.status = atoi(a.head + 9);
    a.close = strstr(a.head, "Connection: close") != NULL;
    length = strstr(a.head, "Content-Length: ");
    if (length && !head_only)
        want = strtoul(length + 16, NULL, 10);
    while (a.len < want && a.len + 1 < sizeof a.body && hear_byte(fd, a.body + a.len))
        a.len++;
    return &a;
}

static struct answer *hear(int fd)
{
    return hear_for(fd, false);
}

static bool at_end(int fd)
{
    char c;

    return recv(fd, &c, 1, 0) == 0;
}

static unsigned long metric(enum metric m)
{
    return metrics_get(t.rt.metrics, m);
}

static void wait_until(_Atomic unsigned *what, unsigned value)
{
    for (int i = 0; i < 5000 && atomic_load(what) < value; i++)
        usleep(1000);
    assert_true(atomic_load(what) >= value);
}

/* One request on a connection of its own; the answer's status, the connection checked for
 * `code`. */
static int once(const char *request, const char *code)
{
    int fd = dial();
    struct answer *a;
    char want[80];

    say_text(fd, request);
    a = hear(fd);
    if (code) {
        snprintf(want, sizeof want, "\"code\":\"%s\"", code);
        if (!strstr(a->body, want))
            print_error("wanted %s in: %s%s\n", want, a->head, a->body);
        assert_non_null(strstr(a->body, want));
        assert_non_null(strstr(a->head, "Content-Type: application/problem+json\r\n"));
    }
    close(fd);
    return a->status;
}

/* The request line, a valid key, then the rest. */
static const char *with_auth(const char *line, const char *rest)
{
    static char text[32768];

    snprintf(text, sizeof text, "%s%s%s", line, t.auth, rest);
    return text;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_answers(void **state)
{
    int fd = dial();
    struct answer *a;

    (void)state;
    ask(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: my.id-7\r\n\r\n");
    a = hear(fd);
    assert_int_equal(a->status, 200);
    assert_string_equal(a->body, "ok\n");
    assert_non_null(strstr(a->head, "X-Request-Id: my.id-7\r\n"));
    assert_non_null(strstr(a->head, "Date: "));
    ask(fd, "HEAD /plain HTTP/1.1\r\n%s\r\n", t.auth);
    a = hear_for(fd, true);
    assert_int_equal(a->status, 200);
    assert_non_null(strstr(a->head, "Content-Length: 3\r\n"));
    ask(fd, "GET http://elsewhere/plain?a=1 HTTP/1.1\r\n%s\r\n", t.auth);
    assert_int_equal(hear(fd)->status, 200);
    ask(fd, "PUT /echo/a%%2Fb%%20c HTTP/1.1\r\n%sContent-Length: 5\r\n\r\nhello", t.auth);
    a = hear(fd);
    assert_int_equal(a->status, 200);
    assert_string_equal(a->body, "a/b c:hello");
    ask(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: bad id\r\nConnection: close\r\n\r\n");
    a = hear(fd);
    assert_true(a->close);
    assert_null(strstr(a->head, "bad id"));
    assert_true(at_end(fd));
    close(fd);
}

static void test_http10(void **state)
{
    int fd = dial();

    (void)state;
    ask(fd, "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_non_null(strstr(hear(fd)->head, "Connection: keep-alive"));
    ask(fd, "GET /healthz HTTP/1.0\r\n\r\n");
    assert_true(hear(fd)->close);
    assert_true(at_end(fd));
    close(fd);
}

static void test_refusals(void **state)
{
    (void)state;
    assert_int_equal(once(with_auth("GET /nowhere HTTP/1.1\r\n", "\r\n"), "unknown_route"), 404);
    assert_int_equal(once(with_auth("GET /plain/ HTTP/1.1\r\n", "\r\n"), "unknown_route"), 404);
    assert_int_equal(once(with_auth("POST /plain HTTP/1.1\r\n", "\r\n"), "method_not_allowed"), 405);
    assert_int_equal(once("GET /plain HTTP/1.1\r\nHost: x\r\n\r\n", "unauthorized"), 401);
    assert_int_equal(once("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "unauthorized"), 401);
    assert_int_equal(once(with_auth("DELETE /plain HTTP/1.1\r\n", "\r\n"), "forbidden"), 403);
    assert_int_equal(once(with_auth("GET /plain?a=%zz HTTP/1.1\r\n", "\r\n"), "invalid_request"), 400);
    assert_int_equal(once(with_auth("GET /plain?a=1&a=2 HTTP/1.1\r\n", "\r\n"), "invalid_request"), 400);
    assert_int_equal(once(with_auth("GET /%00 HTTP/1.1\r\n", "\r\n"), "invalid_request"), 400);
    assert_int_equal(once(with_auth("PUT /echo/x HTTP/1.1\r\n", "\r\n"), "length_required"), 411);
    assert_int_equal(
        once(with_auth("PUT /echo/x HTTP/1.1\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
             "length_required"),
        411);
    assert_int_equal(once(with_auth("GET /plain HTTP/1.1\r\n", "Content-Length: 1\r\n\r\nx"),
                          "invalid_request"),
                     400);
    assert_int_equal(once(with_auth("PUT /echo/x HTTP/1.1\r\n", "Content-Type: text/html\r\n"
                                    "Content-Length: 1\r\n\r\nx"),
                          "unsupported_media_type"),
                     415);
    assert_int_equal(once(with_auth("PUT /echo/x HTTP/1.1\r\n", "Content-Encoding: gzip\r\n"
                                    "Content-Length: 1\r\n\r\nx"),
                          "unsupported_media_type"),
                     415);
    assert_int_equal(once(with_auth("PUT /echo/x HTTP/1.1\r\n", "Content-Length: 8388609\r\n\r\nx"),
                          "too_large"),
                     413);
    assert_int_equal(once(with_auth("GET /teapot HTTP/1.1\r\n", "\r\n"), "wrong_dimension"), 422);
    assert_int_equal(atomic_load(&works), 0);
}

static void test_problem_fields(void **state)
{
    int fd = dial();
    struct answer *a;

    (void)state;
    ask(fd, "GET /teapot HTTP/1.1\r\n%sX-Request-Id: q1\r\n\r\n", t.auth);
    a = hear(fd);
    assert_string_equal(a->body,
                        "{\"type\":\"about:blank\",\"title\":\"Unprocessable Content\",\"status\":422,"
                        "\"code\":\"wrong_dimension\",\"detail\":\"no tea\",\"request_id\":\"q1\","
                        "\"field\":\"tea\",\"index\":3,\"limit\":7}\n");
    assert_int_equal(atomic_load(&finishes), 1); /* parse ran, so finish did */
    ask(fd, "PATCH /plain HTTP/1.1\r\n%s\r\n", t.auth);
    a = hear(fd);
    assert_non_null(strstr(a->head, "Allow: GET, HEAD, DELETE\r\n"));
    ask(fd, "GET /plain HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(hear(fd)->head, "WWW-Authenticate: Bearer\r\n"));
    close(fd);
}

/* What must not pass the parser: each once, with a clear answer and the connection closed. */
static void test_malformed(void **state)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX-Folded: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: a\nY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: x\r\n\r\n",
        "BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: a\x01z\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int fd = dial();
        struct answer *a;
        say_text(fd, bad[i]);
        a = hear(fd);
        if (a->status != 400)
            print_error("%zu: status %d for: %s\n", i, a->status, bad[i]);
        assert_int_equal(a->status, 400);
        assert_non_null(strstr(a->body, "\"code\":\"bad_http\""));
        assert_true(a->close);
        assert_true(at_end(fd));
        close(fd);
    }
}

static void test_limits(void **state)
{
    static char big[40000];
    int n;

    (void)state;
    memset(big, 'a', sizeof big - 1);
    memcpy(big, "GET /", 5);
    assert_int_equal(once(big, "uri_too_long"), 414);
    n = snprintf(big, sizeof big, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    memset(big + n, 'b', sizeof big - 1 - (size_t)n);
    assert_int_equal(once(big, "headers_too_large"), 431);
    n = snprintf(big, sizeof big, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 64; i++)
        n += snprintf(big + n, sizeof big - (size_t)n, "X-%d:\r\n", i);
    snprintf(big + n, sizeof big - (size_t)n, "\r\n");
    assert_int_equal(once(big, "headers_too_large"), 431);
    /* exactly at the limit: 64 fields are taken */
    n = snprintf(big, sizeof big, "GET /healthz HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 63; i++)
        n += snprintf(big + n, sizeof big - (size_t)n, "X-%d:\r\n", i);
    snprintf(big + n, sizeof big - (size_t)n, "\r\n");
    assert_int_equal(once(big, NULL), 200);
}

/* The same bytes, cut in every way in two, and byte by byte: the same answers. */
static void test_splits(void **state)
{
    char text[1024];
    int len = snprintf(text, sizeof text,
                       "PUT /echo/n HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n"
                       "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n"
                       "PUT /echo/m HTTP/1.1\r\n%sContent-Length: 4\r\n\r\nfghi"
                       "GET /healthz HTTP/1.1\r\nHost: x\r\nEmpty:\r\n\r\n",
                       t.auth, t.auth);

    (void)state;
    for (int cut = 0; cut <= len; cut++) {
        int fd = dial();
        if (cut < len) {
            say(fd, text, (size_t)cut);
            usleep(cut % 16 ? 50 : 1000);
            say(fd, text + cut, (size_t)(len - cut));
        } else {
            for (int i = 0; i < len; i++)
                say(fd, text + i, 1);
        }
        assert_string_equal(hear(fd)->body, "n:abcde");
        assert_string_equal(hear(fd)->body, "m:fghi");
        assert_string_equal(hear(fd)->body, "ok\n");
        close(fd);
    }
}

static void test_bad_chunks(void **state)
{
    static const char *const bad[] = {
        "x\r\n",          "\r\n",       "3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n",  "3 \r\nabc",  "-1\r\n",              "0x3\r\nabc\r\n",
        "1000000000000000\r\n", "3\r\nabc\n0\r\n\r\n", "0\r\n\n", "0\r\nT: v\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        snprintf(text, sizeof text, "PUT /echo/n HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n%s",
                 t.auth, bad[i]);
        assert_int_equal(once(text, "bad_http"), 400);
    }
    assert_int_equal(once(with_auth("PUT /echo/n HTTP/1.1\r\n", "Transfer-Encoding: chunked\r\n\r\n"
                                    "800001\r\n"),
                          "too_large"),
                     413); /* refused by what it announces */
    assert_int_equal(atomic_load(&works), 0);
}

static void test_chunked_too_large(void **state)
{
    static char piece[65536];
    int fd = dial();

    (void)state;
    ask(fd, "PUT /echo/n HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n", t.auth);
    for (int i = 0; i < 8 * 16 + 1; i++) {
        say_text(fd, "10000\r\n");
        say(fd, piece, sizeof piece);
        say_text(fd, "\r\n");
    }
    assert_int_equal(hear(fd)->status, 413);
    close(fd);
}

static void test_pipelining(void **state)
{
    static char text[100 * 256];
    int n = 0, fd = dial();

    (void)state;
    for (int i = 0; i < 100; i++)
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "PUT /echo/%d HTTP/1.1\r\n%sContent-Length: 1\r\n\r\nz", i, t.auth);
    say(fd, text, (size_t)n);
    shutdown(fd, SHUT_WR); /* half-closed: every answer still comes */
    for (int i = 0; i < 100; i++) {
        char want[16];
        snprintf(want, sizeof want, "%d:z", i);
        assert_string_equal(hear(fd)->body, want);
    }
    assert_true(at_end(fd));
    close(fd);
}

static void test_expect(void **state)
{
    int fd = dial();
    struct answer *a;

    (void)state;
    ask(fd, "PUT /echo/e HTTP/1.1\r\n%sContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", t.auth);
    assert_int_equal(hear_for(fd, true)->status, 100);
    say_text(fd, "abc");
    assert_string_equal(hear(fd)->body, "e:abc");
    /* refused before the body: no 100, and closed */
    ask(fd, "PUT /echo/e HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    a = hear(fd);
    assert_int_equal(a->status, 401);
    assert_true(a->close);
    close(fd);
}

/* The key is checked before a byte of the body is taken, and the client sees the answer, not a
 * reset. */
static void test_auth_before_body(void **state)
{
    static char piece[1 << 20];
    int fd = dial();
    struct answer *a;

    (void)state;
    ask(fd, "PUT /echo/e HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer asc_0000000000000000_"
            "0000000000000000000000000000000000000000000000000000000000000000\r\n"
            "Content-Length: 4194304\r\n\r\n");
    for (int i = 0; i < 4; i++)
        say(fd, piece, sizeof piece);
    a = hear(fd);
    assert_int_equal(a->status, 401);
    assert_true(at_end(fd));
    assert_int_equal(metric(METRIC_BODY_BYTES), 0);
    close(fd);
}

static void test_budget(void **state)
{
    static char piece[1 << 20];
    int fd[3];
    int refused = 0;

    (void)state;
    for (int i = 0; i < 3; i++) { /* 3 x 7 MiB into a budget of 16 MiB */
        fd[i] = dial();
        ask(fd[i], "PUT /echo/e HTTP/1.1\r\n%sContent-Length: 7340033\r\n\r\n", t.auth);
        for (int n = 0; n < 7; n++)
            say(fd[i], piece, sizeof piece);
        usleep(20000);
    }
    for (int i = 0; i < 3; i++) {
        struct answer *a;
        say_text(fd[i], "x");
        a = hear(fd[i]);
        refused += a->status == 503 && strstr(a->head, "Retry-After: 1") != NULL;
        close(fd[i]);
    }
    assert_int_equal(refused, 1);
}

static void test_truncated(void **state)
{
    int fd = dial();

    (void)state;
    ask(fd, "PUT /echo/e HTTP/1.1\r\n%sContent-Length: 10\r\n\r\nabc", t.auth);
    shutdown(fd, SHUT_WR);
    assert_int_equal(hear(fd)->status, 400);
    close(fd);
    fd = dial();
    say_text(fd, "GET / HT");
    shutdown(fd, SHUT_WR);
    assert_int_equal(hear(fd)->status, 400);
    close(fd);
    assert_int_equal(atomic_load(&works), 0);
}

static void test_slow_clients(void **state)
{
    int fd = dial();

    (void)state;
    say_text(fd, "GET /heal");
    assert_int_equal(hear(fd)->status, 408); /* head-ms */
    assert_true(at_end(fd));
    close(fd);
    fd = dial();
    ask(fd, "PUT /echo/e HTTP/1.1\r\n%sContent-Length: 100000\r\n\r\nabc", t.auth);
    assert_int_equal(hear(fd)->status, 408); /* idle or rate */
    close(fd);
    fd = dial();
    assert_true(at_end(fd)); /* idle-ms */
    close(fd);
}

static void reset(int fd)
{
    struct linger hard = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

static void test_hang_up_cancels(void **state)
{
    int fd = dial();

    (void)state;
    ask(fd, "GET /slow?ms=60000 HTTP/1.1\r\n%s\r\n", t.auth);
    wait_until(&works, 1);
    reset(fd);
    wait_until(&cancels, 1);
    /* a plain close: found out by the interim reply */
    fd = dial();
    ask(fd, "GET /slow?ms=60000 HTTP/1.1\r\n%s\r\n", t.auth);
    wait_until(&works, 2);
    close(fd);
    wait_until(&cancels, 2);
    /* half-closed and waiting: answered */
    fd = dial();
    ask(fd, "GET /slow?ms=700 HTTP/1.1\r\n%s\r\n", t.auth);
    shutdown(fd, SHUT_WR);
    assert_int_equal(hear_for(fd, true)->status, 100);
    assert_string_equal(hear(fd)->body, "slept");
    close(fd);
    wait_until(&finishes, 3);
    assert_int_equal(atomic_load(&cancels), 2);
}

static void test_deadline(void **state)
{
    int fd;

    (void)state;
    t.config.deadline_ms = 50;
    fd = dial();
    ask(fd, "GET /slow?ms=5000 HTTP/1.1\r\n%s\r\n", t.auth);
    assert_int_equal(hear(fd)->status, 504);
    ask(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(hear(fd)->status, 200);
    close(fd);
}

static size_t drink(int fd, size_t want)
{
    static char sink[1 << 16];
    size_t got = 0;

    while (got < want) {
        ssize_t n = recv(fd, sink, want - got < sizeof sink ? want - got : sizeof sink, 0);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    return got;
}

static void test_stream(void **state)
{
    int fd = dial();
    struct answer *a;

    (void)state;
    ask(fd, "GET /stream?bytes=50000000 HTTP/1.1\r\n%s\r\n", t.auth);
    a = hear_for(fd, true);
    assert_int_equal(a->status, 200);
    assert_non_null(strstr(a->head, "Content-Length: 50000000\r\n"));
    assert_int_equal(drink(fd, 50000000), 50000000);
    ask(fd, "HEAD /stream?bytes=1000 HTTP/1.1\r\n%s\r\n", t.auth);
    assert_int_equal(hear_for(fd, true)->status, 200);
    ask(fd, "GET /stream?bytes=0 HTTP/1.1\r\n%s\r\n", t.auth);
    assert_int_equal(hear(fd)->status, 200);
    /* a worker that gives less than it promised: the connection is cut */
    ask(fd, "GET /stream?bytes=1000&given=500 HTTP/1.1\r\n%s\r\n", t.auth);
    assert_int_equal(hear_for(fd, true)->status, 200);
    assert_true(drink(fd, 1000) < 1000);
    close(fd);
    assert_int_equal(atomic_load(&cancels), 0);
}

/* Large replies that nobody reads count against the budget of 16 MiB. */
static void test_big_replies(void **state)
{
    int fd[3], small = 4096;
    struct answer *a;

    (void)state;
    for (int i = 0; i < 2; i++) {
        fd[i] = dial();
        setsockopt(fd[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        ask(fd[i], "GET /big HTTP/1.1\r\n%s\r\n", t.auth);
        wait_until(&finishes, (unsigned)i + 1);
    }
    fd[2] = dial();
    ask(fd[2], "GET /big HTTP/1.1\r\n%s\r\n", t.auth);
    a = hear(fd[2]);
    assert_int_equal(a->status, 503);
    assert_non_null(strstr(a->body, "\"code\":\"busy\""));
    reset(fd[0]);
    for (int i = 0; i < 100 && metric(METRIC_BODY_BYTES) > 7 << 20; i++)
        usleep(10000);
    ask(fd[2], "GET /big HTTP/1.1\r\n%s\r\n", t.auth);
    a = hear_for(fd[2], true);
    assert_int_equal(a->status, 200);
    assert_int_equal(drink(fd[2], 7 << 20), 7 << 20);
    close(fd[1]);
    close(fd[2]);
}

/* A reader that stops reading holds no worker for longer than write-ms. */
static void test_stream_stuck(void **state)
{
    int fd = dial(), again;

    (void)state;
    ask(fd, "GET /stream?bytes=900000000 HTTP/1.1\r\n%s\r\n", t.auth);
    again = dial();
    ask(again, "GET /stream?bytes=900000000 HTTP/1.1\r\n%s\r\n", t.auth);
    assert_int_equal(hear_for(again, true)->status, 200);
    reset(again);
    wait_until(&cancels, 2);
    close(fd);
}

static void test_commit_groups(void **state)
{
    int fd[32];

    (void)state;
    gate_open = false;
    for (int i = 0; i < 32; i++) {
        fd[i] = dial();
        ask(fd[i], "PUT /commit HTTP/1.1\r\n%s\r\n", t.auth);
    }
    usleep(100000);
    gate_open = true;
    for (int i = 0; i < 32; i++) {
        assert_string_equal(hear(fd[i])->body, "committed");
        close(fd[i]);
    }
    assert_int_equal(atomic_load(&committed), 32);
    assert_true(atomic_load(&largest_group) > 8);
    assert_true(atomic_load(&commits) < 16);
}

/* All readers are busy and the queue is full: 503 at once, and /healthz answers. */
static void test_overload(void **state)
{
    enum { MANY = 300 };
    static int fd[MANY];
    int health, busy = 0, slept = 0;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        fd[i] = dial();
        ask(fd[i], "GET /slow?ms=300 HTTP/1.1\r\n%s\r\n", t.auth);
        if (i == 10) /* the queue holds 256 of these, of 300 ms, on two readers: too long; cancel later */
            wait_until(&works, 2);
    }
    health = dial();
    ask(health, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(hear(health)->status, 200);
    close(health);
    for (int i = MANY - 1; i >= 0; i--) {
        struct pollfd p = {.fd = fd[i], .events = POLLIN};
        if (poll(&p, 1, 0) == 1) {
            struct answer *a = hear(fd[i]);
            busy += a->status == 503;
            slept += a->status == 200;
        }
        reset(fd[i]);
    }
    assert_true(busy >= 300 - 256 - 10);
    assert_true(slept < 50);
}

static void test_unix_socket(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat st;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)state;
    snprintf(a.sun_path, sizeof a.sun_path, "%s/socket", socket_path);
    assert_int_equal(stat(a.sun_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    ask(fd, "GET /plain HTTP/1.1\r\n%s\r\n", t.auth);
    assert_int_equal(hear(fd)->status, 200);
    ask(fd, "GET /slow?ms=60000 HTTP/1.1\r\n%s\r\n", t.auth);
    wait_until(&works, 1);
    close(fd);
    wait_until(&cancels, 1);
}

/* What stands at a unix socket's path before listening: a live server, nobody any more, a file. */
static void test_socket_path(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct err e = ERR_INIT;
    char path[160];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    FILE *f;

    (void)state;
    snprintf(path, sizeof path, "%s/socket", socket_path);
    assert_int_equal(listen_clear_path(path, &e), ERR_CONFLICT);
    assert_int_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/stale", socket_path);
    assert_int_equal(listen_clear_path(path, &e), 0);
    memcpy(a.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    close(fd);
    assert_int_equal(listen_clear_path(path, &e), 0);
    assert_int_not_equal(access(path, F_OK), 0);
    f = fopen(path, "w");
    fclose(f);
    assert_int_equal(listen_clear_path(path, &e), ERR_CONFLICT);
    assert_int_equal(unlink(path), 0);
}

static void test_drain(void **state)
{
    int running, idle = dial(), half = dial();

    (void)state;
    ask(idle, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(hear(idle)->status, 200);
    running = dial();
    ask(running, "GET /slow?ms=400 HTTP/1.1\r\n%s\r\n", t.auth);
    wait_until(&works, 1);
    say_text(half, "GET /slow HTTP/1.1\r\n");
    usleep(20000);
    server_stop(t.rt.server, EXIT_STORE_FAILED);
    assert_true(at_end(idle));
    ask(half, "%s\r\n", t.auth);
    assert_int_equal(hear(half)->status, 503);
    assert_string_equal(hear(running)->body, "slept");
    assert_true(at_end(running));
    close(running);
    close(idle);
    close(half);
    pthread_join(t.thread, NULL);
    assert_int_equal(t.exit_code, EXIT_STORE_FAILED);
    /* for teardown */
    pool_free(t.rt.pool);
    server_free(t.rt.server);
    auth_free(t.rt.auth);
    metrics_free(t.rt.metrics);
    start();
}

/* Many exchanges broken off at many places: nothing is left over (stop checks the counts, the
 * address sanitizer the memory). */
static void test_aborts(void **state)
{
    char text[512];
    int len = snprintf(text, sizeof text,
                       "PUT /echo/n HTTP/1.1\r\n%sContent-Length: 40\r\n\r\n"
                       "0123456789012345678901234567890123456789",
                       t.auth);

    (void)state;
    for (int i = 0; i < 3000; i++) {
        int fd = dial();
        say(fd, text, (size_t)(i % (len + 1)));
        if (i % 3)
            reset(fd);
        else
            close(fd);
    }
    assert_int_equal(once("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", NULL), 200);
}

static void test_connection_limit(void **state)
{
    enum { MANY = 20 };
    int fd[MANY];

    (void)state;
    t.config.connections = 8;
    for (int i = 0; i < MANY; i++) {
        fd[i] = dial();
        usleep(1000);
    }
    /* the newest are served: the ones that idled longest made room */
    ask(fd[MANY - 1], "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(hear(fd[MANY - 1])->status, 200);
    assert_true(at_end(fd[0]));
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
}

/* A client that has shown a key keeps its idle connection while strangers come and say nothing. */
static void test_connection_limit_known(void **state)
{
    enum { MANY = 20 };
    int fd[MANY], mine;
    char text[512];

    (void)state;
    t.config.connections = 8;
    snprintf(text, sizeof text, "GET /plain HTTP/1.1\r\n%s\r\n", t.auth);
    mine = dial();
    ask(mine, "%s", text);
    assert_int_equal(hear(mine)->status, 200);
    for (int i = 0; i < MANY; i++) {
        fd[i] = dial();
        usleep(1000);
    }
    ask(mine, "%s", text);
    assert_int_equal(hear(mine)->status, 200);
    close(mine);
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
}

/* Heads that never end hold every place: whoever comes next gets the oldest one's. */
static void test_connection_limit_slow_heads(void **state)
{
    enum { MANY = 8 };
    int fd[MANY], mine;

    (void)state;
    t.config.connections = MANY;
    t.config.head_ms = 60000;
    for (int i = 0; i < MANY; i++) {
        fd[i] = dial();
        say(fd[i], "GET /healthz HT", 15);
        usleep(1000);
    }
    usleep((LIMIT_HEAD_GRACE_MS + 300) * 1000);
    mine = dial();
    ask(mine, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(hear(mine)->status, 200);
    assert_true(at_end(fd[0]));
    ask(fd[MANY - 1], "TP/1.1\r\nHost: x\r\n\r\n"); /* slow, but not the slowest */
    assert_int_equal(hear(fd[MANY - 1])->status, 200);
    close(mine);
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers),
        TEST(test_http10),
        TEST(test_refusals),
        TEST(test_problem_fields),
        TEST(test_malformed),
        TEST(test_limits),
        TEST(test_splits),
        TEST(test_bad_chunks),
        TEST(test_chunked_too_large),
        TEST(test_pipelining),
        TEST(test_expect),
        TEST(test_auth_before_body),
        TEST(test_budget),
        TEST(test_truncated),
        TEST(test_slow_clients),
        TEST(test_hang_up_cancels),
        TEST(test_deadline),
        TEST(test_stream),
        TEST(test_big_replies),
        TEST(test_stream_stuck),
        TEST(test_commit_groups),
        TEST(test_overload),
        TEST(test_unix_socket),
        TEST(test_socket_path),
        TEST(test_drain),
        TEST(test_aborts),
        TEST(test_connection_limit),
        TEST(test_connection_limit_known),
        TEST(test_connection_limit_slow_heads),
    };
    int rc;

    if (!mkdtemp(socket_path))
        return 1;
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(socket_path);
    return rc;
}
