/*
 * A rank that waits inside MPI_Allreduce lets the rest of MPI go on. Rank 0 has started a large
 * MPI_Isend; its receiver takes the message only after rank 0 has entered the allreduce, and enters
 * it himself after that. Without progress in the wait all ranks hang: the test runs under a time
 * limit.
 *
 * Twice: in the first call on a communicator, where coll/car sets itself up, and in one where it
 * runs.
 *
 * First the premise is checked: as long as rank 0 stays out of MPI the message does not arrive.
 * Where it does (a copy from process to process by the receiver alone) the program skips; see
 * tests/suite for what turns that off.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "testing.h"

#define BYTES (16 << 20)
#define COUNT 1000

static char *message;

static char letter(int tag)
{
    return (char) ('a' + tag);
}

/* True if the message does not arrive while the sender sleeps. */
static bool needs_the_sender(void)
{
    int arrived = 0, needs = 1;
    MPI_Request request = MPI_REQUEST_NULL;

    if (0 == test.rank) {
        MPI_Isend(message, BYTES, MPI_BYTE, 1, 9, MPI_COMM_WORLD, &request);
        usleep(500 * 1000);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
    } else if (1 == test.rank) {
        MPI_Irecv(message, BYTES, MPI_BYTE, 0, 9, MPI_COMM_WORLD, &request);
        for (const double end = test_ms() + 250; !arrived && test_ms() < end;) {
            MPI_Test(&request, &arrived, MPI_STATUS_IGNORE);
        }
        needs = !arrived;
        MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
    MPI_Bcast(&needs, 1, MPI_INT, 1, MPI_COMM_WORLD);
    return needs;
}

static void send_then_reduce(MPI_Comm comm, gpu_buffer_t *buffer, int tag)
{
    float data[COUNT];
    MPI_Request request = MPI_REQUEST_NULL;

    for (int i = 0; i < COUNT; ++i) {
        data[i] = (float) (test.rank + i);
    }
    gpu_write(buffer->address, data, sizeof(data));
    memset(message, 0 == test.rank ? letter(tag) : 0, BYTES);
    MPI_Barrier(MPI_COMM_WORLD);
    const car_counters_t before = test_counters();
    if (0 == test.rank) {
        MPI_Isend(message, BYTES, MPI_BYTE, 1, tag, MPI_COMM_WORLD, &request);
    } else if (1 == test.rank) {
        usleep(300 * 1000);
        MPI_Recv(message, BYTES, MPI_BYTE, 0, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    MPI_Allreduce(MPI_IN_PLACE, buffer->address, COUNT, MPI_FLOAT, MPI_SUM, comm);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    const car_counters_t since = test_since(&before);
    CHECK(1 == test_served(&since), "the kernels served %llu calls", test_served(&since));
    if (1 == test.rank) {
        CHECK(letter(tag) == message[0] && letter(tag) == message[BYTES - 1],
              "another message arrived");
    }
    gpu_read(data, buffer->address, sizeof(data));
    for (int i = 0; i < COUNT; ++i) {
        const float wanted = (float) (test.size * (test.size - 1) / 2 + test.size * i);
        if (!CHECK(data[i] == wanted, "element %d is %g, not %g", i, data[i], wanted)) {
            break;
        }
    }
}

int main(int argc, char **argv)
{
    test_options(argc, argv, "");
    test_begin(&argc, &argv, "progress");
    test_use_gpu();
    message = malloc(BYTES);
    memset(message, 0, BYTES);
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, COUNT * sizeof(float));
    if (!needs_the_sender()) {
        test_skip("here a message arrives without the sender's help");
    }
    send_then_reduce(MPI_COMM_WORLD, &buffer, 1);
    send_then_reduce(MPI_COMM_WORLD, &buffer, 2);
    gpu_free(&buffer);
    free(message);
    return test_end("a message of %d MB arrived while its sender waited in the allreduce",
                    BYTES >> 20);
}
