/*
 * one_shot_push_stay: a kernel that does the exchange of a small call, then waits a while for the
 * next one, and does that. The host rings a bell in mapped host memory instead of launching
 * (docs/protocol.md, "The kernel that stays"). It has one block, or a few: the first hears the bell
 * and hands on to the others what they have a share in. Where peers launch more blocks for a call,
 * those of this kernel do what all of them do, as their packets have places of their own.
 */
#include "one_shot_push.cuh"

static_assert((int) CAR_HAND_TICKET == (int) CAR_BELL_PACKETS, "the bell's packets, and one more");

/* A call, as threads of a block hear of it: two words of each packet. */
struct car_turn {
    uint32_t word[CAR_HAND_CALL_PACKETS][2];
};

/* What changes from call to call, besides what car_operands has; all else is as it was. */
struct car_stay_call {
    uint32_t ticket;
    uint32_t blocks; /* of the call, as it is launched elsewhere */
    uint32_t shared; /* blocks of this kernel that share them: the first, or all */
};

CAR_DEVICE void car_take(const car_turn &turn, car_operands &o, car_stay_call &call)
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
    call.ticket = turn.word[CAR_HAND_TICKET][0];
    call.blocks = flags >> CAR_BELL_BLOCKS_SHIFT;
    call.shared = 0 != (flags & CAR_BELL_SHARED) ? car_blocks() : 1;
}

/* This block's share of a call: every so many-th of its blocks, from the one of its own number. */
CAR_DEVICE uint32_t car_share(const car_stay_call &call)
{
    return car_block() < call.blocks ? (call.blocks - car_block() + call.shared - 1) / call.shared
                                     : 0;
}

CAR_DEVICE uint32_t car_share_block(const car_stay_call &call, uint32_t i)
{
    return car_block() + i * call.shared;
}

template <class R> CAR_DEVICE car_push_unit car_share_unit(const car_operands &o,
                                                           const car_stay_call &call, uint32_t i)
{
    return car_push_unit_of<R>(o, o.epoch, car_share_block(call, i), call.blocks);
}

/* A thread's unit of the i-th block of the share, as it keeps it. */
template <class Unit> CAR_DEVICE Unit &car_kept(Unit *units, uint32_t i)
{
    return units[i * car_threads_per_block() + car_thread()];
}

/* Reads all units of the share, and only then sends them: no read waits for another. */
template <class R> CAR_DEVICE void car_push_share(const car_kernel_args_t &a, const car_operands &o,
                                                  const car_stay_call &call, uint32_t share,
                                                  car_words<R::unit_bytes> *units)
{
    car_words<R::unit_bytes> mine[CAR_SHARE_MOST] = {};

#pragma unroll
    for (uint32_t i = 0; i < CAR_SHARE_MOST; ++i) {
        const car_push_unit u = car_share_unit<R>(o, call, i);
        if (i < share && u.to_do) {
            mine[i] = R::template read<R::unit_bytes>(o.what, o.input, u.index, o.vector_input);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < CAR_SHARE_MOST; ++i) {
        if (i < share) {
            car_kept(units, i) = mine[i];
        }
    }
#pragma unroll 1
    for (uint32_t i = 0; i < share; ++i) {
        const car_push_unit u = car_share_unit<R>(o, call, i);
        if (u.to_do) {
            car_send(a, o.epoch, u.place, car_kept(units, i));
        }
    }
}

/* The exchange of all blocks of the share; how many of them have finished. */
template <class R> CAR_DEVICE uint32_t car_exchange_share(const car_kernel_args_t &a,
                                                          const car_operands &o,
                                                          const car_stay_call &call,
                                                          car_words<R::unit_bytes> *units)
{
    const uint32_t share = car_share(call);
    uint32_t finished = 0;

    car_push_share<R>(a, o, call, share, units);
#pragma unroll 1
    while (finished < share
           && car_push_fold<R>(a, o, o.epoch, car_share_unit<R>(o, call, finished),
                               car_kept(units, finished))) {
        ++finished;
    }
    return finished;
}

/*
 * Tells the host the end of this block's share. Those that have not finished go on when they are
 * launched, with all others of the call: a launch behind this kernel finds how far each has come.
 * That is stored before the host's word, so that what another block stores of the same block in a
 * later call comes behind it.
 */
CAR_DEVICE void car_end_share(const car_kernel_args_t &a, uint32_t epoch,
                              const car_stay_call &call, uint32_t finished)
{
    const uint32_t share = car_share(call), i = car_thread();

    /* Of a call of one block that has finished nothing is launched again. */
    if (i < share && (1 != call.shared || finished != share)) {
        car_word16_t w;
        w.w[0] = epoch + 1;
        w.w[1] = w.w[2] = epoch + (i < finished ? 1 : 0);
        w.w[3] = 0;
        car_store((car_word16_t *) &a.own->progress[car_share_block(call, i)], w);
    }
    car_block_barrier();
    if (0 == car_thread()) {
        car_fence_for_host(a.output_is_remote);
        car_store_relaxed_sys64(a.done + car_block(),
                                (uint64_t) call.ticket << 32 | (share - finished));
    }
}

/*
 * When a kernel first looks for the next call, in car_ticks() after the end of the one before: so
 * much later after a look that came too early, so much earlier after one that did not, this late at
 * most, and at the very first time.
 */
#define CAR_LATER 100
#define CAR_EARLIER 20
#define CAR_LATEST 10000
#define CAR_FIRST_LOOK 3000
#define CAR_LOOKS 3 /* at which a call of a loop is heard of, at the latest */

/*
 * Looks at a packet until it is of this ticket, or until the clock says `patience`; what it has
 * seen last. A look at host memory lasts a microsecond, and what is rung in between is
 * heard of by the next one. Calls of a loop come at much the same time after the end of the one
 * before: so the first look waits for that time. It is found by steps, a small one earlier after
 * each call that the first look heard of, a larger one later after each that one of the next did,
 * so that about one in six comes too early. Where calls come much later it stays as it is.
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
    } else if (looks <= CAR_LOOKS) {
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
    } else if (CAR_HAND_TICKET == packet) {
        next.word[packet][0] = ticket;
        next.word[packet][1] = 0;
    }
    return car_block_all(goes_on);
}

/*
 * The first block stores a packet of a hand-over. There is no fence here: what the others are to
 * find are no stores of this block's. The user's data was in this GPU's memory before the bell was
 * rung, and whoever acquires the packet reads it there (docs/protocol.md, "What it may read").
 */
CAR_DEVICE void car_hand_on(const car_kernel_args_t &a, uint32_t number, uint32_t packet,
                            uint32_t low, uint32_t high)
{
    car_word16_t w;
    w.w[0] = low;
    w.w[2] = high;
    w.w[1] = w.w[3] = number;
    car_store_packet((car_word16_t *) a.own->hand[packet], w);
}

/*
 * Another block waits for the hand-over with this number; false, on all threads, if there is none,
 * as the kernel goes. The first block does not end without a word, so there is no end to this wait
 * but these.
 */
CAR_DEVICE bool car_wait_for_hand(const car_kernel_args_t &a, uint32_t number, car_turn &next)
{
    const uint32_t packet = car_thread();
    bool goes_on = true;

    if (packet < CAR_HAND_CALL_PACKETS) {
        const car_word16_t *go = (const car_word16_t *) a.own->hand[CAR_HAND_GO];
        car_word16_t seen;
        do {
            car_pause();
            goes_on = !car_is_of(car_load_packet(go), number);
            seen = car_load_packet_acquire((const car_word16_t *) a.own->hand[packet]);
        } while (goes_on && !car_is_of(seen, number));
        next.word[packet][0] = seen.w[0];
        next.word[packet][1] = seen.w[2];
    }
    return car_block_all(goes_on);
}

/*
 * A block ends, after so many hand-overs; the first one tells the others. The last one says that
 * the kernel has gone. By the thread that has told the host of the block's share.
 */
CAR_DEVICE void car_go(const car_stay_args_t &s, uint32_t handed)
{
    const car_kernel_args_t &a = s.call;

    if (0 != car_thread()) {
        return;
    }
    if (0 == car_block() && 1 != car_blocks()) {
        car_hand_on(a, handed + 1, CAR_HAND_GO, 0, 0);
    }
    /* Whoever reads that it has gone finds the end of every call that it took, on every block. */
    car_fence_sys();
    if (1 != car_blocks()) {
        if (car_atomic_add_gpu(&a.own->blocks_gone, 1) + 1 != car_blocks()) {
            return;
        }
        car_fence_sys();
        /* For the next launch, which begins when this grid has ended. */
        car_store(&a.own->blocks_gone, 0u);
        for (uint32_t packet = 0; packet < CAR_HAND_PACKETS; ++packet) {
            car_word16_t nothing = {};
            car_store_packet((car_word16_t *) a.own->hand[packet], nothing);
        }
    }
    car_store_relaxed_sys64(s.gone, s.number);
}

template <class R> CAR_DEVICE void car_one_shot_push_stay(const car_stay_args_t &s)
{
    /* In turns: threads may still read what one call is about when the next one comes. */
    CAR_SHARED(car_turn, turns, 2);
    CAR_SHARED(car_words<R::unit_bytes>, units, CAR_SHARE_MOST * CAR_MAX_THREADS);
    const car_kernel_args_t &a = s.call;
    const uint64_t until = car_nanoseconds() + s.total_ns;
    const bool first = 0 == car_block();
    const uint32_t packet = car_thread(); /* that this thread hears or hands on, if there is one */
    car_operands o = car_operands_of(a);
    car_stay_call call = {a.ticket, s.blocks, s.shared};
    const uint32_t found = car_load(&a.own->look_delay);
    uint32_t delay = 0 == found ? CAR_FIRST_LOOK : found - 1, handed = 0;

    for (uint32_t turn = 0;; turn = 1 - turn) {
        car_turn &next = turns[turn];
        if (car_block() < call.shared) {
            const uint32_t finished = car_exchange_share<R>(a, o, call, units);
            car_end_share(a, o.epoch, call, finished);
            if (finished < car_share(call)) {
                break;
            }
        }
        if (first ? !car_wait_for_bell(s, call.ticket + 1, until, next, delay)
                  : !car_wait_for_hand(a, ++handed, next)) {
            break;
        }
        car_take(next, o, call);
        if (first && 1 != call.shared) {
            ++handed;
            if (packet < CAR_HAND_CALL_PACKETS) {
                car_hand_on(a, handed, packet, next.word[packet][0], next.word[packet][1]);
            }
        }
    }
    if (first && CAR_BELL_EPOCH == packet) {
        car_store(&a.own->look_delay, delay + 1);
    }
    car_go(s, handed);
}

#define CAR_ALGORITHM one_shot_push_stay
#define CAR_ALGORITHM_ARGS car_stay_args_t
#include "car_kernels.cuh"
