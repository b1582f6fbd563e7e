/*
 * One allreduce on any communicator, compared bit for bit with a fold in the order of its ranks.
 * Safe in several threads, each with a space of its own.
 */
#ifndef TEST_CHECKED_H
#define TEST_CHECKED_H

#include "data.h"
#include "testing.h"

/* What a thread needs for it. */
typedef struct {
    gpu_buffer_t buffer;
    char *operand, *expected, *scratch; /* of as many bytes, in host memory */
} checked_space_t;

/* Memory of that kind, of the context that is current. */
checked_space_t checked_allocate(gpu_kind_t kind, size_t bytes);
void checked_free(checked_space_t *space);

/*
 * In place, by kernels: of floats, unless it is large. True if the result is right; else that is
 * counted and shown.
 */
bool checked_allreduce(MPI_Comm comm, checked_space_t *space, size_t bytes, uint64_t seed,
                       const char *what);

typedef enum { CHECKED_BY_KERNELS, CHECKED_ELSEWHERE, CHECKED_ABSENT } checked_by_t;

/*
 * The same, of integers where not by kernels, and by whom it was served: kernels; coll/car's saved
 * module; or coll/car is not on that communicator at all. Communicators of one rank are nobody's.
 * One thread at a time: the counters are the process's.
 */
bool checked_allreduce_by(checked_by_t by, MPI_Comm comm, checked_space_t *space, size_t bytes,
                          uint64_t seed, const char *what);

#endif /* TEST_CHECKED_H */
