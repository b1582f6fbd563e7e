/*
 * one_shot_push: everybody sends his data to everybody, in packets that prove their own arrival. Small messages.
 *
 *   publish  every thread writes its unit of the input, 8 bytes, into the inbox of every peer as one 16-byte packet;
 *            each half of it carries the epoch, so no flag, fence or barrier is needed. A unit of car_any, whose
 *            elements may have 16 bytes, is two packets
 *   fold     the thread polls the same unit from all peers in its own inbox and folds them in rank order
 *   finish   once every thread of the block has all it waits for, the block writes its output
 *
 * Inbox: [2 slots][rank of the source][units of a round].
 *
 * Here is one exchange of a block; one_shot_push.cu does a call's, one_shot_push_stay.cu those of calls that follow each other.
 */
#ifndef CAR_ONE_SHOT_PUSH_CUH
#define CAR_ONE_SHOT_PUSH_CUH

#include "car_reduce.cuh"
#include "car_sync.cuh"

CAR_DEVICE car_word16_t *car_inbox(const car_kernel_args_t &a, uint32_t owner, uint32_t epoch, uint32_t source)
{
    return (car_word16_t *) (a.piece[owner] + a.push_offset
                             + ((uint64_t) (epoch % CAR_SLOTS) * a.size + source) * a.push_slot);
}

/* Sends a unit: as many packets, one after the other, as it has payloads. */
template <int Bytes>
CAR_DEVICE void car_send(const car_kernel_args_t &a, uint32_t epoch, uint32_t place, const car_words<Bytes> &mine)
{
    /* Each rank begins with its successor, so they do not all write to the same GPU at once. */
    for (uint32_t i = 1; i < a.size; ++i) {
        const uint32_t peer = a.rank + i < a.size ? a.rank + i : a.rank + i - a.size;
        car_word16_t *inbox = car_inbox(a, peer, epoch, a.rank) + place;
#pragma unroll
        for (int k = 0; k < Bytes / CAR_PACKET_PAYLOAD; ++k) {
            car_word16_t packet;
            packet.w[0] = mine.w[2 * k];
            packet.w[1] = epoch;
            packet.w[2] = mine.w[2 * k + 1];
            packet.w[3] = epoch;
            car_store_packet(inbox + k, packet);
        }
    }
}

CAR_DEVICE bool car_is_of(const car_word16_t &packet, uint32_t epoch)
{
    return packet.w[1] == epoch && packet.w[3] == epoch;
}

/* Waits for one unit of all peers and folds it; false if that lasts too long. Eight loads are in flight at a time. */
template <class R>
CAR_DEVICE bool car_receive(const car_kernel_args_t &a, uint32_t epoch, uint32_t place,
                            const car_words<R::unit_bytes> &mine, car_words<R::unit_bytes> &result)
{
    const uint32_t packets = R::unit_bytes / CAR_PACKET_PAYLOAD, batch = 8 / packets;
    typename R::template accumulator<R::unit_bytes> acc;
    car_patience patience = car_patience_new();

    acc.begin(a.what, mine);
    for (uint32_t base = 0; base < a.size; base += batch) {
        car_word16_t packet[batch][packets];
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
            if (base + i < a.size && base + i != a.rank) {
#pragma unroll
                for (uint32_t k = 0; k < packets; ++k) {
                    packet[i][k] = car_load_packet(car_inbox(a, a.rank, epoch, base + i) + place + k);
                }
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
            const uint32_t source = base + i;
            if (source >= a.size) {
                break;
            }
            car_words<R::unit_bytes> next = mine;
            if (source != a.rank) {
#pragma unroll
                for (uint32_t k = 0; k < packets; ++k) {
                    while (!car_is_of(packet[i][k], epoch)) {
                        if (!car_patience_left(patience, a.spin_ns)) {
                            return false;
                        }
                        packet[i][k] = car_load_packet(car_inbox(a, a.rank, epoch, source) + place + k);
                    }
                    next.w[2 * k] = packet[i][k].w[0];
                    next.w[2 * k + 1] = packet[i][k].w[2];
                }
            }
            if (0 == source) {
                acc.begin(a.what, next);
            } else {
                acc.add(a.what, next);
            }
        }
    }
    result = acc.end(a.what);
    return true;
}

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
