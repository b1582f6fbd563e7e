/*
 * The hardware as the kernels see it: who am I, block barriers, and every access to memory.
 *
 * Kernels use nothing else of CUDA. tests/simgpu/device/car_primitives.cuh declares the same names
 * for kernels that run on the CPU; the include path decides which of the two a build gets. Two
 * rules keep that possible:
 *   - no pointer is dereferenced in a kernel: all memory is read and written through the functions
 *     below, so that the simulated device can guard its memory and delay stores;
 *   - a thread that waits calls car_pause() each time round, so that threads which share a CPU can
 *     switch.
 *
 * Orders and scopes are those of the PTX memory model (PTX ISA, "Memory Consistency Model"). A flag
 * is only ever accessed by the 32-bit functions, a packet only by the packet functions: accesses of
 * mixed width on one word would be a data race in that model.
 */
#ifndef CAR_PRIMITIVES_CUH
#define CAR_PRIMITIVES_CUH

#include <stdint.h>

#define CAR_DEVICE static __device__ __forceinline__
#define CAR_METHOD __device__ __forceinline__
/* One copy, called. */
#define CAR_DEVICE_CALL static __device__ __noinline__

/*
 * Defines a kernel: CAR_KERNEL(name, argument type, argument name) { body }. One argument, a
 * struct, by value. Blocks have up to 512 threads, and two of them fit a multiprocessor, so several
 * ranks find room on a shared GPU.
 */
#define CAR_KERNEL(name, type, argument) \
    extern "C" __global__ void __launch_bounds__(512, 2) name(const __grid_constant__ type argument)

/*
 * An array shared by the threads of a block, of compile-time length; declared inside a function
 * body.
 */
#define CAR_SHARED(type, name, length) __shared__ type name[length]

/*
 * 16 bytes; as a packet: two halves of 32 bits of data and the 32-bit epoch that proves their
 * arrival.
 */
typedef struct __align__(16) car_word16 {
    uint32_t w[4];
} car_word16_t;

CAR_DEVICE uint32_t car_thread() { return threadIdx.x; }
CAR_DEVICE uint32_t car_block() { return blockIdx.x; }
CAR_DEVICE uint32_t car_threads_per_block() { return blockDim.x; }
CAR_DEVICE uint32_t car_blocks() { return gridDim.x; }

/* Waits for all threads of the block; orders their memory accesses among each other. */
CAR_DEVICE void car_block_barrier() { __syncthreads(); }

/* The same, and tells whether the predicate held on every thread of the block. */
CAR_DEVICE bool car_block_all(bool predicate) { return 0 != __syncthreads_and(predicate); }

/* Called each time round a wait. */
CAR_DEVICE void car_pause() {}

/*
 * A clock that all threads of the GPU share, in nanoseconds; it may tick as coarsely as a
 * microsecond.
 */
CAR_DEVICE uint64_t car_nanoseconds()
{
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

/*
 * A clock of the multiprocessor that ticks every half of a nanosecond or so: for differences within
 * a block. It wraps.
 */
CAR_DEVICE uint32_t car_ticks()
{
    uint32_t now;
    asm volatile("mov.u32 %0, %%clock;" : "=r"(now));
    return now;
}

/* --- floating point --------------------------------------------------------------------------- */

CAR_DEVICE float car_bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
CAR_DEVICE uint32_t car_float_to_bits(float f) { return __float_as_uint(f); }

/* IEEE binary16; narrowing rounds to the nearest, ties to even. */
CAR_DEVICE float car_half_to_float(uint16_t bits)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
    return f;
}

CAR_DEVICE uint16_t car_float_to_half(float f)
{
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(f));
    return bits;
}

CAR_DEVICE float car_copysign(float magnitude, float sign) { return copysignf(magnitude, sign); }
CAR_DEVICE double car_copysign(double magnitude, double sign) { return copysign(magnitude, sign); }
CAR_DEVICE bool car_is_infinite(float f) { return isinf(f); }
CAR_DEVICE bool car_is_infinite(double f) { return isinf(f); }
template <class F> CAR_DEVICE F car_infinity() { return (F) __int_as_float(0x7f800000); }

/* --- flags: 32-bit words that ranks signal each other with ------------------------------------ */

CAR_DEVICE uint32_t car_load_relaxed_sys(const uint32_t *address)
{
    uint32_t value;
    asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
}

CAR_DEVICE void car_store_relaxed_sys(uint32_t *address, uint32_t value)
{
    asm volatile("st.relaxed.sys.global.u32 [%0], %1;" : : "l"(address), "r"(value) : "memory");
}

CAR_DEVICE uint32_t car_load_acquire_sys(const uint32_t *address)
{
    uint32_t value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
}

CAR_DEVICE void car_store_release_sys(uint32_t *address, uint32_t value)
{
    asm volatile("st.release.sys.global.u32 [%0], %1;" : : "l"(address), "r"(value) : "memory");
}

/* A 64-bit word in mapped host memory that the host polls. */
CAR_DEVICE void car_store_relaxed_sys64(uint64_t *address, uint64_t value)
{
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" : : "l"(address), "l"(value) : "memory");
}

CAR_DEVICE void car_fence_gpu() { asm volatile("fence.acq_rel.gpu;" : : : "memory"); }
CAR_DEVICE void car_fence_sys() { asm volatile("fence.acq_rel.sys;" : : : "memory"); }

/* Adds within this GPU; returns the value before. Relaxed: fences around it give the order. */
CAR_DEVICE uint32_t car_atomic_add_gpu(uint32_t *address, uint32_t value)
{
    uint32_t before;
    asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;"
                 : "=r"(before) : "l"(address), "r"(value) : "memory");
    return before;
}

/* The same with a fence at gpu scope on either side, in one: the second waits for nothing. */
CAR_DEVICE uint32_t car_atomic_add_ordered_gpu(uint32_t *address, uint32_t value)
{
    uint32_t before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
                 : "=r"(before) : "l"(address), "r"(value) : "memory");
    return before;
}

/* --- packets: single 16-byte accesses, of which the model promises that each 8-byte half arrives
 * whole  */

CAR_DEVICE car_word16_t car_packet_of(unsigned long long low, unsigned long long high)
{
    car_word16_t p;
    p.w[0] = (uint32_t) low;
    p.w[1] = (uint32_t) (low >> 32);
    p.w[2] = (uint32_t) high;
    p.w[3] = (uint32_t) (high >> 32);
    return p;
}

/*
 * As two elements of 64 bits, since the model takes a vector for scalar accesses of its elements: a
 * half is one of them.
 */
CAR_DEVICE car_word16_t car_load_packet(const car_word16_t *address)
{
    unsigned long long low, high;
    asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
                 : "=l"(low), "=l"(high)
                 : "l"(address)
                 : "memory");
    return car_packet_of(low, high);
}

/* Orders what the reading thread does afterwards behind what came before the packet's store. */
CAR_DEVICE car_word16_t car_load_packet_acquire(const car_word16_t *address)
{
    unsigned long long low, high;
    asm volatile("ld.acquire.sys.global.v2.u64 {%0, %1}, [%2];"
                 : "=l"(low), "=l"(high)
                 : "l"(address)
                 : "memory");
    return car_packet_of(low, high);
}

CAR_DEVICE void car_store_packet(car_word16_t *address, car_word16_t p)
{
    const unsigned long long low = (unsigned long long) p.w[1] << 32 | p.w[0];
    const unsigned long long high = (unsigned long long) p.w[3] << 32 | p.w[2];
    asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};"
                 :
                 : "l"(address), "l"(low), "l"(high)
                 : "memory");
}

/* --- data: weak accesses, ordered by flags and barriers only; T has 1, 2, 4, 8 or 16 bytes and is
 * aligned  */

template <class T> CAR_DEVICE T car_load(const T *address)
{
    return *address;
}

template <class T> CAR_DEVICE void car_store(T *address, T value)
{
    *address = value;
}

/*
 * The same for data that is touched once, so that it does not displace from the L2 cache what will
 * be wanted again: on one H100 shared by two ranks, 7 to 10 % of a large allreduce (November 2026).
 */
template <class T> CAR_DEVICE T car_load_once(const T *address)
{
    return __ldcs(address);
}

template <class T> CAR_DEVICE void car_store_once(T *address, T value)
{
    __stcs(address, value);
}

CAR_DEVICE car_word16_t car_load_once(const car_word16_t *address)
{
    const uint4 v = __ldcs((const uint4 *) address);
    car_word16_t w;
    w.w[0] = v.x;
    w.w[1] = v.y;
    w.w[2] = v.z;
    w.w[3] = v.w;
    return w;
}

CAR_DEVICE void car_store_once(car_word16_t *address, car_word16_t w)
{
    __stcs((uint4 *) address, make_uint4(w.w[0], w.w[1], w.w[2], w.w[3]));
}

#endif /* CAR_PRIMITIVES_CUH */
