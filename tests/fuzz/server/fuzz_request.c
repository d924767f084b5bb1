/* fuzz_request.c - the whole server in this process: its loop, its routes, a store in memory. Any bytes
 * come off a connection; whatever they are, it answers in HTTP or hangs up, in time, and not with a
 * fault of its own. A byte 0x01 stands for the header line with the administrator's key, so that what
 * lies behind the door is tried as well. The store stays between inputs: what one made, the next meets.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "index/flat.h"
#include "index/kern.h"
#include "server/audit.h"
#include "server/auth.h"
#include "server/bm25.h"
#include "server/codes.h"
#include "server/config.h"
#include "server/cost.h"
#include "server/join.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/route.h"
#include "server/runtime.h"
#include "server/server.h"
#include "server/sift.h"
#include "server/tasks.h"
#include "server/vitals.h"
#include "storage/store.h"

enum { HANG_S = 25 }; /* tests/fuzz/run.py ends an input after 30 */

static struct {
    char store[64];
    char header[256]; /* what 0x01 stands for */
    struct config config;
    struct runtime rt;
    pthread_t loop;
    struct sockaddr_un at; /* ports would run out */
} t;

static void *run(void *arg)
{
    (void)arg;
    (void)server_run(t.rt.server);
    return NULL;
}

static int drop(const char *path, const struct stat *s, int kind, struct FTW *w)
{
    (void)s;
    (void)kind;
    (void)w;
    return remove(path);
}

static void leave(void)
{
    unlink(t.at.sun_path);
    nftw(t.store, drop, 16, FTW_DEPTH | FTW_PHYS);
}

static void configure(void)
{
    char *args[] = {"ascribed", "--create", "--store", t.store, "--threads", "2", "--body-limit", "1M",
                    "--body-budget", "8M", "--deadline-ms", "5000", "--head-ms", "2000", "--idle-ms",
                    "2000", "--log-level", "error", "--audit", "off", "--memory", "8M"};
    enum config_result what;
    struct err e = ERR_INIT;

    strcpy(t.store, "/dev/shm/ascribe-fuzz-XXXXXX");
    fuzz_require(mkdtemp(t.store) != NULL && atexit(leave) == 0);
    fuzz_require(config_load(&t.config, sizeof args / sizeof *args, args, &what, &e) == 0);
}

static void open_store(void)
{
    struct store_options options = {.shard_bytes = t.config.shard_bytes,
                                    .chunk_bytes = t.config.chunk_bytes,
                                    .create = true,
                                    .coder = &codes_coder};
    char path[96], key[160] = "";
    struct err e = ERR_INIT;
    FILE *f;

    t.rt.auth = auth_new();
    fuzz_require(store_open(t.config.store, &options, &t.rt.store, &e) == 0);
    fuzz_require(auth_start(t.rt.auth, t.rt.store, false, &e) == 0);
    snprintf(path, sizeof path, "%s/admin.key", t.store);
    f = fopen(path, "r");
    fuzz_require(f && fscanf(f, "%159s", key) == 1);
    fclose(f);
    snprintf(t.header, sizeof t.header, "Authorization: Bearer %s\r\n", key);
}

/* As main.c does it. Nothing of it is freed: it lives as long as the process. */
static void serve(void)
{
    struct err e = ERR_INIT;
    char spec[128];

    configure();
    json_prepare();
    log_set_level(t.config.log_level);
    kern_init(NULL);
    t.rt.config = &t.config;
    t.rt.metrics = metrics_new(route_table, route_count);
    t.rt.audit = audit_new(t.config.audit, t.rt.metrics, &e);
    open_store();
    t.rt.flat = flat_new(t.config.memory);
    t.rt.sift = sift_new(LIMIT_FILTER_KEPT);
    t.rt.bm25 = bm25_new(t.rt.store);
    t.rt.vitals = vitals_new();
    server_new(&t.rt);
    t.rt.pool = pool_new((unsigned)t.config.threads, (unsigned)t.config.read_queue, server_job_done,
                         t.rt.server);
    t.rt.cost = cost_new(t.config.memory);
    t.rt.join = join_new(t.rt.pool, t.rt.metrics);
    t.rt.tasks = tasks_new(t.rt.pool, t.config.store);
    t.at.sun_family = AF_UNIX;
    snprintf(t.at.sun_path, sizeof t.at.sun_path, "%s.socket", t.store);
    snprintf(spec, sizeof spec, "unix:%s", t.at.sun_path);
    fuzz_require(server_listen(t.rt.server, spec, &e) == 0);
    fuzz_require(pthread_create(&t.loop, NULL, run, NULL) == 0);
}

/* The server may hang up before everything was sent. */
static void say(int fd, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        p += n;
        len -= (size_t)n;
    }
}

static void say_all(int fd, const uint8_t *data, size_t size)
{
    while (size) {
        const uint8_t *mark = memchr(data, 1, size);
        size_t n = mark ? (size_t)(mark - data) : size;

        say(fd, data, n);
        if (mark) {
            say(fd, t.header, strlen(t.header));
            n++;
        }
        data += n;
        size -= n;
    }
}

/* libFuzzer's alarm clock interrupts a wait that has a limit. */
static ssize_t hear_some(int fd, void *out, size_t len)
{
    ssize_t n;

    do
        n = recv(fd, out, len, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Until the server hangs up. What begins an answer is a status line, of no 500. */
static void hear(int fd)
{
    char first[16] = "", rest[4096];
    size_t have = 0;
    ssize_t n = 1;

    while (n > 0 && have < 12) {
        n = hear_some(fd, first + have, 12 - have);
        have += n > 0 ? (size_t)n : 0;
    }
    while (n > 0)
        n = hear_some(fd, rest, sizeof rest);
    fuzz_require(n == 0 || errno == ECONNRESET); /* and not EAGAIN: it hangs */
    if (have < 12)
        return;
    fuzz_require(memcmp(first, "HTTP/1.1 ", 9) == 0);
    fuzz_require(memcmp(first + 9, "500", 3) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct timeval limit = {HANG_S, 0};
    int fd;

    if (!t.rt.server)
        serve();
    if (size > 6 && memmem(data, size, "backup", 6))
        return 0; /* each writes a copy of the store */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fuzz_require(fd >= 0 && connect(fd, (struct sockaddr *)&t.at, sizeof t.at) == 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    say_all(fd, data, size);
    shutdown(fd, SHUT_WR);
    hear(fd);
    close(fd);
    return 0;
}
