/* Kernels of the self-test: what is ordered, and what may be seen not to be. Blocks of any size, grids of one block. */
#include <car_primitives.cuh>

#include "litmus.h"

CAR_DEVICE void gather(const litmus_args_t &a)
{
    (void) simgpu_barrier(true, 0 != a.barrier);
}

CAR_DEVICE void fence(uint8_t how)
{
    if (LITMUS_FENCE_GPU == how) {
        car_fence_gpu();
    } else if (LITMUS_FENCE_SYS == how) {
        car_fence_sys();
    }
}

/* By all threads but thread 0, which keeps to the flags, unless it is alone. */
template <class F> CAR_DEVICE void each_word(const F &f)
{
    const uint32_t workers = car_threads_per_block() > 1 ? car_threads_per_block() - 1 : 1;
    const uint32_t me = car_threads_per_block() > 1 ? car_thread() - 1 : 0;

    for (uint32_t i = me; i < LITMUS_WORDS; i += workers) { /* thread 0 of many begins beyond all words */
        f(i);
    }
}

CAR_KERNEL(litmus_send, litmus_args_t, a)
{
    for (uint32_t round = 1; round <= a.rounds; ++round) {
        each_word([&](uint32_t i) { car_store(a.words + i, round); });
        gather(a);
        if (0 == car_thread()) {
            fence(a.how);
            if (LITMUS_ORDERED == a.how) {
                car_store_release_sys(a.flag, round);
            } else {
                car_store_relaxed_sys(a.flag, round);
            }
            while (car_load_acquire_sys(a.answer) < round) {
                car_pause();
            }
        }
        car_block_barrier();
    }
}

CAR_KERNEL(litmus_receive, litmus_args_t, a)
{
    uint32_t old = 0;

    for (uint32_t round = 1; round <= a.rounds; ++round) {
        if (0 == car_thread()) {
            while ((LITMUS_ORDERED == a.how ? car_load_acquire_sys(a.flag) : car_load_relaxed_sys(a.flag)) < round) {
                car_pause();
            }
            fence(a.how);
        }
        gather(a);
        each_word([&](uint32_t i) { old += car_load(a.words + i) != round; });
        car_block_barrier();
        if (0 == car_thread()) {
            car_store_release_sys(a.answer, round);
        }
    }
    (void) car_atomic_add_gpu(a.old, old);
}

/* What a kernel has stored when the host hears of its end. */
CAR_KERNEL(litmus_end, litmus_args_t, a)
{
    each_word([&](uint32_t i) { car_store(a.words + i, a.rounds); });
    gather(a);
    if (0 == car_thread()) {
        fence(a.how);
        car_store_relaxed_sys64(a.host_word, a.rounds);
    }
}
