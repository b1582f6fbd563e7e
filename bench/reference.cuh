/*
 * How inference engines reduce: one copy of the input into memory that the peers have mapped, then
 * one kernel that pulls from all of them between two barriers. Written for comparison, after the
 * published description of the custom all-reduce of vLLM and SGLang, first version: block b of a
 * rank only ever meets blocks b of the others, flags are plain stores of a growing number, float
 * sums, one-shot for small messages and two-shot above.
 *
 * What makes it right: staging is written before the launch, on the same stream, and no rank's next
 * copy can start before the second barrier of its own kernel, that is, after all peers have read.
 * In two-shot the partial results of a call are overwritten only behind the first barrier of the
 * next, which peers reach when their kernels have ended.
 */
#include <car_primitives.cuh>

#include "bench_kernel_args.h"

/*
 * A peer that died must not leave kernels spinning: after this long the host is told, and the
 * result is wrong.
 */
#define BENCH_PATIENCE_NS 5000000000ull

/*
 * Relaxed as the engines have it, except between the two phases of two-shot, where data written
 * here is read there.
 */
CAR_DEVICE void bench_meet(const bench_reference_args_t &a, int kind, bool publishes)
{
    const uint64_t deadline = car_nanoseconds() + BENCH_PATIENCE_NS;
    const uint32_t r = car_thread();

    car_block_barrier();
    if (r < a.size) {
        uint32_t *theirs = &a.flags[r]->flag[kind][car_block()][a.rank];
        const uint32_t *mine = &a.flags[a.rank]->flag[kind][car_block()][r];
        if (publishes) {
            car_store_release_sys(theirs, a.call);
        } else {
            car_store_relaxed_sys(theirs, a.call);
        }
        while ((int32_t) ((publishes ? car_load_acquire_sys(mine) : car_load_relaxed_sys(mine))
                          - a.call)
               < 0) {
            car_pause();
            if (car_nanoseconds() > deadline) {
                car_store_relaxed_sys(a.failed, 1);
                break;
            }
        }
    }
    car_block_barrier();
}

typedef union {
    car_word16_t word;
    float element[4];
} bench_pack_t;

/*
 * The sum of one pack of all ranks, in rank order; all loads of four ranks are under way before the
 * first is used.
 */
CAR_DEVICE bench_pack_t bench_sum(const bench_reference_args_t &a, uint64_t pack)
{
    bench_pack_t sum, in[4];

    for (uint32_t base = 0; base < a.size; base += 4) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            if (base + i < a.size) {
                in[i].word = car_load((const car_word16_t *) a.staging[base + i] + pack);
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            if (0 == base + i) {
                sum = in[i];
            } else if (base + i < a.size) {
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    sum.element[k] += in[i].element[k];
                }
            }
        }
    }
    return sum;
}

/* The last pack of the output may be cut short. */
CAR_DEVICE void bench_put(const bench_reference_args_t &a, uint64_t pack, bench_pack_t value)
{
    if (4 * pack + 4 <= a.count) {
        car_store((car_word16_t *) a.output + pack, value.word);
        return;
    }
    for (uint64_t k = 4 * pack; k < a.count; ++k) {
        car_store(a.output + k, value.element[k - 4 * pack]);
    }
}

CAR_KERNEL(bench_reference_one_shot, bench_reference_args_t, a)
{
    const uint64_t packs = (a.count + 3) / 4,
                   stride = (uint64_t) car_blocks() * car_threads_per_block();

    bench_meet(a, 0, false);
    for (uint64_t i = (uint64_t) car_block() * car_threads_per_block() + car_thread(); i < packs;
         i += stride) {
        bench_put(a, i, bench_sum(a, i));
    }
    bench_meet(a, 1, false);
}

/*
 * Rank r folds packs [r share, (r + 1) share) of the message; a thread reads of each peer what its
 * equal there wrote.
 */
CAR_KERNEL(bench_reference_two_shot, bench_reference_args_t, a)
{
    const uint64_t packs = (a.count + 3) / 4, share = (packs + a.size - 1) / a.size;
    const uint64_t stride = (uint64_t) car_blocks() * car_threads_per_block();
    const uint64_t first = (uint64_t) car_block() * car_threads_per_block() + car_thread();

    bench_meet(a, 0, false);
    for (uint64_t i = first; i < share && a.rank * share + i < packs; i += stride) {
        car_store((car_word16_t *) a.partial[a.rank] + i, bench_sum(a, a.rank * share + i).word);
    }
    bench_meet(a, 1, true);
    for (uint64_t i = first; i < share; i += stride) {
        for (uint32_t k = 0; k < a.size; ++k) {
            const uint32_t r = (a.rank + k) % a.size;
            if (r * share + i < packs) {
                bench_pack_t sum;
                sum.word = car_load((const car_word16_t *) a.partial[r] + i);
                bench_put(a, r * share + i, sum);
            }
        }
    }
}
