/*
 * The simulated driver against what its documentation promises: memory that the host cannot touch,
 * streams in order, errors, IPC between processes, faults on command. A plain program, as an
 * application would use the driver.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "car_cuda_api.h"
#include "litmus.h"
#include "test_kernel_args.h"

/* The entry points that this program calls, linked as an application would. */
CUresult cuInit(unsigned int);
CUresult cuDeviceGet(CUdevice *, int);
CUresult cuDevicePrimaryCtxRetain(CUcontext *, CUdevice);
CUresult cuCtxCreate_v2(CUcontext *, unsigned int, CUdevice);
CUresult cuCtxDestroy_v2(CUcontext);
CUresult cuCtxSetCurrent(CUcontext);
CUresult cuCtxGetCurrent(CUcontext *);
CUresult cuCtxSynchronize(void);
CUresult cuMemHostAlloc(void **, size_t, unsigned int);
CUresult cuMemAlloc_v2(CUdeviceptr *, size_t);
CUresult cuMemFree_v2(CUdeviceptr);
CUresult cuMemAllocManaged(CUdeviceptr *, size_t, unsigned int);
CUresult cuMemAllocAsync(CUdeviceptr *, size_t, CUstream);
CUresult cuMemcpyHtoD_v2(CUdeviceptr, const void *, size_t);
CUresult cuMemcpyDtoH_v2(void *, CUdeviceptr, size_t);
CUresult cuMemsetD32_v2(CUdeviceptr, unsigned int, size_t);
CUresult cuStreamCreate(CUstream *, unsigned int);
CUresult cuStreamSynchronize(CUstream);
CUresult cuStreamQuery(CUstream);
CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned int);
CUresult cuStreamDestroy_v2(CUstream);
CUresult cuStreamBeginCapture_v2(CUstream, CUstreamCaptureMode);
CUresult cuStreamEndCapture(CUstream, CUgraph *);
CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus *);
CUresult cuEventCreate(CUevent *, unsigned int);
CUresult cuEventRecord(CUevent, CUstream);
CUresult cuEventDestroy_v2(CUevent);
CUresult cuModuleLoadData(CUmodule *, const void *);
CUresult cuModuleGetFunction(CUfunction *, CUmodule, const char *);
CUresult cuLaunchKernel(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int,
                        unsigned int, unsigned int, unsigned int, CUstream, void **, void **);
CUresult cuIpcGetMemHandle(CUipcMemHandle *, CUdeviceptr);
CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *, CUipcMemHandle, unsigned int);
CUresult cuIpcCloseMemHandle(CUdeviceptr);
CUresult cuPointerGetAttribute(void *, CUpointer_attribute, CUdeviceptr);
size_t simgpu_allocated_bytes(void);
int simgpu_open_mappings(void);
long simgpu_call_count(const char *);

static CUcontext context;
static CUfunction fill_delay;

#define OK(call) assert_int_equal(CUDA_SUCCESS, (call))

static void open_device(void)
{
    CUmodule module;
    CUdevice device;
    OK(cuInit(0));
    OK(cuDeviceGet(&device, 0));
    OK(cuDevicePrimaryCtxRetain(&context, device));
    OK(cuCtxSetCurrent(context));
    OK(cuModuleLoadData(&module, "any image"));
    OK(cuModuleGetFunction(&fill_delay, module, "fill_delay"));
}

static CUresult fill(CUstream stream, CUdeviceptr address, uint32_t value, uint64_t count,
                     uint32_t delay_us)
{
    test_kernel_args_t args = {.address = (uint32_t *) (uintptr_t) address,
                               .count = count,
                               .value = value,
                               .delay_us = delay_us};
    void *parameters[] = {&args};
    return cuLaunchKernel(fill_delay, 3, 1, 1, 32, 1, 1, 0, stream, parameters, NULL);
}

/*
 * Runs something in a process of its own, before which nothing of CUDA has happened here; returns
 * its wait status.
 */
static int in_a_process(void (*function)(void))
{
    int status;
    const pid_t pid = fork();
    if (0 == pid) {
        function();
        _exit(0);
    }
    assert_int_equal(pid, waitpid(pid, &status, 0));
    return status;
}

static void touch_device_memory(void)
{
    CUdeviceptr address = 0;
    signal(SIGSEGV, SIG_DFL);
    if (CUDA_SUCCESS != cuInit(0) || CUDA_SUCCESS != cuDevicePrimaryCtxRetain(&context, 0)
        || CUDA_SUCCESS != cuCtxSetCurrent(context)
        || CUDA_SUCCESS != cuMemAlloc_v2(&address, 4096)) {
        _exit(1);
    }
    *(volatile int *) (uintptr_t) address = 1;
}

static void the_host_cannot_touch_device_memory(void **state)
{
    (void) state;
    const int status = in_a_process(touch_device_memory);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(SIGSEGV, WTERMSIG(status));
}

static void nothing_works_before_init(void)
{
    CUcontext c;
    CUdeviceptr a;
    if (CUDA_ERROR_NOT_INITIALIZED != cuCtxGetCurrent(&c)
        || CUDA_ERROR_NOT_INITIALIZED != cuMemAlloc_v2(&a, 1) || CUDA_SUCCESS != cuInit(0)
        || CUDA_ERROR_INVALID_CONTEXT != cuMemAlloc_v2(&a, 1)) {
        _exit(1);
    }
}

static void calls_need_init_and_a_context(void **state)
{
    (void) state;
    assert_int_equal(0, in_a_process(nothing_works_before_init));
}

static void fail_on_command(void)
{
    CUdeviceptr a;
    setenv("SIMGPU_FAIL", "cuMemAlloc:2:2,cuCtxSynchronize:1+", 1);
    if (CUDA_SUCCESS != cuInit(0) || CUDA_SUCCESS != cuDevicePrimaryCtxRetain(&context, 0)
        || CUDA_SUCCESS != cuCtxSetCurrent(context) || CUDA_SUCCESS != cuMemAlloc_v2(&a, 1)
        || CUDA_ERROR_OUT_OF_MEMORY != cuMemAlloc_v2(&a, 1) || CUDA_SUCCESS != cuMemAlloc_v2(&a, 1)
        || CUDA_ERROR_UNKNOWN != cuCtxSynchronize() || CUDA_ERROR_UNKNOWN != cuCtxSynchronize()
        || 3 != simgpu_call_count("cuMemAlloc")) {
        _exit(1);
    }
}

static void calls_fail_on_command(void **state)
{
    (void) state;
    assert_int_equal(0, in_a_process(fail_on_command));
}

static void run_out_of_memory(void)
{
    CUdeviceptr a, b;
    setenv("SIMGPU_MEMORY", "1000000", 1);
    if (CUDA_SUCCESS != cuInit(0) || CUDA_SUCCESS != cuDevicePrimaryCtxRetain(&context, 0)
        || CUDA_SUCCESS != cuCtxSetCurrent(context) || CUDA_SUCCESS != cuMemAlloc_v2(&a, 600000)
        || CUDA_ERROR_OUT_OF_MEMORY != cuMemAlloc_v2(&b, 600000) || CUDA_SUCCESS != cuMemFree_v2(a)
        || CUDA_SUCCESS != cuMemAlloc_v2(&b, 600000)) {
        _exit(1);
    }
}

static void memory_runs_out(void **state)
{
    (void) state;
    assert_int_equal(0, in_a_process(run_out_of_memory));
}

/*
 * The parent's memory in the child, by a handle through a pipe; the child writes, the parent reads.
 */
static void memory_is_shared_by_ipc(void **state)
{
    int to_child[2], to_parent[2];
    CUipcMemHandle handle;
    CUdeviceptr memory;
    uint32_t words[4] = {1, 2, 3, 4};
    char byte;
    int status;

    (void) state;
    assert_int_equal(0, pipe(to_child));
    assert_int_equal(0, pipe(to_parent));
    const pid_t pid = fork();
    if (0 == pid) {
        open_device();
        assert_int_equal(sizeof(handle), read(to_child[0], &handle, sizeof(handle)));
        OK(cuIpcOpenMemHandle_v2(&memory, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        assert_int_equal(1, simgpu_open_mappings());
        OK(cuMemcpyDtoH_v2(words, memory, sizeof(words)));
        assert_int_equal(3, words[2]);
        OK(fill(NULL, memory + 4, 77, 2, 0));
        OK(cuCtxSynchronize());
        OK(cuIpcCloseMemHandle(memory));
        assert_int_equal(0, simgpu_open_mappings());
        assert_int_equal(1, write(to_parent[1], "x", 1));
        _exit(0);
    }
    open_device();
    OK(cuMemAlloc_v2(&memory, 100000));
    OK(cuMemcpyHtoD_v2(memory, words, sizeof(words)));
    OK(cuIpcGetMemHandle(&handle, memory));
    /* one's own */
    assert_int_equal(CUDA_ERROR_INVALID_VALUE, cuIpcOpenMemHandle_v2(&memory, handle, 1));
    assert_int_equal(sizeof(handle), write(to_child[1], &handle, sizeof(handle)));
    assert_int_equal(1, read(to_parent[0], &byte, 1));
    OK(cuMemcpyDtoH_v2(words, memory, sizeof(words)));
    assert_int_equal(1, words[0]);
    assert_int_equal(77, words[1]);
    assert_int_equal(77, words[2]);
    assert_int_equal(4, words[3]);
    OK(cuMemFree_v2(memory));
    assert_int_equal(pid, waitpid(pid, &status, 0));
    assert_int_equal(0, status);
}

static void streams_run_in_order_and_side_by_side(void **state)
{
    CUstream a, b;
    CUevent event;
    CUdeviceptr memory;
    uint32_t word = 0;

    (void) state;
    open_device();
    OK(cuMemAlloc_v2(&memory, 4096));
    OK(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    OK(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    OK(fill(a, memory, 1, 1, 200000));
    assert_int_equal(CUDA_ERROR_NOT_READY, cuStreamQuery(a));
    /* The other stream is not held up ... */
    OK(fill(b, memory + 64, 2, 1, 0));
    OK(cuStreamSynchronize(b));
    assert_int_equal(CUDA_ERROR_NOT_READY, cuStreamQuery(a));
    /* ... unless it is told to wait. */
    OK(cuEventRecord(event, a));
    OK(cuStreamWaitEvent(b, event, 0));
    OK(fill(b, memory, 3, 1, 0));
    OK(cuStreamSynchronize(b));
    OK(cuMemcpyDtoH_v2(&word, memory, sizeof(word)));
    assert_int_equal(3, word);
    OK(cuEventDestroy_v2(event));
    OK(cuStreamDestroy_v2(a));
    OK(cuStreamDestroy_v2(b));
    OK(cuMemFree_v2(memory));
}

static void the_legacy_stream_waits_for_blocking_streams_only(void **state)
{
    CUstream blocking, other;
    CUdeviceptr memory;
    uint32_t words[2] = {0, 0};

    (void) state;
    open_device();
    OK(cuMemAlloc_v2(&memory, 4096));
    OK(cuMemsetD32_v2(memory, 9, 2));
    OK(cuCtxSynchronize());
    OK(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(fill(blocking, memory, 1, 1, 50000));
    OK(fill(other, memory + 4, 1, 1, 300000));
    OK(cuMemcpyDtoH_v2(words, memory, sizeof(words)));
    assert_int_equal(1, words[0]);
    assert_int_equal(9, words[1]);
    OK(cuCtxSynchronize());
    OK(cuMemcpyDtoH_v2(words, memory, sizeof(words)));
    assert_int_equal(1, words[1]);
    OK(cuStreamDestroy_v2(blocking));
    OK(cuStreamDestroy_v2(other));
    OK(cuMemFree_v2(memory));
}

static void a_capture_keeps_the_legacy_stream_shut_where_its_stream_is_blocking(void **state)
{
    CUevent event;
    CUstream stream;
    CUgraph graph;
    CUstreamCaptureStatus status;

    (void) state;
    open_device();
    OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    OK(cuEventRecord(event, CU_STREAM_LEGACY));
    OK(cuStreamEndCapture(stream, &graph));
    OK(cuStreamDestroy_v2(stream));
    OK(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_int_equal(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
                     cuStreamIsCapturing(CU_STREAM_LEGACY, &status));
    OK(cuStreamEndCapture(stream, &graph)); /* to ask does no harm */
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_int_equal(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuEventRecord(event, CU_STREAM_LEGACY));
    assert_int_not_equal(CUDA_SUCCESS, cuStreamEndCapture(stream, &graph));
    OK(cuEventRecord(event, CU_STREAM_LEGACY));
    OK(cuStreamDestroy_v2(stream));
    OK(cuEventDestroy_v2(event));
}

static void a_bad_address_is_an_error_of_the_context(void **state)
{
    CUcontext own;
    CUdeviceptr memory;

    (void) state;
    open_device();
    OK(cuCtxCreate_v2(&own, 0, 0));
    OK(cuMemAlloc_v2(&memory, 4096));
    OK(fill(NULL, memory + (1 << 20), 1, 1, 0)); /* nothing is there */
    assert_int_equal(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
    assert_int_equal(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemsetD32_v2(memory, 0, 1));
    OK(cuCtxDestroy_v2(own));
    /* Others are not affected. */
    OK(cuCtxSetCurrent(context));
    OK(cuCtxSynchronize());
}

static void a_misaligned_address_is_one_too(void **state)
{
    CUcontext own;
    CUdeviceptr memory, managed;

    (void) state;
    open_device();
    for (int kind = 0; kind < 2; ++kind) {
        OK(cuCtxCreate_v2(&own, 0, 0));
        OK(cuMemAlloc_v2(&memory, 4096));
        OK(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
        OK(fill(NULL, (0 == kind ? memory : managed) + 2, 1, 1, 0)); /* of 32-bit words */
        assert_int_equal(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
        OK(cuCtxDestroy_v2(own));
    }
    OK(cuCtxSetCurrent(context));
}

static void kinds_of_memory_are_told_apart(void **state)
{
    CUdeviceptr device, managed, pool;
    unsigned int value = 0;
    unsigned long long id[2];
    int local = 0;
    const size_t before = simgpu_allocated_bytes();

    (void) state;
    open_device();
    OK(cuMemAlloc_v2(&device, 4096));
    OK(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
    OK(cuMemAllocAsync(&pool, 4096, NULL));
    OK(cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_IS_MANAGED, managed));
    assert_int_equal(1, value);
    OK(cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, device));
    assert_int_equal(1, value);
    OK(cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, pool));
    assert_int_equal(0, value);
    assert_int_equal(CUDA_ERROR_INVALID_VALUE,
                     cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                           (CUdeviceptr) (uintptr_t) &local));
    *(int *) (uintptr_t) managed = 5; /* the host may */
    OK(cuPointerGetAttribute(&id[0], CU_POINTER_ATTRIBUTE_BUFFER_ID, device));
    assert_int_equal(before + 8192, simgpu_allocated_bytes());
    OK(cuMemFree_v2(device));
    /* Memory allocated anew at the same address is another buffer. */
    CUdeviceptr again;
    OK(cuMemAlloc_v2(&again, 4096));
    assert_int_equal(device, again);
    OK(cuPointerGetAttribute(&id[1], CU_POINTER_ATTRIBUTE_BUFFER_ID, again));
    assert_int_not_equal(id[0], id[1]);
    OK(cuMemFree_v2(again));
    OK(cuMemFree_v2(pool));
    OK(cuMemFree_v2(managed));
    assert_int_equal(before, simgpu_allocated_bytes());
}

/* --- weak memory ------------------------------------------------------------------------------ */

/*
 * A process of its own asks each question, with two GPUs, and says by its status that the answer
 * was wrong.
 */
#define WEAK_ROUNDS 200

static CUcontext weak_contexts[2];
static CUstream weak_streams[2];
static CUmodule weak_module;

static void weak_device(int device)
{
    if (CUDA_SUCCESS != cuDevicePrimaryCtxRetain(&weak_contexts[device], device)
        || CUDA_SUCCESS != cuCtxSetCurrent(weak_contexts[device])
        || CUDA_SUCCESS != cuStreamCreate(&weak_streams[device], CU_STREAM_NON_BLOCKING)) {
        _exit(2);
    }
}

static void weak_begin(void)
{
    setenv("SIMGPU_WEAK", "1", 1);
    setenv("SIMGPU_DEVICES", "2", 1);
    if (CUDA_SUCCESS != cuInit(0)) {
        _exit(2);
    }
    weak_device(0);
    weak_device(1);
    if (CUDA_SUCCESS != cuModuleLoadData(&weak_module, "any image")) {
        _exit(2);
    }
}

static void *weak_memory(int device, size_t bytes)
{
    CUdeviceptr address;
    if (CUDA_SUCCESS != cuCtxSetCurrent(weak_contexts[device])
        || CUDA_SUCCESS != cuMemAlloc_v2(&address, bytes)
        || CUDA_SUCCESS != cuMemsetD32_v2(address, 0, bytes / 4)
        || CUDA_SUCCESS != cuCtxSynchronize()) {
        _exit(2);
    }
    return (void *) (uintptr_t) address;
}

static void weak_start(const char *name, CUstream stream, litmus_args_t args, unsigned int threads)
{
    void *parameters[] = {&args};
    CUfunction function;
    if (CUDA_SUCCESS != cuModuleGetFunction(&function, weak_module, name)
        || CUDA_SUCCESS
               != cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, 0, stream, parameters, NULL)) {
        _exit(2);
    }
}

typedef struct {
    const char *what;
    uint8_t send, receive; /* LITMUS_... */
    bool send_barrier, receive_barrier;
    bool other_gpu;        /* the receiver's; else there is one GPU */
    bool words_there;      /* the words are in its memory */
    bool ordered;          /* what must come out */
} message_t;

/* Two kernels at a time: one sends messages, the other looks whether they are whole. */
static bool message_was_whole(const message_t *m)
{
    const int there = m->other_gpu ? 1 : 0;
    litmus_args_t args = {.words = weak_memory(m->words_there ? there : 0, LITMUS_WORDS * 4),
                          .flag = weak_memory(there, 4096),
                          .answer = weak_memory(0, 4096),
                          .old = weak_memory(there, 4096),
                          .rounds = WEAK_ROUNDS};
    uint32_t old = 0;

    args.how = m->send;
    args.barrier = m->send_barrier;
    weak_start("litmus_send", weak_streams[0], args, 17);
    args.how = m->receive;
    args.barrier = m->receive_barrier;
    CUstream receiver = weak_streams[there];
    if (!m->other_gpu && CUDA_SUCCESS != cuStreamCreate(&receiver, CU_STREAM_NON_BLOCKING)) {
        _exit(2);
    }
    weak_start("litmus_receive", receiver, args, 17);
    if (CUDA_SUCCESS != cuStreamSynchronize(receiver)
        || CUDA_SUCCESS != cuStreamSynchronize(weak_streams[0])
        || CUDA_SUCCESS != cuMemcpyDtoH_v2(&old, (CUdeviceptr) (uintptr_t) args.old, sizeof(old))) {
        _exit(2);
    }
    return 0 == old;
}

static void send_messages(void)
{
    static const message_t messages[] = {
        {"release, acquire", LITMUS_ORDERED, LITMUS_ORDERED, true, true, false, false, true},
        {"release, acquire, to another GPU", LITMUS_ORDERED, LITMUS_ORDERED, true, true, true, true,
         true},
        {"release, acquire, read from another GPU", LITMUS_ORDERED, LITMUS_ORDERED, true, true,
         true, false, true},
        {"fences of system scope", LITMUS_FENCE_SYS, LITMUS_FENCE_SYS, true, true, true, true,
         true},
        {"fences of GPU scope on one GPU", LITMUS_FENCE_GPU, LITMUS_FENCE_GPU, true, true, false,
         false, true},
        {"relaxed store", LITMUS_RELAXED, LITMUS_ORDERED, true, true, false, false, false},
        {"relaxed load", LITMUS_ORDERED, LITMUS_RELAXED, true, true, false, false, false},
        {"no barrier before the release", LITMUS_ORDERED, LITMUS_ORDERED, false, true, false, false,
         false},
        {"no barrier after the acquire", LITMUS_ORDERED, LITMUS_ORDERED, true, false, false, false,
         false},
        {"fence of GPU scope, to another GPU", LITMUS_FENCE_GPU, LITMUS_ORDERED, true, true, true,
         true, false},
        {"fence of GPU scope, read from another", LITMUS_FENCE_GPU, LITMUS_ORDERED, true, true,
         true, false, false},
        {"acquired at GPU scope from another", LITMUS_ORDERED, LITMUS_FENCE_GPU, true, true, true,
         true, false},
    };
    weak_begin();
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); ++i) {
        if (messages[i].ordered != message_was_whole(&messages[i])) {
            fprintf(stderr, "%s: %s\n", messages[i].what,
                    messages[i].ordered ? "out of order" : "always in order");
            _exit(1);
        }
    }
}

static void weak_memory_orders_what_is_released_and_acquired_and_nothing_else(void **state)
{
    (void) state;
    assert_int_equal(0, in_a_process(send_messages));
}

/*
 * Whether all words were there, each time, when the host had seen the word that a kernel stores
 * last.
 */
static bool end_came_last(uint8_t how, bool barrier, CUdeviceptr words)
{
    litmus_args_t args = {.words = (uint32_t *) (uintptr_t) words, .how = how, .barrier = barrier};
    uint32_t seen[LITMUS_WORDS];
    bool last = true;
    void *word;

    if (CUDA_SUCCESS != cuMemHostAlloc(&word, 4096, 0)) {
        _exit(2);
    }
    args.host_word = word;
    for (args.rounds = 1; args.rounds <= WEAK_ROUNDS / 2; ++args.rounds) {
        weak_start("litmus_end", weak_streams[0], args, 17);
        while (args.rounds != *(volatile uint64_t *) word) {
        }
        if (CUDA_SUCCESS != cuMemcpyDtoH_v2(seen, words, sizeof(seen))) {
            _exit(2);
        }
        for (int i = 0; i < LITMUS_WORDS; ++i) {
            last = last && args.rounds == seen[i];
        }
        if (CUDA_SUCCESS != cuStreamSynchronize(weak_streams[0])
            || CUDA_SUCCESS != cuMemcpyDtoH_v2(seen, words, sizeof(seen))) {
            _exit(2);
        }
        for (int i = 0; i < LITMUS_WORDS; ++i) {
            if (args.rounds != seen[i]) {
                _exit(3); /* the end of a kernel publishes everything */
            }
        }
    }
    return last;
}

static void end_kernels(void)
{
    CUdeviceptr managed;

    weak_begin();
    const CUdeviceptr other = (CUdeviceptr) (uintptr_t) weak_memory(1, 4096);
    const CUdeviceptr own = (CUdeviceptr) (uintptr_t) weak_memory(0, 4096);
    if (CUDA_SUCCESS != cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL)
        || !end_came_last(LITMUS_FENCE_GPU, true, own)
        || !end_came_last(LITMUS_FENCE_SYS, true, own)
        || !end_came_last(LITMUS_FENCE_SYS, true, managed)
        || !end_came_last(LITMUS_FENCE_SYS, true, other) || end_came_last(LITMUS_RELAXED, true, own)
        || end_came_last(LITMUS_FENCE_SYS, false, own)
        || end_came_last(LITMUS_FENCE_GPU, true, managed)
        || end_came_last(LITMUS_FENCE_GPU, true, other)) {
        _exit(1);
    }
}

static void weak_memory_tells_the_host_too_early_without_a_fence(void **state)
{
    (void) state;
    assert_int_equal(0, in_a_process(end_kernels));
}

static void touch_nothing(void)
{
    litmus_args_t args = {.rounds = 1, .host_word = NULL};

    weak_begin();
    args.words = (uint32_t *) weak_memory(0, 4096) + (1 << 20); /* nothing is there */
    weak_start("litmus_end", weak_streams[0], args, 17);
    if (CUDA_ERROR_ILLEGAL_ADDRESS != cuStreamSynchronize(weak_streams[0])) {
        _exit(1);
    }
}

static void a_bad_address_is_an_error_with_weak_memory_too(void **state)
{
    (void) state;
    assert_int_equal(0, in_a_process(touch_nothing));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First those that fork before this process has threads. */
        cmocka_unit_test(the_host_cannot_touch_device_memory),
        cmocka_unit_test(calls_need_init_and_a_context),
        cmocka_unit_test(calls_fail_on_command),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(weak_memory_orders_what_is_released_and_acquired_and_nothing_else),
        cmocka_unit_test(weak_memory_tells_the_host_too_early_without_a_fence),
        cmocka_unit_test(a_bad_address_is_an_error_with_weak_memory_too),
        cmocka_unit_test(memory_is_shared_by_ipc),
        cmocka_unit_test(streams_run_in_order_and_side_by_side),
        cmocka_unit_test(the_legacy_stream_waits_for_blocking_streams_only),
        cmocka_unit_test(a_capture_keeps_the_legacy_stream_shut_where_its_stream_is_blocking),
        cmocka_unit_test(a_bad_address_is_an_error_of_the_context),
        cmocka_unit_test(a_misaligned_address_is_one_too),
        cmocka_unit_test(kinds_of_memory_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
