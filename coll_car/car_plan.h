/*
 * How a call is done: which kernels, how many blocks and threads, how the elements are cut into rounds. A plan follows
 * from the call's arguments and from what the ranks agreed on at set-up, nothing else, so all ranks make the same one.
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
    uint32_t push_offset;    /* inbox of one_shot_push: [2][ranks][push_slot] */
    uint32_t push_slot;
    uint32_t pull_offset;    /* staging of one_shot_pull: [2][pull_slot] */
    uint32_t pull_slot;
    uint32_t scatter_offset; /* inboxes of two_shot: [2][ranks][two_shot_slot] each */
    uint32_t gather_offset;
    uint32_t two_shot_slot;
    uint32_t local_offset;   /* copies of buffers that kernels cannot use where they are */
    uint32_t local_bytes;
} car_layout_t;

/*
 * What a communicator starts with, which is also the least that can be laid out, and what it can make good use of: two
 * ranks on one H100 under MPS did 64 MB by two_shot in 352 us with 16 MB, in 218 with 32 (November 2026).
 */
#define CAR_PIECE_MIN (512 * 1024)
#define CAR_PIECE_MAX (32 * 1024 * 1024)

/* `piece` bytes, at least CAR_PIECE_MIN, for 2 to CAR_MAX_RANKS ranks. */
void car_layout_make(size_t piece, int ranks, car_layout_t *layout);

/* What the ranks agreed on. */
typedef struct {
    int ranks;
    int algorithm;   /* forced, or CAR_ALGORITHM_AUTO */
    int push_max;    /* bytes; -1: from the table */
    int pull_max;
    bool one_gpu;     /* all ranks are on the same */
    uint32_t blocks;  /* at most this many, so that the grids of all processes on a GPU are resident together */
    uint32_t threads; /* per block, at most */
    car_layout_t layout;
} car_limits_t;

typedef struct {
    car_algorithm_t algorithm;
    uint32_t blocks;
    uint32_t threads;
    uint64_t tile;   /* elements of a block in a round; two_shot: of one share of it */
    uint64_t round;  /* elements of all blocks in a round */
    uint64_t rounds; /* each is one exchange */
} car_plan_t;

/* `count` > 0 elements of `element` bytes (4 or 8). */
car_plan_t car_plan_make(const car_limits_t *limits, uint64_t count, size_t element);

/* Bytes of the smallest piece with which that call takes as few rounds as with the largest. */
size_t car_plan_piece(const car_limits_t *limits, uint64_t count, size_t element);

const char *car_algorithm_name(car_algorithm_t algorithm);

#endif /* CAR_PLAN_H */
