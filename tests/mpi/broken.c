/*
 * The driver fails on one rank in the middle of a run (the suite makes it fail, on simulated GPUs): every rank gets an error
 * from MPI_Allreduce within a few calls, from then on always, whatever buffers it brings, and nobody waits for ever.
 */
#include "testing.h"

#define CALLS 40
#define COUNT 40000

int main(int argc, char **argv)
{
    int first_error = -1, latest = 0;

    test_options(argc, argv, "");
    test_begin(&argc, &argv, "broken");
    test_use_gpu();
    MPI_Comm comm;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    gpu_buffer_t device = gpu_allocate(GPU_DEVICE, COUNT * sizeof(float));
    gpu_buffer_t host = gpu_allocate(GPU_HOST, COUNT * sizeof(float));
    for (int call = 0; call < CALLS; ++call) {
        /* Ranks differ in what they bring; at least one brings device memory. Counts change, so pieces grow too. */
        void *buffer = call % test.size == test.rank || 0 == call ? device.address : host.address;
        const int error = MPI_Allreduce(MPI_IN_PLACE, buffer, 1 + COUNT / CALLS * call, MPI_FLOAT, MPI_MAX, comm);
        if (MPI_SUCCESS != error && first_error < 0) {
            first_error = call;
        }
        CHECK((MPI_SUCCESS != error) == (first_error >= 0), "call %d gives %d after an error in call %d", call, error,
              first_error);
    }
    CHECK(first_error >= 0, "no error in %d calls", CALLS);
    MPI_Allreduce(&first_error, &latest, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    CHECK(latest - first_error <= 2, "an error in call %d here, in %d elsewhere", first_error, latest);
    /* Other communicators are not affected. */
    MPI_Allreduce(MPI_IN_PLACE, &latest, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Comm_free(&comm);
    gpu_free(&device);
    gpu_free(&host);
    return test_end("an error on every rank, first in call %d", first_error);
}
