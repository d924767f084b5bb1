/* source.c - see source.h. The matrix is shared by the workers (reading it is safe from several
 * threads); the examples are read by whoever holds the caller's lock.
 */
#include "client/cli/source.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BODY_TARGET = 32 << 20, ROWS_MAX = 65536, ROWS_DEFAULT_MAX = 4096 };

/* --- Batch files ------------------------------------------------------------------------------ */

static bool add_path(struct source *s, const char *path, char *why, size_t why_cap)
{
    char **more = realloc(s->paths, (s->file_count + 1) * sizeof *more);

    if (more) {
        s->paths = more;
        more[s->file_count] = strdup(path);
        if (more[s->file_count]) {
            s->file_count++;
            return true;
        }
    }
    snprintf(why, why_cap, "no memory");
    return false;
}

static int is_batch_file(const struct dirent *d)
{
    size_t len = strlen(d->d_name);

    return d->d_name[0] != '.' && len > 12 && strcmp(d->d_name + len - 12, ".safetensors") == 0;
}

static bool add_folder(struct source *s, const char *folder, char *why, size_t why_cap)
{
    struct dirent **list;
    int count = scandir(folder, &list, is_batch_file, alphasort);
    bool ok = count > 0;

    if (count < 0)
        snprintf(why, why_cap, "%s: %s", folder, strerror(errno));
    if (count == 0)
        snprintf(why, why_cap, "%s: there is no .safetensors file in it", folder);
    for (int i = 0; i < count; i++) {
        char path[4096];

        if (ok && (size_t)snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name) >=
                      sizeof path) {
            snprintf(why, why_cap, "%s: the path is too long", folder);
            ok = false;
        }
        ok = ok && add_path(s, path, why, why_cap);
        free(list[i]);
    }
    if (count >= 0)
        free(list);
    return ok;
}

static bool look_at_file(struct source *s, uint64_t i, char *why, size_t why_cap)
{
    struct asc_matrix *m;
    struct asc_error e;
    struct stat st;
    uint64_t dim, rows;

    if (asc_matrix_open(s->paths[i], "gradients", &m, &e) != 0) {
        snprintf(why, why_cap, "%s%s", e.detail,
                 e.status == ASC_ARGUMENT ? ": a matrix goes with --gradients and --examples" : "");
        return false;
    }
    dim = asc_matrix_dim(m);
    rows = asc_matrix_rows(m);
    asc_matrix_close(m);
    if (s->dim && dim != s->dim) {
        snprintf(why, why_cap, "%s: gradients of dim %" PRIu64 "; the files before have %" PRIu64,
                 s->paths[i], dim, s->dim);
        return false;
    }
    if (stat(s->paths[i], &st) != 0) {
        snprintf(why, why_cap, "%s: %s", s->paths[i], strerror(errno));
        return false;
    }
    s->dim = dim;
    s->file_rows[i] = rows;
    s->file_bytes[i] = (uint64_t)st.st_size;
    s->rows_total += rows;
    s->bytes_total += (uint64_t)st.st_size;
    return true;
}

bool source_open_files(struct source *s, char *const *paths, int count, char *why, size_t why_cap)
{
    bool ok = true;

    *s = (struct source){.lines.fd = -1};
    for (int i = 0; ok && i < count; i++) {
        struct stat st;

        if (stat(paths[i], &st) == 0 && S_ISDIR(st.st_mode))
            ok = add_folder(s, paths[i], why, why_cap);
        else
            ok = add_path(s, paths[i], why, why_cap);
    }
    if (ok) {
        s->file_rows = calloc(s->file_count + 1, sizeof *s->file_rows);
        s->file_bytes = calloc(s->file_count + 1, sizeof *s->file_bytes);
        ok = s->file_rows && s->file_bytes;
        if (!ok)
            snprintf(why, why_cap, "no memory");
    }
    for (uint64_t i = 0; ok && i < s->file_count; i++)
        ok = look_at_file(s, i, why, why_cap);
    s->units_total = s->file_count;
    if (!ok)
        source_close(s);
    return ok;
}

/* --- A pair ----------------------------------------------------------------------------------- */

uint64_t source_rows_of(uint64_t row_bytes)
{
    uint64_t rows = row_bytes ? BODY_TARGET / row_bytes : 1;

    return rows < 1 ? 1 : rows > ROWS_DEFAULT_MAX ? ROWS_DEFAULT_MAX : rows;
}

static bool check_pair(struct source *s, char *why, size_t why_cap)
{
    uint64_t lines;

    if (asc_matrix_dtype(s->matrix) == ASC_F64) {
        snprintf(why, why_cap, "%s: F64; F32, F16 and BF16 are taken", s->matrix_path);
        return false;
    }
    if (s->rows_total == 0 || s->dim == 0) {
        snprintf(why, why_cap, "%s: an empty matrix (%" PRIu64 " x %" PRIu64 ")", s->matrix_path,
                 s->rows_total, s->dim);
        return false;
    }
    if (!lines_count(&s->lines, &lines, why, why_cap))
        return false;
    if (lines != s->rows_total) {
        snprintf(why, why_cap, "%s has %" PRIu64 " rows, %s has %" PRIu64 " lines", s->matrix_path,
                 s->rows_total, s->lines_path, lines);
        return false;
    }
    return true;
}

bool source_open_pair(struct source *s, const struct source_pair *pair, char *why, size_t why_cap)
{
    struct asc_error e;
    struct stat st;
    int rc;

    *s = (struct source){.lines.fd = -1, .matrix_path = pair->gradients,
                         .lines_path = pair->examples};
    rc = pair->raw ? asc_matrix_open_raw(pair->gradients, pair->raw_dim, pair->raw, &s->matrix, &e)
                   : asc_matrix_open(pair->gradients, pair->tensor, &s->matrix, &e);
    if (rc != 0) {
        snprintf(why, why_cap, "%s", e.detail);
        return false;
    }
    s->rows_total = asc_matrix_rows(s->matrix);
    s->dim = asc_matrix_dim(s->matrix);
    if (!lines_open(&s->lines, pair->examples, why, why_cap) || !check_pair(s, why, why_cap)) {
        source_close(s);
        return false;
    }
    s->rows_per_batch = pair->rows_per_batch
                            ? pair->rows_per_batch
                            : source_rows_of(s->dim * asc_dtype_size(asc_matrix_dtype(s->matrix)));
    s->units_total = (s->rows_total + s->rows_per_batch - 1) / s->rows_per_batch;
    s->bytes_total = s->rows_total * s->dim * asc_dtype_size(asc_matrix_dtype(s->matrix));
    if (fstat(s->lines.fd, &st) == 0)
        s->bytes_total += (uint64_t)st.st_size;
    return true;
}

void source_open_feed(struct source *s, const struct feed *feed)
{
    *s = (struct source){.lines.fd = -1, .feed = *feed};
}

void source_close(struct source *s)
{
    for (uint64_t i = 0; i < s->file_count; i++)
        free(s->paths[i]);
    free(s->paths);
    free(s->file_rows);
    free(s->file_bytes);
    asc_matrix_close(s->matrix);
    lines_close(&s->lines);
    *s = (struct source){.lines.fd = -1};
}

/* --- Units ------------------------------------------------------------------------------------ */

static int next_of_feed(struct source *s, struct unit *out, char *why, size_t why_cap)
{
    while (s->next < s->units_total) {
        struct unit u = {.position = s->next};
        int got = s->feed.fill(s->feed.user, &u, why, why_cap);

        if (got < 0) {
            source_unit_free(&u);
            return -1;
        }
        s->next++;
        if (got > 0) {
            *out = u;
            return 1;
        }
        s->units_empty++;
    }
    return 0;
}

int source_next(struct source *s, struct unit *out, char *why, size_t why_cap)
{
    struct unit u = {.position = s->next};

    if (s->feed.fill)
        return next_of_feed(s, out, why, why_cap);
    if (s->next == s->units_total)
        return 0;
    if (!s->matrix) {
        u.path = s->paths[s->next];
        u.rows = s->file_rows[s->next];
        u.bytes = s->file_bytes[s->next];
    } else {
        u.first_row = s->next * s->rows_per_batch;
        u.rows = s->rows_total - u.first_row;
        if (u.rows > s->rows_per_batch)
            u.rows = s->rows_per_batch;
        if (!lines_take(&s->lines, u.rows, &u.lines, &u.lines_len, why, why_cap))
            return -1;
        u.bytes = u.rows * s->dim * asc_dtype_size(asc_matrix_dtype(s->matrix)) + u.lines_len;
    }
    s->next++;
    *out = u;
    return 1;
}

void source_unit_free(struct unit *u)
{
    free(u->lines);
    free(u->gradients);
    *u = (struct unit){0};
}

/* Where a refused row is in the person's own files. */
static void explain(const struct source *s, const struct unit *u, struct asc_error *e)
{
    char inner[sizeof e->detail], row[160];

    memcpy(inner, e->detail, sizeof inner);
    if (u->gradients) {
        if (e->index >= 0 && (uint64_t)e->index < u->rows && e->status == ASC_REFUSED) {
            s->feed.name(s->feed.user, u, (uint64_t)e->index, row, sizeof row);
            snprintf(e->detail, sizeof e->detail, "%.300s (%s)", inner, row);
        }
        return;
    }
    if (u->path)
        snprintf(e->detail, sizeof e->detail, "%.200s: %.300s", u->path, inner);
    else if (e->index >= 0 && (uint64_t)e->index < u->rows && e->status == ASC_REFUSED)
        snprintf(e->detail, sizeof e->detail, "%.300s (row %" PRIu64 " of %.80s, line %" PRIu64
                 " of %.80s)", inner, u->first_row + (uint64_t)e->index, s->matrix_path,
                 u->first_row + (uint64_t)e->index + 1, s->lines_path);
    else
        snprintf(e->detail, sizeof e->detail, "rows %" PRIu64 " to %" PRIu64 ": %.400s",
                 u->first_row, u->first_row + u->rows - 1, inner);
}

/* Has the server this batch, as it is? Then *out says what became of it. A refusal is left to the
 * sending, which is refused in better words; what else fails is given back. */
static int ask_first(const struct unit *u, const struct asc_batch *b, struct asc_client *c,
                     const char *corpus, const char *name, bool *stands, struct asc_ingested *out,
                     struct asc_error *e)
{
    char theirs[ASC_HASH_MAX + 1], ours[ASC_HASH_MAX + 1];
    int rc = asc_batch_get(c, corpus, name, out, theirs, e);

    *stands = false;
    if (rc != 0)
        return rc == ASC_REFUSED ? 0 : rc;
    rc = b ? asc_batch_hash(b, ours, e) : asc_batch_hash_file(u->path, ours, e);
    *stands = rc == 0 && strcmp(ours, theirs) == 0;
    return rc;
}

static int send_file(const struct unit *u, struct asc_client *c, const char *corpus,
                     struct asc_ingested *out, struct asc_error *e)
{
    char name[ASC_NAME_MAX + 1];
    bool stands = false;
    int rc = asc_batch_name_file(u->position, u->path, name, e);

    if (rc == 0)
        rc = ask_first(u, NULL, c, corpus, name, &stands, out, e);
    return rc == 0 && !stands ? asc_ingest_file(c, corpus, name, u->path, out, e) : rc;
}

static int send_rows(const struct source *s, const struct unit *u, struct asc_client *c,
                     const char *corpus, struct asc_ingested *out, struct asc_error *e)
{
    struct asc_batch b = {.rows = u->rows, .matrix = s->matrix, .first_row = u->first_row,
                          .lines = u->lines, .lines_len = u->lines_len,
                          .gradients = u->gradients, .dim = s->dim, .dtype = s->feed_dtype};
    char name[ASC_NAME_MAX + 1];
    bool stands = false;
    int rc = asc_batch_name(u->position, &b, name, e);

    b.name = name;
    if (rc == 0)
        rc = ask_first(u, &b, c, corpus, name, &stands, out, e);
    return rc == 0 && !stands ? asc_ingest(c, corpus, &b, out, e) : rc;
}

int source_send(const struct source *s, const struct unit *u, struct asc_client *c,
                const char *corpus, struct asc_ingested *out, struct asc_error *e)
{
    int rc = u->path ? send_file(u, c, corpus, out, e) : send_rows(s, u, c, corpus, out, e);

    if (rc != 0 && rc != ASC_ABORTED && rc != ASC_NETWORK)
        explain(s, u, e);
    return rc;
}
