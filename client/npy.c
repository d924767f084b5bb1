/* npy.c - the header of a .npy file, read strictly: versions 1 to 3, '<f4' or '<f2', C order, one
 * or two dimensions, and a data part of exactly the size that the shape says. No I/O, no
 * allocation.
 *
 * Format: numpy.lib.format. The header is a Python literal; only the one form that numpy writes is
 * taken (three known keys, each once), never evaluated. What is refused is refused with its
 * reason.
 */
#include "client/inner.h"

#include <stdio.h>
#include <string.h>

/* The text not yet read. */
struct scan {
    const char *p, *end;
};

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool take(struct scan *s, char c)
{
    skip_space(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

/* A quoted string of plain characters (no escapes, no prefixes). */
static bool take_string(struct scan *s, char *out, size_t cap)
{
    size_t n = 0;
    char quote;

    skip_space(s);
    if (s->p == s->end || (*s->p != '\'' && *s->p != '"'))
        return false;
    for (quote = *s->p++; s->p < s->end && *s->p != quote; s->p++) {
        if (*s->p < 0x20 || *s->p > 0x7e || *s->p == '\\' || n + 1 >= cap)
            return false;
        out[n++] = *s->p;
    }
    out[n] = '\0';
    return s->p++ < s->end;
}

static bool take_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);

    skip_space(s);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
        return false;
    s->p += n;
    return true;
}

/* Digits only: no sign, no underscores, no leading zero, at most 2^63 - 1. */
static bool take_count(struct scan *s, uint64_t *out)
{
    uint64_t v = 0;
    const char *first;

    skip_space(s);
    for (first = s->p; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++) {
        if (v > (INT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(*s->p - '0');
    }
    if (s->p == first || (*first == '0' && s->p - first > 1))
        return false;
    *out = v;
    return true;
}

struct dict {
    char descr[16];
    bool has_descr, has_order, has_shape;
    bool fortran;
    uint64_t shape[32];
    unsigned rank;
};

static bool take_shape(struct scan *s, struct dict *d)
{
    bool comma = true;

    if (!take(s, '('))
        return false;
    while (!take(s, ')')) {
        if (!comma || d->rank == 32 || !take_count(s, &d->shape[d->rank]))
            return false;
        d->rank++;
        comma = take(s, ',');
    }
    return d->rank != 1 || comma; /* (3) is a number in Python; a tuple of one is (3,) */
}

static bool take_item(struct scan *s, struct dict *d)
{
    char key[16];

    if (!take_string(s, key, sizeof key) || !take(s, ':'))
        return false;
    if (strcmp(key, "descr") == 0 && !d->has_descr) {
        d->has_descr = true;
        return take_string(s, d->descr, sizeof d->descr);
    }
    if (strcmp(key, "fortran_order") == 0 && !d->has_order) {
        d->has_order = true;
        d->fortran = take_word(s, "True");
        return d->fortran || take_word(s, "False");
    }
    if (strcmp(key, "shape") == 0 && !d->has_shape) {
        d->has_shape = true;
        return take_shape(s, d);
    }
    return false;
}

static bool take_dict(struct scan *s, struct dict *d)
{
    bool comma = true;

    if (!take(s, '{'))
        return false;
    while (!take(s, '}')) {
        if (!comma || !take_item(s, d))
            return false;
        comma = take(s, ',');
    }
    skip_space(s);
    return s->p == s->end && d->has_descr && d->has_order && d->has_shape;
}

static int bad(struct asc_error *e, const char *why)
{
    return asc__fail(e, ASC_INPUT, "bad_npy", "not a .npy that can be read: %s", why);
}

static int check_dtype(const struct dict *d, enum asc_dtype *out, struct asc_error *e)
{
    if (strcmp(d->descr, "<f4") == 0) {
        *out = ASC_F32;
        return 0;
    }
    if (strcmp(d->descr, "<f2") == 0) {
        *out = ASC_F16;
        return 0;
    }
    return asc__fail(e, ASC_INPUT, "bad_npy", "the elements are '%s'; '<f4' and '<f2' are taken "
                     "(numpy: x.astype('<f4'))", d->descr);
}

/* n * d * size without overflow, against what the file holds. */
static int check_size(const struct asc__npy *npy, uint64_t file_size, struct asc_error *e)
{
    uint64_t have = file_size - npy->data_offset, count, need;

    if (__builtin_mul_overflow(npy->rows, npy->dim, &count) ||
        __builtin_mul_overflow(count, asc_dtype_size(npy->dtype), &need))
        return bad(e, "the shape overflows 64 bits");
    if (need != have)
        return asc__fail(e, ASC_INPUT, "bad_npy",
                         "the shape (%llu, %llu) needs %llu bytes of data; the file has %llu",
                         (unsigned long long)npy->rows,
                         (unsigned long long)npy->dim, (unsigned long long)need,
                         (unsigned long long)have);
    return 0;
}

int asc__npy_parse(const unsigned char *head, size_t len, uint64_t file_size, struct asc__npy *out,
                   struct asc_error *e)
{
    struct asc__npy npy = {0};
    struct dict d = {0};
    struct scan s;
    uint64_t header_len, start;
    int rc;

    if (len < 10 || memcmp(head, "\x93NUMPY", 6) != 0)
        return bad(e, "it does not begin as one");
    if (head[6] < 1 || head[6] > 3 || head[7] != 0)
        return asc__fail(e, ASC_INPUT, "bad_npy", "version %u.%u; 1.0, 2.0 and 3.0 are taken",
                         head[6], head[7]);
    start = head[6] == 1 ? 10 : 12;
    if (len < start)
        return bad(e, "it ends inside its header");
    header_len = (uint64_t)head[8] | (uint64_t)head[9] << 8;
    if (head[6] > 1)
        header_len |= (uint64_t)head[10] << 16 | (uint64_t)head[11] << 24;
    if (header_len > ASC__NPY_HEADER_MAX)
        return asc__fail(e, ASC_INPUT, "bad_npy", "a header of %llu bytes; %d are the most",
                         (unsigned long long)header_len, ASC__NPY_HEADER_MAX);
    if (start + header_len > len || start + header_len > file_size)
        return bad(e, "it ends inside its header");
    s.p = (const char *)head + start;
    s.end = s.p + header_len;
    if (header_len == 0 || s.end[-1] != '\n')
        return bad(e, "the header does not end with a newline");
    if (!take_dict(&s, &d))
        return bad(e, "the header is not {'descr': ..., 'fortran_order': ..., 'shape': (...)}");
    rc = check_dtype(&d, &npy.dtype, e);
    if (rc != 0)
        return rc;
    if (d.rank != 1 && d.rank != 2)
        return asc__fail(e, ASC_INPUT, "bad_npy", "%u dimensions; a matrix has 2", d.rank);
    if (d.fortran && d.rank == 2)
        return bad(e, "the rows are not contiguous (Fortran order; numpy: np.ascontiguousarray)");
    npy.rows = d.rank == 2 ? d.shape[0] : 1;
    npy.dim = d.shape[d.rank - 1];
    npy.data_offset = start + header_len;
    rc = check_size(&npy, file_size, e);
    if (rc == 0)
        *out = npy;
    return rc;
}
