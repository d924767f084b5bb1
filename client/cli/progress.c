/* progress.c - the bar and the lines. One thread. */
#include "client/cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void progress_start(struct progress *p, const char *what, bool quiet)
{
    *p = (struct progress){.what = what, .start_ms = now_ms()};
    p->bar = !quiet && isatty(STDERR_FILENO);
    p->lines = !quiet && !p->bar;
    meter_start(&p->meter, p->start_ms, 0);
}

double progress_seconds(const struct progress *p)
{
    return (double)(now_ms() - p->start_ms) / 1000;
}

static double fraction_of(const struct progress_state *s)
{
    double f = s->fraction;

    if (f < 0)
        f = s->bytes_total ? (double)s->bytes / (double)s->bytes_total : -1;
    return f > 1 ? 1 : f;
}

void progress_text(const char *what, const struct progress_state *s, double rate, double eta_s,
                   unsigned columns, char *out, size_t cap)
{
    char tail[200] = "", bar[64] = "", a[32], b[32], c[32], d[32];
    double f = fraction_of(s);
    size_t at = 0, used, room;

    if (f >= 0)
        at += (size_t)snprintf(tail + at, sizeof tail - at, " %3.0f%%", floor(f * 100));
    if (s->bytes > 0 || s->bytes_total > 0)
        at += (size_t)snprintf(tail + at, sizeof tail - at, "  %s%s%s",
                               out_bytes((double)s->bytes, a), s->bytes_total ? " of " : "",
                               s->bytes_total ? out_bytes((double)s->bytes_total, b) : "");
    if (s->rows_total > 0)
        at += (size_t)snprintf(tail + at, sizeof tail - at, "  %s rows", out_count(s->rows, c));
    if (rate > 0)
        at += (size_t)snprintf(tail + at, sizeof tail - at, "  %s/s", out_bytes(rate, d));
    if (f >= 0 && f < 1)
        snprintf(tail + at, sizeof tail - at, "  ETA %s", out_duration(eta_s, a));
    used = strlen(what) + strlen(tail) + 4;
    room = columns > used ? columns - used : 0;
    if (room > 40)
        room = 40;
    if (f >= 0 && room >= 8) {
        size_t full = (size_t)(f * (double)room);

        memset(bar, '#', full);
        memset(bar + full, '-', room - full);
        bar[room] = '\0';
        snprintf(out, cap, "%s [%s]%s", what, bar, tail);
    } else {
        snprintf(out, cap, "%s%s%s", what, f >= 0 ? "" : " ", tail);
    }
    if (s->note) {
        used = strlen(out);
        snprintf(out + used, cap - used, "  %s", s->note);
    }
}

static void draw_bar(struct progress *p, const struct progress_state *s, double rate, double eta)
{
    char text[512], line[512];
    unsigned columns = term_columns(STDERR_FILENO);

    progress_text(p->what, s, rate, eta, columns, text, sizeof text);
    term_line(text, strlen(text), columns > 1 ? columns - 1 : 79, line, sizeof line);
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    p->drawn = true;
}

static void draw_line(const struct progress *p, const struct progress_state *s, double rate,
                      double eta)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:f}", "event", "progress", "what", p->what, "bytes",
                          (json_int_t)s->bytes, "elapsed_s", progress_seconds(p));
    double f = fraction_of(s);
    char *text;

    if (!o)
        return;
    if (s->bytes_total)
        json_object_set_new(o, "bytes_total", json_integer((json_int_t)s->bytes_total));
    if (s->rows_total) {
        json_object_set_new(o, "rows", json_integer((json_int_t)s->rows));
        json_object_set_new(o, "rows_total", json_integer((json_int_t)s->rows_total));
    }
    json_object_set_new(o, "progress", f >= 0 ? json_real(f) : json_null());
    json_object_set_new(o, "rate", rate > 0 ? json_real(rate) : json_null());
    json_object_set_new(o, "eta_s", eta >= 0 ? json_real(eta) : json_null());
    text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (text)
        fprintf(stderr, "%s\n", text);
    free(text);
    json_decref(o);
}

void progress_show(struct progress *p, const struct progress_state *s, bool last)
{
    uint64_t now = now_ms();
    double rate, eta;

    if ((!p->bar && !p->lines) || (!last && now - p->drawn_ms < (p->bar ? 100 : 1000)))
        return;
    p->drawn_ms = now;
    meter_feed(&p->meter, now, s->bytes);
    rate = s->rate >= 0 ? s->rate : p->meter.rate;
    eta = s->eta_s >= 0 ? s->eta_s : s->bytes_total ? meter_eta(&p->meter, s->bytes_total) : -1;
    if (p->bar)
        draw_bar(p, s, rate, eta);
    else
        draw_line(p, s, rate, eta);
}

void progress_end(struct progress *p)
{
    if (p->drawn)
        fputc('\n', stderr);
    p->drawn = false;
}
