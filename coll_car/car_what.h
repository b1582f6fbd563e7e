/*
 * What a call is, as far as all ranks must agree on it: they tell each other, and where two differ,
 * the program is wrong.
 */
#ifndef CAR_WHAT_H
#define CAR_WHAT_H

#include <stdbool.h>
#include <stdint.h>

#include "car_reduction.h"

typedef struct {
    uint64_t count; /* of the engine's elements: a complex number in a sum is two */
    uint32_t type, op;
} car_what_t;

static inline car_what_t car_what_of(uint64_t count, const car_reduction_t *reduction)
{
    return (car_what_t){
        .count = count, .type = (uint32_t) reduction->type, .op = (uint32_t) reduction->op};
}

static inline bool car_what_same(const car_what_t *a, const car_what_t *b)
{
    return a->count == b->count && a->type == b->type && a->op == b->op;
}

/* "1000 x f32, SUM": for messages. What comes from another process may be any numbers. */
#define CAR_WHAT_TEXT 64
const char *car_what_text(const car_what_t *what, char text[CAR_WHAT_TEXT]);

#endif /* CAR_WHAT_H */
