/*
 * What a peer says, before it is used: a process that has gone wrong, or a control segment that
 * somebody has written to, makes an error, never an access to memory that is not meant. Each
 * function returns NULL, or what is wrong in a few words.
 */
#ifndef CAR_CHECK_H
#define CAR_CHECK_H

#include "car_offer.h"
#include "car_registry.h"

/* An offer whose verdict is that the rank can do its part. */
const char *car_check_offer(const car_offer_t *offer);

/* A piece of `bytes` in an arena of `arena_bytes`. */
const char *car_check_piece(uint64_t offset, uint64_t bytes, uint64_t arena_bytes);

/*
 * A buffer of `bytes`, whose elements have that alignment; one that cannot be used (id 0) is none
 * and right.
 */
const char *car_check_export(const car_export_t *told, uint64_t bytes, uint64_t alignment);

#endif /* CAR_CHECK_H */
