/*
 * What the files of a lane's steps have of each other: car_step.c takes them from phase to phase;
 * car_step_host.c and car_step_device.c have what is done in one.
 */
#ifndef CAR_STEP_PARTS_H
#define CAR_STEP_PARTS_H

#include "car_lane_parts.h"

/* Shares of less are not worth a third phase: every rank folds it all. */
#define CAR_SHARE_LEAST 2048

/* Some of a call's elements: `start` is the first one's number in the call, or in a step. */
typedef struct {
    uint64_t start, count;
} car_part_t;

/* The elements of a step. */
car_part_t car_step_part(const car_call_t *op, uint64_t step);

/* The index-th of `shares` shares of so many elements: whole packs, but for the last. */
car_part_t car_step_share(const car_call_t *op, uint64_t count, int index, int shares);

static inline car_part_t car_step_rank_share(const car_lane_t *lane, const car_call_t *op,
                                             uint64_t count, int r)
{
    return car_step_share(op, count, r, lane->size);
}

/* Whether ranks fold a share of each step, and so need each other's results. */
bool car_step_by_shares(const car_lane_t *lane, const car_call_t *op);

/* The phases on the host, each complete on return. False: the communicator is broken. */
bool car_step_stage_on_host(car_lane_t *lane, car_call_t *op, uint64_t step);
bool car_step_reduce_on_host(car_lane_t *lane, car_call_t *op, uint64_t step);
bool car_step_gather_on_host(car_lane_t *lane, car_call_t *op, uint64_t step);

/*
 * The phases in device memory, the first two with the device's context current. Complete when the
 * kernel *ticket has ended (car_lane_reached). False: the communicator is broken.
 */
bool car_step_stage_on_device(car_lane_t *lane, car_call_t *op, uint64_t step, uint32_t *ticket);
bool car_step_reduce_on_device(car_lane_t *lane, car_call_t *op, uint64_t step, uint32_t *ticket);

/*
 * Results to the user: by a kernel where those were shares, by a copy where kernels cannot reach
 * his buffer.
 */
bool car_step_gather_on_device(car_lane_t *lane, car_call_t *op, uint64_t step, uint32_t *ticket);

#endif /* CAR_STEP_PARTS_H */
