/*
 * Large allreduces work on the users' own buffers if all ranks can, and through staging if one
 * cannot; the result is right in any case, and no mapping of memory that was freed is ever used
 * again, nor kept.
 *
 *   --case NAME    repeat      the same buffers again and again: mapped once, every call zero copy
 *                  reuse       memory is freed and allocated again, mostly at the same address,
 *                              with other contents
 *                  parts       of one allocation, as caching allocators hand them out; alignments
 *                              differ between ranks
 *                  many        more allocations than coll_car_map_max
 *                  unable      one rank's buffer is of a kind that peers cannot map, each kind and
 *                              each rank in turn
 *                  refused     the driver of one rank maps nobody's buffers (SIMGPU_FAIL): tried a
 *                              few times, no error
 *                  released    what its owner has freed is not held by peers after the next large
 *                              call
 *                  (all but refused)
 *   --expect WHO   of repeat and many: zero_copy or staged (zero_copy)
 *   --bytes N      of a call (coll_car_zero_copy_min, and some)
 *   --times N      that memory is allocated anew in reuse (300)
 */
#include <stdlib.h>
#include <string.h>

#include "form.h"
#include "testing.h"

static struct {
    MPI_Comm comm;
    uint32_t count; /* elements */
    uint32_t seed;
    uint32_t *values;
    long long mapped; /* IPC mappings when no buffer was; -1 on real GPUs */
    bool zero_copy;
} run;

/* --- one call --------------------------------------------------------------------------------- */

static uint32_t value(uint32_t i)
{
    return run.seed * 2654435761u + i * 40503u;
}

static void fill(void *in, void *out)
{
    ++run.seed;
    if (in != out) {
        memset(run.values, 0x77, run.count * sizeof(uint32_t));
        gpu_write(out, run.values, run.count * sizeof(uint32_t));
    }
    for (uint32_t i = 0; i < run.count; ++i) {
        run.values[i] = value(i) * (uint32_t) (test.rank + 1);
    }
    gpu_write(in, run.values, run.count * sizeof(uint32_t));
}

static void check(const void *out, const char *what)
{
    const uint32_t n = (uint32_t) test.size, ranks = n * (n + 1) / 2;

    gpu_read(run.values, out, run.count * sizeof(uint32_t));
    for (uint32_t i = 0; i < run.count; ++i) {
        if (!CHECK(value(i) * ranks == run.values[i], "%s, call %u: element %u is %u, not %u", what,
                   run.seed, i, run.values[i], value(i) * ranks)) {
            return;
        }
    }
}

/*
 * `in` is `out` for in place. Right, and zero copy or not as is expected; what else a call counts
 * is returned.
 */
static car_counters_t reduce(void *in, void *out, bool zero_copy, const char *what)
{
    fill(in, out);
    const car_counters_t before = test_counters();
    const int rc = MPI_Allreduce(in == out ? MPI_IN_PLACE : in, out, (int) run.count, MPI_UINT32_T,
                                 MPI_SUM, run.comm);
    const car_counters_t since = test_since(&before);
    CHECK(MPI_SUCCESS == rc, "%s: error %d", what, rc);
    check(out, what);
    CHECK((zero_copy ? 1 : 0) == since.calls_zero_copy && 1 == test_served(&since),
          "%s, call %u: kernels served it %llu times, zero copy %llu times", what, run.seed,
          test_served(&since), since.calls_zero_copy);
    return since;
}

static size_t bytes_of_call(void)
{
    return run.count * sizeof(uint32_t);
}

/* Those of users' buffers. */
static long long mappings(void)
{
    return gpu_simulated_mappings() - run.mapped;
}

static void check_mappings(long long wanted, const char *what)
{
    CHECK(gpu_simulated_mappings() < 0 || FORM_PERSISTENT == form() || wanted == mappings(),
          "%s: %lld buffers are mapped, not %lld", what, mappings(), wanted);
}

/* --- cases ------------------------------------------------------------------------------------ */

static void repeat(void)
{
    gpu_buffer_t in = gpu_allocate(GPU_DEVICE, bytes_of_call()),
                 out = gpu_allocate(GPU_DEVICE, bytes_of_call());

    for (int i = 0; i < 20; ++i) {
        reduce(in.address, out.address, run.zero_copy, "the same buffers");
        check_mappings(run.zero_copy ? 2 * (test.size - 1) : 0, "the same buffers");
        reduce(in.address, in.address, run.zero_copy, "in place");
    }
    gpu_free(&in);
    gpu_free(&out);
}

/* The ranks differ in when they do so; at times something else is allocated between. */
static void reuse(void)
{
    const long times = test_number("times", 300);
    gpu_buffer_t in = gpu_allocate(GPU_DEVICE, bytes_of_call()),
                 out = gpu_allocate(GPU_DEVICE, bytes_of_call());
    long again = 0;

    for (long i = 0; i < times; ++i) {
        const uint64_t random = test_random((uint64_t) i, (uint64_t) test.rank);
        gpu_buffer_t *const which = 0 == (random & 1) ? &in : &out;
        if (0 != (random & 6)) {
            const void *const address = which->address;
            gpu_buffer_t other = {.bytes = 0};
            gpu_free(which);
            if (0 == (random & 0x70)) {
                other = gpu_allocate(GPU_DEVICE, bytes_of_call() / 2);
            }
            *which = gpu_allocate(GPU_DEVICE,
                                  bytes_of_call() + (0 == (random & 0x700) ? bytes_of_call() : 0));
            again += address == which->address;
            if (0 != other.bytes) {
                gpu_free(&other);
            }
        }
        reduce(in.address, 0 == i % 5 ? in.address : out.address, true, "allocated anew");
        CHECK(gpu_simulated_mappings() < 0 || mappings() <= 6 * (test.size - 1),
              "after %ld turns %lld buffers are mapped", i, mappings());
    }
    CHECK(again > times / 10, "only %ld times of %ld memory had the address that was freed before",
          again, times);
    gpu_free(&in);
    gpu_free(&out);
}

static void parts(void)
{
    const size_t room = 8 * bytes_of_call();
    gpu_buffer_t memory = gpu_allocate(GPU_DEVICE, room);

    for (int i = 0; i < 40; ++i) {
        const uint64_t random = test_random((uint64_t) i + 999, (uint64_t) test.rank);
        const size_t half = room / 2 - bytes_of_call() - 64;
        char *const in = (char *) memory.address + random % half / 4 * 4;
        char *const out = (char *) memory.address + room / 2 + (random >> 32) % half / 4 * 4;
        reduce(in, 0 == i % 3 ? in : out, true, "parts of an allocation");
        check_mappings(test.size - 1, "parts of an allocation");
    }
    gpu_free(&memory);
}

static void many(void)
{
    enum { BUFFERS = 12 };
    const long most = atol(test_mca("map_max", "256"));
    gpu_buffer_t buffer[BUFFERS];

    for (int i = 0; i < BUFFERS; ++i) {
        buffer[i] = gpu_allocate(GPU_DEVICE, bytes_of_call());
    }
    for (int i = 0; i < 5 * BUFFERS; ++i) {
        void *const at = buffer[test_random((uint64_t) i, 5) % BUFFERS].address;
        reduce(at, at, run.zero_copy, "many allocations");
        CHECK(gpu_simulated_mappings() < 0 || mappings() <= most,
              "%lld buffers are mapped, and coll_car_map_max is %ld", mappings(), most);
    }
    for (int i = 0; i < BUFFERS; ++i) {
        gpu_free(&buffer[i]);
    }
}

static void unable(void)
{
    gpu_buffer_t plain[2] = {gpu_allocate(GPU_DEVICE, bytes_of_call()),
                             gpu_allocate(GPU_DEVICE, bytes_of_call())};

    for (int kind = GPU_DEVICE + 1; kind < GPU_KINDS; ++kind) {
        if (!gpu_kind_possible((gpu_kind_t) kind)) {
            continue;
        }
        gpu_buffer_t in = gpu_allocate((gpu_kind_t) kind, bytes_of_call()),
                     out = gpu_allocate((gpu_kind_t) kind, bytes_of_call());
        for (int r = 0; r < test.size; ++r) {
            const bool here = r == test.rank;
            reduce(here ? in.address : plain[0].address, plain[1].address, false,
                   gpu_kind_name((gpu_kind_t) kind));
            reduce(plain[0].address, here ? out.address : plain[1].address, false,
                   gpu_kind_name((gpu_kind_t) kind));
            reduce(here ? in.address : plain[0].address, here ? in.address : plain[0].address,
                   false, gpu_kind_name((gpu_kind_t) kind));
            reduce(plain[0].address, plain[1].address, true, "and all are able again");
        }
        gpu_free(&in);
        gpu_free(&out);
    }
    gpu_free(&plain[0]);
    gpu_free(&plain[1]);
}

static void refused(void)
{
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, bytes_of_call());
    const long long before = gpu_simulated_calls("cuIpcOpenMemHandle");

    for (int i = 0; i < 200; ++i) {
        reduce(buffer.address, buffer.address, false, "a rank that can map nothing");
    }
    const long long tried = gpu_simulated_calls("cuIpcOpenMemHandle") - before;
    CHECK(tried <= test.size - 1, "mapping was tried %lld times", tried);
    gpu_free(&buffer);
}

static long long used(void)
{
    size_t unused, total;

    GPU_OK(gpu.MemGetInfo(&unused, &total));
    return (long long) (total - unused);
}

static void released(void)
{
    enum { BUFFERS = 4 };
    gpu_buffer_t kept = gpu_allocate(GPU_DEVICE, bytes_of_call()), buffer[BUFFERS];

    for (int i = 0; i < 20; ++i) { /* a call tells of a few that earlier cases have freed */
        reduce(kept.address, kept.address, true, "the buffer that stays");
    }
    const long long mapped = mappings();
    MPI_Barrier(MPI_COMM_WORLD);
    const long long before = used();
    for (int i = 0; i < BUFFERS; ++i) {
        buffer[i] = gpu_allocate(GPU_DEVICE, bytes_of_call());
        reduce(buffer[i].address, buffer[i].address, true, "buffers that go");
    }
    for (int i = 0; i < BUFFERS; ++i) {
        gpu_free(&buffer[i]);
    }
    reduce(kept.address, kept.address, true, "after they have gone");
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(gpu_simulated_mappings() < 0 || mapped == mappings(), "%lld mappings, %lld before",
          mappings(), mapped);
    /* Others may use a real GPU at the same time. */
    CHECK(used() - before < (long long) bytes_of_call() || gpu_simulated(),
          "%lld more bytes of device memory in use", used() - before);
    gpu_free(&kept);
}

static const struct {
    const char *name;
    void (*run)(void);
    bool everywhere; /* needs nothing special */
} cases[] = {
    {"repeat", repeat, true},     {"reuse", reuse, true},   {"parts", parts, true},
    {"many", many, true},         {"unable", unable, true}, {"refused", refused, false},
    {"released", released, true},
};

int main(int argc, char **argv)
{
    uint32_t word = 1;

    test_options(argc, argv, "case expect bytes times");
    test_begin(&argc, &argv, "zero_copy");
    test_use_gpu();
    const char *only = test_option("case", NULL);
    const long least = atol(test_mca("zero_copy_min", "4194304"));
    run.count = (uint32_t) (test_number("bytes", least + 5000) / (long) sizeof(uint32_t));
    run.values = malloc(bytes_of_call());
    run.zero_copy = 0 == strcmp("zero_copy", test_option("expect", "zero_copy"));
    MPI_Comm_dup(MPI_COMM_WORLD, &run.comm);
    /* What is small is not zero copy; it sets up what there is to set up. */
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, sizeof(word));
    gpu_write(buffer.address, &word, sizeof(word));
    MPI_Allreduce(MPI_IN_PLACE, buffer.address, 1, MPI_UINT32_T, MPI_SUM, run.comm);
    gpu_free(&buffer);
    run.mapped = gpu_simulated_mappings();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        if (NULL == only ? cases[i].everywhere : 0 == strcmp(only, cases[i].name)) {
            cases[i].run();
        }
    }
    CHECK(run.seed > 0, "no such case");
    free(run.values);
    MPI_Comm_free(&run.comm);
    return test_end("%u calls of %zu bytes", run.seed, bytes_of_call());
}
