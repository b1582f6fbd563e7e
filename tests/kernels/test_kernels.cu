/*
 * Kernels of the tests, in the primitives of the component's own, so that simulated GPUs run them
 * too.
 */
#include <car_primitives.cuh>

#include "test_kernel_args.h"

CAR_DEVICE void wait_us(uint32_t microseconds)
{
    const uint64_t end = car_nanoseconds() + (uint64_t) microseconds * 1000;

    while (car_nanoseconds() < end) {
        car_pause();
    }
}

CAR_DEVICE uint64_t first_index()
{
    return (uint64_t) car_block() * car_threads_per_block() + car_thread();
}

CAR_DEVICE uint64_t stride()
{
    return (uint64_t) car_blocks() * car_threads_per_block();
}

/* Waits, then fills. */
CAR_KERNEL(fill_delay, test_kernel_args_t, args)
{
    wait_us(args.delay_us);
    for (uint64_t i = first_index(); i < args.count; i += stride()) {
        car_store(args.address + i, args.value);
    }
}

/* Keeps its blocks busy, touches nothing. */
CAR_KERNEL(spin, test_kernel_args_t, args)
{
    wait_us(args.delay_us);
}

/* Word i becomes value + i. */
CAR_KERNEL(iota, test_kernel_args_t, args)
{
    wait_us(args.delay_us);
    for (uint64_t i = first_index(); i < args.count; i += stride()) {
        car_store(args.address + i, args.value + (uint32_t) i);
    }
}
