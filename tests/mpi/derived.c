/*
 * Contiguous derived types of one predefined type: kernels reduce them wherever MPI lets an
 * operation have them. That is user-defined operations by the standard (libcar's are known to
 * coll/car, others go to the saved module), and predefined ones where Open MPI's checks of
 * arguments are off (--unchecked yes). Types with gaps go to the saved module. What
 * MPI_Type_create_f90_integer and its like return are predefined types under other names.
 */
#include <stdlib.h>
#include <string.h>

#include "data.h"
#include "testing.h"

#define COUNT 777
#define TIMES 3 /* of the predefined type in the derived one */

/* The k-th 32-bit value of a rank. */
static uint32_t value(int rank, uint32_t k)
{
    return k * 2654435761u + (uint32_t) rank * 40503u;
}

static void add_threes(void *in, void *inout, int *count, MPI_Datatype *type)
{
    uint32_t *to = inout;
    const uint32_t *from = in;

    (void) type;
    for (int i = 0; i < TIMES * *count; ++i) {
        to[i] += from[i];
    }
}

/* One call on device memory, in place or not; `served`: whether kernels are to have it. */
static void try_call(const char *what, MPI_Datatype type, MPI_Op op, uint32_t stride, bool in_place,
                     bool served)
{
    const uint32_t words = COUNT * stride;
    const size_t bytes = words * sizeof(uint32_t);
    uint32_t *mine = malloc(bytes);
    gpu_buffer_t in = gpu_allocate(GPU_DEVICE, bytes), out = gpu_allocate(GPU_DEVICE, bytes);

    for (uint32_t k = 0; k < words; ++k) {
        mine[k] = value(test.rank, k);
    }
    gpu_write(in.address, mine, bytes);
    gpu_write(out.address, mine, bytes);
    const car_counters_t before = test_counters();
    const int rc = MPI_Allreduce(in_place ? MPI_IN_PLACE : in.address, out.address, COUNT, type, op,
                                 MPI_COMM_WORLD);
    const car_counters_t since = test_since(&before);
    CHECK(MPI_SUCCESS == rc, "%s: error %d", what, rc);
    CHECK((served ? 1 : 0) == test_served(&since), "%s: served %llu times", what,
          test_served(&since));
    gpu_read(mine, out.address, bytes);
    for (uint32_t k = 0; k < words; ++k) {
        uint32_t wanted = 0;
        for (int r = 0; r < test.size; ++r) {
            wanted += value(r, k);
        }
        if (k % stride >= TIMES) {
            wanted = value(test.rank, k); /* a gap */
        }
        if (!CHECK(mine[k] == wanted, "%s: word %u is %u, not %u", what, k, mine[k], wanted)) {
            break;
        }
    }
    gpu_free(&in);
    gpu_free(&out);
    free(mine);
}

/* Adds two words and leaves the third and fourth, as the type with a gap has it. */
static void add_gapped(void *in, void *inout, int *count, MPI_Datatype *type)
{
    uint32_t *to = inout;
    const uint32_t *from = in;

    (void) type;
    for (int i = 0; i < *count; ++i) {
        for (int k = 0; k < TIMES; ++k) {
            to[i * (TIMES + 1) + k] += from[i * (TIMES + 1) + k];
        }
    }
}

/* A type of Fortran's kinds, which is to be reduced like the one of that name in data_types.c. */
static void try_kind(MPI_Datatype type, const char *like, data_op_t op)
{
    char mine[COUNT * 16], expected[COUNT * 16], scratch[COUNT * 16];
    const data_type_t *known = data_types;
    int size = 0;

    if (MPI_DATATYPE_NULL != type) {
        MPI_Type_size(type, &size);
    }
    if (0 == size) {
        return; /* not in this Open MPI */
    }
    while (0 != strcmp(like, known->name)) {
        ++known;
    }
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, sizeof(mine));
    data_fill(mine, known, (uint64_t) op + 1, test.rank, 0, COUNT);
    gpu_write(buffer.address, mine, COUNT * known->bytes);
    const car_counters_t before = test_counters();
    const int rc =
        MPI_Allreduce(MPI_IN_PLACE, buffer.address, COUNT, type, data_mpi_op(op), MPI_COMM_WORLD);
    const car_counters_t since = test_since(&before);
    gpu_read(mine, buffer.address, COUNT * known->bytes);
    data_expect(expected, scratch, known, op, (uint64_t) op + 1, test.size, 0, COUNT);
    CHECK(MPI_SUCCESS == rc && 1 == test_served(&since),
          "a kind of Fortran, like %s: error %d, served %llu times", like, rc, test_served(&since));
    CHECK(COUNT == data_differ(mine, expected, known, COUNT),
          "a kind of Fortran, like %s: wrong result", like);
    gpu_free(&buffer);
}

static void kinds_of_fortran(void)
{
    /* Open MPI makes the smallest one of MPI_BYTE, and so compares its values without a sign. */
    static const struct {
        int digits;
        const char *like;
    } integers[] = {{2, "uint8"}, {4, "int16"}, {9, "int32"}, {18, "int64"}},
      reals[] = {{6, "float"}, {15, "double"}},
      complexes[] = {{6, "c_float_complex"}, {15, "c_double_complex"}};
    MPI_Datatype type;

    for (int i = 0; i < 4; ++i) {
        MPI_Type_create_f90_integer(integers[i].digits, &type);
        try_kind(type, integers[i].like, DATA_SUM);
        try_kind(type, integers[i].like, DATA_MIN);
        try_kind(type, integers[i].like, DATA_BXOR);
    }
    for (int i = 0; i < 2; ++i) {
        MPI_Type_create_f90_real(reals[i].digits, MPI_UNDEFINED, &type);
        try_kind(type, reals[i].like, DATA_SUM);
        try_kind(type, reals[i].like, DATA_MAX);
        MPI_Type_create_f90_complex(complexes[i].digits, MPI_UNDEFINED, &type);
        try_kind(type, complexes[i].like, DATA_SUM);
        try_kind(type, complexes[i].like, DATA_PROD);
    }
}

int main(int argc, char **argv)
{
    MPI_Datatype threes, gapped;
    MPI_Op own, own_gapped;

    test_options(argc, argv, "unchecked");
    test_begin(&argc, &argv, "derived");
    test_use_gpu();
    const bool unchecked = 0 == strcmp("yes", test_option("unchecked", "no"));
    MPI_Type_contiguous(TIMES, MPI_UINT32_T, &threes);
    MPI_Type_commit(&threes);
    MPI_Type_create_resized(threes, 0, (TIMES + 1) * sizeof(uint32_t), &gapped);
    MPI_Type_commit(&gapped);
    MPI_Op_create(add_threes, 1, &own);
    MPI_Op_create(add_gapped, 1, &own_gapped);
    for (int in_place = 0; in_place < 2; ++in_place) {
        try_call("a user's operation", threes, own, TIMES, in_place, false);
        try_call("a user's operation on a type with gaps", gapped, own_gapped, TIMES + 1, in_place,
                 false);
        if (unchecked) {
            try_call("MPI_SUM", threes, MPI_SUM, TIMES, in_place, true);
        }
    }
    kinds_of_fortran();
    MPI_Op_free(&own_gapped);
    MPI_Op_free(&own);
    MPI_Type_free(&gapped);
    MPI_Type_free(&threes);
    return test_end("%s", unchecked ? "predefined operations, too" : "user-defined operations");
}
