#include "checked.h"

#include <stdlib.h>

/*
 * Sums of floats show the order of the fold, which is anybody's without coll/car; they take long to
 * work out.
 */
static const data_type_t *const floats = &data_types[4], *const integers = &data_types[1];
#define FLOATS_TO_BYTES 100000

checked_space_t checked_allocate(gpu_kind_t kind, size_t bytes)
{
    return (checked_space_t){.buffer = gpu_allocate(kind, bytes),
                             .operand = test_allocate(bytes),
                             .expected = test_allocate(bytes),
                             .scratch = test_allocate(bytes)};
}

void checked_free(checked_space_t *space)
{
    gpu_free(&space->buffer);
    free(space->operand);
    free(space->expected);
    free(space->scratch);
}

/*
 * What this rank brings, and what all must get; of integers, which are for large and many calls, by
 * a formula.
 */
static void prepare(checked_space_t *space, const data_type_t *type, uint64_t seed, int rank,
                    int size, uint64_t count)
{
    uint32_t *mine = (uint32_t *) (void *) space->operand,
             *wanted = (uint32_t *) (void *) space->expected;
    const uint32_t start = (uint32_t) test_random(seed, 0), n = (uint32_t) size,
                   ranks = n * (n + 1) / 2;

    if (floats == type) {
        data_fill(space->operand, type, seed, rank, 0, count);
        data_expect(space->expected, space->scratch, type, DATA_SUM, seed, size, 0, count);
        return;
    }
    for (uint32_t i = 0; i < count; ++i) {
        mine[i] = (start + i * i) * (uint32_t) (rank + 1);
        wanted[i] = (start + i * i) * ranks;
    }
}

static bool reduce(MPI_Comm comm, const data_type_t *type, checked_space_t *space, size_t bytes,
                   uint64_t seed, const char *what)
{
    const uint64_t count = bytes / type->bytes;
    char is[DATA_TEXT], wanted[DATA_TEXT];
    int rank, size;

    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    prepare(space, type, seed, rank, size, count);
    gpu_write(space->buffer.address, space->operand, bytes);
    const int error =
        MPI_Allreduce(MPI_IN_PLACE, space->buffer.address, (int) count, type->type, MPI_SUM, comm);
    gpu_read(space->operand, space->buffer.address, bytes);
    const uint64_t wrong = data_differ(space->operand, space->expected, type, count);
    if (wrong == count) {
        return CHECK(MPI_SUCCESS == error, "%s: rank %d of %d, %zu bytes: error %d", what, rank,
                     size, bytes, error);
    }
    return CHECK(false, "%s: rank %d of %d, %zu bytes: element %llu is %s, not %s", what, rank,
                 size, bytes, (unsigned long long) wrong,
                 data_text(space->operand, type, wrong, is),
                 data_text(space->expected, type, wrong, wanted));
}

bool checked_allreduce(MPI_Comm comm, checked_space_t *space, size_t bytes, uint64_t seed,
                       const char *what)
{
    return reduce(comm, bytes > FLOATS_TO_BYTES ? integers : floats, space, bytes, seed, what);
}

bool checked_allreduce_by(checked_by_t by, MPI_Comm comm, checked_space_t *space, size_t bytes,
                          uint64_t seed, const char *what)
{
    int size;

    MPI_Comm_size(comm, &size);
    const car_counters_t before = test_counters();
    const bool right =
        reduce(comm, CHECKED_BY_KERNELS == by && bytes <= FLOATS_TO_BYTES ? floats : integers,
               space, bytes, seed, what);
    const car_counters_t since = test_since(&before);
    const unsigned long long served = test_served(&since), left = test_left(&since);
    const unsigned long long by_kernels = size > 1 && CHECKED_BY_KERNELS == by,
                             by_saved = size > 1 && CHECKED_ELSEWHERE == by;
    return CHECK(served == by_kernels && left == by_saved,
                 "%s: %d ranks, %zu bytes: kernels served %llu calls, the saved module %llu", what,
                 size, bytes, served, left)
           && right;
}
