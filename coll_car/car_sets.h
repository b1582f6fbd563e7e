/*
 * The sets of buffers that a lane remembers, so that zero copy with buffers that come again needs
 * no second round: docs/protocol.md. All ranks keep the same ones, as they read the same records.
 * Under the lock of car_pending.h but for car_sets_drop_gone, and car_sets_recall, which reads what
 * no other thread writes.
 */
#ifndef CAR_SETS_H
#define CAR_SETS_H

#include "car_lane.h"

/*
 * What is gone is in no set any more, and not mapped longer than calls that are under way hold it,
 * whether this call is zero copy or not. All ranks read this; a rank tells it again until they
 * have.
 */
void car_sets_drop_gone(car_lane_t *lane, car_call_t *op);

/*
 * The set that a call's records are, and whether it has been seen before; else it takes the place
 * of the one unused longest.
 */
car_set_t *car_sets_find(car_lane_t *lane, const car_call_t *op, bool *seen);

/*
 * Whether what the call's records have said so far is a set that is mapped; then the allocations'
 * bytes are those of the set.
 */
bool car_sets_recall(car_lane_t *lane);

/*
 * Maps all peers' buffers of a set. False: one cannot be; what has been mapped is held until
 * car_sets_unmap.
 */
bool car_sets_map(car_lane_t *lane, car_set_t *set);
void car_sets_unmap(car_set_t *set);

/*
 * A rank whose driver refused to free what it had told to be going brings it again: it is mapped
 * anew. False: broken.
 */
bool car_sets_map_again(car_lane_t *lane, car_set_t *set);

/* The call's own hold on everybody's buffers, and where these are. */
void car_sets_use(const car_lane_t *lane, car_call_t *op, const car_set_t *set);

#endif /* CAR_SETS_H */
