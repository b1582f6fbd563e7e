/*
 * one_shot_push_stay: one block that does the exchange of a small call, then waits a while for the
 * next one, and does that. The host rings a bell in mapped host memory instead of launching
 * (docs/protocol.md, "The kernel that stays"). Where peers launch a few blocks for a call, it does
 * what all of them do, as their packets have places of their own.
 */
#include "one_shot_push.cuh"

/*
 * What a look at the bell in host memory takes, until one has been timed. A guess: 0.9 us at 1.8
 * GHz.
 */
#define CAR_LOOK_TICKS 1600u

/* What changes from call to call, as the bell's packets have it: two words of each. */
struct car_turn {
    uint32_t word[CAR_BELL_PACKETS][2];
    bool goes_on; /* false: there is no next call */
};

/*
 * The block's threads that compute and those that listen for the next call tell each other here, in
 * shared memory. Tickets are those of calls.
 */
struct car_board {
    /*
     * by the call's ticket: threads may still read what one call is about when the next one comes
     */
    car_turn turn[2];
    uint32_t ended;    /* the last call that has been computed */
    uint32_t since;    /* when that was, in ticks of the multiprocessor */
    /* what one of the listeners, and no other, has to say something of: the last one */
    uint32_t claimed;
    uint32_t ready;    /* what it has said that of, in turn[] */
    uint32_t over;     /* nobody listens any more */
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

/* --- those that compute ----------------------------------------------------------------------- */

/* A call's exchange, of all its blocks, by a team of threads; how many of them have finished. */
template <class R>
CAR_DEVICE uint32_t car_push_all(const car_kernel_args_t &a, const car_operands &o, uint32_t team,
                                 uint32_t blocks, car_words<R::unit_bytes> *units)
{
    uint32_t finished = 0;

    /* All of it is on its way before any is waited for. Each thread keeps its own units. */
#pragma unroll 1
    for (uint32_t b = 0; b < blocks; ++b) {
        units[b * team + car_thread()] =
            car_push_publish<R>(a, o, o.epoch, car_push_unit_of<R>(o, o.epoch, b, blocks), false);
    }
#pragma unroll 1
    for (; finished < blocks; ++finished) {
        const car_push_unit u = car_push_unit_of<R>(o, o.epoch, finished, blocks);
        car_words<R::unit_bytes> result = {};
        if (!car_team_all(team, car_push_fold<R>(a, o, o.epoch, u,
                                                 units[finished * team + car_thread()], result))) {
            break;
        }
        car_push_write<R>(o, u, result);
    }
    return finished;
}

/*
 * Tells the host the end of the call, as its blocks would; those that have not finished go on when
 * they are launched.
 */
CAR_DEVICE void car_end_all(const car_kernel_args_t &a, uint32_t team, uint32_t epoch,
                            uint32_t ticket, uint32_t blocks, uint32_t finished)
{
    car_team_barrier(team);
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

CAR_DEVICE uint64_t car_patience_of(const car_stay_args_t &s, uint64_t until)
{
    const uint64_t now = car_nanoseconds();
    return now + s.stay_ns < until ? now + s.stay_ns : until;
}

/*
 * Where nobody else listens: waits for the bell of the call with this ticket. One thread per packet
 * polls, acquires and passes on what its packet says; the barrier hands both to the others.
 * Returns, on all threads, whether there is such a call.
 */
CAR_DEVICE bool car_wait_for_bell(const car_stay_args_t &s, uint32_t ticket, uint64_t until,
                                  car_turn &next)
{
    const uint64_t patience = car_patience_of(s, until);
    const uint32_t packet = car_thread();
    bool goes_on = true;

    if (packet < CAR_BELL_PACKETS) {
        car_word16_t bell;
        do {
            car_pause();
            bell = car_load_packet_acquire((const car_word16_t *) s.bell + packet);
        } while (!car_is_of(bell, ticket) && car_nanoseconds() < patience);
        /* What came at the last moment counts only if all packets did: the barrier decides. */
        goes_on = car_is_of(bell, ticket)
                  && !(CAR_BELL_EPOCH == packet && 0 != (bell.w[2] & CAR_BELL_GO));
        next.word[packet][0] = bell.w[0];
        next.word[packet][1] = bell.w[2];
    }
    return car_team_all(s.threads, goes_on);
}

/* Where others listen: waits until one of them has something to say of the call behind the last. */
CAR_DEVICE bool car_wait_for_listeners(const car_stay_args_t &s, uint32_t ticket, car_board &board)
{
    if (0 == car_thread()) {
        board.since = (uint32_t) car_ticks();
        car_store_release_block(&board.ended, ticket - 1);
        while (car_load_acquire_block(&board.ready) != ticket) {
            car_pause();
        }
    }
    car_team_barrier(s.threads);
    return board.turn[ticket % 2].goes_on;
}

/* --- those that listen ------------------------------------------------------------------------ */

/*
 * Looks at all packets of the bell at once; whether the ticket is on all of them. The last one is
 * acquired, which is enough for all.
 */
CAR_DEVICE bool car_look_at_bell(const car_stay_args_t &s, uint32_t ticket, car_turn &turn)
{
    const car_word16_t *bell = (const car_word16_t *) s.bell;
    car_word16_t packet[CAR_BELL_PACKETS];
    bool heard = true;

#pragma unroll
    for (int i = 0; i < CAR_BELL_PACKETS - 1; ++i) {
        packet[i] = car_load_packet(bell + i);
    }
    packet[CAR_BELL_EPOCH] = car_load_packet_acquire(bell + CAR_BELL_EPOCH);
#pragma unroll
    for (int i = 0; i < CAR_BELL_PACKETS; ++i) {
        heard = heard && car_is_of(packet[i], ticket);
        turn.word[i][0] = packet[i].w[0];
        turn.word[i][1] = packet[i].w[2];
    }
    turn.goes_on = heard && 0 == (packet[CAR_BELL_EPOCH].w[2] & CAR_BELL_GO);
    return heard;
}

/*
 * A thread listens for one call after the other. What a look at host memory brings is half a
 * microsecond old, and the next look begins when it is there; so several threads look in turn, the
 * number-th of `listeners` that part of a look's time later. Whoever first hears of the call, or
 * has waited too long, claims it and tells those that compute; the others need not have come back
 * from their looks.
 */
CAR_DEVICE void car_listen(const car_stay_args_t &s, uint64_t until, uint32_t number,
                           uint32_t listeners, car_board &board)
{
    const uint32_t part = (number << 16) / listeners; /* of a look */
    uint32_t look = CAR_LOOK_TICKS;

    for (uint32_t last = s.call.ticket - 1, ended;; last = ended) {
        while ((ended = car_load_acquire_block(&board.ended)) == last) {
            if (0 != car_load_relaxed_block(&board.over)) {
                return;
            }
            car_pause();
        }
        const uint64_t patience = car_patience_of(s, until);
        const uint32_t since = board.since, turn_of_mine = look * part >> 16;
        car_turn turn;
        bool heard = false, tired = false;
        /*
         * Who comes late, as his last look took long, finds that another has claimed it, and does
         * not look.
         */
        while (!heard && !tired && car_load_relaxed_block(&board.claimed) == ended) {
            const uint32_t start = (uint32_t) car_ticks();
            car_pause();
            if (start - since >= turn_of_mine) {
                heard = car_look_at_bell(s, ended + 1, turn);
                tired = !heard && car_nanoseconds() >= patience;
                look = (uint32_t) car_ticks() - start;
            }
        }
        if ((heard || tired) && car_claim_block(&board.claimed, ended, ended + 1)) {
            board.turn[(ended + 1) % 2] = turn;
            car_store_release_block(&board.ready, ended + 1);
        }
    }
}

/* --- the kernel ------------------------------------------------------------------------------- */

template <class R> CAR_DEVICE void car_one_shot_push_stay(const car_stay_args_t &s)
{
    CAR_SHARED(car_board, boards, 1);
    CAR_SHARED(car_words<R::unit_bytes>, units, CAR_STAY_BLOCKS * CAR_MAX_THREADS);
    car_board &board = boards[0];
    const car_kernel_args_t &a = s.call;
    const uint32_t team = s.threads, listeners = (car_threads_per_block() - team) / CAR_WARP;
    const uint64_t until = car_nanoseconds() + s.total_ns;

    if (listeners > 0) {
        if (0 == car_thread()) {
            board.ended = a.ticket - 1;
            board.claimed = board.ready = a.ticket;
            board.over = 0;
        }
        car_block_barrier();
        if (car_thread() >= team) {
            const uint32_t behind = car_thread() - team;
            if (0 == behind % CAR_WARP) {
                car_listen(s, until, behind / CAR_WARP, listeners, board);
            }
            return;
        }
    }
    car_operands o = car_operands_of(a);
    uint32_t blocks = s.blocks;
    for (uint32_t ticket = a.ticket;; ++ticket) {
        const uint32_t finished = car_push_all<R>(a, o, team, blocks, units);
        car_end_all(a, team, o.epoch, ticket, blocks, finished);
        car_turn &next = board.turn[(ticket + 1) % 2];
        if (finished < blocks
            || !(listeners > 0 ? car_wait_for_listeners(s, ticket + 1, board)
                               : car_wait_for_bell(s, ticket + 1, until, next))) {
            break;
        }
        blocks = car_take(next, o);
    }
    if (0 == car_thread()) {
        car_store_relaxed_block(&board.over, 1);
        /* Whoever reads that it has gone finds the end of every call that it took. */
        car_fence_sys();
        car_store_relaxed_sys64(s.gone, s.number);
    }
}

#define CAR_ALGORITHM one_shot_push_stay
#define CAR_ALGORITHM_ARGS car_stay_args_t
#define CAR_ALGORITHM_EXTRA (CAR_LISTENERS * CAR_WARP)
#include "car_kernels.cuh"
