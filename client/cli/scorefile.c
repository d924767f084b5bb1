/* scorefile.c - see scorefile.h. The file that came is our own, in a place of our own, so the
 * conversions that need columns map it.
 */
#include "client/cli/scorefile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

static int to_file(void *user, const void *bytes, size_t len)
{
    return fwrite(bytes, 1, len, user) == len ? 0 : -1;
}

/* numpy's format 1.0: magic, version, header length, a literal padded so that data begins on 64. */
static bool npy_head(FILE *f, const char *descr, uint64_t rows, uint64_t dim)
{
    char text[128], head[192] = "\x93NUMPY\x01";
    int len = snprintf(text, sizeof text,
                       "{'descr': '%s', 'fortran_order': False, 'shape': (%" PRIu64 ", %" PRIu64
                       "), }", descr, rows, dim);
    size_t whole = (10 + (size_t)len + 1 + 63) / 64 * 64;

    memset(head + 10, ' ', whole - 10);
    memcpy(head + 10, text, (size_t)len);
    head[8] = (char)((whole - 10) & 0xff);
    head[9] = (char)((whole - 10) >> 8);
    head[whole - 1] = '\n';
    return fwrite(head, 1, whole, f) == whole;
}

/* Copies one tensor of the finished file to another file, whole or not at all. */
static int extract(const struct cli *cli, const char *from, const char *tensor, const char *to,
                   const struct asc_matrix *shape)
{
    char part[4096];
    struct asc_error e;
    FILE *f;
    bool ok = true;

    if ((size_t)snprintf(part, sizeof part, "%s.part", to) >= sizeof part)
        return out_input(cli, "%s: the path is too long", to);
    f = fopen(part, "we");
    if (!f)
        return out_input(cli, "%s: cannot be written", part);
    if (shape)
        ok = npy_head(f, asc_matrix_dtype(shape) == ASC_F64 ? "<f8" : "<f4", asc_matrix_rows(shape),
                      asc_matrix_dim(shape));
    ok = ok && asc_tensor_read(from, tensor, to_file, f, &e) == 0;
    ok = fflush(f) == 0 && fsync(fileno(f)) == 0 && ok;
    ok = fclose(f) == 0 && ok && rename(part, to) == 0;
    if (!ok) {
        unlink(part);
        return out_input(cli, "%s: could not be written whole", to);
    }
    return EXIT_OK;
}

int scorefile_npy(const struct cli *cli, const char *from, const char *out)
{
    struct asc_matrix *m;
    struct asc_error e;
    char ids[4096];
    int rc, stem;

    if (asc_matrix_open(from, "scores", &m, &e) != 0)
        return out_error(cli, &e);
    stem = (int)(strlen(out) - (ends_in(out, ".npy") ? 4 : 0));
    if ((size_t)snprintf(ids, sizeof ids, "%.*s.ids.txt", stem, out) >= sizeof ids)
        rc = out_input(cli, "%s: the path is too long", out);
    else
        rc = extract(cli, from, "ids", ids, NULL);
    if (rc == 0)
        rc = extract(cli, from, "scores", out, m);
    asc_matrix_close(m);
    return rc;
}

/* --- Scores by example ------------------------------------------------------------------------ */

struct view {
    const unsigned char *map; /* the whole file */
    size_t size;
    const unsigned char *scores; /* [queries, examples] */
    unsigned width;              /* 4 or 8 bytes */
    uint64_t queries, examples;
    const char *ids, *ids_end; /* one a line */
};

static const unsigned char *tensor_at(const struct view *v, const json_t *head, const char *name,
                                      uint64_t base, uint64_t *len)
{
    const json_t *offsets = json_object_get(json_object_get(head, name), "data_offsets");
    json_int_t from = json_integer_value(json_array_get(offsets, 0));
    json_int_t to = json_integer_value(json_array_get(offsets, 1));

    if (json_array_size(offsets) != 2 || from < 0 || to < from || (uint64_t)to > v->size - base)
        return NULL;
    *len = (uint64_t)(to - from);
    return v->map + base + from;
}

static bool read_head(struct view *v)
{
    uint64_t len, bytes = 0, ids_len = 0;
    const json_t *shape, *dtype;
    json_t *head;
    bool ok;

    if (v->size < 8)
        return false;
    memcpy(&len, v->map, 8);
    if (len > v->size - 8)
        return false;
    head = json_loadb((const char *)v->map + 8, (size_t)len, 0, NULL);
    shape = json_object_get(json_object_get(head, "scores"), "shape");
    dtype = json_object_get(json_object_get(head, "scores"), "dtype");
    v->width = json_is_string(dtype) && strcmp(json_string_value(dtype), "F64") == 0 ? 8 : 4;
    v->queries = (uint64_t)json_integer_value(json_array_get(shape, 0));
    v->examples = (uint64_t)json_integer_value(json_array_get(shape, 1));
    v->scores = tensor_at(v, head, "scores", 8 + len, &bytes);
    v->ids = (const char *)tensor_at(v, head, "ids", 8 + len, &ids_len);
    ok = v->scores && v->ids && v->queries <= 1024 && bytes == v->queries * v->examples * v->width;
    v->ids_end = ok ? v->ids + ids_len : NULL;
    json_decref(head);
    return ok;
}

static int view_open(const struct cli *cli, const char *path, struct view *v)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st = {0};
    void *map = MAP_FAILED;

    *v = (struct view){0};
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd >= 0)
        close(fd);
    if (map == MAP_FAILED)
        return out_input(cli, "%s: %s", path, strerror(errno));
    v->map = map;
    v->size = (size_t)st.st_size;
    if (read_head(v))
        return EXIT_OK;
    munmap(map, v->size);
    return out_input(cli, "%s: not the scores that were asked for", path);
}

static void view_close(struct view *v)
{
    union {
        const void *c;
        void *p;
    } map = {.c = v->map};

    munmap(map.p, v->size);
}

static double score_at(const struct view *v, uint64_t query, uint64_t example)
{
    const unsigned char *p = v->scores + (query * v->examples + example) * v->width;
    double d;
    float f;

    if (v->width == 8) {
        memcpy(&d, p, 8);
        return d;
    }
    memcpy(&f, p, 4);
    return (double)f;
}

/* The next id, as long as it is; NULL at the end. */
static const char *next_id(const struct view *v, const char **at, size_t *len)
{
    const char *id = *at, *end;

    if (id >= v->ids_end)
        return NULL;
    end = memchr(id, '\n', (size_t)(v->ids_end - id));
    if (!end)
        return NULL;
    *len = (size_t)(end - id);
    *at = end + 1;
    return id;
}

/* Digits that read back as the same number. What JSON cannot say is null. */
static void print_score(FILE *f, const struct view *v, double x)
{
    if (!__builtin_isfinite(x))
        fputs("null", f);
    else
        fprintf(f, "%.*g", v->width == 8 ? 17 : 9, x);
}

static bool print_line(FILE *f, const struct view *v, const char *id, size_t len, uint64_t example)
{
    json_t *text = json_stringn(id, len);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;

    if (quoted) {
        fprintf(f, "{\"id\":%s,\"scores\":[", quoted);
        for (uint64_t q = 0; q < v->queries; q++) {
            if (q > 0)
                fputc(',', f);
            print_score(f, v, score_at(v, q, example));
        }
        fputs("]}\n", f);
    }
    free(quoted);
    json_decref(text);
    return quoted && !ferror(f);
}

int scorefile_jsonl(const struct cli *cli, const char *from, const char *out)
{
    char part[4096];
    const char *at, *id;
    struct view v;
    size_t len;
    FILE *f;
    int rc;
    bool ok;

    if ((size_t)snprintf(part, sizeof part, "%s.part", out) >= sizeof part)
        return out_input(cli, "%s: the path is too long", out);
    rc = view_open(cli, from, &v);
    if (rc != EXIT_OK)
        return rc;
    f = fopen(part, "we");
    ok = f != NULL;
    at = v.ids;
    for (uint64_t i = 0; ok && i < v.examples; i++) {
        id = next_id(&v, &at, &len);
        ok = id && print_line(f, &v, id, len, i);
    }
    view_close(&v);
    ok = f && fflush(f) == 0 && fsync(fileno(f)) == 0 && ok;
    if (f)
        ok = fclose(f) == 0 && ok;
    if (ok && rename(part, out) == 0)
        return EXIT_OK;
    unlink(part);
    return out_input(cli, "%s: could not be written whole", out);
}

/* --- bergson ---------------------------------------------------------------------------------- */

/* A record: for every query the score, a byte "written", and room up to a power of two; the whole
 * rounded up to 8 bytes. */
struct record {
    unsigned pair;
    uint64_t size;
};

static struct record record_of(const struct view *v)
{
    struct record r = {.pair = v->width == 8 ? 16 : 8};

    r.size = v->queries * r.pair;
    return r;
}

static json_t *record_dtype(const struct view *v, const struct record *r)
{
    json_t *names = json_array(), *formats = json_array(), *offsets = json_array();
    const char *format = v->width == 8 ? "float64" : "float32";

    for (uint64_t q = 0; q < v->queries; q++) {
        json_array_append_new(names, json_sprintf("score_%" PRIu64, q));
        json_array_append_new(formats, json_string(format));
        json_array_append_new(offsets, json_integer((json_int_t)(q * r->pair)));
        json_array_append_new(names, json_sprintf("written_%" PRIu64, q));
        json_array_append_new(formats, json_string("bool"));
        json_array_append_new(offsets, json_integer((json_int_t)(q * r->pair + v->width)));
    }
    return json_pack("{s:o, s:o, s:o, s:I}", "names", names, "formats", formats, "offsets", offsets,
                     "itemsize", (json_int_t)r->size);
}

/* The place of an id that is a row's number; UINT64_MAX when it is none below `items`. */
static uint64_t number_of(const char *id, size_t len, uint64_t items)
{
    uint64_t n = 0;

    if (len == 0 || len > 18 || (len > 1 && id[0] == '0'))
        return UINT64_MAX;
    for (size_t i = 0; i < len; i++) {
        if (id[i] < '0' || id[i] > '9')
            return UINT64_MAX;
        n = n * 10 + (uint64_t)(id[i] - '0');
    }
    return n < items ? n : UINT64_MAX;
}

/* Records in order of ids that are numbers (items > 0), or as the examples come. */
static int put_records(const struct cli *cli, const struct view *v, const struct record *r,
                       uint64_t items, unsigned char *to)
{
    const char *at = v->ids, *id;
    size_t len;

    for (uint64_t i = 0; i < v->examples; i++) {
        uint64_t place = i;

        id = next_id(v, &at, &len);
        if (id && items > 0)
            place = number_of(id, len, items);
        if (!id || place == UINT64_MAX)
            return out_input(cli, "example %" PRIu64 ": its id \"%.*s\" is not the number of a row "
                             "below %" PRIu64 " (--items)", i, id ? (int)(len < 80 ? len : 80) : 0,
                             id ? id : "", items);
        for (uint64_t q = 0; q < v->queries; q++) {
            unsigned char *slot = to + place * r->size + q * r->pair;

            memcpy(slot, v->scores + (q * v->examples + i) * v->width, v->width);
            slot[v->width] = 1;
        }
    }
    return EXIT_OK;
}

static int write_records(const struct cli *cli, const struct view *v, uint64_t items,
                         const char *path)
{
    struct record r = record_of(v);
    uint64_t count = items ? items : v->examples, bytes;
    int fd, rc;
    void *map;

    if (__builtin_mul_overflow(count, r.size, &bytes) || bytes == 0 || bytes > INT64_MAX)
        return out_input(cli, "%s: %" PRIu64 " records of %" PRIu64 " bytes", path, count, r.size);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    /* Room is taken at once: a full disk is an error here, not a signal while writing. */
    errno = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)bytes);
    map = fd < 0 || errno != 0
              ? MAP_FAILED
              : mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        rc = out_input(cli, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    rc = put_records(cli, v, &r, items, map);
    if (munmap(map, (size_t)bytes) != 0 || fsync(fd) != 0 || close(fd) != 0)
        rc = rc ? rc : out_input(cli, "%s: %s", path, strerror(errno));
    return rc;
}

static int write_info(const struct cli *cli, const struct view *v, uint64_t items, const char *path)
{
    struct record r = record_of(v);
    json_int_t rows = (json_int_t)(items ? items : v->examples);
    /* Older readers ask for num_items, those of 2.x for num_rows. */
    json_t *info = json_pack("{s:b, s:I, s:I, s:I, s:o}", "attribute_tokens", 0, "num_items", rows,
                             "num_rows", rows, "num_scores", (json_int_t)v->queries, "dtype",
                             record_dtype(v, &r));
    int bad = info ? json_dump_file(info, path, JSON_INDENT(2)) : -1;

    json_decref(info);
    return bad ? out_input(cli, "%s: could not be written", path) : EXIT_OK;
}

int scorefile_bergson(const struct cli *cli, const char *from, const char *out, uint64_t items)
{
    char records[4200], info[4200], ids[4200], part[4100];
    struct view v;
    int rc;

    if ((size_t)snprintf(part, sizeof part, "%s.part", out) >= 4096)
        return out_input(cli, "%s: the path is too long", out);
    if (access(out, F_OK) == 0)
        return out_input(cli, "%s: is there already", out);
    if (mkdir(part, 0777) != 0 && errno != EEXIST)
        return out_input(cli, "%s: %s", part, strerror(errno));
    snprintf(records, sizeof records, "%s/scores.bin", part);
    snprintf(info, sizeof info, "%s/info.json", part);
    snprintf(ids, sizeof ids, "%s/ids.txt", part);
    rc = view_open(cli, from, &v);
    if (rc == EXIT_OK) {
        rc = write_records(cli, &v, items, records);
        if (rc == EXIT_OK)
            rc = write_info(cli, &v, items, info);
        view_close(&v);
    }
    if (rc == EXIT_OK && items == 0)
        rc = extract(cli, from, "ids", ids, NULL);
    if (rc == EXIT_OK && rename(part, out) != 0)
        rc = out_input(cli, "%s: %s", out, strerror(errno));
    if (rc != EXIT_OK) {
        unlink(records);
        unlink(info);
        unlink(ids);
        rmdir(part);
    }
    return rc;
}
