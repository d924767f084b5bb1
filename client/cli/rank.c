/* rank.c - sums are taken in the order of the queries, so that equal input gives equal bits. */
#include "client/cli/rank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *rank_name(enum rank_figure f)
{
    static const char *const names[RANK_FIGURES] = {"mrr", "recall@10", "precision@10"};

    return names[f];
}

void rank_score(const bool *correct, size_t count, struct rank_score *out)
{
    size_t first = count, near = 0;

    for (size_t i = count; i-- > 0;) {
        if (!correct[i])
            continue;
        first = i;
        near += i < RANK_DEPTH;
    }
    out->of[RANK_MRR] = first < count ? 1 / (double)(first + 1) : 0;
    out->of[RANK_RECALL] = near > 0 ? 1 : 0;
    out->of[RANK_PRECISION] = count >= RANK_DEPTH ? (double)near / RANK_DEPTH : 0;
}

uint64_t rank_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The high and low half of a product of 64 by 64 bits. */
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t *low)
{
    __extension__ unsigned __int128 m = (unsigned __int128)a * b;

    *low = (uint64_t)m;
    return (uint64_t)(m >> 64);
}

uint64_t rank_below(uint64_t *state, uint64_t n)
{
    uint64_t low, high = multiply(rank_random(state), n, &low), least;

    if (low >= n)
        return high;
    least = -n % n; /* 2^64 mod n: products below it would make some numbers likelier */
    while (low < least)
        high = multiply(rank_random(state), n, &low);
    return high;
}

double rank_quantile(const double *sorted, size_t count, double p)
{
    double at = p * (double)(count - 1), part;
    size_t i = (size_t)at;

    if (i + 1 >= count)
        return sorted[count - 1];
    part = at - (double)i;
    return sorted[i] + part * (sorted[i + 1] - sorted[i]);
}

static int ascending(const void *a, const void *b)
{
    double x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* The means of one resample into means[f][at], `stride` values a figure. */
static void resample(const struct rank_score *list, size_t count, uint64_t *state, double *means,
                     size_t stride, size_t at)
{
    double sum[RANK_FIGURES] = {0};

    for (size_t i = 0; i < count; i++) {
        const struct rank_score *s = &list[rank_below(state, count)];

        for (int f = 0; f < RANK_FIGURES; f++)
            sum[f] += s->of[f];
    }
    for (size_t f = 0; f < RANK_FIGURES; f++)
        means[f * stride + at] = sum[f] / (double)count;
}

bool rank_summarise(const struct rank_score *list, size_t count, unsigned resamples, uint64_t seed,
                    struct rank_summary *out)
{
    uint64_t state = seed;
    double *means;

    *out = (struct rank_summary){.count = count};
    for (int f = 0; f < RANK_FIGURES; f++) {
        double sum = 0;

        for (size_t i = 0; i < count; i++)
            sum += list[i].of[f];
        out->of[f] = (struct rank_span){sum / (double)count, (double)NAN, (double)NAN};
    }
    if (count == 0 || resamples == 0)
        return true;
    means = calloc((size_t)resamples * RANK_FIGURES, sizeof *means);
    if (!means)
        return false;
    for (unsigned b = 0; b < resamples; b++)
        resample(list, count, &state, means, resamples, b);
    for (size_t f = 0; f < RANK_FIGURES; f++) {
        double *of = means + f * resamples;

        qsort(of, resamples, sizeof *of, ascending);
        out->of[f].low = rank_quantile(of, resamples, 0.025);
        out->of[f].high = rank_quantile(of, resamples, 0.975);
    }
    free(means);
    return true;
}
