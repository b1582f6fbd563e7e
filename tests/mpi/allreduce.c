/*
 * MPI_Allreduce gives what a fold on the host in rank order gives, bit for bit: for every type and
 * operation, counts around every threshold and border between rounds, in place or not, at any
 * element-aligned address, in every kind of memory. It writes nothing beside the output and leaves
 * the input as it was. The component's counters say who did it. The gaps within elements of pairs
 * stay as they were. What kernels are not to serve gives, bit for bit, what the same call on host
 * memory gives without coll/car; but where coll/car itself does a small call on host memory, what a
 * fold in rank order with MPI_Reduce_local gives.
 *
 *   --kinds LIST     of memory (gpu.h), separated by commas; each is used if the machine has it
 *   --types LIST     of data_types.c, separated by commas (all that this Open MPI has and kernels
 *                    are to serve)
 *   --ops LIST       as "sum,minloc" (all)
 *   --max-bytes N    no message is larger
 *   --cases N        random cases after the systematic ones
 *   --borders yes|no whether counts around borders are tried (yes); they depend on the grid
 *   --seed N         of cases and values
 *   --expect WHO     car: the kernels, where a buffer is on a GPU; declined: coll/car is there and
 *                    leaves every call; off: there is no NVIDIA driver, and coll/car does not even
 *                    count calls after the first; absent: there is no coll/car
 *
 * Prints a digest of what the kernels gave, which is the same for all forms, algorithms, grids and
 * ways to launch, given the same options.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "borders.h"
#include "data.h"
#include "form.h"
#include "testing.h"

#define GUARD 128 /* bytes on each side of a buffer that nobody may touch */
#define GUARD_BYTE 0xa5
#define OFFSETS                                                                                    \
    4 /* a buffer starts up to so many times its elements' alignment after a 16-byte boundary */
#define ALIGN_MAX 16
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
    size_t in_shift, out_shift; /* bytes */
} case_t;

/* What MPI allows and this Open MPI has. */
typedef struct {
    const data_type_t *type;
    data_op_t op;
} pair_t;

static struct {
    pair_t pair[DATA_TYPES * DATA_OPS];
    int pairs;
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
             data_op_name(c->op), (unsigned long long) c->count,
             gpu_kind_name(run.kind[c->in_kind]), c->in_shift, c->in_place ? " (in place)" : "",
             gpu_kind_name(run.kind[c->out_kind]), c->out_shift, (unsigned long long) c->seed);
    return text;
}

/* --- one call --------------------------------------------------------------------------------- */

static size_t used(const case_t *c, size_t shift)
{
    return 2 * GUARD + c->count * c->type->bytes + shift;
}

/* Guards around, and between them the rank's operand, or in an output what must not survive. */
static void prepare(buffer_t *buffer, const case_t *c, size_t shift, bool operand)
{
    memset(buffer->image, GUARD_BYTE, used(c, shift));
    if (operand) {
        data_fill(buffer->image + GUARD + shift, c->type, c->seed, test.rank, 0, c->count);
    }
    gpu_write(buffer->memory.address, buffer->image, used(c, shift));
}

static bool guarded(const char *image, const case_t *c, size_t shift)
{
    const size_t start = GUARD + shift, end = start + c->count * c->type->bytes;

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
    return 0 == strcmp(run.expect, "car") && c->count > 0 && data_for_gpu(c->type)
           && !(gpu_kind_is_host(run.kind[c->in_kind]) && gpu_kind_is_host(run.kind[c->out_kind]))
           && !form_is_left((int) c->count, c->type->type, data_mpi_op(c->op));
}

/* Folded in rank order with Open MPI's own operations. */
static void expect_local_fold(const case_t *c)
{
    const size_t bytes = c->count * c->type->bytes;

    data_fill(run.scratch, c->type, c->seed, 0, 0, c->count);
    for (int r = 1; r < test.size; ++r) {
        data_fill(run.expected, c->type, c->seed, r, 0, c->count);
        MPI_Reduce_local(run.scratch, run.expected, (int) c->count, c->type->type,
                         data_mpi_op(c->op));
        memcpy(run.scratch, run.expected, bytes);
    }
}

static void expect(const case_t *c, const car_counters_t *since)
{
    if (for_kernels(c)) {
        data_expect(run.expected, run.scratch, c->type, c->op, c->seed, test.size, 0, c->count);
        return;
    }
    if (since->calls_host_small > 0) {
        expect_local_fold(c);
        return;
    }
    char *const operand = c->in_place ? run.expected : run.scratch;
    data_fill(operand, c->type, c->seed, test.rank, 0, c->count);
    MPI_Allreduce(c->in_place ? MPI_IN_PLACE : operand, run.expected, (int) c->count, c->type->type,
                  data_mpi_op(c->op), run.plain);
}

/* The gaps of pairs: as the operand has them, or as prepare() left an output. */
static void check_gaps(const char *result, const case_t *c)
{
    if (DATA_LOCATED == c->type->group && for_kernels(c)) {
        memset(run.scratch, GUARD_BYTE, c->count * c->type->bytes);
        if (c->in_place) {
            data_fill(run.scratch, c->type, c->seed, test.rank, 0, c->count);
        }
        CHECK(data_gaps_differ(result, run.scratch, c->type, c->count) == c->count,
              "%s: the gap within an element was written", describe(c));
    }
}

static void check_output(buffer_t *buffer, const case_t *c, const car_counters_t *since)
{
    const char *result = buffer->image + GUARD + c->out_shift;
    char got[DATA_TEXT], wanted[DATA_TEXT];

    gpu_read(buffer->image, buffer->memory.address, used(c, c->out_shift));
    expect(c, since);
    const uint64_t at = data_differ(result, run.expected, c->type, c->count);
    if (at < c->count) {
        CHECK(at == c->count, "%s: element %llu is %s, not %s", describe(c),
              (unsigned long long) at, data_text(result, c->type, at, got),
              data_text(run.expected, c->type, at, wanted));
    }
    CHECK(guarded(buffer->image, c, c->out_shift), "%s: memory beside the output was written",
          describe(c));
    check_gaps(result, c);
    /* Not of what is left in one form only. */
    if (for_kernels(c)
        && !form_may_be_open_mpis((int) c->count, c->type->type, data_mpi_op(c->op))) {
        run.digest = data_digest(run.digest, result, c->type, c->count);
    }
}

static void check_input(buffer_t *buffer, const case_t *c)
{
    char *read = run.expected; /* free by now, and large enough */

    gpu_read(read, buffer->memory.address, used(c, c->in_shift));
    CHECK(0 == memcmp(read, buffer->image, used(c, c->in_shift)), "%s: the input was changed",
          describe(c));
}

/*
 * The algorithm that the parameters ask for at this size; CAR_ALGORITHM_AUTO: that is the table's
 * affair.
 */
static int algorithm_wanted(size_t bytes)
{
    static const char *const names[] = {"one_shot_push", "two_shot_push", "one_shot_pull",
                                        "two_shot"};
    const char *forced = test_mca("algorithm", "auto");
    const long push_max = atol(test_mca("push_max", "-1")),
               pull_max = atol(test_mca("pull_max", "-1"));
    const long two_shot_push_max = atol(test_mca("two_shot_push_max", "0"));

    for (int a = 0; a < CAR_ALGORITHMS; ++a) {
        if (0 == strcmp(forced, names[a])) {
            return a;
        }
    }
    if (push_max < 0 || pull_max < 0) {
        return CAR_ALGORITHM_AUTO;
    }
    return bytes <= (size_t) push_max            ? CAR_ONE_SHOT_PUSH
           : bytes <= (size_t) two_shot_push_max ? CAR_TWO_SHOT_PUSH
           : bytes <= (size_t) pull_max          ? CAR_ONE_SHOT_PULL
                                                 : CAR_TWO_SHOT;
}

static void check_who(const case_t *c, const car_counters_t *d)
{
    const gpu_kind_t in = run.kind[c->in_kind], out = run.kind[c->out_kind];
    const bool staged =
        GPU_OTHER == in || GPU_OTHER == out || gpu_kind_is_host(in) || gpu_kind_is_host(out);
    const unsigned long long by[CAR_ALGORITHMS] = {d->calls_one_shot_push, d->calls_two_shot_push,
                                                   d->calls_one_shot_pull, d->calls_two_shot};
    /*
     * Open MPI returns from empty ones by itself; persistent requests are started twice, but for
     * those in place.
     */
    const unsigned long long left = 0 == c->count ? 0 : 1, calls = left * form_calls(c->in_place);

    if (0 == strcmp(run.expect, "absent")) {
        CHECK(0 == test_served(d) + test_left(d), "%s: coll/car had the call", describe(c));
        return;
    }
    if (0 == strcmp(run.expect, "off")) {
        CHECK(0 == test_served(d) && test_left(d) <= left, "%s: %llu calls served by kernels",
              describe(c), test_served(d));
        return;
    }
    if (!for_kernels(c)) {
        CHECK(0 == test_served(d) && left == test_left(d),
              "%s: %llu calls served by kernels, %llu left to others", describe(c), test_served(d),
              test_left(d));
        return;
    }
    CHECK(calls == test_served(d) && 0 == test_left(d),
          "%s: %llu calls served by kernels, %llu left to others", describe(c), test_served(d),
          test_left(d));
    CHECK(staged == (0 != d->calls_staged), "%s: staged %llu times", describe(c), d->calls_staged);
    const int algorithm = algorithm_wanted(c->count * c->type->bytes);
    CHECK(FORM_BLOCKING != form() || CAR_ALGORITHM_AUTO == algorithm
              || 1 == by[algorithm] + d->calls_zero_copy,
          "%s: algorithm %d did not serve it", describe(c), algorithm);
    for (int a = 0; a < CAR_ALGORITHMS; ++a) {
        run.by_algorithm[a] += by[a];
    }
}

static void try_case(const case_t *c)
{
    buffer_t *out = &run.out[c->out_kind], *in = c->in_place ? out : &run.in[c->in_kind];
    char *const send = (char *) in->memory.address + GUARD + c->in_shift;
    char *const receive = (char *) out->memory.address + GUARD + c->out_shift;

    prepare(in, c, c->in_shift, true);
    if (!c->in_place) {
        prepare(out, c, c->out_shift, false);
    }
    const car_counters_t before = test_counters();
    const int rc = MPI_Allreduce(c->in_place ? MPI_IN_PLACE : send, receive, (int) c->count,
                                 c->type->type, data_mpi_op(c->op), MPI_COMM_WORLD);
    const car_counters_t since = test_since(&before);
    CHECK(MPI_SUCCESS == rc, "%s: error %d", describe(c), rc);
    check_output(out, c, &since);
    if (!c->in_place) {
        check_input(in, c);
    }
    check_who(c, &since);
    ++run.done;
}

/* --- which calls ------------------------------------------------------------------------------ */

/* A call of a pair; all but the count from one random number. */
static case_t make_case(const pair_t *pair, uint64_t count, uint64_t random)
{
    case_t c = {.type = pair->type, .op = pair->op, .count = count, .seed = random};

    c.in_place = 0 == (random >> 8) % 4;
    c.out_kind = (int) ((random >> 16) % (unsigned) run.kinds);
    c.in_kind = c.in_place ? c.out_kind : (int) ((random >> 24) % (unsigned) run.kinds);
    c.out_shift = (random >> 32) % OFFSETS * c.type->align;
    c.in_shift = c.in_place ? c.out_shift : (random >> 40) % OFFSETS * c.type->align;
    if (0 != (random >> 48 & 1)) {
        c.in_shift = c.out_shift = 0;
    }
    return c;
}

/*
 * Every count for the first types and operations, which have the others' code; of the rest each has
 * one of the counts.
 */
static void systematic_cases(uint64_t seed)
{
    static const uint64_t counts[] = {0, 1, 2, 3, 5, 33, 257, 1000, 4099};
    const int number_of_counts = sizeof(counts) / sizeof(counts[0]);
    uint64_t n = 0;

    for (int p = 0; p < run.pairs; ++p) {
        const pair_t *pair = &run.pair[p];
        const bool every = pair->type - data_types <= DATA_F64 && pair->op <= DATA_MAX;
        const int first = every ? 0 : 1 + p % (number_of_counts - 1),
                  last = every ? number_of_counts - 1 : first;
        for (int k = first; k <= last; ++k) {
            const case_t c = make_case(pair, counts[k], test_random(seed, n++));
            if (c.count * c.type->bytes <= run.max_bytes) {
                try_case(&c);
            }
        }
    }
}

/* The next pair after `*p` whose elements have that size, or NULL. */
static const pair_t *next_of_size(int *p, size_t bytes)
{
    for (int tried = 0; tried < run.pairs; ++tried) {
        *p = (*p + 1) % run.pairs;
        if (bytes == run.pair[*p].type->bytes && data_for_gpu(run.pair[*p].type)) {
            return &run.pair[*p];
        }
    }
    return NULL;
}

/*
 * Every second or fourth border for elements of a size, with one of the pairs that have such
 * elements after the other.
 */
static void every_border(uint64_t seed)
{
    static const struct {
        size_t bytes;
        int first, step;
    } sizes[] = {{4, 0, 2}, {8, 1, 2}, {1, 0, 4}, {2, 2, 4}, {16, 1, 4}};
    uint64_t counts[BORDERS_MAX];

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); ++s) {
        int p = -1;
        const pair_t *pair = next_of_size(&p, sizes[s].bytes);
        const int borders =
            NULL == pair ? 0 : borders_find(test.size, sizes[s].bytes, run.max_bytes, counts);
        for (int k = sizes[s].first; k < borders;
             k += sizes[s].step, pair = next_of_size(&p, sizes[s].bytes)) {
            const case_t c = make_case(pair, counts[k],
                                       test_random(seed ^ 0xb0, s * BORDERS_MAX + (uint64_t) k));
            try_case(&c);
        }
    }
}

static void random_cases(uint64_t seed, long cases)
{
    for (long n = 0; n < cases; ++n) {
        const uint64_t random = test_random(seed ^ 0xca5e, (uint64_t) n);
        const pair_t *pair = &run.pair[random % (unsigned) run.pairs];
        /* Every magnitude as often as any other. */
        const uint64_t limit = run.max_bytes / pair->type->bytes >> (random >> 24) % 12;
        const case_t c = make_case(pair, (random >> 32) % (limit + 1), test_random(random, 1));
        try_case(&c);
    }
}

/* --- set-up ----------------------------------------------------------------------------------- */

static void find_pairs(const char *types, const char *ops)
{
    for (int t = 0; t < DATA_TYPES; ++t) {
        const data_type_t *type = &data_types[t];
        if (NULL == types ? !data_for_gpu(type) : !test_listed(type->name, types)) {
            continue;
        }
        for (int op = 0; op < DATA_OPS; ++op) {
            if ((NULL == ops || test_listed(data_op_name((data_op_t) op), ops))
                && data_offered(type, (data_op_t) op)) {
                run.pair[run.pairs++] = (pair_t){type, (data_op_t) op};
            }
        }
    }
    if (0 == run.pairs) {
        test_skip("this Open MPI has none of the types and operations asked for");
    }
}

static void allocate(const char *list)
{
    run.memory_bytes = run.max_bytes + 2 * GUARD + OFFSETS * ALIGN_MAX;
    for (int kind = 0; kind < GPU_KINDS; ++kind) {
        if (!test_listed(gpu_kind_name((gpu_kind_t) kind), list)) {
            continue;
        }
        if (GPU_HOST != kind && !gpu_kind_possible((gpu_kind_t) kind)) {
            if (0 == test.rank) {
                printf("left out: %s memory, which this machine does not have\n",
                       gpu_kind_name((gpu_kind_t) kind));
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

/*
 * The first call with device memory decides on which device the communicator works: the one in use.
 */
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
    test_options(argc, argv, "kinds types ops max-bytes cases borders seed expect");
    test_begin(&argc, &argv, "allreduce");
    const uint64_t seed = (uint64_t) test_number("seed", 1);
    const char *kinds =
        test_option("kinds", "device,managed,pool,vmm,other,host,registered,mapped");
    run.max_bytes = (size_t) test_number("max-bytes", 256 * 1024);
    form_starts = 3;
    run.expect = test_option("expect", "car");
    if (0 != strcmp(kinds, "host")) {
        test_use_gpu();
    }
    find_pairs(test_option("types", NULL), test_option("ops", NULL));
    allocate(kinds);
    settle_device();
    run.plain = test_without_car(MPI_COMM_WORLD);
    systematic_cases(seed);
    if (0 == strcmp("yes", test_option("borders", "yes"))) {
        every_border(seed);
    }
    random_cases(seed, test_number("cases", 100));
    release();
    MPI_Comm_free(&run.plain);
    CHECK(0 == strcmp(run.expect, "absent") || test.counted, "coll/car is not loaded");
    return test_end("%ld calls; by one_shot_push %llu, two_shot_push %llu, one_shot_pull %llu, "
                    "two_shot %llu; digest %016llx",
                    run.done, run.by_algorithm[CAR_ONE_SHOT_PUSH],
                    run.by_algorithm[CAR_TWO_SHOT_PUSH], run.by_algorithm[CAR_ONE_SHOT_PULL],
                    run.by_algorithm[CAR_TWO_SHOT], (unsigned long long) run.digest);
}
