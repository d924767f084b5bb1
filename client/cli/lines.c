/* lines.c - the buffer holds what was read and not yet given out; it grows to one line at most
 * beyond a group that is asked for, and a file without newlines is refused, not swallowed.
 */
#include "client/cli/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20 };

bool lines_open(struct lines *l, const char *path, char *why, size_t why_cap)
{
    struct stat st;

    *l = (struct lines){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (l->fd < 0 || fstat(l->fd, &st) != 0) {
        snprintf(why, why_cap, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        snprintf(why, why_cap, "%s: not a regular file", path);
    } else {
        l->path = strdup(path);
        if (l->path)
            return true;
        snprintf(why, why_cap, "no memory");
    }
    lines_close(l);
    return false;
}

void lines_close(struct lines *l)
{
    if (l->fd >= 0)
        close(l->fd);
    free(l->path);
    free(l->buf);
    *l = (struct lines){.fd = -1};
}

/* One more piece of the file into the buffer. */
static bool fill(struct lines *l, char *why, size_t why_cap)
{
    ssize_t got;

    if (l->cap - l->len < READ_BYTES) {
        size_t cap = (l->cap ? l->cap * 2 : READ_BYTES) + READ_BYTES;
        char *buf = realloc(l->buf, cap);

        if (!buf) {
            snprintf(why, why_cap, "%s: no memory for %zu bytes of lines", l->path, cap);
            return false;
        }
        l->buf = buf;
        l->cap = cap;
    }
    do
        got = read(l->fd, l->buf + l->len, READ_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        snprintf(why, why_cap, "%s: %s", l->path, strerror(errno));
        return false;
    }
    l->at_end = got == 0;
    l->len += (size_t)got;
    return true;
}

/* Bytes of the line that begins at `from` of the buffer, with its newline; 0 at the end of the
 * file, or on an error (then `why` is set). */
static size_t next_line(struct lines *l, size_t from, uint64_t number, char *why, size_t why_cap)
{
    size_t looked = from;

    for (;;) {
        char *newline = l->len > looked ? memchr(l->buf + looked, '\n', l->len - looked) : NULL;
        size_t len = (newline ? (size_t)(newline - l->buf) + 1 : l->len) - from;

        if (len > LINES_LINE_MAX) {
            snprintf(why, why_cap, "%s: line %" PRIu64 " has more than %d bytes", l->path, number,
                     LINES_LINE_MAX);
            return 0;
        }
        if (newline || (l->at_end && len > 0)) {
            if (len - (newline != NULL) == strspn(l->buf + from, " \t\r")) {
                snprintf(why, why_cap, "%s: line %" PRIu64 " is empty", l->path, number);
                return 0;
            }
            return len;
        }
        if (l->at_end)
            return 0;
        looked = l->len;
        if (!fill(l, why, why_cap))
            return 0;
    }
}

bool lines_count(struct lines *l, uint64_t *out, char *why, size_t why_cap)
{
    uint64_t count = 0;

    *why = '\0';
    for (;;) {
        size_t len = next_line(l, l->at, count + 1, why, why_cap);

        if (*why)
            return false;
        if (len == 0)
            break;
        l->at += len;
        count++;
        if (l->at > READ_BYTES) { /* keep what is left in front */
            memmove(l->buf, l->buf + l->at, l->len - l->at);
            l->len -= l->at;
            l->at = 0;
        }
    }
    if (lseek(l->fd, 0, SEEK_SET) != 0) {
        snprintf(why, why_cap, "%s: %s", l->path, strerror(errno));
        return false;
    }
    l->at = l->len = 0;
    l->line = 0;
    l->at_end = false;
    *out = count;
    return true;
}

bool lines_take(struct lines *l, uint64_t count, char **out, size_t *out_len, char *why,
                size_t why_cap)
{
    size_t total = 0;
    char *block;

    *why = '\0';
    if (l->at > 0) { /* the group will lie from 0 on */
        memmove(l->buf, l->buf + l->at, l->len - l->at);
        l->len -= l->at;
        l->at = 0;
    }
    for (uint64_t i = 0; i < count; i++) {
        size_t len = next_line(l, total, l->line + i + 1, why, why_cap);

        if (len == 0) {
            if (!*why)
                snprintf(why, why_cap, "%s: ends after %" PRIu64 " lines", l->path, l->line + i);
            return false;
        }
        total += len;
    }
    block = malloc(total + 2);
    if (!block) {
        snprintf(why, why_cap, "%s: no memory for %zu bytes of lines", l->path, total);
        return false;
    }
    memcpy(block, l->buf, total);
    if (total > 0 && block[total - 1] != '\n')
        block[total++] = '\n'; /* the same lines make the same batch, ended or not */
    block[total] = '\0';
    l->at = total < l->len ? total : l->len; /* the newline may be ours */
    l->line += count;
    *out = block;
    *out_len = total;
    return true;
}
