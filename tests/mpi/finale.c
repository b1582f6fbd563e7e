/*
 * MPI ends in whatever state the program leaves it: without a crash and without waiting for ever.
 *
 *   --how reset         the device has been reset
 *         outstanding   nonblocking calls of all ranks have never been waited for
 *         started       nor has the start of a persistent request, and neither it nor the communicator has been freed
 *         atexit        MPI_Finalize is called while the process ends
 *         unused        the GPU is there, and no allreduce has used it
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "form.h"
#include "testing.h"

#define COUNT 50000

static void finalize(void)
{
    MPI_Finalize();
    if (0 == test.rank) {
        printf("ok finale: %s\n", test_option("how", ""));
    }
}

int main(int argc, char **argv)
{
    MPI_Request requests[4];
    MPI_Comm comm;

    test_options(argc, argv, "how");
    test_begin(&argc, &argv, "finale");
    test_use_gpu();
    const char *how = test_option("how", "unused");
    gpu_buffer_t buffer[4];

    for (int i = 0; i < 4; ++i) {
        buffer[i] = gpu_allocate(GPU_DEVICE, COUNT * sizeof(float));
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    if (0 != strcmp("unused", how)) {
        MPI_Allreduce(MPI_IN_PLACE, buffer[0].address, COUNT, MPI_FLOAT, MPI_SUM, comm);
        MPI_Allreduce(MPI_IN_PLACE, buffer[0].address, 10, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    }
    if (0 == strcmp("outstanding", how)) {
        for (int i = 0; i < 4; ++i) {
            MPI_Iallreduce(MPI_IN_PLACE, buffer[i].address, COUNT, MPI_FLOAT, MPI_SUM, i % 2 ? comm : MPI_COMM_WORLD, &requests[i]);
        }
    } else if (0 == strcmp("started", how) && form_has_persistent()) {
        form_allreduce_init(MPI_IN_PLACE, buffer[0].address, COUNT, MPI_FLOAT, MPI_SUM, comm, &requests[0]);
        MPI_Start(&requests[0]);
    } else if (0 == strcmp("reset", how)) {
        GPU_OK(gpu.DevicePrimaryCtxReset(gpu_in_use()));
    }
    if (0 == strcmp("atexit", how)) {
        atexit(finalize);
        exit(0);
    }
    finalize();
    return 0;
}
