#include "car_reduction.h"

/* Unsigned sums and products are the signed ones' bits. */
static const car_reduction_t reductions[CAR_TYPES][CAR_OPS] = {
    [CAR_I32] = {CAR_REDUCTION_i32_sum, CAR_REDUCTION_i32_prod, CAR_REDUCTION_i32_min, CAR_REDUCTION_i32_max},
    [CAR_U32] = {CAR_REDUCTION_i32_sum, CAR_REDUCTION_i32_prod, CAR_REDUCTION_u32_min, CAR_REDUCTION_u32_max},
    [CAR_I64] = {CAR_REDUCTION_i64_sum, CAR_REDUCTION_i64_prod, CAR_REDUCTION_i64_min, CAR_REDUCTION_i64_max},
    [CAR_U64] = {CAR_REDUCTION_i64_sum, CAR_REDUCTION_i64_prod, CAR_REDUCTION_u64_min, CAR_REDUCTION_u64_max},
    [CAR_F32] = {CAR_REDUCTION_f32_sum, CAR_REDUCTION_f32_prod, CAR_REDUCTION_f32_min, CAR_REDUCTION_f32_max},
    [CAR_F64] = {CAR_REDUCTION_f64_sum, CAR_REDUCTION_f64_prod, CAR_REDUCTION_f64_min, CAR_REDUCTION_f64_max},
};

car_reduction_t car_reduction_find(car_type_t type, car_op_t op)
{
    return type < CAR_TYPES && op < CAR_OPS ? reductions[type][op] : CAR_REDUCTIONS;
}

size_t car_type_bytes(car_type_t type)
{
    static const size_t bytes[CAR_TYPES] = {4, 4, 8, 8, 4, 8};
    return bytes[type];
}

const char *car_reduction_name(car_reduction_t reduction)
{
    static const char *const names[CAR_REDUCTIONS] = {
#define CAR_INSTANCE(name, type, op) #name,
#include "car_instances.def"
#undef CAR_INSTANCE
    };
    return names[reduction];
}
