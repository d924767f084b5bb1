/* test_config.c - settings: sources and their order, units, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/config.h"
#include "server/limits.h"
#include "server/listen.h"

static struct config c;
static struct err e;
static enum config_result what;

/* Loads from the words, separated by spaces. */
static int load(const char *words)
{
    static char text[1024];
    char *argv[32] = {NULL}, *save;
    char name[] = "ascribed";
    int argc = 1;

    config_free(&c);
    err_clear(&e);
    argv[0] = name;
    snprintf(text, sizeof text, "%s", words);
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    return config_load(&c, argc, argv, &what, &e);
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(load("--store /s"), 0);
    assert_string_equal(c.store, "/s");
    assert_int_equal(c.listen_count, 1);
    assert_string_equal(c.listen[0], "127.0.0.1:7171");
    assert_int_equal(c.body_limit, LIMIT_BODY_DEFAULT);
    assert_int_equal(c.deadline_ms, LIMIT_DEADLINE_MS);
    assert_true(c.threads >= 1);
    assert_false(c.create);
}

static void test_flags(void **state)
{
    (void)state;
    assert_int_equal(load("--store=/s --create --memory 3G --threads=7 --listen 127.0.0.1:0 "
                          "--listen unix:/x --log-level warn"),
                     0);
    assert_true(c.create);
    assert_int_equal(c.memory, UINT64_C(3) << 30);
    assert_int_equal(c.threads, 7);
    assert_int_equal(c.listen_count, 2);
    assert_string_equal(c.listen[1], "unix:/x");
    assert_int_equal(c.log_level, LOG_WARN);
    assert_int_equal(load("--help"), 0);
    assert_int_equal(what, CONFIG_HELP);
    assert_int_equal(load("--version"), 0);
    assert_int_equal(what, CONFIG_VERSION);
}

static void test_order(void **state)
{
    char path[] = "/tmp/ascribe-test-config-XXXXXX", words[128];
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");

    (void)state;
    fputs("; a comment\n[server]\nstore = /from-file\nthreads = 1\ncreate = yes\nmemory = 1G\n"
          "listen = 127.0.0.1:1, 127.0.0.1:2\n",
          f);
    fclose(f);
    setenv("ASCRIBE_THREADS", "2", 1);
    setenv("ASCRIBE_MEMORY", "2G", 1);
    snprintf(words, sizeof words, "--config %s --memory 3G", path);
    assert_int_equal(load(words), 0);
    assert_string_equal(c.store, "/from-file");
    assert_int_equal(c.threads, 2);
    assert_int_equal(c.memory, UINT64_C(3) << 30);
    assert_true(c.create);
    assert_int_equal(c.listen_count, 2);
    setenv("ASCRIBE_LISTEN", "127.0.0.1:3", 1);
    assert_int_equal(load(words), 0);
    assert_int_equal(c.listen_count, 1);
    assert_string_equal(c.listen[0], "127.0.0.1:3");
    unsetenv("ASCRIBE_LISTEN");
    unsetenv("ASCRIBE_THREADS");
    unsetenv("ASCRIBE_MEMORY");
    unlink(path);
    assert_int_equal(load(words), ERR_INVALID); /* no such file now */
    assert_string_equal(e.field, "config");
}

static void refused(const char *words, const char *field)
{
    if (load(words) != ERR_INVALID || strcmp(e.field, field) != 0)
        print_error("%s: %d %s (%s)\n", words, (int)e.code, e.text, e.field);
    assert_int_equal(e.code, ERR_INVALID);
    assert_string_equal(e.field, field);
}

static void test_refused(void **state)
{
    (void)state;
    refused("", "store");
    refused("--store", "store");
    refused("--store=", "store");
    refused("--store /s --threads x", "threads");
    refused("--store /s --threads 4K", "threads");
    refused("--store /s --threads -1", "threads");
    refused("--store /s --threads 100000", "threads");
    refused("--store /s --memory 1X", "memory");
    refused("--store /s --memory 99999999999999999999", "memory");
    refused("--store /s --body-limit 1", "body-limit");
    refused("--store /s --body-limit 1G", "body-budget");
    refused("--store /s --log-level loud", "log-level");
    refused("--store /s --create=maybe", "create");
    refused("--store /s --nonsense 1", "--nonsense");
    refused("--store /s stray", "stray");
    refused("--store /s --listen=", "listen");
}

static void test_bytes(void **state)
{
    uint64_t n;

    (void)state;
    assert_true(config_bytes("0", &n) && n == 0);
    assert_true(config_bytes("12", &n) && n == 12);
    assert_true(config_bytes("4k", &n) && n == 4096);
    assert_true(config_bytes("2GiB", &n) && n == UINT64_C(2) << 30);
    assert_true(config_bytes("1MB", &n) && n == 1 << 20);
    assert_false(config_bytes("", &n));
    assert_false(config_bytes("K", &n));
    assert_false(config_bytes("1KK", &n));
    assert_false(config_bytes("1.5G", &n));
    assert_false(config_bytes("18446744073709551615T", &n));
}

static void address(const char *spec, bool proxy, int want)
{
    struct listen_address a;

    err_clear(&e);
    if (listen_resolve(spec, proxy, &a, &e) != want)
        print_error("%s: %s\n", spec, e.text);
    assert_int_equal(e.code, want);
}

static void test_addresses(void **state)
{
    (void)state;
    address("127.0.0.1:0", false, 0);
    address("127.9.9.9:65535", false, 0);
    address("localhost:7171", false, 0);
    address("[::1]:7171", false, 0);
    address("unix:/tmp/x", false, 0);
    address("0.0.0.0:7171", false, ERR_INVALID);
    address(":7171", false, ERR_INVALID);
    address("[::]:7171", false, ERR_INVALID);
    address("192.0.2.1:7171", false, ERR_INVALID);
    address("0.0.0.0:7171", true, 0);
    address("127.0.0.1", false, ERR_INVALID);
    address("127.0.0.1:", false, ERR_INVALID);
    address("127.0.0.1:65536", false, ERR_INVALID);
    address("127.0.0.1:-1", false, ERR_INVALID);
    address("::1:7171", false, ERR_INVALID);
    address("unix:", false, ERR_INVALID);
    address("unix:/012345678901234567890123456789012345678901234567890123456789012345678901234567"
            "8901234567890123456789012345678901234567890",
            false, ERR_INVALID);
}

static int done(void **state)
{
    (void)state;
    config_free(&c);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_flags),
        cmocka_unit_test(test_order),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bytes),    cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, done);
}
