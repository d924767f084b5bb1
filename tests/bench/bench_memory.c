/* bench_memory.c - how fast this machine reads memory: the roof of every scan.
 *
 *   bench_memory [MIB] [ROUNDS] [THREADS]
 *
 * Each thread sums its share of a buffer far larger than the caches, eight cache lines in flight;
 * the widest vectors this processor has. Prints one line of JSON: GB/s, best and median of the
 * rounds, for one thread and for all.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/base/mem.h"
#include "tests/bench/rows.h"

enum { MOST_THREADS = 64, MOST_ROUNDS = 1000 };

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif

struct words {
    uint64_t w[64]; /* 512 bytes */
};

/* The sum keeps the reads; nobody needs it. */
WIDEST static uint64_t sum(const struct words *at, size_t count)
{
    uint64_t s[64] = {0}, all = 0;

    for (size_t n = 0; n < count; n++)
        for (size_t i = 0; i < 64; i++)
            s[i] += at[n].w[i];
    for (size_t i = 0; i < 64; i++)
        all += s[i];
    return all;
}

struct share {
    pthread_t thread;
    pthread_barrier_t *gate;
    const struct words *at;
    size_t count, rounds;
    uint64_t sum;
};

static void *reader(void *arg)
{
    struct share *s = arg;

    for (size_t r = 0; r < s->rounds; r++) {
        pthread_barrier_wait(s->gate);
        s->sum += sum(s->at, s->count);
        pthread_barrier_wait(s->gate);
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(const struct words *at, size_t count, size_t rounds, size_t threads)
{
    struct share s[MOST_THREADS];
    double took[MOST_ROUNDS];
    const double bytes = (double)(count / threads * threads * sizeof *at);
    pthread_barrier_t gate;
    uint64_t all = 0;

    pthread_barrier_init(&gate, NULL, (unsigned)threads + 1);
    for (size_t t = 0; t < threads; t++) {
        s[t] = (struct share){.gate = &gate, .at = at + count / threads * t,
                              .count = count / threads, .rounds = rounds};
        if (pthread_create(&s[t].thread, NULL, reader, &s[t]))
            die("no thread");
    }
    for (size_t r = 0; r < rounds; r++) {
        double began;

        pthread_barrier_wait(&gate);
        began = milliseconds();
        pthread_barrier_wait(&gate);
        took[r] = milliseconds() - began;
    }
    for (size_t t = 0; t < threads; t++) {
        pthread_join(s[t].thread, NULL);
        all += s[t].sum;
    }
    pthread_barrier_destroy(&gate);
    if (!all)
        die("the buffer is not what was written");
    qsort(took, rounds, sizeof *took, by_value);
    printf("\"threads_%zu\":{\"best\":%.2f,\"median\":%.2f}", threads, bytes / took[0] / 1e6,
           bytes / took[rounds / 2] / 1e6);
}

int main(int argc, char **argv)
{
    const size_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 1024;
    const size_t rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 9;
    const size_t threads = argc > 3 ? strtoull(argv[3], NULL, 10)
                                    : (size_t)sysconf(_SC_NPROCESSORS_ONLN);
    const size_t count = (mib << 20) / sizeof(struct words);
    struct words *at;

    if (!count || !rounds || rounds > MOST_ROUNDS || !threads || threads > MOST_THREADS)
        die("usage: bench_memory [MIB] [ROUNDS] [THREADS]");
    at = mem_big(count, sizeof *at);
    if (!at)
        die("no memory for %zu MiB", mib);
    memset(at, 0x5a, count * sizeof *at);
    printf("{\"bench\":\"memory\",\"mib\":%zu,\"rounds\":%zu,\"gb_s\":{", mib, rounds);
    measure(at, count, rounds, 1);
    if (threads > 1) {
        printf(",");
        measure(at, count, rounds, threads);
    }
    printf("}}\n");
    free(at);
    return 0;
}
