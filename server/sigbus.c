/* sigbus.c - see sigbus.h. All that `on_sigbus` calls runs in a signal handler, with any lock of
 * the process held by anybody: system calls, memory of its own, and nothing else. */
#include "server/sigbus.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, LIST_BYTES = 2 * PATH_BYTES, LINE_BYTES = PATH_BYTES + 256 };

static int maps = -1; /* /proc/self/maps: the kernel writes it anew whenever it is read */
static int code_at_end;

/* One line of the list: BEGIN-END MODES OFFSET DEVICE INODE   PATH */
struct range {
    uint64_t begin, end, offset;
    const char *path; /* "" for memory that is of no file */
};

struct line {
    char text[LINE_BYTES];
    size_t len;
};

static const char *parse_hex(const char *at, uint64_t *out)
{
    for (*out = 0;; at++) {
        unsigned digit = (unsigned char)*at;

        if (digit >= '0' && digit <= '9')
            digit -= '0';
        else if (digit >= 'a' && digit <= 'f')
            digit -= 'a' - 10;
        else
            return at;
        *out = *out << 4 | digit;
    }
}

static struct range parse_range(const char *at)
{
    struct range r = {.path = ""};

    at = parse_hex(at, &r.begin);
    if (*at++ != '-')
        return r;
    at = parse_hex(at, &r.end);
    if (*at++ != ' ')
        return r;
    while (*at && *at != ' ')
        at++;
    if (*at == ' ')
        (void)parse_hex(at + 1, &r.offset);
    while (*at && *at != '/')
        at++;
    r.path = at;
    return r;
}

/* The range that holds the address; its path stays in a buffer of this function's. */
static bool find_range(uint64_t address, struct range *out)
{
    static char list[LIST_BYTES + 1];
    size_t have = 0;
    ssize_t got;

    if (maps < 0 || lseek(maps, 0, SEEK_SET) != 0)
        return false;
    while (have < LIST_BYTES && (got = read(maps, list + have, LIST_BYTES - have)) > 0) {
        char *at = list, *end;

        have += (size_t)got;
        list[have] = '\0';
        for (; (end = memchr(at, '\n', have - (size_t)(at - list))) != NULL; at = end + 1) {
            *end = '\0';
            *out = parse_range(at);
            if (out->begin <= address && address < out->end)
                return *out->path == '/';
        }
        have -= (size_t)(at - list);
        memmove(list, at, have);
    }
    return false;
}

static void put(struct line *l, const char *text)
{
    size_t len = strlen(text), room = sizeof l->text - 1 - l->len;

    if (len > room)
        len = room;
    memcpy(l->text + l->len, text, len);
    l->len += len;
}

static void put_number(struct line *l, uint64_t n)
{
    char digits[24];
    size_t at = sizeof digits - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    put(l, digits + at);
}

static void tell(const struct range *r, uint64_t address)
{
    static struct line line;
    uint64_t offset = address - r->begin + r->offset;
    struct stat st;

    put(&line, "ascribed: ");
    put(&line, r->path);
    put(&line, ": cannot be read at byte ");
    put_number(&line, offset);
    if (stat(r->path, &st) == 0 && (uint64_t)st.st_size <= offset) {
        put(&line, ": it is only ");
        put_number(&line, (uint64_t)st.st_size);
        put(&line, " bytes long");
    } else {
        put(&line, ": its disk or memory fails");
    }
    put(&line, "; exit code ");
    put_number(&line, (uint64_t)(unsigned)code_at_end);
    put(&line, ", a new start names what is damaged\n");
    if (write(STDERR_FILENO, line.text, line.len) < 0)
        return; /* nobody to tell; the exit code says it too */
}

/* Returning from the handler repeats the read, so whatever is not ours ends the process then. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    struct range r;

    (void)context;
    if (atomic_flag_test_and_set(&taken))
        for (;;)
            pause(); /* another thread is at it */
    if (info->si_code > 0 && find_range((uint64_t)(uintptr_t)info->si_addr, &r)) {
        tell(&r, (uint64_t)(uintptr_t)info->si_addr);
        _exit(code_at_end);
    }
    signal(number, SIG_DFL);
    if (info->si_code <= 0)
        raise(number); /* sent by somebody: it comes when the handler is left */
}

void sigbus_watch(int exit_code)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

    code_at_end = exit_code;
    maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    sigfillset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
