#include "car_reduction.h"

#include "car_kernel_args.h"

typedef struct {
    uint8_t element, alignment;
    uint16_t data;
    uint16_t ops; /* a bit for each that the type has */
} car_type_facts_t;

static const car_type_facts_t facts[CAR_TYPES] = {
#define CAR_OP_BIT(type, op) | 1 << CAR_OP_##op
#define CAR_TYPE(name, type, bytes, alignment, data, class_)                                       \
    [CAR_TYPE_##name] = {bytes, alignment, data, 0 CAR_OPS_OF_##class_(CAR_OP_BIT, name)},
#define CAR_COMMON(type, op)
#include "car_types.def"
#undef CAR_OP_BIT
};

/* 1 + the kernel of a common pair, 0 for all others. */
static const uint8_t own_kernel[CAR_TYPES][CAR_OPS] = {
#define CAR_TYPE(name, type, bytes, alignment, data, class_)
#define CAR_COMMON(type, op) [CAR_TYPE_##type][CAR_OP_##op] = 1 + CAR_KERNEL_##type##_##op,
#include "car_types.def"
};

bool car_reduction_find(car_type_t type, car_op_t op, car_reduction_t *reduction)
{
    if (type >= CAR_TYPES || op >= CAR_OPS || 0 == (facts[type].ops >> op & 1)) {
        return false;
    }
    const uint8_t own = own_kernel[type][op];
    *reduction = (car_reduction_t){.type = type,
                                   .op = op,
                                   .kernel = 0 != own ? (car_kernel_t) (own - 1) : CAR_KERNEL_ANY,
                                   .element = facts[type].element,
                                   .alignment = facts[type].alignment,
                                   .unit = 0 != own ? CAR_PACKET_PAYLOAD : CAR_PACK_BYTES,
                                   .data = facts[type].data};
    return true;
}

const char *car_kernel_name(car_kernel_t kernel)
{
    static const char *const names[CAR_KERNELS] = {
#define CAR_TYPE(name, type, bytes, alignment, data, class_)
#define CAR_COMMON(type, op) #type "_" #op,
#include "car_types.def"
        "any"};
    return names[kernel];
}
