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

bool car_arena_take(car_arena_t *arena, size_t bytes, size_t *offset)
{
    const size_t wanted = (bytes + CAR_ARENA_ALIGNMENT - 1) / CAR_ARENA_ALIGNMENT * CAR_ARENA_ALIGNMENT;
    size_t start = 0;

    for (size_t i = 0; i <= arena->used_count; ++i) {
        const size_t end = i < arena->used_count ? arena->used[i].offset : arena->bytes;
        if (end - start >= wanted) {
            if (!make_room(arena)) {
                return false;
            }
            memmove(&arena->used[i + 1], &arena->used[i], (arena->used_count - i) * sizeof(*arena->used));
            arena->used[i] = (car_extent_t){start, wanted};
            ++arena->used_count;
            *offset = start;
            return true;
        }
        if (i < arena->used_count) {
            start = end + arena->used[i].bytes;
        }
    }
    return false;
}

void car_arena_give(car_arena_t *arena, size_t offset)
{
    for (size_t i = 0; i < arena->used_count; ++i) {
        if (arena->used[i].offset == offset) {
            --arena->used_count;
            memmove(&arena->used[i], &arena->used[i + 1], (arena->used_count - i) * sizeof(*arena->used));
            return;
        }
    }
}
