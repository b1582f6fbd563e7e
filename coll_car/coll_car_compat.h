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
#include "ompi/op/op.h"
#include "ompi/proc/proc.h"
#include "ompi/runtime/mpiruntime.h"
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

/* What served MPI_Allreduce on a communicator before coll/car did. All zero: nothing saved. */
typedef struct {
    mca_coll_base_module_allreduce_fn_t function;
    mca_coll_base_module_t *module;
    const char *component; /* whose module that is, by name; never NULL once saved */
} coll_car_saved_allreduce_t;

/*
 * The allreduce slot of a communicator, in the order of a module's life:
 *   comm_query   coll_car_offer_allreduce
 *   enable       coll_car_take_allreduce
 *   disable      coll_car_return_allreduce; comes 0, 1 or more times, only the first does anything
 *   destructor   coll_car_drop_allreduce
 * In between the saved function is called as saved.function(..., comm, saved.module).
 */
static inline void coll_car_offer_allreduce(mca_coll_base_module_t *module,
                                            mca_coll_base_module_allreduce_fn_t function)
{
#if COLL_CAR_BASE_FILLS_SLOTS
    module->coll_allreduce = function;
#else
    (void) module;
    (void) function;
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
 * Saves what holds the slot and takes it. OMPI_ERR_NOT_FOUND, nothing changed, where it is empty.
 */
static inline int coll_car_take_allreduce(struct ompi_communicator_t *comm,
                                          mca_coll_base_module_t *module,
                                          mca_coll_base_module_allreduce_fn_t function,
                                          coll_car_saved_allreduce_t *saved)
{
    if (NULL == comm->c_coll->coll_allreduce || NULL == comm->c_coll->coll_allreduce_module) {
        return OMPI_ERR_NOT_FOUND;
    }
    saved->function = comm->c_coll->coll_allreduce;
    saved->module = comm->c_coll->coll_allreduce_module;
    saved->component = coll_car_component_of(comm, saved->module);
#if COLL_CAR_BASE_FILLS_SLOTS
    (void) module;
    (void) function;
    /* The base releases the module below us when ours replaces it. */
    OBJ_RETAIN(saved->module);
#else
    comm->c_coll->coll_allreduce = function;
    comm->c_coll->coll_allreduce_module = module;
#endif
    return OMPI_SUCCESS;
}

static inline void coll_car_return_allreduce(struct ompi_communicator_t *comm,
                                             mca_coll_base_module_t *module,
                                             coll_car_saved_allreduce_t *saved)
{
#if COLL_CAR_BASE_FILLS_SLOTS
    (void) comm;
    (void) module;
    (void) saved;
#else
    /*
     * Disable runs in the reverse order of enable: what we saved is alive now, perhaps not later.
     */
    if (NULL != saved->module && comm->c_coll->coll_allreduce_module == module) {
        comm->c_coll->coll_allreduce = saved->function;
        comm->c_coll->coll_allreduce_module = saved->module;
    }
    *saved = (coll_car_saved_allreduce_t){0};
#endif
}

static inline void coll_car_drop_allreduce(coll_car_saved_allreduce_t *saved)
{
#if COLL_CAR_BASE_FILLS_SLOTS
    if (NULL != saved->module) {
        OBJ_RELEASE(saved->module);
    }
#endif
    *saved = (coll_car_saved_allreduce_t){0};
}

/*
 * Whether the saved module copes with device memory. Only Open MPI's own staging component is known
 * to (coll/cuda, from 6 on coll/accelerator): it declines by itself where Open MPI cannot read
 * device memory. For any other the caller stages through host memory.
 */
static inline bool coll_car_saved_takes_device(const coll_car_saved_allreduce_t *saved)
{
    return NULL != saved->component
           && (0 == strcmp(saved->component, "cuda")
               || 0 == strcmp(saved->component, "accelerator"));
}

/*
 * Lets the rest of MPI move on. One type in all versions, so that the engine can take it as a
 * callback.
 */
static inline void coll_car_progress(void)
{
    (void) opal_progress();
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
