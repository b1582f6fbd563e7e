#include "car_arena.h"

#include <stdlib.h>
#include <string.h>

void car_arena_init(car_arena_t *arena, size_t bytes)
{
    *arena = (car_arena_t){.bytes = bytes - bytes % CAR_ARENA_ALIGNMENT};
}

void car_arena_fini(car_arena_t *arena)
{
    free(arena->used);
    *arena = (car_arena_t){0};
}

size_t car_arena_free_bytes(const car_arena_t *arena)
{
    size_t left = arena->bytes;
    for (size_t i = 0; i < arena->used_count; ++i) {
        left -= arena->used[i].bytes;
    }
    return left;
}

static bool make_room(car_arena_t *arena)
{
    if (arena->used_count < arena->used_room) {
        return true;
    }
    const size_t room = 0 == arena->used_room ? 16 : 2 * arena->used_room;
    car_extent_t *used = realloc(arena->used, room * sizeof(*used));
    if (NULL == used) {
        return false;
    }
    arena->used = used;
    arena->used_room = room;
    return true;
}

size_t car_arena_used_above(const car_arena_t *arena, size_t bytes)
{
    size_t used = 0;
    for (size_t i = 0; i < arena->used_count; ++i) {
        used += arena->used[i].bytes > bytes ? arena->used[i].bytes : 0;
    }
    return used;
}

size_t car_arena_bytes_at(const car_arena_t *arena, size_t offset)
{
    for (size_t i = 0; i < arena->used_count; ++i) {
        if (arena->used[i].offset == offset) {
            return arena->used[i].bytes;
        }
    }
    return 0;
}

/* The gap before piece i, or behind the last. */
static car_extent_t gap_before(const car_arena_t *arena, size_t i)
{
    const size_t start = 0 == i ? 0 : arena->used[i - 1].offset + arena->used[i - 1].bytes;
    return (car_extent_t){start,
                          (i < arena->used_count ? arena->used[i].offset : arena->bytes) - start};
}

bool car_arena_take(car_arena_t *arena, size_t bytes, car_arena_end_t end, size_t *offset)
{
    const size_t wanted =
        (bytes + CAR_ARENA_ALIGNMENT - 1) / CAR_ARENA_ALIGNMENT * CAR_ARENA_ALIGNMENT;

    for (size_t n = 0; n <= arena->used_count; ++n) {
        const size_t i = CAR_ARENA_LOW == end ? n : arena->used_count - n;
        const car_extent_t gap = gap_before(arena, i);
        if (gap.bytes >= wanted) {
            if (!make_room(arena)) {
                return false;
            }
            *offset = CAR_ARENA_LOW == end ? gap.offset : gap.offset + gap.bytes - wanted;
            memmove(&arena->used[i + 1], &arena->used[i],
                    (arena->used_count - i) * sizeof(*arena->used));
            arena->used[i] = (car_extent_t){*offset, wanted};
            ++arena->used_count;
            return true;
        }
    }
    return false;
}

void car_arena_give(car_arena_t *arena, size_t offset)
{
    for (size_t i = 0; i < arena->used_count; ++i) {
        if (arena->used[i].offset == offset) {
            --arena->used_count;
            memmove(&arena->used[i], &arena->used[i + 1],
                    (arena->used_count - i) * sizeof(*arena->used));
            return;
        }
    }
}
