/*
 * What moves calls on that nobody waits in: a callback of Open MPI's progress engine, over the
 * communicators that have some.
 */
#ifndef COLL_CAR_PROGRESS_H
#define COLL_CAR_PROGRESS_H

#include "coll_car_module.h"

/*
 * The one lock over queues, persistent requests and the states that they change. Never held while
 * this rank waits for another, while MPI's progress is called, or while a request is completed.
 */
void coll_car_lock(void);
void coll_car_unlock(void);

/* Under the lock: the module has something to move on; its callback polls it from now on. */
void coll_car_make_busy(mca_coll_car_module_t *module);

/* It has nothing any more. Takes the lock. */
void coll_car_idle(mca_coll_car_module_t *module);

/* What peers free is heard of from now on, now and then: by a callback that comes less often. */
void coll_car_hear_frees(void);

/* Moves everything on once, as the callback does; returns how many calls have ended. */
int coll_car_poll(void);

#endif /* COLL_CAR_PROGRESS_H */
