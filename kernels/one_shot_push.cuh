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

/* One exchange of a block; false if a peer was not there in time, and then no output has been written. */
template <class R> CAR_DEVICE bool car_push_round(const car_kernel_args_t &a, car_progress_t &p)
{
    const uint32_t epoch = p.finished;
    const uint32_t length = R::length(a.what, R::unit_bytes);
    const uint32_t units = (uint32_t) (a.tile / length); /* of this block in this round; at most one per thread */
    const uint32_t place = (car_block() * units + car_thread()) * (R::unit_bytes / CAR_PACKET_PAYLOAD);
    const uint64_t start = ((uint64_t) (epoch - a.epoch) * car_blocks() + car_block()) * a.tile;
    const uint64_t index = start + (uint64_t) car_thread() * length;
    /* Thread 0 exchanges a unit even where the block has no elements left: every block hears from its equals in every
     * exchange, or else a peer could reuse a slot that a block of ours still reads. */
    const bool mine_to_do = car_thread() < units && (index < a.what.count || 0 == car_thread());
    car_words<R::unit_bytes> mine = {}, result = {};
    bool there = true;

    if (mine_to_do) {
        mine = R::template read<R::unit_bytes>(a.what, a.input, index, a.vector_input);
        if (p.published == epoch) {
            car_send(a, epoch, place, mine);
        }
        there = car_receive<R>(a, epoch, place, mine, result);
    }
    p.published = epoch + 1;
    if (!car_block_all(there)) {
        return false;
    }
    if (mine_to_do) {
        R::template write<R::unit_bytes>(a.what, a.output, index, a.vector_output, result);
    }
    p.reduced = p.finished = epoch + 1;
    return true;
}

#endif /* CAR_ONE_SHOT_PUSH_CUH */
