/* http.c - one request over HTTP: attempts, pauses between them, bounds on what comes back. The
 * only file that names curl.
 *
 * An attempt is driven by the multi interface in steps of at most 100 ms, so that a cancel, the
 * caller's on_tick and the idle bound are noticed while nothing moves. The connection is kept
 * between requests. Thread: the client's.
 */
#include "client/inner.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { STEP_MS = 100 };

struct asc__wire {
    CURLM *multi;
    CURL *easy;
};

/* One attempt. */
struct attempt {
    struct asc_client *c;
    const struct asc__request *r;
    struct asc_transfer at;
    struct asc__buf answer; /* owned */
    uint64_t body_at;       /* next byte of the request's body */
    uint64_t moved_ms;      /* when a byte last moved */
    int status;
    int retry_after_s;
    char request_id[64];
    int read_errno;     /* the body could not be read */
    bool too_large;     /* the answer passed max_response */
    bool sink_stopped;
    bool sink_fed;      /* the sink has seen bytes: no retry can take them back */
    bool idle;
    bool aborted;
    char curl_text[CURL_ERROR_SIZE];
};

static void global_start(void)
{
    curl_global_init(CURL_GLOBAL_ALL);
}

int asc__wire_open(struct asc__wire **out, struct asc_error *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct asc__wire *w = calloc(1, sizeof *w);

    pthread_once(&once, global_start);
    if (w) {
        w->multi = curl_multi_init();
        w->easy = curl_easy_init();
    }
    if (!w || !w->multi || !w->easy) {
        asc__wire_close(w);
        return asc__no_memory(e, sizeof *w);
    }
    *out = w;
    return 0;
}

void asc__wire_close(struct asc__wire *w)
{
    if (!w)
        return;
    if (w->easy)
        curl_easy_cleanup(w->easy);
    if (w->multi)
        curl_multi_cleanup(w->multi);
    free(w);
}

/* --- What curl calls -------------------------------------------------------------------------- */

static size_t on_read(char *out, size_t size, size_t count, void *user)
{
    struct attempt *a = user;
    int64_t got = asc__body_read(a->r->body, a->body_at, out, size * count);

    if (got < 0) {
        a->read_errno = errno;
        return CURL_READFUNC_ABORT;
    }
    a->body_at += (uint64_t)got;
    a->at.sent = a->body_at;
    a->moved_ms = asc__now_ms();
    return (size_t)got;
}

static int on_seek(void *user, curl_off_t offset, int origin)
{
    struct attempt *a = user;

    if (origin != SEEK_SET || offset < 0)
        return CURL_SEEKFUNC_CANTSEEK;
    a->body_at = a->at.sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static size_t on_write(char *bytes, size_t size, size_t count, void *user)
{
    struct attempt *a = user;
    size_t len = size * count;
    long status = 0;
    curl_off_t total = -1;

    curl_easy_getinfo(a->c->wire->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(a->c->wire->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &total);
    a->status = (int)status;
    a->at.received += len;
    a->at.receive_total = total > 0 ? (uint64_t)total : 0;
    a->moved_ms = asc__now_ms();
    if (status >= 200 && status < 300 && a->r->sink) {
        a->sink_fed = true;
        a->sink_stopped = a->r->sink(a->r->user, bytes, len) != 0;
        return a->sink_stopped ? 0 : len;
    }
    if (a->answer.len + len > (status >= 400 ? ASC__PROBLEM_MAX : a->c->options.max_response)) {
        a->too_large = true;
        return 0;
    }
    asc__buf_add(&a->answer, bytes, len);
    return a->answer.failed ? 0 : len;
}

static bool header_is(const char *line, size_t len, const char *name, const char **out_value)
{
    size_t n = strlen(name);

    if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    for (n++; n < len && (line[n] == ' ' || line[n] == '\t'); n++)
        ;
    *out_value = line + n;
    return true;
}

static size_t on_header(char *line, size_t size, size_t count, void *user)
{
    struct attempt *a = user;
    size_t len = size * count;
    const char *value;

    a->moved_ms = asc__now_ms();
    if (header_is(line, len, "retry-after", &value)) {
        long seconds = 0;
        const char *p = value;

        for (; p < line + len && *p >= '0' && *p <= '9' && seconds < 100000; p++)
            seconds = seconds * 10 + (*p - '0');
        if (p > value)
            a->retry_after_s = (int)seconds;
    } else if (header_is(line, len, "x-request-id", &value)) {
        size_t n = 0;

        for (const char *p = value; p < line + len && *p > 0x20 && *p < 0x7f; p++)
            if (n + 1 < sizeof a->request_id)
                a->request_id[n++] = *p;
        a->request_id[n] = '\0';
    }
    return len;
}

/* --- One attempt ------------------------------------------------------------------------------ */

static bool stop_asked(struct attempt *a)
{
    const struct asc_options *o = &a->c->options;

    if (atomic_load(&a->c->cancelled) || (o->on_tick && o->on_tick(o->user, &a->at) != 0))
        a->aborted = true;
    return a->aborted;
}

static struct curl_slist *header_add(struct curl_slist *list, const char *name, const char *value,
                                     bool *ok)
{
    struct asc__buf b = {0};
    struct curl_slist *next = NULL;

    asc__buf_text(&b, name);
    asc__buf_text(&b, value);
    if (!b.failed)
        next = curl_slist_append(list, b.data);
    asc__buf_free(&b);
    *ok = *ok && next;
    return next ? next : list;
}

/* A POST or PUT without a body still says that its length is 0. */
static bool sends_nothing(const struct asc__request *r)
{
    return !r->body && (strcmp(r->method, "POST") == 0 || strcmp(r->method, "PUT") == 0);
}

static struct curl_slist *headers(const struct asc_client *c, const struct asc__request *r,
                                  bool *ok)
{
    struct curl_slist *list = NULL;

    *ok = true;
    if (c->key_header)
        list = header_add(list, c->key_header, "", ok);
    if (r->content_type)
        list = header_add(list, "Content-Type: ", r->content_type, ok);
    else if (sends_nothing(r))
        list = header_add(list, "Content-Type:", "", ok); /* curl would call it a form */
    if (r->fingerprint)
        list = header_add(list, "X-Ascribe-Fingerprint: ", r->fingerprint, ok);
    return list;
}

static void set_options(struct attempt *a, const char *url, struct curl_slist *list)
{
    CURL *h = a->c->wire->easy;
    const struct asc_options *o = &a->c->options;

    curl_easy_reset(h); /* the connection cache is the multi's and stays */
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)o->connect_timeout_ms);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "libascribe/" ASCRIBE_VERSION);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, a->curl_text);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, a);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, a);
    curl_easy_setopt(h, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, a->r->method);
    if (a->c->url.plain)
        curl_easy_setopt(h, CURLOPT_PROXY, "");
    if (a->c->url.socket)
        curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, a->c->url.socket);
    if (strcmp(a->r->method, "HEAD") == 0)
        curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
    if (sends_nothing(a->r)) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE, 0L);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, "");
    }
    if (!a->r->body)
        return;
    curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)a->r->body->len);
    curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
    curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(h, CURLOPT_READDATA, a);
    curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(h, CURLOPT_SEEKDATA, a);
}

/* Runs until curl is done, or we stop it. */
static CURLcode drive(struct attempt *a)
{
    struct asc__wire *w = a->c->wire;
    CURLcode rc = CURLE_OK;
    bool done = false;

    a->moved_ms = asc__now_ms();
    if (curl_multi_add_handle(w->multi, w->easy) != CURLM_OK)
        return CURLE_OUT_OF_MEMORY;
    while (!done) {
        int running = 0, left = 0;
        CURLMsg *m;

        if (curl_multi_perform(w->multi, &running) != CURLM_OK) {
            rc = CURLE_FAILED_INIT;
            break;
        }
        while ((m = curl_multi_info_read(w->multi, &left)))
            if (m->msg == CURLMSG_DONE) {
                rc = m->data.result;
                done = true;
            }
        if (done)
            break;
        a->idle = asc__now_ms() - a->moved_ms > a->c->options.idle_timeout_ms;
        if (a->idle || stop_asked(a)) {
            rc = CURLE_OPERATION_TIMEDOUT;
            break;
        }
        curl_multi_poll(w->multi, NULL, 0, STEP_MS, NULL);
    }
    curl_multi_remove_handle(w->multi, w->easy);
    return rc;
}

/* Under TLS curl writes without MSG_NOSIGNAL: a server that hangs up would send SIGPIPE, and a
 * library has no business with the program's handlers. So this thread holds the signal back, and
 * swallows one that came meanwhile. */
static CURLcode drive_quietly(struct attempt *a)
{
    const struct timespec now = {0};
    sigset_t pipe_only, before, pending;
    bool was_pending;
    CURLcode rc;

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    rc = drive(a);
    if (!was_pending)
        while (sigtimedwait(&pipe_only, NULL, &now) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static CURLcode attempt_run(struct attempt *a, struct asc_error *e)
{
    struct asc__buf url = {0};
    struct curl_slist *list;
    CURLcode rc = CURLE_OUT_OF_MEMORY;
    long status = 0;
    bool ok;

    list = headers(a->c, a->r, &ok);
    asc__buf_text(&url, a->c->url.base);
    asc__buf_text(&url, a->r->path);
    if (ok && !url.failed) {
        set_options(a, url.data, list);
        rc = drive_quietly(a);
        curl_easy_getinfo(a->c->wire->easy, CURLINFO_RESPONSE_CODE, &status);
        a->status = (int)status;
    } else {
        asc__no_memory(e, url.len);
    }
    curl_slist_free_all(list);
    asc__buf_free(&url);
    return rc;
}

/* --- What came of it -------------------------------------------------------------------------- */

enum fate { FATE_DONE, FATE_FAIL, FATE_AGAIN };

static int network_error(const struct attempt *a, CURLcode rc, struct asc_error *e)
{
    const char *where = a->c->url.socket ? a->c->url.socket : a->c->url.base;
    const char *text = a->curl_text[0] ? a->curl_text : curl_easy_strerror(rc);

    if (a->idle)
        return asc__fail(e, ASC_NETWORK, "timeout", "%s: no byte for %u ms", where,
                         a->c->options.idle_timeout_ms);
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return asc__fail(e, ASC_NETWORK, "timeout", "%s: %s", where, text);
    if (rc == CURLE_COULDNT_RESOLVE_HOST)
        return asc__fail(e, ASC_NETWORK, "no_such_host", "%s: %s", where, text);
    if (rc == CURLE_COULDNT_CONNECT)
        return asc__fail(e, ASC_NETWORK, "unreachable", "%s: %s", where, text);
    return asc__fail(e, ASC_NETWORK, "connection", "%s: %s", where, text);
}

static enum fate broken(const struct attempt *a, CURLcode rc, struct asc_error *e)
{
    bool unsent = rc == CURLE_COULDNT_CONNECT;
    bool lasting = rc == CURLE_COULDNT_RESOLVE_HOST || rc == CURLE_URL_MALFORMAT ||
                   rc == CURLE_UNSUPPORTED_PROTOCOL || rc == CURLE_PEER_FAILED_VERIFICATION ||
                   rc == CURLE_SSL_CACERT_BADFILE;

    if (a->aborted) {
        asc__fail(e, ASC_ABORTED, "aborted", "stopped by the caller");
        return FATE_FAIL;
    }
    if (a->read_errno) {
        asc__fail_errno(e, ASC_INPUT, a->read_errno, "read the body to send");
        return FATE_FAIL;
    }
    if (a->sink_stopped) {
        asc__fail(e, ASC_ABORTED, "aborted", "stopped by the receiver of the answer");
        return FATE_FAIL;
    }
    if (a->too_large) {
        asc__fail(e, ASC_PROTOCOL, "answer_too_large", "the answer has more than %llu bytes",
                  (unsigned long long)(a->status >= 400 ? ASC__PROBLEM_MAX
                                                        : a->c->options.max_response));
        return FATE_FAIL;
    }
    if (rc == CURLE_OUT_OF_MEMORY || a->answer.failed) {
        asc__no_memory(e, a->answer.len);
        return FATE_FAIL;
    }
    network_error(a, rc, e);
    if (lasting || a->sink_fed || a->r->retry == ASC__RETRY_NEVER)
        return FATE_FAIL;
    return unsent || a->r->retry == ASC__RETRY_SAFE ? FATE_AGAIN : FATE_FAIL;
}

static enum fate answered(const struct attempt *a, struct asc_error *e)
{
    bool early = a->status == 408 || a->status == 429 || a->status == 503;
    bool passing = early || a->status == 502 || a->status == 504;

    if (a->status >= 200 && a->status < 300)
        return FATE_DONE;
    if (a->status < 400) {
        asc__fail(e, ASC_PROTOCOL, "unexpected_status",
                  "the server answered %d: is this an ascribe server?", a->status);
        if (e)
            e->http_status = a->status;
        return FATE_FAIL;
    }
    asc__fail_answer(e, a->status, a->answer.data, a->answer.len);
    if (e) {
        e->retry_after_s = a->retry_after_s;
        if (!e->request_id[0])
            memcpy(e->request_id, a->request_id, sizeof e->request_id);
    }
    /* 408, 429 and 503 are said before any work begins; 502 and 504 may follow some. */
    if (passing &&
        (a->r->retry == ASC__RETRY_SAFE || (early && a->r->retry == ASC__RETRY_UNSENT)))
        return FATE_AGAIN;
    return FATE_FAIL;
}

static enum fate judge(const struct attempt *a, CURLcode rc, struct asc_error *e)
{
    if (rc == CURLE_OK)
        return answered(a, e);
    /* A server that refuses early answers and closes while we still send: the answer counts. */
    if (!a->aborted && !a->idle && a->status >= 400 && a->answer.len > 0 && !a->too_large &&
        (rc == CURLE_SEND_ERROR || rc == CURLE_RECV_ERROR)) {
        json_t *o = json_loadb(a->answer.data, a->answer.len, 0, NULL);
        bool whole = json_is_object(o);

        json_decref(o);
        if (whole)
            return answered(a, e);
    }
    return broken(a, rc, e);
}

uint64_t asc__pause_ms(const struct asc_options *o, unsigned attempt, int retry_after_s,
                       uint32_t random)
{
    uint64_t pause = (uint64_t)o->backoff_ms << (attempt > 6 ? 5 : attempt - 1);
    uint64_t asked = retry_after_s > 0 ? (uint64_t)retry_after_s * 1000 : 0;

    pause += pause * (random % 256) / 1024;
    if (pause < asked)
        pause = asked;
    return pause < ASC__PAUSE_MAX_MS ? pause : ASC__PAUSE_MAX_MS;
}

static bool pause_for(struct attempt *a, uint64_t ms)
{
    uint64_t end = asc__now_ms() + ms;

    for (uint64_t now = asc__now_ms(); now < end; now = asc__now_ms()) {
        uint64_t step = end - now < STEP_MS ? end - now : STEP_MS;
        struct timespec t = {.tv_nsec = (long)step * 1000000};

        if (stop_asked(a))
            return false;
        nanosleep(&t, NULL);
    }
    return true;
}

static uint32_t jitter(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint32_t)t.tv_nsec * 2654435761u >> 16;
}

int asc__perform(struct asc_client *c, const struct asc__request *r, struct asc__reply *out,
                 struct asc_error *e)
{
    struct asc_error own, *err = e ? e : &own;
    unsigned most = 1 + (c->options.retries > 0 ? (unsigned)c->options.retries : 0);
    bool broke = false; /* an attempt was lost on the way: the server may have done it */

    for (unsigned n = 1;; n++) {
        struct attempt a = {.c = c, .r = r, .retry_after_s = -1, .at.attempt = n};
        enum fate fate;
        CURLcode rc = CURLE_OK;

        a.at.send_total = r->body ? r->body->len : 0;
        if (stop_asked(&a)) {
            fate = broken(&a, CURLE_OPERATION_TIMEDOUT, err);
        } else {
            rc = attempt_run(&a, err);
            fate = judge(&a, rc, err);
        }
        /* The thing to remove is gone: an attempt before this one did it. */
        if (fate == FATE_FAIL && broke && a.status == 404 && strcmp(r->method, "DELETE") == 0)
            fate = FATE_DONE;
        if (fate == FATE_DONE) {
            if (!a.answer.data)
                asc__buf_add(&a.answer, "", 0);
            if (a.answer.failed)
                return asc__no_memory(e, 1);
            *out = (struct asc__reply){.status = a.status, .data = a.answer.data,
                                       .len = a.answer.len};
            return 0;
        }
        asc__buf_free(&a.answer);
        err->attempts = n;
        if (fate == FATE_FAIL || n >= most)
            return (int)err->status;
        broke = broke || rc != CURLE_OK;
        if (!pause_for(&a, asc__pause_ms(&c->options, n, a.retry_after_s, jitter())))
            return asc__fail(e, ASC_ABORTED, "aborted", "stopped by the caller");
    }
}
