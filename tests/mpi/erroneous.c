/*
 * Erroneous calls: on device memory each gives the error class that the same call gives on host
 * memory without coll/car, on every rank, and none leaves anything behind that a right call
 * afterwards would notice. That goes for a communicator on which coll/car is in use and for one
 * that has never been used.
 *
 *   --device yes|no   whether calls have device memory (yes)
 */
#include <string.h>

#include "checked.h"

#define COUNT 500

typedef struct {
    const char *what;
    int (*call)(MPI_Comm comm, int32_t *in, int32_t *out);
    bool undefined; /* nothing is promised but that it returns */
} case_t;

static MPI_Datatype uncommitted;

static int same_buffer(MPI_Comm comm, int32_t *in, int32_t *out)
{
    (void) out;
    return MPI_Allreduce(in, in, COUNT, MPI_INT32_T, MPI_SUM, comm);
}

static int overlapping(MPI_Comm comm, int32_t *in, int32_t *out)
{
    (void) out;
    return MPI_Allreduce(in, in + COUNT / 2, COUNT, MPI_INT32_T, MPI_SUM, comm);
}

static int into_place(MPI_Comm comm, int32_t *in, int32_t *out)
{
    (void) out;
    return MPI_Allreduce(in, MPI_IN_PLACE, COUNT, MPI_INT32_T, MPI_SUM, comm);
}

static int negative_count(MPI_Comm comm, int32_t *in, int32_t *out)
{
    return MPI_Allreduce(in, out, -1, MPI_INT32_T, MPI_SUM, comm);
}

static int no_type(MPI_Comm comm, int32_t *in, int32_t *out)
{
    return MPI_Allreduce(in, out, COUNT, MPI_DATATYPE_NULL, MPI_SUM, comm);
}

static int uncommitted_type(MPI_Comm comm, int32_t *in, int32_t *out)
{
    return MPI_Allreduce(in, out, COUNT, uncommitted, MPI_SUM, comm);
}

static int no_operation(MPI_Comm comm, int32_t *in, int32_t *out)
{
    return MPI_Allreduce(in, out, COUNT, MPI_INT32_T, MPI_OP_NULL, comm);
}

static int wrong_operation(MPI_Comm comm, int32_t *in, int32_t *out)
{
    return MPI_Allreduce(in, out, COUNT, MPI_FLOAT, MPI_BAND, comm);
}

static int no_communicator(MPI_Comm comm, int32_t *in, int32_t *out)
{
    (void) comm;
    return MPI_Allreduce(in, out, COUNT, MPI_INT32_T, MPI_SUM, MPI_COMM_NULL);
}

/* Not erroneous: nothing is read. */
static int nothing(MPI_Comm comm, int32_t *in, int32_t *out)
{
    (void) in;
    (void) out;
    return MPI_Allreduce(NULL, NULL, 0, MPI_INT32_T, MPI_SUM, comm);
}

static const case_t cases[] = {
    {"one buffer for both, without MPI_IN_PLACE", same_buffer, false},
    {"buffers that overlap", overlapping, true},
    {"MPI_IN_PLACE as output", into_place, false},
    {"a negative count", negative_count, false},
    {"MPI_DATATYPE_NULL", no_type, false},
    {"a type that is not committed", uncommitted_type, false},
    {"MPI_OP_NULL", no_operation, false},
    {"an operation that the type does not have", wrong_operation, false},
    {"MPI_COMM_NULL", no_communicator, false},
    {"no elements and no buffers", nothing, false},
};

static int class_of(int rc)
{
    int class = 0;

    MPI_Error_class(rc, &class);
    return class;
}

static void try_all(MPI_Comm comm, MPI_Comm plain, checked_space_t *space, int32_t *out,
                    checked_by_t by, const char *where)
{
    static int32_t host_in[2 * COUNT], host_out[2 * COUNT];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        const int on_host = class_of(cases[i].call(plain, host_in, host_out));
        const int here = class_of(cases[i].call(comm, space->buffer.address, out));
        CHECK(cases[i].undefined || here == on_host,
              "%s, %s: error class %d, but %d on host memory without coll/car", cases[i].what,
              where, here, on_host);
        checked_allreduce_by(by, comm, space, 4000, i, cases[i].what);
    }
}

int main(int argc, char **argv)
{
    MPI_Comm used, unused;

    test_options(argc, argv, "device");
    test_begin(&argc, &argv, "erroneous");
    test_use_gpu();
    const bool device = 0 == strcmp("yes", test_option("device", "yes"));
    const checked_by_t by = device ? CHECKED_BY_KERNELS : CHECKED_ELSEWHERE;
    MPI_Comm plain = test_without_car(MPI_COMM_WORLD);
    checked_space_t space =
        checked_allocate(device ? GPU_DEVICE : GPU_HOST, 2 * COUNT * sizeof(int32_t));
    gpu_buffer_t out = gpu_allocate(device ? GPU_DEVICE : GPU_HOST, 2 * COUNT * sizeof(int32_t));
    MPI_Type_contiguous(3, MPI_INT32_T, &uncommitted);
    MPI_Comm_dup(MPI_COMM_WORLD, &used);
    MPI_Comm_dup(MPI_COMM_WORLD, &unused);
    checked_allreduce_by(by, used, &space, 4000, 100, "before");
    /* Whichever of the three an Open MPI raises errors without a communicator on. */
    const MPI_Comm told[] = {MPI_COMM_WORLD, MPI_COMM_SELF, plain, used, unused};
    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); ++i) {
        MPI_Comm_set_errhandler(told[i], MPI_ERRORS_RETURN);
    }
    try_all(used, plain, &space, out.address, by, "in use");
    try_all(unused, plain, &space, out.address, by, "not in use yet");
    MPI_Type_free(&uncommitted);
    MPI_Comm_free(&used);
    MPI_Comm_free(&unused);
    MPI_Comm_free(&plain);
    checked_free(&space);
    gpu_free(&out);
    return test_end("%zu erroneous calls", sizeof(cases) / sizeof(cases[0]));
}
