/*
 * A message much larger than the device memory that coll/car may spend (--bytes, 256 MB by
 * default): right in every element, and what coll/car allocates stays within coll_car_memory.
 *
 * On simulated GPUs that is counted by the byte. On real ones the free memory of the GPU is looked
 * at: all ranks that share it are counted together, and each may have --overhead bytes for its
 * kernels beside.
 */
#include <stdio.h>
#include <stdlib.h>

#include "data.h"
#include "testing.h"

#define CHUNK (1 << 18) /* elements checked at a time */

static const uint64_t seed = 20;

static void fill(void *buffer, const data_type_t *type, uint64_t count)
{
    char *chunk = malloc(CHUNK * type->bytes);

    for (uint64_t first = 0; first < count; first += CHUNK) {
        const uint64_t n = count - first < CHUNK ? count - first : CHUNK;
        data_fill(chunk, type, seed, test.rank, first, n);
        gpu_write((char *) buffer + first * type->bytes, chunk, n * type->bytes);
    }
    free(chunk);
}

static void check(const void *buffer, const data_type_t *type, uint64_t count)
{
    char *got = malloc(CHUNK * type->bytes), *wanted = malloc(CHUNK * type->bytes);
    char *scratch = malloc(CHUNK * type->bytes);

    for (uint64_t first = 0; first < count && 0 == test_failures(); first += CHUNK) {
        const uint64_t n = count - first < CHUNK ? count - first : CHUNK;
        gpu_read(got, (const char *) buffer + first * type->bytes, n * type->bytes);
        data_expect(wanted, scratch, type, DATA_SUM, seed, test.size, first, n);
        const uint64_t at = data_differ(got, wanted, type, n);
        CHECK(at == n, "element %llu of %llu is wrong", (unsigned long long) (first + at),
              (unsigned long long) count);
    }
    free(got);
    free(wanted);
    free(scratch);
}

/* Bytes in use on this rank's GPU; on simulated ones, of this rank alone. */
static long long bytes_in_use(void)
{
    size_t unused, total;

    if (gpu_simulated_bytes() >= 0) {
        return gpu_simulated_bytes();
    }
    GPU_OK(gpu.MemGetInfo(&unused, &total));
    return (long long) (total - unused);
}

static void check_memory(long long before)
{
    const long long allowed = atoll(test_mca("memory", "67108864"));
    const int sharing =
        gpu_simulated_bytes() >= 0 ? 1 : (test.size + gpu_count() - 1) / gpu_count();
    const long long overhead = gpu_simulated_bytes() >= 0 ? 0 : test_number("overhead", 96 << 20);

    MPI_Barrier(MPI_COMM_WORLD);
    const long long spent = bytes_in_use() - before;
    CHECK(spent > 0 && spent <= sharing * (allowed + overhead),
          "%lld bytes of device memory spent, %lld allowed", spent, sharing * (allowed + overhead));
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    const data_type_t *type = &data_types[DATA_U32];

    test_options(argc, argv, "bytes overhead");
    test_begin(&argc, &argv, "big");
    test_use_gpu();
    const uint64_t count = (uint64_t) test_number("bytes", 256 << 20) / type->bytes;
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, count * type->bytes);
    fill(buffer.address, type, count);
    /* All have their buffers before anybody looks. */
    MPI_Barrier(MPI_COMM_WORLD);
    const long long bytes_before = bytes_in_use();
    MPI_Barrier(MPI_COMM_WORLD);
    const car_counters_t before = test_counters();
    const double start = test_ms();
    MPI_Allreduce(MPI_IN_PLACE, buffer.address, (int) count, type->type, MPI_SUM, MPI_COMM_WORLD);
    const double milliseconds = test_ms() - start;
    const car_counters_t since = test_since(&before);
    CHECK(1 == test_served(&since) && 0 == since.calls_staged, "served %llu times, staged %llu",
          test_served(&since), since.calls_staged);
    check_memory(bytes_before);
    check(buffer.address, type, count);
    gpu_free(&buffer);
    return test_end("%llu MB in %.0f ms", (unsigned long long) (count * type->bytes >> 20),
                    milliseconds);
}
