/* test_tasks.c - the registry behind /v1/jobs: states, progress, cancelling, bounds, shutting
 * down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/pool.h"
#include "server/tasks.h"

struct fixture {
    struct pool *pool;
    struct tasks *tasks;
    sem_t begun, go; /* of the task that waits */
    _Atomic int dropped;
};

static void never(void *arg, struct job *j)
{
    (void)arg;
    (void)j;
    abort();
}

static void start(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    sem_init(&f->begun, 0, 0);
    sem_init(&f->go, 0, 0);
    f->pool = pool_new(1, 4, never, NULL);
    f->tasks = tasks_new(f->pool, "/nowhere");
}

static void end(struct fixture *f)
{
    tasks_stop(f->tasks);
    pool_free(f->pool);
    tasks_free(f->tasks);
}

static void drop(void *arg)
{
    struct fixture *f = arg;

    atomic_fetch_add(&f->dropped, 1);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static int run_quick(struct task *t, void *arg, struct buf *result, struct err *e)
{
    (void)arg;
    (void)e;
    assert_true(tasks_report(t, 50, 100));
    buf_add_text(result, "{\"n\":7}");
    return 0;
}

static int run_failing(struct task *t, void *arg, struct buf *result, struct err *e)
{
    (void)t;
    (void)arg;
    (void)result;
    return err_set(e, ERR_IO, "the \"disk\" is gone");
}

/* Reports a quarter, says that it began, waits for `go`, reports again. */
static int run_waiting(struct task *t, void *arg, struct buf *result, struct err *e)
{
    struct fixture *f = arg;

    (void)result;
    assert_true(tasks_report(t, 250, 1000));
    sem_post(&f->begun);
    sem_wait(&f->go);
    return tasks_report(t, 500, 1000) ? 0 : err_set(e, ERR_CANCELLED, "told to stop");
}

static json_t *describe(struct fixture *f, const char *id)
{
    struct err e = ERR_INIT;
    struct buf b = {0};
    json_t *o;

    assert_int_equal(tasks_describe(f->tasks, id, NULL, &b, &e), 0);
    o = json_loadb((const char *)b.data, b.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(o);
    buf_free(&b);
    return o;
}

static const char *text_of(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));

    return text ? text : "";
}

/* Waits until the task is in `state`, and returns its description. */
static json_t *await(struct fixture *f, const char *id, const char *state)
{
    for (int i = 0; i < 5000; i++) {
        struct timespec ms = {.tv_nsec = 1000000};
        json_t *o = describe(f, id);

        if (strcmp(text_of(o, "state"), state) == 0)
            return o;
        json_decref(o);
        nanosleep(&ms, NULL);
    }
    fail_msg("task %s never was %s", id, state);
    return NULL;
}

static void begin(struct fixture *f, task_run *run, char id[TASK_ID_MAX])
{
    struct err e = ERR_INIT;

    assert_int_equal(tasks_start(f->tasks, "kind", run, drop, f, id, NULL, &e), 0);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_a_task_that_succeeds(void **state)
{
    struct fixture f;
    struct buf b = {0};
    struct err e = ERR_INIT;
    char id[TASK_ID_MAX];
    json_t *o;

    (void)state;
    start(&f);
    assert_int_equal(tasks_start(f.tasks, "verify", run_quick, drop, &f, id, &b, &e), 0);
    o = json_loadb((const char *)b.data, b.len, 0, NULL); /* as it was before it could end */
    assert_string_equal(text_of(o, "state"), "queued");
    assert_int_equal(json_object_size(o), 7);
    json_decref(o);
    buf_free(&b);
    o = await(&f, id, "succeeded");
    assert_string_equal(text_of(o, "id"), id);
    assert_string_equal(text_of(o, "kind"), "verify");
    assert_true(json_real_value(json_object_get(o, "progress")) == 1.0);
    assert_true(json_is_null(json_object_get(o, "rate")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "result"), "n")), 7);
    assert_int_equal(strlen(text_of(o, "created")), strlen("2026-01-01T00:00:00Z"));
    json_decref(o);
    end(&f);
    assert_int_equal(f.dropped, 1);
}

static void test_a_task_that_fails(void **state)
{
    struct fixture f;
    char id[TASK_ID_MAX];
    json_t *o;

    (void)state;
    start(&f);
    begin(&f, run_failing, id);
    o = await(&f, id, "failed");
    assert_string_equal(text_of(json_object_get(o, "error"), "code"), "io_error");
    assert_string_equal(text_of(json_object_get(o, "error"), "detail"), "the \"disk\" is gone");
    assert_null(json_object_get(o, "result"));
    json_decref(o);
    end(&f);
}

static void test_progress_and_cancelling(void **state)
{
    struct fixture f;
    char running[TASK_ID_MAX], waiting[TASK_ID_MAX], last[TASK_ID_MAX];
    struct err e = ERR_INIT;
    json_t *o;

    (void)state;
    start(&f);
    begin(&f, run_waiting, running);
    begin(&f, run_quick, waiting);
    begin(&f, run_quick, last);
    sem_wait(&f.begun);
    o = await(&f, running, "running");
    assert_true(json_real_value(json_object_get(o, "progress")) == 0.25);
    assert_true(json_number_value(json_object_get(o, "rate")) > 0);
    assert_true(json_number_value(json_object_get(o, "eta_s")) >= 0);
    json_decref(o);
    json_decref(await(&f, waiting, "queued"));
    assert_int_equal(tasks_cancel(f.tasks, waiting, &e), 0);
    json_decref(await(&f, waiting, "cancelled")); /* at once, while the other still runs */
    assert_int_equal(tasks_cancel(f.tasks, running, &e), 0);
    json_decref(await(&f, running, "running"));
    sem_post(&f.go);
    json_decref(await(&f, running, "cancelled"));
    json_decref(await(&f, last, "succeeded"));
    assert_int_equal(tasks_cancel(f.tasks, last, &e), 0);
    json_decref(await(&f, last, "succeeded"));
    assert_int_equal(tasks_cancel(f.tasks, "j999", &e), ERR_UNKNOWN_JOB);
    end(&f);
    assert_int_equal(f.dropped, 3);
}

static void test_a_full_queue_takes_nothing(void **state)
{
    struct fixture f;
    char id[TASK_ID_MAX];
    struct err e = ERR_INIT;
    int taken = 0;

    (void)state;
    start(&f);
    begin(&f, run_waiting, id);
    sem_wait(&f.begun);
    while (!tasks_start(f.tasks, "kind", run_quick, drop, &f, id, NULL, &e))
        taken++;
    assert_int_equal(e.code, ERR_BUSY);
    assert_int_equal(taken, LIMIT_TASK_QUEUE);
    sem_post(&f.go);
    end(&f);
    assert_int_equal(f.dropped, 1 + LIMIT_TASK_QUEUE);
}

static void test_only_so_many_are_kept(void **state)
{
    struct fixture f;
    char id[TASK_ID_MAX], first[TASK_ID_MAX];
    struct err e = ERR_INIT;
    struct buf b = {0};
    json_t *list;

    (void)state;
    start(&f);
    begin(&f, run_quick, first);
    for (unsigned i = 0; i < LIMIT_TASKS_KEPT; i++) {
        begin(&f, run_quick, id);
        json_decref(await(&f, id, "succeeded"));
    }
    assert_int_equal(tasks_describe(f.tasks, first, NULL, &b, &e), ERR_UNKNOWN_JOB);
    tasks_list(f.tasks, NULL, &b);
    list = json_loadb((const char *)b.data, b.len, 0, NULL);
    assert_int_equal(json_array_size(list), LIMIT_TASKS_KEPT);
    assert_string_equal(text_of(json_array_get(list, 0), "id"), id); /* the newest first */
    json_decref(list);
    buf_free(&b);
    end(&f);
}

static void test_shutting_down_stops_what_runs_and_what_waits(void **state)
{
    struct fixture f;
    char running[TASK_ID_MAX], waiting[TASK_ID_MAX], id[TASK_ID_MAX];
    struct err e = ERR_INIT;

    (void)state;
    start(&f);
    begin(&f, run_waiting, running);
    begin(&f, run_quick, waiting);
    sem_wait(&f.begun);
    tasks_stop(f.tasks);
    assert_int_equal(tasks_start(f.tasks, "kind", run_quick, drop, &f, id, NULL, &e), ERR_DRAINING);
    sem_post(&f.go);
    json_decref(await(&f, running, "cancelled"));
    json_decref(await(&f, waiting, "cancelled"));
    end(&f);
    assert_int_equal(f.dropped, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_task_that_succeeds),
        cmocka_unit_test(test_a_task_that_fails),
        cmocka_unit_test(test_progress_and_cancelling),
        cmocka_unit_test(test_a_full_queue_takes_nothing),
        cmocka_unit_test(test_only_so_many_are_kept),
        cmocka_unit_test(test_shutting_down_stops_what_runs_and_what_waits),
    };

    return cmocka_run_group_tests_name("tasks", tests, NULL, NULL);
}
