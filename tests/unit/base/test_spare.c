/* test_spare.c - storage/base: what is held back for when memory ends. Each case in a child of its
 * own, with a limit that is the kernel's (RLIMIT_DATA), not ours. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/base/bytes.h"
#include "storage/base/mem.h"
#include "storage/base/spare.h"

enum { HELD = 1 << 20, FILL = 64 << 10 };

/* A sanitizer's allocator keeps terabytes of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { PLAIN = 0 };
#else
enum { PLAIN = 1 };
#endif

static void limit(rlim_t more)
{
    struct rlimit r = {0};

    getrlimit(RLIMIT_DATA, &r);
    r.rlim_cur = more;
    if (setrlimit(RLIMIT_DATA, &r))
        _exit(99);
}

/* Everything that large blocks can have, and then what small ones can. */
static void fill(size_t piece)
{
    while (malloc(piece))
        continue;
}

static int status_of(void (*work)(void))
{
    int status;
    pid_t pid;

    if (!PLAIN)
        skip();
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(98);
        work();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void small_is_given(void)
{
    struct arena a = {0};
    struct buf b = {0};

    spare_hold(HELD);
    limit(16 << 20);
    fill(FILL);
    fill(64);
    if (!spare_whole())
        _exit(1); /* nothing that counts was asked for yet */
    for (int i = 0; i < 100; i++)
        memset(mem_new(1, 1000), 1, 1000);
    if (spare_whole() || mem_big(1, 64) || arena_big(&a, 1, 64))
        _exit(2); /* what may fail does, while it is spent */
    memset(arena_new(&a, 1, 100), 1, 100);
    buf_add_text(&b, "a refusal");
    if (b.failed || spare_failed())
        _exit(3);
}

static void it_comes_back(void)
{
    struct rlimit r;

    spare_hold(HELD);
    limit(16 << 20);
    fill(FILL);
    fill(64);
    mem_new(1, 1000);
    if (spare_whole())
        _exit(1);
    getrlimit(RLIMIT_DATA, &r);
    r.rlim_cur += 8 << 20;
    setrlimit(RLIMIT_DATA, &r);
    if (!spare_whole() || !mem_big(1, 64))
        _exit(2);
}

static void end_of_it(void)
{
    spare_hold(HELD);
    limit(16 << 20);
    fill(FILL);
    fill(64);
    for (;;)
        memset(mem_new(1, 1000), 1, 1000);
}

static void a_library_is_told_no(void)
{
    spare_hold(HELD);
    limit(16 << 20);
    fill(FILL);
    fill(64);
    while (spare_malloc(1000))
        continue;
    if (!spare_failed() || spare_failed())
        _exit(1); /* told once */
    if (spare_calloc(10, 100000) || spare_realloc(NULL, 1000000) || spare_aligned(64, 64000))
        _exit(2);
}

static void test_small_is_given(void **state)
{
    (void)state;
    assert_int_equal(status_of(small_is_given), 0);
}

static void test_it_comes_back(void **state)
{
    (void)state;
    assert_int_equal(status_of(it_comes_back), 0);
}

static void test_end_of_it(void **state)
{
    int status = status_of(end_of_it);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void test_a_library_is_told_no(void **state)
{
    (void)state;
    assert_int_equal(status_of(a_library_is_told_no), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_is_given),
        cmocka_unit_test(test_it_comes_back),
        cmocka_unit_test(test_end_of_it),
        cmocka_unit_test(test_a_library_is_told_no),
    };

    return cmocka_run_group_tests_name("spare", tests, NULL, NULL);
}
