/* damage.c - a store whose files changed behind its back (S11 to S13): bits, bytes and pages
 * flipped, pages swapped, files cut, lengthened, emptied or missing.
 *
 * Of each damage: verify walks the store in a child, then another child opens it as a server does
 * and reads everything. Right are: every answer as before, or an error that says why. Wrong are:
 * another answer, a death by signal, and damage that shows in answers but not in verify. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/base/mem.h"
#include "storage/fs.h"
#include "tests/fault/fault.h"
#include "tests/fault/look.h"
#include "tests/fault/trace.h"

enum { FILES_MAX = 64, PAGE = 4096 };

struct file {
    char name[128]; /* below the root: store/... */
    unsigned char *bytes;
    size_t len;
    bool doubtful; /* its damage need not be found: it can be made again, or holds nothing */
};

struct image {
    struct file v[FILES_MAX];
    size_t count;
    char dirs[FILES_MAX][128];
    size_t dir_count;
};

/* ---- The whole store ------------------------------------------------------------------------- */

static int make(struct fault *f, void *arg)
{
    struct trace *t = trace_begin(fault_path(f, "whole"));

    (void)arg;
    for (size_t i = 0; i < trace_steps(); i++) {
        struct err e = ERR_INIT;

        if (trace_run(t, i, &e)) {
            snprintf(f->shared->why, FAULT_WHY, "step %zu: %s", i, e.text);
            return 1;
        }
    }
    trace_end(t);
    return 0;
}

static void load_file(struct image *m, const char *path, const char *name)
{
    struct file *x = &m->v[m->count];
    int fd = open(path, O_RDONLY);

    if (fd < 0 || m->count == FILES_MAX)
        exit(2);
    m->count++;
    snprintf(x->name, sizeof x->name, "%s", name);
    x->len = (size_t)fs_size(path);
    x->bytes = mem_new(x->len + 1, 1);
    if (read(fd, x->bytes, x->len) != (ssize_t)x->len)
        exit(2);
    close(fd);
    x->doubtful = strstr(name, "lock.mdb") || strstr(name, "LOCK");
}

static void load(struct image *m, const char *path, const char *name)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    if (!dir || m->dir_count == FILES_MAX)
        exit(2);
    snprintf(m->dirs[m->dir_count++], sizeof m->dirs[0], "%s", name);
    while ((entry = readdir(dir)) != NULL) {
        char *below = fs_join(path, entry->d_name), *sub = fs_join(name, entry->d_name);

        if (entry->d_name[0] != '.' && fs_is_dir(below))
            load(m, below, sub);
        else if (entry->d_name[0] != '.')
            load_file(m, below, sub);
        free(below);
        free(sub);
    }
    closedir(dir);
}

/* Writes the image to root/state, `changed` in the place of file `which` (NULL: it is gone). */
static void lay_out(struct fault *f, const struct image *m, size_t which,
                    const unsigned char *changed, size_t len)
{
    char path[400];

    mkdir(fault_path(f, "state"), 0700);
    for (size_t i = 0; i < m->dir_count; i++) {
        snprintf(path, sizeof path, "%s/%s", fault_path(f, "state"), m->dirs[i]);
        mkdir(path, 0700);
    }
    for (size_t i = 0; i < m->count; i++) {
        const unsigned char *bytes = i == which ? changed : m->v[i].bytes;
        size_t n = i == which ? len : m->v[i].len;
        int fd;

        if (!bytes)
            continue;
        snprintf(path, sizeof path, "%s/%s", fault_path(f, "state"), m->v[i].name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || write(fd, bytes, n) != (ssize_t)n) {
            perror(path);
            exit(2);
        }
        close(fd);
    }
}

/* ---- One damage ------------------------------------------------------------------------------ */

static int verify(struct fault *f, void *arg)
{
    (void)arg;
    f->shared->value[0] = look_verify(fault_path(f, "state"), f->shared->why, FAULT_WHY);
    return 0;
}

static int read_all(struct fault *f, void *arg)
{
    size_t errors, silent;
    bool fine = look_damaged(fault_path(f, "state"), &errors, &silent, f->shared->why,
                                   FAULT_WHY);

    (void)arg;
    f->shared->value[1] = errors;
    f->shared->value[2] = silent;
    return fine ? 0 : 1;
}

static void judge(struct fault *f, const struct image *m, size_t which, const char *what)
{
    uint64_t found, errors, silent;
    bool known;
    int rc;

    f->n++;
    if (fault_child(f, verify, NULL) != 0) {
        fault_violation(f, "%s: %s: verify %s", m->v[which].name, what, f->shared->why);
        fault_count(f, "verify_died", 1);
        return;
    }
    found = f->shared->value[0];
    rc = fault_child(f, read_all, NULL);
    if (rc != 0) {
        fault_violation(f, "%s: %s: reading: %s", m->v[which].name, what, f->shared->why);
        fault_count(f, rc < 0 ? "read_died" : "wrong_answers", 1);
        return;
    }
    errors = f->shared->value[1];
    silent = f->shared->value[2];
    known = found > 0 || m->v[which].doubtful;
    if (!known && (errors || silent)) {
        fault_violation(f, "%s: %s: %llu errors, %llu missing, and verify finds nothing: %s",
                        m->v[which].name, what, (unsigned long long)errors,
                        (unsigned long long)silent, f->shared->why);
        fault_count(f, "unfound", 1);
    }
    fault_count(f, "live", found > 0 || errors > 0);
    fault_count(f, "found_by_verify", found > 0);
    fault_count(f, "met_by_reads", errors > 0);
    fault_count(f, "missed_by_reads", silent > 0);
}

static bool begin(struct fault *f, struct image *m)
{
    struct err e = ERR_INIT;

    *m = (struct image){0};
    if (fs_make_dir(fault_path(f, "whole"), false, &e) || fault_child(f, make, NULL) != 0) {
        fault_violation(f, "the trace itself: %s%s", e.text, f->shared->why);
        return false;
    }
    load(m, fault_path(f, "whole/store"), "store");
    lay_out(f, m, FILES_MAX, NULL, 0);
    judge(f, m, 0, "untouched");
    f->n--;
    if (f->shared->value[0] || f->shared->value[1] || f->shared->value[2])
        fault_violation(f, "an untouched store counts as damaged: %s", f->shared->why);
    memset(f->counts, 0, sizeof f->counts);
    fault_count(f, "files", m->count);
    return f->violations == 0;
}

static void finish(struct image *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->v[i].bytes);
}

/* ---- Flips ----------------------------------------------------------------------------------- */

/* A page with something on it, nine times of ten: most of a young file is empty. */
static size_t some_page(struct fault *f, const struct file *x)
{
    size_t pages = (x->len + PAGE - 1) / PAGE, page = 0;

    for (int i = 0; i < 30; i++) {
        size_t n;

        page = (size_t)fault_random(f, pages);
        n = x->len - page * PAGE < PAGE ? x->len - page * PAGE : PAGE;
        for (size_t k = 0; k < n; k++)
            if (x->bytes[page * PAGE + k])
                return page;
        if (fault_random(f, 10) == 0)
            break;
    }
    return page;
}

static void flip(struct fault *f, const struct file *x, unsigned char *bytes, char *what,
                 size_t size)
{
    size_t page = some_page(f, x), at = page * PAGE + (size_t)fault_random(f, PAGE);
    size_t other = some_page(f, x), whole = x->len / PAGE;

    if (at >= x->len)
        at = x->len - 1;
    switch (fault_random(f, 8)) {
    case 0:
        bytes[at] ^= (unsigned char)(1 + fault_random(f, 255));
        snprintf(what, size, "byte %zu", at);
        break;
    case 1:
        if (page < whole) {
            memset(bytes + page * PAGE, 0, PAGE);
            snprintf(what, size, "page %zu zero", page);
            break;
        }
        __attribute__((fallthrough));
    case 2:
        if (page < whole && other < whole) {
            memcpy(bytes + page * PAGE, x->bytes + other * PAGE, PAGE);
            memcpy(bytes + other * PAGE, x->bytes + page * PAGE, PAGE);
            snprintf(what, size, "pages %zu and %zu swapped", page, other);
            break;
        }
        __attribute__((fallthrough));
    case 3: { /* the head of a page, or of a small file, where structure lies */
        size_t in = (size_t)fault_random(f, 256);

        at = page * PAGE + in < x->len ? page * PAGE + in : at;
    }
        __attribute__((fallthrough));
    default:
        bytes[at] ^= (unsigned char)(1u << fault_random(f, 8));
        snprintf(what, size, "bit of byte %zu", at);
    }
}

void fault_flips(struct fault *f)
{
    uint64_t limit = f->limit ? f->limit : 10000;
    struct image m;

    if (!begin(f, &m))
        return;
    while (f->n < limit) {
        size_t which = (size_t)fault_random(f, m.count);
        struct file *x = &m.v[which];
        unsigned char *bytes;
        char what[128] = "";

        if (x->len == 0 || (x->doubtful && fault_random(f, 20)))
            continue;
        bytes = mem_new(x->len, 1);
        memcpy(bytes, x->bytes, x->len);
        flip(f, x, bytes, what, sizeof what);
        lay_out(f, &m, which, bytes, x->len);
        judge(f, &m, which, what);
        free(bytes);
        fault_remove(f, "state");
    }
    finish(&m);
}

/* ---- Cuts ------------------------------------------------------------------------------------ */

static void cut(struct fault *f, const struct image *m, size_t which, const unsigned char *bytes,
                size_t len, const char *what)
{
    fault_remove(f, "state");
    lay_out(f, m, which, bytes, len);
    judge(f, m, which, what);
}

static void cut_file(struct fault *f, const struct image *m, size_t which, uint64_t cuts)
{
    const struct file *x = &m->v[which];
    unsigned char *longer = mem_new(x->len + 2 * PAGE, 1);
    char what[64];

    memcpy(longer, x->bytes, x->len);
    cut(f, m, which, NULL, 0, "missing");
    cut(f, m, which, x->bytes, 0, "empty");
    for (uint64_t i = 0; x->len > 1 && i < cuts; i++) {
        size_t at = i % 2 ? (size_t)fault_random(f, x->len)
                          : (size_t)(fault_random(f, x->len) / PAGE * PAGE);

        snprintf(what, sizeof what, "cut at %zu of %zu", at, x->len);
        cut(f, m, which, x->bytes, at, what);
    }
    cut(f, m, which, longer, x->len + 1, "one byte longer");
    for (size_t i = 0; i < 2 * PAGE; i++)
        longer[x->len + i] = (unsigned char)fault_random(f, 256);
    cut(f, m, which, longer, x->len + 2 * PAGE, "two pages longer");
    free(longer);
}

void fault_cuts(struct fault *f)
{
    struct image m;

    if (!begin(f, &m))
        return;
    for (size_t i = 0; i < m.count; i++)
        cut_file(f, &m, i, f->limit ? f->limit : 100);
    finish(&m);
}
