/* scrubber.h - the thread that reads the store's bytes again and again, at a bounded rate, so that
 * damage is found while a backup or the source of the rows is still there (storage/scrub.h).
 *
 * A pass begins a moment after the start and then once a day, or when the last one ended if that
 * took longer. What it finds is logged, counted, and left out of answers from then on. Lowest
 * priority.
 */
#ifndef SERVER_SCRUBBER_H
#define SERVER_SCRUBBER_H

#include <stdint.h>

struct metrics;
struct scrubber;
struct store;

/* `rate` in MiB a second of encodings; 0: none, and NULL. */
struct scrubber *scrubber_new(struct store *s, struct metrics *m, uint64_t rate);
void scrubber_free(struct scrubber *s); /* ends within one chunk's check; NULL is fine */

#endif
