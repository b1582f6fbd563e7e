/* What the stand-in for libucm has: UCM's own entry point, and the test's. */
#ifndef STANDIN_H
#define STANDIN_H

#include "car_ucm_api.h"

int ucm_set_event_handler(int events, int priority, car_ucm_callback_t callback, void *arg);

/* As UCM's hooks do in cuMemFree, before they call the driver. */
void standin_freed(void *address, size_t size);

#endif /* STANDIN_H */
