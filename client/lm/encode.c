/* encode.c - see encode.h. Threads take batches by number from one counter; each has an encoder of
 * its own, and lets the disk write one batch while it computes the next. The first error stops all
 * of them after the file they are at. */
#include "client/lm/encode.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "client/lm/crew.h"
#include "client/lm/tensorfile.h"
#include "index/vec.h"
#include "storage/base/mem.h"

static const char extension[] = ".safetensors";

struct job {
    const struct encoder_plan *plan;
    const struct passages *ps;
    const struct encode_options *options;
    size_t batches;
    char (*name)[ENCODE_NAME_MAX]; /* of each batch; owned */
    void (*tell)(void *ctx, const struct encode_progress *p);
    void *ctx;
    pthread_mutex_t lock;          /* guards what follows */
    size_t next;                   /* batch not yet taken */
    struct encode_progress progress;
    struct err error;              /* the first */
};

struct worker {
    struct job *job;
    struct encoder encoder;
    float *rows;                /* (batch_rows, dim), owned */
    uint16_t *narrow;           /* the same in two bytes, or NULL; owned */
    struct encoder_text *texts; /* (batch_rows), owned */
    struct buf lines;
    struct tensorfile_half half; /* the batch that the disk is still at, */
    size_t half_count;           /* and its passages */
};

void encode_name(char out[ENCODE_NAME_MAX], const struct passages *ps, size_t number, size_t first,
                 size_t count, const char *description, size_t description_len)
{
    uint64_t hash = XXH3_64bits(description, description_len);

    for (size_t i = first; i < first + count; i++)
        hash = XXH3_64bits_withSeed(ps->list[i].line, ps->list[i].line_len, hash);
    snprintf(out, ENCODE_NAME_MAX, "b%06zu-%016llx", number, (unsigned long long)hash);
}

static size_t batch_first(const struct job *j, size_t number)
{
    return number * j->options->batch_rows;
}

static size_t batch_count(const struct job *j, size_t number)
{
    const size_t left = j->ps->count - batch_first(j, number);

    return left < j->options->batch_rows ? left : j->options->batch_rows;
}

static int path_of(const struct job *j, const char *name, const char *tail, char out[PATH_MAX],
                   struct err *e)
{
    int len = snprintf(out, PATH_MAX, "%s/%s%s", j->options->folder, name, tail);

    if (len < 0 || len >= PATH_MAX)
        return err_set(e, ERR_INVALID, "path of %d bytes is too long", len);
    return 0;
}

/* The two tensors of a batch file; data may be NULL when only sizes matter. */
static void lay_out(const struct worker *w, size_t count, const void *gradients,
                    struct tensorfile_tensor out[2])
{
    const struct job *j = w->job;
    const enum dtype t = j->options->dtype;

    out[0] = (struct tensorfile_tensor){.name = "gradients",
                                        .dtype = dtype_tensor_name(t),
                                        .shape = {count, j->plan->dim},
                                        .dims = 2,
                                        .bytes = count * j->plan->dim * dtype_size(t),
                                        .data = gradients};
    out[1] = (struct tensorfile_tensor){.name = "examples",
                                        .dtype = "U8",
                                        .shape = {w->lines.len},
                                        .dims = 1,
                                        .bytes = w->lines.len,
                                        .data = w->lines.data};
}

static int collect(struct worker *w, size_t number, struct err *e)
{
    const struct job *j = w->job;
    const size_t first = batch_first(j, number), count = batch_count(j, number);

    w->lines.len = 0;
    for (size_t i = 0; i < count; i++) {
        const struct passage *p = &j->ps->list[first + i];
        w->texts[i] = (struct encoder_text){.text = p->text, .text_len = p->text_len};
        buf_add(&w->lines, p->line, p->line_len);
        buf_add_text(&w->lines, "\n");
    }
    return w->lines.failed ? err_set(e, ERR_BUSY, "no memory for the examples of a batch") : 0;
}

static int narrow_rows(struct worker *w, size_t count, struct err *e)
{
    const size_t dim = w->job->plan->dim;

    vec_narrow(w->rows, count * dim, w->job->options->dtype, w->narrow);
    for (size_t i = 0; w->job->options->dtype == DTYPE_F16 && i < count * dim; i++)
        if ((w->narrow[i] & 0x7FFF) >= 0x7C00) {
            err_set(e, ERR_NOT_FINITE, "%g does not fit in f16 (bf16 has the range)",
                    (double)w->rows[i]);
            return err_at_index(e, (int64_t)(i / dim));
        }
    return 0;
}

static int make_batch(struct worker *w, size_t number, const char *path,
                      struct tensorfile_half *half, struct err *e)
{
    const struct job *j = w->job;
    const size_t count = batch_count(j, number);
    struct tensorfile_tensor tensors[2];
    int rc = encoder_run(&w->encoder, w->texts, count, w->rows, NULL, e);

    if (!rc && w->narrow)
        rc = narrow_rows(w, count, e);
    if (rc) {
        if (e->index >= 0)
            err_wrap(e, "passage \"%.80s\": ",
                     j->ps->list[batch_first(j, number) + (size_t)e->index].id);
        return rc;
    }
    lay_out(w, count, w->narrow ? (const void *)w->narrow : w->rows, tensors);
    return tensorfile_begin(half, path, NULL, 0, tensors, 2, e);
}

/* A file under its final name was renamed there whole; the size check is against foreign hands. */
static bool is_there(const struct worker *w, size_t number, const char *path)
{
    struct tensorfile_tensor tensors[2];
    struct stat st;

    lay_out(w, batch_count(w->job, number), NULL, tensors);
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           (size_t)st.st_size == tensorfile_size(NULL, 0, tensors, 2);
}

static void report(struct job *j, size_t count, bool kept, int rc, const struct err *e)
{
    pthread_mutex_lock(&j->lock);
    if (rc && j->error.code == ERR_OK)
        j->error = *e;
    if (!rc) {
        j->progress.done += count;
        j->progress.kept += kept ? count : 0;
        if (j->tell && count)
            j->tell(j->ctx, &j->progress);
    }
    pthread_mutex_unlock(&j->lock);
}

/* Waits for the batch that the disk is at, if there is one. */
static int finish_half(struct worker *w, struct err *e)
{
    int rc;

    if (w->half.fd < 0)
        return 0;
    rc = tensorfile_finish(&w->half, e);
    if (!rc)
        report(w->job, w->half_count, false, 0, e);
    return rc;
}

static int do_batch(struct worker *w, size_t number, struct err *e)
{
    struct tensorfile_half half;
    char path[PATH_MAX];
    int rc = path_of(w->job, w->job->name[number], extension, path, e);

    if (!rc)
        rc = collect(w, number, e);
    if (rc)
        return rc;
    if (is_there(w, number, path)) {
        report(w->job, batch_count(w->job, number), true, 0, e);
        return 0;
    }
    rc = make_batch(w, number, path, &half, e);
    if (rc)
        return rc;
    rc = finish_half(w, e);
    w->half = half;
    w->half_count = batch_count(w->job, number);
    return rc;
}

static int worker_init(struct worker *w, struct job *j, struct err *e)
{
    const size_t rows = j->options->batch_rows, dim = j->plan->dim;
    int rc;

    *w = (struct worker){.job = j, .half.fd = -1};
    rc = encoder_init(&w->encoder, j->plan, e);
    if (rc)
        return rc;
    w->rows = mem_big(rows * dim, sizeof *w->rows);
    w->texts = mem_big(rows, sizeof *w->texts);
    if (j->options->dtype != DTYPE_F32)
        w->narrow = mem_big(rows * dim, sizeof *w->narrow);
    if (!w->rows || !w->texts || (j->options->dtype != DTYPE_F32 && !w->narrow))
        return err_set(e, ERR_BUSY, "no memory for a batch of %zu rows of %zu", rows, dim);
    return 0;
}

static void worker_fini(struct worker *w)
{
    tensorfile_drop(&w->half);
    encoder_fini(&w->encoder);
    free(w->rows);
    free(w->narrow);
    free(w->texts);
    buf_free(&w->lines);
}

static bool take_batch(struct job *j, size_t *number)
{
    bool some;

    pthread_mutex_lock(&j->lock);
    some = j->next < j->batches && j->error.code == ERR_OK;
    if (some)
        *number = j->next++;
    pthread_mutex_unlock(&j->lock);
    return some;
}

static void work(void *ctx, unsigned member, unsigned members)
{
    struct job *j = ctx;
    struct worker w;
    struct err e = ERR_INIT;
    size_t number;
    int rc = worker_init(&w, j, &e);

    (void)member;
    (void)members;
    while (!rc && take_batch(j, &number))
        rc = do_batch(&w, number, &e);
    if (!rc)
        rc = finish_half(&w, &e);
    if (rc)
        report(j, 0, false, rc, &e);
    worker_fini(&w);
}

/* corpus.json: written when absent; another one there means that the folder is in use. */
static int claim_folder(const struct job *j, const struct buf *description, struct err *e)
{
    char path[PATH_MAX], *old = NULL;
    size_t room = 0;
    ssize_t len;
    FILE *file;
    int rc = path_of(j, "corpus", ".json", path, e);

    if (rc)
        return rc;
    if (mkdir(j->options->folder, 0755) && errno != EEXIST)
        return err_errno(e, errno, j->options->folder);
    file = fopen(path, "re");
    if (!file && errno != ENOENT)
        return err_errno(e, errno, path);
    if (!file)
        return tensorfile_write_bytes(path, description->data, description->len, e);
    len = getdelim(&old, &room, '\0', file);
    if (len != (ssize_t)description->len || memcmp(old, description->data, description->len) != 0)
        rc = err_set(e, ERR_CONFLICT, "%s is of another model or other options: use another folder",
                     path);
    free(old);
    fclose(file);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Batch files that are none of ours would be ingested with ours; halves of a killed run go. */
static int sweep_entry(const struct job *j, const char *entry, struct err *e)
{
    char key[ENCODE_NAME_MAX] = "", path[PATH_MAX];
    const char *dot = strchr(entry, '.');
    int rc;

    if (entry[0] != 'b' || !dot || strncmp(dot, extension, sizeof extension - 1) != 0 ||
        (size_t)(dot - entry) >= sizeof key)
        return 0;
    memcpy(key, entry, (size_t)(dot - entry));
    if (dot[sizeof extension - 1] == '.') {
        rc = path_of(j, entry, "", path, e);
        if (!rc)
            unlink(path);
        return rc;
    }
    /* names begin with their number, so they are in order */
    if (bsearch(key, j->name, j->batches, sizeof j->name[0], by_name))
        return 0;
    return err_set(e, ERR_CONFLICT, "%s holds %.80s, which is of other data: use another folder",
                   j->options->folder, entry);
}

static int sweep(const struct job *j, struct err *e)
{
    DIR *dir = opendir(j->options->folder);
    const struct dirent *entry;
    int rc = 0;

    if (!dir)
        return err_errno(e, errno, j->options->folder);
    while (!rc && (entry = readdir(dir)))
        rc = sweep_entry(j, entry->d_name, e);
    closedir(dir);
    return rc;
}

static int prepare(struct job *j, struct err *e)
{
    struct buf description = {0};
    int rc;

    j->batches = (j->ps->count + j->options->batch_rows - 1) / j->options->batch_rows;
    j->name = mem_big(j->batches, sizeof *j->name);
    encoder_plan_describe(j->plan, dtype_name(j->options->dtype), &description);
    if (!j->name || description.failed) {
        buf_free(&description);
        return err_set(e, ERR_BUSY, "no memory for %zu batch names", j->batches);
    }
    for (size_t n = 0; n < j->batches; n++)
        encode_name(j->name[n], j->ps, n, batch_first(j, n), batch_count(j, n),
                    (const char *)description.data, description.len);
    rc = claim_folder(j, &description, e);
    if (!rc)
        rc = sweep(j, e);
    buf_free(&description);
    return rc;
}

int encode_run(const struct encoder_plan *plan, const struct passages *ps,
               const struct encode_options *o,
               void (*tell)(void *ctx, const struct encode_progress *p), void *ctx, struct err *e)
{
    struct job j = {.plan = plan, .ps = ps, .options = o, .tell = tell, .ctx = ctx};
    struct crew *crew = NULL;
    int rc;

    if (o->batch_rows < 1 || o->batch_rows > ENCODE_BATCH_MAX)
        return err_set(e, ERR_INVALID, "%llu rows a batch: must be 1 to %d",
                       (unsigned long long)o->batch_rows, ENCODE_BATCH_MAX);
    err_clear(&j.error);
    j.progress.total = ps->count;
    pthread_mutex_init(&j.lock, NULL);
    rc = prepare(&j, e);
    if (!rc)
        rc = crew_start(&crew, (unsigned)o->threads, e);
    if (!rc) {
        crew_run(crew, work, &j);
        crew_stop(crew);
        if (j.error.code != ERR_OK) {
            *e = j.error;
            rc = (int)e->code;
        }
    }
    pthread_mutex_destroy(&j.lock);
    free(j.name);
    return rc;
}
