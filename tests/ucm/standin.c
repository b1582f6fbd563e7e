/*
 * Stands in for UCX's libucm where that has no CUDA: coll/car leaves its handler here, and a test
 * says what is about to be freed. The module with the hooks, which has to lie beside the library,
 * is a link to it.
 */
#include "standin.h"

#include <stdatomic.h>

static _Atomic car_ucm_callback_t handler;
static void *argument;

int ucm_set_event_handler(int events, int priority, car_ucm_callback_t callback, void *arg)
{
    (void) priority;
    if (CAR_UCM_EVENT_MEM_TYPE_FREE != events) {
        return -1;
    }
    argument = arg;
    handler = callback;
    return 0;
}

void standin_freed(void *address, size_t size)
{
    const car_ucm_freed_t event = {address, size};
    const car_ucm_callback_t callback = handler;

    if (0 != callback) {
        callback(CAR_UCM_EVENT_MEM_TYPE_FREE, &event, argument);
    }
}
