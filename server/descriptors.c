/* descriptors.c - see descriptors.h. */
#include "server/descriptors.h"

#include <dirent.h>
#include <sys/resource.h>

#include "server/log.h"

/* For what is opened later: the loop's and the threads' own, a shard that is begun (its
 * environment, and the one a compaction writes), the text index, a backup. */
enum { RESERVE = 64 };

/* Wanted beyond that where it is allowed: some hundred shards more. */
enum { COMFORT = 448 };

/* Fewer are of no use: an operator's, a scraper's, and some for whom the server is there. */
enum { CONNECTIONS_MIN = 8 };

/* Descriptors that are open now. Where there is no /proc, as many as a small store has. */
static rlim_t open_now(void)
{
    DIR *d = opendir("/proc/self/fd");
    rlim_t n = 0;

    if (!d)
        return 32;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 3; /* the two dots and the folder's own */
}

int descriptors_fit(uint64_t wanted, uint64_t *connections, struct err *e)
{
    rlim_t taken = open_now() + RESERVE, want = taken + COMFORT + wanted;
    struct rlimit r;

    *connections = wanted;
    if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur >= want)
        return 0;
    r.rlim_cur = want < r.rlim_max ? want : r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r))
        getrlimit(RLIMIT_NOFILE, &r);
    if (r.rlim_cur >= taken + wanted)
        return 0;
    if (r.rlim_cur < taken + CONNECTIONS_MIN)
        return err_set(e, ERR_INVALID,
                       "descriptors: %llu open files are allowed (ulimit -n, LimitNOFILE=), the "
                       "store "
                       "and %d connections need %llu",
                       (unsigned long long)r.rlim_cur, CONNECTIONS_MIN,
                       (unsigned long long)(taken + CONNECTIONS_MIN));
    *connections = r.rlim_cur - taken;
    log_note(LOG_WARN, "descriptors",
             "%llu open files are allowed (ulimit -n, LimitNOFILE=): %llu connections instead of "
             "%llu",
             (unsigned long long)r.rlim_cur, (unsigned long long)*connections,
             (unsigned long long)wanted);
    return 0;
}
