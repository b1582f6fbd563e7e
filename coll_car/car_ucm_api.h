/*
 * What we use of UCM, the part of UCX that tells of memory that comes and goes: declared here, so
 * that a build needs no headers of UCX, and looked up at run time, so that the component loads
 * without it. The same since UCX 1.3; configure compares this with the header of the UCX that it
 * finds.
 */
#ifndef CAR_UCM_API_H
#define CAR_UCM_API_H

#include <stddef.h>

#define CAR_UCM_EVENT_MEM_TYPE_FREE (1 << 21)

/* The member for that event of the union ucm_event_t: what is about to be freed. */
typedef struct {
    void *address;
    size_t size;
} car_ucm_freed_t;

typedef void (*car_ucm_callback_t)(int type, const car_ucm_freed_t *event, void *arg);

/* ucm_set_event_handler; 0: done. */
typedef int (*car_ucm_set_handler_t)(int events, int priority, car_ucm_callback_t callback,
                                     void *arg);

#endif /* CAR_UCM_API_H */
