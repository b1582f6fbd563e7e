# Unit tests of the engine's parts that need no driver, and of libcar's that need no MPI. Included by the top Makefile.am.
if HAVE_CMOCKA
engine_tests = tests/unit/test_arena tests/unit/test_check tests/unit/test_control tests/unit/test_ends tests/unit/test_float16 \
	tests/unit/test_launch tests/unit/test_pace tests/unit/test_plan tests/unit/test_thresholds tests/unit/test_tune
check_PROGRAMS += $(engine_tests)
TESTS += $(engine_tests)

engine_cppflags = -I$(srcdir)/coll_car -I$(srcdir)/kernels $(CMOCKA_CFLAGS)

tests_unit_test_arena_SOURCES = tests/unit/test_arena.c coll_car/car_arena.c
tests_unit_test_arena_CPPFLAGS = $(engine_cppflags)
tests_unit_test_arena_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_arena_LDADD = $(CMOCKA_LIBS)

tests_unit_test_check_SOURCES = tests/unit/test_check.c coll_car/car_check.c
tests_unit_test_check_CPPFLAGS = $(engine_cppflags)
tests_unit_test_check_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_check_LDADD = $(CMOCKA_LIBS)

tests_unit_test_control_SOURCES = \
	tests/unit/test_control.c coll_car/car_control.c coll_car/car_process.c coll_car/car_watch.c coll_car/car_what.c
tests_unit_test_control_CPPFLAGS = $(engine_cppflags)
tests_unit_test_control_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_control_LDADD = $(CMOCKA_LIBS) -lrt

# The whole engine, on the driver that the fuzzer has (tests/fuzz/driver.c), which stands for car_cuda.c.
tests_unit_test_ends_SOURCES = \
	tests/unit/test_ends.c tests/fuzz/driver.c tests/fuzz/driver.h coll_car/car_agree.c coll_car/car_agree_piece.c \
	coll_car/car_agree_records.c coll_car/car_arena.c coll_car/car_buffer.c coll_car/car_check.c coll_car/car_comm.c \
	coll_car/car_control.c coll_car/car_device.c coll_car/car_free_events.c coll_car/car_free_source.c coll_car/car_grow.c \
	coll_car/car_images.c coll_car/car_lane.c coll_car/car_lane_counters.c coll_car/car_launch.c coll_car/car_offer.c \
	coll_car/car_pending.c coll_car/car_persistent.c coll_car/car_persistent_kernels.c coll_car/car_plan.c \
	coll_car/car_process.c coll_car/car_reduction.c coll_car/car_registry.c coll_car/car_run.c coll_car/car_sets.c \
	coll_car/car_setup.c coll_car/car_small.c coll_car/car_stage.c coll_car/car_stay.c coll_car/car_step.c \
	coll_car/car_step_device.c coll_car/car_step_host.c coll_car/car_thresholds.c coll_car/car_topology.c \
	coll_car/car_tune.c coll_car/car_watch.c coll_car/car_what.c
tests_unit_test_ends_CPPFLAGS = $(engine_cppflags) -I$(srcdir)/tests/fuzz -DCAR_HAVE_FATBINS=0
tests_unit_test_ends_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_ends_LDADD = $(CMOCKA_LIBS) -lrt -ldl -lm -lpthread

tests_unit_test_float16_SOURCES = tests/unit/test_float16.c lib/car_float16.h
tests_unit_test_float16_CPPFLAGS = -I$(srcdir)/lib $(CMOCKA_CFLAGS)
tests_unit_test_float16_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_float16_LDADD = $(CMOCKA_LIBS) -lm

tests_unit_test_launch_SOURCES = tests/unit/test_launch.c coll_car/car_launch.c
tests_unit_test_launch_CPPFLAGS = $(engine_cppflags)
tests_unit_test_launch_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_launch_LDADD = $(CMOCKA_LIBS)

tests_unit_test_pace_SOURCES = tests/unit/test_pace.c
tests_unit_test_pace_CPPFLAGS = $(engine_cppflags)
tests_unit_test_pace_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_pace_LDADD = $(CMOCKA_LIBS)

tests_unit_test_plan_SOURCES = tests/unit/test_plan.c coll_car/car_plan.c
tests_unit_test_plan_CPPFLAGS = $(engine_cppflags)
tests_unit_test_plan_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_plan_LDADD = $(CMOCKA_LIBS)
tests_unit_test_thresholds_SOURCES = tests/unit/test_thresholds.c coll_car/car_thresholds.c
tests_unit_test_thresholds_CPPFLAGS = $(engine_cppflags)
tests_unit_test_thresholds_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_thresholds_LDADD = $(CMOCKA_LIBS) -lm

tests_unit_test_tune_SOURCES = tests/unit/test_tune.c coll_car/car_tune.c coll_car/car_thresholds.c
tests_unit_test_tune_CPPFLAGS = $(engine_cppflags)
tests_unit_test_tune_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_tune_LDADD = $(CMOCKA_LIBS) -lm
endif
