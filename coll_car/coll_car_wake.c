/*
 * How a communicator leaves ASLEEP when its first call is a nonblocking one: exchanges by messages
 * of our own, as the collectives that a blocking call would use may not be called later than in the
 * user's call. After the first there is a second whatever fails, as the other ranks wait for it.
 */
#include "coll_car_module.h"

#include <errno.h>

static void say_hello(mca_coll_car_module_t *module)
{
    coll_car_wake_t *wake = &module->wake;

    wake->heard = false;
    coll_car_exchange_begin(&wake->exchange, module->comm, &wake->mine, sizeof(wake->mine),
                            sizeof(wake->mine), wake->all);
}

void coll_car_wake_begin(mca_coll_car_module_t *module)
{
    coll_car_wake_t *wake = &module->wake;

    /* The queue takes calls from now on, and begins with them once the segment is there. */
    car_lane_init(&module->queue, CAR_LANE_QUEUE, true, NULL, ompi_comm_rank(module->comm),
                  ompi_comm_size(module->comm), NULL);
    module->queue.owner = module;
    *wake = (coll_car_wake_t){.under_way = true};
    coll_car_say_hello(module, &wake->mine, true);
    say_hello(module);
}

/* All have told of themselves, or somebody cannot any more. */
static void map(mca_coll_car_module_t *module)
{
    coll_car_wake_t *wake = &module->wake;

    wake->heard = true;
    if (wake->failed) {
        wake->error = EIO;
    } else {
        coll_car_hear_hello(module, wake->all);
        wake->error = coll_car_map_control(module, &wake->all[0]);
    }
    coll_car_exchange_begin(&wake->exchange, module->comm, &wake->error, sizeof(wake->error),
                            sizeof(wake->error), wake->errors);
}

bool coll_car_wake_poll(mca_coll_car_module_t *module)
{
    coll_car_wake_t *wake = &module->wake;
    bool again;

    if (!coll_car_exchange_ended(&wake->exchange)) {
        return false;
    }
    wake->failed = wake->failed || wake->exchange.failed;
    if (!wake->heard) {
        map(module);
        return false;
    }
    const int error = coll_car_first_error(module, wake->errors, &wake->all[0], &again);
    if (again && !wake->failed) {
        coll_car_name_control(module, &wake->mine);
        say_hello(module);
        return false;
    }
    car_control_close(&wake->mine.place);
    wake->under_way = false;
    if (wake->failed) {
        coll_car_lose_peers(module);
    } else {
        coll_car_have_control(module, error);
    }
    return true;
}
