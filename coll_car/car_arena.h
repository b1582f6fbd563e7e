/*
 * Who has which part of a block of memory: first fit over offsets. Knows nothing of devices.
 */
#ifndef CAR_ARENA_H
#define CAR_ARENA_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Pieces begin and end at multiples of this: what a cache line of any link, and any packet, needs.
 */
#define CAR_ARENA_ALIGNMENT 4096

typedef struct {
    size_t offset;
    size_t bytes;
} car_extent_t;

typedef struct {
    size_t bytes;
    car_extent_t *used; /* by ascending offset */
    size_t used_count;
    size_t used_room;
} car_arena_t;

void car_arena_init(car_arena_t *arena, size_t bytes);
void car_arena_fini(car_arena_t *arena);

/* Bytes that no piece holds, whether in one gap or in many. */
size_t car_arena_free_bytes(const car_arena_t *arena);

/* Bytes of the piece at `offset`; 0 if there is none. */
size_t car_arena_bytes_at(const car_arena_t *arena, size_t offset);

/* Bytes of the pieces that are larger than `bytes`. */
size_t car_arena_used_above(const car_arena_t *arena, size_t bytes);

typedef enum {
    CAR_ARENA_LOW, /* from the first gap, at its start */
    /* from the last gap, at its end: pieces of very different size keep out of each other's way */
    CAR_ARENA_HIGH
} car_arena_end_t;

/*
 * Takes `bytes`, rounded up to the alignment, from a gap that has them. False: no such gap, or no
 * memory.
 */
bool car_arena_take(car_arena_t *arena, size_t bytes, car_arena_end_t end, size_t *offset);

/* Gives back what car_arena_take gave at `offset`. */
void car_arena_give(car_arena_t *arena, size_t offset);

#endif /* CAR_ARENA_H */
