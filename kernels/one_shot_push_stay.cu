/*
 * one_shot_push_stay: one block that does the exchange of a small call, then waits a while for the
 * next one, and does that. The host rings a bell in mapped host memory instead of launching
 * (docs/protocol.md, "The kernel that stays"). Where peers launch a few blocks for a call, it does
 * what all of them do, as their packets have places of their own.
 */
#include "one_shot_push.cuh"

/* What changes from call to call, as the bell's packets have it: two words of each. */
struct car_turn {
    uint32_t word[CAR_BELL_PACKETS][2];
};

/* The next call, and its number of blocks; all else is as it was. */
CAR_DEVICE uint32_t car_take(const car_turn &turn, car_operands &o)
{
    const uint32_t flags = turn.word[CAR_BELL_EPOCH][1];

    o.input = (const void *) ((uint64_t) turn.word[CAR_BELL_INPUT][1] << 32
                              | turn.word[CAR_BELL_INPUT][0]);
    o.output =
        (void *) ((uint64_t) turn.word[CAR_BELL_OUTPUT][1] << 32 | turn.word[CAR_BELL_OUTPUT][0]);
    o.what.count = turn.word[CAR_BELL_ELEMENTS][0];
    o.tile = turn.word[CAR_BELL_ELEMENTS][1];
    o.epoch = turn.word[CAR_BELL_EPOCH][0];
    o.vector_input = 0 != (flags & CAR_BELL_VECTOR_INPUT);
    o.vector_output = 0 != (flags & CAR_BELL_VECTOR_OUTPUT);
    return flags >> CAR_BELL_BLOCKS_SHIFT;
}

/* A call's exchange, of all its blocks; how many of them have finished. */
template <class R>
CAR_DEVICE uint32_t car_push_all(const car_kernel_args_t &a, const car_operands &o, uint32_t blocks,
                                 car_words<R::unit_bytes> *units)
{
    uint32_t finished = 0;

    /* All of it is on its way before any is waited for. Each thread keeps its own units. */
#pragma unroll 1
    for (uint32_t b = 0; b < blocks; ++b) {
        units[b * car_threads_per_block() + car_thread()] =
            car_push_publish<R>(a, o, o.epoch, car_push_unit_of<R>(o, o.epoch, b, blocks), false);
    }
#pragma unroll 1
    while (finished < blocks
           && car_push_fold<R>(a, o, o.epoch, car_push_unit_of<R>(o, o.epoch, finished, blocks),
                               units[finished * car_threads_per_block() + car_thread()])) {
        ++finished;
    }
    return finished;
}

/*
 * Tells the host the end of the call, as its blocks would; those that have not finished go on when
 * they are launched.
 */
CAR_DEVICE void car_end_all(const car_kernel_args_t &a, uint32_t epoch, uint32_t ticket,
                            uint32_t blocks, uint32_t finished)
{
    car_block_barrier();
    if (0 != car_thread()) {
        return;
    }
    for (uint32_t b = 0; finished < blocks && b < blocks; ++b) {
        car_word16_t w;
        w.w[0] = epoch + 1;
        w.w[1] = w.w[2] = epoch + (b < finished ? 1 : 0);
        w.w[3] = 0;
        car_store((car_word16_t *) &a.own->progress[b], w);
    }
    car_fence_for_host(a.output_is_remote);
    for (uint32_t b = 0; b < blocks; ++b) {
        car_store_relaxed_sys64(a.done + b, (uint64_t) ticket << 32 | (b < finished ? 0 : 1));
    }
}

/*
 * Of car_ticks(): how much later the first look becomes after one that came too early, how much
 * earlier after one that did not, and how late it becomes at most.
 */
#define CAR_LATER 300
#define CAR_EARLIER 10
#define CAR_LATEST 4000

/*
 * Looks at a packet until it is of this ticket, or until the clock says `patience`; what it has
 * seen last. A look at host memory lasts a microsecond, and what is rung in between is
 * heard of by the next one. Calls of a loop come at much the same time after the end of the one
 * before: so the first look waits for that time, which it finds by being a little earlier after
 * each call that it heard of, and clearly later after each that the second or third look did. Where
 * calls come much later it stays as it is.
 */
CAR_DEVICE car_word16_t car_look_for(const car_word16_t *packet, uint32_t ticket, uint64_t patience,
                                     uint32_t &delay)
{
    const uint32_t start = car_ticks();
    uint32_t looks = 0;
    car_word16_t seen;

    while (car_ticks() - start < delay && car_nanoseconds() < patience) {
        car_pause();
    }
    do {
        car_pause();
        seen = car_load_packet_acquire(packet);
        ++looks;
    } while (!car_is_of(seen, ticket) && car_nanoseconds() < patience);
    if (1 == looks) {
        delay -= delay < CAR_EARLIER ? delay : CAR_EARLIER;
    } else if (looks <= 3) {
        delay += delay + CAR_LATER <= CAR_LATEST ? CAR_LATER : 0;
    }
    return seen;
}

/*
 * Waits for the bell of the call with this ticket. One thread per packet looks, acquires and passes
 * on what its packet says; the barrier hands both to the others. Returns, on all threads, whether
 * there is such a call: it may not come in time, or the bell may say to go.
 */
CAR_DEVICE bool car_wait_for_bell(const car_stay_args_t &s, uint32_t ticket, uint64_t until,
                                  car_turn &next, uint32_t &delay)
{
    const uint64_t now = car_nanoseconds();
    const uint64_t patience = now + s.stay_ns < until ? now + s.stay_ns : until;
    const uint32_t packet = car_thread();
    bool goes_on = now < until;

    if (goes_on && packet < CAR_BELL_PACKETS) {
        const car_word16_t bell =
            car_look_for((const car_word16_t *) s.bell + packet, ticket, patience, delay);
        /* What came at the last moment counts only if all packets did: the barrier decides. */
        goes_on = car_is_of(bell, ticket)
                  && !(CAR_BELL_EPOCH == packet && 0 != (bell.w[2] & CAR_BELL_GO));
        next.word[packet][0] = bell.w[0];
        next.word[packet][1] = bell.w[2];
    }
    return car_block_all(goes_on);
}

template <class R> CAR_DEVICE void car_one_shot_push_stay(const car_stay_args_t &s)
{
    /* In turns: threads may still read what one call is about when the next one comes. */
    CAR_SHARED(car_turn, turns, 2);
    CAR_SHARED(car_words<R::unit_bytes>, units, CAR_STAY_BLOCKS * CAR_MAX_THREADS);
    const car_kernel_args_t &a = s.call;
    const uint64_t until = car_nanoseconds() + s.total_ns;
    car_operands o = car_operands_of(a);
    uint32_t blocks = s.blocks, delay = 0;

    for (uint32_t ticket = a.ticket;; ++ticket) {
        const uint32_t finished = car_push_all<R>(a, o, blocks, units);
        car_end_all(a, o.epoch, ticket, blocks, finished);
        car_turn &next = turns[ticket % 2];
        if (finished < blocks || !car_wait_for_bell(s, ticket + 1, until, next, delay)) {
            break;
        }
        blocks = car_take(next, o);
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
