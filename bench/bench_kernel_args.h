/* Arguments of the kernels in bench_kernels.cu. */
#ifndef BENCH_KERNEL_ARGS_H
#define BENCH_KERNEL_ARGS_H

#include <stdint.h>

typedef struct {
    void *to;
    const void *from;
    uint64_t packs; /* of 16 bytes; unused by bench_flag */
    uint32_t value; /* bench_flag: what it stores */
} bench_kernel_args_t;

#endif /* BENCH_KERNEL_ARGS_H */
