/* audit.c - see audit.h. */
#include "server/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/auth.h"
#include "server/exchange.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/route.h"
#include "server/server.h"
#include "storage/base/mem.h"

/* Refusals that are written out: so many at once, then so many a second. */
static const double DENIED_BURST = 50, DENIED_RATE = 5;

struct audit {
    char *path; /* owned; NULL: into the log */
    bool off;
    int fd;     /* of the path, else standard error */
    struct metrics *metrics;
    double tokens; /* refusals that may still be written */
    uint64_t filled_ns, kept_back;
};

static int open_file(const char *path, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    struct stat st;

    if (fd < 0) {
        err_errno(e, errno, path);
        err_wrap(e, "audit: ");
        return -1;
    }
    /* a device or a pipe could hold up the loop */
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        err_set(e, ERR_INVALID, "audit: %.150s is not a plain file", path);
        return -1;
    }
    return fd;
}

struct audit *audit_new(const char *where, struct metrics *metrics, struct err *e)
{
    struct audit *a = mem_new(1, sizeof *a);

    *a = (struct audit){.fd = STDERR_FILENO, .metrics = metrics, .tokens = DENIED_BURST};
    a->off = strcmp(where, "off") == 0;
    if (a->off || strcmp(where, "log") == 0)
        return a;
    a->fd = open_file(where, e);
    if (a->fd < 0) {
        free(a);
        return NULL;
    }
    a->path = mem_new(strlen(where) + 1, 1);
    memcpy(a->path, where, strlen(where) + 1);
    return a;
}

void audit_free(struct audit *a)
{
    if (!a)
        return;
    if (a->path)
        close(a->fd);
    free(a->path);
    free(a);
}

bool audit_reopen(struct audit *a)
{
    struct err e = ERR_INIT;
    int fd;

    if (!a || !a->path)
        return false;
    fd = open_file(a->path, &e);
    if (fd < 0) {
        log_note(LOG_ERROR, "audit", "%s; the file before it is written on", e.text);
        return true;
    }
    close(a->fd);
    a->fd = fd;
    log_note(LOG_INFO, "audit", "%s opened again", a->path);
    return true;
}

static void begin(const struct audit *a, struct log_line *l, const char *kind)
{
    log_stamp(l);
    if (!a->path)
        log_text(l, "msg", "audit");
    log_text(l, "audit", kind);
}

/* A line that cannot be written is counted and told, and the server goes on: a full disk must not
 * end the service that could make room on it. */
static void end(struct audit *a, struct log_line *l)
{
    if (log_write(l, a->fd))
        return;
    metrics_add(a->metrics, METRIC_AUDIT_LOST, 1);
    if (a->path)
        log_note(LOG_ERROR, "audit", "a line could not be written to %s: %s", a->path,
                 strerror(errno));
}

/* May one more refusal be written? */
static bool draw(struct audit *a)
{
    uint64_t now = server_now();

    if (a->filled_ns)
        a->tokens += (double)(now - a->filled_ns) * 1e-9 * DENIED_RATE;
    a->filled_ns = now;
    if (a->tokens > DENIED_BURST)
        a->tokens = DENIED_BURST;
    if (a->tokens < 1) {
        a->kept_back++;
        return false;
    }
    a->tokens -= 1;
    return true;
}

/* What the path names: the corpus, and the thing in it or beside it. */
static void put_object(struct log_line *l, const struct job *j)
{
    static const char own[] = "/v1/corpora/{c}";
    bool in_corpus = j->route && strncmp(j->route->path, own, sizeof own - 1) == 0;
    const char *corpus = in_corpus ? j->path[0] : job_query(j, "corpus");
    const char *on = j->path[in_corpus ? 1 : 0];

    if (corpus)
        log_text(l, "corpus", corpus);
    if (on)
        log_text(l, "on", on);
    if (j->audit_note)
        log_text(l, "note", j->audit_note);
}

static void put_who(struct log_line *l, const struct exchange *x)
{
    const struct job *j = &x->job;

    log_text(l, "key", j->key_id[0] ? j->key_id : "-");
    if (j->key_label[0])
        log_text(l, "label", j->key_label);
    if (j->scopes)
        log_text(l, "scope", auth_scopes_name(j->scopes));
    log_text(l, "peer", x->peer);
    if (x->forwarded)
        log_text(l, "forwarded", x->forwarded);
}

/* NULL: of no interest. */
static const char *kind_of(const struct job *j)
{
    const struct route *r = j->route;

    if (j->err.code == ERR_UNAUTHORIZED || j->err.code == ERR_KEY_EXPIRED ||
        j->err.code == ERR_FORBIDDEN)
        return "denied";
    if (!r || !(r->scope & (SCOPE_WRITE | SCOPE_ADMIN)))
        return NULL;
    return strcmp(r->method, "GET") == 0 ? "look" : "change";
}

void audit_request(struct audit *a, const struct exchange *x, int status)
{
    const struct job *j = &x->job;
    const char *kind = a && !a->off ? kind_of(j) : NULL;
    struct log_line l;

    if (!kind || (*kind == 'd' && !draw(a)))
        return;
    begin(a, &l, kind);
    log_text(&l, "method", x->framing.method);
    log_text(&l, "route", j->route ? j->route->path : "-");
    put_object(&l, j);
    put_who(&l, x);
    log_text(&l, "request", j->request_id);
    log_number(&l, "status", (uint64_t)status);
    log_text(&l, "code", j->err.code ? err_word(j->err.code) : "ok");
    if (a->kept_back && *kind == 'd') {
        log_number(&l, "not_written", a->kept_back);
        a->kept_back = 0;
    }
    end(a, &l);
}

void audit_server(struct audit *a, const char *what, const char *detail)
{
    struct log_line l;

    if (!a || a->off)
        return;
    begin(a, &l, "server");
    log_text(&l, "what", what);
    log_text(&l, "detail", detail);
    log_number(&l, "pid", (uint64_t)getpid());
    log_number(&l, "uid", (uint64_t)getuid());
    end(a, &l);
}
