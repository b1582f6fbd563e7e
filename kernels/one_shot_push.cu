/* one_shot_push: a kernel for each call. What an exchange is: one_shot_push.cuh. */
#include "one_shot_push.cuh"

template <class R> CAR_DEVICE void car_one_shot_push(const car_kernel_args_t &a)
{
    const car_operands o = car_operands_of(a);
    car_progress_t p = car_begin(a);

    while (p.finished != a.end && car_push_round<R>(a, o, p)) {
    }
    car_end(a, p);
}

#define CAR_ALGORITHM one_shot_push
#include "car_kernels.cuh"
