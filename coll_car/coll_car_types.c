#include "coll_car_types.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <wchar.h>

#include "car.h"

/* libcar is looked for at run time, and where it is not, there are none of its operations. */
#define LIBCAR "libcar.so.0"
#define LIBCAR_TABLE "CAR_Op_functions"

/* --- predefined types ------------------------------------------------------------------------- */

/* What a predefined type is; its size says the rest. 0: nothing that a GPU computes with. */
typedef enum {
    OTHER,
    SIGNED,   /* of 1, 2, 4 or 8 bytes; logical types, too */
    UNSIGNED,
    FLOATING, /* of 2, 4 or 8 bytes */
    COMPLEX,  /* of 4, 8 or 16 bytes */
    FLOATING_INT,
    FLOATING_TWICE,
    INTEGER_INT,
    INTEGER_TWICE
} kind_t;

/*
 * By the numbers under which Open MPI keeps its operations. Those of types that it lacks never
 * come.
 */
static const kind_t kinds[OMPI_OP_BASE_TYPE_MAX] = {
    [OMPI_OP_BASE_TYPE_INT8_T] = SIGNED,
    [OMPI_OP_BASE_TYPE_UINT8_T] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_INT16_T] = SIGNED,
    [OMPI_OP_BASE_TYPE_UINT16_T] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_INT32_T] = SIGNED,
    [OMPI_OP_BASE_TYPE_UINT32_T] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_INT64_T] = SIGNED,
    [OMPI_OP_BASE_TYPE_UINT64_T] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_LONG] = SIGNED,
    [OMPI_OP_BASE_TYPE_UNSIGNED_LONG] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_WCHAR] = (wchar_t) -1 < 0 ? SIGNED : UNSIGNED,
    [OMPI_OP_BASE_TYPE_BYTE] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_BOOL] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_LOGICAL] = SIGNED,
    [OMPI_OP_BASE_TYPE_INTEGER] = SIGNED,
    [OMPI_OP_BASE_TYPE_INTEGER1] = SIGNED,
    [OMPI_OP_BASE_TYPE_INTEGER2] = SIGNED,
    [OMPI_OP_BASE_TYPE_INTEGER4] = SIGNED,
    [OMPI_OP_BASE_TYPE_INTEGER8] = SIGNED,
#if COLL_CAR_HAVE_SHORT_FLOAT
    [OMPI_OP_BASE_TYPE_SHORT_FLOAT] = FLOATING,
    [OMPI_OP_BASE_TYPE_C_SHORT_FLOAT_COMPLEX] = COMPLEX,
#endif
    [OMPI_OP_BASE_TYPE_FLOAT] = FLOATING,
    [OMPI_OP_BASE_TYPE_DOUBLE] = FLOATING,
    [OMPI_OP_BASE_TYPE_REAL] = FLOATING,
    [OMPI_OP_BASE_TYPE_REAL2] = FLOATING,
    [OMPI_OP_BASE_TYPE_REAL4] = FLOATING,
    [OMPI_OP_BASE_TYPE_REAL8] = FLOATING,
    [OMPI_OP_BASE_TYPE_DOUBLE_PRECISION] = FLOATING,
    [OMPI_OP_BASE_TYPE_C_FLOAT_COMPLEX] = COMPLEX,
    [OMPI_OP_BASE_TYPE_C_DOUBLE_COMPLEX] = COMPLEX,
    [OMPI_OP_BASE_TYPE_FLOAT_INT] = FLOATING_INT,
    [OMPI_OP_BASE_TYPE_DOUBLE_INT] = FLOATING_INT,
    [OMPI_OP_BASE_TYPE_2REAL] = FLOATING_TWICE,
    [OMPI_OP_BASE_TYPE_2DOUBLE_PRECISION] = FLOATING_TWICE,
    [OMPI_OP_BASE_TYPE_SHORT_INT] = INTEGER_INT,
    [OMPI_OP_BASE_TYPE_LONG_INT] = INTEGER_INT,
    [OMPI_OP_BASE_TYPE_2INT] = INTEGER_TWICE,
    [OMPI_OP_BASE_TYPE_2INTEGER] = INTEGER_TWICE,
};

/*
 * CAR_TYPES where the size is none that the kind has. `extent`: bytes from one element to the next.
 */
static car_type_t type_of(kind_t kind, size_t size, size_t extent)
{
    switch (kind) {
    case SIGNED:
        return 1 == size   ? CAR_TYPE_i8
               : 2 == size ? CAR_TYPE_i16
               : 4 == size ? CAR_TYPE_i32
               : 8 == size ? CAR_TYPE_i64
                           : CAR_TYPES;
    case UNSIGNED:
        return 1 == size   ? CAR_TYPE_u8
               : 2 == size ? CAR_TYPE_u16
               : 4 == size ? CAR_TYPE_u32
               : 8 == size ? CAR_TYPE_u64
                           : CAR_TYPES;
    case FLOATING:
        return 2 == size   ? CAR_TYPE_f16
               : 4 == size ? CAR_TYPE_f32
               : 8 == size ? CAR_TYPE_f64
                           : CAR_TYPES;
    case COMPLEX:
        return 4 == size    ? CAR_TYPE_c16
               : 8 == size  ? CAR_TYPE_c32
               : 16 == size ? CAR_TYPE_c64
                            : CAR_TYPES;
    case FLOATING_INT:
        return 8 == extent && 8 == size     ? CAR_TYPE_f32_i32
               : 16 == extent && 12 == size ? CAR_TYPE_f64_i32
                                            : CAR_TYPES;
    case FLOATING_TWICE:
        return 8 == size ? CAR_TYPE_f32_f32 : 16 == size ? CAR_TYPE_f64_f64 : CAR_TYPES;
    case INTEGER_INT: /* of a short, or of a long, which may have the size of an int */
        return 8 == extent && 6 == size    ? CAR_TYPE_i16_i32
               : 8 == extent && 8 == size  ? CAR_TYPE_i32_i32
               : 16 == extent && 12 == size ? CAR_TYPE_i64_i32
                                            : CAR_TYPES;
    case INTEGER_TWICE:
        return 8 == size ? CAR_TYPE_i32_i32 : 16 == size ? CAR_TYPE_i64_i64 : CAR_TYPES;
    default:
        return CAR_TYPES;
    }
}

static int number_of(const struct ompi_datatype_t *dtype)
{
    if (dtype->id < 0 || dtype->id >= OMPI_DATATYPE_MAX_PREDEFINED) {
        return -1;
    }
    const int number = ompi_op_ddt_map[dtype->id];
    return number < OMPI_OP_BASE_TYPE_MAX ? number : -1;
}

/* The predefined type that a type is one or several of, without gaps; NULL if it is not. */
static struct ompi_datatype_t *made_of(struct ompi_datatype_t *dtype, uint32_t *times)
{
    ptrdiff_t lb, extent;

    *times = 1;
    if (ompi_datatype_is_predefined(dtype)) {
        return dtype;
    }
    struct ompi_datatype_t *one = ompi_datatype_get_single_predefined_type_from_args(dtype);
    if (NULL == one || 0 == one->super.size
        || !opal_datatype_is_contiguous_memory_layout(&one->super, 2)
        || !opal_datatype_is_contiguous_memory_layout(&dtype->super, 2)) {
        return NULL;
    }
    (void) ompi_datatype_get_true_extent(dtype, &lb, &extent);
    const size_t n = dtype->super.size / one->super.size;
    if (0 != lb || 0 == n || n > UINT32_MAX || n * one->super.size != dtype->super.size) {
        return NULL;
    }
    *times = (uint32_t) n;
    return one;
}

/* --- operations ------------------------------------------------------------------------------- */

static car_op_t op_of(const struct ompi_op_t *op)
{
    switch (op->op_type) {
    case OMPI_OP_MAX:
        return CAR_OP_MAX;
    case OMPI_OP_MIN:
        return CAR_OP_MIN;
    case OMPI_OP_SUM:
        return CAR_OP_SUM;
    case OMPI_OP_PROD:
        return CAR_OP_PROD;
    case OMPI_OP_LAND:
        return CAR_OP_LAND;
    case OMPI_OP_BAND:
        return CAR_OP_BAND;
    case OMPI_OP_LOR:
        return CAR_OP_LOR;
    case OMPI_OP_BOR:
        return CAR_OP_BOR;
    case OMPI_OP_LXOR:
        return CAR_OP_LXOR;
    case OMPI_OP_BXOR:
        return CAR_OP_BXOR;
    case OMPI_OP_MAXLOC:
        return CAR_OP_MAXLOC;
    case OMPI_OP_MINLOC:
        return CAR_OP_MINLOC;
    default:
        return CAR_OPS;
    }
}

/* A sum of complex numbers is one of twice as many real ones. */
static bool find_intrinsic(car_type_t type, car_op_t op, coll_car_reduction_t *found)
{
    static const car_type_t part_of[CAR_TYPES] = {[CAR_TYPE_c16] = CAR_TYPE_f16,
                                                  [CAR_TYPE_c32] = CAR_TYPE_f32,
                                                  [CAR_TYPE_c64] = CAR_TYPE_f64};

    if (CAR_OP_SUM == op && type < CAR_TYPES && 0 != part_of[type]) {
        type = part_of[type];
        found->per_element *= 2;
    }
    return car_reduction_find(type, op, &found->reduction);
}

/* --- libcar's --------------------------------------------------------------------------------- */

/*
 * libcar's table of functions. Linked into the program, it is found only where the program exports
 * it.
 */
static const car_op_entry_t *ready_made(void)
{
    static _Atomic(const car_op_entry_t *) table;
    const car_op_entry_t *known = atomic_load_explicit(&table, memory_order_relaxed);

    if (NULL == known) {
        void *library = dlopen(LIBCAR, RTLD_LAZY | RTLD_NOLOAD);
        known = dlsym(NULL == library ? RTLD_DEFAULT : library, LIBCAR_TABLE);
        atomic_store_explicit(&table, known, memory_order_relaxed);
        /* The reference is kept: operations of the library may be in use. */
    }
    return known;
}

bool coll_car_has_ready_made(void)
{
    return NULL != ready_made();
}

static bool find_ready_made(const struct ompi_op_t *op, coll_car_reduction_t *found)
{
    static const struct {
        const char *name;
        car_type_t type;
        car_op_t op;
    } names[] = {
        {"bf16_sum", CAR_TYPE_bf16, CAR_OP_SUM}, {"bf16_prod", CAR_TYPE_bf16, CAR_OP_PROD},
        {"bf16_min", CAR_TYPE_bf16, CAR_OP_MIN}, {"bf16_max", CAR_TYPE_bf16, CAR_OP_MAX},
        {"half_sum", CAR_TYPE_f16, CAR_OP_SUM},  {"half_prod", CAR_TYPE_f16, CAR_OP_PROD},
        {"half_min", CAR_TYPE_f16, CAR_OP_MIN},  {"half_max", CAR_TYPE_f16, CAR_OP_MAX},
    };

    for (const car_op_entry_t *entry = ready_made(); NULL != entry && NULL != entry->function;
         ++entry) {
        if ((void (*)(void)) entry->function != (void (*)(void)) op->o_func.c_fn) {
            continue;
        }
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); ++i) {
            if (0 == strcmp(names[i].name, entry->name)) {
                return car_reduction_find(names[i].type, names[i].op, &found->reduction);
            }
        }
    }
    return false;
}

/* --- both ------------------------------------------------------------------------------------- */

bool coll_car_find_reduction(struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                             coll_car_reduction_t *found, bool *known)
{
    struct ompi_datatype_t *one = made_of(dtype, &found->per_element);
    ptrdiff_t lb, extent;

    *known = true;
    if (NULL == one) {
        return false;
    }
    found->one = one;
    const int number = number_of(one);
    if (!ompi_op_is_intrinsic(op)) {
        found->ready_made = true;
        *known = 2 == one->super.size && find_ready_made(op, found);
        return 2 == one->super.size && OMPI_OP_BASE_TYPE_BOOL != number;
    }
    found->ready_made = false;
    if (number < 0 || NULL == op->o_func.intrinsic.fns[number]) {
        return false;
    }
    (void) ompi_datatype_get_extent(one, &lb, &extent);
    return find_intrinsic(type_of(kinds[number], one->super.size, (size_t) extent), op_of(op),
                          found);
}
