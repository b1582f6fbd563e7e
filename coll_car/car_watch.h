/*
 * Waiting for other ranks: whoever waits looks now and then whether those who are missing are still
 * there, warns once that they are late, and breaks the communicator where one has died, or where
 * the user has set a limit. docs/protocol.md, "Faults".
 *
 * All of it is counted in time spent waiting, and none of it is on the path of a call that nobody
 * is late for.
 */
#ifndef CAR_WATCH_H
#define CAR_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "car_control.h"

/* One wait; all zero at its beginning, and again whenever something has moved. */
typedef struct {
    uint32_t polls;
    bool warned;
    uint64_t looked_ns; /* 0: not yet */
    uint64_t waited_ns;
    uint64_t asked_ns; /* of waited_ns: when it was last asked who is missing */
} car_watch_t;

/* Polls between two looks at the clock, which costs as much as a poll or two. */
#define CAR_WATCH_POLLS 16

bool car_watch_time(car_watch_t *watch);

/* To be called with every poll in vain: true about every 100 ms, when car_watch_ask() is due. */
static inline bool car_watch_due(car_watch_t *watch)
{
    return 0 == ++watch->polls % CAR_WATCH_POLLS && car_watch_time(watch);
}

/* What is waited for, and in which of a communicator's calls. */
typedef enum {
    CAR_WAIT_CALL,  /* MPI_Allreduce */
    CAR_WAIT_QUEUE, /* MPI_Iallreduce */
    CAR_WAIT_START, /* a start of a persistent request */
    CAR_WAIT_TOGETHER /* an exchange of all ranks: set-up, making a persistent request */
} car_wait_kind_t;

typedef struct {
    car_wait_kind_t kind;
    uint64_t number;
    const char *phase;
    uint32_t missing; /* bit r: rank r has not done yet what is waited for */
    uint32_t needed;  /* those who may have more to do, though they do not seem to be late */
} car_wait_t;

/*
 * False once the communicator is broken, by this rank, which has told the user why, or by another.
 */
bool car_watch_ask(car_watch_t *watch, car_control_t *control, const car_wait_t *wait);

/*
 * An exchange of all ranks (car_control.h), waited for: true when all have come, false once the
 * communicator is broken. `phase` says what it is for.
 */
bool car_watch_exchange(car_control_t *control, const void *mine, size_t bytes, void *all,
                        car_progress_fn_t progress, const char *phase);

/*
 * True if rank r's call is the one that this rank has made; else both are told, and the
 * communicator is broken.
 */
bool car_watch_agree(car_control_t *control, car_wait_kind_t kind, uint64_t number,
                     const car_what_t *mine, int r, const car_what_t *theirs);

#endif /* CAR_WATCH_H */
