/*
 * All ranks are killed (SIGKILL) while the control segment of a communicator is there, and not all
 * ranks have mapped it: the last one never comes to the call that makes it. What is left then, the
 * suite looks at.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "testing.h"

int main(int argc, char **argv)
{
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Comm comm; /* of which coll/car has seen no call */
    int done;

    test_options(argc, argv, "");
    test_begin(&argc, &argv, "window");
    test_use_gpu();
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, 4000);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Barrier(comm);
    if (test.rank < test.size - 1) {
        MPI_Iallreduce(MPI_IN_PLACE, buffer.address, 1000, MPI_FLOAT, MPI_SUM, comm, &request);
    }
    for (const double start = test_ms(); test_ms() < start + 500;) {
        if (MPI_REQUEST_NULL != request) {
            MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        }
    }
    if (0 == test.rank) {
        printf("ok window: all ranks end\n");
        fflush(stdout);
        usleep(100 * 1000);
    }
    kill(getpid(), SIGKILL);
    return 1;
}
