/*
 * Arguments of the test kernels; host code and kernels share this. Plain C and C++.
 */
#ifndef TEST_KERNEL_ARGS_H
#define TEST_KERNEL_ARGS_H

#include <stdint.h>

/*
 * fill_delay, spin and iota take the same: `address` has `count` 32-bit words, and spin leaves it
 * alone.
 */
typedef struct {
    uint32_t *address;
    uint64_t count;
    uint32_t value;
    uint32_t delay_us; /* that the kernel waits before it does anything */
} test_kernel_args_t;

#endif /* TEST_KERNEL_ARGS_H */
