/*
 * How a communicator leaves ASLEEP when its first call is a nonblocking one: two exchanges by messages of our own, as the
 * collectives that a blocking call would use may not be called later than in the user's call.
 */
#include "coll_car_module.h"

#include <stdlib.h>

#include "coll_car_exchange.h"

struct coll_car_wake {
    bool heard; /* the first exchange has ended */
    coll_car_exchange_t exchange;
    coll_car_hello_t mine, all[CAR_MAX_RANKS];
    int error, errors[CAR_MAX_RANKS]; /* of mapping the segment */
};

int coll_car_wake_begin(mca_coll_car_module_t *module)
{
    coll_car_wake_t *wake = calloc(1, sizeof(*wake));

    if (NULL == wake) {
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    /* The queue takes calls from now on, and begins with them once the segment is there. */
    car_lane_init(&module->queue, CAR_LANE_QUEUE, true, NULL, ompi_comm_rank(module->comm), ompi_comm_size(module->comm), NULL);
    module->queue.owner = module;
    module->wake = wake;
    coll_car_say_hello(module, &wake->mine, true);
    return coll_car_exchange_begin(&wake->exchange, module->comm, &wake->mine, sizeof(wake->mine), wake->all);
}

bool coll_car_wake_poll(mca_coll_car_module_t *module)
{
    coll_car_wake_t *wake = module->wake;

    if (!coll_car_exchange_ended(&wake->exchange)) {
        return false;
    }
    if (!wake->heard) {
        wake->heard = true;
        coll_car_hear_hello(module, wake->all);
        wake->error = 0 != wake->all[0].error ? wake->all[0].error : coll_car_map_control(module, wake->all[0].name);
        if (OMPI_SUCCESS
            != coll_car_exchange_begin(&wake->exchange, module->comm, &wake->error, sizeof(wake->error), wake->errors)) {
            wake->error = EIO;
        }
        return false;
    }
    if ('\0' != wake->mine.name[0]) {
        car_control_unlink(wake->mine.name);
    }
    for (int r = 0; r < ompi_comm_size(module->comm); ++r) {
        wake->error = 0 == wake->error ? wake->errors[r] : wake->error;
    }
    coll_car_have_control(module, wake->error);
    module->wake = NULL;
    free(wake);
    return true;
}
