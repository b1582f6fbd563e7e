/*
 * two_shot_push: every rank folds one share of the elements and sends the result to everybody, all
 * in packets that prove their own arrival. Medium messages, where one_shot_push would send too much
 * and flags would cost too long.
 *
 *   publish  every thread sends its unit of each peer's share to that peer, and keeps its unit of
 *            its own rank's share
 *   reduce   it polls that unit from all peers, folds it in rank order and sends the result to all;
 *            once every thread of the block has done so, it writes it to the output
 *   finish   it polls the results of its unit of the other shares and writes them to the output
 *
 * The tile of a block in a round is `size` shares of a.tile elements, a unit per thread of each.
 * When a block has reduced a round it publishes the next, and finishes that one while the operands
 * are on their way. The inbox is that of one_shot_push: the first half of a source's part has its
 * operands, the second its results.
 */
#include "car_packets.cuh"

/* Operands of peers that are in flight before the first is sent. */
#define CAR_SCATTER_BATCH 4

struct car_units {
    uint32_t shares; /* the thread has a unit of the first so many shares */
    /* element at which the thread's unit of share r begins: first + r * share */
    uint64_t first, share;
    uint32_t operands, results; /* places of a unit in an inbox */
};

/*
 * Thread 0 exchanges a unit of each share even where they have no elements: every block hears from
 * its equals in every exchange, and of both of its phases, or else a peer could reuse a slot that a
 * block of ours still reads.
 */
template <class R> CAR_DEVICE car_units car_units_of(const car_kernel_args_t &a, uint32_t epoch)
{
    const uint32_t length = R::length(a.what, R::unit_bytes);
    const uint32_t units = (uint32_t) (a.tile / length); /* of each share; at most one per thread */
    car_units u;

    u.first = ((uint64_t) (epoch - a.epoch) * car_blocks() + car_block()) * a.tile * a.size
              + (uint64_t) car_thread() * length;
    u.share = a.tile;
    u.operands = (car_block() * units + car_thread()) * (R::unit_bytes / CAR_PACKET_PAYLOAD);
    u.results = u.operands + a.push_slot / 2 / CAR_PACK_BYTES;
    u.shares = car_thread() < units ? a.size : 0;
    while (0 != u.shares && 0 != car_thread()
           && u.first + (u.shares - 1) * u.share >= a.what.count) {
        --u.shares;
    }
    return u;
}

template <class R> CAR_DEVICE car_words<R::unit_bytes> car_read_unit(const car_kernel_args_t &a,
                                                                     const car_units &u,
                                                                     uint32_t share)
{
    return R::template read<R::unit_bytes>(a.what, a.input, u.first + share * u.share,
                                           a.vector_input);
}

template <class R>
CAR_DEVICE car_words<R::unit_bytes> car_read_own(const car_kernel_args_t &a, const car_units &u)
{
    car_words<R::unit_bytes> mine = {};

    if (a.rank < u.shares) {
        mine = car_read_unit<R>(a, u, a.rank);
    }
    return mine;
}

template <class R>
CAR_DEVICE void car_write_unit(const car_kernel_args_t &a, const car_units &u, uint32_t share,
                               const car_words<R::unit_bytes> &unit)
{
    R::template write<R::unit_bytes>(a.what, a.output, u.first + share * u.share, a.vector_output,
                                     unit);
}

/* Sends the thread's units of all peers' shares; returns its unit of this rank's. */
template <class R>
CAR_DEVICE car_words<R::unit_bytes> car_scatter_units(const car_kernel_args_t &a, uint32_t epoch)
{
    const car_units u = car_units_of<R>(a, epoch);
    const car_words<R::unit_bytes> mine = car_read_own<R>(a, u);

    for (uint32_t base = 1; base < a.size; base += CAR_SCATTER_BATCH) {
        car_words<R::unit_bytes> unit[CAR_SCATTER_BATCH] = {};
#pragma unroll
        for (uint32_t i = 0; i < CAR_SCATTER_BATCH; ++i) {
            if (base + i < a.size && car_peer(a, base + i) < u.shares) {
                unit[i] = car_read_unit<R>(a, u, car_peer(a, base + i));
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < CAR_SCATTER_BATCH; ++i) {
            if (base + i < a.size && car_peer(a, base + i) < u.shares) {
                car_send_to(a, car_peer(a, base + i), epoch, u.operands, unit[i]);
            }
        }
    }
    return mine;
}

template <class R> CAR_DEVICE bool car_reduce_unit(const car_kernel_args_t &a, uint32_t epoch,
                                                   const car_words<R::unit_bytes> &mine)
{
    const car_units u = car_units_of<R>(a, epoch);
    const bool to_do = a.rank < u.shares;
    car_words<R::unit_bytes> result = {};
    bool there = true;

    if (to_do) {
        there = car_receive<R>(a, a.what, epoch, u.operands, mine, result);
        if (there) {
            car_send(a, epoch, u.results, result);
        }
    }
    /*
     * If the block has to leave, some thread has sent no result, so no peer finishes the exchange
     * and overwrites the operands: all threads can fold once more. No output has been written that
     * these would read as input.
     */
    if (!car_block_all(there)) {
        return false;
    }
    if (to_do) {
        car_write_unit<R>(a, u, a.rank, result);
    }
    return true;
}

template <class R> CAR_DEVICE bool car_gather_units(const car_kernel_args_t &a, uint32_t epoch)
{
    typedef car_words<R::unit_bytes> unit_t;
    const car_kernel_args_t *args = &a;
    const car_units u = car_units_of<R>(a, epoch);

    const bool there = car_receive_units<R::unit_bytes, CAR_PACKETS_IN_FLIGHT>(
        a, epoch, u.results, u.shares, [args, u](uint32_t share, const unit_t &result) {
            if (share != args->rank) {
                car_write_unit<R>(*args, u, share, result);
            }
        });
    return car_block_all(there);
}

template <class R> CAR_DEVICE void car_two_shot_push(const car_kernel_args_t &a)
{
    car_progress_t p = car_begin(a);
    car_words<R::unit_bytes> mine = {}; /* of the exchange that is published and not reduced */

    if (p.published != p.reduced) {
        mine = car_read_own<R>(a, car_units_of<R>(a, p.reduced));
    }
    while (p.finished != a.end) {
        if (p.published == p.reduced && p.published != a.end) {
            mine = car_scatter_units<R>(a, p.published);
            ++p.published;
        } else if (p.reduced == p.finished) {
            if (!car_reduce_unit<R>(a, p.reduced, mine)) {
                break;
            }
            ++p.reduced;
        } else {
            if (!car_gather_units<R>(a, p.finished)) {
                break;
            }
            ++p.finished;
        }
    }
    car_end(a, p);
}

#define CAR_ALGORITHM two_shot_push
#include "car_kernels.cuh"
