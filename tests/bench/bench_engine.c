/* bench_engine.c - one contender of the benchmark: the engines of ascribe and FAISS IndexFlatIP
 * through its C API, over the same rows, asked one line at a time.
 *
 *   bench_engine [--rows FILE --queries FILE | --count N --asked Q] --dim D
 *                [--threads T] [--chunk-mib M] [--delta X] [--seed S]
 *
 * Prints {"ready":...}, then reads lines `ENGINE FROM COUNT K OPPONENTS` (ENGINE: faiss, scan,
 * flat, certified, probabilistic) and answers each with one line of JSON: milliseconds of that
 * batch of queries, row numbers and scores both ways, what was read. tests/bench/contend.py asks
 * several such processes turn by turn, so that the noise of the machine meets all alike; what a contender
 * needs (FAISS's copy, codes) it makes when first asked, untimed, by asking itself once.
 * FILEs are raw float32, row-major, unit rows; without them rows are made up (rows.h).
 */
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/error_c.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/flat.h"
#include "index/kern.h"
#include "storage/base/keep.h"
#include "storage/base/mem.h"
#include "tests/bench/rows.h"
#include "tests/bench/tiers.h"

void omp_set_num_threads(int count);
void openblas_set_num_threads(int count);
char *openblas_get_corename(void);

enum { MOST_THREADS = 64 };

struct options {
    const char *rows, *queries, *delta;
    size_t dim, count, asked, threads, chunk_mib, seed;
};

struct bench {
    const struct options *o;
    struct rows rows, queries;
    struct flat *flat;
    FaissIndexFlatIP *faiss;
    struct tiers *tiers;
    double made_ms; /* what the contender needed before it could answer */
};

/* What one line asks, and the lists it is answered with. */
struct ask {
    char engine[16];
    size_t from, count, k, opponents;
    struct topk *pro, *opp; /* count each */
    double ms;
    struct engine_work work;
};

/* --- lists ------------------------------------------------------------------------------------ */

static struct topk *lists_new(size_t count, size_t k, enum topk_end end)
{
    struct topk *t = mem_new(count, sizeof *t);
    struct topk_hit *slots = mem_new(count * k + 1, sizeof *slots);

    for (size_t n = 0; n < count; n++)
        topk_init(&t[n], end, k, slots + n * k);
    return t;
}

static void lists_free(struct topk *t)
{
    free(t[0].hits);
    free(t);
}

/* --- ascribe's own engines -------------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    struct bench *b;
    const struct engine_source *src;
    const struct engine_query *q;
    struct tiers_search *tiers; /* NULL: not the tiered engine */
    bool flat;
    _Atomic size_t *next;
    struct topk *pro, *opp;
    struct engine_work work;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct err e = ERR_INIT;
    int bad;

    flat_thread_init();
    if (w->tiers)
        bad = tiers_share(w->tiers, w->pro, w->opp, &w->work, &e);
    else if (w->flat)
        bad = flat_search(w->b->flat, w->src, w->q, w->next, w->pro, w->opp, &w->work, &e);
    else
        bad = flat_search_plain(w->src, w->q, w->next, w->pro, w->opp, &w->work, &e);
    if (bad)
        die("%s", e.text);
    return NULL;
}

static void work_add(struct engine_work *to, const struct engine_work *from)
{
    to->rows_proposed += from->rows_proposed;
    to->rows_exact += from->rows_exact;
    to->blocks += from->blocks;
    to->blocks_widened += from->blocks_widened;
    tiers_work_add(to, from);
}

static void search(struct bench *b, struct ask *a)
{
    const struct engine_source src = rows_source(&b->rows);
    const struct engine_query q = {.vectors = b->queries.at + a->from * b->rows.dim,
                                   .count = a->count, .k = a->k, .opponents = a->opponents};
    const bool tiered = strcmp(a->engine, "certified") == 0 ||
                        strcmp(a->engine, "probabilistic") == 0;
    struct tiers_search *tiers =
        tiered ? tiers_begin(b->tiers, &q, a->engine[0] == 'p') : NULL;
    struct worker w[MOST_THREADS];
    _Atomic size_t next = 0;

    for (size_t t = 0; t < b->o->threads; t++) {
        w[t] = (struct worker){.b = b, .src = &src, .q = &q, .tiers = tiers, .next = &next,
                               .flat = strcmp(a->engine, "flat") == 0,
                               .pro = lists_new(a->count, a->k, TOPK_HIGHEST),
                               .opp = lists_new(a->count, a->opponents, TOPK_LOWEST)};
        if (t && pthread_create(&w[t].thread, NULL, work, &w[t]))
            die("no thread");
    }
    work(&w[0]);
    for (size_t t = 0; t < b->o->threads; t++) {
        if (t)
            pthread_join(w[t].thread, NULL);
        for (size_t n = 0; n < a->count; n++) {
            topk_merge(&a->pro[n], &w[t].pro[n]);
            topk_merge(&a->opp[n], &w[t].opp[n]);
        }
        work_add(&a->work, &w[t].work);
        lists_free(w[t].pro);
        lists_free(w[t].opp);
    }
    tiers_end(tiers);
    for (size_t n = 0; n < a->count; n++) {
        topk_sort(&a->pro[n]);
        topk_sort(&a->opp[n]);
    }
}

/* --- FAISS ------------------------------------------------------------------------------------ */

/* The whole rows as one index, all threads inside FAISS: how its users call it. */
static void search_faiss(struct bench *b, struct ask *a)
{
    float *scores = mem_new(a->count * a->k, sizeof *scores);
    int64_t *found = mem_new(a->count * a->k, sizeof *found);

    omp_set_num_threads((int)b->o->threads);
    openblas_set_num_threads((int)b->o->threads);
    if (faiss_Index_search(b->faiss, (idx_t)a->count, b->queries.at + a->from * b->rows.dim,
                           (idx_t)a->k, scores, found))
        die("FAISS: %s", faiss_get_last_error());
    omp_set_num_threads(1);
    openblas_set_num_threads(1);
    for (size_t n = 0; n < a->count; n++) {
        for (size_t i = 0; i < a->k && found[n * a->k + i] >= 0; i++) {
            const struct topk_hit h = {.score = (double)scores[n * a->k + i],
                                       .sequence = (uint64_t)found[n * a->k + i]};

            topk_offer(&a->pro[n], &h);
        }
        topk_sort(&a->pro[n]);
    }
    free(scores);
    free(found);
}

/* --- asked and answered ----------------------------------------------------------------------- */

static void print_lists(const char *name, const struct topk *t, size_t count, bool scores)
{
    printf(",\"%s\":[", name);
    for (size_t n = 0; n < count; n++) {
        printf("%s[", n ? "," : "");
        for (size_t i = 0; i < t[n].count; i++)
            if (scores)
                printf("%s%.17g", i ? "," : "", t[n].hits[i].score);
            else
                printf("%s%llu", i ? "," : "", (unsigned long long)t[n].hits[i].sequence);
        printf("]");
    }
    printf("]");
}

static void run(struct bench *b, struct ask *a)
{
    const double began = milliseconds();

    if (strcmp(a->engine, "faiss") == 0)
        search_faiss(b, a);
    else
        search(b, a);
    a->ms = milliseconds() - began;
}

static void lists_reset(struct ask *a)
{
    for (size_t n = 0; n < a->count; n++)
        a->pro[n].count = a->opp[n].count = 0;
    a->work = (struct engine_work){0};
}

/* What the engine needs before it can be timed. */
static void prepare(struct bench *b, struct ask *a)
{
    const double began = milliseconds();
    bool made = false;

    if (strcmp(a->engine, "faiss") == 0 && !b->faiss) {
        if (faiss_IndexFlatIP_new_with(&b->faiss, (idx_t)b->rows.dim) ||
            faiss_Index_add(b->faiss, (idx_t)b->rows.count, b->rows.at))
            die("FAISS: %s", faiss_get_last_error());
        made = true;
    } else if (strcmp(a->engine, "flat") == 0 && !b->flat) {
        b->flat = flat_new(UINT64_MAX / 2);
        made = true;
    } else if ((a->engine[0] == 'c' || a->engine[0] == 'p') && !b->tiers) {
        b->tiers = tiers_new(&b->rows, b->o->threads, b->o->delta ? strtod(b->o->delta, NULL) : 0);
        made = true;
    }
    b->made_ms = milliseconds() - began;
    if (made) {
        run(b, a);
        lists_reset(a);
    }
}

static void answer(struct bench *b, struct ask *a)
{
    a->pro = lists_new(a->count, a->k, TOPK_HIGHEST);
    a->opp = lists_new(a->count, a->opponents, TOPK_LOWEST);
    prepare(b, a);
    run(b, a);
    printf("{\"ms\":%.4f,\"made_ms\":%.1f", a->ms, b->made_ms);
    print_lists("ids", a->pro, a->count, false);
    print_lists("scores", a->pro, a->count, true);
    print_lists("low_ids", a->opp, a->count, false);
    print_lists("low_scores", a->opp, a->count, true);
    printf(",\"work\":{\"proposed\":%llu,\"exact\":%llu", (unsigned long long)a->work.rows_proposed,
           (unsigned long long)a->work.rows_exact);
    tiers_work_print(&a->work);
    printf("}}\n");
    fflush(stdout);
    lists_free(a->pro);
    lists_free(a->opp);
}

static bool ask_read(const struct bench *b, const char *line, struct ask *a)
{
    static const char *const engines[] = {"faiss", "scan", "flat", "certified", "probabilistic"};

    *a = (struct ask){0};
    if (sscanf(line, "%15s %zu %zu %zu %zu", a->engine, &a->from, &a->count, &a->k,
               &a->opponents) != 5 ||
        !a->count || a->from + a->count > b->queries.count || !a->k || a->k > b->rows.count)
        return false;
    for (size_t n = 0; n < sizeof engines / sizeof *engines; n++)
        if (strcmp(engines[n], a->engine) == 0)
            return true;
    return false;
}

static struct options options_read(int argc, char **argv)
{
    struct options o = {.dim = 16384, .count = 20000, .asked = 64, .chunk_mib = 32, .seed = 1,
                        .threads = (size_t)sysconf(_SC_NPROCESSORS_ONLN)};
    const struct {
        const char *name;
        const char **text;
        size_t *number;
    } v[] = {
        {"--rows", &o.rows, NULL},       {"--queries", &o.queries, NULL},
        {"--delta", &o.delta, NULL},     {"--dim", NULL, &o.dim},
        {"--count", NULL, &o.count},     {"--asked", NULL, &o.asked},
        {"--threads", NULL, &o.threads}, {"--chunk-mib", NULL, &o.chunk_mib},
        {"--seed", NULL, &o.seed},
    };

    for (int i = 1; i < argc; i += 2) {
        size_t n = 0;

        while (n < sizeof v / sizeof v[0] && strcmp(argv[i], v[n].name) != 0)
            n++;
        if (n == sizeof v / sizeof v[0] || i + 1 == argc)
            die("unknown or unfinished option %s", argv[i]);
        if (v[n].text)
            *v[n].text = argv[i + 1];
        else if ((*v[n].number = strtoull(argv[i + 1], NULL, 10)) == 0)
            die("%s %s: not a positive number", v[n].name, argv[i + 1]);
    }
    if (o.threads > MOST_THREADS || !o.rows != !o.queries)
        die("at most %d threads; --rows and --queries go together", MOST_THREADS);
    return o;
}

int main(int argc, char **argv)
{
    const struct options o = options_read(argc, argv);
    const size_t chunk = o.chunk_mib << 20, topics = o.count / 20 + 1;
    const uint32_t seed = (uint32_t)o.seed;
    struct bench b = {.o = &o};
    char line[256];

    keep_begin(); /* as the server does: a search's lists are not paid for again */
    kern_init(NULL);
    flat_thread_init();
    b.rows = o.rows ? rows_open(o.rows, o.dim, 0, chunk)
                    : rows_make(o.count, o.dim, topics, seed, o.threads, chunk);
    b.queries = o.queries ? rows_open(o.queries, o.dim, 0, chunk)
                          : rows_make(o.asked, o.dim, topics, seed + 1, o.threads, chunk);
    printf("{\"ready\":true,\"rows\":%zu,\"dim\":%zu,\"queries\":%zu,\"simd\":\"%s\","
           "\"kernels\":\"%s\",\"blas\":\"%s\"}\n", b.rows.count, o.dim, b.queries.count, kern->name, tiers_kernels(),
           openblas_get_corename());
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        struct ask a;

        if (!ask_read(&b, line, &a))
            die("not understood: %s", line);
        answer(&b, &a);
    }
    if (b.faiss)
        faiss_Index_free(b.faiss);
    if (b.flat)
        flat_free(b.flat);
    tiers_free(b.tiers);
    rows_free(&b.rows);
    rows_free(&b.queries);
    return 0;
}
