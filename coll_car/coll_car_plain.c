/*
 * Nonblocking calls of a communicator that could not make a control segment: every rank sends its
 * operand to all others and folds. Nothing else may be done by then, as the calls have been taken
 * already; and nothing is needed for it but messages.
 */
#include "coll_car_module.h"

#include <stdlib.h>

#include "coll_car_exchange.h"

/* Behind each operand stands whether it is one: its rank may not have been able to copy it. */
typedef struct coll_car_plain {
    coll_car_exchange_t exchange;
    size_t bytes, stride;
    /* everybody's operands, then this rank's own, then the result */
    _Alignas(CAR_PACK_BYTES) char memory[];
} plain_t;

static bool copy(void *to, const void *from, size_t bytes, const car_buffer_t *buffer)
{
    if (CAR_MEMORY_DEVICE != buffer->memory) {
        memcpy(to, from, bytes);
        return true;
    }
    return CUDA_SUCCESS == car_buffer_copy(car_cuda(), to, from, bytes, buffer);
}

static plain_t *begin(mca_coll_car_module_t *module, const car_call_t *op)
{
    const int size = ompi_comm_size(module->comm);
    const size_t bytes = op->count * op->reduction.element,
                 stride = (bytes / CAR_PACK_BYTES + 1) * CAR_PACK_BYTES;
    plain_t *plain = malloc(sizeof(*plain) + (size_t) (size + 2) * stride);

    if (NULL == plain) {
        return NULL;
    }
    plain->bytes = bytes;
    plain->stride = stride;
    char *mine = plain->memory + (size_t) size * stride;
    mine[bytes] = (char) copy(mine, op->input.address, bytes, &op->input);
    coll_car_exchange_begin(&plain->exchange, module->comm, mine, bytes + 1, stride, plain->memory);
    return plain;
}

/* To the user's buffer, around the gaps within elements. */
static bool give(const car_call_t *op, const plain_t *plain, char *merged, const char *result)
{
    if (!copy(merged, op->output.address, plain->bytes, &op->output)) {
        return false;
    }
    for (size_t i = 0; i < plain->bytes; ++i) {
        if (0 != (op->reduction.data >> i % CAR_PACK_BYTES & 1)) {
            merged[i] = result[i];
        }
    }
    return copy(op->output.address, merged, plain->bytes, &op->output);
}

static void end(const mca_coll_car_module_t *module, car_call_t *op, plain_t *plain)
{
    const int size = ompi_comm_size(module->comm);
    char *merged = plain->memory + (size_t) size * plain->stride, *result = merged + plain->stride;
    const void *operands[CAR_MAX_RANKS];
    bool whole = !plain->exchange.failed;

    for (int r = 0; r < size; ++r) {
        operands[r] = plain->memory + (size_t) r * plain->stride;
        whole = whole && 0 != plain->memory[(size_t) r * plain->stride + plain->bytes];
    }
    if (whole) {
        op->fold(op->fold_context, operands, size, op->count, result);
    }
    op->failed = !whole || !give(op, plain, merged, result);
}

void coll_car_plain_poll(mca_coll_car_module_t *module)
{
    car_call_t *op = module->queue.first;

    while (NULL != op) {
        if (NULL == module->plain && NULL == (module->plain = begin(module, op))) {
            /*
             * the others wait for this rank, as for one that has died; the error should end the job
             */
            op->failed = true;
        } else if (!coll_car_exchange_ended(&module->plain->exchange)) {
            return;
        } else {
            end(module, op, module->plain);
        }
        free(module->plain);
        module->plain = NULL;
        op->path = CAR_PATH_HOST;
        car_lane_remove_first(&module->queue);
        op = module->queue.first;
    }
}
