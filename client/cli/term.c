/* term.c - how wide the terminal is, and how text is cut to it without harm: what comes from a
 * corpus is someone else's text and must not move the cursor or change colours.
 */
#include "client/cli/cli.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

void term_init(void)
{
    setlocale(LC_CTYPE, "C.UTF-8"); /* for wcwidth alone; numbers stay plain */
}

unsigned term_columns(int fd)
{
    const char *env = getenv("COLUMNS");
    struct winsize w;
    unsigned long columns;

    if (!isatty(fd))
        return 0;
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        return w.ws_col;
    columns = env ? strtoul(env, NULL, 10) : 0;
    return columns > 0 && columns < 10000 ? (unsigned)columns : 80;
}

/* Decodes one character; gives its length, and U+FFFD with length 1 for what is not UTF-8. */
static size_t decode(const unsigned char *p, size_t len, uint32_t *out)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t need = *p < 0x80 ? 1 : *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : *p >= 0xc2 ? 2 : 0;
    uint32_t c;

    *out = 0xfffd;
    if (need == 0 || need > len || *p > 0xf4)
        return 1;
    c = need == 1 ? *p : *p & (0xffu >> (need + 1));
    for (size_t i = 1; i < need; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 1;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < least[need] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 1;
    *out = c;
    return need;
}

static size_t encode(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Columns of a character; -1 for what must not be printed: controls (C1 too), and the marks that
 * turn the writing direction round and so can make a line read as another. */
static int width_of(uint32_t c)
{
    if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
        (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
        return -1;
    int w = wcwidth((wchar_t)c);

    return w < 0 ? 1 : w;
}

unsigned term_line(const char *text, size_t len, unsigned columns, char *out, size_t cap)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + len;
    unsigned used = 0, mark_used = 0; /* mark: where a cut with "…" may go */
    size_t to = 0, mark = 0;
    bool space = true, cut = false; /* spaces in front are left out */

    if (cap < 8)
        return 0;
    while (p < end) {
        uint32_t c;
        char bytes[4];
        size_t n, put;
        int w;

        n = decode(p, (size_t)(end - p), &c);
        w = width_of(c);
        p += n;
        if (w < 0 || c == ' ') {
            if (space)
                continue;
            c = ' ';
            w = 1;
        }
        space = c == ' ';
        put = encode(c, bytes);
        if ((columns && used + (unsigned)w > columns) || to + put + 4 > cap) {
            cut = true;
            break;
        }
        memcpy(out + to, bytes, put);
        to += put;
        used += (unsigned)w;
        if (!columns || used < columns) {
            mark = to;
            mark_used = used;
        }
    }
    if (cut && (columns == 0 || columns > mark_used)) {
        memcpy(out + mark, "\xe2\x80\xa6", 3);
        to = mark + 3;
        used = mark_used + 1;
    } else if (!cut) {
        while (to > 0 && out[to - 1] == ' ') {
            to--;
            used--;
        }
    }
    out[to] = '\0';
    return used;
}

void term_text(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + len;

    if (!isatty(STDOUT_FILENO)) {
        fwrite(text, 1, len, stdout);
        return;
    }
    while (p < end) {
        uint32_t c;
        char bytes[4];
        size_t n = decode(p, (size_t)(end - p), &c);

        p += n;
        if (c == '\n' || c == '\t' || width_of(c) >= 0)
            fwrite(bytes, 1, encode(c, bytes), stdout);
    }
}
