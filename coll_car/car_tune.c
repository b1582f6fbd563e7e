#include "car_tune.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "car_kernel_args.h"

#define EXAMPLE "sm_90.one_gpu.4.push_max = 128k"
#define FILE_MOST (256 * 1024)             /* many times what CAR_TUNED_MOST lines take */
#define BYTES_MOST (UINT64_C(1) << 50)     /* more than any machine has */
#define DIGITS_MOST 16                     /* so that no number overflows before it is compared */
#define SHOWN_MOST 40                      /* of a word in a message */

typedef struct {
    const char *start;
    size_t length;
} word_t;

typedef struct {
    const char *path;
    int line;
    char *wrong;
} where_t;

/* --- what is wrong ---------------------------------------------------------------------------- */

static bool refuse(const where_t *where, const char *format, ...)
{
    va_list arguments;
    char place[16] = "";

    if (0 != where->line) {
        snprintf(place, sizeof(place), ":%d", where->line);
    }
    const int used = snprintf(where->wrong, CAR_TUNE_WRONG_BYTES, "%.200s%s: ", where->path, place);
    va_start(arguments, format);
    vsnprintf(where->wrong + used, CAR_TUNE_WRONG_BYTES - (size_t) used, format, arguments);
    va_end(arguments);
    return false;
}

/* A word of the file for a message, whatever is in it. */
static const char *shown(word_t word, char text[SHOWN_MOST + 4])
{
    const size_t length = word.length < SHOWN_MOST ? word.length : SHOWN_MOST;

    for (size_t i = 0; i < length; ++i) {
        text[i] = isprint((unsigned char) word.start[i]) ? word.start[i] : '?';
    }
    memcpy(text + length, word.length > SHOWN_MOST ? "..." : "", word.length > SHOWN_MOST ? 4 : 1);
    return text;
}

/* --- words ------------------------------------------------------------------------------------ */

static bool is_blank(char c)
{
    return ' ' == c || '\t' == c || '\r' == c;
}

static word_t trimmed(word_t word)
{
    while (word.length > 0 && is_blank(word.start[0])) {
        ++word.start;
        --word.length;
    }
    while (word.length > 0 && is_blank(word.start[word.length - 1])) {
        --word.length;
    }
    return word;
}

/*
 * What comes before the first `end`, which is taken from the text along with it; all of it where
 * there is none.
 */
static word_t split(word_t *text, char end)
{
    const char *found = memchr(text->start, end, text->length);
    const word_t before = {text->start,
                           NULL == found ? text->length : (size_t) (found - text->start)};
    const size_t taken = before.length + (NULL != found);

    text->start += taken;
    text->length -= taken;
    return before;
}

static bool is(word_t word, const char *name)
{
    return strlen(name) == word.length && 0 == memcmp(name, word.start, word.length);
}

/*
 * Decimal digits at the beginning of a word; returns how many, 0 where there are none or far too
 * many.
 */
static size_t digits(word_t word, uint64_t *value)
{
    size_t n = 0;

    for (*value = 0; n < word.length && isdigit((unsigned char) word.start[n]); ++n) {
        if (DIGITS_MOST == n) {
            return 0;
        }
        *value = 10 * *value + (uint64_t) (word.start[n] - '0');
    }
    return n;
}

/* --- the parts of a line ---------------------------------------------------------------------- */

static bool read_generation(const where_t *where, word_t word, car_tuned_t *tuned)
{
    char text[SHOWN_MOST + 4];
    const word_t number = {word.start + 3, word.length - 3};
    uint64_t value = 0;

    if (word.length < 4 || 0 != memcmp(word.start, "sm_", 3)
        || number.length != digits(number, &value) || value < 10 || value > 999) {
        return refuse(where,
                      "'%s' is no GPU generation; it is sm_ and the compute capability, as sm_90 "
                      "(a line is: " EXAMPLE ")",
                      shown(word, text));
    }
    tuned->generation = (int) value;
    return true;
}

static bool read_sharing(const where_t *where, word_t word, car_tuned_t *tuned)
{
    char text[SHOWN_MOST + 4];

    for (int s = 0; s < CAR_SHARINGS; ++s) {
        if (is(word, car_sharing_name((car_sharing_t) s))) {
            tuned->sharing = (car_sharing_t) s;
            return true;
        }
    }
    return refuse(where, "'%s' stands where one_gpu or several_gpus must (a line is: " EXAMPLE ")",
                  shown(word, text));
}

static bool read_ranks(const where_t *where, word_t word, car_tuned_t *tuned)
{
    char text[SHOWN_MOST + 4];
    uint64_t value = 0;

    if (0 == word.length || word.length != digits(word, &value) || value < 2
        || value > CAR_MAX_RANKS) {
        return refuse(where, "'%s' is no number of ranks from 2 to %d (a line is: " EXAMPLE ")",
                      shown(word, text), CAR_MAX_RANKS);
    }
    tuned->ranks = (int) value;
    return true;
}

static bool read_which(const where_t *where, word_t word, car_tuned_t *tuned)
{
    char text[SHOWN_MOST + 4];

    for (int i = 0; i < CAR_THRESHOLDS; ++i) {
        if (is(word, car_threshold_name((car_threshold_t) i))) {
            tuned->which = (car_threshold_t) i;
            return true;
        }
    }
    return refuse(where,
                  "unknown threshold '%s'; there are push_max, pull_max, alone_max, zero_copy_min "
                  "and zero_copy_again",
                  shown(word, text));
}

static bool read_bytes(const where_t *where, word_t word, car_tuned_t *tuned)
{
    static const char units[] = "kmgKMG";
    const bool smallest = car_threshold_is_least(tuned->which);
    const char *without = smallest ? "never" : "all";
    char text[SHOWN_MOST + 4];
    uint64_t value = 0;

    if (is(word, without)) {
        tuned->bytes = UINT64_MAX;
        return true;
    }
    const size_t n = digits(word, &value);
    const char *unit =
        n > 0 && n + 1 == word.length ? memchr(units, word.start[n], sizeof(units) - 1) : NULL;
    const unsigned int shift = NULL == unit ? 0 : 10 * (1 + (unsigned int) (unit - units) % 3);
    if (0 == n || (n != word.length && NULL == unit) || value > BYTES_MOST >> shift
        || (smallest && 0 == value)) {
        return refuse(where,
                      "'%s' is no value of %s; it is a number of bytes%s, which may end in k, m or "
                      "g, or '%s'",
                      shown(word, text), car_threshold_name(tuned->which),
                      smallest ? " from 1 on" : "", without);
    }
    tuned->bytes = value << shift;
    return true;
}

/* --- lines ------------------------------------------------------------------------------------ */

static bool add(const where_t *where, const car_tuned_t *new, car_tune_t *tune)
{
    for (int i = 0; i < tune->count; ++i) {
        const car_tuned_t *old = &tune->tuned[i];
        if (old->generation == new->generation && old->sharing == new->sharing
            && old->ranks == new->ranks && old->which == new->which) {
            return refuse(where, "this threshold is set in line %d already; take one of them out",
                          old->line);
        }
    }
    if (CAR_TUNED_MOST == tune->count) {
        return refuse(where, "more than %d thresholds", CAR_TUNED_MOST);
    }
    tune->tuned[tune->count++] = *new;
    return true;
}

static bool read_line(const where_t *where, word_t line, car_tune_t *tune)
{
    car_tuned_t tuned = {.line = where->line};
    word_t rest = trimmed(split(&line, '#')), parts[4];

    if (0 == rest.length) {
        return true;
    }
    if (NULL == memchr(rest.start, '=', rest.length)) {
        char text[SHOWN_MOST + 4];
        return refuse(where, "no '=' in '%s' (a line is: " EXAMPLE ")", shown(rest, text));
    }
    word_t key = trimmed(split(&rest, '='));
    for (int i = 0; i < 3; ++i) {
        parts[i] = split(&key, '.');
    }
    parts[3] = key;
    return read_generation(where, parts[0], &tuned) && read_sharing(where, parts[1], &tuned)
           && read_ranks(where, parts[2], &tuned) && read_which(where, parts[3], &tuned)
           && read_bytes(where, trimmed(rest), &tuned) && add(where, &tuned, tune);
}

bool car_tune_parse(const char *path, const char *text, size_t bytes, car_tune_t *tune,
                    char wrong[CAR_TUNE_WRONG_BYTES])
{
    where_t where = {path, 0, wrong};
    word_t rest = {text, bytes};

    tune->count = 0;
    while (rest.length > 0) {
        ++where.line;
        if (!read_line(&where, split(&rest, '\n'), tune)) {
            tune->count = 0;
            return false;
        }
    }
    return true;
}

/* --- the file --------------------------------------------------------------------------------- */

/*
 * All of an open file, which is the caller's to free; NULL and `wrong`, where it is none that can
 * be read.
 */
static char *contents(const where_t *where, int file, size_t *bytes)
{
    struct stat found;
    char *text = NULL;

    *bytes = 0;
    if (0 != fstat(file, &found) || !S_ISREG(found.st_mode)) {
        (void) refuse(where, "no regular file");
    } else if (found.st_size > FILE_MOST) {
        (void) refuse(where, "%lld bytes; a tune file has %d at most", (long long) found.st_size,
                      FILE_MOST);
    } else if (NULL == (text = malloc(FILE_MOST))) {
        (void) refuse(where, "no memory to read it");
    }
    for (ssize_t n = 1; NULL != text && n > 0 && *bytes < FILE_MOST;) {
        n = read(file, text + *bytes, FILE_MOST - *bytes);
        if (n < 0) {
            (void) refuse(where, "cannot be read: %s", strerror(errno));
            free(text);
            return NULL;
        }
        *bytes += (size_t) n;
    }
    return text;
}

bool car_tune_read(const char *path, car_tune_t *tune, char wrong[CAR_TUNE_WRONG_BYTES])
{
    const where_t where = {path, 0, wrong};
    /* Not blocking: a pipe would wait for its writer. */
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t bytes;

    tune->count = 0;
    if (file < 0) {
        return refuse(&where, "cannot be opened: %s", strerror(errno));
    }
    char *text = contents(&where, file, &bytes);
    close(file);
    const bool right = NULL != text && car_tune_parse(path, text, bytes, tune, wrong);
    free(text);
    return right;
}
