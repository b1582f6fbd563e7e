/*
 * Packets: 8 bytes of data in one 16-byte store, {data, epoch, data, epoch}. Each half proves its
 * own arrival, so no flag, fence or barrier is needed. A unit is what a thread exchanges at a time:
 * one packet, or two in the kernels of car_any, whose elements may have 16 bytes. docs/protocol.md
 * has the rules.
 *
 * Inbox: [2 slots][rank of the source][packets of a round].
 */
#ifndef CAR_PACKETS_CUH
#define CAR_PACKETS_CUH

#include "car_reduce.cuh"
#include "car_sync.cuh"

#define CAR_PACKETS_IN_FLIGHT 8 /* of those that a thread waits for */

CAR_DEVICE car_word16_t *car_inbox(const car_kernel_args_t &a, uint32_t owner, uint32_t epoch,
                                   uint32_t source)
{
    return (car_word16_t *) (a.piece[owner] + a.push_offset
                             + ((uint64_t) (epoch % CAR_SLOTS) * a.size + source) * a.push_slot);
}

/*
 * Sends a unit to the `place` in a peer's inbox: as many packets, one after the other, as it has
 * payloads.
 */
template <int Bytes> CAR_DEVICE void car_send_to(const car_kernel_args_t &a, uint32_t peer,
                                                 uint32_t epoch, uint32_t place,
                                                 const car_words<Bytes> &unit)
{
    car_word16_t *inbox = car_inbox(a, peer, epoch, a.rank) + place;
#pragma unroll
    for (int k = 0; k < Bytes / CAR_PACKET_PAYLOAD; ++k) {
        car_word16_t packet;
        packet.w[0] = unit.w[2 * k];
        packet.w[1] = epoch;
        packet.w[2] = unit.w[2 * k + 1];
        packet.w[3] = epoch;
        car_store_packet(inbox + k, packet);
    }
}

template <int Bytes> CAR_DEVICE void car_send(const car_kernel_args_t &a, uint32_t epoch,
                                              uint32_t place, const car_words<Bytes> &mine)
{
#pragma unroll 1
    for (uint32_t i = 1; i < a.size; ++i) {
        car_send_to(a, car_peer(a, i), epoch, place, mine);
    }
}

CAR_DEVICE bool car_is_of(const car_word16_t &packet, uint32_t epoch)
{
    return packet.w[1] == epoch && packet.w[3] == epoch;
}

/*
 * Waits for the units at a `place` of the own inbox from the peers among the first `ranks`, and
 * hands them to use(rank, unit) in rank order; this rank gets its turn among them, with a unit of
 * nothing. False if that lasts too long. The loads of so many `Packets` are in flight at a time.
 * What a thread does here is all that lies between the last peer's packet and the result, so it is
 * short: what is asked for stands in registers, and one loop waits for all packets.
 */
template <int Bytes, int Packets, class Use>
CAR_DEVICE bool car_receive_units(const car_kernel_args_t &a, uint32_t epoch, uint32_t place,
                                  uint32_t ranks, Use use)
{
    constexpr uint32_t packets = Bytes / CAR_PACKET_PAYLOAD,
                       batch = Packets / packets > 0 ? Packets / packets : 1;
    const uint32_t rank = a.rank, slot = a.push_slot;
    const char *inbox = (const char *) (car_inbox(a, rank, epoch, 0) + place);
    car_patience patience = car_patience_new();

    for (uint32_t base = 0; base < ranks; base += batch) {
        /* Epochs begin at 1. What is not awaited is there. */
        car_word16_t packet[batch][packets] = {};
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
#pragma unroll
            for (uint32_t k = 0; k < packets; ++k) {
                packet[i][k].w[1] = packet[i][k].w[3] =
                    base + i < ranks && base + i != rank ? 0 : epoch;
            }
        }
        for (;;) {
            bool there = true;
#pragma unroll
            for (uint32_t i = 0; i < batch; ++i) {
#pragma unroll
                for (uint32_t k = 0; k < packets; ++k) {
                    if (!car_is_of(packet[i][k], epoch)) {
                        packet[i][k] = car_load_packet(
                            (const car_word16_t *) (inbox + (uint64_t) (base + i) * slot) + k);
                    }
                }
            }
#pragma unroll
            for (uint32_t i = 0; i < batch; ++i) {
#pragma unroll
                for (uint32_t k = 0; k < packets; ++k) {
                    there = there && car_is_of(packet[i][k], epoch);
                }
            }
            if (there) {
                break;
            }
            if (!car_patience_left(patience, a.spin_ns)) {
                return false;
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
            if (base + i < ranks) {
                car_words<Bytes> unit;
#pragma unroll
                for (uint32_t k = 0; k < packets; ++k) {
                    unit.w[2 * k] = packet[i][k].w[0];
                    unit.w[2 * k + 1] = packet[i][k].w[2];
                }
                use(base + i, unit);
            }
        }
    }
    return true;
}

template <class R, int Packets>
CAR_DEVICE bool car_receive_with(const car_kernel_args_t &a, const car_elements_t &what,
                                 uint32_t epoch, uint32_t place,
                                 const car_words<R::unit_bytes> &mine,
                                 car_words<R::unit_bytes> &result)
{
    typedef car_words<R::unit_bytes> unit_t;
    const uint32_t rank = a.rank;
    typename R::template accumulator<R::unit_bytes> acc;

    acc.begin(what, mine);
    const bool there = car_receive_units<R::unit_bytes, Packets>(
        a, epoch, place, a.size, [&](uint32_t source, const unit_t &unit) {
            const unit_t next = source == rank ? mine : unit;
            if (0 == source) {
                acc.begin(what, next);
            } else {
                acc.add(what, next);
            }
        });
    if (there) {
        result = acc.end(what);
    }
    return there;
}

/*
 * Waits for one unit of all peers and folds it with this rank's; false if that lasts too long. Few
 * ranks have code of their own: it is shorter, and a kernel that has just begun has none of it in
 * the cache of instructions.
 */
template <class R> CAR_DEVICE bool car_receive(const car_kernel_args_t &a,
                                               const car_elements_t &what, uint32_t epoch,
                                               uint32_t place, const car_words<R::unit_bytes> &mine,
                                               car_words<R::unit_bytes> &result)
{
    if (a.size <= 2) {
        return car_receive_with<R, 2>(a, what, epoch, place, mine, result);
    }
    if (a.size <= 4) {
        return car_receive_with<R, 4>(a, what, epoch, place, mine, result);
    }
    return car_receive_with<R, CAR_PACKETS_IN_FLIGHT>(a, what, epoch, place, mine, result);
}

#endif /* CAR_PACKETS_CUH */
