/* test_join.c - requests that share a scan: who goes together, that each gets what it would have got
 * alone, and that whoever leaves is answered while the others never notice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/flat.h"
#include "index/vec.h"
#include "server/job.h"
#include "server/join.h"
#include "server/limits.h"
#include "server/pool.h"
#include "server/route.h"
#include "server/runtime.h"
#include "storage/base/check.h"
#include "storage/commit.h"

enum { DIM = 16, ROWS = 600, CHUNK_ROWS = 20, JOBS = 64 };

static struct store *store;
static struct corpus *corpus;
static const struct view *view;
static struct flat *flat;
static struct pool *pool;
static struct join *join;
static struct runtime rt;
static char dir[64];
static _Atomic unsigned done, gated;
static _Atomic bool gate;

/* One request of these tests. */
struct ask {
    struct join_seat seat;
    float vectors[2 * DIM];
    bool seated, stopped; /* work ran again; what job_stopped said then */
    _Atomic bool gone;
    bool slow;
    int leave_after; /* times it may be asked whether it stopped; 0: stays */
    _Atomic int asked;
    unsigned ended; /* how many had ended before it */
};

/* ---- a store of random unit rows ------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;

static float number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (float)((int)(random_state % 2001) - 1000) / 1000.0f;
}

static void unit(float *row)
{
    float scratch[DIM];
    struct err e = ERR_INIT;
    double norm;

    for (size_t k = 0; k < DIM; k++)
        row[k] = number();
    row[0] += 0.001f;
    assert_int_equal(vec_normalise(row, DTYPE_F32, DIM, DTYPE_F32, row, &norm, scratch, "row", 0,
                                   &e), 0);
}

static void fill(void)
{
    struct commit_example x[ROWS];
    char ids[ROWS][16];
    float *rows = test_calloc(ROWS * DIM, sizeof *rows);
    double norms[ROWS];
    struct commit_batch batch = {.corpus = corpus, .name = "b", .count = ROWS, .encodings = rows,
                                 .norms = norms, .examples = x, .err = ERR_INIT};
    struct commit_batch *group[] = {&batch};
    struct err e = ERR_INIT;

    for (uint32_t i = 0; i < ROWS; i++) {
        snprintf(ids[i], sizeof ids[i], "%u", i);
        x[i] = (struct commit_example){.id = ids[i], .id_len = (uint32_t)strlen(ids[i])};
        unit(rows + i * DIM);
        norms[i] = 1 + i % 7;
    }
    assert_int_equal(commit_group(store, group, 1, &e), 0);
    test_free(rows);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static bool wants_to_leave(void *arg)
{
    struct ask *a = arg;

    if (a->slow)
        usleep(1500); /* so that there is time for another look before the scan is over */
    if (a->leave_after && atomic_fetch_add(&a->asked, 1) + 1 >= a->leave_after) {
        atomic_store(&a->seat.job->cancelled, true);
        atomic_store(&a->gone, true);
    }
    return atomic_load(&a->gone);
}

static int work_query(struct job *j)
{
    struct ask *a = j->state;

    if (a->seated) {
        a->stopped = job_stopped(j);
        return a->stopped ? (int)j->err.code : 0;
    }
    a->seated = true;
    join_sit(join, &a->seat);
    return 0;
}

static int work_gate(struct job *j)
{
    (void)j;
    atomic_fetch_add(&gated, 1);
    while (!atomic_load(&gate))
        usleep(100);
    return 0;
}

const struct route route_table[] = {
    {"POST", "/q", SCOPE_READ, BODY_NONE, false, "", NULL, NULL, work_query, NULL, NULL, NULL},
    {"GET", "/gate", SCOPE_READ, BODY_NONE, false, "", NULL, NULL, work_gate, NULL, NULL, NULL},
};
const size_t route_count = 2;

static void on_done(void *arg, struct job *j)
{
    struct ask *a = j->state;
    unsigned before = atomic_fetch_add(&done, 1);

    (void)arg;
    if (a)
        a->ended = before;
}

static struct job *job_of(int route, struct ask *a)
{
    struct job *j = mem_new(1, sizeof *j);

    j->rt = &rt;
    j->route = &route_table[route];
    j->state = a;
    err_clear(&j->err);
    return j;
}

static void job_free(struct job *j)
{
    arena_free(&j->arena);
    free(j);
}

static struct job *ask_of(struct ask *a, size_t queries, size_t k, size_t opponents)
{
    struct job *j = job_of(0, a);

    *a = (struct ask){.seat = {.job = j,
                               .scan = {.flat = flat, .view = view, .engine = SCAN_AUTO},
                               .stop = {wants_to_leave, a},
                               .whole = view,
                               .want = {.count = queries, .k = k, .opponents = opponents}}};
    for (size_t q = 0; q < queries; q++)
        unit(a->vectors + q * DIM);
    a->seat.want.vectors = a->vectors;
    return j;
}

static void wait_for(_Atomic unsigned *n, unsigned value)
{
    for (int i = 0; i < 20000 && atomic_load(n) < value; i++)
        usleep(500);
    assert_true(atomic_load(n) >= value);
}

/* All jobs are in the line before the first is looked at. */
static void submit_all(struct job **jobs, size_t count)
{
    unsigned readers = pool_readers(pool);
    struct job *gates[8];
    struct err e = ERR_INIT;

    gate = false;
    done = gated = 0;
    for (unsigned i = 0; i < readers; i++) {
        gates[i] = job_of(1, NULL);
        assert_int_equal(pool_submit(pool, gates[i], &e), 0);
    }
    wait_for(&gated, readers);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pool_submit(pool, jobs[i], &e), 0);
    atomic_store(&gate, true);
    wait_for(&done, (unsigned)count + readers);
    for (unsigned i = 0; i < readers; i++)
        job_free(gates[i]);
}

static void start(unsigned readers)
{
    pool = pool_new(readers, 256, on_done, NULL);
    join = join_new(pool, NULL);
}

static void end(void)
{
    pool_free(pool);
    join_free(join); /* insists that nobody sits anywhere */
}

static int setup(void **state)
{
    struct store_options options = {.create = true, .chunk_bytes = CHUNK_ROWS * DIM * sizeof(float)};
    struct corpus_def def = {.name = "c", .dim = DIM, .dtype = DTYPE_F32, .manifest = "{}"};
    struct err e = ERR_INIT;
    bool created;

    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ascribe-join-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(store_open(dir, &options, &store, &e), 0);
    assert_int_equal(store_corpus_create(store, &def, &created, &corpus, &e), 0);
    fill();
    view = corpus_view(corpus);
    flat = flat_new(1 << 20);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    view_release(view);
    corpus_release(corpus);
    store_close(store);
    flat_free(flat);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* ---- the answer alone ------------------------------------------------------------------------ */

static void same_lists(const struct topk *got, const struct topk *want, size_t count)
{
    for (size_t q = 0; q < count; q++) {
        assert_int_equal(got[q].count, want[q].count);
        for (size_t i = 0; i < got[q].count; i++) {
            assert_int_equal(got[q].hits[i].sequence, want[q].hits[i].sequence);
            assert_true(got[q].hits[i].score == want[q].hits[i].score);
            assert_int_equal(got[q].hits[i].chunk, want[q].hits[i].chunk);
            assert_int_equal(got[q].hits[i].row, want[q].hits[i].row);
        }
    }
}

static void assert_as_alone(const struct ask *a)
{
    struct scan scan = a->seat.scan;
    struct scan_answer alone;
    struct arena arena = {0};
    struct err e = ERR_INIT;

    assert_false(a->stopped);
    assert_int_equal(a->seat.err.code, 0);
    scan.engine = SCAN_EXACT;
    assert_int_equal(scan_search(&scan, &a->seat.want, &arena, &alone, &e), 0);
    same_lists(a->seat.answer.pro, alone.pro, a->seat.want.count);
    same_lists(a->seat.answer.opp, alone.opp, a->seat.want.count);
    arena_free(&arena);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_those_who_wait_go_together(void **state)
{
    struct ask *a = test_calloc(JOBS, sizeof *a);
    struct job *jobs[JOBS];

    (void)state;
    start(1);
    for (size_t i = 0; i < JOBS; i++)
        jobs[i] = ask_of(&a[i], 1 + i % 2, i % 5, i % 3);
    submit_all(jobs, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        assert_int_equal(a[i].seat.requests, JOBS); /* one reader: all sat before the first scan */
        assert_int_equal(a[i].seat.queries, JOBS + JOBS / 2);
        assert_as_alone(&a[i]);
        job_free(jobs[i]);
    }
    end();
    test_free(a);
}

/* What is not the same question is not the same scan. */
static void test_rooms(void **state)
{
    static const double length = 2.5, other = 4;
    struct ask a[8];
    struct job *jobs[8];
    size_t together[8] = {2, 2, 1, 2, 2, 1, 1, 1};

    (void)state;
    start(1);
    for (size_t i = 0; i < 8; i++)
        jobs[i] = ask_of(&a[i], 1, 3, 1);
    a[2].seat.filter = "norm > 3";
    a[3].seat.scan.lengths = &length;
    a[4].seat.scan.lengths = &other;
    a[5].seat.want.k = 500; /* long lists are not for those who want short ones */
    a[6].seat.scan.engine = SCAN_FLAT;
    a[7].seat.filter = "norm > 4";
    submit_all(jobs, 8);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(a[i].seat.requests, together[i]);
        assert_as_alone(&a[i]);
        job_free(jobs[i]);
    }
    end();
}

/* Rows, bytes and hits of one scan are bounded; nobody is left behind. */
static void test_bounds(void **state)
{
    enum { MANY = 140 };
    struct ask *a = test_calloc(MANY, sizeof *a);
    struct job *jobs[MANY];
    size_t in_full = 0;

    (void)state;
    start(1);
    for (size_t i = 0; i < MANY; i++)
        jobs[i] = ask_of(&a[i], 2, 100, 0);
    submit_all(jobs, MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_true(a[i].seat.queries <= LIMIT_JOIN_QUERIES);
        in_full += a[i].seat.queries == LIMIT_JOIN_QUERIES;
        assert_as_alone(&a[i]);
        job_free(jobs[i]);
    }
    assert_int_equal(in_full, LIMIT_JOIN_QUERIES / 2);
    end();
    test_free(a);
}

/* A third leaves at once, a third during the scan; each is told so, the rest get their answers. */
static void test_leaving(void **state)
{
    enum { MANY = 60 };
    struct ask *a = test_calloc(MANY, sizeof *a);
    struct job *jobs[MANY];
    size_t left = 0;

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        start(1 + round % 4);
        for (size_t i = 0; i < MANY; i++) {
            jobs[i] = ask_of(&a[i], 1, 5, 5);
            a[i].leave_after = i % 3 == 0 ? 0 : i % 3 == 1 ? 1 : 2;
            a[i].slow = i == 3;
            jobs[i]->deadline_ns = scan_now() + UINT64_C(60000000000) + i;
        }
        submit_all(jobs, MANY);
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal(jobs[i]->err.code, a[i].stopped ? ERR_CANCELLED : 0);
            assert_false(a[i].stopped && i % 3 == 0);
            if (!a[i].stopped)
                assert_as_alone(&a[i]); /* nobody asked it before the scan was over */
            left += a[i].stopped;
            job_free(jobs[i]);
        }
        end();
    }
    assert_true(left > MANY * 20 / 2); /* two thirds want to; few scans end before that is known */
    test_free(a);
}

/* All leave: the scan ends early, and every one of them is told. */
static void test_deserted(void **state)
{
    struct ask a[5];
    struct job *jobs[5];

    (void)state;
    start(1);
    for (size_t i = 0; i < 5; i++) {
        jobs[i] = ask_of(&a[i], 1, 5, 0);
        a[i].leave_after = 1;
    }
    submit_all(jobs, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_true(a[i].stopped);
        assert_int_equal(jobs[i]->err.code, ERR_CANCELLED);
        job_free(jobs[i]);
    }
    end();
}

/* Several readers, jobs that come while scans run: nothing is lost, everything is right. */
static void test_a_stream(void **state)
{
    enum { MANY = 1000 };
    struct ask *a = test_calloc(MANY, sizeof *a);
    struct job **jobs = test_calloc(MANY, sizeof *jobs);
    struct err e = ERR_INIT;
    size_t shared = 0;

    (void)state;
    start(3);
    done = 0;
    for (size_t i = 0; i < MANY; i++) {
        jobs[i] = ask_of(&a[i], 1 + i % 2, 1 + i % 9, i % 4);
        a[i].seat.filter = i % 5 == 0 ? "one" : i % 5 == 1 ? "other" : NULL;
        while (pool_submit(pool, jobs[i], &e)) {
            assert_int_equal(e.code, ERR_BUSY);
            err_clear(&e);
            usleep(200);
        }
    }
    wait_for(&done, MANY);
    for (size_t i = 0; i < MANY; i++) {
        shared += a[i].seat.requests > 1;
        assert_as_alone(&a[i]);
        job_free(jobs[i]);
    }
    assert_true(shared > 0);
    end();
    test_free(a);
    test_free(jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_those_who_wait_go_together),
        cmocka_unit_test(test_rooms),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_deserted),
        cmocka_unit_test(test_a_stream),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
