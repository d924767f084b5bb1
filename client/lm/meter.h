/* meter.h - tells how far a long verb is, on stderr: one line redrawn on a terminal, a JSON line
 * every few seconds otherwise. One thread at a time. */
#ifndef CLIENT_LM_METER_H
#define CLIENT_LM_METER_H

#include <stdbool.h>
#include <stddef.h>

struct meter {
    const char *verb;
    bool terminal;
    double start, told; /* seconds of the monotonic clock; told = 0 before the first line */
};

struct meter_value {
    const char *name;   /* JSON member, and the word on the terminal */
    double value;
    int decimals;
};

double meter_clock(void); /* seconds, monotonic */

void meter_init(struct meter *m, const char *verb);

/* share: done so far, 0 to 1; 1 always tells and ends the line, others only when the last is
 * old. */
void meter_tell(struct meter *m, double share, const struct meter_value *values, size_t count);

#endif
