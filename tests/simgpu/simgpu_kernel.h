/*
 * What a kernel on the CPU needs of the simulated device: who it is, where device memory is, and
 * how to wait.
 */
#ifndef SIMGPU_KERNEL_H
#define SIMGPU_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* A thread of a block: a fiber. The scheduler's own part follows in kernel.cc. */
struct simgpu_thread {
    uint32_t thread, block, threads, blocks;
};

/* The fiber that runs on this OS thread. */
extern __thread simgpu_thread *simgpu_self;

/*
 * Device memory lies in a window of the address space that the application cannot touch. What
 * stands there is mapped a second time, readable and writable, SIMGPU_SHADOW bytes above, for
 * kernels and the driver's copies. Addresses outside the window (mapped host memory, managed
 * memory) are used as they are. A misaligned one is a fault on a GPU: nobody can touch the window
 * itself.
 */
#define SIMGPU_WINDOW UINT64_C(0x200000000000)
#define SIMGPU_WINDOW_BYTES UINT64_C(0x010000000000)
#define SIMGPU_SHADOW UINT64_C(0x020000000000)

template <class T> static inline T *simgpu_at(T *address)
{
    const uint64_t a = (uint64_t) (uintptr_t) address;
    if (__builtin_expect(0 != a % alignof(T), 0)) {
        return (T *) (uintptr_t) SIMGPU_WINDOW;
    }
    return a - SIMGPU_WINDOW < SIMGPU_WINDOW_BYTES ? (T *) (uintptr_t) (a + SIMGPU_SHADOW)
                                                   : address;
}

/*
 * Waits for all threads of the block; true if all brought true. Orders their accesses, unless told
 * not to.
 */
bool simgpu_barrier(bool predicate, bool orders = true);

/*
 * Weak memory: with SIMGPU_WEAK every access of a kernel goes through these (weak.cc). A store is
 * of 1, 2, 4, 8 or 16 bytes, and aligned.
 */
extern bool simgpu_weak;
enum simgpu_order { SIMGPU_PLAIN, SIMGPU_RELAXED, SIMGPU_ACQUIRE, SIMGPU_RELEASE };
void simgpu_weak_load(const void *address, void *value, unsigned bytes, simgpu_order order);
void simgpu_weak_store(void *address, const void *value, unsigned bytes, simgpu_order order);
void simgpu_weak_fence(bool system);
uint32_t simgpu_weak_add(uint32_t *address, uint32_t value);

/* Lets the other threads of the device run. */
void simgpu_pause();

/* The block's storage for a shared array. */
void *simgpu_shared(const void *key, size_t bytes);

/* A kernel that cuModuleGetFunction finds by its name. */
struct simgpu_kernel {
    simgpu_kernel(const char *name, size_t argument_bytes, void (*run)(const void *argument));

    const char *name;
    size_t argument_bytes;
    void (*run)(const void *argument);
    simgpu_kernel *next;
};

#endif /* SIMGPU_KERNEL_H */
