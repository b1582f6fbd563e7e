/*
 * MPI_Iallreduce. Calls that a GPU can reduce go to the communicator's queue (car_lane.h); all
 * others, and Open MPI's own while it makes communicators, to the saved module, at once, because
 * that takes a number within the call.
 */
#include "coll_car_request.h"

#include <time.h>

#include "coll_car_progress.h"
#include "coll_car_types.h"

OBJ_CLASS_INSTANCE(coll_car_request_t, ompi_coll_base_nbc_request_t, NULL, NULL);

/* --- requests --------------------------------------------------------------------------------- */

/*
 * Requests that are free again. They are never freed before the component ends, since Open MPI
 * touches a request after it has been given back. (Not an opal_free_list_t: its inline functions
 * need compiler flags that Open MPI was built with.)
 */
static coll_car_request_t *spare;

void coll_car_requests_close(void)
{
    while (NULL != spare) {
        coll_car_request_t *request = spare;
        spare = request->next;
        OBJ_RELEASE(request);
    }
}

static coll_car_request_t *take_spare(void)
{
    coll_car_lock();
    coll_car_request_t *request = spare;
    if (NULL != request) {
        spare = request->next;
    }
    coll_car_unlock();
    return NULL != request ? request : OBJ_NEW(coll_car_request_t);
}

void coll_car_request_sync(void)
{
    coll_car_lock();
    coll_car_unlock();
}

static int cancel(struct ompi_request_t *request, int complete)
{
    (void) request;
    (void) complete;
    return MPI_ERR_REQUEST;
}

static int free_nonblocking(struct ompi_request_t **request)
{
    coll_car_request_sync();
    if (!REQUEST_COMPLETE(*request)) {
        return MPI_ERR_REQUEST;
    }
    coll_car_request_give((coll_car_request_t *) *request);
    *request = MPI_REQUEST_NULL;
    return OMPI_SUCCESS;
}

coll_car_request_t *coll_car_request_new(mca_coll_car_module_t *module, bool persistent)
{
    coll_car_request_t *request = take_spare();

    if (NULL == request) {
        return NULL;
    }
    OMPI_REQUEST_INIT(&request->super.super, persistent);
    request->super.super.req_type = OMPI_REQUEST_COLL;
    request->super.super.req_state = persistent ? OMPI_REQUEST_INACTIVE : OMPI_REQUEST_ACTIVE;
    request->super.super.req_mpi_object.comm = module->comm;
    request->super.super.req_status.MPI_ERROR = MPI_SUCCESS;
    request->super.super.req_status._cancelled = 0;
    request->super.super.req_free = free_nonblocking;
    request->super.super.req_cancel = cancel;
    request->super.super.req_start = NULL;
    request->next = NULL;
    request->module = module;
    request->comm = module->comm;
    request->op_kept = NULL;
    request->type_kept = NULL;
    request->failed = false;
    request->inner = NULL;
    OBJ_RETAIN(module);
    OBJ_RETAIN(module->comm);
    return request;
}

bool coll_car_may_be_freed(struct ompi_op_t *op, const struct ompi_datatype_t *dtype)
{
    return !ompi_op_is_intrinsic(op) || !ompi_datatype_is_predefined(dtype);
}

void coll_car_request_keep(coll_car_request_t *request, struct ompi_op_t *op,
                           struct ompi_datatype_t *dtype)
{
    if (!ompi_op_is_intrinsic(op)) {
        OBJ_RETAIN(op);
        request->op_kept = op;
    }
    if (!ompi_datatype_is_predefined(dtype)) {
        OBJ_RETAIN(dtype);
        request->type_kept = dtype;
    }
}

void coll_car_request_give(coll_car_request_t *request)
{
    struct ompi_communicator_t *comm = request->comm;
    mca_coll_car_module_t *module = request->module;
    struct ompi_op_t *op = request->op_kept;
    struct ompi_datatype_t *dtype = request->type_kept;

    OMPI_REQUEST_FINI(&request->super.super);
    coll_car_lock();
    request->next = spare;
    spare = request;
    coll_car_unlock();
    if (NULL != op) {
        OBJ_RELEASE(op);
    }
    if (NULL != dtype) {
        OBJ_RELEASE(dtype);
    }
    OBJ_RELEASE(module);
    OBJ_RELEASE(comm);
}

static int error_of(const coll_car_request_t *request)
{
    const int error = coll_car_error(request->module);
    return OMPI_ERROR == error ? MPI_ERR_OTHER : error;
}

/* In the order in which they ended; from the moment that one is complete the user may free it. */
int coll_car_requests_complete(coll_car_request_t *ended)
{
    int count = 0;

    while (NULL != ended) {
        coll_car_request_t *request = ended;
        ended = request->next;
        request->super.super.req_status.MPI_ERROR = MPI_SUCCESS;
        request->super.super.req_type = OMPI_REQUEST_COLL;
        if (request->failed) {
            request->super.super.req_status.MPI_ERROR = error_of(request);
            request->super.super.req_type = COLL_CAR_REQUEST_FAILED;
        }
        (void) ompi_request_complete(&request->super.super, true);
        ++count;
    }
    return count;
}

/* --- moving on -------------------------------------------------------------------------------- */

static void put_behind(coll_car_request_t **list, coll_car_request_t *request)
{
    while (NULL != *list) {
        list = &(*list)->next;
    }
    request->next = NULL;
    *list = request;
}

void coll_car_count(const car_call_t *op)
{
    car_counters_t *counters = &mca_coll_car_component.counters;

    switch (op->path) {
    case CAR_PATH_HOST:
        CAR_COUNT(counters->calls_host_small, 1);
        break;
    case CAR_PATH_STAGED:
        CAR_COUNT(counters->calls_two_phase, 1);
        break;
    case CAR_PATH_ZERO_COPY:
        CAR_COUNT(counters->calls_zero_copy, 1);
        break;
    default:
        break;
    }
    CAR_COUNT(counters->calls_staged, op->copied ? 1 : 0);
}

static void poll_queue(mca_coll_car_module_t *module, coll_car_request_t **ended)
{
    car_lane_t *queue = &module->queue;

    if (NULL == queue->control && !queue->broken) {
        coll_car_plain_poll(module);
    } else {
        (void) car_lane_poll(queue);
    }
    while (NULL != queue->ended) {
        car_call_t *op = queue->ended;
        coll_car_request_t *request =
            (coll_car_request_t *) ((char *) op - offsetof(coll_car_request_t, op));
        queue->ended = op->next;
        request->failed = op->failed;
        coll_car_count(op);
        put_behind(ended, request);
    }
    if (queue->broken) {
        (void) coll_car_is_broken(module);
    }
}

/* The saved module has done it: the result goes to the device. */
static void end_bounced(coll_car_request_t *request)
{
    const int error = request->inner->req_status.MPI_ERROR;

    (void) ompi_request_free(&request->inner);
    request->failed = MPI_SUCCESS != error || !coll_car_bounce_out(&request->bounce)
                      || request->failed || coll_car_is_spoiled(request->module);
    coll_car_bounce_give(&request->bounce);
}

static void poll_bounced(mca_coll_car_module_t *module, coll_car_request_t **ended)
{
    for (coll_car_request_t **link = &module->bounced; NULL != *link;) {
        coll_car_request_t *request = *link;
        if (REQUEST_COMPLETE(request->inner)) {
            *link = request->next;
            end_bounced(request);
            put_behind(ended, request);
        } else {
            link = &request->next;
        }
    }
}

static void poll_started(mca_coll_car_module_t *module, coll_car_request_t **ended)
{
    for (coll_car_request_t **link = &module->started; NULL != *link;) {
        coll_car_request_t *request = *link;
        if (coll_car_persistent_poll(request)) {
            *link = request->next;
            put_behind(ended, request);
        } else {
            link = &request->next;
        }
    }
}

bool coll_car_requests_poll(mca_coll_car_module_t *module, coll_car_request_t **ended)
{
    if (NULL != module->queue.first) {
        poll_queue(module, ended);
    }
    if (NULL != module->bounced) {
        poll_bounced(module, ended);
    }
    if (NULL != module->started) {
        poll_started(module, ended);
    }
    return NULL != module->queue.first || NULL != module->bounced || NULL != module->started;
}

/* --- the call --------------------------------------------------------------------------------- */

/* Nobody below us reads device memory in a nonblocking call. */
static bool needs_bounce(const car_buffer_t *buffer)
{
    return CAR_MEMORY_DEVICE == buffer->memory;
}

static int bounced(mca_coll_car_module_t *module, const car_cuda_t *cuda, const car_buffer_t *input,
                   const car_buffer_t *output, coll_car_count_t count,
                   struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                   struct ompi_request_t **result)
{
    coll_car_request_t *request = coll_car_request_new(module, false);

    if (NULL == request) {
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    request->how = COLL_CAR_BOUNCED;
    int rc = coll_car_bounce_take(&request->bounce, cuda, input, output, count, dtype);
    if (OMPI_SUCCESS == rc) {
        request->failed = !coll_car_bounce_in(&request->bounce);
        if (request->failed) {
            coll_car_spoil(module);
        }
        rc = module->saved.iallreduce.function(request->bounce.sbuf, request->bounce.rbuf, count,
                                               dtype, op, module->comm, &request->inner,
                                               module->saved.iallreduce.module);
        if (OMPI_SUCCESS != rc) {
            coll_car_bounce_give(&request->bounce);
        }
    }
    if (OMPI_SUCCESS != rc) {
        coll_car_request_give(request);
        return rc;
    }
    coll_car_lock();
    put_behind(&module->bounced, request);
    coll_car_make_busy(module);
    coll_car_unlock();
    *result = &request->super.super;
    return OMPI_SUCCESS;
}

static int forward(mca_coll_car_module_t *module, const void *sbuf, void *rbuf,
                   coll_car_count_t count, struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                   struct ompi_request_t **request)
{
    const car_cuda_t *cuda = module->no_device_memory ? NULL : car_cuda();

    CAR_COUNT(mca_coll_car_component.counters.calls_forwarded, 1);
    if (NULL != cuda && 0 != count) {
        const car_buffer_t output = car_buffer_look(cuda, rbuf);
        const car_buffer_t input = MPI_IN_PLACE == sbuf ? output : car_buffer_look(cuda, sbuf);
        if (needs_bounce(&input) || needs_bounce(&output)) {
            return bounced(module, cuda, MPI_IN_PLACE == sbuf ? NULL : &input, &output, count,
                           dtype, op, request);
        }
    }
    return module->saved.iallreduce.function(sbuf, rbuf, count, dtype, op, module->comm, request,
                                             module->saved.iallreduce.module);
}

/*
 * Ranks often make a call at about the same time. A rank that looks for its peers a moment longer
 * can then launch at once, and not only when it comes back to MPI; where it has looked in vain it
 * does not for a while.
 */
#define LOOK_NS 1500
#define LOOK_NS_MOST 6000 /* for calls that take ten times as long */
#define LOOK_BYTES_PER_NS 4096
#define LOOK_SCORE_MOST 8

static void look_for_peers(mca_coll_car_module_t *module, const coll_car_request_t *request)
{
    const uint64_t more =
        LOOK_NS + request->op.count * request->op.reduction.element / LOOK_BYTES_PER_NS;
    const long most = more < LOOK_NS_MOST ? (long) more : LOOK_NS_MOST;
    struct timespec start, now;

    if (module->look_score < 0) {
        ++module->look_score;
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        (void) coll_car_poll();
        if (CAR_PATH_UNDECIDED != __atomic_load_n(&request->op.path, __ATOMIC_RELAXED)) {
            module->look_score += module->look_score < LOOK_SCORE_MOST ? 1 : 0;
            return;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < most);
    module->look_score = module->look_score > 1 ? module->look_score / 2 : -LOOK_SCORE_MOST;
}

/*
 * The others have made this call, or will: they go through the states with this rank, and hear that
 * it is not coming.
 */
static int without_memory(mca_coll_car_module_t *module)
{
    coll_car_lock();
    if (COLL_CAR_ASLEEP == module->state && !module->wake.under_way) {
        coll_car_wake_begin(module);
    }
    module->behind = true;
    coll_car_fail_alone(module, "no host memory for a request");
    coll_car_make_busy(module);
    coll_car_unlock();
    return OMPI_ERR_OUT_OF_RESOURCE;
}

static int queued(mca_coll_car_module_t *module, const void *sbuf, void *rbuf,
                  coll_car_count_t count, struct ompi_op_t *op, const coll_car_reduction_t *found,
                  struct ompi_request_t **result)
{
    const bool in_place = MPI_IN_PLACE == sbuf || sbuf == rbuf;
    const car_cuda_t *cuda = car_cuda();
    coll_car_request_t *request = coll_car_request_new(module, false);

    if (NULL == request) {
        return without_memory(module);
    }
    request->how = COLL_CAR_QUEUED;
    request->fold = (coll_car_fold_t){op, found->one, found->reduction.element};
    request->op.output = car_buffer_look(cuda, rbuf);
    request->op.input = in_place ? request->op.output : car_buffer_look(cuda, sbuf);
    request->op.count = (uint64_t) count * found->per_element;
    request->op.reduction = found->reduction;
    request->op.fold = coll_car_fold;
    request->op.fold_context = &request->fold;
    request->op.call = 0;
    coll_car_lock();
    if (COLL_CAR_ASLEEP == module->state && !module->wake.under_way) {
        coll_car_wake_begin(module);
    }
    module->behind = true;
    car_lane_enter(&module->queue, &request->op);
    coll_car_make_busy(module);
    const bool active = COLL_CAR_ACTIVE == module->state;
    coll_car_unlock();
    *result = &request->super.super;
    /* Whatever can begin begins now: the caller may not come back for long. */
    (void) coll_car_poll();
    if (active) {
        look_for_peers(module, request);
    }
    return OMPI_SUCCESS;
}

int mca_coll_car_iallreduce(const void *sbuf, void *rbuf, coll_car_count_t count,
                            struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                            struct ompi_communicator_t *comm, struct ompi_request_t **request,
                            mca_coll_base_module_t *base)
{
    mca_coll_car_module_t *module = (mca_coll_car_module_t *) base;
    coll_car_reduction_t found;
    bool known;

    (void) comm;
    CAR_COUNT(mca_coll_car_component.counters.calls_nonblocking, 1);
    if (0 == count || coll_car_may_be_internal(count, dtype, op)
        || (module->firm && COLL_CAR_OFF == module->state)
        || !coll_car_find_reduction(dtype, op, &found, &known)) {
        return forward(module, sbuf, rbuf, count, dtype, op, request);
    }
    /* Whether all ranks have libcar is known to all only where a blocking call has come between. */
    if (found.ready_made && (!module->firm || !module->ready_made || !known)) {
        return forward(module, sbuf, rbuf, count, dtype, op, request);
    }
    if (coll_car_is_broken(module)) {
        return coll_car_error(module);
    }
    return queued(module, sbuf, rbuf, count, op, &found, request);
}
