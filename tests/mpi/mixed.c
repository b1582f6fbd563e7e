/*
 * The ranks of one call differ in where their buffers are, at random, and change from call to call:
 * the result is right, kernels serve every call with a device buffer on any rank, and calls with
 * none stay on the host.
 *
 *   --cases N, --seed N, --max-bytes N
 */
#include <stdlib.h>
#include <string.h>

#include "data.h"
#include "form.h"
#include "testing.h"

static gpu_kind_t kinds[GPU_KINDS];
static int number_of_kinds;
static gpu_buffer_t in[GPU_KINDS], out[GPU_KINDS];
static char *operand, *result, *expected, *scratch;

static void allocate(size_t bytes)
{
    for (int kind = 0; kind < GPU_KINDS; ++kind) {
        if (gpu_kind_possible((gpu_kind_t) kind)) {
            in[number_of_kinds] = gpu_allocate((gpu_kind_t) kind, bytes);
            out[number_of_kinds] = gpu_allocate((gpu_kind_t) kind, bytes);
            kinds[number_of_kinds++] = (gpu_kind_t) kind;
        }
    }
    operand = malloc(bytes);
    result = malloc(bytes);
    expected = malloc(bytes);
    scratch = malloc(bytes);
}

static void release(void)
{
    for (int k = 0; k < number_of_kinds; ++k) {
        gpu_free(&in[k]);
        gpu_free(&out[k]);
    }
    free(operand);
    free(result);
    free(expected);
    free(scratch);
}

/*
 * What a rank brings to call n, which all ranks can work out: indices of the kinds. Every fifth
 * call is all host.
 */
static void choose(uint64_t seed, long n, int rank, int *from, int *to)
{
    const uint64_t random = test_random(seed + (uint64_t) rank * 31, (uint64_t) n);

    *from = (int) (random % (unsigned) number_of_kinds);
    *to = (int) ((random >> 16) % (unsigned) number_of_kinds);
    if (0 == n % 5) {
        /* The three host kinds are the last. */
        *from = number_of_kinds - 1 - *from % 3;
        *to = number_of_kinds - 1 - *to % 3;
    }
}

static void try_case(uint64_t seed, long n, size_t max_bytes)
{
    const uint64_t random = test_random(~seed, (uint64_t) n);
    const data_op_t op = (data_op_t) (random >> 8 & 3);
    bool any_device = false;
    int from, to;

    for (int r = 0; r < test.size; ++r) {
        choose(seed, n, r, &from, &to);
        any_device = any_device || !gpu_kind_is_host(kinds[from]) || !gpu_kind_is_host(kinds[to]);
    }
    choose(seed, n, test.rank, &from, &to);
    /* On the host floats are folded in another order: integers do not care. */
    const data_type_t *type = &data_types[random % (any_device ? 6 : 4)];
    const uint64_t count = 1 + (random >> 16) % (max_bytes / type->bytes >> (random >> 56) % 12);
    data_fill(operand, type, random, test.rank, 0, count);
    gpu_write(in[from].address, operand, count * type->bytes);
    memset(result, 0, count * type->bytes);
    gpu_write(out[to].address, result, count * type->bytes);
    const car_counters_t before = test_counters();
    MPI_Allreduce(in[from].address, out[to].address, (int) count, type->type, data_mpi_op(op),
                  MPI_COMM_WORLD);
    const car_counters_t since = test_since(&before);
    gpu_read(result, out[to].address, count * type->bytes);
    data_expect(expected, scratch, type, op, random, test.size, 0, count);
    CHECK(data_differ(result, expected, type, count) == count,
          "call %ld: %s %s of %llu from %s to %s", n, type->name, data_op_name(op),
          (unsigned long long) count, gpu_kind_name(kinds[from]), gpu_kind_name(kinds[to]));
    CHECK((any_device ? form_calls(false) : 0) == test_served(&since)
              && (any_device ? 0 : 1) == test_left(&since),
          "call %ld: served %llu times, left as a host call %llu times", n, test_served(&since),
          test_left(&since));
}

int main(int argc, char **argv)
{
    test_options(argc, argv, "cases seed max-bytes");
    test_begin(&argc, &argv, "mixed");
    test_use_gpu();
    const size_t max_bytes = (size_t) test_number("max-bytes", 256 * 1024);
    const long cases = test_number("cases", 60);
    form_starts = 3;
    allocate(max_bytes);
    for (long n = 0; n < cases; ++n) {
        try_case((uint64_t) test_number("seed", 1), n, max_bytes);
    }
    release();
    return test_end("%ld calls", cases);
}
