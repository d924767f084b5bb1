/* flat.c - engine `flat`: one FAISS index a chunk, in a cache; FAISS proposes, certify.c makes the
 * answer exact. The only file that names faiss_.
 *
 * Indexes are immutable once built and searched without a lock by any number of threads. FAISS runs
 * on the calling thread alone; parallelism is the caller's, over chunks.
 */
#include "index/flat.h"

#include <cblas.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/error_c.h>
#include <pthread.h>
#include <stdlib.h>

#include "index/cache.h"
#include "index/certify.h"
#include "index/exact.h"
#include "index/kern.h"
#include "storage/base/mem.h"

/* libgomp's; <omp.h> belongs to the compiler, and not every one brings it. */
void omp_set_num_threads(int count);
/* OpenBLAS's; other CBLAS libraries have no such header entry. */
void openblas_set_num_threads(int count);

struct flat {
    struct cache *cache;
};

/* One chunk's FAISS index, never changed after it is built. */
struct proposer {
    FaissIndexFlatIP *faiss; /* owned */
    double longest;          /* upper bound on the length of its rows */
};

static void proposer_free(void *thing)
{
    struct proposer *p = thing;

    if (p && p->faiss)
        faiss_Index_free(p->faiss);
    free(p);
}

struct flat *flat_new(uint64_t budget_bytes)
{
    struct flat *f = mem_new(1, sizeof *f);

    f->cache = cache_new(budget_bytes, proposer_free);
    return f;
}

void flat_free(struct flat *f)
{
    if (f)
        cache_free(f->cache);
    free(f);
}

uint64_t flat_bytes(struct flat *f)
{
    return cache_bytes(f->cache);
}

void flat_forget(struct flat *f, uint64_t key)
{
    cache_forget(f->cache, key);
}

static void blas_alone(void)
{
    openblas_set_num_threads(1); /* for the whole process */
}

void flat_thread_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, blas_alone);
    omp_set_num_threads(1); /* for this thread */
}

/* --- proposers ------------------------------------------------------------------------------- */

/* A standard exception is std::bad_alloc, whose name the C API may lose (1.7.3 slices it). */
static int faiss_failed(int code, const char *what, const struct engine_block *b, struct err *e)
{
    const char *why = faiss_get_last_error();

    if (code == STD_EXCEPT)
        return err_set(e, ERR_BUSY, "no memory for FAISS to %s chunk %llu (%u rows)", what,
                       (unsigned long long)b->key, b->rows);
    return err_set(e, ERR_INTERNAL, "FAISS failed to %s chunk %llu (%u rows): %s", what,
                   (unsigned long long)b->key, b->rows, why ? why : "no reason given");
}

/* All rows in one call, since FAISS doubles its memory when it grows. It copies them bytewise. */
static int faiss_fill(struct proposer *p, const struct engine_source *src,
                      const struct engine_block *b, struct err *e)
{
    const size_t count = (size_t)b->rows * src->dim;
    const float *rows = b->encodings;
    float *wide = NULL;
    int failed;

    if (src->dtype != DTYPE_F32) {
        rows = wide = mem_big(count, sizeof *wide);
        if (!wide)
            return err_set(e, ERR_BUSY, "no memory to widen chunk %llu (%u rows of %zu)",
                           (unsigned long long)b->key, b->rows, src->dim);
        if (src->dtype == DTYPE_F16)
            kern->widen_f16(b->encodings, count, wide);
        else
            kern->widen_bf16(b->encodings, count, wide);
    }
    failed = faiss_Index_add(p->faiss, b->rows, rows);
    free(wide);
    return failed ? faiss_failed(failed, "index", b, e) : 0;
}

static struct proposer *proposer_new(const struct engine_source *src, const struct engine_block *b,
                                     struct err *e)
{
    struct proposer *p = mem_new(1, sizeof *p);
    int failed;

    p->longest = exact_longest(src->dtype, b->encodings, b->rows, src->dim);
    failed = faiss_IndexFlatIP_new_with(&p->faiss, (idx_t)src->dim);
    if (failed) {
        p->faiss = NULL;
        faiss_failed(failed, "index", b, e);
    } else if (!faiss_fill(p, src, b, e)) {
        return p;
    }
    proposer_free(p);
    return NULL;
}

/* What a search's proposer needs to know. */
struct asking {
    struct flat *f;
    uint64_t round;
};

static int hold(void *arg, const struct engine_source *src, const struct engine_block *b,
                bool build, struct certify_held *held, struct err *e)
{
    const struct asking *a = arg;
    const uint64_t bytes = (uint64_t)b->rows * src->dim * sizeof(float) + sizeof(struct proposer);
    struct cache_item *item;
    struct proposer *p = NULL;

    *held = (struct certify_held){0};
    switch (cache_take(a->f->cache, a->round, b->key, bytes, &item)) {
    case CACHE_READY:
        p = cache_thing(item);
        break;
    case CACHE_BUILD:
        p = proposer_new(src, b, e);
        cache_built(a->f->cache, item, p);
        if (!p)
            return (int)e->code; /* and the cache has dropped the item */
        break;
    case CACHE_NO_ROOM:
        if (!build)
            return 0;
        p = proposer_new(src, b, e);
        if (!p)
            return (int)e->code;
        break;
    }
    *held = (struct certify_held){.index = p, .item = item, .longest = p->longest};
    return 0;
}

static void release(void *arg, struct certify_held *held)
{
    const struct asking *a = arg;

    if (held->item)
        cache_release(a->f->cache, held->item);
    else
        proposer_free(held->index);
}

/* A search in FAISS allocates where it may not fail: inside a parallel region, which no exception
 * leaves, and in libgomp, which ends the process. So there must be room, and some to spare. */
static bool is_room(size_t count, size_t depth)
{
    const size_t pair = sizeof(float) + sizeof(int64_t), more = 64 << 10;
    void *p = mem_big(count * depth * pair + more, 1);

    free(p);
    return p != NULL;
}

static int ask(const struct certify_held *held, const struct engine_block *b, const float *vectors,
               size_t count, size_t depth, float *scores, int64_t *rows, struct err *e)
{
    const struct proposer *p = held->index;
    int failed;

    if (!is_room(count, depth))
        return err_set(e, ERR_BUSY, "no memory for FAISS to search chunk %llu (%u rows)",
                       (unsigned long long)b->key, b->rows);
    failed = faiss_Index_search(p->faiss, (idx_t)count, vectors, (idx_t)depth, scores, rows);
    return failed ? faiss_failed(failed, "search", b, e) : 0;
}

/* --- searching ------------------------------------------------------------------------------- */

int flat_search(struct flat *f, const struct engine_source *src, const struct engine_query *q,
                _Atomic size_t *next, struct topk *pro, struct topk *opp, struct engine_work *work,
                struct err *e)
{
    struct asking a = {.f = f, .round = cache_round(f->cache)};
    const struct certify_proposer by = {.arg = &a, .hold = hold, .release = release, .ask = ask};

    return certify_search(&by, src, q, next, pro, opp, work, e);
}

int flat_search_plain(const struct engine_source *src, const struct engine_query *q,
                      _Atomic size_t *next, struct topk *pro, struct topk *opp,
                      struct engine_work *work, struct err *e)
{
    size_t i;

    if (!q->count || (!q->k && !q->opponents))
        return 0;
    while ((i = (*next)++) < src->count) {
        struct engine_block b;

        if (src->cancelled && src->cancelled(src->arg))
            return err_set(e, ERR_CANCELLED, "search cancelled after %zu of %zu chunks", i,
                           src->count);
        if (src->open(src->arg, i, &b, e))
            return (int)e->code;
        work->rows_exact += exact_block(src, &b, i, q, NULL, pro, opp);
        work->blocks++;
        src->close(src->arg, &b);
    }
    return 0;
}
