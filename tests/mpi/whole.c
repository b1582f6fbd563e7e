/*
 * A whole MPI program in which coll/car is: every other collective still works, on all kinds of
 * communicators, and an allreduce on device memory that coll/car does not serve (types, operations)
 * has the result that host memory gives on a communicator without coll/car. The suite runs it with
 * coll/car by default, named alone in --mca coll, and excluded.
 *
 *   --expect car|absent   whether coll/car is there (car); it must then have served what it serves
 *   --gpu yes|no          without: all on host memory, no driver needed
 */
#include <complex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing.h"

#define COUNT 700

static bool with_gpu, with_car;

/* --- collectives on host memory, each checked by what its definition says --------------------- */

static void rooted(MPI_Comm comm, int rank, int size)
{
    int value = rank == size - 1 ? 4711 : 0, all[64], mine = -1;

    MPI_Barrier(comm);
    MPI_Bcast(&value, 1, MPI_INT, size - 1, comm);
    CHECK(4711 == value, "MPI_Bcast gave %d", value);
    MPI_Gather(&rank, 1, MPI_INT, all, 1, MPI_INT, 0, comm);
    for (int r = 0; r < size && 0 == rank; ++r) {
        CHECK(r == all[r], "MPI_Gather gave %d from %d", all[r], r);
    }
    MPI_Scatter(all, 1, MPI_INT, &mine, 1, MPI_INT, 0, comm);
    CHECK(rank == mine, "MPI_Scatter gave %d", mine);
    MPI_Reduce(&rank, &value, 1, MPI_INT, MPI_SUM, 0, comm);
    CHECK(0 != rank || size * (size - 1) / 2 == value, "MPI_Reduce gave %d", value);
}

static void everybody(MPI_Comm comm, int rank, int size)
{
    int sent[64], got[64], counts[64], value = 0, wanted = 0;

    MPI_Allgather(&rank, 1, MPI_INT, got, 1, MPI_INT, comm);
    for (int r = 0; r < size; ++r) {
        CHECK(r == got[r], "MPI_Allgather gave %d from %d", got[r], r);
        sent[r] = 100 * rank + r;
        counts[r] = 1;
    }
    MPI_Alltoall(sent, 1, MPI_INT, got, 1, MPI_INT, comm);
    for (int r = 0; r < size; ++r) {
        CHECK(100 * r + rank == got[r], "MPI_Alltoall gave %d from %d", got[r], r);
        wanted += 100 * r + rank;
    }
    MPI_Reduce_scatter(sent, &value, counts, MPI_INT, MPI_SUM, comm);
    CHECK(wanted == value, "MPI_Reduce_scatter gave %d, not %d", value, wanted);
    MPI_Reduce_scatter_block(sent, &value, 1, MPI_INT, MPI_SUM, comm);
    CHECK(wanted == value, "MPI_Reduce_scatter_block gave %d, not %d", value, wanted);
    MPI_Scan(&rank, &value, 1, MPI_INT, MPI_SUM, comm);
    CHECK(rank * (rank + 1) / 2 == value, "MPI_Scan gave %d", value);
    MPI_Exscan(&rank, &value, 1, MPI_INT, MPI_SUM, comm);
    CHECK(0 == rank || rank * (rank - 1) / 2 == value, "MPI_Exscan gave %d", value);
}

static void nonblocking(MPI_Comm comm, int rank, int size)
{
    int sum = 0, greatest = 0;
    MPI_Request requests[3];

    MPI_Iallreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, comm, &requests[0]);
    MPI_Iallreduce(&rank, &greatest, 1, MPI_INT, MPI_MAX, comm, &requests[1]);
    MPI_Ibarrier(comm, &requests[2]);
    MPI_Waitall(3, requests, MPI_STATUSES_IGNORE);
    CHECK(size * (size - 1) / 2 == sum && size - 1 == greatest, "MPI_Iallreduce gave %d and %d",
          sum, greatest);
}

/* A sum of device memory, or of host memory without a GPU. */
static void reduce(MPI_Comm comm, int rank, int size)
{
    double data[COUNT];
    gpu_buffer_t buffer = {.kind = GPU_HOST, .address = data};

    for (int i = 0; i < COUNT; ++i) {
        data[i] = rank + i;
    }
    if (with_gpu) {
        buffer = gpu_allocate(GPU_DEVICE, sizeof(data));
        gpu_write(buffer.address, data, sizeof(data));
    }
    const car_counters_t before = test_counters();
    MPI_Allreduce(MPI_IN_PLACE, buffer.address, COUNT, MPI_DOUBLE, MPI_SUM, comm);
    const car_counters_t since = test_since(&before);
    CHECK((with_gpu && with_car && size > 1 ? 1 : 0) == test_served(&since),
          "the kernels served %llu calls on %d ranks", test_served(&since), size);
    if (with_gpu) {
        gpu_read(data, buffer.address, sizeof(data));
        gpu_free(&buffer);
    }
    for (int i = 0; i < COUNT; ++i) {
        const double wanted = size * (size - 1) / 2 + size * i;
        if (!CHECK(data[i] == wanted, "MPI_Allreduce on %d ranks: element %d is %g, not %g", size,
                   i, data[i], wanted)) {
            break;
        }
    }
}

static void everything_on(MPI_Comm comm)
{
    int rank, size;

    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    rooted(comm, rank, size);
    if (with_car || !with_gpu) {
        reduce(comm, rank, size);
    }
    everybody(comm, rank, size);
    nonblocking(comm, rank, size);
}

/* --- kinds of communicators ------------------------------------------------------------------- */

static void between_groups(void)
{
    const int half = test.size / 2, low = test.rank < half;
    int sum = -1, wanted = 0;
    MPI_Comm side, inter, merged;

    if (test.size < 2) {
        return;
    }
    MPI_Comm_split(MPI_COMM_WORLD, low, 0, &side);
    MPI_Intercomm_create(side, 0, MPI_COMM_WORLD, low ? half : 0, 5, &inter);
    MPI_Allreduce(&test.rank, &sum, 1, MPI_INT, MPI_SUM, inter);
    for (int r = 0; r < test.size; ++r) {
        wanted += (r < half) != low ? r : 0;
    }
    CHECK(wanted == sum, "MPI_Allreduce between groups gave %d, not %d", sum, wanted);
    MPI_Barrier(inter);
    MPI_Intercomm_merge(inter, !low, &merged);
    everything_on(merged);
    MPI_Comm_free(&merged);
    MPI_Comm_free(&inter);
    MPI_Comm_free(&side);
}

static void of_a_group(void)
{
    MPI_Group world, group;
    MPI_Comm comm = MPI_COMM_NULL;
    int range[1][3] = {{0, test.size - 1, 2}};

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_range_incl(world, 1, range, &group);
    if (0 == test.rank % 2) {
        MPI_Comm_create_group(MPI_COMM_WORLD, group, 3, &comm);
        everything_on(comm);
        MPI_Comm_free(&comm);
    }
    MPI_Comm_create(MPI_COMM_WORLD, group, &comm);
    if (MPI_COMM_NULL != comm) {
        everything_on(comm);
        MPI_Comm_free(&comm);
    }
    MPI_Group_free(&group);
    MPI_Group_free(&world);
}

static void communicators(void)
{
    MPI_Comm copy, part, later;
    MPI_Request request;

    everything_on(MPI_COMM_WORLD);
    everything_on(MPI_COMM_SELF);
    MPI_Comm_dup(MPI_COMM_WORLD, &copy);
    everything_on(copy);
    MPI_Comm_split(copy, test.rank % 2, test.size - test.rank, &part);
    everything_on(part);
    MPI_Comm_idup(copy, &later, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Comm_free(&copy);
    everything_on(later);
    MPI_Comm_free(&later);
    MPI_Comm_free(&part);
    of_a_group();
    between_groups();
}

/* --- what coll/car does not serve ------------------------------------------------------------- */

typedef struct {
    double value;
    int index;
} pair_t;

typedef struct {
    long double value;
    int index;
} long_pair_t;

/* Of a pair: the sum of the values and the largest index. */
static void merge_pairs(void *in, void *inout, int *length, MPI_Datatype *type)
{
    const pair_t *a = in;
    pair_t *b = inout;

    (void) type;
    for (int i = 0; i < *length; ++i) {
        b[i].value += a[i].value;
        b[i].index = a[i].index > b[i].index ? a[i].index : b[i].index;
    }
}

/* The type has one integer and then a gap of two. */
static void merge_thirds(void *in, void *inout, int *length, MPI_Datatype *type)
{
    (void) type;
    for (int i = 0; i < 3 * *length; i += 3) {
        ((int *) inout)[i] += ((int *) in)[i];
    }
}

/*
 * The same call on host memory without coll/car, then on device memory with it; twice, as the first
 * sets up.
 */
static void same_as_host(MPI_Comm plain, const char *what, const void *operand, size_t bytes,
                         int count, MPI_Datatype type, MPI_Op op)
{
    char *wanted = malloc(bytes), *got = malloc(bytes);
    gpu_buffer_t in = gpu_allocate(GPU_DEVICE, bytes), out = gpu_allocate(GPU_DEVICE, bytes);

    memcpy(wanted, operand, bytes);
    MPI_Allreduce(MPI_IN_PLACE, wanted, count, type, op, plain);
    for (int in_place = 0; in_place < 2; ++in_place) {
        gpu_write(in.address, operand, bytes);
        gpu_write(out.address, operand, bytes);
        const car_counters_t before = test_counters();
        MPI_Allreduce(in_place ? MPI_IN_PLACE : in.address, out.address, count, type, op,
                      MPI_COMM_WORLD);
        const car_counters_t since = test_since(&before);
        gpu_read(got, out.address, bytes);
        CHECK(0 == memcmp(got, wanted, bytes),
              "%s on device memory%s gives something else than on host memory", what,
              in_place ? " in place" : "");
        CHECK(0 == test_served(&since) && 1 == since.calls_forwarded,
              "%s: served %llu times, left to others %llu times", what, test_served(&since),
              since.calls_forwarded);
    }
    gpu_free(&in);
    gpu_free(&out);
    free(wanted);
    free(got);
}

static void not_served(void)
{
    pair_t pairs[COUNT];
    long_pair_t long_pairs[COUNT];
    long double longs[COUNT];
    long double _Complex complexes[COUNT];
    int strided[3 * COUNT];
    MPI_Datatype every_third;
    MPI_Op merge;
    MPI_Comm plain = test_without_car(MPI_COMM_WORLD);

    /* The gaps too: they are compared. */
    memset(pairs, 0, sizeof(pairs));
    memset(long_pairs, 0, sizeof(long_pairs));
    memset(longs, 0, sizeof(longs));
    memset(complexes, 0, sizeof(complexes));
    for (int i = 0; i < COUNT; ++i) {
        pairs[i].value = (double) ((test.rank * 7 + i * 13) % 31);
        pairs[i].index = test.rank;
        long_pairs[i].value = (test.rank * 7 + i * 13) % 31;
        long_pairs[i].index = test.rank;
        longs[i] = test.rank + i;
        complexes[i] = test.rank + i * I;
        strided[3 * i] = test.rank + i;
        strided[3 * i + 1] = strided[3 * i + 2] = -1;
    }
    same_as_host(plain, "MPI_MINLOC of MPI_LONG_DOUBLE_INT", long_pairs, sizeof(long_pairs), COUNT,
                 MPI_LONG_DOUBLE_INT, MPI_MINLOC);
    same_as_host(plain, "MPI_SUM of MPI_LONG_DOUBLE", longs, sizeof(longs), COUNT, MPI_LONG_DOUBLE,
                 MPI_SUM);
    same_as_host(plain, "MPI_SUM of MPI_C_LONG_DOUBLE_COMPLEX", complexes, sizeof(complexes), COUNT,
                 MPI_C_LONG_DOUBLE_COMPLEX, MPI_SUM);
    MPI_Op_create(merge_pairs, 1, &merge);
    same_as_host(plain, "a user's operation", pairs, sizeof(pairs), COUNT, MPI_DOUBLE_INT, merge);
    MPI_Op_free(&merge);
    /* The gaps are nobody's and must stay. */
    MPI_Type_create_resized(MPI_INT, 0, 3 * sizeof(int), &every_third);
    MPI_Type_commit(&every_third);
    MPI_Op_create(merge_thirds, 1, &merge);
    same_as_host(plain, "a derived type", strided, sizeof(strided), COUNT, every_third, merge);
    MPI_Op_free(&merge);
    MPI_Type_free(&every_third);
    MPI_Comm_free(&plain);
}

int main(int argc, char **argv)
{
    test_options(argc, argv, "expect gpu");
    test_begin(&argc, &argv, "whole");
    with_car = 0 == strcmp("car", test_option("expect", "car"));
    with_gpu = 0 == strcmp("yes", test_option("gpu", "yes"));
    if (with_gpu) {
        test_use_gpu();
    }
    communicators();
    if (with_gpu && with_car) {
        not_served();
    }
    CHECK(with_car == test.counted, "coll/car is %sloaded", test.counted ? "" : "not ");
    return test_end("%s", with_gpu ? "device and host memory" : "host memory");
}
