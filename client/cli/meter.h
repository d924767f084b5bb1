/* meter.h - how fast something goes and when it will be done. No I/O and no clock of its own. */
#ifndef CLIENT_CLI_METER_H
#define CLIENT_CLI_METER_H

#include <stdint.h>

/* A rate that follows changes within a few seconds and does not jump about. */
struct meter {
    uint64_t first_ms, last_ms;
    uint64_t first, last; /* amounts at those times */
    double rate;          /* a second; 0 until two points are known */
};

void meter_start(struct meter *m, uint64_t now_ms, uint64_t amount);
/* Feeds the amount done by now. An amount that went back (a retry) or equal times change nothing.
 */
void meter_feed(struct meter *m, uint64_t now_ms, uint64_t amount);
/* Seconds left to `total`; -1 when it cannot be known. */
double meter_eta(const struct meter *m, uint64_t total);

#endif
