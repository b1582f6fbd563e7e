/*
 * MPI_Allreduce gives what a fold on the host in rank order gives, bit for bit: for every type and operation, counts
 * around every threshold and border between rounds, in place or not, at any element-aligned address, in every kind of
 * memory. It writes nothing beside the output and leaves the input as it was. The component's counters say who did it.
 * What kernels are not to serve gives, bit for bit, what the same call on host memory gives without coll/car.
 *
 *   --kinds LIST     of memory (gpu.h), separated by commas; each is used if the machine has it
 *   --types LIST     of data.c
 *   --max-bytes N    no message is larger
 *   --cases N        random cases after the systematic ones
 *   --borders yes|no whether counts around borders are tried (yes); they depend on the grid
 *   --seed N         of cases and values
 *   --expect WHO     car: the kernels, where a buffer is on a GPU; declined: coll/car is there and leaves every call;
 *                    absent: there is no coll/car
 *
 * Prints a digest of what the kernels gave, which is the same for all algorithms, grids and ways to launch, given the
 * same options.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "borders.h"
#include "data.h"
#include "testing.h"

#define GUARD 128 /* bytes on each side of a buffer that nobody may touch */
#define GUARD_BYTE 0xa5
#define OFFSETS 4 /* a buffer starts up to so many elements after a 16-byte boundary */
#define MAX_KINDS GPU_KINDS

typedef struct {
    gpu_buffer_t memory;
    char *image; /* on the host: what the memory is to hold, or was read from it */
} buffer_t;

typedef struct {
    const data_type_t *type;
    data_op_t op;
    uint64_t count;
    uint64_t seed;
    bool in_place;
    int in_kind, out_kind;     /* indices of the kinds in use */
    size_t in_shift, out_shift; /* elements */
} case_t;

static struct {
    size_t max_bytes, memory_bytes;
    const char *expect;
    int kinds;
    gpu_kind_t kind[MAX_KINDS];
    buffer_t in[MAX_KINDS], out[MAX_KINDS];
    char *expected, *scratch;
    MPI_Comm plain; /* without coll/car */
    uint64_t digest;
    long done;
    unsigned long long by_algorithm[CAR_ALGORITHMS];
} run;

static const char *describe(const case_t *c)
{
    static char text[200];

    snprintf(text, sizeof(text), "%s %s of %llu, from %s+%zu%s to %s+%zu, seed %llx", c->type->name,
             data_op_name(c->op), (unsigned long long) c->count, gpu_kind_name(run.kind[c->in_kind]), c->in_shift,
             c->in_place ? " (in place)" : "", gpu_kind_name(run.kind[c->out_kind]), c->out_shift,
             (unsigned long long) c->seed);
    return text;
}

/* --- one call ------------------------------------------------------------------------------------------------------ */

static size_t used(const case_t *c, size_t shift)
{
    return 2 * GUARD + (c->count + shift) * c->type->bytes;
}

/* Guards around, and between them the rank's operand, or in an output what must not survive. */
static void prepare(buffer_t *buffer, const case_t *c, size_t shift, bool operand)
{
    memset(buffer->image, GUARD_BYTE, used(c, shift));
    if (operand) {
        data_fill(buffer->image + GUARD + shift * c->type->bytes, c->type, c->seed, test.rank, 0, c->count);
    }
    gpu_write(buffer->memory.address, buffer->image, used(c, shift));
}

static bool guarded(const char *image, const case_t *c, size_t shift)
{
    const size_t start = GUARD + shift * c->type->bytes, end = start + c->count * c->type->bytes;

    for (size_t i = 0; i < used(c, shift); ++i) {
        if ((i < start || i >= end) && GUARD_BYTE != (unsigned char) image[i]) {
            return false;
        }
    }
    return true;
}

/* Whether kernels are to serve it. */
static bool for_kernels(const case_t *c)
{
    return 0 == strcmp(run.expect, "car") && c->count > 0
           && !(gpu_kind_is_host(run.kind[c->in_kind]) && gpu_kind_is_host(run.kind[c->out_kind]));
}

static void expect(const case_t *c)
{
    if (for_kernels(c)) {
        data_expect(run.expected, run.scratch, c->type, c->op, c->seed, test.size, 0, c->count);
        return;
    }
    char *const operand = c->in_place ? run.expected : run.scratch;
    data_fill(operand, c->type, c->seed, test.rank, 0, c->count);
    MPI_Allreduce(c->in_place ? MPI_IN_PLACE : operand, run.expected, (int) c->count, c->type->type,
                  data_mpi_op(c->op), run.plain);
}

static void check_output(buffer_t *buffer, const case_t *c)
{
    const char *result = buffer->image + GUARD + c->out_shift * c->type->bytes;
    char got[40], wanted[40];

    gpu_read(buffer->image, buffer->memory.address, used(c, c->out_shift));
    expect(c);
    const uint64_t at = data_differ(result, run.expected, c->type, c->count);
    if (at < c->count) {
        CHECK(at == c->count, "%s: element %llu is %s, not %s", describe(c), (unsigned long long) at,
              data_text(result, c->type, at, got), data_text(run.expected, c->type, at, wanted));
    }
    CHECK(guarded(buffer->image, c, c->out_shift), "%s: memory beside the output was written", describe(c));
    if (for_kernels(c)) {
        run.digest = data_digest(run.digest, result, c->type, c->count);
    }
}

static void check_input(buffer_t *buffer, const case_t *c)
{
    char *read = run.expected; /* free by now, and large enough */

    gpu_read(read, buffer->memory.address, used(c, c->in_shift));
    CHECK(0 == memcmp(read, buffer->image, used(c, c->in_shift)), "%s: the input was changed", describe(c));
}

/* The algorithm that the parameters ask for at this size; CAR_ALGORITHM_AUTO: that is the table's affair. */
static int algorithm_wanted(size_t bytes)
{
    static const char *const names[] = {"one_shot_push", "one_shot_pull", "two_shot"};
    const char *forced = test_mca("algorithm", "auto");
    const long push_max = atol(test_mca("push_max", "-1")), pull_max = atol(test_mca("pull_max", "-1"));

    for (int a = 0; a < CAR_ALGORITHMS; ++a) {
        if (0 == strcmp(forced, names[a])) {
            return a;
        }
    }
    if (push_max < 0 || pull_max < 0) {
        return CAR_ALGORITHM_AUTO;
    }
    return bytes <= (size_t) push_max ? CAR_ONE_SHOT_PUSH : bytes <= (size_t) pull_max ? CAR_ONE_SHOT_PULL : CAR_TWO_SHOT;
}

static void check_who(const case_t *c, const car_counters_t *d)
{
    const gpu_kind_t in = run.kind[c->in_kind], out = run.kind[c->out_kind];
    const bool staged = GPU_OTHER == in || GPU_OTHER == out || gpu_kind_is_host(in) || gpu_kind_is_host(out);
    const unsigned long long by[CAR_ALGORITHMS] = {d->calls_one_shot_push, d->calls_one_shot_pull, d->calls_two_shot};
    const unsigned long long calls = 0 == c->count ? 0 : 1; /* Open MPI returns from empty ones by itself */

    if (0 == strcmp(run.expect, "absent")) {
        CHECK(0 == test_served(d) + test_left(d), "%s: coll/car had the call", describe(c));
        return;
    }
    if (!for_kernels(c)) {
        CHECK(0 == test_served(d) && calls == test_left(d), "%s: %llu calls served by kernels, %llu left to others",
              describe(c), test_served(d), test_left(d));
        return;
    }
    CHECK(1 == test_served(d) && 0 == test_left(d), "%s: %llu calls served by kernels, %llu left to others",
          describe(c), test_served(d), test_left(d));
    CHECK(staged == (0 != d->calls_staged), "%s: staged %llu times", describe(c), d->calls_staged);
    const int algorithm = algorithm_wanted(c->count * c->type->bytes);
    CHECK(CAR_ALGORITHM_AUTO == algorithm || 1 == by[algorithm], "%s: algorithm %d did not serve it", describe(c),
          algorithm);
    for (int a = 0; a < CAR_ALGORITHMS; ++a) {
        run.by_algorithm[a] += by[a];
    }
}

static void try_case(const case_t *c)
{
    buffer_t *out = &run.out[c->out_kind], *in = c->in_place ? out : &run.in[c->in_kind];
    char *const send = (char *) in->memory.address + GUARD + c->in_shift * c->type->bytes;
    char *const receive = (char *) out->memory.address + GUARD + c->out_shift * c->type->bytes;

    prepare(in, c, c->in_shift, true);
    if (!c->in_place) {
        prepare(out, c, c->out_shift, false);
    }
    const car_counters_t before = test_counters();
    const int rc = MPI_Allreduce(c->in_place ? MPI_IN_PLACE : send, receive, (int) c->count, c->type->type,
                                 data_mpi_op(c->op), MPI_COMM_WORLD);
    const car_counters_t since = test_since(&before);
    CHECK(MPI_SUCCESS == rc, "%s: error %d", describe(c), rc);
    check_output(out, c);
    if (!c->in_place) {
        check_input(in, c);
    }
    check_who(c, &since);
    ++run.done;
}

/* --- which calls ----------------------------------------------------------------------------------------------------- */

/* All but type, operation and count, from one random number. */
static void vary(case_t *c, uint64_t random)
{
    c->seed = random;
    c->in_place = 0 == (random >> 8) % 4;
    c->out_kind = (int) ((random >> 16) % (unsigned) run.kinds);
    c->in_kind = c->in_place ? c->out_kind : (int) ((random >> 24) % (unsigned) run.kinds);
    c->out_shift = (random >> 32) % OFFSETS;
    c->in_shift = c->in_place ? c->out_shift : (random >> 40) % OFFSETS;
    if (0 != (random >> 48 & 1)) {
        c->in_shift = c->out_shift = 0;
    }
}

static void systematic_cases(const data_type_t **types, int number_of_types, uint64_t seed)
{
    static const uint64_t counts[] = {0, 1, 2, 3, 5, 33, 257, 1000, 4099};
    uint64_t n = 0;

    for (int t = 0; t < number_of_types; ++t) {
        for (int op = 0; op < DATA_OPS; ++op) {
            for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); ++k) {
                case_t c = {.type = types[t], .op = (data_op_t) op, .count = counts[k]};
                vary(&c, test_random(seed, n++));
                if (c.count * c.type->bytes <= run.max_bytes) {
                    try_case(&c);
                }
            }
        }
    }
}

static void every_border(const data_type_t **types, int number_of_types, uint64_t seed)
{
    uint64_t counts[BORDERS_MAX];

    for (int t = 0; t < number_of_types; ++t) {
        const int borders = borders_find(test.size, types[t]->bytes, run.max_bytes, counts);
        for (int k = t; k < borders; k += number_of_types) {
            case_t c = {.type = types[t], .op = (data_op_t) (k % DATA_OPS), .count = counts[k]};
            vary(&c, test_random(seed ^ 0xb0, (uint64_t) (t * BORDERS_MAX + k)));
            try_case(&c);
        }
    }
}

static void random_cases(const data_type_t **types, int number_of_types, uint64_t seed, long cases)
{
    for (long n = 0; n < cases; ++n) {
        const uint64_t random = test_random(seed ^ 0xca5e, (uint64_t) n);
        case_t c = {.type = types[random % (unsigned) number_of_types], .op = (data_op_t) (random >> 16 & 3)};
        /* Every magnitude as often as any other. */
        const uint64_t limit = run.max_bytes / c.type->bytes >> (random >> 24) % 12;
        c.count = (random >> 32) % (limit + 1);
        vary(&c, test_random(random, 1));
        try_case(&c);
    }
}

/* --- set-up -------------------------------------------------------------------------------------------------------- */

static bool in_list(const char *name, const char *list)
{
    const size_t length = strlen(name);

    for (const char *p = list; NULL != p; p = strchr(p, ','), p = NULL == p ? NULL : p + 1) {
        if (0 == strncmp(p, name, length) && (',' == p[length] || '\0' == p[length])) {
            return true;
        }
    }
    return false;
}

static void allocate(const char *list)
{
    run.memory_bytes = run.max_bytes + 2 * GUARD + OFFSETS * 8;
    for (int kind = 0; kind < GPU_KINDS; ++kind) {
        if (!in_list(gpu_kind_name((gpu_kind_t) kind), list)) {
            continue;
        }
        if (GPU_HOST != kind && !gpu_kind_possible((gpu_kind_t) kind)) {
            if (0 == test.rank) {
                printf("left out: %s memory, which this machine does not have\n", gpu_kind_name((gpu_kind_t) kind));
            }
            continue;
        }
        run.kind[run.kinds] = (gpu_kind_t) kind;
        run.in[run.kinds].memory = gpu_allocate((gpu_kind_t) kind, run.memory_bytes);
        run.out[run.kinds].memory = gpu_allocate((gpu_kind_t) kind, run.memory_bytes);
        run.in[run.kinds].image = malloc(run.memory_bytes);
        run.out[run.kinds].image = malloc(run.memory_bytes);
        ++run.kinds;
    }
    run.expected = malloc(run.memory_bytes);
    run.scratch = malloc(run.memory_bytes);
    if (0 == run.kinds) {
        test_skip("this machine has none of the kinds of memory asked for");
    }
}

/* The first call with device memory decides on which device the communicator works: the one in use. */
static void settle_device(void)
{
    const uint32_t one = 1;
    uint32_t sum = 0;

    if (gpu_in_use() < 0) {
        return;
    }
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, sizeof(one));
    gpu_write(buffer.address, &one, sizeof(one));
    if (0 != strcmp(run.expect, "absent")) {
        MPI_Allreduce(MPI_IN_PLACE, buffer.address, 1, MPI_UINT32_T, MPI_SUM, MPI_COMM_WORLD);
        gpu_read(&sum, buffer.address, sizeof(sum));
        CHECK(sum == (uint32_t) test.size, "the first sum is %u", sum);
    }
    gpu_free(&buffer);
}

static void release(void)
{
    for (int k = 0; k < run.kinds; ++k) {
        gpu_free(&run.in[k].memory);
        gpu_free(&run.out[k].memory);
        free(run.in[k].image);
        free(run.out[k].image);
    }
    free(run.expected);
    free(run.scratch);
}

int main(int argc, char **argv)
{
    const data_type_t *types[DATA_TYPES];
    int number_of_types = 0;

    test_options(argc, argv, "kinds types max-bytes cases borders seed expect");
    test_begin(&argc, &argv, "allreduce");
    const uint64_t seed = (uint64_t) test_number("seed", 1);
    const char *kinds = test_option("kinds", "device,managed,pool,vmm,other,host,registered,mapped");
    run.max_bytes = (size_t) test_number("max-bytes", 256 * 1024);
    run.expect = test_option("expect", "car");
    if (0 != strcmp(kinds, "host")) {
        test_use_gpu();
    }
    for (int t = 0; t < DATA_TYPES; ++t) {
        if (in_list(data_types[t].name, test_option("types", "int32,uint32,int64,uint64,float,double,int,unsigned,"
                                                             "long,unsigned_long,long_long"))) {
            types[number_of_types++] = &data_types[t];
        }
    }
    CHECK(number_of_types > 0, "no such type");
    allocate(kinds);
    settle_device();
    run.plain = test_without_car(MPI_COMM_WORLD);
    systematic_cases(types, number_of_types, seed);
    if (0 == strcmp("yes", test_option("borders", "yes"))) {
        every_border(types, number_of_types, seed);
    }
    random_cases(types, number_of_types, seed, test_number("cases", 100));
    release();
    MPI_Comm_free(&run.plain);
    CHECK(0 == strcmp(run.expect, "absent") || test.counted, "coll/car is not loaded");
    return test_end("%ld calls; by one_shot_push %llu, one_shot_pull %llu, two_shot %llu; digest %016llx", run.done,
                    run.by_algorithm[CAR_ONE_SHOT_PUSH], run.by_algorithm[CAR_ONE_SHOT_PULL],
                    run.by_algorithm[CAR_TWO_SHOT], (unsigned long long) run.digest);
}
