/*
 * coll/car, the component: what its own files share. Open MPI's headers come in through
 * coll_car_compat.h only.
 */
#ifndef COLL_CAR_H
#define COLL_CAR_H

#include "coll_car_compat.h"

#include <stdbool.h>

#include "car_params.h"

typedef struct {
    mca_coll_base_component_t super;
    int priority;
    int verbose;
    int output; /* the stream of opal_output; -1 until open */
    car_params_t params;
    car_counters_t counters;
} mca_coll_car_component_t;

OBJ_CLASS_DECLARATION(mca_coll_car_module_t);

/* The one symbol that the loader looks for. */
OMPI_DECLSPEC extern mca_coll_car_component_t mca_coll_car_component;

/*
 * Offers a module for a communicator; NULL where coll/car does not apply. Looks at the communicator
 * only, never at the GPU, so all its ranks answer alike (docs/design.md). coll_car_module.c
 */
mca_coll_base_module_t *mca_coll_car_comm_query(struct ompi_communicator_t *comm, int *priority);

/*
 * Blocking MPI_Allreduce, the entry of the module. Returns an MPI or OMPI error code.
 * coll_car_allreduce.c
 */
int mca_coll_car_allreduce(const void *sbuf, void *rbuf, coll_car_count_t count,
                           struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                           struct ompi_communicator_t *comm, mca_coll_base_module_t *module);

/* MPI_Iallreduce, likewise. coll_car_request.c */
int mca_coll_car_iallreduce(const void *sbuf, void *rbuf, coll_car_count_t count,
                            struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                            struct ompi_communicator_t *comm, struct ompi_request_t **request,
                            mca_coll_base_module_t *module);

/* MPI_Allreduce_init, likewise. coll_car_persistent.c */
int mca_coll_car_allreduce_init(const void *sbuf, void *rbuf, coll_car_count_t count,
                                struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                                struct ompi_communicator_t *comm, struct ompi_info_t *info,
                                struct ompi_request_t **request, mca_coll_base_module_t *module);

/*
 * A line to the user, on stderr, with the rank's name; for what he must know or act upon.
 * coll_car_component.c
 */
void coll_car_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether this process is the one of the job on this node that says what is true of all of them. */
bool coll_car_speaks_for_node(void);

#endif /* COLL_CAR_H */
