/*
 * How a call is done: which kernels, how many blocks and threads, how the elements are cut into
 * rounds. A plan follows from the call's arguments and from what the ranks agreed on at set-up,
 * nothing else, so all ranks make the same one.
 */
#ifndef CAR_PLAN_H
#define CAR_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "car_params.h"

/* Where the regions of a piece lie: the same on all ranks. Bytes. */
typedef struct {
    uint32_t own_offset;     /* car_own_words_t */
    uint32_t push_offset;    /* inbox for packets: [2][ranks][push_slot] */
    uint32_t push_slot;      /* two_shot_push: operands in the first half, results in the second */
    /*
     * staging of one_shot_pull: [2][2 halves of staging_slot]; inboxes of two_shot in the same
     * slots
     */
    uint32_t staging_offset;
    uint32_t staging_slot;
    uint32_t two_shot_slot;  /* a slot is [scatter, gather][ranks][two_shot_slot] to it */
    uint32_t local_offset;   /* copies of buffers that kernels cannot use where they are */
    uint32_t local_bytes;
    /* of the first piece: CAR_LANES counters, then four slots of the queue's lane */
    uint32_t queue_offset;
    uint32_t queue_slot;
} car_layout_t;

/*
 * What a communicator starts with, which is also the least that can be laid out: the inbox has room
 * for 8 KB of 8 ranks in one round, and 100 such pieces fit the part of the default arena that is
 * kept for them. And what it can make good use of.
 */
#define CAR_PIECE_MIN (400 * 1024)
#define CAR_PIECE_MAX (16 * 1024 * 1024)

/* `piece` bytes, at least CAR_PIECE_MIN, for 2 to CAR_MAX_RANKS ranks. */
void car_layout_make(size_t piece, int ranks, car_layout_t *layout);

/* What the ranks agreed on. */
typedef struct {
    int ranks;
    int algorithm;     /* forced, or CAR_ALGORITHM_AUTO */
    /* bytes up to which one_shot_push is chosen, then one_shot_pull: car_thresholds.h */
    uint64_t push_max;
    uint64_t two_shot_push_max; /* and between these two_shot_push; 0: not by size */
    uint64_t pull_max;
    /* at most this many, so that the grids of all processes on a GPU are resident together */
    uint32_t blocks;
    uint32_t threads; /* per block, at most */
    bool fixed_grid;  /* the user has set one of these */
    car_layout_t layout;
} car_limits_t;

typedef struct {
    car_algorithm_t algorithm;
    uint32_t blocks;
    uint32_t threads;
    /* elements of a block in a round; two_shot, two_shot_push: of one share of it */
    uint64_t tile;
    uint64_t round;  /* elements of all blocks in a round */
    uint64_t rounds; /* each is one exchange */
} car_plan_t;

/*
 * `count` > 0 elements of `element` bytes, 1 to 16, a power of two; a thread exchanges `unit` bytes
 * in packets at a time, 8 or 16, which hold at least one element.
 */
car_plan_t car_plan_make(const car_limits_t *limits, uint64_t count, size_t element, size_t unit);

/* Bytes of the smallest piece with which that call takes as few rounds as with the largest. */
size_t car_plan_piece(const car_limits_t *limits, uint64_t count, size_t element, size_t unit);

/*
 * Lays out a piece for that call alone, with which it takes no more rounds than with the largest;
 * returns its bytes. The layout is limits->layout.
 */
size_t car_layout_for(car_limits_t *limits, uint64_t count, size_t element, size_t unit);

const char *car_algorithm_name(car_algorithm_t algorithm);

#endif /* CAR_PLAN_H */
