/* partial.h - answering over what is left of a store with damage: nothing wrong, and nothing left
 * out in silence. Storage notes what it finds damaged (storage/corpus.h, corpus_view_sound); a
 * request that was first to meet it begins again on a view without it, and its answer names what is
 * missing. Reader threads. */
#ifndef SERVER_PARTIAL_H
#define SERVER_PARTIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/corpus.h"

struct job;

struct partial {
    uint64_t known; /* store_damage when the view was taken */
    unsigned tries;
    bool texts;      /* all texts will be read: a filter asks for their metas. May be set late */
    bool with_texts; /* it was when the view was taken */
};

/* The view to answer from; notes what was known when it was taken. */
const struct view *partial_view(struct job *j, struct partial *p, struct corpus *c);

/* After work on that view ended with `code`: is it worth another try? True when it met damage that
 * is known now and was not then. The error and what stood in the answer's body are gone then. */
bool partial_again(struct job *j, struct partial *p, int code);

/* For work that must read the whole corpus (`texts` too): DAMAGED, which names what is to be done,
 * when it is known that it cannot. */
int partial_refuse(struct corpus *c, bool texts, struct err *e);

/* Appends ,"partial":true,"damaged":{...} when the view leaves something out; else nothing. */
void partial_put(struct buf *b, const struct view *v);

#endif
