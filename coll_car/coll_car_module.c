#include "coll_car_module.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "car_free_events.h"
#include "coll_car_progress.h"
#include "coll_car_types.h"

#define COLL_CAR_RANKS_MIN 2

static const coll_car_ours_t ours = {.allreduce = mca_coll_car_allreduce,
                                     .iallreduce = mca_coll_car_iallreduce,
                                     .allreduce_init = mca_coll_car_allreduce_init};

static int enable(mca_coll_base_module_t *base, struct ompi_communicator_t *comm)
{
    mca_coll_car_module_t *module = (mca_coll_car_module_t *) base;

    module->comm = comm;
    return coll_car_take(comm, base, &ours, &module->saved);
}

static int disable(mca_coll_base_module_t *base, struct ompi_communicator_t *comm)
{
    coll_car_return(comm, base, &((mca_coll_car_module_t *) base)->saved);
    return OMPI_SUCCESS;
}

static void construct(mca_coll_car_module_t *module)
{
    memset(module->spare, 0, sizeof(*module) - offsetof(mca_coll_car_module_t, spare));
    module->state = COLL_CAR_ASLEEP;
}

static void destruct(mca_coll_car_module_t *module)
{
    /*
     * While MPI finalizes, the application may have shut CUDA down already: what we hold ends with
     * the process.
     */
    const bool alive = !coll_car_finalizing();

    coll_car_idle(module);
    if (NULL != module->engine) {
        car_free_events_unwatch(module->engine);
        car_lane_close(&module->queue, alive);
        car_lane_close(&module->calls, alive);
        car_comm_destroy(module->engine, alive, module->queue.piece_offset);
    } else if (NULL != module->control) {
        car_control_detach(module->control);
    }
    car_setup_free(module->setup);
    coll_car_drop(&module->saved);
}

OBJ_CLASS_INSTANCE(mca_coll_car_module_t, mca_coll_base_module_t, construct, destruct);

/*
 * A rank that declined for want of memory would leave its peers waiting for it: there is one more
 * than is needed.
 */
static mca_coll_car_module_t *reserve;

void coll_car_modules_close(void)
{
    if (NULL != reserve) {
        OBJ_RELEASE(reserve);
    }
    reserve = NULL;
}

static mca_coll_car_module_t *new_module(void)
{
    coll_car_lock();
    mca_coll_car_module_t *module = OBJ_NEW(mca_coll_car_module_t);
    if (NULL == module) {
        module = reserve;
        reserve = NULL;
    } else if (NULL == reserve) {
        reserve = OBJ_NEW(mca_coll_car_module_t);
    }
    coll_car_unlock();
    return module;
}

/* --- what the user is told -------------------------------------------------------------------- */

static const char *name_of(struct ompi_communicator_t *comm, char text[80])
{
    const char *name = coll_car_comm_name(comm);

    if ('\0' != *name) {
        snprintf(text, 80, "%s (%d ranks)", name, ompi_comm_size(comm));
    } else {
        snprintf(text, 80, "communicator %u (%d ranks)", coll_car_comm_number(comm),
                 ompi_comm_size(comm));
    }
    return text;
}

/* One rank speaks for all. */
static bool speaks(const mca_coll_car_module_t *module)
{
    return 0 == ompi_comm_rank(module->comm);
}

static void tell_active(const mca_coll_car_module_t *module)
{
    const car_comm_t *engine = module->engine;
    char name[80];

    if (speaks(module) && mca_coll_car_component.verbose > 0) {
        coll_car_say(
            "%s: in use: %d GPU%s (rank 0: %s), %s, %zu KB of %zu MB device memory per rank, "
            "%u blocks of %u threads, algorithm %s, %s launches",
            name_of(module->comm, name), engine->gpus, 1 == engine->gpus ? "" : "s",
            engine->device->name, car_link_name(engine->worst_link), engine->piece_bytes >> 10,
            engine->device->arena.bytes >> 20, engine->limits.blocks, engine->limits.threads,
            car_algorithm_name((car_algorithm_t) engine->limits.algorithm),
            CAR_LAUNCH_PLAIN == engine->launch ? "plain" : "graph");
    }
}

/* What the sizes of its messages lead to, and that ranks would not agree on that by themselves. */
static void tell_thresholds(const mca_coll_car_module_t *module)
{
    static atomic_bool told;
    const car_comm_t *engine = module->engine;
    char name[80], text[CAR_THRESHOLDS_TEXT_BYTES];

    if (!speaks(module)) {
        return;
    }
    if (mca_coll_car_component.verbose > 1) {
        car_thresholds_text(&engine->thresholds, text);
        coll_car_say("%s: thresholds in bytes of sm_%d, %s, %d ranks: %s",
                     name_of(module->comm, name), engine->generation,
                     car_sharing_name(1 == engine->gpus ? CAR_ONE_GPU : CAR_SEVERAL_GPUS),
                     engine->size, text);
    }
    if (engine->thresholds_differ && !atomic_exchange(&told, true)) {
        coll_car_say("%s: its ranks have different thresholds (parameters coll_car_push_max and "
                     "the like, the file of coll_car_tune_file, or other GPUs); those of its rank "
                     "0 hold on all. Give all ranks the same",
                     name_of(module->comm, name));
    }
}

/*
 * Once on a node, whatever the verbosity: it is the one thing that a user can do about it. To those
 * who ask, by one rank of each communicator's.
 */
static void hint_at_mps(const mca_coll_car_module_t *module)
{
    static atomic_bool told;

    const bool says = coll_car_speaks_for_node()
                      || (speaks(module) && mca_coll_car_component.verbose > 0);
    /* Where the user has asked for it, they may have a GPU each. */
    const bool found = CAR_TWO_PHASE_AUTO == mca_coll_car_component.params.two_phase;

    if (says && found && module->engine->takes_turns && !atomic_exchange(&told, true)) {
        coll_car_say("ranks share a GPU without MPS: their kernels take turns on it, and calls "
                     "whose buffers have to be staged wait for time slices, as the program's own "
                     "kernels do. Under MPS they would run side by side: nvidia-cuda-mps-control "
                     "-d, before mpirun");
    }
}

/*
 * A fault is told once per process whatever the verbosity; what is by choice, only to those who
 * ask.
 */
static void tell_off(const mca_coll_car_module_t *module, bool fault, const char *format, ...)
{
    static atomic_bool told;
    char name[80], why[CAR_REASON_BYTES + 64];
    va_list arguments;

    if (!speaks(module) || (mca_coll_car_component.verbose <= 0 && !fault)) {
        return;
    }
    if (fault && atomic_exchange(&told, true) && mca_coll_car_component.verbose <= 0) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    coll_car_say("%s: not in use: %s. MPI_Allreduce goes the way it would without coll/car",
                 name_of(module->comm, name), why);
}

/* For the engine: tells the user of something about the communicator. */
static void say(void *owner, const char *text)
{
    char name[80];

    coll_car_say("%s: %s", name_of(((const mca_coll_car_module_t *) owner)->comm, name), text);
}

/* For the engine, while it waits: what MPI knows of the communicator. */
static car_fault_t look(void *owner)
{
    const mca_coll_car_module_t *module = owner;

    switch (coll_car_comm_state(module->comm)) {
    case COLL_CAR_COMM_REVOKED:
        return CAR_FAULT_REVOKED;
    case COLL_CAR_COMM_FAILED:
        return CAR_FAULT_DIED;
    default:
        return CAR_FAULT_NONE;
    }
}

static void set_hooks(mca_coll_car_module_t *module)
{
    const car_control_hooks_t hooks = {.say = say,
                                       .look = look,
                                       .owner = module,
                                       .verbose = mca_coll_car_component.verbose > 0,
                                       .warn_after = mca_coll_car_component.params.warn_after,
                                       .timeout = mca_coll_car_component.params.timeout};

    car_control_set_hooks(module->control, &hooks);
}

/* --- Open MPI asks for a module --------------------------------------------------------------- */

/* Why the communicator is none for coll/car, in words, or NULL. */
static const char *why_not(struct ompi_communicator_t *comm)
{
    const int size = ompi_comm_size(comm);

    if (mca_coll_car_component.priority < 0) {
        return "coll_car_priority is negative";
    }
    if (OMPI_COMM_IS_INTER(comm)) {
        return "it is an intercommunicator";
    }
    if (ompi_group_have_remote_peers(comm->c_local_group)) {
        return "it spans nodes; one of MPI_Comm_split_type with MPI_COMM_TYPE_SHARED does not";
    }
    return size > CAR_MAX_RANKS ? "it has more than 16 ranks" : NULL;
}

_Static_assert(16 == CAR_MAX_RANKS, "in the words above");

mca_coll_base_module_t *mca_coll_car_comm_query(struct ompi_communicator_t *comm, int *priority)
{
    *priority = mca_coll_car_component.priority;
    if (ompi_comm_size(comm) < COLL_CAR_RANKS_MIN && !OMPI_COMM_IS_INTER(comm)) {
        return NULL; /* nobody expects it there */
    }
    const char *why = why_not(comm);
    if (NULL != why) {
        if (mca_coll_car_component.verbose > 0 && 0 == ompi_comm_rank(comm)) {
            char name[80];
            coll_car_say("%s: not in use: %s", name_of(comm, name), why);
        }
        return NULL;
    }
    mca_coll_car_module_t *module = new_module();
    if (NULL == module) {
        return NULL;
    }
    module->super.coll_module_enable = enable;
    module->super.coll_module_disable = disable;
    coll_car_offer(&module->super, &ours);
    return &module->super;
}

/* --- transitions ------------------------------------------------------------------------------ */

static int allgather(mca_coll_car_module_t *module, const void *mine, void *all, int bytes)
{
    struct ompi_communicator_t *comm = module->comm;

    return comm->c_coll->coll_allgather(mine, bytes, MPI_BYTE, all, bytes, MPI_BYTE, comm,
                                        comm->c_coll->coll_allgather_module);
}

void coll_car_say_hello(mca_coll_car_module_t *module, coll_car_hello_t *mine, bool with_segment)
{
    *mine = (coll_car_hello_t){.host_max = mca_coll_car_component.params.host_max,
                               .possible = !car_cuda_impossible(),
                               .ready_made = coll_car_has_ready_made(),
                               .place.fd = -1};
    if (with_segment && 0 == ompi_comm_rank(module->comm)) {
        mine->error = car_control_create(ompi_comm_size(module->comm), &mine->place);
    }
}

void coll_car_hear_hello(mca_coll_car_module_t *module, const coll_car_hello_t all[CAR_MAX_RANKS])
{
    bool any = false;

    module->ready_made = true;
    module->host_max = all[0].host_max;
    for (int r = 0; r < ompi_comm_size(module->comm); ++r) {
        any = any || all[r].possible;
        module->ready_made = module->ready_made && all[r].ready_made;
    }
    module->no_device_memory = !any;
}

int coll_car_map_control(mca_coll_car_module_t *module, const coll_car_hello_t *hello)
{
    if (0 != hello->error || NULL != module->control) {
        return hello->error;
    }
    if (NULL == module->setup && NULL == (module->setup = car_setup_new())) {
        return ENOMEM;
    }
    const int error = car_control_attach(&hello->place, ompi_comm_rank(module->comm),
                                         ompi_comm_size(module->comm), &module->control);
    if (0 == error) {
        set_hooks(module);
    }
    return error;
}

int coll_car_first_error(const mca_coll_car_module_t *module, const int errors[CAR_MAX_RANKS],
                         const coll_car_hello_t *hello, bool *again)
{
    int error = 0;

    /* After EIO, messages have failed: there is no use in more. */
    for (int r = 0; r < ompi_comm_size(module->comm) && EIO != error; ++r) {
        error = 0 == error || EIO == errors[r] ? errors[r] : error;
    }
    *again = 0 != error && EIO != error && 0 == hello->error && !hello->place.named;
    return error;
}

void coll_car_name_control(mca_coll_car_module_t *module, coll_car_hello_t *mine)
{
    if (0 == ompi_comm_rank(module->comm)) {
        mine->error = car_control_give_name(&mine->place);
    }
}

/* A lane asks for device memory. */
static car_attach_t attach(car_lane_t *lane, const car_call_t *op)
{
    mca_coll_car_module_t *module = lane->owner;
    const car_buffer_t *buffer = CAR_MEMORY_HOST != op->input.memory ? &op->input : &op->output;

    if (COLL_CAR_WATCHING == module->state
        && !coll_car_activate_poll(module, CAR_MEMORY_HOST != buffer->memory
                                               ? (CUdeviceptr) (uintptr_t) buffer->address
                                               : 0)) {
        return CAR_ATTACH_WAIT;
    }
    return COLL_CAR_ACTIVE == module->state ? CAR_ATTACH_DONE : CAR_ATTACH_NEVER;
}

/* The queue may hold calls already: those that were made meanwhile. */
static void open_lanes(mca_coll_car_module_t *module)
{
    const int rank = ompi_comm_rank(module->comm), size = ompi_comm_size(module->comm);

    if (NULL == module->queue.owner) {
        car_lane_init(&module->queue, CAR_LANE_QUEUE, true, module->control, rank, size, NULL);
    }
    car_lane_init(&module->calls, CAR_LANE_CALL, true, module->control, rank, size, NULL);
    module->queue.control = module->control;
    module->queue.attach = module->calls.attach = attach;
    module->queue.owner = module->calls.owner = module;
}

void coll_car_have_control(mca_coll_car_module_t *module, int error)
{
    if (0 != error) {
        if (NULL != module->control) {
            car_control_detach(module->control);
            module->control = NULL;
        }
        module->state = module->doomed ? COLL_CAR_BROKEN : COLL_CAR_OFF;
        tell_off(module, true,
                 ENOENT == error
                     ? "the ranks do not see the same /dev/shm (in containers: --ipc=host): %s"
                     : "no shared memory segment could be made in /dev/shm: %s",
                 strerror(error));
        return;
    }
    open_lanes(module);
    if (module->doomed) {
        coll_car_fail_alone(module, "a call was not made");
    }
    module->state = module->no_device_memory ? COLL_CAR_OFF : COLL_CAR_WATCHING;
    if (module->no_device_memory) {
        tell_off(module, false, "no rank's node has an NVIDIA driver");
    }
}

/* Makes the control segment and maps it on all ranks. */
static int make_control(mca_coll_car_module_t *module)
{
    coll_car_hello_t mine, all[CAR_MAX_RANKS];
    int error = 0, errors[CAR_MAX_RANKS], rc;
    bool again;

    coll_car_say_hello(module, &mine, true);
    do {
        again = false;
        rc = allgather(module, &mine, all, sizeof(mine));
        if (OMPI_SUCCESS == rc) {
            error = coll_car_map_control(module, &all[0]);
            rc = allgather(module, &error, errors, sizeof(error));
        }
        if (OMPI_SUCCESS == rc) {
            error = coll_car_first_error(module, errors, &all[0], &again);
        }
        if (again) {
            coll_car_name_control(module, &mine);
        }
    } while (again);
    car_control_close(&mine.place);
    if (OMPI_SUCCESS == rc) {
        coll_car_have_control(module, error);
    } else {
        coll_car_lose_peers(module);
    }
    return rc;
}

int coll_car_wake(mca_coll_car_module_t *module)
{
    coll_car_hello_t mine, all[CAR_MAX_RANKS];

    coll_car_say_hello(module, &mine, false);
    const int rc = allgather(module, &mine, all, sizeof(mine));
    if (OMPI_SUCCESS != rc) {
        return rc;
    }
    coll_car_hear_hello(module, all);
    if (module->no_device_memory) {
        module->state = COLL_CAR_OFF;
        tell_off(module, false, "no rank's node has an NVIDIA driver");
        return OMPI_SUCCESS;
    }
    return make_control(module);
}

bool coll_car_activate_poll(mca_coll_car_module_t *module, CUdeviceptr buffer)
{
    const car_comm_config_t config = {.rank = ompi_comm_rank(module->comm),
                                      .size = ompi_comm_size(module->comm),
                                      .node_processes = coll_car_node_processes(),
                                      .buffer = buffer,
                                      .control = module->control,
                                      .params = &mca_coll_car_component.params,
                                      .counters = &mca_coll_car_component.counters,
                                      .progress = coll_car_progress};
    car_failure_t failure;

    if (!module->setting_up) {
        module->setting_up = true;
        car_setup_begin(module->setup, &config);
    }
    switch (car_setup_poll(module->setup, &module->engine, &failure)) {
    case CAR_SETUP_UNDER_WAY:
        return false;
    case CAR_SETUP_DONE:
        module->state = COLL_CAR_ACTIVE;
        module->queue.comm = module->calls.comm = module->engine;
        car_lane_use_home(&module->queue);
        if (car_free_events_watch(module->engine, &module->queue, &module->calls)) {
            coll_car_hear_frees();
        }
        tell_active(module);
        tell_thresholds(module);
        hint_at_mps(module);
        break;
    case CAR_SETUP_BROKEN:
        module->state = COLL_CAR_BROKEN;
        break;
    default:
        module->state = COLL_CAR_OFF;
        tell_off(module, !failure.by_choice, "rank %d: %s", failure.rank, failure.reason);
        break;
    }
    car_setup_free(module->setup);
    module->setup = NULL;
    return true;
}

void coll_car_activate(mca_coll_car_module_t *module, CUdeviceptr buffer)
{
    car_watch_t watch = {0};

    for (;;) {
        coll_car_lock();
        const bool ended = coll_car_activate_poll(module, buffer);
        coll_car_unlock();
        if (ended) {
            return;
        }
        coll_car_progress();
        if (car_watch_due(&watch)) {
            const car_wait_t wait = {CAR_WAIT_TOGETHER, car_control_exchanges(module->control),
                                     "set-up", car_control_exchange_missing(module->control), 0};
            (void) car_watch_ask(&watch, module->control, &wait);
        }
    }
}

void coll_car_catch_up(mca_coll_car_module_t *module)
{
    for (;;) {
        coll_car_lock();
        const bool caught_up = !module->wake.under_way && car_lane_decided(&module->queue);
        coll_car_unlock();
        if (caught_up) {
            break;
        }
        coll_car_progress();
    }
    module->behind = false;
    module->firm = true;
}

/* --- faults ----------------------------------------------------------------------------------- */

void coll_car_lose_peers(mca_coll_car_module_t *module)
{
    const car_fault_t fault = look(module);

    if (NULL != module->control) {
        car_control_break(module->control, CAR_FAULT_NONE == fault ? CAR_FAULT_DRIVER : fault,
                          "a message to or from a process of the communicator has failed");
    }
    module->state = COLL_CAR_BROKEN;
    module->queue.broken = true;
}

void coll_car_fail_alone(mca_coll_car_module_t *module, const char *what)
{
    char reason[CAR_REASON_BYTES];

    if (NULL != module->control) {
        snprintf(reason, sizeof(reason), "rank %d: %s", ompi_comm_rank(module->comm), what);
        car_control_break(module->control, CAR_FAULT_DRIVER, reason);
    } else if (COLL_CAR_OFF == module->state) {
        module->state = COLL_CAR_BROKEN;
        module->queue.broken = true;
    } else {
        module->doomed = true;
    }
}

/* The call is made in any case, as the others wait for this rank in it. */
void coll_car_spoil(mca_coll_car_module_t *module)
{
    char reason[CAR_REASON_BYTES];

    if (NULL != module->control) {
        snprintf(reason, sizeof(reason),
                 "rank %d: copying a device buffer failed in a call that coll/car leaves to others",
                 ompi_comm_rank(module->comm));
        car_control_spoil(module->control, reason);
    }
}

bool coll_car_is_spoiled(const mca_coll_car_module_t *module)
{
    return NULL != module->control && OPAL_UNLIKELY(car_control_spoiled(module->control));
}

bool coll_car_is_broken(mca_coll_car_module_t *module)
{
    if (NULL != module->control && OPAL_UNLIKELY(car_control_broken(module->control) >= 0)
        && (COLL_CAR_ACTIVE == module->state || COLL_CAR_WATCHING == module->state)) {
        module->state = COLL_CAR_BROKEN;
    }
    return COLL_CAR_BROKEN == module->state;
}

int coll_car_error(mca_coll_car_module_t *module)
{
    switch (NULL == module->control ? look(module) : car_control_fault(module->control)) {
    case CAR_FAULT_DIED:
        return coll_car_error_proc_failed();
    case CAR_FAULT_REVOKED:
        return coll_car_error_revoked();
    default:
        return OMPI_ERROR;
    }
}
