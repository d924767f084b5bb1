/* metrics.c - see metrics.h. All numbers are relaxed atomics; nothing here locks or allocates after
 * metrics_new. */
#include "server/metrics.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/route.h"
#include "storage/base/mem.h"

enum { CLASSES = 5, BUCKETS = 14, SIZES = 9 };

/* Upper bounds in seconds: from a cached answer to a long scan, about three to the decade. */
static const double bucket_bound[BUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                             0.1,    0.25,  0.5,    1.0,   2.5,  10.0,  60.0};

struct route_numbers {
    _Atomic uint64_t by_class[CLASSES]; /* 1xx..5xx */
    _Atomic uint64_t bucket[BUCKETS + 1]; /* not cumulative; the last one is +Inf */
    _Atomic uint64_t nanoseconds;
};

struct metrics {
    _Atomic uint64_t number[METRIC_COUNT];
    _Atomic uint64_t scans[SIZES + 1]; /* by requests answered: 1, 2, 3-4, 5-8 ... 129-256, more */
    _Atomic uint64_t scan_requests;
    const struct route *routes;
    size_t route_count;
    struct route_numbers *per_route; /* route_count + 1: the last is "none" */
};

struct metrics *metrics_new(const struct route *routes, size_t count)
{
    struct metrics *m = mem_new(1, sizeof *m);

    m->routes = routes;
    m->route_count = count;
    m->per_route = mem_new(count + 1, sizeof *m->per_route);
    return m;
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    free(m->per_route);
    free(m);
}

void metrics_add(struct metrics *m, enum metric which, uint64_t n)
{
    atomic_fetch_add_explicit(&m->number[which], n, memory_order_relaxed);
}

void metrics_set(struct metrics *m, enum metric which, uint64_t value)
{
    atomic_store_explicit(&m->number[which], value, memory_order_relaxed);
}

uint64_t metrics_get(const struct metrics *m, enum metric which)
{
    return atomic_load_explicit(&m->number[which], memory_order_relaxed);
}

void metrics_request(struct metrics *m, const struct route *route, int status, uint64_t ns)
{
    size_t at = route ? (size_t)(route - m->routes) : m->route_count;
    struct route_numbers *r = &m->per_route[at <= m->route_count ? at : m->route_count];
    int class = status / 100;
    size_t b = 0;

    if (class >= 1 && class <= CLASSES)
        atomic_fetch_add_explicit(&r->by_class[class - 1], 1, memory_order_relaxed);
    while (b < BUCKETS && (double)ns / 1e9 > bucket_bound[b])
        b++;
    atomic_fetch_add_explicit(&r->bucket[b], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->nanoseconds, ns, memory_order_relaxed);
}

void metrics_scan(struct metrics *m, size_t requests)
{
    size_t at = 0;

    while (at < SIZES && requests > (size_t)1 << at)
        at++;
    atomic_fetch_add_explicit(&m->scans[at], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->scan_requests, requests, memory_order_relaxed);
}

static void describe(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void text_numbers(const struct metrics *m, struct buf *out)
{
    static const struct {
        const char *name, *type, *help;
        double factor;
    } row[METRIC_COUNT] = {
#define METRIC_ROW(NAME, word, kind, unit, text)                                                   \
    [METRIC_##NAME] = {.name = word, .type = kind, .help = text, .factor = unit},
        METRIC_LIST(METRIC_ROW)
#undef METRIC_ROW
    };

    for (int i = 0; i < METRIC_COUNT; i++) {
        uint64_t n = metrics_get(m, (enum metric)i);
        describe(out, row[i].name, row[i].type, row[i].help);
        if (row[i].factor < 1)
            buf_format(out, "%s %.9f\n", row[i].name, (double)n * row[i].factor);
        else
            buf_format(out, "%s %llu\n", row[i].name, (unsigned long long)n);
    }
}

static const char *route_label(const struct metrics *m, size_t i, const char **method)
{
    *method = i < m->route_count ? m->routes[i].method : "";
    return i < m->route_count ? m->routes[i].path : "none";
}

static void text_requests(const struct metrics *m, struct buf *out)
{
    static const char name[] = "ascribe_requests_total";

    describe(out, name, "counter", "Finished requests by route and status class");
    for (size_t i = 0; i <= m->route_count; i++) {
        const char *method, *path = route_label(m, i, &method);
        for (int c = 0; c < CLASSES; c++) {
            uint64_t n = atomic_load_explicit(&m->per_route[i].by_class[c], memory_order_relaxed);
            if (n)
                buf_format(out, "%s{method=\"%s\",route=\"%s\",class=\"%dxx\"} %llu\n", name,
                           method, path, c + 1, (unsigned long long)n);
        }
    }
}

/* Routes that were never asked for are left out. */
static void text_seconds(const struct metrics *m, struct buf *out)
{
    static const char name[] = "ascribe_request_seconds";

    describe(out, name, "histogram", "From the end of the head to the end of the reply");
    for (size_t i = 0; i <= m->route_count; i++) {
        const struct route_numbers *r = &m->per_route[i];
        const char *method, *path = route_label(m, i, &method);
        uint64_t seen = 0, all = 0;

        for (int b = 0; b <= BUCKETS; b++)
            all += atomic_load_explicit(&r->bucket[b], memory_order_relaxed);
        if (!all)
            continue;
        for (int b = 0; b < BUCKETS; b++) {
            seen += atomic_load_explicit(&r->bucket[b], memory_order_relaxed);
            buf_format(out, "%s_bucket{method=\"%s\",route=\"%s\",le=\"%g\"} %llu\n", name, method,
                       path, bucket_bound[b], (unsigned long long)seen);
        }
        buf_format(out, "%s_bucket{method=\"%s\",route=\"%s\",le=\"+Inf\"} %llu\n", name, method,
                   path, (unsigned long long)all);
        buf_format(out, "%s_sum{method=\"%s\",route=\"%s\"} %.6f\n", name, method, path,
                   (double)atomic_load_explicit(&r->nanoseconds, memory_order_relaxed) / 1e9);
        buf_format(out, "%s_count{method=\"%s\",route=\"%s\"} %llu\n", name, method, path,
                   (unsigned long long)all);
    }
}

static void text_scans(const struct metrics *m, struct buf *out)
{
    static const char name[] = "ascribe_scan_requests";
    uint64_t seen = 0;

    describe(out, name, "histogram", "Query requests that one scan answered");
    for (int i = 0; i <= SIZES; i++) {
        seen += atomic_load_explicit(&m->scans[i], memory_order_relaxed);
        if (i < SIZES)
            buf_format(out, "%s_bucket{le=\"%d\"} %llu\n", name, 1 << i, (unsigned long long)seen);
    }
    buf_format(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %llu\n%s_count %llu\n", name,
               (unsigned long long)seen, name,
               (unsigned long long)atomic_load_explicit(&m->scan_requests, memory_order_relaxed),
               name, (unsigned long long)seen);
}

void metrics_text(const struct metrics *m, struct buf *out)
{
    text_numbers(m, out);
    text_requests(m, out);
    text_seconds(m, out);
    text_scans(m, out);
}
