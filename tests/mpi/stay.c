/*
 * Small calls that follow each other, for which a kernel may stay (coll_car_stay).
 *
 *   --case series   operands that kernels, copies of all kinds and other GPUs have just written, in
 *                   all kinds of memory, at any address, with pauses of up to --gap microseconds:
 *                   whatever was written last is what is reduced
 *   --case between  nothing else than --between none|stream|device|free happens between two calls
 *                   of 10 elements; those of the second half have --then N
 *   --case changes  other types, operations, sizes and communicators come in between, communicators
 *                   come and go
 *   --rounds N      (500)
 *   --gap US        (100)
 *   --most N        elements of the largest of the small calls (1000); one in --large N has more
 *                   than 30 (8)
 *   --seed N        (1)
 *   --stays N       at most so many kernels may have stayed; --served N: at least so many calls
 *                   were served by them
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_kernel_args.h"
#include "testing.h"

#define FEW 10
#define LARGE 100000

static uint64_t seed;
static long gap;
static uint32_t most, large;
static CUstream stream;

static uint32_t pick(uint64_t round, uint32_t what, uint32_t of)
{
    return (uint32_t) (test_random(seed * 1000003 + round, what) % of);
}

/* Mostly few: a block of a simulated GPU is small. */
static uint32_t pick_count(uint64_t round)
{
    return 1 + pick(round, 800, 0 == pick(round, 801, large) ? most : 30);
}

/* Whatever the rank, so that all wait alike, or with it, so that each waits for itself. */
static void pause_a_while(uint64_t round, bool alike)
{
    const uint64_t random = test_random(seed + round, alike ? 900 : 901 + (uint64_t) test.rank);
    const uint32_t us = 0 == gap ? 0 : (uint32_t) (random % (uint64_t) gap);

    for (const double end = test_ms() + us / 1000.0; us > 0 && test_ms() < end;) {
    }
}

static uint32_t element(uint64_t round, int rank, uint32_t i)
{
    return (uint32_t) test_random(round, 77) * (uint32_t) (rank + 1) + i;
}

static bool check(const uint32_t *data, uint64_t round, uint32_t count, int size, const char *what)
{
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t wanted = 0;
        for (int r = 0; r < size; ++r) {
            wanted += element(round, r, i);
        }
        if (!CHECK(data[i] == wanted, "%s, round %llu: element %u of %u is %u, not %u", what,
                   (unsigned long long) round, i, count, data[i], wanted)) {
            return false;
        }
    }
    return true;
}

/* --- operands from everywhere ----------------------------------------------------------------- */

static void by_copy(void *to, uint64_t round, uint32_t count)
{
    uint32_t *data = malloc(count * sizeof(uint32_t));

    for (uint32_t i = 0; i < count; ++i) {
        data[i] = element(round, test.rank, i);
    }
    gpu_write(to, data, count * sizeof(uint32_t));
    free(data);
}

static void by_kernel(void *to, uint64_t round, uint32_t count)
{
    test_kernel_args_t args = {
        .address = to, .count = count, .value = element(round, test.rank, 0)};
    void *parameters[] = {&args};

    GPU_OK(gpu.LaunchKernel(gpu_kernel("iota"), 2, 1, 1, 64, 1, 1, 0, stream, parameters, NULL));
    GPU_OK(gpu.StreamSynchronize(stream));
}

static void by_copy_from(const gpu_buffer_t *from, void *to, uint64_t round, uint32_t count)
{
    const CUdeviceptr source = (CUdeviceptr) (uintptr_t) from->address;

    by_copy(from->address, round, count);
    GPU_OK(gpu.MemcpyAsync((CUdeviceptr) (uintptr_t) to, source, count * sizeof(uint32_t), stream));
    GPU_OK(gpu.StreamSynchronize(stream));
}

/*
 * A copy within one buffer, to an address a little behind, would be one of memory that it
 * overwrites.
 */
static uint32_t another(uint32_t from, uint32_t to, uint32_t last)
{
    return from != to ? from : from + 1 < last ? from + 1 : from - 1;
}

static void series(uint64_t rounds)
{
    static const gpu_kind_t kinds[] = {GPU_DEVICE,  GPU_DEVICE, GPU_DEVICE, GPU_DEVICE, GPU_DEVICE,
                                       GPU_MANAGED, GPU_POOL,   GPU_VMM,    GPU_MAPPED, GPU_OTHER};
    enum { KINDS = sizeof(kinds) / sizeof(kinds[0]), SLACK = 4 };
    gpu_buffer_t in[KINDS], out[KINDS];
    uint32_t *data = malloc(most * sizeof(uint32_t));

    for (int k = 0; k < KINDS; ++k) {
        const gpu_kind_t kind = gpu_kind_possible(kinds[k]) ? kinds[k] : GPU_DEVICE;
        in[k] = gpu_allocate(kind, (most + SLACK) * sizeof(uint32_t));
        out[k] = gpu_allocate(kind, (most + SLACK) * sizeof(uint32_t));
    }
    for (uint64_t round = 0; round < rounds && 0 == test_failures(); ++round) {
        /* Of ten series of ten calls, nine in memory of this GPU's. */
        const uint32_t at = round / 10 % 10 < 9 ? pick(round, 0, 5) : pick(round, 1, KINDS),
                       count = pick_count(round);
        const bool in_place = 0 == pick(round, 3, 3);
        uint32_t *input = (uint32_t *) in[at].address + pick(round, 4, SLACK);
        uint32_t *output =
            in_place ? input : (uint32_t *) out[pick(round, 5, 5)].address + pick(round, 6, SLACK);
        switch (in[at].kind == GPU_DEVICE || in[at].kind == GPU_MANAGED ? pick(round, 7, 4) : 0) {
        case 0:
            by_copy(input, round, count);
            break;
        case 1:
            by_copy_from(&in[another(5 + pick(round, 8, KINDS - 5), at, KINDS)], input, round,
                         count);
            break;
        default:
            by_kernel(input, round, count);
        }
        pause_a_while(round, 0 == pick(round, 9, 2));
        MPI_Allreduce(in_place ? MPI_IN_PLACE : input, output, (int) count, MPI_UINT32_T, MPI_SUM,
                      MPI_COMM_WORLD);
        gpu_read(data, output, count * sizeof(uint32_t));
        check(data, round, count, test.size, gpu_kind_name(in[at].kind));
    }
    for (int k = 0; k < KINDS; ++k) {
        gpu_free(&in[k]);
        gpu_free(&out[k]);
    }
    free(data);
}

/* --- what happens between two calls ----------------------------------------------------------- */

static void between(uint64_t rounds, const char *what)
{
    const uint32_t then = (uint32_t) test_number("then", FEW);
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, then * sizeof(uint32_t));
    uint32_t *data = malloc(then * sizeof(uint32_t)), wanted[2] = {1, 1};

    for (uint32_t i = 0; i < then; ++i) {
        data[i] = 1;
    }
    gpu_write(buffer.address, data, then * sizeof(uint32_t));
    for (uint64_t round = 0; round < rounds; ++round) {
        const uint32_t count = round < rounds / 2 ? FEW : then;
        MPI_Allreduce(MPI_IN_PLACE, buffer.address, (int) count, MPI_UINT32_T, MPI_SUM,
                      MPI_COMM_WORLD);
        wanted[0] *= (uint32_t) test.size;
        wanted[1] *= FEW == count ? 1 : (uint32_t) test.size;
        if (0 == strcmp("device", what)) {
            GPU_OK(gpu.CtxSynchronize());
        } else if (0 == strcmp("stream", what)) {
            GPU_OK(gpu.StreamSynchronize(stream));
        } else if (0 == strcmp("free", what)) {
            CUdeviceptr other;
            GPU_OK(gpu.MemAlloc(&other, 1 << 20));
            GPU_OK(gpu.MemFree(other));
        }
        pause_a_while(round, true);
    }
    gpu_read(data, buffer.address, then * sizeof(uint32_t));
    for (uint32_t i = 0; i < then && 0 == test_failures(); ++i) {
        const uint32_t one = wanted[i < FEW ? 0 : 1];
        CHECK(data[i] == one, "element %u is %u, not %u", i, data[i], one);
    }
    free(data);
    gpu_free(&buffer);
}

/* --- everything changes ----------------------------------------------------------------------- */

static void in_bytes(MPI_Comm comm, gpu_buffer_t *buffer, uint64_t round)
{
    unsigned char data[64];
    int size;

    MPI_Comm_size(comm, &size);
    memset(data, 1 + test.rank, sizeof(data));
    gpu_write(buffer->address, data, sizeof(data));
    MPI_Allreduce(MPI_IN_PLACE, buffer->address, sizeof(data), MPI_BYTE, MPI_BXOR, comm);
    gpu_read(data, buffer->address, sizeof(data));
    unsigned char wanted = 0;
    for (int r = 0; r < size; ++r) {
        wanted ^= (unsigned char) (1 + r);
    }
    for (size_t i = 0; i < sizeof(data); ++i) {
        if (!CHECK(data[i] == wanted, "round %llu: byte %zu is %d, not %d",
                   (unsigned long long) round, i, data[i], wanted)) {
            return;
        }
    }
}

static void changes(uint64_t rounds)
{
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, LARGE * sizeof(uint32_t));
    uint32_t *data = malloc(LARGE * sizeof(uint32_t));
    MPI_Comm comms[2] = {MPI_COMM_WORLD, MPI_COMM_NULL};

    MPI_Comm_dup(MPI_COMM_WORLD, &comms[1]);
    for (uint64_t round = 0; round < rounds && 0 == test_failures(); ++round) {
        MPI_Comm comm = comms[0 == pick(round / 20, 1, 2)];
        if (0 == pick(round, 2, 40)) {
            MPI_Comm_free(&comms[1]);
            MPI_Comm_dup(MPI_COMM_WORLD, &comms[1]);
            comm = comms[1];
        }
        if (0 == pick(round, 3, 15)) {
            in_bytes(comm, &buffer, round);
            continue;
        }
        const uint32_t count =
            0 == pick(round, 4, 25) ? 1 + pick(round, 5, LARGE) : pick_count(round);
        for (uint32_t i = 0; i < count; ++i) {
            data[i] = element(round, test.rank, i);
        }
        gpu_write(buffer.address, data, count * sizeof(uint32_t));
        pause_a_while(round, true);
        MPI_Allreduce(MPI_IN_PLACE, buffer.address, (int) count, MPI_UINT32_T, MPI_SUM, comm);
        gpu_read(data, buffer.address, count * sizeof(uint32_t));
        check(data, round, count, test.size, "changes");
    }
    MPI_Comm_free(&comms[1]);
    gpu_free(&buffer);
    free(data);
}

int main(int argc, char **argv)
{
    test_options(argc, argv, "case between then rounds gap seed most large stays served");
    test_begin(&argc, &argv, "stay");
    test_use_gpu();
    GPU_OK(gpu.StreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    seed = (uint64_t) test_number("seed", 1);
    gap = test_number("gap", 100);
    most = (uint32_t) test_number("most", 1000);
    large = (uint32_t) test_number("large", 8);
    const uint64_t rounds = (uint64_t) test_number("rounds", 500);
    const char *what = test_option("case", "series");
    const car_counters_t before = test_counters();
    if (0 == strcmp("series", what)) {
        series(rounds);
    } else if (0 == strcmp("between", what)) {
        between(rounds, test_option("between", "none"));
    } else if (0 == strcmp("changes", what)) {
        changes(rounds);
    } else {
        test_skip("there is no such case");
    }
    const car_counters_t since = test_since(&before);
    const unsigned long long stays = (unsigned long long) test_number("stays", 1 << 30);
    CHECK(since.stays <= stays, "%llu kernels stayed, not %llu at most", since.stays, stays);
    const unsigned long long least = (unsigned long long) test_number("served", 0);
    CHECK(since.calls_stayed >= least,
          "kernels that had stayed served %llu calls, not %llu at least", since.calls_stayed,
          least);
    GPU_OK(gpu.StreamDestroy(stream));
    return test_end("%s: %llu calls of rank 0 by one_shot_push, %llu of them without a launch; "
                    "%llu kernels stayed, %llu calls came just too late, %llu relaunches",
                    what, since.calls_one_shot_push, since.calls_stayed, since.stays,
                    since.stays_missed, since.relaunches);
}
