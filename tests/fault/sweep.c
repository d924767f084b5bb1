/* sweep.c - the trace is killed at, or meets an error in, its first, second, third ... call that
 * changes a file, until there is none left (S2, S7, S8, S10). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "storage/fs.h"
#include "tests/fault/fault.h"
#include "tests/fault/look.h"
#include "tests/fault/trace.h"

/* ---- Children -------------------------------------------------------------------------------- */

static const char DIR_NAME[] = "run";

static void obey(struct fault *f, int log)
{
    snprintf(f->shared->shim.root, sizeof f->shared->shim.root, "%s", fault_path(f, DIR_NAME));
    shim_use(&f->shared->shim, log);
}

/* What a client of a latched store sees: every further step refused by that name. */
static int after_latch(struct fault *f, struct trace *t, const struct err *first)
{
    struct err e = ERR_INIT;

    if (first->code != ERR_SYNC_FAILED) {
        snprintf(f->shared->why, FAULT_WHY, "latched, but said %s: %s", err_word(first->code),
                 first->text);
        return RAN_WRONG;
    }
    if (trace_run(t, 4, &e) != ERR_SYNC_FAILED) { /* a small record */
        snprintf(f->shared->why, FAULT_WHY, "a latched store took a record");
        return RAN_WRONG;
    }
    snprintf(f->shared->why, FAULT_WHY, "%s", first->text);
    return RAN_LATCHED;
}

/* One step failed. When the store goes on, so must the step, as soon as the fault is over. */
static int after_error(struct fault *f, struct trace *t, size_t step, const struct err *first)
{
    struct shim_control *c = &f->shared->shim;
    struct err e = ERR_INIT;

    if (first->text[0] == '\0' || atomic_load(&c->hits) == 0) {
        snprintf(f->shared->why, FAULT_WHY, "step %zu (%s) failed of itself: %s", step,
                 trace_name(step), first->text);
        return RAN_WRONG;
    }
    if (trace_latched(t))
        return after_latch(f, t, first);
    atomic_store(&c->action, SHIM_COUNT);
    if (trace_is_copy(step))
        trace_remove_copy(t, step); /* its name may stand already, when the last sync failed */
    if (trace_run(t, step, &e) == 0)
        return RAN;
    snprintf(f->shared->why, FAULT_WHY, "step %zu (%s) failed with %s, and again, with nothing in "
             "its way: %s", step, trace_name(step), first->text, e.text);
    return RAN_WRONG;
}

static int run_trace(struct fault *f, void *arg)
{
    struct shim_control *c = &f->shared->shim;
    struct trace *t = trace_begin(fault_path(f, DIR_NAME));
    bool must_fail = arg != NULL; /* a fault that may not pass for success */
    int rc = RAN;

    obey(f, -1);
    for (size_t i = 0; rc == RAN && i < trace_steps(); i++) {
        uint64_t before = atomic_load(&c->hits);
        struct err e = ERR_INIT;

        if (trace_run(t, i, &e)) {
            rc = after_error(f, t, i, &e);
        } else if (must_fail && atomic_load(&c->hits) > before && !trace_latched(t)) {
            snprintf(f->shared->why, FAULT_WHY, "step %zu (%s) succeeded over a failed sync", i,
                     trace_name(i));
            rc = RAN_WRONG;
        }
        if (rc == RAN)
            shim_mark(i + 1);
    }
    if (rc == RAN)
        trace_end(t);
    return rc;
}

static int check(struct fault *f, void *arg)
{
    size_t acked = *(size_t *)arg;

    shim_use(NULL, -1);
    return look_check(fault_path(f, DIR_NAME), acked, f->shared->why, FAULT_WHY) ? 0 : 1;
}

/* Opening alone, with the fault: what a start after a crash does. */
static int recover(struct fault *f, void *arg)
{
    struct trace *t = trace_begin(fault_path(f, DIR_NAME));
    struct err e = ERR_INIT;

    (void)arg;
    obey(f, -1);
    if (trace_run(t, 0, &e)) {
        snprintf(f->shared->why, FAULT_WHY, "open: %s", e.text);
        return 1;
    }
    trace_end(t);
    return 0;
}

/* ---- One point ------------------------------------------------------------------------------- */

struct fault_kind {
    enum shim_action action;
    uint32_t kinds;
    int error;
    bool always, must_fail;
    const char *name;
};

static void arm(struct fault *f, const struct fault_kind *k, int64_t n)
{
    struct shim_control *c = &f->shared->shim;

    atomic_store(&c->action, k->action);
    atomic_store(&c->kinds, k->kinds);
    atomic_store(&c->error, (uint32_t)k->error);
    atomic_store(&c->always, k->always);
    atomic_store(&c->countdown, n);
    atomic_store(&c->derived, 1);
    atomic_store(&c->calls, 0);
    atomic_store(&c->hits, 0);
    atomic_store(&c->syncs_after, 0);
    atomic_store(&c->writes_after, 0);
}

static void check_point(struct fault *f, const struct fault_kind *k, int64_t n)
{
    size_t acked = (size_t)atomic_load(&f->shared->shim.marks);
    int rc = fault_child(f, check, &acked);

    if (rc != 0)
        fault_violation(f, "%s at call %lld, in step %zu (%s): %s", k->name, (long long)n, acked,
                        trace_name(acked), f->shared->why);
}

/* The kill, again, at each call of the start that follows: crashes do not wait for recovery. */
static void kill_recovery(struct fault *f, const struct fault_kind *k)
{
    uint64_t acked = atomic_load(&f->shared->shim.marks);

    for (int64_t n = 0; acked > 0 && n < 200; n++) {
        int rc;

        arm(f, k, n);
        rc = fault_child(f, recover, NULL);
        if (rc != -1) {
            if (rc)
                fault_violation(f, "%s: killed again in recovery: %s", k->name, f->shared->why);
            break;
        }
        fault_count(f, "recoveries_killed", 1);
        f->n++;
    }
}

static void mkdir_run(struct fault *f)
{
    struct err e = ERR_INIT;

    fault_remove(f, DIR_NAME);
    if (fs_make_dir(fault_path(f, DIR_NAME), false, &e))
        fault_violation(f, "%s", e.text);
    atomic_store(&f->shared->shim.marks, 0);
}

static void one_kill(struct fault *f, const struct fault_kind *k, int64_t n)
{
    int rc;

    mkdir_run(f);
    arm(f, k, n);
    rc = fault_child(f, run_trace, NULL);
    if (rc != -1 || f->shared->why[0])
        fault_violation(f, "%s at call %lld: the trace ended with %d: %s", k->name,
                        (long long)n, rc, f->shared->why);
    f->n++;
    fault_count(f, k->name, 1);
    if (n % 5 == 0)
        kill_recovery(f, k);
    check_point(f, k, n);
}

/* After the first failure nothing is synced any more. LMDB itself writes once more: when it was a
 * meta page that could not be written, the old one is put back. */
static void check_silence(struct fault *f, const struct fault_kind *k, int64_t n)
{
    uint64_t syncs = atomic_load(&f->shared->shim.syncs_after);
    uint64_t writes = atomic_load(&f->shared->shim.writes_after);

    fault_count(f, "syncs_after_latch", syncs);
    if (!k->always && (syncs > 0 || writes > 1))
        fault_violation(f, "%s at call %lld: %llu writes and %llu syncs after the failed one: %s",
                        k->name, (long long)n, (unsigned long long)writes,
                        (unsigned long long)syncs, f->shared->why);
}

static void one_error(struct fault *f, const struct fault_kind *k, int64_t n)
{
    int rc;

    mkdir_run(f);
    arm(f, k, n);
    rc = fault_child(f, run_trace, k->must_fail ? f : NULL);
    if (rc != RAN && rc != RAN_LATCHED) {
        fault_violation(f, "%s at call %lld: %s", k->name, (long long)n, f->shared->why);
        return;
    }
    f->n++;
    fault_count(f, k->name, 1);
    if (rc == RAN_LATCHED) {
        fault_count(f, "latched", 1);
        check_silence(f, k, n);
    }
    check_point(f, k, n);
}

/* How many calls the trace makes without a fault. */
static int64_t points(struct fault *f, uint32_t kinds)
{
    struct fault_kind none = {.action = SHIM_COUNT, .kinds = kinds, .name = "no fault"};

    mkdir_run(f);
    arm(f, &none, -1);
    if (fault_child(f, run_trace, NULL) != RAN) {
        fault_violation(f, "the trace itself: %s", f->shared->why);
        return 0;
    }
    check_point(f, &none, -1);
    return (int64_t)atomic_load(&f->shared->shim.calls);
}

static void sweep(struct fault *f, const struct fault_kind *k,
                  void (*one)(struct fault *f, const struct fault_kind *k, int64_t n))
{
    int64_t total = points(f, k->kinds);
    uint64_t first = fault_random(f, f->stride) * f->shares + f->share;

    for (int64_t n = (int64_t)first; n < total; n += (int64_t)(f->stride * f->shares))
        one(f, k, n);
    fault_remove(f, DIR_NAME);
}

void fault_kill(struct fault *f)
{
    static const struct fault_kind kinds[] = {
        {SHIM_KILL, SHIM_ALL, 0, false, false, "before"},
        {SHIM_KILLED, SHIM_ALL, 0, false, false, "after"},
    };

    fault_count(f, "calls", (uint64_t)points(f, SHIM_ALL));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        sweep(f, &kinds[i], one_kill);
}

void fault_error(struct fault *f)
{
    static const struct fault_kind kinds[] = {
        {SHIM_FAIL, SHIM_SYNC, EIO, false, true, "eio_sync"},
        {SHIM_FAIL, SHIM_WRITE, EIO, false, true, "eio_write"},
        {SHIM_FAIL, SHIM_ROOM | SHIM_NAME | SHIM_UNNAME, EIO, false, false, "eio_name"},
        {SHIM_FAIL, SHIM_ALL & ~SHIM_UNNAME, ENOSPC, false, false, "enospc_once"},
        {SHIM_FAIL, SHIM_ALL & ~SHIM_UNNAME, ENOSPC, true, false, "enospc_until_freed"},
        {SHIM_FAIL, SHIM_WRITE | SHIM_SYNC, EINTR, false, false, "eintr"},
        {SHIM_SHORT, SHIM_WRITE, 0, false, false, "short_write"},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        sweep(f, &kinds[i], one_error);
}
