/*
 * The driver fails on one rank in the middle of a run (the suite makes it fail, on simulated GPUs): every rank gets an error
 * from MPI_Allreduce within a few calls, from then on always, whatever buffers it brings, and nobody waits for ever.
 *
 *   --at-once N   nonblocking calls, so many under way at a time (0: MPI_Allreduce)
 */
#include "testing.h"

#define CALLS 40
#define COUNT 40000
#define AT_ONCE_MAX 10

static MPI_Comm comm;
static int first_error = -1;

static void judge(int call, int error)
{
    if (MPI_SUCCESS != error && first_error < 0) {
        first_error = call;
    }
    CHECK((MPI_SUCCESS != error) == (first_error >= 0), "call %d gives %d after an error in call %d", call, error, first_error);
}

/* Ranks differ in what they bring; at least one brings device memory. Counts change, so pieces grow too. */
static void *choose(int call, const gpu_buffer_t *device, const gpu_buffer_t *host)
{
    return call % test.size == test.rank || 0 == call ? device->address : host->address;
}

static int count_of(int call)
{
    return 1 + COUNT / CALLS * call;
}

/* Each on memory of its own. */
static void call_at_once(int first, int number)
{
    gpu_buffer_t device[AT_ONCE_MAX], host[AT_ONCE_MAX];
    MPI_Request requests[AT_ONCE_MAX];
    int errors[AT_ONCE_MAX];

    for (int i = 0; i < number; ++i) {
        device[i] = gpu_allocate(GPU_DEVICE, COUNT * sizeof(float));
        host[i] = gpu_allocate(GPU_HOST, COUNT * sizeof(float));
        errors[i] = MPI_Iallreduce(MPI_IN_PLACE, choose(first + i, &device[i], &host[i]), count_of(first + i), MPI_FLOAT, MPI_MAX,
                                   comm, &requests[i]);
    }
    for (int i = 0; i < number; ++i) {
        judge(first + i, MPI_SUCCESS != errors[i] ? errors[i] : MPI_Wait(&requests[i], MPI_STATUS_IGNORE));
        gpu_free(&device[i]);
        gpu_free(&host[i]);
    }
}

int main(int argc, char **argv)
{
    int latest = 0;

    test_options(argc, argv, "at-once");
    test_begin(&argc, &argv, "broken");
    test_use_gpu();
    const int at_once = (int) test_number("at-once", 0), more = at_once > 0 ? at_once : 1;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    gpu_buffer_t device = gpu_allocate(GPU_DEVICE, COUNT * sizeof(float));
    gpu_buffer_t host = gpu_allocate(GPU_HOST, COUNT * sizeof(float));
    for (int call = 0; call < CALLS; call += more) {
        if (at_once > 0) {
            call_at_once(call, at_once);
        } else {
            judge(call, MPI_Allreduce(MPI_IN_PLACE, choose(call, &device, &host), count_of(call), MPI_FLOAT, MPI_MAX, comm));
        }
    }
    CHECK(first_error >= 0, "no error in %d calls", CALLS);
    MPI_Allreduce(&first_error, &latest, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    CHECK(latest - first_error <= 1 + more, "an error in call %d here, in %d elsewhere", first_error, latest);
    /* Other communicators are not affected. */
    MPI_Allreduce(MPI_IN_PLACE, &latest, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Comm_free(&comm);
    gpu_free(&device);
    gpu_free(&host);
    return test_end("an error on every rank, first in call %d", first_error);
}
