/*
 * The caller's CUDA state is his own: MPI_Allreduce leaves the current context as it was (a primary
 * one, one of cuCtxCreate, none), makes no context on a GPU that the rank does not use, and does
 * not disturb a capture in global mode, of this thread or another one, not even while it sets a
 * communicator up. The device is chosen after MPI_Init, and may be chosen anew after the first call
 * on a communicator. --own no: without contexts of cuCtxCreate.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing.h"

#define COUNT 2500

/*
 * One allreduce on a communicator of its own, so with its set-up, that must find and leave
 * `current`.
 */
static void reduce(MPI_Comm comm, gpu_buffer_t *buffer, CUcontext current, const char *when)
{
    CUcontext after;

    const car_counters_t before = test_counters();
    for (int i = 0; i < 3; ++i) {
        MPI_Allreduce(MPI_IN_PLACE, buffer->address, COUNT, MPI_INT32_T, MPI_SUM, comm);
        GPU_OK(gpu.CtxGetCurrent(&after));
        CHECK(after == current, "%s: the current context was %p and is %p", when, (void *) current,
              (void *) after);
    }
    const car_counters_t since = test_since(&before);
    CHECK(3 == test_served(&since), "%s: the kernels served %llu of 3 calls", when,
          test_served(&since));
}

/* With all ones three times over: size^3 in every element. Leaves any context current. */
static void check(gpu_buffer_t *buffer, CUcontext context, const char *when)
{
    int32_t data[COUNT];

    GPU_OK(gpu.CtxSetCurrent(context));
    gpu_read(data, buffer->address, sizeof(data));
    for (int i = 0; i < COUNT; ++i) {
        const int32_t wanted = test.size * test.size * test.size;
        if (!CHECK(data[i] == wanted, "%s: element %d is %d, not %d", when, i, data[i], wanted)) {
            return;
        }
    }
}

static void fill(gpu_buffer_t *buffer)
{
    int32_t data[COUNT];

    for (int i = 0; i < COUNT; ++i) {
        data[i] = 1;
    }
    gpu_write(buffer->address, data, sizeof(data));
}

/* The buffer in `owner`, and `current` the context in which MPI is called. */
static void try_contexts(CUcontext owner, CUcontext current, const char *when)
{
    MPI_Comm comm;

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    GPU_OK(gpu.CtxSetCurrent(owner));
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, COUNT * sizeof(int32_t));
    fill(&buffer);
    GPU_OK(gpu.CtxSetCurrent(current));
    reduce(comm, &buffer, current, when);
    check(&buffer, owner, when);
    MPI_Barrier(MPI_COMM_WORLD);
    gpu_free(&buffer);
    MPI_Comm_free(&comm);
}

static void no_other_contexts(int used)
{
    for (int device = 0; device < gpu_count(); ++device) {
        unsigned int flags;
        int active;
        GPU_OK(gpu.DevicePrimaryCtxGetState(device, &flags, &active));
        CHECK((device == used) == (0 != active),
              "the primary context of device %d is %s; this rank uses device %d", device,
              active ? "active" : "not active", used);
    }
}

/* --- captures --------------------------------------------------------------------------------- */

typedef struct {
    CUcontext context;
    unsigned int flags; /* of the stream */
    pthread_barrier_t begun, ended;
    CUresult result;
    CUgraph graph;
} capture_t;

static void *capture(void *argument)
{
    capture_t *c = argument;
    CUstream stream;

    GPU_OK(gpu.CtxSetCurrent(c->context));
    GPU_OK(gpu.StreamCreate(&stream, c->flags));
    GPU_OK(gpu.StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    pthread_barrier_wait(&c->begun);
    pthread_barrier_wait(&c->ended);
    c->result = gpu.StreamEndCapture(stream, &c->graph);
    return NULL;
}

/* Another thread's, of a stream that the default stream waits for or not. */
static void survive_capture(CUcontext context, unsigned int flags)
{
    capture_t c = {.context = context, .flags = flags};
    pthread_t thread;
    MPI_Comm comm;

    GPU_OK(gpu.CtxSetCurrent(context));
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, COUNT * sizeof(int32_t));
    fill(&buffer);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    pthread_barrier_init(&c.begun, NULL, 2);
    pthread_barrier_init(&c.ended, NULL, 2);
    pthread_create(&thread, NULL, capture, &c);
    pthread_barrier_wait(&c.begun);
    reduce(comm, &buffer, context, "while another thread captures");
    pthread_barrier_wait(&c.ended);
    pthread_join(thread, NULL);
    CHECK(CUDA_SUCCESS == c.result && NULL != c.graph, "the other thread's capture ended with %d",
          c.result);
    check(&buffer, context, "while another thread captures");
    gpu_free(&buffer);
    MPI_Comm_free(&comm);
}

/* This thread's own. */
static void call_while_capturing(CUcontext context, unsigned int flags)
{
    CUstream stream;
    CUgraph graph = NULL;
    MPI_Comm comm;

    GPU_OK(gpu.CtxSetCurrent(context));
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, COUNT * sizeof(int32_t));
    fill(&buffer);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    GPU_OK(gpu.StreamCreate(&stream, flags));
    GPU_OK(gpu.StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    reduce(comm, &buffer, context, "while this thread captures");
    const CUresult result = gpu.StreamEndCapture(stream, &graph);
    CHECK(CUDA_SUCCESS == result && NULL != graph, "this thread's capture ended with %d", result);
    check(&buffer, context, "while this thread captures");
    gpu_free(&buffer);
    MPI_Comm_free(&comm);
}

/* --- another device --------------------------------------------------------------------------- */

/* One communicator, and each call on the next device; some ranks stay where they are. */
static void change_devices(int stay)
{
    const int first = gpu_in_use();
    CUcontext context;
    MPI_Comm comm;

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    for (int step = 0; step <= gpu_count(); ++step) {
        gpu_use(test.rank == stay ? first : (first + step) % gpu_count());
        GPU_OK(gpu.CtxGetCurrent(&context));
        gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, COUNT * sizeof(int32_t));
        fill(&buffer);
        reduce(comm, &buffer, context, "after another device was chosen");
        check(&buffer, context, "after another device was chosen");
        gpu_free(&buffer);
    }
    gpu_use(first);
    MPI_Comm_free(&comm);
}

int main(int argc, char **argv)
{
    CUcontext primary, own;

    test_options(argc, argv, "own");
    test_begin(&argc, &argv, "context");
    test_use_gpu();
    const int device = gpu_in_use();
    GPU_OK(gpu.CtxGetCurrent(&primary));
    no_other_contexts(device);
    /*
     * First: only then does coll/car allocate its memory and load its kernels, which a capture
     * forbids other threads.
     */
    survive_capture(primary, test.rank % 2 ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING);
    survive_capture(primary, test.rank % 2 ? CU_STREAM_NON_BLOCKING : CU_STREAM_DEFAULT);
    try_contexts(primary, primary, "with the primary context current");
    try_contexts(primary, NULL, "with no current context");
    if (0 == strcmp("yes", test_option("own", "yes"))) {
        GPU_OK(gpu.CtxCreate(&own, 0, device));
        /* else "none current" would uncover the primary one below it */
        GPU_OK(gpu.CtxPopCurrent(&own));
        try_contexts(own, own, "with a context of cuCtxCreate");
        try_contexts(own, NULL,
                     "with a buffer of another context than the primary one, none current");
        try_contexts(primary, own, "with a buffer of the primary context, another one current");
        try_contexts(own, primary, "with a buffer of another context, the primary one current");
    }
    no_other_contexts(device);
    call_while_capturing(primary, CU_STREAM_NON_BLOCKING);
    call_while_capturing(primary, CU_STREAM_DEFAULT);
    GPU_OK(gpu.CtxSetCurrent(primary));
    change_devices(0); /* last: it leaves contexts on all of them */
    change_devices(test.size);
    return test_end("device %d of %d on rank 0", device, gpu_count());
}
