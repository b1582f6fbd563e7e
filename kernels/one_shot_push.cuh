/*
 * one_shot_push: everybody sends his data to everybody, in packets that prove their own arrival.
 * Small messages.
 *
 *   publish  every thread writes its unit of the input, 8 bytes, into the inbox of every peer as
 *            one 16-byte packet; each half of it carries the epoch, so no flag, fence or barrier is
 *            needed. A unit of car_any, whose elements may have 16 bytes, is two packets
 *   fold     the thread polls the same unit from all peers in its own inbox and folds them in rank
 *            order
 *   finish   once every thread of the block has all it waits for, the block writes its output
 *
 * Here is an exchange of a block; one_shot_push.cu does a call's, one_shot_push_stay.cu those of
 * calls that follow each other.
 */
#ifndef CAR_ONE_SHOT_PUSH_CUH
#define CAR_ONE_SHOT_PUSH_CUH

#include "car_packets.cuh"

/* What an exchange is about: the buffers of the call, and the epoch of its first exchange. */
struct car_operands {
    car_elements_t what;
    const void *input;
    void *output;
    uint64_t tile;
    uint32_t epoch;
    bool vector_input, vector_output;
};

CAR_DEVICE car_operands car_operands_of(const car_kernel_args_t &a)
{
    car_operands o;
    o.what = a.what;
    o.input = a.input;
    o.output = a.output;
    o.tile = a.tile;
    o.epoch = a.epoch;
    o.vector_input = 0 != a.vector_input;
    o.vector_output = 0 != a.vector_output;
    return o;
}

/*
 * What a thread does in an exchange of a block: one unit, from element `index` on, at a place in
 * the inboxes; or nothing.
 */
struct car_push_unit {
    uint64_t index;
    uint32_t place;
    bool to_do;
};

template <class R> CAR_DEVICE car_push_unit car_push_unit_of(const car_operands &o, uint32_t epoch,
                                                             uint32_t block, uint32_t blocks)
{
    const uint32_t length = R::length(o.what, R::unit_bytes);
    /* of the block in this round; at most one per thread */
    const uint32_t units = (uint32_t) o.tile / length;
    const uint64_t start = ((uint64_t) (epoch - o.epoch) * blocks + block) * o.tile;
    car_push_unit u;

    u.index = start + (uint64_t) car_thread() * length;
    u.place = (block * units + car_thread()) * (R::unit_bytes / CAR_PACKET_PAYLOAD);
    /*
     * Thread 0 exchanges a unit even where the block has no elements left: every block hears from
     * its equals in every exchange, or else a peer could reuse a slot that a block of ours still
     * reads.
     */
    u.to_do = car_thread() < units && (u.index < o.what.count || 0 == car_thread());
    return u;
}

/*
 * Reads the thread's unit, and sends it where that has not been done. Of `a` it takes what stays
 * the same for a communicator: pieces, ranks, patience; so does the next.
 */
template <class R>
CAR_DEVICE car_words<R::unit_bytes> car_push_publish(const car_kernel_args_t &a,
                                                     const car_operands &o, uint32_t epoch,
                                                     const car_push_unit &u, bool published)
{
    car_words<R::unit_bytes> mine = {};

    if (u.to_do) {
        mine = R::template read<R::unit_bytes>(o.what, o.input, u.index, o.vector_input);
        if (!published) {
            car_send(a, epoch, u.place, mine);
        }
    }
    return mine;
}

/*
 * The rest of a block's exchange; false if a peer was not there in time, and then no output has
 * been written.
 */
template <class R> CAR_DEVICE bool car_push_fold(const car_kernel_args_t &a, const car_operands &o,
                                                 uint32_t epoch, const car_push_unit &u,
                                                 const car_words<R::unit_bytes> &mine)
{
    car_words<R::unit_bytes> result = {};
    const bool there = !u.to_do || car_receive<R>(a, o.what, epoch, u.place, mine, result);

    if (!car_block_all(there)) {
        return false;
    }
    if (u.to_do) {
        R::template write<R::unit_bytes>(o.what, o.output, u.index, o.vector_output, result);
    }
    return true;
}

/* One exchange of this block; false, and only published, if a peer was not there in time. */
template <class R>
CAR_DEVICE bool car_push_round(const car_kernel_args_t &a, const car_operands &o, car_progress_t &p)
{
    const uint32_t epoch = p.finished;
    const car_push_unit u = car_push_unit_of<R>(o, epoch, car_block(), car_blocks());
    const car_words<R::unit_bytes> mine = car_push_publish<R>(a, o, epoch, u, p.published != epoch);

    p.published = epoch + 1;
    if (!car_push_fold<R>(a, o, epoch, u, mine)) {
        return false;
    }
    p.reduced = p.finished = epoch + 1;
    return true;
}

#endif /* CAR_ONE_SHOT_PUSH_CUH */
