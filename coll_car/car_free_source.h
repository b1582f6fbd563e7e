/*
 * Where events of memory that is freed come from: UCM, if the process has it or may load it.
 */
#ifndef CAR_FREE_SOURCE_H
#define CAR_FREE_SOURCE_H

#include <stdbool.h>

#include "car_ucm_api.h"

/*
 * Has `callback` called whenever device memory is about to be freed, by any thread, from within
 * whatever the process is doing: it must not allocate, wait or call the driver. `library`: libucs,
 * which brings UCM along, by name or path. False without UCM or its part for CUDA.
 */
bool car_free_source_open(const char *library, car_ucm_callback_t callback);

#endif /* CAR_FREE_SOURCE_H */
