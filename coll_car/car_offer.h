/*
 * What the ranks tell each other at set-up, by exchanges of the control segment (car_setup.c), and
 * the first of that: what each can offer.
 */
#ifndef CAR_OFFER_H
#define CAR_OFFER_H

#include "car_comm.h"

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
    /* kernels of processes that share this rank's GPU run at the same time */
    int16_t side_by_side;
    int16_t two_phase;
    uint32_t map_max;
    uint32_t stay_max;
} car_offer_t;

typedef struct {
    car_verdict_t verdict;
    uint64_t piece_offset;
    uint32_t tag;
} car_step_t;

_Static_assert(sizeof(car_offer_t) <= CAR_RECORD_BYTES, "an offer fits a record");

/* Whether the driver's result is a failure, which then stands in the verdict. */
bool car_verdict_fail(car_verdict_t *verdict, CUresult result, const char *what);

/*
 * What this rank can do, for `buffer` and `node_processes` as in car_comm_config_t. Takes what the
 * communicator needs of the device for that; where there is not so much the verdict says so. Local.
 */
void car_offer_make(car_comm_t *comm, CUdeviceptr buffer, int node_processes, car_offer_t *offer);

/* From here on every rank has the same limits: rank 0's wishes, the least of what all can do. */
void car_offers_agree(car_comm_t *comm, const car_offer_t *offers);

#endif /* CAR_OFFER_H */
