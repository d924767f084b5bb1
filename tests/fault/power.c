/* power.c - power cuts (S4 to S6): the trace is recorded once, call by call; then the disk is made
 * up as it may have been at any moment (disk.h), and the store on it is opened and compared. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/base/mem.h"
#include "storage/fs.h"
#include "tests/fault/disk.h"
#include "tests/fault/fault.h"
#include "tests/fault/look.h"
#include "tests/fault/trace.h"

/* ---- A state --------------------------------------------------------------------------------- */

static int check(struct fault *f, void *arg)
{
    return look_check(fault_path(f, "state"), *(size_t *)arg, f->shared->why, FAULT_WHY) ? 0 : 1;
}

static void try_state(struct fault *f, const struct disk *d, const struct disk_choice *x,
                      const struct disk_change *last, size_t acked, size_t at)
{
    disk_put(f, d, x, last, fault_path(f, "state"));
    f->n++;
    if (fault_child(f, check, &acked) != 0)
        fault_violation(f, "power cut at call %zu in step %zu (%s), keeping %u%% of bytes and "
                        "%u%% of names: %s", at, acked, trace_name(acked), x->keep_bytes,
                        x->keep_names, f->shared->why);
    fault_remove(f, "state");
}

/* Nothing more than is sure; everything; everything but the names; and what dice say. */
static void try_states(struct fault *f, const struct disk *d, const struct disk_change *last,
                       size_t acked, size_t at, uint64_t random)
{
    static const struct disk_choice plain[] = {
        {.sector = 512},
        {.keep_bytes = 100, .keep_names = 100, .sector = 512},
        {.keep_bytes = 100, .sector = 512},
    };

    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        try_state(f, d, &plain[i], last, acked, at);
    fault_count(f, "prefixes", 1);
    for (uint64_t i = 0; i < random; i++) {
        struct disk_choice x = {
            .keep_bytes = (unsigned)fault_random(f, 101),
            .keep_names = fault_chance(f, 50) ? 100 : (unsigned)fault_random(f, 101),
            .tear = fault_chance(f, 50) ? 50 : 0,
            .hollow = fault_chance(f, 30) ? 50 : 0,
            .last_open = fault_chance(f, 50),
            .sector = fault_chance(f, 50) ? 512 : 4096,
        };

        try_state(f, d, &x, last, acked, at);
        fault_count(f, "chosen", 1);
        fault_count(f, "torn", x.tear > 0);
    }
}

/* ---- The recording --------------------------------------------------------------------------- */

static int record(struct fault *f, void *arg)
{
    struct trace *t = trace_begin(fault_path(f, "run"));
    int log = open(fault_path(f, "log"), O_WRONLY | O_CREAT | O_APPEND, 0600);

    (void)arg;
    snprintf(f->shared->shim.root, sizeof f->shared->shim.root, "%s", fault_path(f, "run"));
    atomic_store(&f->shared->shim.derived, 1);
    shim_use(&f->shared->shim, log);
    for (size_t i = 0; i < trace_steps(); i++) {
        struct err e = ERR_INIT;

        if (trace_run(t, i, &e)) {
            snprintf(f->shared->why, FAULT_WHY, "step %zu: %s", i, e.text);
            return 1;
        }
        shim_mark(i + 1);
    }
    trace_end(t);
    return 0;
}

static unsigned char *read_log(const char *path, size_t *out_len)
{
    size_t len = (size_t)fs_size(path), at = 0;
    unsigned char *log = mem_new(len + 1, 1);
    int fd = open(path, O_RDONLY);

    while (fd >= 0 && at < len) {
        ssize_t got = read(fd, log + at, len - at);

        if (got <= 0)
            break;
        at += (size_t)got;
    }
    if (fd >= 0)
        close(fd);
    *out_len = at;
    return log;
}

static size_t count_records(const unsigned char *log, size_t len)
{
    size_t count = 0;

    for (size_t at = 0; at < len; count++) {
        struct shim_record r;

        memcpy(&r, log + at, sizeof r);
        at += sizeof r + r.bytes;
    }
    return count;
}

/* The log outlives the disk: changes point into it. */
static void replay(struct fault *f, const unsigned char *log, size_t len)
{
    size_t calls = count_records(log, len), acked = 0, number = 0;
    uint64_t want = f->limit ? f->limit : 5000;
    uint64_t each = want * f->shares * f->stride / (calls ? calls : 1);
    struct disk d = {0};

    fault_count(f, "calls", calls);
    fault_count(f, "log_bytes", len);
    disk_begin(&d);
    for (size_t at = 0; at < len; number++) {
        struct shim_record r;

        memcpy(&r, log + at, sizeof r);
        disk_play(&d, &r, log + at + sizeof r, &acked);
        at += sizeof r + r.bytes;
        if (number % (f->shares * f->stride) == f->share)
            try_states(f, &d, disk_last_write(&d, &r), acked, number, each > 3 ? each - 3 + 1 : 1);
    }
    disk_free(&d);
}

void fault_power(struct fault *f)
{
    unsigned char *log;
    struct err e = ERR_INIT;
    size_t len;

    if (fs_make_dir(fault_path(f, "run"), false, &e) || fault_child(f, record, NULL) != 0) {
        fault_violation(f, "the trace itself: %s%s", e.text, f->shared->why);
        return;
    }
    log = read_log(fault_path(f, "log"), &len);
    fault_remove(f, "run");
    replay(f, log, len);
    free(log);
}
