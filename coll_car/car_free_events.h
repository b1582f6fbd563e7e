/*
 * Memory that the application frees, told to peers at once: UCM calls us before it goes, we write
 * its id into the control segments, and the peers drop their mappings in their next progress.
 * docs/protocol.md, "Zero copy", says why that is safe; without UCM, or where an event is lost, the
 * records of the next large call tell the same.
 */
#ifndef CAR_FREE_EVENTS_H
#define CAR_FREE_EVENTS_H

#include "car_lane.h"

/*
 * From here on what this rank frees is told to the communicator's ranks, and what they tell reaches
 * its two lanes. Starts the events, if they have not been. False where there are none
 * (coll_car_ucx), and then nothing has happened.
 */
bool car_free_events_watch(car_comm_t *comm, car_lane_t *queue, car_lane_t *calls);

/* No more; before the lanes are closed. */
void car_free_events_unwatch(const car_comm_t *comm);

/*
 * Drops what peers have told of since, in the caller's CUDA state, which stays as it was; returns
 * 0, as progress callbacks do.
 */
int car_free_events_hear(void);

#endif /* CAR_FREE_EVENTS_H */
