/*
 * Waiting, and nothing but waiting: flags between equal blocks of all ranks, the bound of every
 * wait, how a block leaves and comes back, and how the host learns of the end. docs/protocol.md has
 * the invariants.
 */
#ifndef CAR_SYNC_CUH
#define CAR_SYNC_CUH

#include <car_primitives.cuh>

#include "car_kernel_args.h"

/*
 * A bound on one wait. The clock is read only every 64 turns: most waits end before the first
 * reading.
 */
struct car_patience {
    uint64_t deadline;
    uint32_t turns;
};

CAR_DEVICE car_patience car_patience_new()
{
    car_patience p;
    p.deadline = 0;
    p.turns = 0;
    return p;
}

/* Called after each look that failed; false once the wait has lasted longer than allowed. */
CAR_DEVICE bool car_patience_left(car_patience &p, uint32_t spin_ns)
{
    car_pause();
    if (0 != (++p.turns & 63)) {
        return true;
    }
    const uint64_t now = car_nanoseconds();
    if (0 == p.deadline) {
        p.deadline = now + spin_ns;
    }
    return now < p.deadline;
}

/*
 * The i-th peer of this rank, from 1. Each rank begins with its successor, so they do not all write
 * to the same GPU at once.
 */
CAR_DEVICE uint32_t car_peer(const car_kernel_args_t &a, uint32_t i)
{
    return a.rank + i < a.size ? a.rank + i : a.rank + i - a.size;
}

CAR_DEVICE car_flags_t *car_flags(const car_kernel_args_t &a, uint32_t rank)
{
    return (car_flags_t *) a.piece[rank];
}

/*
 * Tells the equal blocks of all peers that what this block's threads have stored so far is there
 * for `epoch`. The barrier gathers the stores of all threads; the release at system scope publishes
 * them.
 */
CAR_DEVICE void car_signal(const car_kernel_args_t &a, int kind, uint32_t epoch)
{
    car_block_barrier();
    for (uint32_t r = car_thread(); r < a.size; r += car_threads_per_block()) {
        if (r != a.rank) {
            car_store_release_sys(&car_flags(a, r)->flag[kind][car_block()][a.rank], epoch);
        }
    }
}

/*
 * Waits until the equal blocks of all peers have signalled `epoch` or a later one; false, on all
 * threads of the block, if that lasts too long. One thread per peer acquires; the barrier hands
 * what it saw to the others.
 */
CAR_DEVICE bool car_wait(const car_kernel_args_t &a, int kind, uint32_t epoch)
{
    const uint32_t(*flags)[CAR_MAX_RANKS] = car_flags(a, a.rank)->flag[kind];
    bool there = true;

    for (uint32_t r = car_thread(); r < a.size; r += car_threads_per_block()) {
        car_patience patience = car_patience_new();
        while (r != a.rank && there && car_load_acquire_sys(&flags[car_block()][r]) < epoch) {
            there = car_patience_left(patience, a.spin_ns);
        }
    }
    return car_block_all(there);
}

/* Where the block starts: at the launch's first exchange, or where it left. */
CAR_DEVICE car_progress_t car_begin(const car_kernel_args_t &a)
{
    car_progress_t p;

    if (a.resume) {
        const car_word16_t w = car_load((const car_word16_t *) &a.own->progress[car_block()]);
        p.published = w.w[0];
        p.reduced = w.w[1];
        p.finished = w.w[2];
        p.staged = w.w[3];
    } else {
        p.published = p.reduced = p.finished = p.staged = a.first;
    }
    return p;
}

CAR_DEVICE void car_fence_for_host(bool remote)
{
    if (remote) {
        car_fence_sys();
    } else {
        car_fence_gpu();
    }
}

/*
 * The end of a block, called by one of its threads after a block barrier that came behind its
 * output. The host, who may then read the output or start another kernel on it, polls words of
 * mapped host memory, ticket << 32 | blocks that left. A small grid (`words` is how many the host
 * looks at) has one for each block: an atomic round trip less. Otherwise the last block of the grid
 * stores the first word for all; `ended` counts the blocks, in its high half those that left. What
 * has to be ordered before the word is this rank's output: in this GPU's own memory the fence at
 * gpu scope puts it where every later reader of that memory finds it (docs/protocol.md says why
 * that is enough, and why packets on their way to peers need not be waited for); elsewhere
 * (`remote`) it takes system scope.
 */
CAR_DEVICE void car_tell_host(uint32_t *ended, uint64_t *word, uint32_t words, uint32_t ticket,
                              uint32_t left, bool remote)
{
    if (car_blocks() <= words) {
        car_fence_for_host(remote);
        car_store_relaxed_sys64(word + car_block(), (uint64_t) ticket << 32 | left);
        return;
    }
    uint32_t done = left << 16 | 1;
    if (remote) {
        car_fence_sys();
        done += car_atomic_add_gpu(ended, done);
    } else {
        done += car_atomic_add_ordered_gpu(ended, done);
    }
    if ((done & 0xffff) != car_blocks()) {
        return;
    }
    /* The other blocks' output, too, is before the word. */
    if (remote) {
        car_fence_sys();
    }
    car_store_relaxed_sys64(word, (uint64_t) ticket << 32 | done >> 16);
    car_store(ended, 0u); /* for the next launch, which begins when this grid has ended */
}

/*
 * The end of a block of an exchange, finished or leaving: its progress is kept for the next launch.
 */
CAR_DEVICE void car_end(const car_kernel_args_t &a, const car_progress_t &p)
{
    const bool left = p.finished != a.end;

    car_block_barrier();
    if (0 != car_thread()) {
        return;
    }
    /* A grid of one block that has finished is not launched again. */
    if (1 != car_blocks() || left) {
        car_word16_t w;
        w.w[0] = p.published;
        w.w[1] = p.reduced;
        w.w[2] = p.finished;
        w.w[3] = p.staged;
        car_store((car_word16_t *) &a.own->progress[car_block()], w);
    }
    car_tell_host(&a.own->blocks_done, a.done, CAR_DONE_WORDS, a.ticket, left, a.output_is_remote);
}

#endif /* CAR_SYNC_CUH */
