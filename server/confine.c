/* confine.c - see confine.h. The system calls are made by number: Debian 12's C library has no
 * names for them, and its kernel headers know only the first of the bits below, which never
 * change. */
#include "server/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/config.h"
#include "server/log.h"

/* linux/landlock.h; the number is the ABI that brought the bit */
enum {
    FS_EXECUTE = 1 << 0, /* 1 */
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_CHAR = 1 << 6,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_MAKE_SOCK = 1 << 9,
    FS_MAKE_FIFO = 1 << 10,
    FS_MAKE_BLOCK = 1 << 11,
    FS_MAKE_SYM = 1 << 12,
    FS_REFER = 1 << 13,     /* 2 */
    FS_TRUNCATE = 1 << 14,  /* 3 */
    FS_IOCTL_DEV = 1 << 15, /* 5 */
    NET_BIND = 1 << 0,      /* 4 */
    NET_CONNECT = 1 << 1,
    SCOPE_SIGNALS = 1 << 1, /* 6 */
    RULE_PATH = 1,
    RULE_PORT = 2,
    ASK_VERSION = 1,

    FS_LOOK = FS_READ_FILE | FS_READ_DIR,
    FS_ALTER = FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_CHAR | FS_MAKE_DIR |
               FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_BLOCK | FS_MAKE_SYM | FS_REFER |
               FS_TRUNCATE,
    FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
    FS_OF_STORE = FS_LOOK | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR |
                  FS_MAKE_REG | FS_REFER | FS_TRUNCATE,
};

struct handled {
    uint64_t fs, net, scopes;
};

struct rule_path {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed)); /* as the kernel has it */

struct rule_port {
    uint64_t allowed, port;
};

struct confine {
    struct handled handled;
    int ruleset;
    bool failed;
};

/* What a kernel of this ABI knows; a bit it does not know would be refused. */
static struct handled handled_by(long abi, bool loose)
{
    struct handled h = {.fs = FS_EXECUTE | FS_LOOK | FS_ALTER | FS_IOCTL_DEV,
                        .net = NET_BIND | NET_CONNECT,
                        .scopes = SCOPE_SIGNALS};

    if (loose)
        h = (struct handled){.fs = FS_ALTER};
    if (abi < 6)
        h.scopes = 0;
    if (abi < 5)
        h.fs &= ~(uint64_t)FS_IOCTL_DEV;
    if (abi < 4)
        h.net = 0;
    if (abi < 3)
        h.fs &= ~(uint64_t)FS_TRUNCATE;
    if (abi < 2)
        h.fs &= ~(uint64_t)FS_REFER;
    return h;
}

/* What is not there needs no rule. */
static void allow(struct confine *k, const char *path, uint64_t rights)
{
    struct rule_path rule = {.allowed = rights & k->handled.fs};
    struct stat st;

    rule.parent = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent < 0)
        return;
    if (fstat(rule.parent, &st) == 0 && !S_ISDIR(st.st_mode))
        rule.allowed &= FS_OF_FILES;
    if (rule.allowed && syscall(SYS_landlock_add_rule, k->ruleset, RULE_PATH, &rule, 0))
        k->failed = true;
    close(rule.parent);
}

static void allow_below(struct confine *k, const char *dir, const char *name, uint64_t rights)
{
    char path[4096];

    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) < sizeof path)
        allow(k, path, rights);
}

/* The directory that a file is made in. */
static void allow_beside(struct confine *k, const char *file, uint64_t rights)
{
    const char *slash = strrchr(file, '/');
    char dir[4096];
    size_t len = slash ? (size_t)(slash - file) : 0;

    if (len >= sizeof dir)
        return;
    memcpy(dir, file, len);
    dir[len] = '\0';
    allow(k, !slash ? "." : len ? dir : "/", rights);
}

/* Parts of the store may lie on other disks, by symbolic links: a rule is about where they lead. */
static void allow_store(struct confine *k, const char *store)
{
    static const char *const part[] = {"ledger", "shards", "artifacts", "backups"};

    allow(k, store, FS_OF_STORE);
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        allow_below(k, store, part[i], FS_OF_STORE);
}

static void allow_port(struct confine *k, const char *spec)
{
    const char *colon = strrchr(spec, ':');
    struct rule_port rule = {.allowed = NET_BIND};

    rule.port = colon ? strtoul(colon + 1, NULL, 10) : 0;
    if (k->handled.net &&
        syscall(SYS_landlock_add_rule, k->ruleset, RULE_PORT, &rule, 0))
        k->failed = true;
}

static void allow_listening(struct confine *k, const struct config *c)
{
    for (size_t i = 0; i < c->listen_count; i++)
        if (strncmp(c->listen[i], "unix:", 5) == 0)
            allow_beside(k, c->listen[i] + 5, FS_MAKE_SOCK | FS_REMOVE_FILE);
        else
            allow_port(k, c->listen[i]);
}

/* Libraries may still be loaded, a host name may still be looked up when it is bound. */
static void allow_system(struct confine *k)
{
    static const char *const look[] = {
        "/usr", "/lib", "/lib64", "/proc", "/sys/devices/system", "/dev/null", "/dev/urandom",
        "/etc/ld.so.cache", "/etc/localtime", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf",
        "/etc/nsswitch.conf", "/etc/resolv.conf"};

    for (size_t i = 0; i < sizeof look / sizeof *look; i++)
        allow(k, look[i], FS_LOOK);
    allow(k, "/dev/null", FS_WRITE_FILE);
}

/* The encoder is a program of the operator's; models keep caches and temporary files. */
static void allow_encoder(struct confine *k)
{
    static const char *const alter[] = {"/tmp", "/var/tmp", "/dev", "/proc", "/run/user"};
    static const char *const named[] = {"TMPDIR", "XDG_CACHE_HOME", "HF_HOME", "TORCH_HOME"};
    const char *home = getenv("HOME");

    for (size_t i = 0; i < sizeof alter / sizeof *alter; i++)
        allow(k, alter[i], FS_ALTER);
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (getenv(named[i]) && *getenv(named[i]))
            allow(k, getenv(named[i]), FS_ALTER);
    if (home && *home)
        allow_below(k, home, ".cache", FS_ALTER);
}

static int restrict_self(struct confine *k, const struct config *c, bool loose)
{
    k->ruleset = (int)syscall(SYS_landlock_create_ruleset, &k->handled, sizeof k->handled, 0);
    if (k->ruleset < 0)
        return errno;
    allow_store(k, c->store);
    if (strchr(c->audit, '/'))
        allow_beside(k, c->audit, FS_WRITE_FILE | FS_MAKE_REG);
    allow_listening(k, c);
    if (loose)
        allow_encoder(k);
    else
        allow_system(k);
    if (!k->failed && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        syscall(SYS_landlock_restrict_self, k->ruleset, 0) == 0)
        errno = 0;
    else if (errno == 0)
        errno = EINVAL;
    close(k->ruleset);
    return errno;
}

void confine_process(const struct config *c)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
    bool loose = c->encoder != NULL;
    struct confine k;
    int failed;

#ifdef ASCRIBE_DEBUG /* sanitizers read the program, and run others, to name what they found */
    loose = true;
#endif
    if (c->no_landlock) {
        log_note(LOG_INFO, "landlock", "off, as asked");
        return;
    }
    if (abi < 1) {
        log_note(LOG_INFO, "landlock", "this kernel has none; the process keeps its rights");
        return;
    }
    setenv("SQLITE_TMPDIR", c->store, 0); /* where a large sort may spill: /var/tmp is closed */
    k = (struct confine){.handled = handled_by(abi, loose)};
    errno = 0;
    failed = restrict_self(&k, c, loose);
    if (failed)
        log_note(LOG_WARN, "landlock", "not in force: %s", strerror(failed));
    else
        log_note(LOG_INFO, "landlock", "abi %ld: %s", abi,
                 loose ? "writes to the store, caches and temporary files only"
                       : "the store only; no programs, no connections");
}
