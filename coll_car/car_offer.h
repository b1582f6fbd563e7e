/*
 * What the ranks tell each other at set-up, by exchanges of the control segment (car_setup.c).
 */
#ifndef CAR_OFFER_H
#define CAR_OFFER_H

#include "car_control.h"
#include "car_device.h"
#include "car_thresholds.h"

typedef struct {
    int failed;
    int by_choice; /* nothing is wrong: coll/car is not meant for these GPUs */
    char reason[CAR_REASON_BYTES];
} car_verdict_t;

typedef struct {
    car_verdict_t verdict;
    int pid;
    int node_processes;
    int devices; /* that this rank can see */
    uint32_t resident_blocks;
    uint32_t threads;
    CUuuid uuid;
    car_id_t arena;
    uint64_t arena_bytes;
    CUipcMemHandle handle;
    int algorithm;
    int two_shot_push_max;
    int generation; /* compute capability of this rank's GPU, 10 x major + minor */
    /* for both: who shares a GPU is known when all offers are */
    car_thresholds_t thresholds[CAR_SHARINGS];
    uint32_t blocks_wanted, threads_wanted, first_epoch;
    int side_by_side; /* kernels of processes that share this rank's GPU run at the same time */
    int two_phase;
    uint32_t map_max;
} car_offer_t;

typedef struct {
    car_verdict_t verdict;
    uint64_t piece_offset;
    uint32_t tag;
} car_step_t;

_Static_assert(sizeof(car_offer_t) <= CAR_RECORD_BYTES, "an offer fits a record");

#endif /* CAR_OFFER_H */
