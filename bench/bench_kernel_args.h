/* Arguments of the kernels in bench_kernels.cu and reference.cuh. */
#ifndef BENCH_KERNEL_ARGS_H
#define BENCH_KERNEL_ARGS_H

#include <stdint.h>

typedef struct {
    void *to;
    const void *from;
    uint64_t packs; /* of 16 bytes; bench_copy */
    uint32_t value; /* bench_flag: what it stores; bench_compute: steps */
} bench_kernel_args_t;

#define BENCH_MAX_RANKS 16
#define BENCH_REFERENCE_BLOCKS 36

#define BENCH_EXCHANGE_BYTES 16
#define BENCH_ROUNDS 101

/* bench_echo. */
typedef struct {
    const uint32_t *bell; /* mapped host memory */
    uint32_t *answer;     /* the same */
    /* the same: how many looks it took at the bell, and their nanoseconds, at the end */
    uint32_t *looks;
    uint32_t first;       /* what is waited for first; then one more each time */
    uint32_t rounds;
} bench_echo_args_t;

/* bench_exchange. An inbox has two slots of BENCH_MAX_RANKS packets, zero at first. */
typedef struct {
    char *inbox[BENCH_MAX_RANKS];
    void *to;
    uint32_t rank, size;
    uint32_t value;  /* what is stored to `to` at the end: the number of the call, which grows */
    uint32_t rounds; /* exchanges in this call; at most BENCH_ROUNDS */
} bench_exchange_args_t;

/* Only rank s writes flag[..][..][s], with the numbers of calls; zero at first. */
typedef struct {
    uint32_t flag[2][BENCH_REFERENCE_BLOCKS][BENCH_MAX_RANKS];
} bench_flags_t;

typedef struct {
    bench_flags_t *flags[BENCH_MAX_RANKS];
    const float *staging[BENCH_MAX_RANKS]; /* every rank's input */
    float *partial[BENCH_MAX_RANKS];       /* two-shot: every rank's sums of its share */
    float *output;
    uint32_t *failed; /* mapped host memory: set where a peer did not come */
    uint64_t count;   /* elements */
    uint32_t rank, size;
    uint32_t call;
} bench_reference_args_t;

#endif /* BENCH_KERNEL_ARGS_H */
