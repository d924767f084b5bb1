/* main.c - the program `fault`: one campaign against storage, its result as one line of JSON.
 *
 *     fault [--seed N] [--stride N] [--limit N] [--share I/N] kill|error|power|flips|cuts
 *
 * Exits 0 when no promise was broken, 1 when one was, 2 when nothing ran. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/base/err.h"
#include "storage/fs.h"
#include "tests/fault/fault.h"

void fault_count(struct fault *f, const char *name, uint64_t more)
{
    size_t i = 0;

    while (i < FAULT_COUNTS - 1 && f->counts[i].name && strcmp(f->counts[i].name, name) != 0)
        i++;
    f->counts[i].name = name;
    f->counts[i].count += more;
}

void fault_violation(struct fault *f, const char *fmt, ...)
{
    va_list more;

    if (f->violations++ >= 20)
        return;
    va_start(more, fmt);
    vfprintf(stderr, fmt, more);
    va_end(more);
    fputc('\n', stderr);
}

/* splitmix64 (Steele, Lea, Flood 2014), its state in f->seed's successor. */
uint64_t fault_random(struct fault *f, uint64_t below)
{
    static uint64_t state;
    uint64_t x;

    if (state == 0)
        state = f->seed * 2 + 1;
    x = state += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return below ? (x ^ (x >> 31)) % below : 0;
}

bool fault_chance(struct fault *f, unsigned percent)
{
    return fault_random(f, 100) < percent;
}

const char *fault_path(struct fault *f, const char *name)
{
    static char room[4][256];
    static unsigned next;
    char *p = room[next++ % 4];

    snprintf(p, sizeof room[0], "%s/%s", f->root, name);
    return p;
}

void fault_remove(struct fault *f, const char *name)
{
    struct err e = ERR_INIT;

    if (fs_remove_tree(fault_path(f, name), 8, &e)) {
        fprintf(stderr, "fault: %s\n", e.text);
        exit(2);
    }
}

int fault_child(struct fault *f, int (*work)(struct fault *f, void *arg), void *arg)
{
    int status;
    pid_t pid;

    f->shared->why[0] = '\0';
    fflush(NULL);
    pid = fork();
    if (pid < 0) {
        perror("fault: fork");
        exit(2);
    }
    if (pid == 0) {
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        alarm(60);
        _exit(work(f, arg));
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            exit(2);
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    if (WTERMSIG(status) != SIGKILL)
        snprintf(f->shared->why, FAULT_WHY, "died of %s", strsignal(WTERMSIG(status)));
    return -1;
}

static void print_result(const struct fault *f, const char *kind)
{
    printf("{\"kind\":\"%s\",\"seed\":%" PRIu64 ",\"n\":%" PRIu64 ",\"violations\":%" PRIu64, kind,
           f->seed, f->n, f->violations);
    for (size_t i = 0; i < FAULT_COUNTS && f->counts[i].name; i++)
        printf(",\"%s\":%" PRIu64, f->counts[i].name, f->counts[i].count);
    puts("}");
}

static const struct {
    const char *name;
    void (*run)(struct fault *f);
} campaigns[] = {{"kill", fault_kill}, {"error", fault_error}, {"power", fault_power},
                 {"flips", fault_flips}, {"cuts", fault_cuts}};

static bool read_flags(struct fault *f, int argc, char **argv)
{
    int i = 1;

    for (; i + 2 < argc; i += 2) {
        char *end;
        uint64_t value = strtoull(argv[i + 1], &end, 10);

        if (strcmp(argv[i], "--seed") == 0)
            f->seed = value;
        else if (strcmp(argv[i], "--stride") == 0)
            f->stride = value ? value : 1;
        else if (strcmp(argv[i], "--limit") == 0)
            f->limit = value;
        else if (strcmp(argv[i], "--share") == 0 && *end == '/')
            f->share = value, f->shares = strtoull(end + 1, NULL, 10);
        else
            return false;
    }
    return i == argc - 1 && f->shares > 0;
}

int main(int argc, char **argv)
{
    struct fault f = {.seed = 1, .stride = 1, .shares = 1};
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    struct err e = ERR_INIT;

    if (!read_flags(&f, argc, argv)) {
        fputs("usage: fault [--seed N] [--stride N] [--limit N] [--share I/N] "
              "kill|error|power|flips|cuts\n", stderr);
        return 2;
    }
    snprintf(f.root, sizeof f.root, "%s/ascribe-fault-XXXXXX", base);
    f.shared = mmap(NULL, sizeof *f.shared, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!mkdtemp(f.root) || f.shared == MAP_FAILED) {
        perror("fault");
        return 2;
    }
    for (size_t i = 0; i < sizeof campaigns / sizeof *campaigns; i++)
        if (strcmp(argv[argc - 1], campaigns[i].name) == 0)
            campaigns[i].run(&f);
    print_result(&f, argv[argc - 1]);
    if (fs_remove_tree(f.root, 8, &e))
        fprintf(stderr, "fault: %s\n", e.text);
    if (f.n == 0)
        return 2;
    return f.violations ? 1 : 0;
}
