/*
 * The counts at which a call is done in another way: where the algorithm changes, where a block's
 * tile ends, where the next round begins. Asked of the component's own plans, so they move with it.
 */
#ifndef TEST_BORDERS_H
#define TEST_BORDERS_H

#include <stddef.h>
#include <stdint.h>

#define BORDERS_MAX 512

/* Fills `counts` with those of up to `max_bytes`, each with its neighbours; returns how many. */
int borders_find(int ranks, size_t element, size_t max_bytes, uint64_t counts[BORDERS_MAX]);

#endif /* TEST_BORDERS_H */
