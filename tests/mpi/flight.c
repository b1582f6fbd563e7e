#include "flight.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 64 /* bytes on each side of a buffer */
#define GUARD_BYTE 0x6b
#define SHIFTS 4
#define CHUNK ((size_t) 1 << 20)
#define FLOATS_TO_BYTES 65536 /* they take long to work out */

struct flight_chunk {
    flight_chunk_t *next;
    gpu_buffer_t memory;
    size_t used;
};

/* --- memory ----------------------------------------------------------------------------------- */

static size_t room_for(size_t bytes)
{
    return (bytes + 2 * GUARD + SHIFTS * 16 + 255) / 256 * 256;
}

void flight_open(flight_space_t *space, const char *kinds, size_t most, bool integers)
{
    *space = (flight_space_t){.most = most, .integers = integers, .first_host_kind = -1};
    for (int kind = 0; kind < GPU_KINDS; ++kind) {
        if (test_listed(gpu_kind_name((gpu_kind_t) kind), kinds)
            && gpu_kind_possible((gpu_kind_t) kind)) {
            if (gpu_kind_is_host((gpu_kind_t) kind) && space->first_host_kind < 0) {
                space->first_host_kind = space->kinds;
            }
            space->kind[space->kinds++] = (gpu_kind_t) kind;
        }
    }
    space->first_host_kind = space->first_host_kind < 0 ? space->kinds : space->first_host_kind;
    space->image = test_allocate(room_for(most));
    space->expected = test_allocate(room_for(most));
    space->scratch = test_allocate(room_for(most));
}

void flight_reset(flight_space_t *space)
{
    for (flight_chunk_t *c = space->chunks; NULL != c; c = c->next) {
        c->used = 0;
    }
}

void flight_close(flight_space_t *space)
{
    while (NULL != space->chunks) {
        flight_chunk_t *c = space->chunks;
        space->chunks = c->next;
        gpu_free(&c->memory);
        free(c);
    }
    free(space->image);
    free(space->expected);
    free(space->scratch);
}

static char *take(flight_space_t *space, gpu_kind_t kind, size_t bytes)
{
    flight_chunk_t *c = space->chunks;

    while (NULL != c && (kind != c->memory.kind || c->memory.bytes - c->used < bytes)) {
        c = c->next;
    }
    if (NULL == c) {
        c = test_allocate(sizeof(*c));
        *c = (flight_chunk_t){.next = space->chunks,
                              .memory = gpu_allocate(kind, bytes > CHUNK ? bytes : CHUNK)};
        space->chunks = c;
    }
    char *at = (char *) c->memory.address + c->used;
    c->used += bytes;
    return at;
}

/* --- a call ----------------------------------------------------------------------------------- */

static gpu_kind_t draw_kind(const flight_space_t *space, uint64_t random, bool host)
{
    const int hosts = space->kinds - space->first_host_kind;

    if (host && hosts > 0) {
        return space->kind[space->first_host_kind + (int) (random % (unsigned) hosts)];
    }
    /*
     * Every second one is of the first kind, as a rule cuMemAlloc's: else all ranks would seldom
     * have that.
     */
    return space->kind[0 == (random >> 5 & 1) ? 0 : random % (unsigned) space->kinds];
}

static void draw_kinds(const flight_space_t *space, flight_t *call, int rank)
{
    const uint64_t own = test_random(call->seed ^ 0x4a11, (uint64_t) rank + 1),
                   shared = test_random(call->seed ^ 0x4a11, 0);
    const bool host = 0 == (shared >> 50) % 8, alike = 0 != (shared >> 54) % 3;
    const uint64_t random = alike ? shared : own;

    call->out_kind = draw_kind(space, random, host);
    call->in_kind = call->in_place ? call->out_kind : draw_kind(space, random >> 8, host);
}

flight_t flight_draw(flight_space_t *space, MPI_Comm comm, uint64_t seed, size_t most)
{
    flight_t call = {.comm = comm, .seed = seed, .all_plain = true};
    const uint64_t random = test_random(seed, 0), magnitude = test_random(seed, 1);
    uint64_t bytes = most;

    MPI_Comm_rank(comm, &call.rank);
    MPI_Comm_size(comm, &call.size);
    call.in_place = 0 == (random >> 8) % 4;
    for (int r = 0; r < call.size; ++r) {
        draw_kinds(space, &call, r);
        call.device =
            call.device || !gpu_kind_is_host(call.in_kind) || !gpu_kind_is_host(call.out_kind);
        call.all_plain =
            call.all_plain && GPU_DEVICE == call.in_kind && GPU_DEVICE == call.out_kind;
    }
    draw_kinds(space, &call, call.rank);
    /* Every magnitude as often as any other. */
    for (uint64_t halve = magnitude % 24; halve > 0 && bytes > 8; --halve) {
        bytes /= 2;
    }
    bytes = bytes / 2 + (magnitude >> 8) % (bytes / 2 + 1);
    const bool plain = space->integers || !call.device;
    call.type = &data_types[plain ? random % 2 : bytes > FLOATS_TO_BYTES ? random % 4 : random % 6];
    call.op = plain ? DATA_SUM : (data_op_t) ((random >> 16) % 4);
    call.count = bytes / call.type->bytes > 0 ? bytes / call.type->bytes : 1;
    const size_t room = room_for(flight_bytes(&call));
    const uint64_t own = test_random(seed ^ 0x54f7, (uint64_t) call.rank);
    call.out = take(space, call.out_kind, room) + GUARD + own % SHIFTS * call.type->align;
    call.in = call.in_place ? call.out
                            : take(space, call.in_kind, room) + GUARD
                                  + (own >> 8) % SHIFTS * call.type->align;
    return call;
}

size_t flight_bytes(const flight_t *call)
{
    return call->count * call->type->bytes;
}

const void *flight_send(const flight_t *call)
{
    return call->in_place ? MPI_IN_PLACE : call->in;
}

void flight_fill(flight_space_t *space, flight_t *call, uint64_t seed)
{
    const size_t bytes = flight_bytes(call);

    call->seed = seed;
    memset(space->image, GUARD_BYTE, bytes + 2 * GUARD);
    if (!call->in_place) {
        gpu_write(call->out - GUARD, space->image, bytes + 2 * GUARD);
    }
    data_fill(space->image + GUARD, call->type, seed, call->rank, 0, call->count);
    gpu_write(call->in - GUARD, space->image, bytes + 2 * GUARD);
}

const char *flight_text(const flight_t *call, char text[200])
{
    snprintf(text, 200, "%s %s of %llu from %s%s to %s, rank %d of %d", call->type->name,
             data_op_name(call->op), (unsigned long long) call->count, gpu_kind_name(call->in_kind),
             call->in_place ? " (in place)" : "", gpu_kind_name(call->out_kind), call->rank,
             call->size);
    return text;
}

bool flight_check(flight_space_t *space, const flight_t *call, const char *what)
{
    const size_t bytes = flight_bytes(call);
    char is[DATA_TEXT], wanted[DATA_TEXT], text[200];
    bool right = true;

    gpu_read(space->image, call->out - GUARD, bytes + 2 * GUARD);
    data_expect(space->expected, space->scratch, call->type, call->op, call->seed, call->size, 0,
                call->count);
    const uint64_t at = data_differ(space->image + GUARD, space->expected, call->type, call->count);
    if (at < call->count) {
        right = CHECK(false, "%s: %s: element %llu is %s, not %s", what, flight_text(call, text),
                      (unsigned long long) at, data_text(space->image + GUARD, call->type, at, is),
                      data_text(space->expected, call->type, at, wanted));
    }
    for (int i = 0; i < GUARD; ++i) {
        if (GUARD_BYTE != space->image[i]
            || GUARD_BYTE != space->image[GUARD + bytes + (size_t) i]) {
            return CHECK(false, "%s: %s: memory beside the output was written", what,
                         flight_text(call, text));
        }
    }
    if (!call->in_place) {
        gpu_read(space->image, call->in, bytes);
        data_fill(space->scratch, call->type, call->seed, call->rank, 0, call->count);
        right = CHECK(0 == memcmp(space->image, space->scratch, bytes),
                      "%s: %s: the input was changed", what, flight_text(call, text))
                && right;
    }
    return right;
}
