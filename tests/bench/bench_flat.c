/* bench_flat.c - engine `flat`, the plain exact scan, and FAISS IndexFlatIP called directly, on the
 * same rows in one process, turn by turn, so that noise hits all three alike.
 *
 *   bench_flat [--rows FILE] [--queries FILE] [--dim D] [--count N] [--k K] [--batches 64,1]
 *
 *              [--threads T] [--chunk-mib M] [--rounds R] [--json]
 *
 * FILEs are raw float32, row-major, unit rows; without them rows are seeded deviates. One line a
 * batch size; with --json each is an object. Flat and plain must agree in ids and bits or the exit
 * code is 1.
 */
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/error_c.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "index/flat.h"
#include "index/kern.h"
#include "index/philox.h"
#include "index/vec.h"

void omp_set_num_threads(int count);
void openblas_set_num_threads(int count);

enum { MOST_THREADS = 64, MOST_ROUNDS = 1000 };

struct options {
    const char *rows, *queries, *batches;
    size_t dim, count, k, threads, chunk_mib, rounds;
    bool json;
};

struct rows {
    float *at;
    size_t count, dim, per_block;
};

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fputs("bench_flat: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

static double milliseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* --- rows ------------------------------------------------------------------------------------ */

static struct rows rows_read(const char *path, size_t dim)
{
    struct rows r = {.dim = dim};
    FILE *f = fopen(path, "rb");
    long bytes;

    if (!f || fseek(f, 0, SEEK_END) || (bytes = ftell(f)) < 0 || fseek(f, 0, SEEK_SET))
        die("cannot read %s", path);
    r.count = (size_t)bytes / (dim * sizeof(float));
    r.at = malloc(r.count * dim * sizeof(float));
    if (!r.count || !r.at || fread(r.at, dim * sizeof(float), r.count, f) != r.count)
        die("%s holds no rows of %zu float32, or they do not fit in memory", path, dim);
    fclose(f);
    return r;
}

/* Directions with a common part, as gradients have: a seeded mean plus a seeded deviate. */
static struct rows rows_make(size_t count, size_t dim, uint32_t stream)
{
    struct rows r = {.at = malloc(count * dim * sizeof(float)), .count = count, .dim = dim};
    double *mean = malloc(dim * sizeof *mean), *own = malloc(dim * sizeof *own);
    float *row = malloc(dim * sizeof *row), *scratch = malloc(dim * sizeof *scratch);

    if (!r.at || !mean || !own || !row || !scratch)
        die("no memory for %zu rows of %zu", count, dim);
    philox_normals(1, 0, PHILOX_LEFT, 0, dim, mean);
    for (size_t n = 0; n < count; n++) {
        struct err e = ERR_INIT;
        double norm;

        philox_normals(2, stream, PHILOX_RIGHT, n * dim, dim, own);
        for (size_t i = 0; i < dim; i++)
            row[i] = (float)(own[i] + 0.3 * mean[i]);
        if (vec_normalise(row, DTYPE_F32, dim, DTYPE_F32, r.at + n * dim, &norm, scratch, "rows",
                          n, &e))
            die("%s", e.text);
    }
    free(mean);
    free(own);
    free(row);
    free(scratch);
    return r;
}

/* --- the engines ----------------------------------------------------------------------------- */

static int block_open(void *arg, size_t i, struct engine_block *out, struct err *e)
{
    const struct rows *r = arg;
    const size_t from = i * r->per_block;
    const size_t left = r->count - from;

    (void)e;
    *out = (struct engine_block){.key = i + 1,
                                 .rows = (uint32_t)(left < r->per_block ? left : r->per_block),
                                 .encodings = r->at + from * r->dim,
                                 .ctx = r->at};
    return 0;
}

static void block_close(void *arg, struct engine_block *b)
{
    (void)arg;
    (void)b;
}

static _Thread_local size_t dim_of_sequence; /* set by each worker */

static uint64_t block_sequence(const struct engine_block *b, uint32_t row)
{
    return (uint64_t)((const float *)b->encodings - (const float *)b->ctx) / dim_of_sequence + row;
}

static uint64_t block_key(void *arg, size_t i)
{
    (void)arg;
    return i + 1;
}

struct worker {
    pthread_t thread;
    struct flat *f; /* NULL: the plain scan */
    const struct engine_source *src;
    const struct engine_query *q;
    _Atomic size_t *next;
    struct topk *lists;
    struct engine_work work;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct err e = ERR_INIT;

    flat_thread_init();
    dim_of_sequence = w->src->dim;
    if (w->f ? flat_search(w->f, w->src, w->q, w->next, w->lists, NULL, &w->work, &e)
             : flat_search_plain(w->src, w->q, w->next, w->lists, NULL, &w->work, &e))
        die("%s", e.text);
    return NULL;
}

static struct topk *lists_new(size_t count, size_t k)
{
    struct topk *t = calloc(count, sizeof *t);
    struct topk_hit *slots = calloc(count * k, sizeof *slots);

    if (!t || !slots)
        die("no memory for %zu lists of %zu", count, k);
    for (size_t n = 0; n < count; n++)
        topk_init(&t[n], TOPK_HIGHEST, k, slots + n * k);
    return t;
}

static void lists_free(struct topk *t)
{
    free(t[0].hits);
    free(t);
}

/* One search on `threads` threads; returns the merged, ordered lists. */
static struct topk *run(struct flat *f, const struct engine_source *src,
                        const struct engine_query *q, size_t threads, struct engine_work *total)
{
    struct worker w[MOST_THREADS];
    struct topk *all = lists_new(q->count, q->k);
    _Atomic size_t next = 0;

    for (size_t t = 0; t < threads; t++) {
        w[t] = (struct worker){.f = f, .src = src, .q = q, .next = &next,
                               .lists = lists_new(q->count, q->k)};
        if (t && pthread_create(&w[t].thread, NULL, work, &w[t]))
            die("no thread");
    }
    work(&w[0]);
    for (size_t t = 0; t < threads; t++) {
        if (t)
            pthread_join(w[t].thread, NULL);
        for (size_t n = 0; n < q->count; n++)
            topk_merge(&all[n], &w[t].lists[n]);
        lists_free(w[t].lists);
        total->rows_exact += w[t].work.rows_exact;
        total->blocks_widened += w[t].work.blocks_widened;
    }
    for (size_t n = 0; n < q->count; n++)
        topk_sort(&all[n]);
    return all;
}

static bool same(const struct topk *a, const struct topk *b, size_t count)
{
    for (size_t n = 0; n < count; n++) {
        if (a[n].count != b[n].count)
            return false;
        for (size_t i = 0; i < a[n].count; i++)
            if (memcmp(&a[n].hits[i].score, &b[n].hits[i].score, sizeof(double)) != 0 ||
                a[n].hits[i].sequence != b[n].hits[i].sequence)
                return false;
    }
    return true;
}

/* --- one line -------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *x, size_t count)
{
    qsort(x, count, sizeof *x, by_value);
    return x[count / 2];
}

static bool line(const struct options *o, struct rows *rows, const struct rows *queries,
                 struct flat *f, FaissIndexFlatIP *faiss, size_t batch)
{
    struct engine_source src = {.arg = rows, .dim = rows->dim, .dtype = DTYPE_F32,
                                .count = (rows->count + rows->per_block - 1) / rows->per_block,
                                .open = block_open, .close = block_close,
                                .sequence = block_sequence, .key = block_key};
    static double direct[MOST_ROUNDS], flat[MOST_ROUNDS], plain[MOST_ROUNDS];
    float *scores = malloc(batch * o->k * sizeof *scores);
    int64_t *found = malloc(batch * o->k * sizeof *found);
    struct engine_work total = {0}, ignored = {0};
    size_t agree = 0, all = 0;
    double d, p, q;
    bool equal = true;

    if (!scores || !found)
        die("no memory for %zu x %zu answers", batch, o->k);
    for (size_t r = 0; r <= o->rounds; r++) { /* round 0 warms up and is not counted */
        size_t from = queries->count > batch ? r * batch % (queries->count - batch + 1) : 0;
        struct engine_query asked = {
            .vectors = queries->at + from * rows->dim, .count = batch, .k = o->k};
        struct topk *a, *b;
        double t0, t1, t2, t3;

        t0 = milliseconds();
        omp_set_num_threads((int)o->threads);
        openblas_set_num_threads((int)o->threads);
        if (faiss_Index_search(faiss, (idx_t)batch, asked.vectors, (idx_t)o->k, scores, found))
            die("FAISS: %s", faiss_get_last_error());
        omp_set_num_threads(1);
        openblas_set_num_threads(1);
        t1 = milliseconds();
        a = run(f, &src, &asked, o->threads, r ? &total : &ignored);
        t2 = milliseconds();
        b = run(NULL, &src, &asked, o->threads, &ignored);
        t3 = milliseconds();
        equal = equal && same(a, b, batch);
        for (size_t n = 0; n < batch; n++)
            for (size_t i = 0; i < a[n].count; i++, all++)
                agree += (int64_t)a[n].hits[i].sequence == found[n * o->k + i];
        lists_free(a);
        lists_free(b);
        if (r) {
            direct[r - 1] = t1 - t0;
            flat[r - 1] = t2 - t1;
            plain[r - 1] = t3 - t2;
        }
    }
    d = median(direct, o->rounds);
    p = median(flat, o->rounds);
    q = median(plain, o->rounds);
    printf(o->json ? "{\"bench\":\"flat\",\"n\":%zu,\"d\":%zu,\"k\":%zu,\"batch\":%zu,\"threads\":%zu,"
                     "\"chunks\":%zu,\"simd\":\"%s\",\"faiss_ms_p50\":%.3f,\"flat_ms_p50\":%.3f,"
                     "\"plain_ms_p50\":%.3f,\"flat_to_faiss\":%.3f,\"plain_to_faiss\":%.3f,"
                     "\"exact_rows_a_query\":%.1f,\"blocks_widened\":%llu,\"faiss_same_place\":%.5f,"
                     "\"equal\":%s}\n"
                   : "%zu x %zu, top %zu, batch %zu, %zu threads, %zu chunks, %s: FAISS %.3f ms, flat "
                     "%.3f ms, plain %.3f ms; flat/FAISS %.3f, plain/FAISS %.3f; %.1f exact rows a "
                     "query, %llu chunks widened; FAISS has the same row in the same place %.5f; "
                     "flat equals plain: %s\n",
           rows->count, rows->dim, o->k, batch, o->threads, src.count, kern->name, d, p, q, p / d,
           q / d, (double)total.rows_exact / (double)(o->rounds * batch),
           (unsigned long long)total.blocks_widened, (double)agree / (double)all,
           equal ? "true" : "false");
    fflush(stdout);
    free(scores);
    free(found);
    return equal;
}

static struct options options_read(int argc, char **argv)
{
    struct options o = {.batches = "64,1", .dim = 16384, .count = 20000, .k = 10, .chunk_mib = 32,
                        .rounds = 9, .threads = (size_t)sysconf(_SC_NPROCESSORS_ONLN)};
    const struct {
        const char *name;
        const char **text;
        size_t *number;
    } v[] = {
        {"--rows", &o.rows, NULL},       {"--queries", &o.queries, NULL},
        {"--batches", &o.batches, NULL}, {"--dim", NULL, &o.dim},
        {"--count", NULL, &o.count},     {"--k", NULL, &o.k},
        {"--threads", NULL, &o.threads}, {"--chunk-mib", NULL, &o.chunk_mib},
        {"--rounds", NULL, &o.rounds},
    };

    for (int i = 1; i < argc; i++) {
        size_t n = 0;

        if (strcmp(argv[i], "--json") == 0) {
            o.json = true;
            continue;
        }
        while (n < sizeof v / sizeof v[0] && strcmp(argv[i], v[n].name) != 0)
            n++;
        if (n == sizeof v / sizeof v[0] || i + 1 == argc)
            die("unknown or unfinished option %s", argv[i]);
        i++;
        if (v[n].text)
            *v[n].text = argv[i];
        else if ((*v[n].number = strtoull(argv[i], NULL, 10)) == 0)
            die("%s %s: not a positive number", v[n].name, argv[i]);
    }
    if (o.threads > MOST_THREADS || o.rounds > MOST_ROUNDS)
        die("at most %d threads and %d rounds", MOST_THREADS, MOST_ROUNDS);
    return o;
}

int main(int argc, char **argv)
{
    struct options o = options_read(argc, argv);
    struct rows rows, queries;
    FaissIndexFlatIP *faiss;
    struct flat *f = flat_new(UINT64_MAX / 2);
    bool equal = true;

    kern_init(NULL);
    flat_thread_init();
    rows = o.rows ? rows_read(o.rows, o.dim) : rows_make(o.count, o.dim, 1);
    queries = o.queries ? rows_read(o.queries, o.dim) : rows_make(64, o.dim, 2);
    rows.per_block = (o.chunk_mib << 20) / (o.dim * sizeof(float));
    rows.per_block = rows.per_block ? rows.per_block : 1;
    if (faiss_IndexFlatIP_new_with(&faiss, (idx_t)o.dim) ||
        faiss_Index_add(faiss, (idx_t)rows.count, rows.at))
        die("FAISS: %s", faiss_get_last_error());
    for (const char *at = o.batches; *at; at += strcspn(at, ","), at += *at == ',') {
        size_t batch = strtoull(at, NULL, 10);

        if (batch)
            equal = line(&o, &rows, &queries, f, faiss,
                         batch < queries.count ? batch : queries.count) && equal;
    }
    faiss_Index_free(faiss);
    flat_free(f);
    free(rows.at);
    free(queries.at);
    return equal ? 0 : 1;
}
