/*
 * The primitives of kernels/ptx/car_primitives.cuh for kernels that run on the CPU; the include
 * path puts this folder first. Same names, same promises: what the PTX model orders is ordered
 * here, mostly by more than it asks for.
 */
#ifndef CAR_PRIMITIVES_CUH
#define CAR_PRIMITIVES_CUH

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "simgpu_kernel.h"

#define CAR_DEVICE static inline
#define CAR_METHOD inline
#define CAR_DEVICE_CALL static __attribute__((noinline))

#define CAR_KERNEL(name, type, argument)                                                           \
    static void name##_body(const type &argument);                                                 \
    static const simgpu_kernel name##_kernel(                                                      \
        #name, sizeof(type), [](const void *p) { name##_body(*(const type *) p); });               \
    static void name##_body(const type &argument)

#define CAR_SHARED(type, name, length)                                                             \
    static char name##_key;                                                                        \
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

CAR_DEVICE uint32_t car_ticks() { return (uint32_t) car_nanoseconds(); }

CAR_DEVICE float car_bits_to_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

CAR_DEVICE uint32_t car_float_to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

CAR_DEVICE float car_half_to_float(uint16_t bits)
{
    const uint32_t sign = (uint32_t) (bits & 0x8000) << 16, exponent = bits >> 10 & 31,
                   fraction = bits & 0x3ff;
    if (0 == exponent) {
        const float f = (float) fraction * 0x1p-24f;
        return 0 == sign ? f : -f;
    }
    return car_bits_to_float(sign | (31 == exponent ? 255 : exponent + 112) << 23 | fraction << 13);
}

CAR_DEVICE uint16_t car_float_to_half(float f)
{
    const uint32_t bits = car_float_to_bits(f), sign = bits >> 16 & 0x8000,
                   magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return (uint16_t) (sign | 0x7fff);
    }
    if (magnitude >= 0x477ff000) { /* 65520: rounds to 2^16 */
        return (uint16_t) (sign | 0x7c00);
    }
    /* 2^-14: the result is a multiple of 2^-24, and so is the sum's last place */
    if (magnitude < 0x38800000) {
        const uint32_t rounded =
            car_float_to_bits(car_bits_to_float(magnitude) + 0.5f) - car_float_to_bits(0.5f);
        return (uint16_t) (sign | rounded);
    }
    return (uint16_t) (sign | (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

CAR_DEVICE float car_copysign(float magnitude, float sign) { return copysignf(magnitude, sign); }
CAR_DEVICE double car_copysign(double magnitude, double sign) { return copysign(magnitude, sign); }
CAR_DEVICE bool car_is_infinite(float f) { return isinf(f); }
CAR_DEVICE bool car_is_infinite(double f) { return isinf(f); }
template <class F> static inline F car_infinity() { return (F) INFINITY; }

/*
 * Every access is one of these. With weak memory (SIMGPU_WEAK) it is late, early or old as the PTX
 * model allows, otherwise as strong as the CPU's.
 */
template <class T> static inline T simgpu_load(const T *address, simgpu_order order)
{
    if (__builtin_expect(simgpu_weak, 0)) {
        T value;
        simgpu_weak_load(address, &value, sizeof(value), order);
        return value;
    }
    if constexpr (sizeof(T) == 4 || sizeof(T) == 8) {
        if (SIMGPU_PLAIN != order) {
            T value;
            __atomic_load(simgpu_at(address), &value,
                          SIMGPU_ACQUIRE == order ? __ATOMIC_ACQUIRE : __ATOMIC_RELAXED);
            return value;
        }
    }
    return *simgpu_at(address);
}

template <class T> static inline void simgpu_store(T *address, T value, simgpu_order order)
{
    if (__builtin_expect(simgpu_weak, 0)) {
        simgpu_weak_store(address, &value, sizeof(value), order);
        return;
    }
    if constexpr (sizeof(T) == 4 || sizeof(T) == 8) {
        if (SIMGPU_PLAIN != order) {
            __atomic_store(simgpu_at(address), &value,
                           SIMGPU_RELEASE == order ? __ATOMIC_RELEASE : __ATOMIC_RELAXED);
            return;
        }
    }
    *simgpu_at(address) = value;
}

static inline void simgpu_fence(bool system)
{
    if (__builtin_expect(simgpu_weak, 0)) {
        simgpu_weak_fence(system);
    }
    __atomic_thread_fence(__ATOMIC_ACQ_REL);
}

CAR_DEVICE uint32_t car_load_relaxed_sys(const uint32_t *address)
{
    return simgpu_load(address, SIMGPU_RELAXED);
}
CAR_DEVICE void car_store_relaxed_sys(uint32_t *address, uint32_t value)
{
    simgpu_store(address, value, SIMGPU_RELAXED);
}
CAR_DEVICE uint32_t car_load_acquire_sys(const uint32_t *address)
{
    return simgpu_load(address, SIMGPU_ACQUIRE);
}
CAR_DEVICE void car_store_release_sys(uint32_t *address, uint32_t value)
{
    simgpu_store(address, value, SIMGPU_RELEASE);
}
CAR_DEVICE void car_store_relaxed_sys64(uint64_t *address, uint64_t value)
{
    simgpu_store(address, value, SIMGPU_RELAXED);
}

CAR_DEVICE void car_fence_gpu() { simgpu_fence(false); }
CAR_DEVICE void car_fence_sys() { simgpu_fence(true); }

CAR_DEVICE uint32_t car_atomic_add_gpu(uint32_t *address, uint32_t value)
{
    return simgpu_weak ? simgpu_weak_add(address, value)
                       : __atomic_fetch_add(simgpu_at(address), value, __ATOMIC_RELAXED);
}

CAR_DEVICE uint32_t car_atomic_add_ordered_gpu(uint32_t *address, uint32_t value)
{
    car_fence_gpu();
    const uint32_t before = car_atomic_add_gpu(address, value);
    car_fence_gpu();
    return before;
}

/*
 * Two accesses of 8 bytes: exactly what the model promises of a 16-byte vector access, and no more.
 */
static inline car_word16_t simgpu_load_packet(const car_word16_t *address, simgpu_order order)
{
    const uint64_t *half = (const uint64_t *) address;
    const uint64_t a = simgpu_load(half, order), b = simgpu_load(half + 1, order);
    car_word16_t p;
    p.w[0] = (uint32_t) a;
    p.w[1] = (uint32_t) (a >> 32);
    p.w[2] = (uint32_t) b;
    p.w[3] = (uint32_t) (b >> 32);
    return p;
}

CAR_DEVICE car_word16_t car_load_packet(const car_word16_t *address)
{
    return simgpu_load_packet(address, SIMGPU_RELAXED);
}

CAR_DEVICE car_word16_t car_load_packet_acquire(const car_word16_t *address)
{
    return simgpu_load_packet(address, SIMGPU_ACQUIRE);
}

CAR_DEVICE void car_store_packet(car_word16_t *address, car_word16_t p)
{
    uint64_t *half = (uint64_t *) address;
    simgpu_store(half, (uint64_t) p.w[1] << 32 | p.w[0], SIMGPU_RELAXED);
    simgpu_store(half + 1, (uint64_t) p.w[3] << 32 | p.w[2], SIMGPU_RELAXED);
}

template <class T> static inline T car_load(const T *address)
{
    return simgpu_load(address, SIMGPU_PLAIN);
}
template <class T> static inline void car_store(T *address, T value)
{
    simgpu_store(address, value, SIMGPU_PLAIN);
}
template <class T> static inline T car_load_once(const T *address)
{
    return simgpu_load(address, SIMGPU_PLAIN);
}
template <class T> static inline void car_store_once(T *address, T value)
{
    simgpu_store(address, value, SIMGPU_PLAIN);
}

#endif /* CAR_PRIMITIVES_CUH */
