/*
 * one_shot_push_stay: one block that does the exchange of a small call, then waits a while for the next one, and does
 * that. The host rings a bell in mapped host memory instead of launching (docs/protocol.md, "The kernel that stays").
 */
#include "one_shot_push.cuh"

CAR_DEVICE void car_take_word(car_kernel_args_t &next, uint32_t packet, const car_word16_t &bell)
{
    const uint64_t both = (uint64_t) bell.w[2] << 32 | bell.w[0];

    if (CAR_BELL_INPUT == packet) {
        next.input = (const void *) both;
    } else if (CAR_BELL_OUTPUT == packet) {
        next.output = (void *) both;
    } else if (CAR_BELL_ELEMENTS == packet) {
        next.what.count = bell.w[0];
        next.tile = bell.w[2];
    } else {
        next.epoch = next.first = bell.w[0];
        next.end = bell.w[0] + 1;
        next.vector_input = bell.w[2] & CAR_BELL_VECTOR_INPUT ? 1 : 0;
        next.vector_output = bell.w[2] & CAR_BELL_VECTOR_OUTPUT ? 1 : 0;
        next.ticket = bell.w[1];
    }
}

/*
 * Waits for the bell of the next call; false, on all threads, if it does not come in time or says to go. One thread
 * per packet polls, acquires and takes what its packet says; the barrier hands both to the others.
 */
CAR_DEVICE bool car_wait_for_bell(const car_stay_args_t &s, uint32_t ticket, uint64_t until, car_kernel_args_t &next)
{
    const uint64_t now = car_nanoseconds(), patience = now + s.stay_ns < until ? now + s.stay_ns : until;
    const uint32_t packet = car_thread();
    bool goes_on = true;

    if (packet < CAR_BELL_PACKETS) {
        car_word16_t bell;
        do {
            car_pause();
            bell = car_load_packet_acquire((const car_word16_t *) s.bell + packet);
        } while (!car_is_of(bell, ticket) && car_nanoseconds() < patience);
        /* What came at the last moment counts only if all packets did: the barrier decides. */
        goes_on = car_is_of(bell, ticket) && !(CAR_BELL_EPOCH == packet && 0 != (bell.w[2] & CAR_BELL_GO));
        if (goes_on) {
            car_take_word(next, packet, bell);
        }
    }
    return car_block_all(goes_on);
}

template <class R> CAR_DEVICE void car_one_shot_push_stay(const car_stay_args_t &s)
{
    /* In turns: threads may still read the arguments of a call when the next ones come. */
    CAR_SHARED(car_kernel_args_t, calls, 2);
    const uint64_t until = car_nanoseconds() + s.total_ns;
    uint32_t ticket = s.call.ticket, turn = 0;

    if (car_thread() + 1 == car_threads_per_block()) {
        calls[0] = s.call;
        calls[1] = s.call;
        calls[0].resume = calls[1].resume = 0;
    }
    car_block_barrier();
    for (;;) {
        const car_kernel_args_t &call = calls[turn];
        car_progress_t p = car_begin(call);
        const bool finished = car_push_round<R>(call, p);
        car_end(call, p);
        turn ^= 1;
        if (!finished || !car_wait_for_bell(s, ticket + 1, until, calls[turn])) {
            break;
        }
        ++ticket;
    }
    if (0 == car_thread()) {
        /* Whoever reads that it has gone finds the end of every call that it took. */
        car_fence_sys();
        car_store_relaxed_sys64(s.gone, s.number);
    }
}

#define CAR_ALGORITHM one_shot_push_stay
#define CAR_ALGORITHM_ARGS car_stay_args_t
#include "car_kernels.cuh"
