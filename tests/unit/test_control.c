/* The control segment, between real processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "car_control.h"
#include "car_watch.h"

#define RANKS 4

static void yield(void)
{
    sched_yield();
}

/*
 * One rank: exchanges and lines with random delays; returns 0 if it always read what the others had
 * written.
 */
static int rank_main(const car_control_place_t *place, int rank)
{
    car_control_t *control;
    unsigned int seed = (unsigned int) rank + 1;
    int all[RANKS], wrong = 0;

    if (0 != car_control_attach(place, rank, RANKS, &control)) {
        return 1;
    }
    for (int step = 1; step <= 3000; ++step) {
        const int mine = step * 100 + rank;
        wrong += !car_watch_exchange(control, &mine, sizeof(mine), all, yield, "");
        car_control_post(control, (uint64_t) step,
                         (car_line_t){.device = (uint32_t) (step + rank), .context = 7});
        if (0 == rand_r(&seed) % 50) {
            usleep(100);
        }
        for (int r = 0; r < RANKS; ++r) {
            car_line_t line;
            wrong += all[r] != step * 100 + r;
            while (!car_control_posted(control, (uint64_t) step, r, &line)) {
                sched_yield();
            }
            wrong += line.device != (uint32_t) (step + r) || 7 != line.context;
        }
    }
    car_control_depart(control);
    while (!car_control_all_gone(control)) {
        sched_yield();
    }
    car_control_detach(control);
    return 0 != wrong;
}

static void everybody_reads_what_everybody_brought(void **state)
{
    car_control_place_t place;
    int status;

    (void) state;
    assert_int_equal(0, car_control_create(RANKS, &place));
    for (int r = 0; r < RANKS; ++r) {
        if (0 == fork()) {
            _exit(rank_main(&place, r));
        }
    }
    for (int r = 0; r < RANKS; ++r) {
        assert_true(wait(&status) > 0);
        assert_int_equal(0, status);
    }
    car_control_close(&place);
}

static void path_of(const car_control_place_t *place, char path[128])
{
    snprintf(path, 128, "/dev/shm/coll_car.%016llx%016llx", (unsigned long long) place->key[0],
             (unsigned long long) place->key[1]);
}

static bool exists(const char *path)
{
    struct stat status;

    return 0 == lstat(path, &status);
}

static void a_segment_has_a_name_only_if_it_is_given_one(void **state)
{
    car_control_place_t place;
    car_control_t *a, *b;
    char path[128];

    (void) state;
    assert_int_equal(0, car_control_create(2, &place));
    path_of(&place, path);
    assert_false(place.named);
    assert_false(exists(path));
    assert_int_equal(0, car_control_attach(&place, 0, 2, &a));
    assert_int_equal(0, car_control_give_name(&place));
    assert_true(exists(path));
    assert_int_equal(0, car_control_attach(&place, 1, 2, &b));
    car_control_close(&place);
    assert_false(exists(path));
    /* They have mapped the same. */
    car_control_break(b, CAR_FAULT_LATE, "");
    assert_int_equal(1, car_control_broken(a));
    car_control_detach(a);
    car_control_detach(b);
}

/* Somebody has been at the file between its creation and the moment when a rank maps it. */
static void a_file_that_others_can_reach_is_refused(void **state)
{
    car_control_place_t place, nobodys;
    char path[128], other[128];
    car_control_t *control = NULL;

    (void) state;
    const mode_t before = umask(0777);
    assert_int_equal(0, car_control_create(2, &place));
    umask(before);
    assert_int_equal(0, car_control_give_name(&place));
    nobodys = place;
    ++nobodys.key[0];
    path_of(&place, path);
    path_of(&nobodys, other);
    assert_int_equal(0, chmod(path, 0660));
    assert_int_equal(EPERM, car_control_attach(&place, 0, 2, &control));
    assert_int_equal(0, chmod(path, 0600));
    assert_int_equal(0, link(path, other));
    assert_int_equal(EPERM, car_control_attach(&place, 0, 2, &control));
    assert_int_equal(0, unlink(path));
    /* One name again, but not the one that the file was made with. */
    assert_int_equal(EPROTO, car_control_attach(&nobodys, 0, 2, &control));
    assert_int_equal(0, symlink(other, path));
    assert_int_equal(ELOOP, car_control_attach(&place, 0, 2, &control));
    assert_int_equal(0, unlink(path));
    assert_int_equal(0, rename(other, path));
    assert_int_equal(0, truncate(path, 4096));
    assert_int_equal(EPERM, car_control_attach(&place, 0, 2, &control));
    car_control_close(&place);
    assert_null(control);
}

static void a_name_replaces_nothing(void **state)
{
    car_control_place_t place;
    char path[128];

    (void) state;
    assert_int_equal(0, car_control_create(2, &place));
    path_of(&place, path);
    close(open(path, O_CREAT | O_EXCL | O_RDWR, 0600));
    assert_int_equal(EEXIST, car_control_give_name(&place));
    car_control_close(&place);
    assert_true(exists(path));
    assert_int_equal(0, unlink(path));
}

/* What somebody has open may be anything. */
static void what_is_no_segment_is_refused_without_a_name(void **state)
{
    car_control_place_t place, wrong;
    car_control_t *control = NULL;
    struct stat status;
    int ends[2];

    (void) state;
    assert_int_equal(0, car_control_create(2, &place));
    wrong = place;
    ++wrong.key[1];
    assert_int_equal(EPROTO, car_control_attach(&wrong, 0, 2, &control));
    wrong = place;
    ++wrong.creator.start; /* a later process of that number */
    assert_int_equal(ESRCH, car_control_attach(&wrong, 0, 2, &control));
    wrong = place;
    ++wrong.creator.space;
    assert_int_equal(ESRCH, car_control_attach(&wrong, 0, 2, &control));
    wrong = place;
    wrong.fd = -1;
    assert_int_equal(ENOENT, car_control_attach(&wrong, 0, 2, &control));
    wrong.fd = open("/dev/null", O_RDWR);
    assert_int_equal(EPERM, car_control_attach(&wrong, 0, 2, &control));
    close(wrong.fd);
    assert_int_equal(0, pipe(ends));
    wrong.fd = ends[0];
    assert_int_equal(EPERM, car_control_attach(&wrong, 0, 2, &control));
    close(ends[0]);
    close(ends[1]);
    /* A file of that size, with a name. */
    assert_int_equal(0, fstat(place.fd, &status));
    char name[] = "/tmp/coll_car_test_XXXXXX";
    wrong.fd = mkstemp(name);
    assert_int_equal(0, ftruncate(wrong.fd, status.st_size));
    assert_int_equal(EPERM, car_control_attach(&wrong, 0, 2, &control));
    assert_int_equal(0, unlink(name));
    assert_int_equal(EPROTO, car_control_attach(&wrong, 0, 2, &control));
    close(wrong.fd);
    assert_int_equal(0, fchmod(place.fd, 0640));
    assert_int_equal(EPERM, car_control_attach(&place, 0, 2, &control));
    assert_int_equal(0, fchmod(place.fd, 0600));
    assert_int_equal(0, ftruncate(place.fd, 4096));
    assert_int_equal(EPERM, car_control_attach(&place, 0, 2, &control));
    car_control_close(&place);
    assert_null(control);
}

/* The first words of the segment, as in car_control.c. */
typedef struct {
    uint64_t magic, key[2];
    uint32_t size, breaking, broken;
} head_t;

static void whatever_stands_in_the_segment_a_fault_is_a_rank_of_it(void **state)
{
    static const uint32_t values[] = {
        3, 17, 1000, INT32_MAX, (uint32_t) INT32_MAX + 1, UINT32_MAX - 1, UINT32_MAX};
    car_control_place_t place;
    car_control_t *control;
    head_t head;

    (void) state;
    assert_int_equal(0, car_control_create(2, &place));
    assert_int_equal(0, car_control_attach(&place, 1, 2, &control));
    const int fd = dup(place.fd);
    car_control_close(&place);
    assert_int_equal(sizeof(head), pread(fd, &head, sizeof(head), 0));
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); ++i) {
        head.broken = values[i];
        assert_int_equal(sizeof(head), pwrite(fd, &head, sizeof(head), 0));
        assert_int_equal(0, car_control_broken(control));
    }
    close(fd);
    car_control_detach(control);
}

static void what_a_rank_brought_itself_nobody_changes(void **state)
{
    car_control_place_t place;
    car_control_t *a, *b, *hostile;
    int mine = 7, other = 8, forged = 9, all[2];

    (void) state;
    assert_int_equal(0, car_control_create(2, &place));
    assert_int_equal(0, car_control_attach(&place, 0, 2, &a));
    assert_int_equal(0, car_control_attach(&place, 1, 2, &b));
    assert_int_equal(0, car_control_attach(&place, 0, 2, &hostile));
    car_control_close(&place);
    car_control_exchange_begin(a, &mine, sizeof(mine));
    car_control_exchange_begin(hostile, &forged, sizeof(forged));
    car_control_exchange_begin(b, &other, sizeof(other));
    assert_true(car_control_exchange_test(a, sizeof(mine), all));
    assert_int_equal(7, all[0]);
    assert_int_equal(8, all[1]);
    car_control_detach(a);
    car_control_detach(b);
    car_control_detach(hostile);
}

static void what_is_not_a_segment_of_this_communicator_is_refused(void **state)
{
    car_control_place_t place;
    char text[64] = "not what it should be";
    car_control_t *control = NULL;

    (void) state;
    assert_int_equal(0, car_control_create(2, &place));
    assert_int_not_equal(0, car_control_attach(&place, 0, 3, &control));
    assert_int_equal(sizeof(text), pwrite(place.fd, text, sizeof(text), 0));
    assert_int_equal(EPROTO, car_control_attach(&place, 0, 2, &control));
    assert_null(control);
    car_control_close(&place);
    assert_int_equal(ENOENT, car_control_attach(&place, 0, 2, &control));
}

static void the_first_rank_that_breaks_it_is_remembered(void **state)
{
    car_control_place_t place;
    car_control_t *a, *b;

    (void) state;
    assert_int_equal(0, car_control_create(2, &place));
    assert_int_equal(0, car_control_attach(&place, 0, 2, &a));
    assert_int_equal(0, car_control_attach(&place, 1, 2, &b));
    car_control_close(&place);
    assert_int_equal(-1, car_control_broken(a));
    car_control_break(b, CAR_FAULT_LATE, "");
    car_control_break(a, CAR_FAULT_DRIVER, "");
    assert_int_equal(1, car_control_broken(a));
    assert_int_equal(CAR_FAULT_LATE, car_control_fault(a));
    /* Who waits for records of others is not left waiting. */
    int mine = 0, all[2];
    assert_false(car_watch_exchange(a, &mine, sizeof(mine), all, yield, ""));
    assert_false(car_control_all_gone(a));
    car_control_depart(a);
    car_control_depart(b);
    assert_true(car_control_all_gone(a));
    car_control_detach(a);
    car_control_detach(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_reads_what_everybody_brought),
        cmocka_unit_test(a_segment_has_a_name_only_if_it_is_given_one),
        cmocka_unit_test(a_file_that_others_can_reach_is_refused),
        cmocka_unit_test(a_name_replaces_nothing),
        cmocka_unit_test(what_is_no_segment_is_refused_without_a_name),
        cmocka_unit_test(whatever_stands_in_the_segment_a_fault_is_a_rank_of_it),
        cmocka_unit_test(what_a_rank_brought_itself_nobody_changes),
        cmocka_unit_test(what_is_not_a_segment_of_this_communicator_is_refused),
        cmocka_unit_test(the_first_rank_that_breaks_it_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
