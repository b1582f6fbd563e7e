/*
 * The 16-bit floats of libcar, all 65536 of each: what they are as float32, by the definition of
 * the formats, and that float32 numbers at, between and beside all of them round to the nearest,
 * ties to even.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "car_float16.h"

typedef struct {
    int mantissa_bits, bias;
    uint16_t infinity;
    float (*to_float)(uint16_t);
    uint16_t (*from_float)(float);
} format_t;

static const format_t bf16 = {7, 127, 0x7f80, car_bf16_to_float, car_bf16_from_float};
static const format_t half = {10, 15, 0x7c00, car_half_to_float, car_half_from_float};
static const format_t *const formats[] = {&bf16, &half};

#define FOR_FORMATS(f)                                                                             \
    for (const format_t *const *at = formats, *f; at < formats + 2 && (f = *at, 1); ++at)

/*
 * The number of that magnitude (no sign), as the standard defines it; for infinity, the power of
 * two in its place.
 */
static double value_of(const format_t *f, uint16_t magnitude)
{
    const int fraction = magnitude & ((1 << f->mantissa_bits) - 1),
              exponent = magnitude >> f->mantissa_bits;

    return 0 == exponent
               ? ldexp(fraction, 1 - f->bias - f->mantissa_bits)
               : ldexp(fraction + (1 << f->mantissa_bits), exponent - f->bias - f->mantissa_bits);
}

static void assert_rounds_to(const format_t *f, float from, uint16_t to)
{
    assert_int_equal(f->from_float(from), to);
    assert_int_equal(f->from_float(-from), to | 0x8000);
}

static void every_number_is_what_the_format_says(void **state)
{
    (void) state;
    FOR_FORMATS(f) {
        for (uint16_t m = 0; m < f->infinity; ++m) {
            assert_true((double) f->to_float(m) == value_of(f, m));
            assert_true((double) f->to_float(m | 0x8000) == -value_of(f, m));
            assert_false(signbit(f->to_float(m)));
            assert_true(signbit(f->to_float(m | 0x8000)));
        }
        assert_true(f->to_float(f->infinity) == INFINITY);
        assert_true(f->to_float(f->infinity | 0x8000) == -INFINITY);
        for (uint32_t m = f->infinity + 1u; m < 0x8000; ++m) {
            assert_true(isnan(f->to_float((uint16_t) m)));
            assert_true(isnan(f->to_float((uint16_t) (m | 0x8000))));
        }
    }
}

static void there_and_back_changes_nothing_but_makes_nan_quiet(void **state)
{
    (void) state;
    FOR_FORMATS(f) {
        const uint16_t quiet = (uint16_t) (1 << (f->mantissa_bits - 1));
        for (uint32_t bits = 0; bits < 0x10000; ++bits) {
            const uint16_t back = f->from_float(f->to_float((uint16_t) bits));
            assert_int_equal(back, (bits & 0x7fff) > f->infinity ? bits | quiet : bits);
        }
    }
}

/*
 * Between each number and the next, infinity included: what is nearer to one goes there, the middle
 * to the even one.
 */
static void what_lies_between_rounds_to_the_nearest_and_ties_to_even(void **state)
{
    (void) state;
    FOR_FORMATS(f) {
        for (uint16_t m = 0; m < f->infinity; ++m) {
            const double exact = (value_of(f, m) + value_of(f, (uint16_t) (m + 1))) / 2;
            const float middle = (float) exact;
            assert_true((double) middle == exact);
            assert_rounds_to(f, middle, (uint16_t) (m + (m & 1)));
            assert_rounds_to(f, nextafterf(middle, 0), m);
            assert_rounds_to(f, nextafterf(middle, INFINITY), (uint16_t) (m + 1));
            if (0 != m) {
                assert_rounds_to(f, nextafterf(f->to_float(m), 0), m);
            }
            assert_rounds_to(f, nextafterf(f->to_float(m), INFINITY), m);
        }
    }
}

static void the_ends_of_float32(void **state)
{
    (void) state;
    FOR_FORMATS(f) {
        assert_rounds_to(f, 0x1.fffffep127f, f->infinity);
        assert_rounds_to(f, INFINITY, f->infinity);
        assert_rounds_to(f, 0x1p-149f, 0);
        assert_rounds_to(f, 0, 0);
    }
    assert_rounds_to(&half, 65519.996f, 0x7bff);
    assert_rounds_to(&half, 65520, 0x7c00);
    assert_rounds_to(&half, 0x1p-25f, 0);
    assert_rounds_to(&half, 0x1.000002p-25f, 1);
}

/*
 * Those with a payload in the lower bits only would be an infinity if cut off, those with all bits
 * zero if rounded up.
 */
static void every_nan_stays_a_quiet_nan_of_the_same_sign(void **state)
{
    (void) state;
    FOR_FORMATS(f) {
        const uint16_t quiet = (uint16_t) (1 << (f->mantissa_bits - 1));
        for (uint32_t payload = 1; payload < 0x800000;
             payload += payload < 0x3000 || payload >= 0x7fd000 ? 1 : 997) {
            for (uint32_t sign = 0; sign < 2; ++sign) {
                const uint16_t got =
                    f->from_float(car_float_of_bits(sign << 31 | 0x7f800000 | payload));
                assert_int_equal(got & (0x8000 | f->infinity | quiet),
                                 sign << 15 | f->infinity | quiet);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_is_what_the_format_says),
        cmocka_unit_test(there_and_back_changes_nothing_but_makes_nan_quiet),
        cmocka_unit_test(what_lies_between_rounds_to_the_nearest_and_ties_to_even),
        cmocka_unit_test(the_ends_of_float32),
        cmocka_unit_test(every_nan_stays_a_quiet_nan_of_the_same_sign),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
