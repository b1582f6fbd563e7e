/*
 * The set-up of a communicator, step by step, each of which all ranks leave together. It waits for
 * nobody: what is under way is polled, so that calls which must not block can set up as well. What
 * the ranks bring to the first step is car_offer.c's.
 */
#include "car_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "car_check.h"
#include "car_offer.h"
#include "car_pending.h"

/* Whether a rank failed, and the first that did. The records begin with their verdicts. */
static bool any_failed(const void *records, size_t bytes, int size, car_failure_t *failure)
{
    for (int r = 0; r < size; ++r) {
        const car_verdict_t *verdict = (const void *) ((const char *) records + (size_t) r * bytes);
        if (verdict->failed) {
            failure->rank = r;
            failure->by_choice = 0 != verdict->by_choice;
            memcpy(failure->reason, verdict->reason, CAR_REASON_BYTES);
            failure->reason[CAR_REASON_BYTES - 1] = '\0';
            return true;
        }
    }
    return false;
}

/* --- step 2: links and memory ----------------------------------------------------------------- */

static bool link_allowed(const car_comm_t *comm, car_link_t link)
{
    if (CAR_LINK_SAME_GPU == link || CAR_LINK_NVLINK == link) {
        return true;
    }
    if (CAR_LINK_NONE == link || CAR_LINKS_NVLINK == comm->params->links) {
        return false;
    }
    return CAR_LINKS_P2P == comm->params->links || 2 == comm->size;
}

static void check_links(car_comm_t *comm, const car_offer_t *offers, car_verdict_t *verdict)
{
    comm->worst_link = CAR_LINK_SAME_GPU;
    for (int r = 0; r < comm->size; ++r) {
        const car_link_t link = car_topology_link(comm->device->cuda, comm->device->ordinal,
                                                  &comm->device->uuid, &offers[r].uuid);
        comm->worst_link = link < comm->worst_link ? link : comm->worst_link;
        if (!link_allowed(comm, link)) {
            char mine[CAR_UUID_TEXT_BYTES], other[CAR_UUID_TEXT_BYTES];
            car_uuid_text(&comm->device->uuid, mine);
            car_uuid_text(&offers[r].uuid, other);
            verdict->failed = verdict->by_choice = 1;
            snprintf(verdict->reason, CAR_REASON_BYTES,
                     "%s and %s (rank %d) have %s between them%s", mine, other, r,
                     car_link_name(link),
                     CAR_LINK_NONE == link ? "" : "; coll_car_links p2p would accept that");
            return;
        }
    }
}

static void take_piece(car_comm_t *comm, car_verdict_t *verdict)
{
    car_devices_lock();
    comm->piece_taken =
        car_arena_take(&comm->device->arena, comm->piece_bytes, CAR_ARENA_LOW, &comm->piece_offset);
    car_devices_unlock();
    comm->home_offset = comm->piece_offset;
    if (!comm->piece_taken) {
        verdict->failed = 1;
        snprintf(verdict->reason, CAR_REASON_BYTES,
                 "all %zu MB of this rank's device memory for allreduce are in use by other "
                 "communicators; coll_car_memory sets how much there is",
                 comm->device->arena.bytes >> 20);
    }
}

/* --- steps 3 to 5: map, clear, probe ---------------------------------------------------------- */

static CUresult copy_word(car_comm_t *comm, CUdeviceptr to, CUdeviceptr from)
{
    const CUresult result =
        comm->device->cuda->MemcpyAsync(to, from, sizeof(uint32_t), comm->stream);
    return CUDA_SUCCESS == result ? car_cuda_wait(comm->device->cuda, comm->stream) : result;
}

static CUdeviceptr probe_word(const car_comm_t *comm, int owner, int writer)
{
    return comm->peer[owner].piece + offsetof(car_flags_t, probe)
           + (size_t) writer * sizeof(uint32_t);
}

static CUdeviceptr tag_word(const car_comm_t *comm, int owner)
{
    return comm->peer[owner].piece + offsetof(car_flags_t, tag);
}

static void map_peers(car_comm_t *comm, const car_offer_t *offers, const car_step_t *steps,
                      car_verdict_t *verdict)
{
    car_devices_lock();
    for (int r = 0; r < comm->size && !verdict->failed; ++r) {
        CUdeviceptr arena = comm->device->memory;
        if (r != comm->rank) {
            const CUresult result =
                car_device_map(comm->device, &offers[r].arena, &offers[r].handle, &arena);
            if (CUDA_SUCCESS != result) {
                verdict->failed = 1;
                snprintf(verdict->reason, CAR_REASON_BYTES,
                         "CUDA IPC refused the memory of rank %d (pid %d): %s; ranks must share "
                         "one PID and IPC namespace (in containers: --pid=host --ipc=host), and "
                         "see GPUs that can access each other",
                         r, offers[r].pid, car_cuda_error(result));
                break;
            }
        }
        comm->peer[r].memory = arena;
        comm->peer[r].piece = comm->home[r] = arena + steps[r].piece_offset;
    }
    car_devices_unlock();
}

static void clear_and_tag(car_comm_t *comm, uint32_t tag, car_verdict_t *verdict)
{
    if (!car_verdict_fail(verdict, car_comm_clear_lanes(comm), "clearing device memory")
        && !car_verdict_fail(verdict, car_comm_clear(comm), "clearing device memory")) {
        (void) car_verdict_fail(
            verdict, copy_word(comm, tag_word(comm, comm->rank), (CUdeviceptr) (uintptr_t) &tag),
            "writing to device memory");
    }
}

/*
 * Reads every peer's tag through its mapping and leaves a word of ours there: both ways must show
 * the right memory.
 */
static void probe(car_comm_t *comm, const car_step_t *steps, uint32_t tag, car_verdict_t *verdict)
{
    for (int r = 0; r < comm->size; ++r) {
        uint32_t seen = 0;
        const uint32_t sent = tag ^ (uint32_t) r;
        if (car_verdict_fail(
                verdict, copy_word(comm, (CUdeviceptr) (uintptr_t) &seen, tag_word(comm, r)),
                "reading a peer's memory through CUDA IPC")
            || car_verdict_fail(
                verdict,
                copy_word(comm, probe_word(comm, r, comm->rank), (CUdeviceptr) (uintptr_t) &sent),
                "writing a peer's memory through CUDA IPC")) {
            return;
        }
        if (seen != steps[r].tag) {
            verdict->failed = 1;
            snprintf(verdict->reason, CAR_REASON_BYTES,
                     "the mapping of rank %d's memory shows other memory: peer access of these "
                     "GPUs does not work (IOMMU or ACS settings?)",
                     r);
            return;
        }
    }
}

static void check_probes(car_comm_t *comm, const car_step_t *steps, car_verdict_t *verdict)
{
    for (int r = 0; r < comm->size; ++r) {
        uint32_t seen = 0;
        if (car_verdict_fail(
                verdict,
                copy_word(comm, (CUdeviceptr) (uintptr_t) &seen, probe_word(comm, comm->rank, r)),
                "reading device memory")) {
            return;
        }
        if (seen != (steps[r].tag ^ (uint32_t) comm->rank)) {
            verdict->failed = 1;
            snprintf(verdict->reason, CAR_REASON_BYTES,
                     "what rank %d wrote through its mapping did not arrive here: peer access of "
                     "these GPUs does not work (IOMMU or ACS settings?)",
                     r);
            return;
        }
    }
}

/* --- the whole of it -------------------------------------------------------------------------- */

/* The records that are under way, by the work that comes when all have them. */
typedef enum { OFFERS, PIECES, TAGS, PROBES, VERDICTS } under_way_t;

struct car_setup {
    car_comm_t *comm;
    under_way_t under_way;
    car_step_t mine;
    car_offer_t offers[CAR_MAX_RANKS];
    car_step_t pieces[CAR_MAX_RANKS]; /* where the pieces lie, then with the tags in them */
    car_step_t last[CAR_MAX_RANKS];
};

car_setup_t *car_setup_new(void)
{
    car_setup_t *setup = calloc(1, sizeof(*setup));
    car_comm_t *comm = calloc(1, sizeof(*comm));

    if (NULL == setup || NULL == comm) {
        free(setup);
        free(comm);
        return NULL;
    }
    setup->comm = comm;
    return setup;
}

void car_setup_free(car_setup_t *setup)
{
    if (NULL != setup) {
        free(setup->comm);
        free(setup);
    }
}

void car_setup_begin(car_setup_t *setup, const car_comm_config_t *config)
{
    car_comm_t *comm = setup->comm;
    car_offer_t offer;

    *comm = (car_comm_t){.rank = config->rank,
                         .size = config->size,
                         .control = config->control,
                         .params = config->params,
                         .counters = config->counters,
                         .progress = config->progress,
                         .word = -1,
                         .stay.bell = -1};
    car_offer_make(comm, config->buffer, config->node_processes, &offer);
    setup->under_way = OFFERS;
    car_control_exchange_begin(comm->control, &offer, sizeof(offer));
}

/* Whether what the ranks have said can be: it is used from here on. */
static bool sane(car_setup_t *setup)
{
    car_verdict_t *verdict = &setup->mine.verdict;

    for (int r = 0; r < setup->comm->size && !verdict->failed && setup->under_way <= PIECES; ++r) {
        const char *wrong =
            OFFERS == setup->under_way
                ? car_check_offer(&setup->offers[r])
                : car_check_piece(setup->pieces[r].piece_offset, setup->comm->piece_bytes,
                                  setup->comm->peer[r].arena_bytes);
        if (NULL != wrong) {
            verdict->failed = 1;
            snprintf(verdict->reason, CAR_REASON_BYTES,
                     "rank %d told of %s: its memory or the control segment is damaged", r, wrong);
        }
    }
    return !verdict->failed;
}

/*
 * What a rank does between two exchanges, in the device's context; what fails stands in the
 * verdict.
 */
static void work(car_setup_t *setup)
{
    car_comm_t *comm = setup->comm;
    car_verdict_t *verdict = &setup->mine.verdict;
    car_cuda_guard_t guard;

    const CUresult result = car_cuda_enter(comm->device->cuda, comm->device->context, &guard);
    if (car_verdict_fail(verdict, result, "making the context current")) {
        return;
    }
    switch (setup->under_way) {
    case OFFERS:
        car_offers_agree(comm, setup->offers);
        check_links(comm, setup->offers, verdict);
        if (!verdict->failed) {
            take_piece(comm, verdict);
        }
        setup->mine.piece_offset = comm->piece_offset;
        break;
    case PIECES:
        map_peers(comm, setup->offers, setup->pieces, verdict);
        if (!verdict->failed
            && sizeof(setup->mine.tag) != getrandom(&setup->mine.tag, sizeof(setup->mine.tag), 0)) {
            car_verdict_fail(verdict, CUDA_ERROR_OPERATING_SYSTEM, "getrandom");
        }
        if (!verdict->failed) {
            clear_and_tag(comm, setup->mine.tag, verdict);
        }
        break;
    case TAGS:
        probe(comm, setup->pieces, setup->mine.tag, verdict);
        break;
    default:
        check_probes(comm, setup->pieces, verdict);
        break;
    }
    car_cuda_leave(comm->device->cuda, &guard);
}

/* Where the records that are under way go, and how large each is. */
static void *records(car_setup_t *setup, size_t *bytes)
{
    *bytes = OFFERS == setup->under_way ? sizeof(car_offer_t) : sizeof(car_step_t);
    return OFFERS == setup->under_way  ? (void *) setup->offers
           : setup->under_way <= TAGS ? (void *) setup->pieces
                                      : (void *) setup->last;
}

static car_setup_state_t give_up(car_setup_t *setup)
{
    car_comm_abandon(setup->comm);
    setup->comm = NULL;
    return CAR_SETUP_FAILED;
}

/*
 * A rank that is late may map and probe this rank's piece still: that is kept, as after any fault.
 */
static car_setup_state_t keep(car_setup_t *setup, car_comm_t **result)
{
    if (setup->comm->piece_taken) {
        *result = setup->comm;
    } else {
        car_comm_abandon(setup->comm);
    }
    setup->comm = NULL;
    return CAR_SETUP_BROKEN;
}

static car_setup_state_t succeed(car_setup_t *setup)
{
    setup->comm = NULL;
    return CAR_SETUP_DONE;
}

car_setup_state_t car_setup_poll(car_setup_t *setup, car_comm_t **result, car_failure_t *failure)
{
    car_comm_t *comm = setup->comm;
    size_t bytes;
    void *all = records(setup, &bytes);

    *result = NULL;
    while (car_control_broken(comm->control) < 0
           && car_control_exchange_test(comm->control, bytes, all)) {
        const bool failed = any_failed(all, bytes, comm->size, failure);
        if (failed || VERDICTS == setup->under_way) {
            *result = failed ? NULL : comm;
            return failed ? give_up(setup) : succeed(setup);
        }
        if (sane(setup)) {
            work(setup);
        }
        ++setup->under_way;
        car_control_exchange_begin(comm->control, &setup->mine, sizeof(setup->mine));
        all = records(setup, &bytes);
    }
    return car_control_broken(comm->control) < 0 ? CAR_SETUP_UNDER_WAY : keep(setup, result);
}
