/* main.c - ascribe-lm, the reference language model: finds the verb, prints the error, sets the
 * exit code (0 done, 1 failed, 2 used wrongly). BLAS is held to one thread here, once: the verbs'
 * own threads are the parallelism. */
#include <cblas.h>
#include <stdio.h>
#include <string.h>

#include "client/lm/verb.h"

static const struct {
    const char *name;
    int (*run)(int argc, char *const argv[], struct err *e);
    const char *does;
} verb[] = {
    {"train", verb_train, "train a model on a corpus and save a checkpoint"},
    {"generate", verb_generate, "continue a prompt"},
    {"encode", verb_encode, "write the training examples' projected gradients as batch files"},
    {"query", verb_query, "write the projected gradients of prompts and their targets"},
    {"tail-patch", verb_tail_patch, "what a training step on a passage does to a target"},
    {"score", verb_score, "what the model knows: a target's likelihood and rank among candidates"},
    {"serve", verb_serve, "be the server's encoder: requests on stdin, answers on stdout"},
};

enum { VERBS = sizeof verb / sizeof verb[0] };

static void usage(FILE *out)
{
    fprintf(out, "ascribe-lm %s: a small language model whose gradients can be attributed\n\n"
                 "usage: ascribe-lm VERB --OPTION VALUE ...   (ascribe-lm VERB --help)\n\n",
            ASCRIBE_VERSION);
    for (size_t i = 0; i < VERBS; i++)
        fprintf(out, "  %-10s %s\n", verb[i].name, verb[i].does);
}

int main(int argc, char *argv[])
{
    struct err e = ERR_INIT;

    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("ascribe-lm %s\n", ASCRIBE_VERSION);
        return 0;
    }
    openblas_set_num_threads(1);
    for (size_t i = 0; i < VERBS; i++)
        if (strcmp(verb[i].name, argv[1]) == 0) {
            if (verb[i].run(argc - 2, argv + 2, &e) == 0)
                return 0;
            fprintf(stderr, "ascribe-lm %s: %s\n", argv[1], e.text);
            return e.code == ERR_INVALID ? 2 : 1;
        }
    fprintf(stderr, "ascribe-lm: no verb \"%s\" (ascribe-lm --help)\n", argv[1]);
    return 2;
}
