#include "car_registry.h"

#include <stdlib.h>
#include <string.h>

#include "car_kernel_args.h"

/* Allocations of its own that a process tells of at a time: a program's large buffers are few. */
#define CAR_EXPORTS 16

/*
 * Ids of those that are gone; who is further behind than that has forgotten the oldest, which then
 * go by their age.
 */
#define CAR_GONE 256

typedef struct {
    uint64_t id; /* 0: none */
    CUdeviceptr base;
    uint64_t bytes;
    uint64_t last; /* when it was last told */
    CUipcMemHandle handle;
    bool refused; /* it cannot be exported */
} car_own_t;

struct car_import {
    car_import_t *next;
    car_device_t *device;
    car_id_t owner;
    uint64_t id;
    uint64_t bytes;
    uint64_t last;
    CUdeviceptr address; /* 0: mapping it failed */
    unsigned int holders;
    bool gone;
};

struct car_registry {
    uint64_t clock;
    car_own_t own[CAR_EXPORTS];
    uint64_t gone[CAR_GONE];
    uint64_t gone_count;
    car_import_t *imports;
};

static car_registry_t *registry_of(car_device_t *device)
{
    if (NULL == device->registry) {
        device->registry = calloc(1, sizeof(*device->registry));
    }
    return device->registry;
}

/* --- own allocations -------------------------------------------------------------------------- */

static void forget(car_registry_t *r, car_own_t *own)
{
    if (!own->refused) {
        r->gone[r->gone_count++ % CAR_GONE] = own->id;
    }
    own->id = 0;
}

/* The address of what has been freed has another id, or none. */
void car_registry_forget_freed(car_device_t *device, uint64_t there, uint64_t there_too)
{
    car_registry_t *r = device->registry;

    for (int i = 0; NULL != r && i < CAR_EXPORTS; ++i) {
        unsigned long long id = 0;
        if (0 != r->own[i].id && there != r->own[i].id && there_too != r->own[i].id
            && (CUDA_SUCCESS
                    != device->cuda->PointerGetAttribute(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID,
                                                         r->own[i].base)
                || id != r->own[i].id)) {
            forget(r, &r->own[i]);
        }
    }
}

uint64_t car_registry_forget_range(car_device_t *device, CUdeviceptr from, CUdeviceptr end)
{
    car_registry_t *r = device->registry;

    for (int i = 0; NULL != r && i < CAR_EXPORTS; ++i) {
        const uint64_t id = r->own[i].id;
        if (0 != id && !r->own[i].refused && r->own[i].base >= from && r->own[i].base < end) {
            forget(r, &r->own[i]);
            return id;
        }
    }
    return 0;
}

static car_own_t *find_own(car_registry_t *r, uint64_t id)
{
    for (int i = 0; i < CAR_EXPORTS; ++i) {
        if (id == r->own[i].id) {
            return &r->own[i];
        }
    }
    return NULL;
}

static car_own_t *oldest_own(car_registry_t *r)
{
    car_own_t *oldest = &r->own[0];

    for (int i = 0; i < CAR_EXPORTS && 0 != oldest->id; ++i) {
        oldest = 0 == r->own[i].id || r->own[i].last < oldest->last ? &r->own[i] : oldest;
    }
    return oldest;
}

static car_own_t *add_own(car_registry_t *r, const car_device_t *device, const car_buffer_t *buffer)
{
    const CUdeviceptr address = (CUdeviceptr) (uintptr_t) buffer->address;
    car_own_t *own = oldest_own(r);
    size_t bytes = 0;

    if (0 != own->id) {
        forget(r, own);
    }
    *own = (car_own_t){.id = buffer->id};
    own->refused = CUDA_SUCCESS
                       != device->cuda->PointerGetAttribute(
                           &own->base, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, address)
                   || CUDA_SUCCESS
                          != device->cuda->PointerGetAttribute(
                              &bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, address)
                   || CUDA_SUCCESS != device->cuda->IpcGetMemHandle(&own->handle, own->base);
    own->bytes = bytes;
    return own;
}

void car_registry_export(car_device_t *device, const car_buffer_t *buffer, car_export_t *told)
{
    car_registry_t *r = registry_of(device);

    memset(told, 0, sizeof(*told));
    if (NULL == r) {
        return;
    }
    ++r->clock;
    if (CAR_MEMORY_DEVICE != buffer->memory || !buffer->plain || 0 == buffer->id
        || buffer->ordinal != device->ordinal || buffer->context != device->context) {
        return;
    }
    car_own_t *own = find_own(r, buffer->id);
    if (NULL == own) {
        own = add_own(r, device, buffer);
    }
    own->last = r->clock;
    if (own->refused) {
        return;
    }
    told->id = own->id;
    told->bytes = own->bytes;
    told->offset = (uint64_t) (uintptr_t) buffer->address - own->base;
    told->handle = own->handle;
}

void car_registry_gone(car_device_t *device, uint64_t *heard, uint64_t ids[CAR_GONE_AT_ONCE])
{
    const car_registry_t *r = device->registry;

    memset(ids, 0, CAR_GONE_AT_ONCE * sizeof(ids[0]));
    if (NULL == r) {
        return;
    }
    if (r->gone_count - *heard > CAR_GONE) {
        *heard = r->gone_count - CAR_GONE;
    }
    for (int i = 0; i < CAR_GONE_AT_ONCE && *heard < r->gone_count; ++i) {
        ids[i] = r->gone[(*heard)++ % CAR_GONE];
    }
}

/* --- peers' allocations ----------------------------------------------------------------------- */

static void unmap(car_import_t **link)
{
    car_import_t *import = *link;
    car_cuda_guard_t guard;

    /*
     * Whoever lets go last may be in any context; of a device that was lost nothing is mapped any
     * more.
     */
    if (0 != import->address && !car_device_lost(import->device)
        && CUDA_SUCCESS == car_cuda_enter(import->device->cuda, import->device->context, &guard)) {
        (void) import->device->cuda->IpcCloseMemHandle(import->address);
        car_cuda_leave(import->device->cuda, &guard);
    }
    *link = import->next;
    free(import);
}

/*
 * Makes room for one more of `bytes`: what nobody holds goes, the longest unused first. False if
 * that is not enough.
 */
static bool make_room(car_registry_t *r, uint64_t bytes, unsigned int most, size_t most_bytes)
{
    for (;;) {
        car_import_t **oldest = NULL;
        uint64_t sum = 0;
        unsigned int count = 0;
        for (car_import_t **link = &r->imports; NULL != *link; link = &(*link)->next) {
            count += 0 != (*link)->address;
            sum += 0 != (*link)->address ? (*link)->bytes : 0;
            if (0 == (*link)->holders && 0 != (*link)->address
                && (NULL == oldest || (*link)->last < (*oldest)->last)) {
                oldest = link;
            }
        }
        if (count < most && sum + bytes <= most_bytes) {
            return true;
        }
        if (NULL == oldest) {
            return false;
        }
        unmap(oldest);
    }
}

static car_import_t *find_import(const car_registry_t *r, const car_id_t *owner, uint64_t id)
{
    car_import_t *import = r->imports;

    while (NULL != import
           && (id != import->id || 0 != memcmp(owner, &import->owner, sizeof(*owner)))) {
        import = import->next;
    }
    return import;
}

/* Of failures only so many are remembered that a search stays short. */
static void limit_failures(car_registry_t *r)
{
    car_import_t **last = NULL;
    unsigned int failures = 0;

    for (car_import_t **link = &r->imports; NULL != *link; link = &(*link)->next) {
        if (0 == (*link)->address) {
            ++failures;
            last = link;
        }
    }
    if (failures > CAR_EXPORTS) {
        unmap(last);
    }
}

car_import_t *car_registry_hold(car_device_t *device, const car_id_t *owner,
                                const car_export_t *told, unsigned int most, size_t most_bytes,
                                CUdeviceptr *base)
{
    car_registry_t *r = registry_of(device);

    if (NULL == r) {
        return NULL;
    }
    car_import_t *import = find_import(r, owner, told->id);
    if (NULL == import) {
        if (!make_room(r, told->bytes, most, most_bytes)
            || NULL == (import = calloc(1, sizeof(*import)))) {
            return NULL;
        }
        *import = (car_import_t){.next = r->imports,
                                 .device = device,
                                 .owner = *owner,
                                 .id = told->id,
                                 .bytes = told->bytes};
        r->imports = import;
        if (CUDA_SUCCESS
            != device->cuda->IpcOpenMemHandle(&import->address, told->handle,
                                              CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)) {
            import->address = 0;
            limit_failures(r);
            return NULL;
        }
    }
    if (0 == import->address) {
        return NULL;
    }
    import->last = ++r->clock;
    ++import->holders;
    *base = import->address;
    return import;
}

void car_registry_hold_again(car_import_t *import)
{
    ++import->holders;
}

static void drop_unheld(car_registry_t *r)
{
    for (car_import_t **link = &r->imports; NULL != *link;) {
        if ((*link)->gone && 0 == (*link)->holders) {
            unmap(link);
        } else {
            link = &(*link)->next;
        }
    }
}

void car_registry_release(car_import_t *import)
{
    --import->holders;
    if (import->gone && 0 == import->holders) {
        drop_unheld(import->device->registry);
    }
}

void car_registry_drop(car_device_t *device, const car_id_t *owner,
                       const uint64_t ids[CAR_GONE_AT_ONCE])
{
    if (NULL == device->registry || 0 == ids[0]) {
        return;
    }
    for (int i = 0; i < CAR_GONE_AT_ONCE && 0 != ids[i]; ++i) {
        car_import_t *import = find_import(device->registry, owner, ids[i]);
        if (NULL != import) {
            import->gone = true;
        }
    }
    drop_unheld(device->registry);
}

unsigned int car_registry_mapped(const car_device_t *device)
{
    unsigned int count = 0;

    for (const car_import_t *i = NULL == device->registry ? NULL : device->registry->imports;
         NULL != i; i = i->next) {
        count += 0 != i->address;
    }
    return count;
}
