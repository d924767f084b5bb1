/* rank.h - what a list of answers is worth: MRR, Recall@10 and Precision@10 of one list, their
 * means over queries, and bootstrap intervals. Pure arithmetic: no I/O, no clock; any thread.
 *
 * The figures are those of the viewer that the authors of TrackStar published with their results
 * (PAIR, pretraining-tda, demo/metrics.ts), down to what a short list counts.
 */
#ifndef CLIENT_CLI_RANK_H
#define CLIENT_CLI_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rank_figure { RANK_MRR, RANK_RECALL, RANK_PRECISION, RANK_FIGURES };

/* How far Recall@10 and Precision@10 look. */
enum { RANK_DEPTH = 10 };

/* "mrr", "recall@10", "precision@10": static strings. */
const char *rank_name(enum rank_figure f);

struct rank_score {
    double of[RANK_FIGURES];
};

/* The figures of one list, best first; correct[i]: is the answer at rank i + 1 a right one?
 *   MRR           1 / (rank of the first right one), 0 if there is none in the list
 *   Recall@10     1 if any of the first ten is right, else 0: not a share of the gold
 *   Precision@10  right ones among the first ten / 10; a list of fewer than ten counts 0 */
void rank_score(const bool *correct, size_t count, struct rank_score *out);

/* A mean and its 95 % interval; without resamples, or without queries, low and high are NaN. */
struct rank_span {
    double mean, low, high;
};

struct rank_summary {
    size_t count; /* queries */
    struct rank_span of[RANK_FIGURES];
};

/* Means over `count` queries (0: NaN), and percentile bootstrap intervals (Efron and Tibshirani, An
 * Introduction to the Bootstrap, 1993, chapter 13): `resamples` times `count` queries are drawn
 * with replacement, the three figures of a query together, and the 2.5th and 97.5th percentile of
 * the means are taken. The same input and seed give the same bits everywhere. False: no memory. */
bool rank_summarise(const struct rank_score *list, size_t count, unsigned resamples, uint64_t seed,
                    struct rank_summary *out);

/* splitmix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014). */
uint64_t rank_random(uint64_t *state);
/* An unbiased number below n, n > 0 (Lemire, Fast Random Integer Generation in an Interval, 2019).
 */
uint64_t rank_below(uint64_t *state, uint64_t n);
/* The p-quantile of ascending values, between two by linear interpolation at p (n - 1) (type 7 of
 * Hyndman and Fan, Sample Quantiles in Statistical Packages, 1996; numpy's default). count > 0. */
double rank_quantile(const double *sorted, size_t count, double p);

#endif
