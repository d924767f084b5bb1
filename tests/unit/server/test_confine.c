/* test_confine.c - what a confined process can still do, tried out in children that confine
 * themselves. Skipped where the kernel has no Landlock. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/config.h"
#include "server/confine.h"
#include "server/log.h"
#include "server/route.h"

const struct route route_table[1];
const size_t route_count = 0;

/* Not below /tmp, where an encoder may write. */
static char dir[] = "/var/lib/ascribe-test-confine-XXXXXX";
static char store[128], outside[128], audit[128], socket_spec[160];
static long abi;

static struct config config_of(bool encoder)
{
    struct config c = {.store = store, .audit = audit, .listen_count = 2};

    c.listen[0] = "127.0.0.1:0";
    c.listen[1] = socket_spec;
    c.encoder = encoder ? "cat" : NULL;
    return c;
}

/* Runs `attempt` in a child that is confined; what it gives (0, or an errno). */
static int confined(bool encoder, bool off, int (*attempt)(void))
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        struct config c = config_of(encoder);
        c.no_landlock = off;
        log_set_level(LOG_ERROR);
        confine_process(&c);
        _exit(attempt());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int make_file(const char *folder, const char *name)
{
    char path[256];
    int fd;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int in_store(void)
{
    char a[256], b[256];

    snprintf(a, sizeof a, "%s/sub", store);
    snprintf(b, sizeof b, "%s/sub/moved", store);
    if (mkdir(a, 0700) && errno != EEXIST)
        return errno;
    if (make_file(store, "one"))
        return 1;
    snprintf(a, sizeof a, "%s/one", store);
    if (rename(a, b) || link(b, a) || truncate(a, 7) || unlink(a) || unlink(b))
        return errno;
    return 0;
}

static int through_a_link(void)
{
    char shards[160];

    snprintf(shards, sizeof shards, "%s/shards", store); /* leads outside */
    return make_file(shards, "x");
}

static int write_outside(void)
{
    return make_file(outside, "x");
}

static int write_temporary(void)
{
    char name[64];
    int code;

    snprintf(name, sizeof name, "ascribe-confine-%d", getpid());
    code = make_file("/tmp", name);
    if (!code) {
        char path[96];
        snprintf(path, sizeof path, "/tmp/%s", name);
        unlink(path);
    }
    return code;
}

static int read_passwords(void)
{
    return open("/etc/passwd", O_RDONLY) < 0 ? errno : 0;
}

static int read_library_and_proc(void)
{
    return open("/usr/share", O_RDONLY | O_DIRECTORY) < 0 || open("/proc/self/statm", O_RDONLY) < 0
               ? errno
               : 0;
}

static int append_audit(void)
{
    int fd = open(audit, O_WRONLY | O_CREAT | O_APPEND, 0600);

    return fd >= 0 && write(fd, "x\n", 2) == 2 ? 0 : errno;
}

static int run_program(void)
{
    execl("/bin/true", "true", (char *)NULL);
    return errno;
}

static int bind_to(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    return bind(fd, (struct sockaddr *)&a, sizeof a) ? errno : 0;
}

static int bind_told(void)
{
    return bind_to(0);
}

static int bind_other(void)
{
    return bind_to(7);
}

static int connect_out(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    return connect(fd, (struct sockaddr *)&a, sizeof a) ? errno : 0;
}

static int bind_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    memcpy(a.sun_path, socket_spec + 5, strlen(socket_spec + 5) + 1); /* the folder is short */
    return bind(fd, (struct sockaddr *)&a, sizeof a) || unlink(a.sun_path) ? errno : 0;
}

static int signal_parent(void)
{
    return kill(getppid(), 0) ? errno : 0;
}

/* A sanitizer's build is confined as if it had an encoder. */
#ifdef ASCRIBE_DEBUG
enum { STRICT = 0 };
#else
enum { STRICT = 1 };
#endif

static void need(long version)
{
    if (abi < version)
        skip();
}

static void test_store(void **state)
{
    (void)state;
    need(2); /* 1 lets nobody move or link between folders */
    for (int encoder = 0; encoder < 2; encoder++) {
        assert_int_equal(confined(encoder, false, in_store), 0);
        assert_int_equal(confined(encoder, false, through_a_link), 0);
        assert_int_equal(confined(encoder, false, append_audit), 0);
        assert_int_equal(confined(encoder, false, bind_unix), 0);
    }
}

static void test_files_outside(void **state)
{
    (void)state;
    need(1);
    assert_int_equal(confined(false, false, write_outside), EACCES);
    assert_int_equal(confined(true, false, write_outside), EACCES);
    assert_int_equal(confined(false, true, write_outside), 0); /* --no-landlock */
    assert_int_equal(confined(true, false, write_temporary), 0);
    assert_int_equal(confined(true, false, read_passwords), 0);
    assert_int_equal(confined(false, false, read_library_and_proc), 0);
    if (!STRICT)
        skip();
    assert_int_equal(confined(false, false, write_temporary), EACCES);
    assert_int_equal(confined(false, false, read_passwords), EACCES);
}

static void test_programs(void **state)
{
    (void)state;
    need(1);
    assert_int_equal(confined(true, false, run_program), 0);
    if (!STRICT)
        skip();
    assert_int_equal(confined(false, false, run_program), EACCES);
}

static void test_network(void **state)
{
    (void)state;
    need(4);
    assert_int_equal(confined(false, false, bind_told), 0);
    assert_int_not_equal(confined(true, false, connect_out), EACCES);
    if (!STRICT)
        skip();
    assert_int_equal(confined(false, false, bind_other), EACCES);
    assert_int_equal(confined(false, false, connect_out), EACCES);
}

static void test_signals(void **state)
{
    (void)state;
    need(6);
    assert_int_equal(confined(true, false, signal_parent), 0);
    if (!STRICT)
        skip();
    assert_int_equal(confined(false, false, signal_parent), EPERM);
}

static int before(void **state)
{
    char shards[160], target[160];

    (void)state;
    abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
    if (!mkdtemp(dir)) { /* not root */
        snprintf(dir, sizeof dir, "./ascribe-test-confine-XXXXXX");
        if (!mkdtemp(dir))
            return -1;
    }
    snprintf(store, sizeof store, "%s/store", dir);
    snprintf(outside, sizeof outside, "%s/outside", dir);
    snprintf(audit, sizeof audit, "%s/logs/audit", dir);
    snprintf(socket_spec, sizeof socket_spec, "unix:%s/run/socket", dir);
    snprintf(shards, sizeof shards, "%s/shards", store);
    snprintf(target, sizeof target, "%s/disk", dir);
    if (mkdir(store, 0700) || mkdir(outside, 0700) || mkdir(target, 0700) ||
        symlink(target, shards))
        return -1;
    snprintf(shards, sizeof shards, "%s/logs", dir);
    snprintf(target, sizeof target, "%s/run", dir);
    return mkdir(shards, 0700) || mkdir(target, 0700) ? -1 : 0;
}

static int after(void **state)
{
    char command[192];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store),    cmocka_unit_test(test_files_outside),
        cmocka_unit_test(test_programs), cmocka_unit_test(test_network),
        cmocka_unit_test(test_signals),
    };

    return cmocka_run_group_tests(tests, before, after);
}
