/*
 * What a communicator is made of, once it has been set up (car_setup.c), and its end.
 */
#include "car_comm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "car_clock.h"
#include "car_pending.h"

CUresult car_comm_clear(car_comm_t *comm)
{
    const car_cuda_t *cuda = comm->device->cuda;
    const CUdeviceptr piece = comm->peer[comm->rank].piece;
    CUresult result =
        cuda->MemsetD8Async(piece, 0, comm->limits.layout.staging_offset, comm->stream);
    return CUDA_SUCCESS == result ? car_cuda_wait(cuda, comm->stream) : result;
}

CUresult car_comm_clear_lanes(car_comm_t *comm)
{
    return comm->device->cuda->MemsetD8Async(comm->home[comm->rank] + comm->queue_offset, 0,
                                             CAR_LANES * sizeof(uint32_t), comm->stream);
}

void car_comm_broken(const car_comm_t *comm, const char *what, CUresult result)
{
    char reason[CAR_REASON_BYTES];

    snprintf(reason, sizeof(reason), "rank %d: %s: %s", comm->rank, what, car_cuda_error(result));
    car_control_break(comm->control, CAR_FAULT_DRIVER, reason);
}

car_import_t *car_comm_hold(car_comm_t *comm, int peer, const car_export_t *told, CUdeviceptr *base)
{
    const car_control_hooks_t *hooks = car_control_hooks(comm->control);
    car_import_t *held = car_registry_hold(comm->device, &comm->peer[peer].arena, told,
                                           comm->map_max, comm->params->map_bytes, base);

    if (NULL == held && !comm->told_unmapped && hooks->verbose && NULL != hooks->say) {
        char text[CAR_REASON_BYTES];

        comm->told_unmapped = true;
        snprintf(text, sizeof(text),
                 "rank %d cannot map a buffer of rank %d (%" PRIu64
                 " bytes): calls with it are copied. The driver refuses it, or "
                 "coll_car_map_max or coll_car_map_bytes is too small",
                 comm->rank, peer, told->bytes);
        hooks->say(hooks->owner, text);
    }
    return held;
}

/*
 * Many times coll_car_spin_us for kernels of which the driver says nothing, and time to get a turn
 * on a GPU that is full.
 */
#define CAR_DRAIN_SILENT_NS UINT64_C(100000000)
#define CAR_DRAIN_NS UINT64_C(10000000000)

bool car_comm_drained(const car_comm_t *comm, CUstream stream, uint64_t *since)
{
    const car_cuda_t *cuda = comm->device->cuda;
    CUresult result = CUDA_ERROR_CONTEXT_IS_DESTROYED;
    car_cuda_guard_t guard;

    if (NULL == stream || car_device_lost(comm->device)) {
        return true;
    }
    const uint64_t now = car_now();
    *since = 0 == *since ? now : *since;
    if (CUDA_SUCCESS == car_cuda_enter(cuda, comm->device->context, &guard)) {
        result = cuda->StreamQuery(stream);
        car_cuda_leave(cuda, &guard);
    }
    return CUDA_SUCCESS == result
           || now - *since > (CUDA_ERROR_NOT_READY == result ? CAR_DRAIN_NS : CAR_DRAIN_SILENT_NS);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void destroy_graphs(car_comm_t *comm)
{
    for (int a = 0; a < CAR_ALGORITHMS; ++a) {
        for (int k = 0; k < CAR_KERNELS; ++k) {
            car_graph_destroy(comm->device->cuda, &comm->graphs[a][k]);
        }
    }
}

static void destroy_driver_objects(car_comm_t *comm)
{
    const car_cuda_t *cuda = comm->device->cuda;
    car_cuda_guard_t guard;

    if (CUDA_SUCCESS != car_cuda_enter(cuda, comm->device->context, &guard)) {
        comm->stuck = comm->stuck || NULL != comm->stream;
        return;
    }
    car_stay_send_away(comm);
    if (NULL != comm->stream) {
        /*
         * The host's word comes before what kernels have sent to peers has arrived there: that must
         * not meet a closed mapping.
         */
        comm->stuck = !car_cuda_drain(cuda, comm->stream) || comm->stuck;
    }
    car_stay_destroy(comm);
    destroy_graphs(comm);
    if (NULL != comm->event) {
        (void) cuda->EventDestroy(comm->event);
    }
    if (NULL != comm->stream) {
        (void) cuda->StreamDestroy(comm->stream);
    }
    car_cuda_leave(cuda, &guard);
}

/* Everything but the piece and the control segment. */
static void release(car_comm_t *comm, bool alive)
{
    for (int r = 0; r < comm->size && !comm->stuck; ++r) {
        if (alive && r != comm->rank && 0 != comm->peer[r].memory) {
            car_device_unmap(comm->device, &comm->peer[r].arena);
        }
    }
    car_stay_release(comm);
    if (comm->word >= 0 && !comm->stuck) {
        car_device_give_word(comm->device, comm->word);
    }
}

void car_comm_retire(car_comm_t *comm, int index, size_t offset)
{
    /*
     * There is room: each request's lane has one, and after a fault there are no new ones. Else it
     * is lost, which is safe.
     */
    if (CAR_NO_PIECE != offset && comm->retired_count < CAR_LANES) {
        comm->retired[comm->retired_count++] = (car_retired_t){index, offset};
    }
}

void car_comm_destroy(car_comm_t *comm, bool alive, size_t queue_piece)
{
    alive = alive && !car_device_lost(comm->device);
    if (alive) {
        destroy_driver_objects(comm);
    }
    car_devices_lock();
    release(comm, alive);
    if (comm->stuck) {
        /*
         * A kernel of ours may write to any rank's piece: this rank counts as gone when it has
         * died.
         */
        car_control_detach(comm->control);
        car_devices_unlock();
        free(comm);
        return;
    }
    car_control_depart(comm->control);
    size_t pieces[CAR_LANES + 3] = {comm->home_offset, comm->piece_offset, queue_piece};
    for (int i = 0; i < comm->retired_count; ++i) {
        pieces[3 + i] = comm->retired[i].offset;
    }
    /* Without memory to remember them by, the pieces are lost, which is safe. */
    if (!car_pending_add(comm->device, pieces, 3 + comm->retired_count, comm->control)) {
        car_control_detach(comm->control);
    }
    if (alive) {
        car_pending_reclaim();
    }
    car_devices_unlock();
    free(comm);
}

void car_comm_abandon(car_comm_t *comm)
{
    if (NULL != comm->device) {
        const bool alive = !car_device_lost(comm->device);
        if (alive) {
            destroy_driver_objects(comm);
        }
        car_devices_lock();
        release(comm, alive);
        /* No call has used it, and all ranks are done with probing it. */
        if (comm->piece_taken && !comm->stuck) {
            car_arena_give(&comm->device->arena, comm->piece_offset);
        }
        car_devices_unlock();
    }
    free(comm);
}
