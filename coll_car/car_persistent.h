/*
 * A persistent allreduce: everything that can be done once is done when it is made, in memory of
 * its own, so its starts need no agreement and may come in any order among other requests.
 * docs/protocol.md, "Persistent requests".
 */
#ifndef CAR_PERSISTENT_H
#define CAR_PERSISTENT_H

#include "car_lane.h"

typedef struct car_persistent car_persistent_t;

/*
 * Collective over the ranks of `comm`, at the same place among its blocking calls. The request is
 * for `call`, of which only the caller's part is read; its fold_context must live as long as the
 * request. On all ranks a request, or on all NULL: then it is left to others, or the communicator
 * has broken.
 */
car_persistent_t *car_persistent_create(car_comm_t *comm, const car_call_t *call);

/* Starts one that is not under way: local, waits for nobody. */
void car_persistent_start(car_persistent_t *request);

/* Moves it on; true once it has ended. *failed: the communicator is broken. */
bool car_persistent_poll(car_persistent_t *request, bool *failed);

/* What it does, and, where a lane does it, how: for counting. */
const car_call_t *car_persistent_call(const car_persistent_t *request);

/*
 * Frees one that is not under way: local, sends nothing, waits for nobody. `alive` as in
 * car_comm_destroy.
 */
void car_persistent_destroy(car_persistent_t *request, bool alive);

#endif /* CAR_PERSISTENT_H */
