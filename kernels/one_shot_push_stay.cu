/*
 * one_shot_push_stay: one block that does the exchange of a small call, then waits a while for the next one, and does
 * that. The host rings a bell in mapped host memory instead of launching (docs/protocol.md, "The kernel that stays").
 */
#include "one_shot_push.cuh"

/* What changes from call to call, as the bell's packets have it: two words of each. */
struct car_turn {
    uint32_t word[CAR_BELL_PACKETS][2];
};

/* The next call; all else is as it was. */
CAR_DEVICE void car_take(const car_turn &turn, car_operands &o)
{
    const uint32_t flags = turn.word[CAR_BELL_EPOCH][1];

    o.input = (const void *) ((uint64_t) turn.word[CAR_BELL_INPUT][1] << 32 | turn.word[CAR_BELL_INPUT][0]);
    o.output = (void *) ((uint64_t) turn.word[CAR_BELL_OUTPUT][1] << 32 | turn.word[CAR_BELL_OUTPUT][0]);
    o.what.count = turn.word[CAR_BELL_ELEMENTS][0];
    o.tile = turn.word[CAR_BELL_ELEMENTS][1];
    o.epoch = turn.word[CAR_BELL_EPOCH][0];
    o.vector_input = 0 != (flags & CAR_BELL_VECTOR_INPUT);
    o.vector_output = 0 != (flags & CAR_BELL_VECTOR_OUTPUT);
}

/*
 * Waits for the bell of the next call; false, on all threads, if it does not come in time or says to go. One thread
 * per packet polls, acquires and passes on what its packet says; the barrier hands both to the others.
 */
CAR_DEVICE bool car_wait_for_bell(const car_stay_args_t &s, uint32_t ticket, uint64_t until, car_turn &next)
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
        next.word[packet][0] = bell.w[0];
        next.word[packet][1] = bell.w[2];
    }
    return car_block_all(goes_on);
}

template <class R> CAR_DEVICE void car_one_shot_push_stay(const car_stay_args_t &s)
{
    /* In turns: threads may still read what one call is about when the next one comes. */
    CAR_SHARED(car_turn, turns, 2);
    const car_kernel_args_t &a = s.call;
    const uint64_t until = car_nanoseconds() + s.total_ns;
    car_operands o = car_operands_of(a);

    for (uint32_t ticket = a.ticket;; ++ticket) {
        car_progress_t p;
        p.published = p.reduced = p.finished = o.epoch;
        p.unused = 0;
        const bool finished = car_push_round<R>(a, o, p);
        car_end(a, p, o.epoch + 1, ticket);
        car_turn &next = turns[ticket % 2];
        if (!finished || !car_wait_for_bell(s, ticket + 1, until, next)) {
            break;
        }
        car_take(next, o);
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
