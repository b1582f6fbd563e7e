/*
 * What the machine gives, for car_bench to compare with: the least that a kernel can do and say so,
 * and copies over a link; a computation for it to be busy with; and the reference's kernels.
 * Written in the primitives of the component's kernels.
 */
#include <car_primitives.cuh>

#include "bench_kernel_args.h"
#include "reference.cuh"

/* The floor: stores 4 bytes into mapped host memory, relaxed, and ends. */
CAR_KERNEL(bench_flag, bench_kernel_args_t, a)
{
    if (0 == car_thread()) {
        car_store_relaxed_sys((uint32_t *) a.to, a.value);
    }
}

/*
 * The least that an exchange can do, again and again: every rank sends 16 bytes to every other and
 * waits for theirs, thread r for those of rank r; then as above. A slot is written again only
 * behind a packet from its reader, sent after it was read.
 */
CAR_KERNEL(bench_exchange, bench_exchange_args_t, a)
{
    const uint32_t r = car_thread();

    for (uint32_t k = 0; k < a.rounds; ++k) {
        const uint32_t number = a.value * BENCH_ROUNDS + k;
        const uint64_t slot = (uint64_t) (number % 2) * BENCH_MAX_RANKS;
        if (r < a.size && r != a.rank) {
            car_word16_t packet;
            uint64_t deadline = 0;
            uint32_t turns = 0;
            packet.w[0] = packet.w[1] = packet.w[2] = packet.w[3] = number;
            car_store_packet((car_word16_t *) a.inbox[r] + slot + a.rank, packet);
            for (;;) {
                packet = car_load_packet((const car_word16_t *) a.inbox[a.rank] + slot + r);
                if (packet.w[3] == number) {
                    break;
                }
                car_pause();
                if (0 == (++turns & 4095)) {
                    const uint64_t now = car_nanoseconds();
                    deadline = 0 == deadline ? now + BENCH_PATIENCE_NS : deadline;
                    if (now > deadline) {
                        return; /* a peer has died; the host waits for ever, as for any dead peer */
                    }
                }
            }
        }
        car_block_barrier();
    }
    if (0 == car_thread()) {
        car_store_relaxed_sys((uint32_t *) a.to, a.value);
    }
}

/*
 * Answers what the host writes, again and again: all that a kernel can do which is there already
 * and moves no data. In the end it tells how long it has looked, and how often.
 */
CAR_KERNEL(bench_echo, bench_echo_args_t, a)
{
    uint32_t looks = 0, looked_ns = 0;

    if (0 != car_thread()) {
        return;
    }
    for (uint32_t k = 0; k < a.rounds; ++k) {
        const uint64_t start = car_nanoseconds();
        uint64_t now = start;
        bool heard = false;
        while (!heard && now - start < BENCH_PATIENCE_NS) {
            heard = car_load_acquire_sys(a.bell) == a.first + k;
            now = car_nanoseconds();
            ++looks;
            car_pause();
        }
        if (!heard) {
            return;
        }
        looked_ns += (uint32_t) (now - start);
        car_store_relaxed_sys(a.answer, a.first + k);
    }
    car_store_relaxed_sys(a.looks, looks);
    car_store_relaxed_sys(a.looks + 1, looked_ns);
}

/*
 * Copies packs; which side is the peer's decides whether the link carries reads or writes. Four
 * loads in flight.
 */
CAR_KERNEL(bench_copy, bench_kernel_args_t, a)
{
    const uint64_t stride = (uint64_t) car_blocks() * car_threads_per_block();
    const car_word16_t *from = (const car_word16_t *) a.from;
    car_word16_t *to = (car_word16_t *) a.to;
    uint64_t i = (uint64_t) car_block() * car_threads_per_block() + car_thread();

    for (; i + 3 * stride < a.packs; i += 4 * stride) {
        car_word16_t w[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            w[k] = car_load(from + i + k * stride);
        }
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            car_store(to + i + k * stride, w[k]);
        }
    }
    for (; i < a.packs; i += stride) {
        car_store(to + i, car_load(from + i));
    }
}

/*
 * A computation of `value` steps in registers; every thread stores one number, so that no compiler
 * leaves it out.
 */
CAR_KERNEL(bench_compute, bench_kernel_args_t, a)
{
    const uint64_t i = (uint64_t) car_block() * car_threads_per_block() + car_thread();
    float x = (float) i;

    for (uint32_t k = 0; k < a.value; ++k) {
        x = x * 0.5f + 1.0f;
    }
    car_store((float *) a.to + i, x);
}
