#include "car_plan.h"

#include "car_kernel_args.h"

/* Of the smallest piece: 2 slots of 8 ranks with 8 KB each, which are 16 KB of packets. */
#define CAR_PUSH_MIN (256 * 1024)

/* Blocks that fill a Hopper link. */
#define FILLS_A_LINK 64

/* For the queue's lane: operands and results of two steps of 8 KB, and a word for each lane. */
#define CAR_QUEUE_BYTES (36 * 1024)
#define CAR_QUEUE_WORDS (CAR_LANES_MAX * sizeof(uint32_t))

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

static uint64_t round_up(uint64_t a, uint64_t b)
{
    return divide_up(a, b) * b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* A part of the piece in bytes that slots of 128 bytes alignment can be cut from. */
static uint32_t slot(size_t region, int slots)
{
    const size_t bytes = region / (size_t) slots;
    return (uint32_t) (bytes - bytes % 128);
}

void car_layout_make(size_t piece, int ranks, car_layout_t *layout)
{
    const size_t page = 4096, rest = piece - CAR_FLAGS_BYTES - CAR_QUEUE_BYTES;
    /*
     * A quarter each for packets and for either slot of staging, so that messages that are powers
     * of two fill them; the last has what is left besides flags and queue. A small piece has first
     * of all the inbox that small messages need.
     */
    const size_t quarter = piece / 4 / page * page;
    const size_t push = larger(quarter, CAR_PUSH_MIN);
    /*
     * The local part holds a round of any algorithm: half a slot of staging; of one_shot_push an
     * eighth of its inbox at most, with two ranks, of two_shot_push always.
     */
    const size_t room = smaller((rest - push) * 2 / 5, (rest - push - push / 8) / 2);
    const size_t staging = smaller(quarter, room / page * page);

    layout->own_offset = (sizeof(car_flags_t) + 127) / 128 * 128;
    layout->push_offset = CAR_FLAGS_BYTES;
    layout->push_slot = slot(push, CAR_SLOTS * ranks);
    layout->staging_offset = (uint32_t) (layout->push_offset + push);
    layout->staging_slot = (uint32_t) staging;
    layout->two_shot_slot = slot(staging, 2 * ranks);
    layout->local_offset = (uint32_t) (layout->staging_offset + CAR_SLOTS * staging);
    layout->local_bytes = (uint32_t) (piece / page * page - CAR_QUEUE_BYTES - layout->local_offset);
    layout->queue_offset = layout->local_offset + layout->local_bytes;
    layout->queue_slot = slot(CAR_QUEUE_BYTES - CAR_QUEUE_WORDS, 2 * CAR_SLOTS);
}

_Static_assert(sizeof(car_flags_t) + 128 + sizeof(car_own_words_t) <= CAR_FLAGS_BYTES,
               "flags and own words fit");

static car_algorithm_t choose(const car_limits_t *limits, uint64_t bytes)
{
    if (CAR_ALGORITHM_AUTO != limits->algorithm) {
        return (car_algorithm_t) limits->algorithm;
    }
    if (bytes <= limits->push_max) {
        return CAR_ONE_SHOT_PUSH;
    }
    if (bytes <= limits->two_shot_push_max) {
        return CAR_TWO_SHOT_PUSH;
    }
    return bytes <= limits->pull_max ? CAR_ONE_SHOT_PULL : CAR_TWO_SHOT;
}

/*
 * Cuts `count` elements into rounds. A block takes tiles of whole accesses of `access` elements in
 * `shares` shares; `room` is how many accesses of one share all blocks may have in a round.
 */
static void cut(car_plan_t *plan, const car_limits_t *limits, uint64_t count, uint64_t access,
                uint64_t shares, uint64_t room, uint64_t per_thread_max)
{
    const uint64_t accesses = divide_up(count, access * shares); /* of each share */
    uint64_t threads = smaller(limits->threads, round_up(accesses, 32));
    threads = larger(smaller(threads, room), 1);
    const uint64_t blocks =
        larger(1, smaller(smaller(limits->blocks, divide_up(accesses, threads)), room / threads));
    const uint64_t tile_room = larger(1, smaller(room / blocks, threads * per_thread_max));
    const uint64_t rounds = larger(1, divide_up(divide_up(accesses, blocks), tile_room));
    const uint64_t tile = larger(1, divide_up(divide_up(accesses, blocks), rounds));

    plan->threads = (uint32_t) threads;
    plan->blocks = (uint32_t) blocks;
    plan->tile = tile * access;
    plan->round = plan->tile * shares * blocks;
    plan->rounds = divide_up(count, plan->round);
}

static void cut_pull(car_plan_t *plan, const car_limits_t *limits, uint64_t count, size_t element)
{
    cut(plan, limits, count, CAR_PACK_BYTES / element, 1,
        limits->layout.staging_slot / CAR_PULL_HALVES / CAR_PACK_BYTES, 64);
}

/*
 * Twice as many blocks of half the size find room wherever these do. While one waits for its equals
 * or signals, the other one on its multiprocessor works. That pays where there are many exchanges,
 * and grids that could fill a link: 64 MB staged took 251 us instead of 276 with 2 ranks on two
 * H200, on one 143 instead of 151 with 2 ranks and 271 instead of 299 with 4; but 853 instead of
 * 769 with 8, of 33 blocks each. 1 MB on two took 15.6 instead of 15.1.
 */
static bool pull_in_halves(const car_plan_t *plan, const car_limits_t *limits)
{
    return plan->rounds > CAR_SLOTS && limits->blocks >= FILLS_A_LINK && !limits->fixed_grid
           && 0 == limits->threads % (2 * CAR_WARP);
}

static car_limits_t in_halves(const car_limits_t *limits)
{
    car_limits_t halves = *limits;

    halves.threads = limits->threads / 2;
    halves.blocks = (uint32_t) smaller(2 * (uint64_t) limits->blocks, CAR_MAX_BLOCKS);
    return halves;
}

car_plan_t car_plan_make(const car_limits_t *limits, uint64_t count, size_t element, size_t unit)
{
    const car_layout_t *layout = &limits->layout;
    car_plan_t plan = {.algorithm = choose(limits, count * element)};

    switch (plan.algorithm) {
    case CAR_ONE_SHOT_PUSH:
        cut(&plan, limits, count, unit / element, 1,
            layout->push_slot / (CAR_PACK_BYTES * unit / CAR_PACKET_PAYLOAD), 1);
        break;
    case CAR_TWO_SHOT_PUSH:
        cut(&plan, limits, count, unit / element, (uint64_t) limits->ranks,
            layout->push_slot / 2 / (CAR_PACK_BYTES * unit / CAR_PACKET_PAYLOAD), 1);
        break;
    case CAR_ONE_SHOT_PULL:
        cut_pull(&plan, limits, count, element);
        if (pull_in_halves(&plan, limits)) {
            const car_limits_t halves = in_halves(limits);
            cut_pull(&plan, &halves, count, element);
        }
        break;
    default:
        cut(&plan, limits, count, CAR_PACK_BYTES / element, (uint64_t) limits->ranks,
            layout->two_shot_slot / CAR_PACK_BYTES, 64);
        break;
    }
    return plan;
}

/* The sizes that pieces have: the first, then powers of two. */
static size_t next_piece(size_t piece)
{
    size_t next = CAR_PIECE_MAX;

    while (next / 2 > piece) {
        next /= 2;
    }
    return next;
}

static uint64_t rounds_with(const car_limits_t *limits, size_t piece, uint64_t count,
                            size_t element, size_t unit)
{
    car_limits_t with = *limits;

    car_layout_make(piece, limits->ranks, &with.layout);
    return car_plan_make(&with, count, element, unit).rounds;
}

size_t car_plan_piece(const car_limits_t *limits, uint64_t count, size_t element, size_t unit)
{
    const uint64_t fewest = rounds_with(limits, CAR_PIECE_MAX, count, element, unit);
    size_t piece = CAR_PIECE_MIN;

    while (piece < CAR_PIECE_MAX && rounds_with(limits, piece, count, element, unit) > fewest) {
        piece = next_piece(piece);
    }
    return piece;
}

size_t car_layout_for(car_limits_t *limits, uint64_t count, size_t element, size_t unit)
{
    car_layout_t *layout = &limits->layout;

    if (CAR_ONE_SHOT_PUSH != choose(limits, count * element)) {
        const size_t piece = car_plan_piece(limits, count, element, unit);
        car_layout_make(piece, limits->ranks, layout);
        return piece;
    }
    /* As cut() will have it: one access per thread, whole blocks. */
    const uint64_t accesses = divide_up(count * element, unit);
    const uint64_t threads = smaller(limits->threads, round_up(accesses, 32));
    const uint64_t blocks = smaller(limits->blocks, divide_up(accesses, threads));
    const size_t packets = CAR_PACK_BYTES * unit / CAR_PACKET_PAYLOAD;
    *layout = (car_layout_t){.push_offset = (uint32_t) round_up(sizeof(car_own_words_t), 128),
                             .push_slot = (uint32_t) round_up(blocks * threads * packets, 128)};
    layout->staging_offset =
        layout->push_offset + CAR_SLOTS * (uint32_t) limits->ranks * layout->push_slot;
    return layout->staging_offset;
}

const char *car_algorithm_name(car_algorithm_t algorithm)
{
    static const char *const names[] = {"one_shot_push", "two_shot_push", "one_shot_pull",
                                        "two_shot", "auto"};
    return names[algorithm];
}
