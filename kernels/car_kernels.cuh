/*
 * The kernels of one algorithm: car_<algorithm>_<type>_<operation> for each common pair,
 * car_<algorithm>_any for all others. CAR_ALGORITHM is its name; CAR_ALGORITHM_CALL<R>(arguments),
 * by default car_<algorithm>, does the work on CAR_ALGORITHM_ARGS, by default car_kernel_args_t.
 * Included once per algorithm.
 */
#define CAR_JOIN_(a, b) a##b
#define CAR_JOIN(a, b) CAR_JOIN_(a, b)
#define CAR_ALGORITHM_NAME CAR_JOIN(car_, CAR_ALGORITHM)
#ifndef CAR_ALGORITHM_CALL
#define CAR_ALGORITHM_CALL CAR_ALGORITHM_NAME
#endif
#ifndef CAR_ALGORITHM_ARGS
#define CAR_ALGORITHM_ARGS car_kernel_args_t
#endif
#define CAR_NAMED_KERNEL(name, type, argument) CAR_KERNEL(name, type, argument)

#define CAR_TYPE(name, type, bytes, alignment, data, class_)
#define CAR_COMMON(type, op)                                                                       \
    CAR_NAMED_KERNEL(CAR_JOIN(CAR_ALGORITHM_NAME, _##type##_##op), CAR_ALGORITHM_ARGS, a)          \
    {                                                                                              \
        CAR_ALGORITHM_CALL<car_fixed<car_element_##type, car_op_##op>>(a);                         \
    }
#include "car_types.def"

CAR_NAMED_KERNEL(CAR_JOIN(CAR_ALGORITHM_NAME, _any), CAR_ALGORITHM_ARGS, a)
{
    CAR_ALGORITHM_CALL<car_any>(a);
}
