/*
 * What the files of a lane have of each other: car_lane.c moves it, car_agree.c decides on calls,
 * car_step.c takes them through their steps, of which car_lane_counters.c knows how far all are.
 */
#ifndef CAR_LANE_PARTS_H
#define CAR_LANE_PARTS_H

#include "car_lane.h"

/* Posts records, reads everybody's, decides. True if anything moved. */
bool car_lane_agree(car_lane_t *lane);

/* Which ranks the lane waits for before it can go on, and what for (bit r: rank r). */
uint32_t car_lane_agree_missing(const car_lane_t *lane, const char **phase);
uint32_t car_lane_step_missing(const car_lane_t *lane, const char **phase);

/* At the lane's end: what it has kept mapped may go. */
void car_lane_forget_sets(car_lane_t *lane, bool alive);

/*
 * Under the lock of car_pending.h: rank r is freeing that allocation, so what holds mappings for
 * its sake need not any more.
 */
void car_lane_let_go(car_lane_t *lane, int r, uint64_t id);

/* Takes steps of decided calls on. True if anything moved. */
bool car_lane_step(car_lane_t *lane);

/* Cuts a call whose path is decided into steps, behind all others of the lane. */
void car_lane_give_steps(car_lane_t *lane, car_call_t *op);

/* The counters of rank r. */
static inline car_lane_words_t *car_lane_words(const car_lane_t *lane, int r)
{
    return car_control_lane(lane->control, lane->index, r);
}

/* Whether every rank's counter has come to `value`. */
bool car_lane_all_settled(car_lane_t *lane, uint64_t value);
bool car_lane_all_staged(car_lane_t *lane, uint64_t value);
bool car_lane_all_reduced(car_lane_t *lane, uint64_t value);
bool car_lane_all_done(car_lane_t *lane, uint64_t value);

/* Whether the kernel with that ticket, and so all before it, has ended; 0 is no kernel. */
bool car_lane_reached(const car_lane_t *lane, uint32_t ticket);

/* Breaks the communicator: something has failed here. Returns false. */
bool car_lane_broken(car_lane_t *lane, const char *what, CUresult result);

/*
 * Makes the device's context current, until car_lane_leave, and the lane's stream exist. False:
 * broken.
 */
bool car_lane_driver(car_lane_t *lane);
void car_lane_leave(car_lane_t *lane);

/*
 * Peers read and write a call's buffers as soon as they know of them: what the application has
 * copied there must be complete by then, not only ordered before kernels of ours. False: that could
 * not be waited for.
 */
bool car_lane_settle_for_peers(const car_lane_t *lane, car_call_t *op);

/* The first call has ended. */
void car_lane_end_first(car_lane_t *lane, bool failed);

#endif /* CAR_LANE_PARTS_H */
