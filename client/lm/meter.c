/* meter.c - see meter.h. */
#include "client/lm/meter.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 24 };

double meter_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void meter_init(struct meter *m, const char *verb)
{
    *m = (struct meter){.verb = verb, .terminal = isatty(STDERR_FILENO), .start = meter_clock()};
}

static void draw(const struct meter *m, double share, double eta, double elapsed,
                 const struct meter_value *values, size_t count)
{
    const int full = (int)(share * BAR);

    fprintf(stderr, "\r%-7s [", m->verb);
    for (int i = 0; i < BAR; i++)
        fputc(i < full ? '#' : '.', stderr);
    fprintf(stderr, "] %3.0f%%", share * 100);
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, "  %s %.*f", values[i].name, values[i].decimals, values[i].value);
    if (share < 1)
        fprintf(stderr, "  %d:%02d left\033[K", (int)eta / 60, (int)eta % 60);
    else
        fprintf(stderr, "  %.1f s\033[K\n", elapsed);
}

static void print(const struct meter *m, double share, double eta, double elapsed,
                  const struct meter_value *values, size_t count)
{
    fprintf(stderr, "{\"verb\":\"%s\",\"progress\":%.4f,\"elapsed_s\":%.1f,\"eta_s\":%.0f", m->verb,
            share, elapsed, eta);
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, ",\"%s\":%.*f", values[i].name, values[i].decimals, values[i].value);
    fprintf(stderr, "}\n");
}

void meter_tell(struct meter *m, double share, const struct meter_value *values, size_t count)
{
    const double now = meter_clock(), elapsed = now - m->start;
    const double eta = share > 0 ? elapsed * (1 - share) / share : 0;

    if (share < 1 && now - m->told < (m->terminal ? 0.2 : 5.0))
        return;
    m->told = now;
    if (m->terminal)
        draw(m, share, eta, elapsed, values, count);
    else
        print(m, share, eta, elapsed, values, count);
}
