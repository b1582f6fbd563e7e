/*
 * Allreduces of which many are under way at a time: each has buffers of its own, and a result that
 * every rank can work out. Safe in several threads, each with a space of its own.
 */
#ifndef TEST_FLIGHT_H
#define TEST_FLIGHT_H

#include "data.h"
#include "testing.h"

/*
 * Memory of all kinds, of which calls get parts, as caching allocators do it; allocated as it is
 * needed, of all ranks alike.
 */
typedef struct flight_chunk flight_chunk_t;
typedef struct {
    gpu_kind_t kind[GPU_KINDS];
    int kinds, first_host_kind;
    flight_chunk_t *chunks;
    bool integers; /* only sums of integers, which come out alike whoever folds them */
    size_t most;   /* bytes of the largest call */
    char *image, *expected, *scratch;
} flight_space_t;

/* For calls of up to `most` bytes, with buffers of the kinds in the list that this machine has. */
void flight_open(flight_space_t *space, const char *kinds, size_t most, bool integers);
/* All calls are over: their memory is free for others. */
void flight_reset(flight_space_t *space);
void flight_close(flight_space_t *space);

typedef struct {
    MPI_Comm comm;
    int rank, size; /* there */
    const data_type_t *type;
    data_op_t op;
    uint64_t count, seed;
    /* some rank has device memory; all have cuMemAlloc's of their own device */
    bool in_place, device, all_plain;
    gpu_kind_t in_kind, out_kind;
    char *in, *out;
} flight_t;

/*
 * Draws a call of up to `most` bytes on `comm` from a seed that all its ranks share, and gives it
 * memory. Ranks differ in the kind of their buffers in every third call.
 */
flight_t flight_draw(flight_space_t *space, MPI_Comm comm, uint64_t seed, size_t most);

/* Writes the operand and, around it and the output, what must stay. A seed makes other values. */
void flight_fill(flight_space_t *space, flight_t *call, uint64_t seed);

/* What MPI_Iallreduce and its like get for the send buffer. */
const void *flight_send(const flight_t *call);
size_t flight_bytes(const flight_t *call);

/* Compares the result bit for bit, and what is beside it. */
bool flight_check(flight_space_t *space, const flight_t *call, const char *what);

/* The call in words. */
const char *flight_text(const flight_t *call, char text[200]);

#endif /* TEST_FLIGHT_H */
