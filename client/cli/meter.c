/* meter.c - a rate smoothed over a few seconds. Pure arithmetic. */
#include "client/cli/meter.h"

#include <math.h>

/* Weight of the past falls to 1/e in so many seconds. */
#define METER_SECONDS 5.0

void meter_start(struct meter *m, uint64_t now_ms, uint64_t amount)
{
    *m = (struct meter){now_ms, now_ms, amount, amount, 0};
}

void meter_feed(struct meter *m, uint64_t now_ms, uint64_t amount)
{
    double seconds, now_rate, keep;

    if (now_ms <= m->last_ms || amount < m->last)
        return;
    seconds = (double)(now_ms - m->last_ms) / 1000;
    now_rate = (double)(amount - m->last) / seconds;
    /* While there is little past, the plain average is the better guess. */
    if ((double)(now_ms - m->first_ms) / 1000 < METER_SECONDS) {
        m->rate = (double)(amount - m->first) * 1000 / (double)(now_ms - m->first_ms);
    } else {
        keep = exp(-seconds / METER_SECONDS);
        m->rate = keep * m->rate + (1 - keep) * now_rate;
    }
    m->last_ms = now_ms;
    m->last = amount;
}

double meter_eta(const struct meter *m, uint64_t total)
{
    if (total <= m->last)
        return total == m->last ? 0 : -1;
    return m->rate > 0 ? (double)(total - m->last) / m->rate : -1;
}
