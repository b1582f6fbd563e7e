/*
 * Open MPI as coll/car sees it: the one file that includes its headers and knows its versions.
 *
 * What changes from version to version is asked of the headers themselves (the collective
 * interface's own version macro), not of Open MPI's version number: forks and snapshots then find
 * their place too. Versions: 4.1, 5.0, 6.
 */
#ifndef COLL_CAR_COMPAT_H
#define COLL_CAR_COMPAT_H

#include "ompi_config.h"

#include <string.h>

#include "mpi.h"

#include "ompi/communicator/communicator.h"
#include "ompi/constants.h"
#include "ompi/datatype/ompi_datatype.h"
#include "ompi/datatype/ompi_datatype_internal.h"
#include "ompi/group/group.h"
#include "ompi/mca/coll/base/base.h"
#include "ompi/mca/coll/base/coll_base_util.h"
#include "ompi/mca/coll/coll.h"
#include "ompi/mca/pml/pml.h"
#include "ompi/op/op.h"
#include "ompi/proc/proc.h"
#include "ompi/request/request.h"
#include "ompi/runtime/mpiruntime.h"
#include "ompi/runtime/params.h"
#include "opal/class/opal_list.h"
#include "opal/class/opal_object.h"
#include "opal/mca/base/mca_base_component_repository.h"
#include "opal/mca/base/mca_base_framework.h"
#include "opal/mca/base/mca_base_pvar.h"
#include "opal/mca/base/mca_base_var.h"
#include "opal/mca/base/mca_base_var_enum.h"
#include "opal/runtime/opal_progress.h"
#include "opal/util/output.h"
#include "opal/util/proc.h"

/*
 * COLL_CAR_BASE_VERSION opens collm_version; selection takes a component only if it is the
 * library's own. coll_car_count_t is the type of the element count of an allreduce.
 * COLL_CAR_BASE_FILLS_SLOTS: the base copies a module's functions into the communicator, and calls
 * disable once for each slot; from 6 on the module does the former itself, and disable comes once.
 */
#if defined(MCA_COLL_BASE_VERSION_3_0_0)
#define COLL_CAR_BASE_VERSION MCA_COLL_BASE_VERSION_3_0_0
#define COLL_CAR_BASE_FILLS_SLOTS 0
typedef size_t coll_car_count_t;
#elif defined(MCA_COLL_BASE_VERSION_2_4_0)
#define COLL_CAR_BASE_VERSION MCA_COLL_BASE_VERSION_2_4_0
#define COLL_CAR_BASE_FILLS_SLOTS 1
typedef int coll_car_count_t;
#elif defined(MCA_COLL_BASE_VERSION_2_0_0)
#define COLL_CAR_BASE_VERSION MCA_COLL_BASE_VERSION_2_0_0
#define COLL_CAR_BASE_FILLS_SLOTS 1
typedef int coll_car_count_t;
#else
#error "coll/car does not know the collective interface of this Open MPI (4.1, 5.0, 6 are known)"
#endif

/* Whether this Open MPI has numbers for the 16-bit float of C, from 5.0 on. */
#if defined(MCA_COLL_BASE_VERSION_2_4_0) || defined(MCA_COLL_BASE_VERSION_3_0_0)
#define COLL_CAR_HAVE_SHORT_FLOAT 1
#else
#define COLL_CAR_HAVE_SHORT_FLOAT 0
#endif

/*
 * Bytes that a module structure keeps free behind its `super`: the library's base constructor
 * clears a module of the library's own size, which a later release may have enlarged (5.0.10 did).
 */
#define COLL_CAR_MODULE_SPARE 64

/* The collectives of coll/car: X(slot). */
#define COLL_CAR_SLOTS(X) X(allreduce) X(iallreduce) X(allreduce_init)

/* What served them on a communicator before coll/car did. All zero: nothing saved. */
#define COLL_CAR_SAVED(slot)                                                                       \
    typedef struct {                                                                               \
        mca_coll_base_module_##slot##_fn_t function;                                               \
        mca_coll_base_module_t *module;                                                            \
        const char *component; /* whose module that is, by name; never NULL once saved */          \
    } coll_car_saved_##slot##_t;
COLL_CAR_SLOTS(COLL_CAR_SAVED)
#undef COLL_CAR_SAVED

typedef struct {
#define COLL_CAR_SAVED(slot) coll_car_saved_##slot##_t slot;
    COLL_CAR_SLOTS(COLL_CAR_SAVED)
#undef COLL_CAR_SAVED
} coll_car_saved_t;

/* coll/car's own functions for them. */
typedef struct {
#define COLL_CAR_OURS(slot) mca_coll_base_module_##slot##_fn_t slot;
    COLL_CAR_SLOTS(COLL_CAR_OURS)
#undef COLL_CAR_OURS
} coll_car_ours_t;

/*
 * The slots of a communicator, in the order of a module's life:
 *   comm_query   coll_car_offer
 *   enable       coll_car_take
 *   disable      coll_car_return; comes 0, 1 or more times, only the first does anything
 *   destructor   coll_car_drop
 * In between a saved function is called as saved.SLOT.function(..., comm, saved.SLOT.module).
 */
static inline void coll_car_offer(mca_coll_base_module_t *module, const coll_car_ours_t *ours)
{
#if COLL_CAR_BASE_FILLS_SLOTS
#define COLL_CAR_OFFER(slot) module->coll_##slot = ours->slot;
    COLL_CAR_SLOTS(COLL_CAR_OFFER)
#undef COLL_CAR_OFFER
#else
    (void) module;
    (void) ours;
#endif
}

/*
 * The name of the component whose module this is, among those enabled on the communicator so far.
 */
static inline const char *coll_car_component_of(struct ompi_communicator_t *comm,
                                                const mca_coll_base_module_t *module)
{
    mca_coll_base_avail_coll_t *item;

    if (NULL != comm->c_coll->module_list) {
        OPAL_LIST_FOREACH(item, comm->c_coll->module_list, mca_coll_base_avail_coll_t) {
            if (item->ac_module == module && NULL != item->ac_component_name) {
                return item->ac_component_name;
            }
        }
    }
    return "unknown";
}

/*
 * Saves what holds the slots and takes them. OMPI_ERR_NOT_FOUND, nothing changed, where one is
 * empty.
 */
static inline int coll_car_take(struct ompi_communicator_t *comm, mca_coll_base_module_t *module,
                                const coll_car_ours_t *ours, coll_car_saved_t *saved)
{
#define COLL_CAR_IS_EMPTY(slot)                                                                    \
    if (NULL == comm->c_coll->coll_##slot || NULL == comm->c_coll->coll_##slot##_module) {         \
        return OMPI_ERR_NOT_FOUND;                                                                 \
    }
    COLL_CAR_SLOTS(COLL_CAR_IS_EMPTY)
#undef COLL_CAR_IS_EMPTY
#define COLL_CAR_SAVE(slot)                                                                        \
    saved->slot.function = comm->c_coll->coll_##slot;                                              \
    saved->slot.module = comm->c_coll->coll_##slot##_module;                                       \
    saved->slot.component = coll_car_component_of(comm, saved->slot.module);
    COLL_CAR_SLOTS(COLL_CAR_SAVE)
#undef COLL_CAR_SAVE
#if COLL_CAR_BASE_FILLS_SLOTS
    (void) module;
    (void) ours;
    /* The base releases the modules below us when ours replaces them. */
#define COLL_CAR_KEEP(slot) OBJ_RETAIN(saved->slot.module);
#else
#define COLL_CAR_KEEP(slot)                                                                        \
    comm->c_coll->coll_##slot = ours->slot;                                                        \
    comm->c_coll->coll_##slot##_module = module;
#endif
    COLL_CAR_SLOTS(COLL_CAR_KEEP)
#undef COLL_CAR_KEEP
    return OMPI_SUCCESS;
}

static inline void coll_car_return(struct ompi_communicator_t *comm, mca_coll_base_module_t *module,
                                   coll_car_saved_t *saved)
{
#if COLL_CAR_BASE_FILLS_SLOTS
    (void) comm;
    (void) module;
    (void) saved;
#else
    /*
     * Disable runs in the reverse order of enable: what we saved is alive now, perhaps not later.
     */
#define COLL_CAR_PUT_BACK(slot)                                                                    \
    if (NULL != saved->slot.module && comm->c_coll->coll_##slot##_module == module) {              \
        comm->c_coll->coll_##slot = saved->slot.function;                                          \
        comm->c_coll->coll_##slot##_module = saved->slot.module;                                   \
    }
    COLL_CAR_SLOTS(COLL_CAR_PUT_BACK)
#undef COLL_CAR_PUT_BACK
    *saved = (coll_car_saved_t){0};
#endif
}

static inline void coll_car_drop(coll_car_saved_t *saved)
{
#if COLL_CAR_BASE_FILLS_SLOTS
#define COLL_CAR_RELEASE(slot)                                                                     \
    if (NULL != saved->slot.module) {                                                              \
        OBJ_RELEASE(saved->slot.module);                                                           \
    }
    COLL_CAR_SLOTS(COLL_CAR_RELEASE)
#undef COLL_CAR_RELEASE
#endif
    *saved = (coll_car_saved_t){0};
}

/*
 * Whether the module that serves blocking calls copes with device memory. Only Open MPI's own
 * staging component is known to (coll/cuda, from 6 on coll/accelerator): it declines by itself
 * where Open MPI cannot read device memory. For any other the caller stages through host memory;
 * and always for nonblocking and persistent calls, which that component does not have.
 */
static inline bool coll_car_saved_takes_device(const coll_car_saved_t *saved)
{
    return NULL != saved->allreduce.component
           && (0 == strcmp(saved->allreduce.component, "cuda")
               || 0 == strcmp(saved->allreduce.component, "accelerator"));
}

/*
 * Lets the rest of MPI move on. One type in all versions, so that the engine can take it as a
 * callback.
 */
static inline void coll_car_progress(void)
{
    (void) opal_progress();
}

/*
 * The tag of coll/car's own point-to-point messages on a communicator: no other collective uses it,
 * users cannot, and it fits the 24 bits that pml/ucx keeps for tags.
 */
#define COLL_CAR_TAG (-8388600)

/*
 * Open MPI's own nonblocking allreduces while it creates communicators, and users' that look like
 * them: a single int, the least or the largest (ompi/communicator/comm_cid.c). Their order among
 * other calls differs between ranks.
 */
static inline bool coll_car_may_be_internal(coll_car_count_t count,
                                            const struct ompi_datatype_t *dtype,
                                            const struct ompi_op_t *op)
{
    return 1 == count && &ompi_mpi_int.dt == dtype
           && (&ompi_mpi_op_min.op == op || &ompi_mpi_op_max.op == op);
}

/* A communicator for messages: its name, which may be empty ... */
static inline const char *coll_car_comm_name(const struct ompi_communicator_t *comm)
{
    const char *name = comm->c_name;

    return NULL == name ? "" : name;
}

/* ... and a number, its own in this process while it lives. */
static inline unsigned int coll_car_comm_number(struct ompi_communicator_t *comm)
{
#if defined(MCA_COLL_BASE_VERSION_2_0_0)
    return ompi_comm_get_cid(comm);
#else
    return ompi_comm_get_local_cid(comm);
#endif
}

/*
 * This process's rank in its job, which is that in MPI_COMM_WORLD; known once MPI is initialised.
 */
static inline int coll_car_world_rank(void)
{
    return (int) opal_proc_local_get()->proc_name.vpid;
}

/* Processes of this job on this node, this one counted. */
static inline int coll_car_node_processes(void)
{
    return (int) opal_process_info.num_local_peers + 1;
}

/* Whether MPI_Finalize has begun. With sessions only, there is none. */
static inline bool coll_car_finalizing(void)
{
    return ompi_mpi_state >= OMPI_MPI_STATE_FINALIZE_STARTED;
}

/*
 * The type of a request of ours that has failed: 4.1 finds the communicator, and with it the error
 * handler, of requests of point-to-point messages only, and raises the errors of all others on
 * MPI_COMM_WORLD.
 */
#if defined(MCA_COLL_BASE_VERSION_2_0_0)
#define COLL_CAR_REQUEST_FAILED OMPI_REQUEST_PML
#else
#define COLL_CAR_REQUEST_FAILED OMPI_REQUEST_COLL
#endif

/*
 * What Open MPI knows of a communicator's processes, where it goes on after one has failed (ULFM;
 * `mpirun --with-ft ulfm`). Elsewhere the launcher ends the job. pml/ob1 marks a communicator of
 * which a process has failed; with others, and before it has, every process is asked after.
 */
typedef enum {
    COLL_CAR_COMM_FINE,
    COLL_CAR_COMM_FAILED,
    COLL_CAR_COMM_REVOKED
} coll_car_comm_state_t;

#if defined(OPAL_ENABLE_FT_MPI) && OPAL_ENABLE_FT_MPI
static inline coll_car_comm_state_t coll_car_comm_state(struct ompi_communicator_t *comm)
{
    if (!ompi_ftmpi_enabled) {
        return COLL_CAR_COMM_FINE;
    }
    if (ompi_comm_is_revoked(comm)) {
        return COLL_CAR_COMM_REVOKED;
    }
    if (ompi_comm_coll_revoked(comm)) {
        return COLL_CAR_COMM_FAILED;
    }
    for (int r = 0; r < ompi_comm_size(comm); ++r) {
        if (!ompi_comm_is_proc_active(comm, r, false)) {
            return COLL_CAR_COMM_FAILED;
        }
    }
    return COLL_CAR_COMM_FINE;
}

/*
 * Lets a request for a message whose other end has failed complete, with an error: nothing of Open
 * MPI's does while it is only looked at.
 */
static inline void coll_car_request_look(struct ompi_request_t *request)
{
    (void) ompi_request_is_failed(request);
}

/* The errors for that; those of Open MPI's own that it would translate have none. */
static inline int coll_car_error_proc_failed(void)
{
    return ompi_ftmpi_enabled ? MPI_ERR_PROC_FAILED : OMPI_ERROR;
}

static inline int coll_car_error_revoked(void)
{
    return MPI_ERR_REVOKED;
}
#else
static inline coll_car_comm_state_t coll_car_comm_state(struct ompi_communicator_t *comm)
{
    (void) comm;
    return COLL_CAR_COMM_FINE;
}

static inline void coll_car_request_look(struct ompi_request_t *request)
{
    (void) request;
}

static inline int coll_car_error_proc_failed(void)
{
    return OMPI_ERROR;
}

static inline int coll_car_error_revoked(void)
{
    return OMPI_ERROR;
}
#endif

/*
 * The components compiled into the library: from 6 on the framework keeps one pointer level more.
 */
static inline const mca_base_component_t **
coll_car_static_components(const mca_base_framework_t *framework)
{
#if COLL_CAR_BASE_FILLS_SLOTS
    return framework->framework_static_components;
#else
    const mca_base_component_t ***list = framework->framework_static_components;

    return NULL == list ? NULL : *list;
#endif
}

/*
 * The version string of the library that is running, and of the one whose headers were compiled in.
 */
static inline const char *coll_car_running_version(void)
{
    return ompi_version_string;
}
#define COLL_CAR_COMPILED_VERSION OPAL_IDENT_STRING

#endif /* COLL_CAR_COMPAT_H */
