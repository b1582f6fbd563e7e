/*
 * A process of this node, as another can recognise it: for seeing whether one that is waited for is
 * still there.
 */
#ifndef CAR_PROCESS_H
#define CAR_PROCESS_H

#include <stdint.h>

typedef struct {
    uint32_t pid;
    uint32_t unused;
    /* when it began, as the kernel counts: a later process of the same number has another */
    uint64_t start;
    uint64_t space; /* where those numbers hold; 0: nobody can tell anything by them */
} car_process_t;

typedef enum {
    CAR_PROCESS_ALIVE,
    CAR_PROCESS_STOPPED, /* by a signal or a debugger */
    /* or somebody else's by now; a zombie that nobody has waited for counts, too */
    CAR_PROCESS_DEAD,
    CAR_PROCESS_UNKNOWN  /* it cannot be seen from here */
} car_process_state_t;

/* The caller's own. */
car_process_t car_process_self(void);

/* How another is, seen from `self`. Costs a few system calls: for who waits anyway. */
car_process_state_t car_process_look(const car_process_t *self, const car_process_t *other);

#endif /* CAR_PROCESS_H */
