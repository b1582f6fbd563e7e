/*
 * one_shot_push: everybody sends his data to everybody, in packets that prove their own arrival. Small messages.
 *
 *   publish  every thread writes its unit of the input, 8 bytes, into the inbox of every peer as one 16-byte packet;
 *            each half of it carries the epoch, so no flag, fence or barrier is needed. A unit of car_any, whose
 *            elements may have 16 bytes, is two packets
 *   fold     the thread polls the same unit from all peers in its own inbox and folds them in rank order
 *   finish   once every thread of the block has all it waits for, the block writes its output
 *
 * Here is one exchange of a block; one_shot_push.cu does a call's, one_shot_push_stay.cu those of calls that follow each other.
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
 * One exchange of a block; false if a peer was not there in time, and then no output has been written. Of `a` it takes what
 * stays the same for a communicator: pieces, ranks, patience.
 */
template <class R> CAR_DEVICE bool car_push_round(const car_kernel_args_t &a, const car_operands &o, car_progress_t &p)
{
    const uint32_t epoch = p.finished;
    const uint32_t length = R::length(o.what, R::unit_bytes);
    const uint32_t units = (uint32_t) o.tile / length; /* of this block in this round; at most one per thread */
    const uint32_t place = (car_block() * units + car_thread()) * (R::unit_bytes / CAR_PACKET_PAYLOAD);
    const uint64_t start = ((uint64_t) (epoch - o.epoch) * car_blocks() + car_block()) * o.tile;
    const uint64_t index = start + (uint64_t) car_thread() * length;
    /* Thread 0 exchanges a unit even where the block has no elements left: every block hears from its equals in every
     * exchange, or else a peer could reuse a slot that a block of ours still reads. */
    const bool mine_to_do = car_thread() < units && (index < o.what.count || 0 == car_thread());
    car_words<R::unit_bytes> mine = {}, result = {};
    bool there = true;

    if (mine_to_do) {
        mine = R::template read<R::unit_bytes>(o.what, o.input, index, o.vector_input);
        if (p.published == epoch) {
            car_send(a, epoch, place, mine);
        }
        there = car_receive<R>(a, o.what, epoch, place, mine, result);
    }
    p.published = epoch + 1;
    if (!car_block_all(there)) {
        return false;
    }
    if (mine_to_do) {
        R::template write<R::unit_bytes>(o.what, o.output, index, o.vector_output, result);
    }
    p.reduced = p.finished = epoch + 1;
    return true;
}

#endif /* CAR_ONE_SHOT_PUSH_CUH */
