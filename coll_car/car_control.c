#define _GNU_SOURCE /* O_TMPFILE */
#include "car_control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define CAR_CONTROL_MAGIC                                                                          \
    UINT64_C(0x636f6c6c63617237) /* the last digit is the version of this layout */
#define CAR_CONTROL_SLOTS 2

/* Where shm_open has its names, too. */
#define CAR_FOLDER "/dev/shm"
#define CAR_NAME_BYTES 64

typedef struct {
    _Alignas(64) _Atomic uint64_t call; /* whose line this is; 0: none yet */
    car_line_t line;
} car_line_slot_t;

typedef struct {
    _Alignas(64) _Atomic uint64_t number;
    char bytes[CAR_RECORD_BYTES];
} car_record_slot_t;

typedef struct {
    _Alignas(64) char bytes[CAR_LANE_RECORD_BYTES];
} car_lane_slot_t;

/* Who is further behind than that is told by records. */
#define CAR_FREED 64

typedef struct {
    _Alignas(64) _Atomic uint64_t count;
    _Atomic uint64_t id[CAR_FREED];
} car_freed_t;

typedef struct {
    _Alignas(64) car_process_t process;
    _Atomic uint32_t gone;    /* it has freed the communicator */
    _Atomic uint64_t waiting; /* the call in which it has said so */
    car_line_slot_t line[CAR_CONTROL_SLOTS];
    car_record_slot_t record[CAR_CONTROL_SLOTS];
    car_lane_words_t lane[CAR_LANES];
    car_lane_slot_t lane_record[CAR_LANES_WITH_RECORDS][CAR_CONTROL_WINDOW];
    car_freed_t freed;
} car_rank_area_t;

_Static_assert(sizeof(car_lane_slot_t) == CAR_LANE_RECORD_BYTES, "records fill whole lines");

typedef struct {
    uint64_t magic;
    uint64_t key[2]; /* the name's random part: the file is the one that got that name */
    uint32_t size;
    _Atomic uint32_t breaking; /* as `broken`: by whom, while he tells the user */
    _Atomic uint32_t broken;   /* fault << 8 | 1 + the rank that broke the communicator; 0: none */
    _Atomic uint32_t spoiled;  /* a call that was left to MPI has an operand that is none */
    _Atomic uint64_t warned;   /* the last wait that somebody has warned of */
    _Atomic uint64_t freed;    /* ids that all ranks have told */
    /* then, for each slot, the ranks' payloads, and then the lane's chunks */
    car_rank_area_t rank[];
} car_segment_t;

struct car_control {
    car_segment_t *segment;
    size_t bytes;
    int rank;
    int size;
    uint64_t exchanges;
    char mine[CAR_RECORD_BYTES]; /* what this rank brings: nobody else can change that */
    car_control_hooks_t hooks;
};

static size_t segment_bytes(int size)
{
    return sizeof(car_segment_t) + (size_t) size * sizeof(car_rank_area_t)
           + CAR_CONTROL_SLOTS * CAR_CONTROL_ROOM + CAR_CONTROL_CHUNKS * CAR_CONTROL_CHUNK_ROOM;
}

static void write_name(const car_control_place_t *place, const char *folder,
                       char name[CAR_NAME_BYTES])
{
    snprintf(name, CAR_NAME_BYTES, "%s/coll_car.%016llx%016llx", folder,
             (unsigned long long) place->key[0], (unsigned long long) place->key[1]);
}

static int fill_new(int fd, int size, const uint64_t key[2])
{
    const uint64_t head[3] = {CAR_CONTROL_MAGIC, key[0], key[1]};
    const uint32_t ranks = (uint32_t) size;

    /* Whatever the umask is. */
    if (0 != fchmod(fd, 0600)) {
        return errno;
    }
    /* Allocated now, so that a full /dev/shm is an error here and not a SIGBUS later. */
    const int error = posix_fallocate(fd, 0, (off_t) segment_bytes(size));
    if (0 != error) {
        return error;
    }
    return sizeof(head) == pwrite(fd, head, sizeof(head), offsetof(car_segment_t, magic))
                   && sizeof(ranks)
                          == pwrite(fd, &ranks, sizeof(ranks), offsetof(car_segment_t, size))
               ? 0
               : EIO;
}

/* Without a name where that is possible and of use; sets errno. */
static int open_new(car_control_place_t *place)
{
    char name[CAR_NAME_BYTES];
    const int fd =
        0 != place->creator.space ? open(CAR_FOLDER, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;

    place->named = fd < 0;
    if (fd >= 0) {
        return fd;
    }
    write_name(place, "", name);
    return shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
}

int car_control_create(int size, car_control_place_t *place)
{
    *place = (car_control_place_t){.creator = car_process_self(), .fd = -1};
    if (sizeof(place->key) != getrandom(place->key, sizeof(place->key), 0)) {
        return EIO;
    }
    const int fd = open_new(place);
    if (fd < 0) {
        place->named = false;
        return errno;
    }
    place->fd = fd;
    const int error = fill_new(fd, size, place->key);
    if (0 != error) {
        car_control_close(place);
    }
    return error;
}

int car_control_give_name(car_control_place_t *place)
{
    char path[40], name[CAR_NAME_BYTES];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", place->fd);
    write_name(place, CAR_FOLDER, name);
    place->named = 0 == linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
    return place->named ? 0 : errno;
}

void car_control_close(car_control_place_t *place)
{
    char name[CAR_NAME_BYTES];

    if (place->fd >= 0) {
        close(place->fd);
        place->fd = -1;
    }
    if (place->named) {
        write_name(place, "", name);
        shm_unlink(name);
        place->named = false;
    }
}

/* A file of the user's own that nobody else can open, with no other name. */
static bool is_private(const struct stat *status, const car_control_place_t *place, size_t bytes)
{
    return S_ISREG(status->st_mode) && 0600 == (status->st_mode & 07777)
           && status->st_uid == geteuid() && (place->named ? 1 : 0) == status->st_nlink
           && (size_t) status->st_size == bytes;
}

/*
 * Opens what the creator has open; sets errno. What that is by now is looked at before: to open a
 * device may do something.
 */
static int open_nameless(const car_control_place_t *place, size_t bytes)
{
    const car_process_t self = car_process_self();
    const car_process_state_t creator = car_process_look(&self, &place->creator);
    struct stat status;
    char path[40];

    if (CAR_PROCESS_ALIVE != creator && CAR_PROCESS_STOPPED != creator) {
        errno = ESRCH;
        return -1;
    }
    snprintf(path, sizeof(path), "/proc/%u/fd/%d", place->creator.pid, place->fd);
    if (0 != stat(path, &status)) {
        return -1;
    }
    if (!is_private(&status, place, bytes)) {
        errno = EPERM;
        return -1;
    }
    return open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

static int open_it(const car_control_place_t *place, size_t bytes)
{
    char name[CAR_NAME_BYTES];

    if (!place->named) {
        return open_nameless(place, bytes);
    }
    write_name(place, "", name);
    /* A link is not followed (shm_open(3)). */
    return shm_open(name, O_RDWR, 0);
}

static bool is_ours(const car_segment_t *segment, int size, const uint64_t key[2])
{
    return CAR_CONTROL_MAGIC == segment->magic && key[0] == segment->key[0]
           && key[1] == segment->key[1] && (uint32_t) size == segment->size;
}

int car_control_attach(const car_control_place_t *place, int rank, int size,
                       car_control_t **control)
{
    const size_t bytes = segment_bytes(size);
    struct stat status;
    void *memory = MAP_FAILED;
    int error = 0;

    const int fd = open_it(place, bytes);
    if (fd < 0) {
        return errno;
    }
    if (0 != fstat(fd, &status)) {
        error = errno;
    } else if (!is_private(&status, place, bytes)) {
        error = EPERM;
    } else {
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        error = MAP_FAILED == memory ? errno : 0;
    }
    close(fd);
    if (0 != error) {
        return error;
    }
    car_control_t *c = calloc(1, sizeof(*c));
    if (NULL == c || !is_ours(memory, size, place->key)) {
        error = NULL == c ? ENOMEM : EPROTO;
        free(c);
        munmap(memory, bytes);
        return error;
    }
    c->segment = memory;
    c->bytes = bytes;
    c->rank = rank;
    c->size = size;
    c->segment->rank[rank].process = car_process_self();
    *control = c;
    return 0;
}

void car_control_depart(car_control_t *control)
{
    atomic_store_explicit(&control->segment->rank[control->rank].gone, 1, memory_order_release);
}

bool car_control_all_gone(const car_control_t *control)
{
    for (int r = 0; r < control->size; ++r) {
        if (0 == atomic_load_explicit(&control->segment->rank[r].gone, memory_order_acquire)
            && (car_control_broken(control) < 0
                || CAR_PROCESS_DEAD != car_control_look(control, r))) {
            return false;
        }
    }
    return true;
}

void car_control_detach(car_control_t *control)
{
    munmap(control->segment, control->bytes);
    free(control);
}

size_t car_control_room(const car_control_t *control)
{
    return CAR_CONTROL_ROOM / (size_t) control->size / 64 * 64;
}

void *car_control_payload(const car_control_t *control, uint64_t call, int r)
{
    char *payloads = (char *) &control->segment->rank[control->size];
    return payloads + call % CAR_CONTROL_SLOTS * CAR_CONTROL_ROOM
           + (size_t) r * car_control_room(control);
}

void car_control_post(car_control_t *control, uint64_t call, car_line_t line)
{
    car_line_slot_t *slot = &control->segment->rank[control->rank].line[call % CAR_CONTROL_SLOTS];
    slot->line = line;
    atomic_store_explicit(&slot->call, call, memory_order_release);
}

bool car_control_posted(const car_control_t *control, uint64_t call, int r, car_line_t *line)
{
    const car_line_slot_t *slot = &control->segment->rank[r].line[call % CAR_CONTROL_SLOTS];
    if (call != atomic_load_explicit(&slot->call, memory_order_acquire)) {
        return false;
    }
    *line = slot->line;
    return true;
}

/* --- faults ----------------------------------------------------------------------------------- */

/* Milliseconds for who breaks a communicator to tell the user; he may die meanwhile. */
#define CAR_TELL_MS 1000

void car_control_set_hooks(car_control_t *control, const car_control_hooks_t *hooks)
{
    control->hooks = *hooks;
}

const car_control_hooks_t *car_control_hooks(const car_control_t *control)
{
    return &control->hooks;
}

void car_control_break(car_control_t *control, car_fault_t fault, const char *reason)
{
    car_segment_t *segment = control->segment;
    uint32_t before = 0, said = (uint32_t) fault << 8 | (uint32_t) (control->rank + 1);

    if (atomic_compare_exchange_strong(&segment->breaking, &before, said)) {
        if (NULL != control->hooks.say) {
            control->hooks.say(control->hooks.owner, reason);
        }
    } else {
        said = before;
        for (int ms = 0; ms < CAR_TELL_MS && car_control_broken(control) < 0; ++ms) {
            usleep(1000);
        }
    }
    atomic_store_explicit(&segment->broken, said, memory_order_release);
}

/* The messages that bring the operand to others come later than the word. */
void car_control_spoil(car_control_t *control, const char *reason)
{
    if (0 == atomic_exchange_explicit(&control->segment->spoiled, 1, memory_order_release)
        && NULL != control->hooks.say) {
        control->hooks.say(control->hooks.owner, reason);
    }
}

bool car_control_spoiled(const car_control_t *control)
{
    return 0 != atomic_load_explicit(&control->segment->spoiled, memory_order_acquire);
}

bool car_control_damaged(car_control_t *control, int r, const char *what)
{
    char reason[200];

    snprintf(reason, sizeof(reason),
             "rank %d told of %s: its memory or the control segment is damaged", r, what);
    car_control_break(control, CAR_FAULT_DRIVER, reason);
    return false;
}

int car_control_broken(const car_control_t *control)
{
    const uint32_t value = atomic_load_explicit(&control->segment->broken, memory_order_relaxed);
    const int r = (int) (value & 0xff) - 1;

    if (0 == value) {
        return -1;
    }
    /*
     * What is no rank is no less broken: whose doing it is nobody knows, but it was not this rank.
     */
    return 0 <= r && r < control->size ? r : (control->rank + 1) % control->size;
}

car_fault_t car_control_fault(const car_control_t *control)
{
    const uint32_t value = atomic_load_explicit(&control->segment->broken, memory_order_relaxed),
                   fault = value >> 8;

    return 0 == value ? CAR_FAULT_NONE
           : CAR_FAULT_NONE < fault && fault <= CAR_FAULT_REVOKED ? (car_fault_t) fault
                                                                  : CAR_FAULT_DRIVER;
}

bool car_control_first_to_warn(car_control_t *control, uint64_t wait)
{
    return wait != atomic_exchange_explicit(&control->segment->warned, wait, memory_order_relaxed);
}

int car_control_rank(const car_control_t *control)
{
    return control->rank;
}

int car_control_pid(const car_control_t *control, int r)
{
    return (int) control->segment->rank[r].process.pid;
}

car_process_state_t car_control_look(const car_control_t *control, int r)
{
    const car_rank_area_t *ranks = control->segment->rank;
    return car_process_look(&ranks[control->rank].process, &ranks[r].process);
}

void car_control_say_waiting(car_control_t *control, uint64_t call)
{
    atomic_store_explicit(&control->segment->rank[control->rank].waiting, call,
                          memory_order_relaxed);
}

uint32_t car_control_not_waiting(const car_control_t *control, uint64_t call)
{
    uint32_t others = 0;

    for (int r = 0; r < control->size; ++r) {
        if (call
            != atomic_load_explicit(&control->segment->rank[r].waiting, memory_order_relaxed)) {
            others |= UINT32_C(1) << r;
        }
    }
    return others;
}

/* --- exchanges -------------------------------------------------------------------------------- */

void car_control_exchange_begin(car_control_t *control, const void *mine, size_t bytes)
{
    const uint64_t number = ++control->exchanges;
    car_record_slot_t *own =
        &control->segment->rank[control->rank].record[number % CAR_CONTROL_SLOTS];

    memcpy(control->mine, mine, bytes);
    memcpy(own->bytes, mine, bytes);
    atomic_store_explicit(&own->number, number, memory_order_release);
}

bool car_control_exchange_test(const car_control_t *control, size_t bytes, void *all)
{
    const uint64_t number = control->exchanges;
    const car_rank_area_t *areas = control->segment->rank;

    for (int r = 0; r < control->size; ++r) {
        if (number
            != atomic_load_explicit(&areas[r].record[number % CAR_CONTROL_SLOTS].number,
                                    memory_order_acquire)) {
            return false;
        }
    }
    for (int r = 0; r < control->size; ++r) {
        memcpy((char *) all + (size_t) r * bytes,
               r == control->rank ? control->mine
                                  : areas[r].record[number % CAR_CONTROL_SLOTS].bytes,
               bytes);
    }
    return true;
}

uint64_t car_control_exchanges(const car_control_t *control)
{
    return control->exchanges;
}

uint32_t car_control_exchange_missing(const car_control_t *control)
{
    const uint64_t number = control->exchanges;
    uint32_t missing = 0;

    for (int r = 0; r < control->size; ++r) {
        const car_record_slot_t *slot =
            &control->segment->rank[r].record[number % CAR_CONTROL_SLOTS];
        if (number != atomic_load_explicit(&slot->number, memory_order_acquire)) {
            missing |= UINT32_C(1) << r;
        }
    }
    return missing;
}

/* --- memory that has been freed --------------------------------------------------------------- */

void car_control_tell_freed(car_control_t *control, uint64_t id)
{
    car_freed_t *mine = &control->segment->rank[control->rank].freed;
    const uint64_t count = atomic_load_explicit(&mine->count, memory_order_relaxed);

    atomic_store_explicit(&mine->id[count % CAR_FREED], id, memory_order_relaxed);
    atomic_store_explicit(&mine->count, count + 1, memory_order_release);
    atomic_fetch_add_explicit(&control->segment->freed, 1, memory_order_release);
}

uint64_t car_control_freed_bell(const car_control_t *control)
{
    return atomic_load_explicit(&control->segment->freed, memory_order_acquire);
}

/* A place may be written again meanwhile: then it has the id of something else that is gone. */
uint64_t car_control_freed(const car_control_t *control, int r, uint64_t *heard)
{
    const car_freed_t *theirs = &control->segment->rank[r].freed;
    const uint64_t count = atomic_load_explicit(&theirs->count, memory_order_acquire);

    if (count - *heard > CAR_FREED) {
        *heard = count - CAR_FREED;
    }
    return *heard == count
               ? 0
               : atomic_load_explicit(&theirs->id[(*heard)++ % CAR_FREED], memory_order_relaxed);
}

/* --- lanes ------------------------------------------------------------------------------------ */

car_lane_words_t *car_control_lane(const car_control_t *control, int lane, int r)
{
    return &control->segment->rank[r].lane[lane];
}

void *car_control_lane_record(const car_control_t *control, int lane, uint64_t call, int r)
{
    return &control->segment->rank[r].lane_record[lane][call % CAR_CONTROL_WINDOW];
}

size_t car_control_chunk_bytes(const car_control_t *control)
{
    return CAR_CONTROL_CHUNK_ROOM / (size_t) control->size / 64 * 64;
}

void *car_control_chunk(const car_control_t *control, uint64_t step, int r)
{
    char *chunks =
        (char *) &control->segment->rank[control->size] + CAR_CONTROL_SLOTS * CAR_CONTROL_ROOM;

    return chunks + step % CAR_CONTROL_CHUNKS * CAR_CONTROL_CHUNK_ROOM
           + (size_t) r * car_control_chunk_bytes(control);
}
