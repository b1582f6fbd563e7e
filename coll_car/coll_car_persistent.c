/*
 * MPI_Allreduce_init, or MPIX_Allreduce_init of Open MPI 4.1. Making a request is collective and
 * may wait for the others, so what becomes of it is agreed on there and then; a start only
 * launches. What kernels cannot serve is a request of the saved module's, within one of ours where
 * it has device buffers, which go by way of host memory, or an operation or type that the user may
 * free: MPI lets programs do so, and Open MPI's own persistent requests would use what is gone.
 */
#include "coll_car_request.h"

#include "coll_car_progress.h"
#include "coll_car_types.h"

/* --- life of a request ------------------------------------------------------------------------ */

static void activate(coll_car_request_t *request)
{
    request->super.super.req_status.MPI_ERROR = MPI_SUCCESS;
    request->super.super.req_complete = REQUEST_PENDING;
    request->super.super.req_state = OMPI_REQUEST_ACTIVE;
    request->failed = false;
}

static void put_to_started(coll_car_request_t *request)
{
    mca_coll_car_module_t *module = request->module;

    request->next = module->started;
    module->started = request;
    coll_car_make_busy(module);
}

static int start_ours(coll_car_request_t *request)
{
    CAR_COUNT(mca_coll_car_component.counters.calls_persistent, 1);
    coll_car_lock();
    activate(request);
    put_to_started(request);
    car_persistent_start(request->persistent);
    coll_car_unlock();
    return OMPI_SUCCESS;
}

static int start_saved(coll_car_request_t *request)
{
    CAR_COUNT(mca_coll_car_component.counters.calls_bounced,
              coll_car_bounce_copies(&request->bounce) ? 1 : 0);
    coll_car_lock();
    activate(request);
    coll_car_unlock();
    request->failed = !coll_car_bounce_in(&request->bounce);
    if (request->failed) {
        coll_car_spoil(request->module);
    }
    const int rc = request->inner->req_start(1, &request->inner);
    coll_car_lock();
    put_to_started(request);
    coll_car_unlock();
    return rc;
}

static int start(size_t count, struct ompi_request_t **requests)
{
    int rc = OMPI_SUCCESS;

    for (size_t i = 0; i < count && OMPI_SUCCESS == rc; ++i) {
        coll_car_request_t *request = (coll_car_request_t *) requests[i];
        rc = COLL_CAR_PERSISTENT == request->how ? start_ours(request) : start_saved(request);
    }
    return rc;
}

/* True once it has ended. Under the lock. */
bool coll_car_persistent_poll(coll_car_request_t *request)
{
    if (COLL_CAR_PERSISTENT_SAVED == request->how) {
        if (!REQUEST_COMPLETE(request->inner)) {
            return false;
        }
        request->failed = MPI_SUCCESS != request->inner->req_status.MPI_ERROR
                          || !coll_car_bounce_out(&request->bounce) || request->failed
                          || coll_car_is_spoiled(request->module);
        /* As MPI_Wait would leave it: ready for the next start. */
        request->inner->req_state = OMPI_REQUEST_INACTIVE;
        return true;
    }
    if (!car_persistent_poll(request->persistent, &request->failed)) {
        return false;
    }
    if (request->failed) {
        (void) coll_car_is_broken(request->module);
    }
    coll_car_count(car_persistent_call(request->persistent));
    return true;
}

static int free_persistent(struct ompi_request_t **handle)
{
    coll_car_request_t *request = (coll_car_request_t *) *handle;

    coll_car_request_sync();
    if (!REQUEST_COMPLETE(*handle)) {
        return MPI_ERR_REQUEST;
    }
    if (COLL_CAR_PERSISTENT == request->how) {
        car_persistent_destroy(request->persistent, !coll_car_finalizing());
    } else {
        (void) ompi_request_free(&request->inner);
        coll_car_bounce_give(&request->bounce);
    }
    coll_car_request_give(request);
    *handle = MPI_REQUEST_NULL;
    return OMPI_SUCCESS;
}

/* --- making one ------------------------------------------------------------------------------- */

typedef struct {
    const void *sbuf;
    void *rbuf;
    coll_car_count_t count;
    struct ompi_datatype_t *dtype;
    struct ompi_op_t *op;
    struct ompi_info_t *info;
} init_t;

static coll_car_request_t *new_request(mca_coll_car_module_t *module, coll_car_how_t how,
                                       const init_t *init)
{
    coll_car_request_t *request = coll_car_request_new(module, true);

    if (NULL != request) {
        request->how = how;
        coll_car_request_keep(request, init->op, init->dtype);
        request->super.super.req_start = start;
        request->super.super.req_free = free_persistent;
        request->super.super.req_complete = REQUEST_COMPLETED;
    }
    return request;
}

static int saved_init(mca_coll_car_module_t *module, const init_t *init,
                      struct ompi_request_t **request)
{
    return module->saved.allreduce_init.function(init->sbuf, init->rbuf, init->count, init->dtype,
                                                 init->op, module->comm, init->info, request,
                                                 module->saved.allreduce_init.module);
}

static int forward(mca_coll_car_module_t *module, const init_t *init,
                   struct ompi_request_t **result)
{
    const car_cuda_t *cuda = module->no_device_memory || 0 == init->count ? NULL : car_cuda();
    const bool in_place = MPI_IN_PLACE == init->sbuf;
    const car_buffer_t output = car_buffer_look(cuda, init->rbuf);
    const car_buffer_t input = in_place ? output : car_buffer_look(cuda, init->sbuf);

    /* Starts of the saved module's own requests do not come by here. */
    CAR_COUNT(mca_coll_car_component.counters.calls_forwarded, 1);
    if (CAR_MEMORY_DEVICE != output.memory && CAR_MEMORY_DEVICE != input.memory
        && !coll_car_may_be_freed(init->op, init->dtype)) {
        return saved_init(module, init, result);
    }
    coll_car_request_t *request = new_request(module, COLL_CAR_PERSISTENT_SAVED, init);
    if (NULL == request) {
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    int rc = coll_car_bounce_take(&request->bounce, cuda, in_place ? NULL : &input, &output,
                                  init->count, init->dtype);
    if (OMPI_SUCCESS == rc) {
        init_t copies = *init;
        copies.sbuf = request->bounce.sbuf;
        copies.rbuf = request->bounce.rbuf;
        rc = saved_init(module, &copies, &request->inner);
        if (OMPI_SUCCESS != rc) {
            coll_car_bounce_give(&request->bounce);
        }
    }
    if (OMPI_SUCCESS != rc) {
        coll_car_request_give(request);
        return rc;
    }
    *result = &request->super.super;
    return OMPI_SUCCESS;
}

static int broken(mca_coll_car_module_t *module)
{
    (void) coll_car_is_broken(module);
    return coll_car_error(module);
}

typedef struct {
    char device, context, memory; /* ..., for a request */
    car_what_t what;
} kind_t;

/*
 * Whether some rank has device memory; sets the communicator up where it can be. OMPI_SUCCESS, or
 * an error on all ranks: the communicator is broken, or one of them has no memory for a request.
 */
static int any_device(mca_coll_car_module_t *module, const car_call_t *call, bool memory, bool *any)
{
    const bool device =
        CAR_MEMORY_HOST != call->input.memory || CAR_MEMORY_HOST != call->output.memory;
    const car_buffer_t *buffer =
        CAR_MEMORY_HOST != call->input.memory ? &call->input : &call->output;
    kind_t mine = {(char) device, (char) (COLL_CAR_ACTIVE == module->state || car_cuda_in_use()),
                   (char) memory, car_what_of(call->count, &call->reduction)};
    kind_t all[CAR_MAX_RANKS];
    bool context = true, enough = true;

    if (!car_watch_exchange(module->control, &mine, sizeof(mine), all, coll_car_progress,
                            "MPI_Allreduce_init")) {
        return broken(module);
    }
    *any = false;
    for (int r = 0; r < ompi_comm_size(module->comm); ++r) {
        if (!car_watch_agree(module->control, CAR_WAIT_TOGETHER,
                             car_control_exchanges(module->control), &mine.what, r, &all[r].what)) {
            return broken(module);
        }
        enough = enough && all[r].memory;
        *any = *any || all[r].device;
        context = context && all[r].context;
    }
    if (!enough) {
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    if (*any && context && COLL_CAR_WATCHING == module->state) {
        coll_car_activate(module, device ? (CUdeviceptr) (uintptr_t) buffer->address : 0);
    }
    return coll_car_is_broken(module) ? coll_car_error(module) : OMPI_SUCCESS;
}

static int make(mca_coll_car_module_t *module, const init_t *init,
                const coll_car_reduction_t *found, struct ompi_request_t **result)
{
    const bool in_place = MPI_IN_PLACE == init->sbuf || init->sbuf == init->rbuf;
    const car_cuda_t *cuda = car_cuda();
    bool any = false;

    /* Without it nothing can be made here, but the others are waiting. */
    coll_car_request_t *request = new_request(module, COLL_CAR_PERSISTENT, init);
    car_call_t call = {.output = car_buffer_look(cuda, init->rbuf),
                       .count = (uint64_t) init->count * found->per_element,
                       .reduction = found->reduction,
                       .fold = coll_car_fold};
    call.input = in_place ? call.output : car_buffer_look(cuda, init->sbuf);
    const int rc = any_device(module, &call, NULL != request, &any);
    if (OMPI_SUCCESS != rc) {
        if (NULL != request) {
            coll_car_request_give(request);
        }
        return rc;
    }
    request->fold = (coll_car_fold_t){init->op, found->one, found->reduction.element};
    call.fold_context = &request->fold;
    request->persistent = NULL;
    if (any && COLL_CAR_ACTIVE == module->state) {
        request->persistent = car_persistent_create(module->engine, &call);
    }
    if (NULL == request->persistent) {
        coll_car_request_give(request);
        return coll_car_is_broken(module) ? coll_car_error(module) : forward(module, init, result);
    }
    *result = &request->super.super;
    return OMPI_SUCCESS;
}

int mca_coll_car_allreduce_init(const void *sbuf, void *rbuf, coll_car_count_t count,
                                struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                                struct ompi_communicator_t *comm, struct ompi_info_t *info,
                                struct ompi_request_t **request, mca_coll_base_module_t *base)
{
    mca_coll_car_module_t *module = (mca_coll_car_module_t *) base;
    const init_t init = {sbuf, rbuf, count, dtype, op, info};
    coll_car_reduction_t found;
    bool known;

    (void) comm;
    coll_car_catch_up(module);
    if (coll_car_is_broken(module)) {
        return coll_car_error(module);
    }
    if (0 == count || !coll_car_find_reduction(dtype, op, &found, &known)) {
        return forward(module, &init, request);
    }
    if (COLL_CAR_ASLEEP == module->state) {
        const int rc = coll_car_wake(module);
        if (OMPI_SUCCESS != rc) {
            return rc;
        }
    }
    if (COLL_CAR_OFF == module->state || (found.ready_made && (!module->ready_made || !known))) {
        return forward(module, &init, request);
    }
    return make(module, &init, &found, request);
}
