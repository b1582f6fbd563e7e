/*
 * one_shot_push: everybody sends his data to everybody, in packets that prove their own arrival. Small messages.
 *
 *   publish  every thread writes its unit of the input, 8 bytes, into the inbox of every peer as one 16-byte packet;
 *            each half of it carries the epoch, so no flag, fence or barrier is needed
 *   fold     the thread polls the same unit from all peers in its own inbox and folds them in rank order
 *   finish   once every thread of the block has all it waits for, the block writes its output
 *
 * Inbox: [2 slots][rank of the source][units of a round].
 */
#include "car_reduce.cuh"
#include "car_sync.cuh"

CAR_DEVICE car_word16_t *car_inbox(const car_kernel_args_t &a, uint32_t owner, uint32_t epoch, uint32_t source)
{
    return (car_word16_t *) (a.piece[owner] + a.push_offset
                             + ((uint64_t) (epoch % CAR_SLOTS) * a.size + source) * a.push_slot);
}

template <class T> CAR_DEVICE void car_send(const car_kernel_args_t &a, uint32_t epoch, uint32_t place,
                                            const car_unit<T> &mine)
{
    car_word16_t packet;
    packet.w[0] = mine.word[0];
    packet.w[1] = epoch;
    packet.w[2] = mine.word[1];
    packet.w[3] = epoch;
    /* Each rank begins with its successor, so they do not all write to the same GPU at once. */
    for (uint32_t i = 1; i < a.size; ++i) {
        const uint32_t peer = a.rank + i < a.size ? a.rank + i : a.rank + i - a.size;
        car_store_packet(car_inbox(a, peer, epoch, a.rank) + place, packet);
    }
}

CAR_DEVICE bool car_is_of(const car_word16_t &packet, uint32_t epoch)
{
    return packet.w[1] == epoch && packet.w[3] == epoch;
}

/* Waits for one unit of all peers and folds it; false if that lasts too long. Eight loads are in flight at a time. */
template <class T, class Op>
CAR_DEVICE bool car_receive(const car_kernel_args_t &a, uint32_t epoch, uint32_t place, const car_unit<T> &mine,
                            car_unit<T> &acc)
{
    const uint32_t batch = 8;
    car_patience patience = car_patience_new();

    for (uint32_t base = 0; base < a.size; base += batch) {
        car_word16_t packet[batch];
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
            if (base + i < a.size && base + i != a.rank) {
                packet[i] = car_load_packet(car_inbox(a, a.rank, epoch, base + i) + place);
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
            const uint32_t source = base + i;
            if (source >= a.size) {
                break;
            }
            car_unit<T> next = mine;
            if (source != a.rank) {
                while (!car_is_of(packet[i], epoch)) {
                    if (!car_patience_left(patience, a.spin_ns)) {
                        return false;
                    }
                    packet[i] = car_load_packet(car_inbox(a, a.rank, epoch, source) + place);
                }
                next.word[0] = packet[i].w[0];
                next.word[1] = packet[i].w[2];
            }
            if (0 == source) {
                acc = next;
            } else {
                car_accumulate<Op>(acc, next);
            }
        }
    }
    return true;
}

/* One exchange of a block; false if a peer was not there in time, and then no output has been written. */
template <class T, class Op> CAR_DEVICE bool car_push_round(const car_kernel_args_t &a, car_progress_t &p)
{
    const uint32_t epoch = p.finished;
    const uint32_t length = CAR_PACKET_PAYLOAD / sizeof(T);
    const uint32_t units = (uint32_t) (a.tile / length); /* of this block in this round; at most one per thread */
    const uint32_t place = car_block() * units + car_thread();
    const uint64_t start = ((uint64_t) (epoch - a.epoch) * car_blocks() + car_block()) * a.tile;
    const uint64_t index = start + (uint64_t) car_thread() * length;
    /* Thread 0 exchanges a unit even where the block has no elements left: every block hears from its equals in every
     * exchange, or else a peer could reuse a slot that a block of ours still reads. */
    const bool mine_to_do = car_thread() < units && (index < a.count || 0 == car_thread());
    car_unit<T> mine = {}, acc = {};
    bool there = true;

    if (mine_to_do) {
        mine = car_read<T, CAR_PACKET_PAYLOAD>((const T *) a.input, index, a.count, a.vector_input);
        if (p.published == epoch) {
            car_send<T>(a, epoch, place, mine);
        }
        there = car_receive<T, Op>(a, epoch, place, mine, acc);
    }
    p.published = epoch + 1;
    if (!car_block_all(there)) {
        return false;
    }
    if (mine_to_do) {
        car_write<T, CAR_PACKET_PAYLOAD>((T *) a.output, index, a.count, a.vector_output, acc);
    }
    p.reduced = p.finished = epoch + 1;
    return true;
}

template <class T, class Op> CAR_DEVICE void car_one_shot_push(const car_kernel_args_t &a)
{
    car_progress_t p = car_begin(a);

    while (p.finished != a.end && car_push_round<T, Op>(a, p)) {
    }
    car_end(a, p);
}

#define CAR_INSTANCE(name, type, op)                                                                                   \
    CAR_KERNEL(car_one_shot_push_##name, car_kernel_args_t, a) { car_one_shot_push<type, op>(a); }
#include "car_instances.def"
