/* The one clock of the engine. */
#ifndef CAR_CLOCK_H
#define CAR_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds, of a clock that only grows. */
static inline uint64_t car_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * UINT64_C(1000000000) + (uint64_t) t.tv_nsec;
}

#endif /* CAR_CLOCK_H */
