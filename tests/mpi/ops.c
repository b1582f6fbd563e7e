/*
 * libcar: each operation does what car.h says, on datatypes with and without gaps, in
 * MPI_Reduce_local and in MPI_Allreduce on host and device buffers; and a component can find the
 * functions.
 *
 * Where MPI does the steps, it rounds at each and chooses their order: values are then such that no
 * step rounds, but for two ranks, who have one step. Where kernels do them, which the counters say,
 * the result is the fold in the order of the ranks in float32, rounded once, of any values.
 *
 *   --device no          host buffers only
 *   --expect served|left whether kernels serve calls on device buffers; by default either is right
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "car.h"
#include "ops_data.h"
#include "testing.h"

/* --- datatypes -------------------------------------------------------------------------------- */

/*
 * In elements of 2 bytes: `blocks` of `length`, `stride` apart, the first at `start`; `step` to the
 * next of the type.
 */
typedef struct {
    const char *name;
    int blocks, length, stride, start, step;
    MPI_Datatype type;
} layout_t;

#define WIDE 3000 /* blocks: more than the library packs at a time */
#define MARGIN 16

static layout_t layouts[] = {
    {"uint16", 1, 1, 1, 0, 1, MPI_DATATYPE_NULL},
    {"contiguous", 1, 3, 3, 0, 3, MPI_DATATYPE_NULL},
    {"vector", 2, 2, 3, 0, 5, MPI_DATATYPE_NULL},
    {"int16", 1, 1, 1, 0, 1, MPI_DATATYPE_NULL},
    {"short", 1, 1, 1, 0, 1, MPI_DATATYPE_NULL},
    {"dup", 1, 1, 1, 0, 1, MPI_DATATYPE_NULL},
    {"padded", 1, 3, 3, 0, 5, MPI_DATATYPE_NULL},
    {"permuted", 2, 2, 2, 0, 4, MPI_DATATYPE_NULL},
    {"shifted", 1, 2, 2, 2, 4, MPI_DATATYPE_NULL},
    {"displaced", 1, 2, 2, 2, 2, MPI_DATATYPE_NULL},
    {"backwards", 2, 1, -3, 0, 4, MPI_DATATYPE_NULL},
    {"wide", WIDE, 2, 3, 0, 3 * WIDE - 1, MPI_DATATYPE_NULL},
};
#define LAYOUTS ((int) (sizeof(layouts) / sizeof(layouts[0])))
#define LAYOUTS_FOR_HOST 3
#define LAYOUTS_FOR_DEVICES 2

static void make_layouts(void)
{
    const int ones[] = {2, 2}, permuted[] = {2, 0}, shift = 2;

    layouts[0].type = MPI_UINT16_T;
    MPI_Type_contiguous(3, MPI_UINT16_T, &layouts[1].type);
    MPI_Type_vector(2, 2, 3, MPI_UINT16_T, &layouts[2].type);
    layouts[3].type = MPI_INT16_T;
    layouts[4].type = MPI_SHORT;
    MPI_Type_dup(MPI_UINT16_T, &layouts[5].type);
    MPI_Type_create_resized(layouts[1].type, 0, 10, &layouts[6].type);
    MPI_Type_indexed(2, ones, permuted, MPI_UINT16_T, &layouts[7].type);
    MPI_Type_indexed(1, ones, &shift, MPI_UINT16_T, &layouts[9].type);
    MPI_Type_create_resized(layouts[9].type, 0, 8, &layouts[8].type);
    MPI_Type_vector(2, 1, -3, MPI_INT16_T, &layouts[10].type);
    MPI_Type_vector(WIDE, 2, 3, MPI_UINT16_T, &layouts[11].type);
    for (int l = 0; l < LAYOUTS; ++l) {
        if (0 != l && 3 != l && 4 != l) {
            MPI_Type_commit(&layouts[l].type);
        }
    }
}

static void free_layouts(void)
{
    for (int l = 0; l < LAYOUTS; ++l) {
        if (0 != l && 3 != l && 4 != l) {
            MPI_Type_free(&layouts[l].type);
        }
    }
}

static size_t span(const layout_t *l, int count)
{
    return (size_t) (count * l->step + abs(l->blocks * l->stride) + l->length + 2 * MARGIN);
}

/* Marks which places of a buffer of `span` places belong to `count` of the datatype at MARGIN. */
static bool *members(const layout_t *l, int count)
{
    bool *member = calloc(span(l, count), sizeof(*member));

    for (int i = 0; i < count; ++i) {
        for (int b = 0; b < l->blocks; ++b) {
            for (int k = 0; k < l->length; ++k) {
                member[MARGIN + i * l->step + l->start + b * l->stride + k] = true;
            }
        }
    }
    return member;
}

/* --- comparison ------------------------------------------------------------------------------- */

/*
 * Any NaN for NaN, but a quiet one; either zero where the order of steps decides which is the
 * least.
 */
static bool right(const ops_op_t *op, uint16_t got, uint16_t wanted, bool any_zero)
{
    if (ops_is_nan(op->format, wanted)) {
        return ops_is_nan(op->format, got) && 0 != (got & 1 << (op->format->mantissa_bits - 1));
    }
    return got == wanted || (any_zero && 0 == ((got | wanted) & 0x7fff));
}

static MPI_Op create(const ops_op_t *op)
{
    MPI_Op made = MPI_OP_NULL;
    int commutes = 0;

    CHECK(MPI_SUCCESS == op->create(&made) && MPI_OP_NULL != made, "%s", op->name);
    MPI_Op_commutative(made, &commutes);
    CHECK(commutes, "%s", op->name);
    return made;
}

/* --- one step --------------------------------------------------------------------------------- */

/* What does not belong to the datatype is as it was. */
static void check_step(const ops_op_t *op, const layout_t *l, int count, const uint16_t *in,
                       const uint16_t *before, const uint16_t *after)
{
    bool *member = members(l, count);

    for (size_t i = 0; i < span(l, count) && test_failures() < 8; ++i) {
        const float acc = ops_float(op->format, in[i]), next = ops_float(op->format, before[i]);
        const uint16_t wanted = ops_round(op->format, ops_step(op->op, acc, next));
        CHECK(member[i] ? right(op, after[i], wanted, false) : after[i] == before[i],
              "%s, %d %s, place %zu: %04x and %04x give %04x, not %04x", op->name, count, l->name,
              i, in[i], before[i], after[i], member[i] ? wanted : before[i]);
    }
    free(member);
}

static void try_step(const ops_op_t *op, const layout_t *l, int count, MPI_User_function *function)
{
    const size_t places = span(l, count);
    uint16_t *in = malloc(2 * places), *before = malloc(2 * places), *after = malloc(2 * places);

    for (size_t i = 0; i < places; ++i) {
        in[i] = ops_value(op, OPS_ANY, 1, 0, i);
        before[i] = after[i] = ops_value(op, OPS_ANY, 1, 1, i);
    }
    if (NULL != function) {
        MPI_Datatype type = l->type;
        function(in + MARGIN, after + MARGIN, &count, &type);
    } else {
        MPI_Op made = create(op);
        MPI_Reduce_local(in + MARGIN, after + MARGIN, count, l->type, made);
        MPI_Op_free(&made);
    }
    check_step(op, l, count, in, before, after);
    free(in);
    free(before);
    free(after);
}

static void one_step_on_every_datatype(const ops_op_t *op)
{
    for (int l = 0; l < LAYOUTS; ++l) {
        const int most = 30000 / layouts[l].step;
        const int counts[] = {0, 1, 2, 7, most};
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); ++c) {
            try_step(op, &layouts[l], counts[c], NULL);
        }
    }
}

/* --- MPI_Allreduce ---------------------------------------------------------------------------- */

typedef struct {
    int calls, served;
} tally_t;

/* Returns whether kernels served the call. Out of place, but for every third call. */
static bool try_allreduce(const ops_op_t *op, const layout_t *l, int count, gpu_kind_t kind,
                          ops_values_t values, tally_t *tally)
{
    const uint64_t seed = (uint64_t) ++tally->calls;
    const size_t places = span(l, count), bytes = 2 * places;
    uint16_t *data = malloc(bytes);
    bool *member = members(l, count);
    gpu_buffer_t from = gpu_allocate(kind, bytes), to = gpu_allocate(kind, bytes);
    const bool in_place = 0 == seed % 3;
    MPI_Op made = create(op);

    for (size_t i = 0; i < places; ++i) {
        data[i] = ops_value(op, values, seed, test.rank, i);
    }
    gpu_write(in_place ? to.address : from.address, data, bytes);
    const car_counters_t before = test_counters();
    MPI_Allreduce(in_place ? MPI_IN_PLACE : (uint16_t *) from.address + MARGIN,
                  (uint16_t *) to.address + MARGIN, count, l->type, made, MPI_COMM_WORLD);
    const car_counters_t since = test_since(&before);
    const bool served = 0 != test_served(&since);
    tally->served += served;
    MPI_Op_free(&made);
    gpu_read(data, to.address, bytes);
    for (size_t i = 0; i < places && test_failures() < 8; ++i) {
        const uint16_t wanted = member[i] ? ops_fold(op, values, seed, test.size, i, served) : 0;
        CHECK(!member[i] || right(op, data[i], wanted, !served && op->op >= DATA_MIN),
              "%s, %d %s, %s, place %zu: %04x, not %04x", op->name, count, l->name,
              gpu_kind_name(kind), i, data[i], wanted);
    }
    gpu_free(&from);
    gpu_free(&to);
    free(member);
    free(data);
    return served;
}

/* What MPI's steps give whatever their order. */
static ops_values_t orderless(const ops_op_t *op)
{
    return op->op >= DATA_MIN ? OPS_NUMBERS : test.size > 2 ? OPS_EXACT : OPS_ANY;
}

static tally_t allreduce_on(gpu_kind_t kind, int number_of_layouts)
{
    static const int counts[] = {1, 7, 1000, 9000};
    tally_t tally = {0, 0};

    for (int o = 0; o < OPS; ++o) {
        for (int l = 0; l < number_of_layouts; ++l) {
            for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); ++c) {
                if (try_allreduce(&ops[o], &layouts[l], counts[c], kind, orderless(&ops[o]),
                                  &tally)) {
                    try_allreduce(&ops[o], &layouts[l], counts[c], kind, OPS_ANY, &tally);
                }
            }
        }
    }
    return tally;
}

/* --- the table for components ----------------------------------------------------------------- */

static void the_table_names_every_function(void)
{
    void *library = dlopen("libcar.so.0", RTLD_LAZY | RTLD_NOLOAD);
    const car_op_entry_t *table = NULL == library ? NULL : dlsym(library, "CAR_Op_functions");
    const car_op_entry_t *global = dlsym(RTLD_DEFAULT, "CAR_Op_functions");
    int n = 0;

    if (!CHECK(NULL != table && NULL != global, "a component cannot find CAR_Op_functions")) {
        return;
    }
    for (; NULL != table[n].function; ++n) {
        CHECK(table[n].function == CAR_Op_functions[n].function
                  && table[n].function == global[n].function,
              "entry %d is another one from elsewhere", n);
        for (int o = 0; o < OPS; ++o) {
            if (0 == strcmp(ops[o].name, table[n].name)) {
                try_step(&ops[o], &layouts[0], 5000, table[n].function);
            }
        }
    }
    CHECK(OPS == n, "%d entries", n);
    for (int o = 0; o < OPS; ++o) {
        int found = 0;
        for (int i = 0; i < n; ++i) {
            found += 0 == strcmp(ops[o].name, table[i].name);
        }
        CHECK(1 == found, "%s is there %d times", ops[o].name, found);
    }
    dlclose(library);
}

int main(int argc, char **argv)
{
    tally_t device = {0, 0};

    test_options(argc, argv, "device expect");
    test_begin(&argc, &argv, "ops");
    const bool use_device = 0 == strcmp(test_option("device", "yes"), "yes");
    const char *expected = test_option("expect", "either");
    if (use_device) {
        test_use_gpu();
    }
    make_layouts();
    for (int o = 0; o < OPS; ++o) {
        CHECK(MPI_ERR_ARG == ops[o].create(NULL), "%s", ops[o].name);
        if (0 == test.rank) {
            one_step_on_every_datatype(&ops[o]);
        }
    }
    the_table_names_every_function();
    const tally_t host = allreduce_on(GPU_HOST, LAYOUTS_FOR_HOST);
    CHECK(0 == host.served, "kernels served %d calls on host buffers", host.served);
    if (use_device) {
        device = allreduce_on(GPU_DEVICE, LAYOUTS_FOR_DEVICES);
        CHECK(0 != strcmp(expected, "served") || device.calls == device.served, "%d of %d",
              device.served, device.calls);
        CHECK(0 != strcmp(expected, "left") || 0 == device.served, "%d of %d", device.served,
              device.calls);
    }
    free_layouts();
    return test_end("%d calls on host buffers, %d on device buffers, kernels served %d", host.calls,
                    device.calls, device.served);
}
