#include "coll_car_module.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "coll_car_types.h"

#define COLL_CAR_RANKS_MIN 2

static int enable(mca_coll_base_module_t *base, struct ompi_communicator_t *comm)
{
    mca_coll_car_module_t *module = (mca_coll_car_module_t *) base;

    module->comm = comm;
    return coll_car_take_allreduce(comm, base, mca_coll_car_allreduce, &module->saved);
}

static int disable(mca_coll_base_module_t *base, struct ompi_communicator_t *comm)
{
    coll_car_return_allreduce(comm, base, &((mca_coll_car_module_t *) base)->saved);
    return OMPI_SUCCESS;
}

static void construct(mca_coll_car_module_t *module)
{
    memset(module->spare, 0, sizeof(*module) - offsetof(mca_coll_car_module_t, spare));
    module->state = COLL_CAR_ASLEEP;
}

static void destruct(mca_coll_car_module_t *module)
{
    /* While MPI finalizes, the application may have shut CUDA down already: what we hold ends with the process. */
    const bool alive = !coll_car_finalizing();

    if (NULL != module->engine) {
        car_comm_destroy(module->engine, alive);
    } else if (NULL != module->control) {
        car_control_detach(module->control);
    }
    coll_car_drop_allreduce(&module->saved);
}

OBJ_CLASS_INSTANCE(mca_coll_car_module_t, mca_coll_base_module_t, construct, destruct);

mca_coll_base_module_t *mca_coll_car_comm_query(struct ompi_communicator_t *comm, int *priority)
{
    const int size = ompi_comm_size(comm);

    *priority = mca_coll_car_component.priority;
    if (*priority < 0 || OMPI_COMM_IS_INTER(comm) || size < COLL_CAR_RANKS_MIN || size > CAR_MAX_RANKS
        || ompi_group_have_remote_peers(comm->c_local_group)) {
        return NULL;
    }
    mca_coll_car_module_t *module = OBJ_NEW(mca_coll_car_module_t);
    if (NULL == module) {
        return NULL;
    }
    module->super.coll_module_enable = enable;
    module->super.coll_module_disable = disable;
    coll_car_offer_allreduce(&module->super, mca_coll_car_allreduce);
    return &module->super;
}

/* --- what the user is told ----------------------------------------------------------------------------------- */

static const char *name_of(const mca_coll_car_module_t *module, char text[80])
{
    const char *name = coll_car_comm_name(module->comm);

    if ('\0' != *name) {
        snprintf(text, 80, "%s (%d ranks)", name, ompi_comm_size(module->comm));
    } else {
        snprintf(text, 80, "communicator %u (%d ranks)", coll_car_comm_number(module->comm),
                 ompi_comm_size(module->comm));
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
        coll_car_say("%s: in use: %d GPU%s (rank 0: %s), %s, %zu KB of %zu MB device memory per rank, "
                     "%u blocks of %u threads, algorithm %s",
                     name_of(module, name), engine->gpus, 1 == engine->gpus ? "" : "s", engine->device->name,
                     car_link_name(engine->worst_link), engine->piece_bytes >> 10, engine->device->arena.bytes >> 20,
                     engine->limits.blocks, engine->limits.threads,
                     car_algorithm_name((car_algorithm_t) engine->limits.algorithm));
    }
}

/* A fault is told once per process whatever the verbosity; what is by choice, only to those who ask. */
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
    coll_car_say("%s: not in use: %s. MPI_Allreduce goes the way it would without coll/car", name_of(module, name), why);
}

/* --- transitions --------------------------------------------------------------------------------------------- */

static int allgather(mca_coll_car_module_t *module, const void *mine, void *all, int bytes)
{
    struct ompi_communicator_t *comm = module->comm;

    return comm->c_coll->coll_allgather(mine, bytes, MPI_BYTE, all, bytes, MPI_BYTE, comm,
                                        comm->c_coll->coll_allgather_module);
}

/* Makes the control segment and maps it on all ranks; *error is the first error of any, 0 if it stands. */
static int make_control(mca_coll_car_module_t *module, int *error)
{
    const int rank = ompi_comm_rank(module->comm), size = ompi_comm_size(module->comm);
    char names[CAR_MAX_RANKS][CAR_CONTROL_NAME_BYTES] = {{0}}, name[CAR_CONTROL_NAME_BYTES] = {0};
    int errors[CAR_MAX_RANKS];

    int mine = 0 == rank ? car_control_create(size, name) : 0;
    int rc = allgather(module, name, names, CAR_CONTROL_NAME_BYTES);
    if (OMPI_SUCCESS == rc) {
        if (0 == mine) {
            names[0][CAR_CONTROL_NAME_BYTES - 1] = '\0';
            mine = car_control_attach(names[0], rank, size, &module->control);
        }
        rc = allgather(module, &mine, errors, sizeof(mine));
    }
    if ('\0' != name[0]) {
        car_control_unlink(name);
    }
    *error = 0;
    for (int r = 0; OMPI_SUCCESS == rc && r < size && 0 == *error; ++r) {
        *error = errors[r];
    }
    if ((OMPI_SUCCESS != rc || 0 != *error) && NULL != module->control) {
        car_control_detach(module->control);
        module->control = NULL;
    }
    return rc;
}

int coll_car_wake(mca_coll_car_module_t *module)
{
    const int size = ompi_comm_size(module->comm);
    struct {
        uint32_t host_max;
        char possible, ready_made;
    } mine = {mca_coll_car_component.params.host_max, !car_cuda_impossible(), coll_car_has_ready_made()};
    __typeof__(mine) all[CAR_MAX_RANKS];
    bool any = false;
    int error;

    int rc = allgather(module, &mine, all, sizeof(mine));
    if (OMPI_SUCCESS != rc) {
        return rc;
    }
    module->ready_made = true;
    module->host_max = all[0].host_max;
    for (int r = 0; r < size; ++r) {
        any = any || all[r].possible;
        module->ready_made = module->ready_made && all[r].ready_made;
    }
    if (!any) {
        module->no_device_memory = true;
        module->state = COLL_CAR_OFF;
        tell_off(module, false, "no rank's node has an NVIDIA driver");
        return OMPI_SUCCESS;
    }
    rc = make_control(module, &error);
    if (OMPI_SUCCESS == rc) {
        module->state = 0 == error ? COLL_CAR_WATCHING : COLL_CAR_OFF;
        if (0 != error) {
            tell_off(module, true, "no shared memory segment could be made in /dev/shm: %s", strerror(error));
        }
    }
    return rc;
}

void coll_car_activate(mca_coll_car_module_t *module, CUdeviceptr buffer)
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

    module->engine = car_comm_create(&config, &failure);
    if (NULL != module->engine) {
        module->state = COLL_CAR_ACTIVE;
        tell_active(module);
    } else {
        module->state = COLL_CAR_OFF;
        tell_off(module, !failure.by_choice, "rank %d: %s", failure.rank, failure.reason);
    }
    module->control = NULL;
}

void coll_car_break(mca_coll_car_module_t *module, const char *reason)
{
    char name[80];

    module->state = COLL_CAR_BROKEN;
    coll_car_say("%s: MPI_Allreduce failed on rank %d: %s. The communicator can no longer be used for MPI_Allreduce",
                 name_of(module, name), ompi_comm_rank(module->comm), reason);
}
