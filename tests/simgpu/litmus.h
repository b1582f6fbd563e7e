/*
 * What the kernels of tests/simgpu/kernels/litmus.cc are given: small tests of what weak memory
 * orders and what not.
 */
#ifndef LITMUS_H
#define LITMUS_H

#include <stdint.h>

enum {
    LITMUS_RELAXED,        /* the flag alone */
    /* a fence of this GPU's scope before the flag is stored, or after it is loaded */
    LITMUS_FENCE_GPU,
    LITMUS_FENCE_SYS,
    LITMUS_ORDERED         /* a release, or an acquire */
};

#define LITMUS_WORDS 64

/*
 * Round i = 1, 2, ...: one side makes all words i and then the flag, the other waits for the flag,
 * reads, and answers.
 */
typedef struct {
    uint32_t *words, *flag, *answer;
    uint32_t *old;          /* how many words of all rounds were not i */
    uint64_t *host_word;    /* litmus_end: made 1 after the words */
    uint32_t rounds;
    uint8_t how;
    /*
     * other threads than that of the flag store, or load, the words; 0: their barrier orders
     * nothing
     */
    uint8_t barrier;
} litmus_args_t;

#endif /* LITMUS_H */
