/*
 * The operations of car.h: for each a loop over elements and the function that MPI calls, from one
 * list; and one walk over the data of any datatype.
 */
#include "car.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "car_float16.h"

/* X(type, op): all operations. */
#define CAR_OPS(X)                                                                                 \
    X(bf16, sum)                                                                                   \
    X(bf16, prod)                                                                                  \
    X(bf16, min)                                                                                   \
    X(bf16, max)                                                                                   \
    X(half, sum)                                                                                   \
    X(half, prod)                                                                                  \
    X(half, min)                                                                                   \
    X(half, max)

/*
 * In float32. MPI's step is inout = in op inout: `in` comes before, it is a left fold's
 * accumulator.
 */
#define CAR_STEP_sum(acc, next) ((acc) + (next))
#define CAR_STEP_prod(acc, next) ((acc) * (next))
#define CAR_STEP_min(acc, next) ((next) < (acc) ? (next) : (acc))
#define CAR_STEP_max(acc, next) ((next) > (acc) ? (next) : (acc))

/* One step for `count` elements that lie side by side, at any address. */
typedef void car_loop_t(const char *in, char *inout, size_t count);

/* --- the walk over a datatype's data ---------------------------------------------------------- */

/*
 * About as much as is packed at a time: it stays in the first cache, and one call of MPI_Pack does
 * many elements.
 */
#define CAR_PACK_BYTES 8192

typedef struct {
    int size;      /* bytes of data in an element of the datatype */
    MPI_Aint step; /* from one element to the next */
    MPI_Aint gap;  /* from an element's address to the first byte of its data */
    int dense;     /* the data of an element lie side by side */
} car_layout_t;

static void give_up(const char *why)
{
    fprintf(stderr, "libcar: an operation on 16-bit floats was called with %s.\n"
                    "libcar: use MPI_UINT16_T, or a datatype made of it; see car.h.\n", why);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

static void must(int error, const char *call)
{
    if (MPI_SUCCESS != error) {
        give_up(call);
    }
}

static car_layout_t layout_of(MPI_Datatype type)
{
    int integers, addresses, types, combiner;
    MPI_Aint unused, data_bytes;
    car_layout_t l = {.dense = 1};

    must(MPI_Type_size(type, &l.size), "a datatype that MPI_Type_size refuses");
    if (MPI_UNDEFINED == l.size) {
        give_up("a datatype of 2 GB or more");
    }
    if (0 != l.size % 2) {
        give_up("a datatype of an odd number of bytes");
    }
    must(MPI_Type_get_envelope(type, &integers, &addresses, &types, &combiner),
         "a datatype that MPI_Type_get_envelope refuses");
    if (MPI_COMBINER_NAMED == combiner) {
        if (2 != l.size) {
            give_up("a predefined datatype that has not 2 bytes");
        }
        l.step = l.size;
        return l;
    }
    must(MPI_Type_get_extent(type, &unused, &l.step),
         "a datatype that MPI_Type_get_extent refuses");
    must(MPI_Type_get_true_extent(type, &l.gap, &data_bytes),
         "a datatype that MPI_Type_get_true_extent refuses");
    /*
     * No two members may overlap in a buffer that is written to. So if there are as many bytes as
     * places, there is no gap; their order means nothing here, as it is the same in both operands.
     */
    l.dense = data_bytes == l.size;
    return l;
}

/* Packed, the elements of any datatype lie side by side. `type` has gaps inside. */
static void walk_packed(const char *in, char *inout, int count, MPI_Datatype type,
                        const car_layout_t *l, car_loop_t *loop)
{
    const int at_once = l->size > CAR_PACK_BYTES ? 1 : CAR_PACK_BYTES / l->size;
    int bytes, n;

    must(MPI_Pack_size(count < at_once ? count : at_once, type, MPI_COMM_SELF, &bytes),
         "a datatype that MPI_Pack_size refuses");
    char *packed_in = malloc((size_t) bytes), *packed_inout = malloc((size_t) bytes);
    if (NULL == packed_in || NULL == packed_inout) {
        give_up("a datatype with gaps, and there is no memory to pack it");
    }
    for (int done = 0; done < count; done += n) {
        int end_in = 0, end_inout = 0, end = 0;
        n = count - done < at_once ? count - done : at_once;
        must(MPI_Pack(in + done * l->step, n, type, packed_in, bytes, &end_in, MPI_COMM_SELF),
             "a datatype that MPI_Pack refuses");
        must(MPI_Pack(inout + done * l->step, n, type, packed_inout, bytes, &end_inout,
                      MPI_COMM_SELF),
             "a datatype that MPI_Pack refuses");
        if (end_in != n * l->size || end_inout != end_in) {
            give_up("a datatype with gaps, and this MPI packs more than the data");
        }
        loop(packed_in, packed_inout, (size_t) end_in / 2);
        must(MPI_Unpack(packed_inout, bytes, &end, inout + done * l->step, n, type, MPI_COMM_SELF),
             "a datatype that MPI_Unpack refuses");
    }
    free(packed_in);
    free(packed_inout);
}

static void walk(const char *in, char *inout, int count, MPI_Datatype type, car_loop_t *loop)
{
    const car_layout_t l = layout_of(type);

    if (0 == l.size || count <= 0) {
        return;
    }
    if (!l.dense) {
        walk_packed(in, inout, count, type, &l, loop);
    } else if (l.step == l.size) {
        loop(in + l.gap, inout + l.gap, (size_t) count * (size_t) (l.size / 2));
    } else {
        for (int i = 0; i < count; ++i) {
            loop(in + l.gap + i * l.step, inout + l.gap + i * l.step, (size_t) (l.size / 2));
        }
    }
}

/* --- the operations --------------------------------------------------------------------------- */

#define CAR_DEFINE(type, op)                                                                       \
    static void loop_##type##_##op(const char *in, char *inout, size_t count)                      \
    {                                                                                              \
        for (size_t i = 0; i < count; ++i) {                                                       \
            uint16_t a, n;                                                                         \
            memcpy(&a, in + 2 * i, 2);                                                             \
            memcpy(&n, inout + 2 * i, 2);                                                          \
            const float acc = car_##type##_to_float(a), next = car_##type##_to_float(n);           \
            n = car_##type##_from_float(CAR_STEP_##op(acc, next));                                 \
            memcpy(inout + 2 * i, &n, 2);                                                          \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void function_##type##_##op(void *in, void *inout, int *count, MPI_Datatype *datatype)  \
    {                                                                                              \
        walk(in, inout, *count, *datatype, loop_##type##_##op);                                    \
    }                                                                                              \
                                                                                                   \
    int CAR_Op_create_##type##_##op(MPI_Op *made)                                                  \
    {                                                                                              \
        return NULL == made ? MPI_ERR_ARG : MPI_Op_create(function_##type##_##op, 1, made);        \
    }

CAR_OPS(CAR_DEFINE)

const car_op_entry_t CAR_Op_functions[] = {
#define CAR_ENTRY(type, op) {function_##type##_##op, #type "_" #op},
    CAR_OPS(CAR_ENTRY)
#undef CAR_ENTRY
    {NULL, NULL},
};
