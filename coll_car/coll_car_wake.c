/*
 * How a communicator leaves ASLEEP when its first call is a nonblocking one: two exchanges by messages of our own, as the
 * collectives that a blocking call would use may not be called later than in the user's call. Both are made whatever fails, as the
 * other ranks wait for them.
 */
#include "coll_car_module.h"

#include <errno.h>

void coll_car_wake_begin(mca_coll_car_module_t *module)
{
    coll_car_wake_t *wake = &module->wake;

    /* The queue takes calls from now on, and begins with them once the segment is there. */
    car_lane_init(&module->queue, CAR_LANE_QUEUE, true, NULL, ompi_comm_rank(module->comm), ompi_comm_size(module->comm), NULL);
    module->queue.owner = module;
    *wake = (coll_car_wake_t){.under_way = true};
    coll_car_say_hello(module, &wake->mine, true);
    coll_car_exchange_begin(&wake->exchange, module->comm, &wake->mine, sizeof(wake->mine), sizeof(wake->mine),
                            wake->all);
}

/* All have told of themselves, or somebody cannot any more. */
static void map(mca_coll_car_module_t *module)
{
    coll_car_wake_t *wake = &module->wake;

    wake->heard = true;
    wake->failed = wake->exchange.failed;
    if (wake->failed) {
        wake->error = EIO;
    } else {
        coll_car_hear_hello(module, wake->all);
        wake->error = 0 != wake->all[0].error ? wake->all[0].error : coll_car_map_control(module, wake->all[0].name);
    }
    coll_car_exchange_begin(&wake->exchange, module->comm, &wake->error, sizeof(wake->error), sizeof(wake->error),
                            wake->errors);
}

bool coll_car_wake_poll(mca_coll_car_module_t *module)
{
    coll_car_wake_t *wake = &module->wake;

    if (!coll_car_exchange_ended(&wake->exchange)) {
        return false;
    }
    if (!wake->heard) {
        map(module);
        return false;
    }
    if ('\0' != wake->mine.name[0]) {
        car_control_unlink(wake->mine.name);
    }
    wake->under_way = false;
    if (wake->failed || wake->exchange.failed) {
        coll_car_lose_peers(module);
        return true;
    }
    for (int r = 0; r < ompi_comm_size(module->comm); ++r) {
        wake->error = 0 == wake->error ? wake->errors[r] : wake->error;
    }
    coll_car_have_control(module, wake->error);
    return true;
}
