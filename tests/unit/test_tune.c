/*
 * Tune files: what stands in a right one is read, and every wrong one is refused with its line and
 * what to do.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "car_tune.h"

static car_tune_t tune;
static char wrong[CAR_TUNE_WRONG_BYTES];

static bool parse(const char *text)
{
    /* As large as it is, so that a sanitizer sees who reads behind it. */
    const size_t bytes = strlen(text);
    char *copy = malloc(bytes > 0 ? bytes : 1);

    memcpy(copy, text, bytes);
    wrong[0] = '\0';
    const bool right = car_tune_parse("file", copy, bytes, &tune, wrong);
    free(copy);
    return right;
}

static void every_kind_of_line_is_read(void **state)
{
    static const car_tuned_t wanted[] = {{90, CAR_ONE_GPU, 2, CAR_PUSH_MAX, 131072, 2},
                                         {100, CAR_SEVERAL_GPUS, 16, CAR_PULL_MAX, UINT64_MAX, 3},
                                         {80, CAR_ONE_GPU, 8, CAR_ZERO_COPY_MIN, UINT64_MAX, 5},
                                         {80, CAR_ONE_GPU, 8, CAR_ZERO_COPY_AGAIN, 1, 6},
                                         {80, CAR_ONE_GPU, 8, CAR_PUSH_MAX, 0, 7},
                                         {80, CAR_ONE_GPU, 8, CAR_ALONE_MAX, UINT64_MAX, 8},
                                         {80, CAR_ONE_GPU, 4, CAR_ALONE_MAX, 0, 9}};

    (void) state;
    assert_true(parse("# a comment\n"
                      "sm_90.one_gpu.2.push_max=128k\n"
                      "  sm_100.several_gpus.16.pull_max\t =\tall   # another\r\n"
                      "\n"
                      "sm_80.one_gpu.8.zero_copy_min = never\n"
                      "sm_80.one_gpu.8.zero_copy_again = 1\n"
                      "sm_80.one_gpu.8.push_max = 0\n"
                      "sm_80.one_gpu.8.alone_max = all\n"
                      "sm_80.one_gpu.4.alone_max = 0"));
    assert_int_equal(sizeof(wanted) / sizeof(wanted[0]), tune.count);
    for (int i = 0; i < tune.count; ++i) {
        const car_tuned_t *t = &tune.tuned[i], *w = &wanted[i];
        assert_true(w->generation == t->generation && w->sharing == t->sharing
                    && w->ranks == t->ranks && w->which == t->which && w->bytes == t->bytes
                    && w->line == t->line);
    }
    assert_true(parse(""));
    assert_int_equal(0, tune.count);
}

static void bytes_may_end_in_a_unit(void **state)
{
    static const struct { const char *text; uint64_t bytes;
    } values[] = {
        {"5", 5},        {"5k", 5 << 10}, {"5K", 5 << 10}, {"5m", 5 << 20},
        {"5M", 5 << 20}, {"1g", 1 << 30}, {"1G", 1 << 30}, {"1048576g", UINT64_C(1) << 50}};

    (void) state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); ++i) {
        char line[80];
        snprintf(line, sizeof(line), "sm_90.one_gpu.2.push_max = %s\n", values[i].text);
        assert_true(parse(line));
        assert_true(values[i].bytes == tune.tuned[0].bytes);
    }
}

static void what_is_wrong_is_told_with_its_line(void **state)
{
    static const struct { const char *line, *said;
    } cases[] = {
        {"push_max = 4k", "'push_max' is no GPU generation"},
        {"sm_90.one_gpu.4.push_max 4k", "no '='"},
        {"= 4k", "'' is no GPU generation"},
        {"sm_.one_gpu.4.push_max = 4k", "'sm_' is no GPU generation"},
        {"sm_9x.one_gpu.4.push_max = 4k", "'sm_9x' is no GPU generation"},
        {"sm_9.one_gpu.4.push_max = 4k", "'sm_9' is no GPU generation"},
        {"sm_1000.one_gpu.4.push_max = 4k", "'sm_1000' is no GPU generation"},
        {"90.one_gpu.4.push_max = 4k", "'90' is no GPU generation"},
        {"sm_90.both.4.push_max = 4k", "'both' stands where one_gpu or several_gpus must"},
        {"sm_90.one_gpu.push_max = 4k", "'push_max' is no number of ranks"},
        {"sm_90.one_gpu.1.push_max = 4k", "'1' is no number of ranks from 2 to 16"},
        {"sm_90.one_gpu.17.push_max = 4k", "'17' is no number of ranks"},
        {"sm_90.one_gpu.-4.push_max = 4k", "'-4' is no number of ranks"},
        {"sm_90.one_gpu.18446744073709551620.push_max = 4k",
         "'18446744073709551620' is no number of ranks"},
        {"sm_90.one_gpu.4.push_min = 4k", "unknown threshold 'push_min'; there are push_max,"},
        {"sm_90.one_gpu.4.push_max.x = 4k", "unknown threshold 'push_max.x'"},
        {"sm_90.one_gpu.4.push_max =", "'' is no value of push_max"},
        {"sm_90.one_gpu.4.push_max = -1", "'-1' is no value of push_max"},
        {"sm_90.one_gpu.4.push_max = 4q", "'4q' is no value"},
        {"sm_90.one_gpu.4.push_max = k", "'k' is no value"},
        {"sm_90.one_gpu.4.push_max = 4kk", "'4kk' is no value"},
        {"sm_90.one_gpu.4.push_max = 1.5m", "'1.5m' is no value"},
        {"sm_90.one_gpu.4.push_max = never", "or 'all'"},
        {"sm_90.one_gpu.4.push_max = 4 k", "'4 k' is no value"},
        {"sm_90.one_gpu.4.push_max = 1048577g", "'1048577g' is no value"},
        {"sm_90.one_gpu.4.push_max = 99999999999999999999", "'99999999999999999999' is no value"},
        {"sm_90.one_gpu.4.zero_copy_min = 0", "from 1 on"},
        {"sm_90.one_gpu.4.zero_copy_min = all", "or 'never'"},
        {"sm_90.one_gpu.2.push_max = 8k", "set in line 1 already"},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        char text[200];
        snprintf(text, sizeof(text), "sm_90.one_gpu.2.push_max = 4k\n\n%s\n", cases[i].line);
        assert_false(parse(text));
        assert_int_equal(0, tune.count);
        if (0 != strncmp(wrong, "file:3: ", 8) || NULL == strstr(wrong, cases[i].said)) {
            fail_msg("%s: %s", cases[i].line, wrong);
        }
    }
}

static void a_message_shows_no_control_characters_and_not_too_much(void **state)
{
    char text[5000];

    (void) state;
    memset(text, 'x', sizeof(text) - 1);
    memcpy(text, "\033[31m\177\200", 7);
    text[sizeof(text) - 1] = '\0';
    assert_false(parse(text));
    assert_non_null(strstr(wrong, "?[31m??xxx"));
    assert_true(strlen(wrong) < 200);
    /* A byte of 0 ends no text. */
    static const char zero[] = "sm_90.one_gpu.2.push_max = 4k\0\n";
    assert_false(car_tune_parse("file", zero, sizeof(zero) - 1, &tune, wrong));
    assert_non_null(strstr(wrong, "'4k?' is no value"));
}

static void more_lines_than_fit_are_refused(void **state)
{
    static char text[64 * 1024];
    size_t used = 0;

    (void) state;
    for (int i = 0; i <= CAR_TUNED_MOST; ++i) {
        used += (size_t) snprintf(text + used, sizeof(text) - used,
                                  "sm_%d.one_gpu.%d.push_max = 1\n", 10 + i / 15, 2 + i % 15);
        if (i + 1 == CAR_TUNED_MOST) {
            assert_true(parse(text));
        }
    }
    assert_false(parse(text));
    assert_non_null(strstr(wrong, "more than 512 thresholds"));
}

/*
 * Any change to a right file leaves one that is read or refused with a sentence, and never touches
 * what is not its own.
 */
static void any_bytes_are_read_or_refused(void **state)
{
    static const char right[] =
        "sm_90.one_gpu.2.push_max = 128k # x\nsm_100.several_gpus.16.zero_copy_min = never\n";
    static const char pieces[] = "=.#\n \0\377kall0123456789smnever_";

    (void) state;
    srand(1);
    for (int round = 0; round < 20000; ++round) {
        size_t bytes = sizeof(right) - 1;
        char *text = malloc(bytes);
        memcpy(text, right, bytes);
        for (int changes = rand() % 4; changes >= 0; --changes) {
            text[(size_t) rand() % bytes] = pieces[(size_t) rand() % sizeof(pieces)];
        }
        bytes = 0 == rand() % 4 ? (size_t) rand() % bytes : bytes;
        wrong[0] = '\0';
        const bool read = car_tune_parse("file", text, bytes, &tune, wrong);
        assert_true(read ? tune.count <= 2 : '\0' != wrong[0] && 0 == tune.count);
        free(text);
    }
}

static void only_small_regular_files_are_read(void **state)
{
    char folder[] = "/tmp/car_tune.XXXXXX", path[64];

    (void) state;
    assert_non_null(mkdtemp(folder));
    assert_false(car_tune_read(folder, &tune, wrong));
    assert_non_null(strstr(wrong, "no regular file"));
    assert_false(car_tune_read("/dev/zero", &tune, wrong));
    snprintf(path, sizeof(path), "%s/file", folder);
    assert_false(car_tune_read(path, &tune, wrong));
    assert_non_null(strstr(wrong, "cannot be opened: No such file"));
    assert_int_equal(0, mkfifo(path, 0600));
    assert_false(car_tune_read(path, &tune, wrong));
    assert_int_equal(0, unlink(path));
    const int file = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(30 == write(file, "sm_90.one_gpu.2.push_max = 4k\n", 30));
    assert_true(car_tune_read(path, &tune, wrong));
    assert_int_equal(4096, tune.tuned[0].bytes);
    assert_int_equal(0, ftruncate(file, 10 << 20));
    assert_false(car_tune_read(path, &tune, wrong));
    assert_non_null(strstr(wrong, "10485760 bytes; a tune file has"));
    close(file);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_line_is_read),
        cmocka_unit_test(bytes_may_end_in_a_unit),
        cmocka_unit_test(what_is_wrong_is_told_with_its_line),
        cmocka_unit_test(a_message_shows_no_control_characters_and_not_too_much),
        cmocka_unit_test(more_lines_than_fit_are_refused),
        cmocka_unit_test(any_bytes_are_read_or_refused),
        cmocka_unit_test(only_small_regular_files_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
