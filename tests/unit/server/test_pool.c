/* test_pool.c - queues, the writer lane, fanout, tasks: order, bounds and ends. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/limits.h"
#include "server/pool.h"
#include "server/route.h"
#include "server/runtime.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

static struct pool *pool;
static struct runtime rt;
static _Atomic unsigned done, working, most_working, commits, largest, other_commits, entered;
static _Atomic bool gate;

static void wait_for(_Atomic unsigned *n, unsigned value)
{
    for (int i = 0; i < 10000 && atomic_load(n) < value; i++)
        usleep(500);
    assert_true(atomic_load(n) >= value);
}

static void wait_gate(void)
{
    while (!atomic_load(&gate))
        usleep(200);
}

static int work_gate(struct job *j)
{
    unsigned now = atomic_fetch_add(&working, 1) + 1, most = atomic_load(&most_working);

    while (now > most && !atomic_compare_exchange_weak(&most_working, &most, now))
        ;
    wait_gate();
    atomic_fetch_sub(&working, 1);
    buf_add_text(&j->reply_body, "w");
    return 0;
}

static int work_fails(struct job *j)
{
    return err_set(&j->err, ERR_NOT_FINITE, "row 3");
}

static int work_fails_silently(struct job *j)
{
    (void)j;
    return 1;
}

static int work_quick(struct job *j)
{
    buf_add_text(&j->reply_body, "w");
    return 0;
}

static void commit_gate(struct job *const *jobs, size_t count)
{
    atomic_fetch_add(&entered, 1);
    wait_gate();
    atomic_fetch_add(&commits, 1);
    if (count > atomic_load(&largest))
        atomic_store(&largest, (unsigned)count);
    for (size_t i = 0; i < count; i++) {
        require(jobs[i]->reply_body.len == 1); /* work came before */
        buf_add_text(&jobs[i]->reply_body, "c");
    }
}

static void commit_other(struct job *const *jobs, size_t count)
{
    atomic_fetch_add(&other_commits, 1);
    for (size_t i = 0; i < count; i++)
        err_set(&jobs[i]->err, ERR_FULL, "no room");
}

const struct route route_table[] = {
    {"GET", "/gate", SCOPE_READ, BODY_NONE, false, "", NULL, NULL, work_gate, NULL, NULL, NULL},
    {"GET", "/fails", SCOPE_READ, BODY_NONE, false, "", NULL, NULL, work_fails, commit_gate, NULL, NULL},
    {"GET", "/silent", SCOPE_READ, BODY_NONE, false, "", NULL, NULL, work_fails_silently, NULL, NULL, NULL},
    {"PUT", "/one", SCOPE_WRITE, BODY_NONE, false, "", NULL, NULL, work_quick, commit_gate, NULL, NULL},
    {"PUT", "/two", SCOPE_WRITE, BODY_NONE, false, "", NULL, NULL, NULL, commit_other, NULL, NULL},
};
const size_t route_count = sizeof route_table / sizeof *route_table;
enum { GATE, FAILS, SILENT, ONE, TWO };

static void on_done(void *arg, struct job *j)
{
    (void)arg;
    (void)j;
    atomic_fetch_add(&done, 1);
}

static struct job *job_of(int route)
{
    struct job *j = mem_new(1, sizeof *j);

    j->rt = &rt;
    j->route = &route_table[route];
    err_clear(&j->err);
    return j;
}

static void job_free(struct job *j)
{
    buf_free(&j->reply_body);
    free(j);
}

static int setup(void **state)
{
    (void)state;
    done = working = most_working = commits = largest = other_commits = entered = 0;
    gate = true;
    pool = pool_new(3, 8, on_done, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gate = true; /* after a failed test too */
    pool_free(pool);
    return 0;
}

static void test_work_and_commit(void **state)
{
    struct job *j = job_of(ONE);
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(pool_submit(pool, j, &e), 0);
    wait_for(&done, 1);
    assert_memory_equal(j->reply_body.data, "wc", 2);
    job_free(j);
}

static void test_failures(void **state)
{
    struct job *j[3] = {job_of(FAILS), job_of(SILENT), job_of(TWO)};
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pool_submit(pool, j[i], &e), 0);
    wait_for(&done, 3);
    assert_int_equal(j[0]->err.code, ERR_NOT_FINITE);
    assert_int_equal(j[1]->err.code, ERR_INTERNAL);
    assert_int_equal(j[2]->err.code, ERR_FULL);
    assert_int_equal(atomic_load(&commits), 0);
    for (int i = 0; i < 3; i++)
        job_free(j[i]);
}

static void test_bounds(void **state)
{
    struct job *j[12];
    struct pool_stats s;
    struct err e = ERR_INIT;

    (void)state;
    gate = false;
    for (int i = 0; i < 3; i++) {
        j[i] = job_of(GATE);
        assert_int_equal(pool_submit(pool, j[i], &e), 0);
        wait_for(&working, (unsigned)i + 1);
    }
    for (int i = 3; i < 11; i++) {
        j[i] = job_of(GATE);
        assert_int_equal(pool_submit(pool, j[i], &e), 0);
    }
    j[11] = job_of(GATE);
    assert_int_equal(pool_submit(pool, j[11], &e), ERR_BUSY);
    assert_int_equal(e.limit, 8);
    pool_stats(pool, &s);
    assert_int_equal(s.queued_read, 8);
    assert_int_equal(s.running, 3);
    gate = true;
    wait_for(&done, 11);
    assert_int_equal(atomic_load(&most_working), 3);
    for (int i = 0; i < 12; i++)
        job_free(j[i]);
}

/* What waits together is committed together, up to the bound, and each route by itself. */
static void test_groups(void **state)
{
    struct job *j[LIMIT_WRITE_QUEUE], *extra = job_of(ONE);
    struct err e = ERR_INIT;

    (void)state;
    gate = false;
    for (unsigned i = 0; i < LIMIT_WRITE_QUEUE; i++) {
        j[i] = job_of(i % 4 == 3 ? TWO : ONE);
        while (pool_submit(pool, j[i], &e)) { /* the read queue of 8 empties by itself */
            assert_int_equal(e.limit, 8);
            usleep(200);
        }
        wait_for(&entered, 1); /* the first one holds the lane */
    }
    assert_int_equal(pool_submit(pool, extra, &e), ERR_BUSY);
    assert_int_equal(e.limit, LIMIT_WRITE_QUEUE);
    usleep(20000);
    gate = true;
    wait_for(&done, LIMIT_WRITE_QUEUE);
    assert_int_equal(atomic_load(&largest), LIMIT_COMMIT_GROUP);
    assert_true(atomic_load(&commits) <= 6);
    assert_true(atomic_load(&other_commits) <= 6);
    assert_int_equal(pool_submit(pool, extra, &e), 0); /* the places came back */
    wait_for(&done, LIMIT_WRITE_QUEUE + 1);
    for (unsigned i = 0; i < LIMIT_WRITE_QUEUE; i++)
        job_free(j[i]);
    job_free(extra);
}

/* A job cancelled while it waits is neither worked on nor committed. */
static void test_cancelled(void **state)
{
    struct job *first = job_of(ONE), *second = job_of(ONE), *third = job_of(ONE);
    struct err e = ERR_INIT;

    (void)state;
    gate = false;
    assert_int_equal(pool_submit(pool, first, &e), 0);
    wait_for(&entered, 1);
    assert_int_equal(pool_submit(pool, second, &e), 0);
    third->deadline_ns = 1;
    assert_int_equal(pool_submit(pool, third, &e), 0);
    usleep(20000); /* second waits for the lane */
    atomic_store(&second->cancelled, true);
    gate = true;
    wait_for(&done, 3);
    assert_int_equal(first->err.code, ERR_OK);
    assert_int_equal(second->err.code, ERR_CANCELLED);
    assert_int_equal(third->err.code, ERR_DEADLINE);
    assert_int_equal(atomic_load(&commits), 1);
    assert_int_equal(third->reply_body.len, 0);
    job_free(first);
    job_free(second);
    job_free(third);
}

struct sum {
    _Atomic size_t next;
    _Atomic uint64_t total;
    _Atomic unsigned slots; /* bit per slot seen */
    _Atomic unsigned twice;
};

static void add_up(void *arg, unsigned slot)
{
    struct sum *s = arg;
    size_t i;

    if (atomic_fetch_or(&s->slots, 1u << slot) & 1u << slot)
        atomic_fetch_add(&s->twice, 1);
    while ((i = atomic_fetch_add(&s->next, 1)) < 2000) {
        atomic_fetch_add(&s->total, i);
        if (i % 100 == 0)
            usleep(100);
    }
}

static void test_fanout(void **state)
{
    (void)state;
    for (unsigned width = 0; width < 8; width++) {
        struct sum s = {0};
        pool_fanout(pool, width, add_up, &s);
        assert_int_equal(atomic_load(&s.total), 1999 * 2000 / 2);
        assert_true(atomic_load(&s.slots) & 1);
        assert_int_equal(atomic_load(&s.slots) >> (width ? width : 1), 0);
        assert_int_equal(atomic_load(&s.twice), 0);
    }
}

static int work_fans_out(struct job *j)
{
    struct sum s = {0};

    pool_fanout(pool, 4, add_up, &s);
    buf_format(&j->reply_body, "%llu", (unsigned long long)atomic_load(&s.total));
    return 0;
}

static const struct route fanning = {"GET", "/fan", SCOPE_READ, BODY_NONE, false, "", NULL,
                                     NULL, work_fans_out, NULL, NULL, NULL};

/* All readers fan out at once: none waits for another that waits for it. */
static void test_fanout_everywhere(void **state)
{
    struct job *j[200];
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 0; i < 200; i++) {
        j[i] = job_of(GATE);
        j[i]->route = &fanning;
        while (pool_submit(pool, j[i], &e))
            usleep(200);
    }
    wait_for(&done, 200);
    for (int i = 0; i < 200; i++) {
        assert_memory_equal(j[i]->reply_body.data, "1999000", 7);
        job_free(j[i]);
    }
}

static int lane_adds(void *arg, struct err *e)
{
    unsigned *n = arg; /* no atomic: the lane is one thread, which the thread sanitizer checks */

    if (++*n % 10 == 0)
        return err_set(e, ERR_IO, "every tenth");
    return 0;
}

static unsigned lane_count;
static _Atomic unsigned lane_errors;

static int work_lane(struct job *j)
{
    struct err e = ERR_INIT;

    for (int i = 0; i < 10; i++)
        if (pool_lane(pool, lane_adds, &lane_count, &e))
            atomic_fetch_add(&lane_errors, 1);
    buf_add_text(&j->reply_body, "l");
    return 0;
}

static const struct route laning = {"GET", "/lane", SCOPE_READ, BODY_NONE, false, "", NULL,
                                    NULL, work_lane, NULL, NULL, NULL};

static void task_lane(void *arg)
{
    struct job *j = arg;

    work_lane(j);
    on_done(NULL, j);
}

static void test_lane(void **state)
{
    struct job *j[30];
    struct err e = ERR_INIT;

    (void)state;
    lane_count = 0;
    lane_errors = 0;
    for (int i = 0; i < 30; i++) {
        j[i] = job_of(GATE);
        j[i]->route = &laning;
        while (i % 5 == 0 ? pool_task(pool, task_lane, j[i], &e) : pool_submit(pool, j[i], &e))
            usleep(200);
    }
    wait_for(&done, 30);
    assert_int_equal(lane_count, 300);
    assert_int_equal(atomic_load(&lane_errors), 30);
    for (int i = 0; i < 30; i++)
        job_free(j[i]);
}

static void task_gate(void *arg)
{
    atomic_fetch_add(&working, 1);
    wait_gate();
    atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static void test_tasks_bounded(void **state)
{
    _Atomic unsigned ran = 0;
    struct err e = ERR_INIT;
    unsigned taken = 1;

    (void)state;
    gate = false;
    assert_int_equal(pool_task(pool, task_gate, &ran, &e), 0);
    wait_for(&working, 1);
    while (pool_task(pool, task_gate, &ran, &e) == 0)
        taken++;
    assert_int_equal(e.code, ERR_BUSY);
    assert_int_equal(taken, LIMIT_TASK_QUEUE + 1);
    gate = true;
    wait_for(&ran, taken);
}

/* pool_free finishes what was taken. */
static void test_free_drains(void **state)
{
    struct job *j[8];
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 0; i < 8; i++) {
        j[i] = job_of(i % 2 ? ONE : GATE);
        assert_int_equal(pool_submit(pool, j[i], &e), 0);
    }
    pool_free(pool);
    assert_int_equal(atomic_load(&done), 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(j[i]->reply_body.len, i % 2 ? 2 : 1);
        job_free(j[i]);
    }
    pool = pool_new(1, 1, on_done, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_work_and_commit), TEST(test_failures), TEST(test_bounds),
        TEST(test_groups),          TEST(test_cancelled), TEST(test_fanout),
        TEST(test_fanout_everywhere), TEST(test_lane),    TEST(test_tasks_bounded),
        TEST(test_free_drains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
