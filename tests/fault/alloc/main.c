/* main.c - the program `alloc`: storage, whose allocations fail one after the other; its result as
 * one line of JSON.
 *
 *     alloc [--stride N] [--first N] [--step N]
 *
 * Before each step of the trace (trace.h) the store is put aside. Then, on a copy of it, the step
 * runs with its first, second, third ... allocation failing: that one alone, or it and all that
 * follow. It must end well, or with an error, after which the store goes on and the same step
 * succeeds; or the process ends by saying that there is no memory. The store is held against the
 * trace afterwards, and no block may be left that a run without a failure frees. Exits 0 when no
 * promise was broken, 1 when one was, 2 when nothing ran. One thread; children. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/base/err.h"
#include "storage/fs.h"
#include "tests/fault/alloc/shim.h"
#include "tests/fault/look.h"
#include "tests/fault/trace.h"

enum { PATH = 256, WHY = 1024, LEFT_ALONE = 0, WRONG = 1, EVER_BOUND = 1000000 };

/* Written by children, read by their parent. */
struct shared {
    struct alloc_control control;
    char why[WHY];
    int64_t left;   /* blocks that live when the store is closed */
    bool refused;   /* the step said no, and then yes */
    uint64_t acked; /* steps that hold */
};

struct sweep {
    char root[PATH], base[PATH], run[PATH], words[PATH];
    struct shared *shared;
    size_t reopen; /* which step that is */
    uint64_t stride, first;
    uint64_t only; /* this step alone, or SIZE_MAX */
    uint64_t n, violations, answered, refused, ended;
};

struct point {
    size_t step;
    enum alloc_mode mode;
    int64_t at; /* negative: nothing fails */
};

/* ---- Children -------------------------------------------------------------------------------- */

/* Its exit code, or -1 and the signal's name in `why`. What it says goes into a file. */
static int in_child(struct sweep *s, void (*work)(struct sweep *s, const struct point *p),
                    const struct point *p)
{
    int status;
    pid_t pid;

    s->shared->why[0] = '\0';
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        exit(2);
    if (pid == 0) {
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        if (!freopen(s->words, "w", stderr))
            _exit(WRONG);
        setvbuf(stderr, NULL, _IONBF, 0);
        alarm(120);
        work(s, p);
        _exit(LEFT_ALONE);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            exit(2);
    atomic_store(&s->shared->control.mode, ALLOC_COUNT); /* it may have died armed */
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    snprintf(s->shared->why, WHY, "died of %s", strsignal(WTERMSIG(status)));
    return -1;
}

__attribute__((format(printf, 2, 3))) static void wrong(struct sweep *s, const char *fmt, ...)
{
    va_list more;

    va_start(more, fmt);
    vsnprintf(s->shared->why, WHY, fmt, more);
    va_end(more);
    _exit(WRONG);
}

/* The step, again, with memory. */
static void run_again(struct sweep *s, struct trace *t, size_t step, const struct err *first)
{
    struct err e = ERR_INIT;

    if (first->text[0] == '\0' || atomic_load(&s->shared->control.hits) == 0)
        wrong(s, "failed of itself: \"%s\"", first->text);
    if (trace_latched(t))
        wrong(s, "the store takes no more writes for want of memory: %s", first->text);
    if (first->code != ERR_BUSY && first->code != ERR_FULL)
        wrong(s, "said %s: %s", err_word(first->code), first->text);
    if (trace_is_copy(step))
        trace_remove_copy(t, step);
    if (trace_run(t, step, &e))
        wrong(s, "failed with \"%s\", and again, with memory: %s", first->text, e.text);
    s->shared->refused = true;
}

static void run_step(struct sweep *s, const struct point *p)
{
    struct alloc_control *c = &s->shared->control;
    struct trace *t = trace_begin(s->run);
    struct err e = ERR_INIT;
    int64_t before = atomic_load(&c->blocks);
    int rc;

    if (p->step > 0 && trace_run(t, s->reopen, &e))
        wrong(s, "open: %s", e.text);
    alloc_arm(c, p->at < 0 ? ALLOC_COUNT : p->mode, p->at, EVER_BOUND);
    rc = trace_run(t, p->step, &e);
    atomic_store(&c->mode, ALLOC_COUNT);
    if (rc)
        run_again(s, t, p->step, &e);
    s->shared->acked = p->step + 1;
    trace_end(t);
    s->shared->left = atomic_load(&c->blocks) - before;
}

static void check(struct sweep *s, const struct point *p)
{
    char why[WHY];

    (void)p;
    atomic_store(&s->shared->control.mode, ALLOC_COUNT);
    if (!look_check(s->run, (size_t)s->shared->acked, why, sizeof why))
        wrong(s, "%s", why);
}

/* ---- Points ---------------------------------------------------------------------------------- */

static void copy(struct sweep *s, const char *from, const char *to)
{
    char command[3 * PATH];

    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
    if (system(command) != 0) {
        fprintf(stderr, "alloc: %s failed\n", command);
        exit(2);
    }
    (void)s;
}

static void violation(struct sweep *s, const struct point *p)
{
    if (s->violations++ < 20)
        fprintf(stderr, "step %zu (%s), %s, allocation %" PRId64 ": %s | %.400s\n", p->step,
                trace_name(p->step), p->mode == ALLOC_ONCE ? "once" : "ever", p->at, s->shared->why,
                s->shared->control.site);
}

/* It died: by its own word, or not as it should. */
static bool said_so(struct sweep *s)
{
    char text[512] = "";
    FILE *f = fopen(s->words, "r");
    size_t len = f ? fread(text, 1, sizeof text - 1, f) : 0;

    if (f)
        fclose(f);
    text[len] = '\0';
    if (strstr(s->shared->why, strsignal(SIGABRT)) && strstr(text, "no memory for "))
        return true;
    len = strlen(s->shared->why);
    snprintf(s->shared->why + len, WHY - len, ": %.300s", text);
    return false;
}

/* False when there was no such allocation. */
static bool one(struct sweep *s, const struct point *p, int64_t left)
{
    int rc;

    copy(s, s->base, s->run);
    s->shared->refused = false;
    s->shared->acked = p->step;
    rc = in_child(s, run_step, p);
    if (atomic_load(&s->shared->control.hits) == 0 && rc == LEFT_ALONE)
        return false;
    s->n++;
    if (rc == WRONG || (rc == -1 && !said_so(s))) {
        violation(s, p);
        return true;
    }
    if (rc == -1)
        s->ended++;
    else if (s->shared->refused)
        s->refused++;
    else
        s->answered++;
    if (rc == LEFT_ALONE && s->shared->left > left) {
        snprintf(s->shared->why, WHY, "%" PRId64 " blocks are left, %" PRId64 " without a failure",
                 s->shared->left, left);
        violation(s, p);
    }
    if (in_child(s, check, p) != LEFT_ALONE)
        violation(s, p);
    return true;
}

static void one_step(struct sweep *s, size_t step)
{
    static const enum alloc_mode modes[] = {ALLOC_ONCE, ALLOC_EVER};
    const struct point none = {step, ALLOC_COUNT, -1};

    copy(s, s->base, s->run);
    if (in_child(s, run_step, &none) != LEFT_ALONE) {
        violation(s, &none);
        exit(2);
    }
    for (size_t m = 0; m < 2 && (s->only == SIZE_MAX || s->only == step); m++) {
        struct point p = {step, modes[m], (int64_t)(s->first++ % s->stride)};
        int64_t left = s->shared->left;

        while (one(s, &p, left))
            p.at += (int64_t)s->stride;
    }
    copy(s, s->base, s->run);
    in_child(s, run_step, &none);
    copy(s, s->run, s->base);
}

static bool begin(struct sweep *s)
{
    const char *shm = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    struct err e = ERR_INIT;

    snprintf(s->root, sizeof s->root, "%s/ascribe-alloc-XXXXXX", shm);
    if (!mkdtemp(s->root))
        return false;
    snprintf(s->base, sizeof s->base, "%.200s/base", s->root);
    snprintf(s->run, sizeof s->run, "%.200s/run", s->root);
    snprintf(s->words, sizeof s->words, "%.200s/words", s->root);
    s->shared = mmap(NULL, sizeof *s->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                     -1, 0);
    while (s->reopen < trace_steps() && strcmp(trace_name(s->reopen), "reopen") != 0)
        s->reopen++;
    return s->shared != MAP_FAILED && s->reopen < trace_steps() &&
           fs_make_dir(s->base, false, &e) == 0;
}

int main(int argc, char **argv)
{
    struct sweep s = {.stride = 1, .only = SIZE_MAX};
    struct err e = ERR_INIT;

    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);

        if (strcmp(argv[i], "--stride") == 0)
            s.stride = value ? value : 1;
        else if (strcmp(argv[i], "--first") == 0)
            s.first = value;
        else if (strcmp(argv[i], "--step") == 0)
            s.only = value;
    }
    if (!begin(&s)) {
        perror("alloc");
        return 2;
    }
    alloc_use(&s.shared->control);
    for (size_t i = 0; i < trace_steps(); i++)
        one_step(&s, i);
    printf("{\"kind\":\"alloc\",\"n\":%" PRIu64 ",\"violations\":%" PRIu64 ",\"answered\":%" PRIu64
           ",\"refused\":%" PRIu64 ",\"ended\":%" PRIu64 "}\n",
           s.n, s.violations, s.answered, s.refused, s.ended);
    alloc_use(NULL);
    if (fs_remove_tree(s.root, 8, &e))
        fprintf(stderr, "alloc: %s\n", e.text);
    return s.n == 0 ? 2 : s.violations ? 1 : 0;
}
