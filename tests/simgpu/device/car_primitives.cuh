/*
 * The primitives of kernels/ptx/car_primitives.cuh for kernels that run on the CPU; the include path puts this folder
 * first. Same names, same promises: what the PTX model orders is ordered here, mostly by more than it asks for.
 */
#ifndef CAR_PRIMITIVES_CUH
#define CAR_PRIMITIVES_CUH

#include <stdint.h>
#include <time.h>

#include "simgpu_kernel.h"

#define CAR_DEVICE static inline

#define CAR_KERNEL(name, type, argument)                                                                               \
    static void name##_body(const type &argument);                                                                    \
    static const simgpu_kernel name##_kernel(#name, sizeof(type),                                                      \
                                             [](const void *p) { name##_body(*(const type *) p); });                   \
    static void name##_body(const type &argument)

#define CAR_SHARED(type, name, length)                                                                                 \
    static char name##_key;                                                                                            \
    type(&name)[length] = *(type(*)[length]) simgpu_shared(&name##_key, sizeof(type[length]))

typedef struct alignas(16) car_word16 {
    uint32_t w[4];
} car_word16_t;

CAR_DEVICE uint32_t car_thread() { return simgpu_self->thread; }
CAR_DEVICE uint32_t car_block() { return simgpu_self->block; }
CAR_DEVICE uint32_t car_threads_per_block() { return simgpu_self->threads; }
CAR_DEVICE uint32_t car_blocks() { return simgpu_self->blocks; }

CAR_DEVICE void car_block_barrier() { (void) simgpu_barrier(true); }
CAR_DEVICE bool car_block_all(bool predicate) { return simgpu_barrier(predicate); }
CAR_DEVICE void car_pause() { simgpu_pause(); }

CAR_DEVICE uint64_t car_nanoseconds()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

CAR_DEVICE uint32_t car_load_relaxed_sys(const uint32_t *address)
{
    return __atomic_load_n(simgpu_at(address), __ATOMIC_RELAXED);
}

CAR_DEVICE void car_store_relaxed_sys(uint32_t *address, uint32_t value)
{
    __atomic_store_n(simgpu_at(address), value, __ATOMIC_RELAXED);
}

CAR_DEVICE uint32_t car_load_acquire_sys(const uint32_t *address)
{
    return __atomic_load_n(simgpu_at(address), __ATOMIC_ACQUIRE);
}

CAR_DEVICE void car_store_release_sys(uint32_t *address, uint32_t value)
{
    __atomic_store_n(simgpu_at(address), value, __ATOMIC_RELEASE);
}

CAR_DEVICE void car_store_relaxed_sys64(uint64_t *address, uint64_t value)
{
    __atomic_store_n(simgpu_at(address), value, __ATOMIC_RELAXED);
}

CAR_DEVICE void car_fence_gpu() { __atomic_thread_fence(__ATOMIC_ACQ_REL); }
CAR_DEVICE void car_fence_sys() { __atomic_thread_fence(__ATOMIC_ACQ_REL); }

CAR_DEVICE uint32_t car_atomic_add_gpu(uint32_t *address, uint32_t value)
{
    return __atomic_fetch_add(simgpu_at(address), value, __ATOMIC_RELAXED);
}

/* Two accesses of 8 bytes: exactly what the model promises of a 16-byte vector access, and no more. */
CAR_DEVICE car_word16_t car_load_packet(const car_word16_t *address)
{
    const uint64_t *half = (const uint64_t *) simgpu_at(address);
    const uint64_t a = __atomic_load_n(half, __ATOMIC_RELAXED), b = __atomic_load_n(half + 1, __ATOMIC_RELAXED);
    car_word16_t p;
    p.w[0] = (uint32_t) a;
    p.w[1] = (uint32_t) (a >> 32);
    p.w[2] = (uint32_t) b;
    p.w[3] = (uint32_t) (b >> 32);
    return p;
}

CAR_DEVICE void car_store_packet(car_word16_t *address, car_word16_t p)
{
    uint64_t *half = (uint64_t *) simgpu_at(address);
    __atomic_store_n(half, (uint64_t) p.w[1] << 32 | p.w[0], __ATOMIC_RELAXED);
    __atomic_store_n(half + 1, (uint64_t) p.w[3] << 32 | p.w[2], __ATOMIC_RELAXED);
}

template <class T> static inline T car_load(const T *address) { return *simgpu_at(address); }
template <class T> static inline void car_store(T *address, T value) { *simgpu_at(address) = value; }
template <class T> static inline T car_load_once(const T *address) { return *simgpu_at(address); }
template <class T> static inline void car_store_once(T *address, T value) { *simgpu_at(address) = value; }

#endif /* CAR_PRIMITIVES_CUH */
