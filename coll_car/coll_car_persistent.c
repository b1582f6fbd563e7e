#include "coll_car_request.h"

int mca_coll_car_allreduce_init(const void *sbuf, void *rbuf, coll_car_count_t count, struct ompi_datatype_t *dtype,
                                struct ompi_op_t *op, struct ompi_communicator_t *comm, struct ompi_info_t *info,
                                struct ompi_request_t **request, mca_coll_base_module_t *base)
{
    mca_coll_car_module_t *module = (mca_coll_car_module_t *) base;
    return module->saved.allreduce_init.function(sbuf, rbuf, count, dtype, op, comm, info, request,
                                                 module->saved.allreduce_init.module);
}
