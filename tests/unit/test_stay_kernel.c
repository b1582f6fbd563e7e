/*
 * The kernel that stays, by itself: of one rank, which has no peers to wait for, on a simulated
 * GPU. The bell of the next call has been rung before the kernel begins, so nothing depends on
 * time. With a grid of more blocks than one the calls have as many, and all of the kernel's share
 * them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "car_cuda_api.h"
#include "car_kernel_args.h"

CUresult cuInit(unsigned int);
CUresult cuDevicePrimaryCtxRetain(CUcontext *, CUdevice);
CUresult cuCtxSetCurrent(CUcontext);
CUresult cuCtxSynchronize(void);
CUresult cuMemHostAlloc(void **, size_t, unsigned int);
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *, void *, unsigned int);
CUresult cuMemAlloc_v2(CUdeviceptr *, size_t);
CUresult cuMemcpyHtoD_v2(CUdeviceptr, const void *, size_t);
CUresult cuMemcpyDtoH_v2(void *, CUdeviceptr, size_t);
CUresult cuMemsetD32_v2(CUdeviceptr, unsigned int, size_t);
CUresult cuModuleLoadData(CUmodule *, const void *);
CUresult cuModuleGetFunction(CUfunction *, CUmodule, const char *);
CUresult cuLaunchKernel(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int,
                        unsigned int, unsigned int, unsigned int, CUstream, void **, void **);

#define OK(call) assert_int_equal(CUDA_SUCCESS, call)

#define NUMBER 7 /* of the stay */
#define PIECE_BYTES (1 << 20)
#define OWN_OFFSET ((sizeof(car_flags_t) + 127) / 128 * 128)

#define ELEMENTS 24

static float first[ELEMENTS], second[ELEMENTS]; /* operands of two calls */

/* What the host and the kernel share. */
typedef struct {
    _Alignas(128) uint32_t bell[CAR_BELL_PACKETS][4];
    _Alignas(128) uint64_t done[CAR_DONE_WORDS];
    uint64_t gone;
} words_t;

static struct {
    CUfunction kernel;
    CUdeviceptr input, output, piece, words_on_device;
    words_t *words;
} gpu;

static int begin(void **state)
{
    CUcontext context;
    CUmodule module;
    void *words;

    (void) state;
    for (int i = 0; i < ELEMENTS; ++i) {
        first[i] = 1 + (float) i;
        second[i] = 100 + (float) i;
    }
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuModuleLoadData(&module, "any image"));
    OK(cuModuleGetFunction(&gpu.kernel, module, "car_one_shot_push_stay_f32_SUM"));
    OK(cuMemAlloc_v2(&gpu.input, sizeof(first) + sizeof(second)));
    OK(cuMemcpyHtoD_v2(gpu.input, first, sizeof(first)));
    OK(cuMemcpyHtoD_v2(gpu.input + sizeof(first), second, sizeof(second)));
    OK(cuMemAlloc_v2(&gpu.output, sizeof(first) + sizeof(second)));
    OK(cuMemAlloc_v2(&gpu.piece, PIECE_BYTES));
    OK(cuMemHostAlloc(&words, sizeof(words_t), CU_MEMHOSTALLOC_DEVICEMAP));
    OK(cuMemHostGetDevicePointer_v2(&gpu.words_on_device, words, 0));
    gpu.words = words;
    return 0;
}

static void ring(int packet, uint32_t ticket, uint32_t low, uint32_t high)
{
    const uint32_t words[4] = {low, ticket, high, ticket};
    memcpy(gpu.words->bell[packet], words, sizeof(words));
}

/*
 * A stay of so many blocks whose first call has ticket 1, and is one for so many, with that of
 * ticket 2 rung; more_flags of its bell.
 */
static void stay(uint32_t grid, uint32_t sharers, uint32_t stay_ns, uint32_t total_ns,
                 uint32_t more_flags)
{
    const uint32_t shared = 1 == grid ? 0 : CAR_BELL_SHARED;
    const CUdeviceptr input = gpu.input + sizeof(first), output = gpu.output + sizeof(first);
    car_stay_args_t args = {
        .call = {.what = {.count = ELEMENTS},
                 .input = (const void *) (uintptr_t) gpu.input,
                 .output = (void *) (uintptr_t) gpu.output,
                 .tile = ELEMENTS / sharers,
                 .piece = {(char *) (uintptr_t) gpu.piece},
                 .own = (car_own_words_t *) (uintptr_t) (gpu.piece + OWN_OFFSET),
                 .done = (uint64_t *) (uintptr_t) (gpu.words_on_device + offsetof(words_t, done)),
                 .push_offset = CAR_FLAGS_BYTES,
                 .push_slot = 4096,
                 .epoch = 1,
                 .first = 1,
                 .end = 2,
                 .size = 1,
                 .ticket = 1,
                 .spin_ns = 1000000},
        .bell = (const void *) (uintptr_t) gpu.words_on_device,
        .gone = (uint64_t *) (uintptr_t) (gpu.words_on_device + offsetof(words_t, gone)),
        .number = NUMBER,
        .stay_ns = stay_ns,
        .total_ns = total_ns,
        .blocks = sharers,
        .shared = sharers};
    void *parameters[] = {&args};

    memset(gpu.words, 0, sizeof(*gpu.words));
    OK(cuMemsetD32_v2(gpu.piece, 0, PIECE_BYTES / 4));
    OK(cuMemsetD32_v2(gpu.output, 0, (sizeof(first) + sizeof(second)) / 4));
    ring(CAR_BELL_INPUT, 2, (uint32_t) input, (uint32_t) (input >> 32));
    ring(CAR_BELL_OUTPUT, 2, (uint32_t) output, (uint32_t) (output >> 32));
    ring(CAR_BELL_ELEMENTS, 2, ELEMENTS, ELEMENTS / grid);
    ring(CAR_BELL_EPOCH, 2, 2, more_flags | shared | grid << CAR_BELL_BLOCKS_SHIFT);
    OK(cuLaunchKernel(gpu.kernel, grid, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL));
    OK(cuCtxSynchronize());
    assert_int_equal(NUMBER, gpu.words->gone);
}

/* So ended the last call that was done; of the second, the result or nothing. */
static void ended_with(uint32_t grid, uint32_t ticket, bool second_done)
{
    static const float nothing[ELEMENTS];
    float result[2 * ELEMENTS];

    for (uint32_t block = 0; block < CAR_DONE_WORDS; ++block) {
        assert_int_equal(block < grid ? (uint64_t) ticket << 32 : 0, gpu.words->done[block]);
    }
    OK(cuMemcpyDtoH_v2(result, gpu.output, sizeof(result)));
    assert_memory_equal(first, result, sizeof(first));
    assert_memory_equal(second_done ? second : nothing, result + ELEMENTS, sizeof(second));
}

/* What the next stay takes for granted. */
static void left_as_it_was(void)
{
    static const car_own_words_t cleared;
    car_own_words_t own;

    OK(cuMemcpyDtoH_v2(&own, gpu.piece + OWN_OFFSET, sizeof(own)));
    assert_int_equal(0, own.blocks_gone);
    assert_memory_equal(cleared.hand, own.hand, sizeof(own.hand));
}

static const uint32_t grids[] = {1, 2};

#define EACH_GRID(grid)                                                                            \
    for (const uint32_t *grid = grids; grid != grids + sizeof(grids) / sizeof(grids[0]); ++grid)

static void a_call_is_taken_while_there_is_time(void **state)
{
    (void) state;
    EACH_GRID (grid) {
        stay(*grid, *grid, 1000000, 2000000000, 0);
        ended_with(*grid, 2, true);
        left_as_it_was();
    }
}

static void no_call_is_taken_when_its_time_is_over(void **state)
{
    (void) state;
    EACH_GRID (grid) {
        stay(*grid, *grid, 2000000000, 0, 0);
        ended_with(*grid, 1, false);
        left_as_it_was();
    }
}

static void sent_away_it_goes(void **state)
{
    (void) state;
    EACH_GRID (grid) {
        stay(*grid, *grid, 2000000000, 2000000000, CAR_BELL_GO);
        ended_with(*grid, 1, false);
        left_as_it_was();
    }
}

/*
 * More blocks than the GPU holds: those that find no place have not read what was handed on when
 * the first block goes.
 */
static void blocks_that_come_late_do_their_share(void **state)
{
    const uint32_t grid = 12;

    (void) state;
    stay(grid, 1, 1000000, 2000000000, 0);
    ended_with(grid, 2, true);
    left_as_it_was();
    stay(grid, 1, 2000000000, 2000000000, CAR_BELL_GO);
    ended_with(1, 1, false);
    left_as_it_was();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_taken_while_there_is_time),
        cmocka_unit_test(no_call_is_taken_when_its_time_is_over),
        cmocka_unit_test(sent_away_it_goes),
        cmocka_unit_test(blocks_that_come_late_do_their_share),
    };
    return cmocka_run_group_tests_name("a kernel that stays", tests, begin, NULL);
}
