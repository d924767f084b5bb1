/* encoder_process.c - see encoder_process.h. Four handles make a process; its memory goes when all
 * of them are closed, and it is waited for before that, so that no zombie stays. */
#include "server/encoder_process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/encoder_child.h"
#include "server/server.h"

enum {
    ROOM = 64 * 1024,     /* of one read */
    LINE = 512,           /* of standard error */
    COMPLAINTS = ROOM,    /* bytes of standard error taken between two looks: more waits */
    HANDLES = 4
};
/* A pipe that closes comes just before an exit, as a rule: the exit tells more. And the last words
 * come just after it. */
static const uint64_t SETTLE_NS = UINT64_C(300000000);

struct encoder_process {
    uv_process_t child;
    uv_pipe_t in, out, err;
    unsigned open; /* handles not closed yet */
    const struct encoder_events *events; /* NULL: nobody listens any more */
    void *arg;
    bool waited, out_ended, err_ended, stopped;
    uint64_t ending_ns; /* when the first sign of the end came; 0: none */
    char why[96];
    size_t complaints;
    char line[LINE];
    size_t line_len;
    bool line_cut;
    char out_room[ROOM], err_room[ROOM];
};

/* ---- closing --------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
    struct encoder_process *p = h->data;

    if (--p->open == 0)
        free(p);
}

static void close_handle(void *handle)
{
    uv_handle_t *h = handle;

    if (!uv_is_closing(h))
        uv_close(h, on_closed);
}

static void close_pipes(struct encoder_process *p)
{
    close_handle(&p->in);
    close_handle(&p->out);
    close_handle(&p->err);
}

/* The first sign counts, but an exit tells more than a closed pipe. */
static void ending(struct encoder_process *p, bool better, const char *why)
{
    if (!p->ending_ns || better)
        snprintf(p->why, sizeof p->why, "%s", why);
    if (!p->ending_ns)
        p->ending_ns = server_now();
}

static void on_exit_of(uv_process_t *child, int64_t status, int number)
{
    struct encoder_process *p = child->data;
    char why[64];

    p->waited = true;
    if (number)
        snprintf(why, sizeof why, "was ended by signal %d (%s)", number, strsignal(number));
    else
        snprintf(why, sizeof why, "ended with exit code %lld", (long long)status);
    ending(p, true, why);
    if (!p->events)
        close_handle(&p->child);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void on_out_room(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct encoder_process *p = h->data;

    (void)suggested;
    *buf = uv_buf_init(p->out_room, ROOM);
}

static void on_out(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct encoder_process *p = s->data;

    if (n < 0) {
        p->out_ended = true;
        uv_read_stop(s);
        ending(p, false, "closed its output");
    } else if (n > 0 && p->events && !p->events->said(p->arg, buf->base, (size_t)n)) {
        uv_read_stop(s);
    }
}

static void on_err_room(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct encoder_process *p = h->data;

    (void)suggested;
    *buf = uv_buf_init(p->err_room, ROOM);
}

static void end_line(struct encoder_process *p)
{
    if (p->line_len && p->events)
        p->events->complained(p->arg, p->line, p->line_len);
    p->line_len = 0;
}

static void take_complaints(struct encoder_process *p, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];

        if (c == '\n')
            end_line(p);
        else if (p->line_len < LINE) /* the rest of a long line is dropped */
            p->line[p->line_len++] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
    }
}

static void on_err(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct encoder_process *p = s->data;

    if (n < 0) {
        p->err_ended = true;
        uv_read_stop(s);
        end_line(p);
        return;
    }
    take_complaints(p, buf->base, (size_t)n);
    p->complaints += (size_t)n;
    if (p->complaints > COMPLAINTS) { /* the child waits at its full pipe, not we */
        p->stopped = true;
        uv_read_stop(s);
    }
}

/* ---- starting -------------------------------------------------------------------------------- */

/* What of our environment is none of the encoder's business. */
static bool withheld(const char *entry)
{
    static const char *const names[] = {"ASCRIBE_KEY", "NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_FD"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static char **environment(void)
{
    size_t count = 0, kept = 0;
    char **out;

    while (environ[count])
        count++;
    out = mem_new(count + 1, sizeof *out);
    for (size_t i = 0; i < count; i++)
        if (!withheld(environ[i]))
            out[kept++] = environ[i];
    return out;
}

static int spawn(struct server *s, struct encoder_process *p, char *const *argv)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&p->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->out},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->err},
    };
    char parent[24], self[] = "/proc/self/exe", name[] = "ascribed", word[] = ENCODER_CHILD_WORD;
    size_t count = 0;
    char **args, **env = environment();
    uv_process_options_t o = {.exit_cb = on_exit_of,
                              .file = self,
                              .env = env,
                              .flags = UV_PROCESS_DETACHED,
                              .stdio_count = 3,
                              .stdio = stdio};
    int rc;

    while (argv[count])
        count++;
    args = mem_new(count + 4, sizeof *args);
    snprintf(parent, sizeof parent, "%ld", (long)getpid());
    args[0] = name;
    args[1] = word;
    args[2] = parent;
    memcpy(args + 3, argv, count * sizeof *args);
    o.args = args;
    rc = uv_spawn(&s->loop, &p->child, &o);
    free(args);
    free(env);
    return rc;
}

int encoder_process_start(struct server *s, char *const *argv, const struct encoder_events *events,
                          void *arg, struct encoder_process **out, struct err *e)
{
    struct encoder_process *p = mem_new(1, sizeof *p);
    int rc;

    p->events = events;
    p->arg = arg;
    p->open = HANDLES;
    uv_pipe_init(&s->loop, &p->in, 0);
    uv_pipe_init(&s->loop, &p->out, 0);
    uv_pipe_init(&s->loop, &p->err, 0);
    rc = spawn(s, p, argv);
    p->child.data = p->in.data = p->out.data = p->err.data = p;
    if (!rc)
        rc = uv_read_start((uv_stream_t *)&p->out, on_out_room, on_out);
    if (!rc)
        rc = uv_read_start((uv_stream_t *)&p->err, on_err_room, on_err);
    if (rc) {
        p->waited = !uv_is_active((uv_handle_t *)&p->child);
        encoder_process_kill(p);
        return err_set(e, ERR_ENCODER, "the encoder cannot be started: %s", uv_strerror(rc));
    }
    *out = p;
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

struct writing {
    uv_write_t req;
    struct encoder_process *process;
    unsigned char *bytes; /* owned */
};

static void on_written(uv_write_t *req, int status)
{
    struct writing *w = req->data;

    if (status && status != UV_ECANCELED)
        ending(w->process, false, "closed its input");
    free(w->bytes);
    free(w);
}

void encoder_process_write(struct encoder_process *p, struct buf *bytes)
{
    struct writing *w = mem_new(1, sizeof *w);
    uv_buf_t part = uv_buf_init((char *)bytes->data, (unsigned)bytes->len);

    w->req.data = w;
    w->process = p;
    w->bytes = bytes->data;
    *bytes = (struct buf){0};
    if (uv_is_closing((uv_handle_t *)&p->in) ||
        uv_write(&w->req, (uv_stream_t *)&p->in, &part, 1, on_written)) {
        free(w->bytes);
        free(w);
        ending(p, false, "closed its input");
    }
}

/* ---- the end --------------------------------------------------------------------------------- */

bool encoder_process_lives(struct encoder_process *p, uint64_t now_ns, char *why, size_t size)
{
    bool said_all = p->waited && p->out_ended && p->err_ended;

    p->complaints = 0;
    if (p->stopped) {
        p->stopped = false;
        uv_read_start((uv_stream_t *)&p->err, on_err_room, on_err);
    }
    if (!p->ending_ns || (!said_all && now_ns < p->ending_ns + SETTLE_NS))
        return true;
    end_line(p);
    snprintf(why, size, "%s", p->why);
    return false;
}

void encoder_process_quit(struct encoder_process *p)
{
    close_handle(&p->in);
    if (!p->waited)
        uv_process_kill(&p->child, SIGTERM);
}

void encoder_process_kill(struct encoder_process *p)
{
    int pid = p->child.pid;

    p->events = NULL;
    if (pid > 0)
        kill(-pid, SIGKILL); /* its group: what it started goes with it */
    close_pipes(p);
    if (p->waited)
        close_handle(&p->child);
}
