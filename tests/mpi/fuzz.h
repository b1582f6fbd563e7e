/*
 * What the files of the program fuzz share: the state, and what is drawn from the seed
 * (fuzz_draw.c).
 */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include "data.h"
#include "testing.h"

#define FUZZ_GUARD 64 /* bytes on each side of a buffer */
#define FUZZ_GUARD_BYTE 0x5a
#define FUZZ_SHIFTS 16
#define FUZZ_COMMUNICATORS 6

typedef struct {
    const data_type_t *type;
    data_op_t op;
} pair_t;

typedef struct {
    gpu_buffer_t in, out;
} memory_t;

/* One call as one rank has it. */
typedef struct {
    pair_t pair;
    uint64_t count, seed;
    bool in_place;
    int in_kind, out_kind; /* indices of fuzz.kind */
    size_t in_shift, out_shift; /* bytes */
    long number;
    int rank, size; /* in its communicator */
    bool device;    /* some rank has device memory */
} call_t;

typedef struct {
    uint64_t seed;
    long generation, call;
    bool persistent; /* some calls are starts of persistent requests */
    size_t max_bytes, room;
    pair_t pairs[DATA_TYPES * DATA_OPS];
    int number_of_pairs;
    gpu_kind_t kind[GPU_KINDS];
    int kinds, first_host_kind;
    memory_t memory[GPU_KINDS];
    char *image, *result, *expected, *scratch;
    MPI_Comm control; /* coll/car is not used there */
    unsigned long long calls, nonblocking, starts, device, by_algorithm[CAR_ALGORITHMS];
} fuzz_t;
extern fuzz_t fuzz;

/* The n-th number of what is being decided by the present call; the same on all ranks. */
uint64_t fuzz_draw(uint64_t n);

/* NULL on ranks that are not in it; the first of a generation has all. */
MPI_Comm fuzz_communicator(int index, uint64_t random);

uint64_t fuzz_count(uint64_t random, int size, size_t bytes);

/* What rank r brings: kinds and places of its buffers. */
void fuzz_rank(call_t *c, uint64_t random, int r);

/* Bytes of a buffer with its guards. */
size_t fuzz_used(const call_t *c);

/*
 * Writes this rank's operand to `in` and what must stay to `out`; `before`: what stood in the
 * output.
 */
void fuzz_fill(const call_t *c, char *in, char *out, char *before);

/* Looks at the result, if it is to be that of a fold in rank order, and at what is around it. */
void fuzz_check(const call_t *c, const char *out, const char *before, bool exact);

/* Whether the result of a call that kernels do not serve is one that can be told. */
bool fuzz_exact_on_the_host(const call_t *c);

/* In words, for who wants it again. */
const char *fuzz_where(long call);

/*
 * Calls that stay under way (fuzz_pending.c): another one, nonblocking or persistent, as `random`
 * has it; some of them complete, in an order of this rank's own; those that must before a
 * communicator is freed; all of them.
 */
void fuzz_post(const call_t *c, MPI_Comm comm, uint64_t random);
void fuzz_complete_some(uint64_t random);
void fuzz_complete_left(MPI_Comm comm);
void fuzz_complete_all(void);

#endif /* TEST_FUZZ_H */
