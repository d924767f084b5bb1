/* shim.c - see shim.h. Nothing here calls the C library's own versions of what it defines. */
#include "tests/fault/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct shim_control *shim_control;

static int log_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void shim_use(struct shim_control *c, int log)
{
    shim_control = c;
    log_fd = log;
}

/* ---- Whose call is it ------------------------------------------------------------------------ */

/* The path below the root, or NULL when it lies elsewhere; "" is the root itself. */
static const char *below(const char *path)
{
    struct shim_control *c = shim_control;
    size_t len;

    if (!c || !path || c->root[0] == '\0')
        return NULL;
    len = strnlen(c->root, sizeof c->root);
    if (strncmp(path, c->root, len) != 0 || (path[len] != '/' && path[len] != '\0'))
        return NULL;
    path += path[len] == '/' ? len + 1 : len;
    if (!atomic_load(&c->derived) && strstr(path, "text.sqlite"))
        return NULL;
    return path;
}

static const char *below_fd(int fd, char *room, size_t size)
{
    char name[64];
    ssize_t got;

    if (!shim_control || shim_control->root[0] == '\0')
        return NULL;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    got = readlink(name, room, size - 1);
    if (got < 0)
        return NULL;
    room[got] = '\0';
    return below(room);
}

/* ---- The fault ------------------------------------------------------------------------------- */

/* What is to be done with this call. */
enum verdict { GO, GO_THEN_DIE, REFUSE, HALVE };

__attribute__((noreturn)) static void die(void)
{
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;)
        pause();
}

static void count_after(struct shim_control *c, enum shim_kind kind)
{
    if (kind == SHIM_SYNC)
        atomic_fetch_add(&c->syncs_after, 1);
    if (kind == SHIM_WRITE)
        atomic_fetch_add(&c->writes_after, 1);
}

static enum verdict judge(enum shim_kind kind)
{
    struct shim_control *c = shim_control;
    uint32_t action;
    bool hit;

    if (!(atomic_load(&c->kinds) & kind))
        return GO;
    atomic_fetch_add(&c->calls, 1);
    action = atomic_load(&c->action);
    if (action == SHIM_COUNT)
        return GO;
    if (atomic_load(&c->hits) && !atomic_load(&c->always)) {
        count_after(c, kind);
        return GO;
    }
    hit = atomic_load(&c->hits) || atomic_fetch_sub(&c->countdown, 1) == 0;
    if (!hit)
        return GO;
    if (atomic_fetch_add(&c->hits, 1))
        count_after(c, kind);
    switch (action) {
    case SHIM_KILL:
        die();
    case SHIM_KILLED:
        return GO_THEN_DIE;
    case SHIM_SHORT:
        return kind == SHIM_WRITE ? HALVE : GO;
    default:
        errno = (int)atomic_load(&c->error);
        return REFUSE;
    }
}

/* ---- The log --------------------------------------------------------------------------------- */

static bool is_logged(void)
{
    return log_fd >= 0;
}

static void put(const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len > 0) {
        ssize_t wrote = syscall(SYS_write, log_fd, p, len);

        if (wrote <= 0)
            abort(); /* a recording with holes would prove nothing */
        p += wrote;
        len -= (size_t)wrote;
    }
}

static void note(enum shim_what what, uint32_t flag, uint64_t file, uint64_t at, const char *a,
                 const char *b)
{
    struct shim_record r = {what, flag, file, at, 0};

    r.bytes = (a ? strlen(a) + 1 : 0) + (b ? strlen(b) + 1 : 0);
    put(&r, sizeof r);
    if (a)
        put(a, strlen(a) + 1);
    if (b)
        put(b, strlen(b) + 1);
}

static uint64_t file_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* After a write that took `wrote` bytes at `at`. */
static void note_data(int fd, const struct iovec *v, size_t wrote, uint64_t at)
{
    uint32_t durable = (syscall(SYS_fcntl, fd, F_GETFL) & O_DSYNC) != 0;
    struct shim_record r = {SHIM_DATA, durable, file_of(fd), at, wrote};

    put(&r, sizeof r);
    while (wrote > 0) {
        size_t part = v->iov_len < wrote ? v->iov_len : wrote;

        put(v->iov_base, part);
        wrote -= part;
        v++;
    }
}

void shim_mark(uint64_t number)
{
    if (is_logged()) {
        pthread_mutex_lock(&lock);
        note(SHIM_MARK, 0, 0, number, NULL, NULL);
        pthread_mutex_unlock(&lock);
    }
    atomic_store(&shim_control->marks, number);
}

/* One call after the other while a log is kept: its order is the order on the disk. */
static bool begin(void)
{
    if (!is_logged())
        return false;
    pthread_mutex_lock(&lock);
    return true;
}

static void end(bool locked, enum verdict v)
{
    int saved = errno;

    if (locked)
        pthread_mutex_unlock(&lock);
    if (v == GO_THEN_DIE)
        die();
    errno = saved;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static ssize_t any_write(int fd, const struct iovec *pieces, int count, off_t at)
{
    struct iovec half = {pieces[0].iov_base, pieces[0].iov_len / 2};
    char room[1024];
    bool ours = below_fd(fd, room, sizeof room) != NULL, locked;
    enum verdict v = ours ? judge(SHIM_WRITE) : GO;
    uint64_t where = (uint64_t)at;
    ssize_t wrote;

    if (v == REFUSE)
        return -1;
    if (v == HALVE) {
        pieces = &half;
        count = 1;
    }
    locked = ours && begin();
    if (locked && at < 0)
        where = (uint64_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    if (at < 0)
        wrote = syscall(SYS_writev, fd, pieces, count);
    else
        wrote = syscall(SYS_pwritev, fd, pieces, count, (unsigned long)at, 0ul);
    if (locked && wrote > 0)
        note_data(fd, pieces, (size_t)wrote, where);
    end(locked, v);
    return wrote;
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    struct iovec v = {(void *)(uintptr_t)bytes, len};

    if (!shim_control)
        return syscall(SYS_write, fd, bytes, len);
    return any_write(fd, &v, 1, -1);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    if (!shim_control || count < 1)
        return syscall(SYS_writev, fd, pieces, count);
    return any_write(fd, pieces, count, -1);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    struct iovec v = {(void *)(uintptr_t)bytes, len};

    if (!shim_control || at < 0)
        return syscall(SYS_pwrite64, fd, bytes, len, at);
    return any_write(fd, &v, 1, at);
}

/* Offsets have 64 bits here: these are the same functions. */
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
    __attribute__((alias("pwrite")));

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at)
{
    if (!shim_control || count < 1 || at < 0)
        return syscall(SYS_pwritev, fd, pieces, count, (unsigned long)at, 0ul);
    return any_write(fd, pieces, count, at);
}

/* ---- Syncs ----------------------------------------------------------------------------------- */

static int any_sync(long number, int fd)
{
    char room[1024];
    const char *path = below_fd(fd, room, sizeof room);
    enum verdict v = path ? judge(SHIM_SYNC) : GO;
    struct stat st;
    bool locked;
    int rc;

    if (v == REFUSE)
        return -1;
    locked = path && begin();
    rc = (int)syscall(number, fd);
    if (locked && rc == 0 && fstat(fd, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            note(SHIM_DIR, 0, 0, 0, path, NULL);
        else
            note(SHIM_SYNCED, 0, st.st_ino, 0, NULL, NULL);
    }
    end(locked, v);
    return rc;
}

int fsync(int fd)
{
    return any_sync(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return any_sync(SYS_fdatasync, fd);
}

/* ---- Room ------------------------------------------------------------------------------------ */

int fallocate(int fd, int mode, off_t at, off_t len)
{
    char room[1024];
    enum verdict v = below_fd(fd, room, sizeof room) ? judge(SHIM_ROOM) : GO;
    int rc;

    if (v == REFUSE)
        return -1;
    rc = (int)syscall(SYS_fallocate, fd, mode, at, len); /* with KEEP_SIZE no byte changes */
    end(false, v);
    return rc;
}

int ftruncate(int fd, off_t size)
{
    char room[1024];
    bool ours = below_fd(fd, room, sizeof room) != NULL, locked;
    enum verdict v = ours ? judge(SHIM_ROOM) : GO;
    int rc;

    if (v == REFUSE)
        return -1;
    locked = ours && begin();
    rc = (int)syscall(SYS_ftruncate, fd, size);
    if (locked && rc == 0)
        note(SHIM_SIZE, 0, file_of(fd), (uint64_t)size, NULL, NULL);
    end(locked, v);
    return rc;
}

int ftruncate64(int fd, off64_t size) __attribute__((alias("ftruncate")));

int truncate(const char *path, off_t size)
{
    const char *ours = below(path);
    enum verdict v = ours ? judge(SHIM_ROOM) : GO;
    struct stat st;
    bool locked;
    int rc;

    if (v == REFUSE)
        return -1;
    locked = ours && begin();
    rc = (int)syscall(SYS_truncate, path, size);
    if (locked && rc == 0 && stat(path, &st) == 0)
        note(SHIM_SIZE, 0, st.st_ino, (uint64_t)size, NULL, NULL);
    end(locked, v);
    return rc;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static int any_open(const char *path, int flags, mode_t mode)
{
    const char *ours = flags & (O_CREAT | O_TRUNC) ? below(path) : NULL;
    bool was = ours && access(path, F_OK) == 0, locked;
    enum verdict v = ours && (!was || flags & O_TRUNC) ? judge(SHIM_NAME) : GO;
    int fd;

    if (v == REFUSE)
        return -1;
    locked = ours && begin();
    fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (locked && fd >= 0 && !was)
        note(SHIM_FILE, 0, file_of(fd), 0, ours, NULL);
    else if (locked && fd >= 0 && flags & O_TRUNC)
        note(SHIM_SIZE, 0, file_of(fd), 0, NULL, NULL);
    end(locked, v);
    return fd;
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list more;

    va_start(more, flags);
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE)
        mode = va_arg(more, mode_t);
    va_end(more);
    return any_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

struct naming {
    long number; /* of the system call */
    enum shim_what what;
    const char *a, *b;
    long extra;
};

static int any_name(const struct naming *n)
{
    const char *a = below(n->a), *b = n->b ? below(n->b) : a;
    bool ours = a && b, locked;
    bool goes = n->what == SHIM_GONE || n->what == SHIM_RMDIR;
    enum verdict v = ours ? judge(goes ? SHIM_UNNAME : SHIM_NAME) : GO;
    int rc;

    if (v == REFUSE)
        return -1;
    locked = ours && begin();
    if (n->b)
        rc = (int)syscall(n->number, n->a, n->b);
    else
        rc = (int)syscall(n->number, n->a, n->extra);
    if (locked && rc == 0)
        note(n->what, 0, 0, 0, a, n->b ? b : NULL);
    end(locked, v);
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    return any_name(&(struct naming){SYS_mkdir, SHIM_MKDIR, path, NULL, (long)mode});
}

int rmdir(const char *path)
{
    return any_name(&(struct naming){SYS_rmdir, SHIM_RMDIR, path, NULL, 0});
}

int unlink(const char *path)
{
    return any_name(&(struct naming){SYS_unlink, SHIM_GONE, path, NULL, 0});
}

int rename(const char *from, const char *to)
{
    return any_name(&(struct naming){SYS_rename, SHIM_MOVE, from, to, 0});
}

int link(const char *from, const char *to)
{
    return any_name(&(struct naming){SYS_link, SHIM_LINK, from, to, 0});
}

/* ---- In front of a program ------------------------------------------------------------------- */

/* ASCRIBE_SHIM names a file of the block's size, ASCRIBE_SHIM_LOG one to append records to. */
__attribute__((constructor)) static void preload(void)
{
    const char *path = getenv("ASCRIBE_SHIM"), *log = getenv("ASCRIBE_SHIM_LOG");
    long fd;
    void *map;

    if (!path || shim_control)
        return;
    fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    map = mmap(NULL, sizeof *shim_control, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
    syscall(SYS_close, fd);
    if (map == MAP_FAILED)
        return;
    if (log)
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
                              0600);
    shim_control = map;
}
