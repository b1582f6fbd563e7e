# MPI test programs, which tests/suite and tests/gpu/run start. Included by the top Makefile.am.
mpi_tests = \
	tests/mpi/allreduce tests/mpi/alternate tests/mpi/big tests/mpi/broken tests/mpi/communicators tests/mpi/context tests/mpi/derived \
	tests/mpi/disagree tests/mpi/faulty tests/mpi/finale tests/mpi/gone \
	tests/mpi/erroneous \
	tests/mpi/free_events tests/mpi/fuzz tests/mpi/idup tests/mpi/late tests/mpi/lifecycle tests/mpi/mixed tests/mpi/nocuda tests/mpi/ops tests/mpi/outstanding \
	tests/mpi/persistent tests/mpi/progress tests/mpi/reset tests/mpi/sessions tests/mpi/spawn tests/mpi/stay tests/mpi/stream_order tests/mpi/threads \
	tests/mpi/types tests/mpi/unsupported tests/mpi/whole tests/mpi/window tests/mpi/zero_copy
check_PROGRAMS += $(mpi_tests)

# All that tests/suite uses: what make check builds, but for the tests of its own.
.PHONY: suite-programs
suite-programs: all
	$(MAKE) $(AM_MAKEFLAGS) $(mpi_tests) $(suite_programs) $(check_LTLIBRARIES) $(check_DATA)

mpi_test_common = \
	tests/mpi/checked.c tests/mpi/checked.h tests/mpi/data.c tests/mpi/data.h tests/mpi/data_compare.c \
	tests/mpi/data_fold.c tests/mpi/data_half.c tests/mpi/data_types.c tests/mpi/flight.c tests/mpi/flight.h tests/mpi/form.c tests/mpi/form.h tests/mpi/gpu.c tests/mpi/gpu.h \
	tests/mpi/test_images.c tests/mpi/test_images.h \
	tests/mpi/testing.c tests/mpi/testing.h
mpi_test_cppflags = \
	-I$(srcdir)/tests/mpi -I$(srcdir)/tests/kernels -I$(srcdir)/coll_car -I$(srcdir)/kernels $(MPI_CPPFLAGS) \
	-DCAR_HAVE_FATBINS=$(car_have_fatbins)

# The common sources once, not once per program; car_bench, which is no check program, uses them too. A compiler that fuses
# multiplications and additions would be no reference for data_fold.c.
noinst_LTLIBRARIES += tests/mpi/libcommon.la
tests_mpi_libcommon_la_SOURCES = $(mpi_test_common)
tests_mpi_libcommon_la_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_libcommon_la_CFLAGS = -std=gnu11 -ffp-contract=off $(CAR_WARNINGS)

if HAVE_NVCC
tests_mpi_images_object = tests/mpi/tests_mpi_libcommon_la-test_images.lo
$(tests_mpi_images_object): tests/kernels/test_kernels.fatbin
-include tests/kernels/test_kernels.fatbin.d
CLEANFILES += tests/kernels/test_kernels.fatbin tests/kernels/test_kernels.fatbin.d
endif

# Loaded before a program's libraries, so a shared library of its own.
check_LTLIBRARIES += tests/mpi/scarce.la
tests_mpi_scarce_la_SOURCES = tests/mpi/scarce.c
tests_mpi_scarce_la_CPPFLAGS = -D_GNU_SOURCE
tests_mpi_scarce_la_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_scarce_la_LDFLAGS = -rpath /nowhere -module -avoid-version
tests_mpi_scarce_la_LIBADD = -ldl

mpi_test_libs = tests/mpi/libcommon.la $(MPI_LIBS) -ldl -lm -lpthread

tests_mpi_allreduce_SOURCES = tests/mpi/allreduce.c tests/mpi/borders.c tests/mpi/borders.h coll_car/car_plan.c coll_car/car_thresholds.c
tests_mpi_allreduce_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_allreduce_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_allreduce_LDADD = $(mpi_test_libs)
tests_mpi_big_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_big_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_big_LDADD = $(mpi_test_libs)
tests_mpi_broken_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_broken_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_broken_LDADD = $(mpi_test_libs)
tests_mpi_communicators_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_communicators_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_communicators_LDADD = $(mpi_test_libs)
tests_mpi_context_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_context_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_context_LDADD = $(mpi_test_libs)
tests_mpi_alternate_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_alternate_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_alternate_LDADD = $(mpi_test_libs)
tests_mpi_derived_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_derived_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_derived_LDADD = $(mpi_test_libs)
tests_mpi_disagree_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_disagree_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_disagree_LDADD = $(mpi_test_libs)
tests_mpi_faulty_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_faulty_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_faulty_LDADD = $(mpi_test_libs)
tests_mpi_finale_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_finale_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_finale_LDADD = $(mpi_test_libs)
tests_mpi_gone_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_gone_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_gone_LDADD = $(mpi_test_libs)
tests_mpi_erroneous_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_erroneous_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_erroneous_LDADD = $(mpi_test_libs)
tests_mpi_free_events_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_free_events_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_free_events_LDADD = $(mpi_test_libs)
tests_mpi_fuzz_SOURCES = tests/mpi/fuzz.c tests/mpi/fuzz.h tests/mpi/fuzz_draw.c tests/mpi/fuzz_pending.c tests/mpi/borders.c tests/mpi/borders.h coll_car/car_plan.c coll_car/car_thresholds.c
tests_mpi_fuzz_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_fuzz_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_fuzz_LDADD = $(mpi_test_libs)
tests_mpi_idup_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_idup_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_idup_LDADD = $(mpi_test_libs)
tests_mpi_late_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_late_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_late_LDADD = $(mpi_test_libs)
tests_mpi_lifecycle_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_lifecycle_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_lifecycle_LDADD = $(mpi_test_libs)
tests_mpi_mixed_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_mixed_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_mixed_LDADD = $(mpi_test_libs)
tests_mpi_nocuda_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_nocuda_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_nocuda_LDADD = $(mpi_test_libs)
# With libcar as programs have it: a shared library that others can find in the process.
tests_mpi_ops_SOURCES = tests/mpi/ops.c tests/mpi/ops_data.c tests/mpi/ops_data.h
tests_mpi_ops_CPPFLAGS = $(mpi_test_cppflags) -I$(srcdir)/lib
tests_mpi_ops_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_ops_LDFLAGS = -no-install
tests_mpi_ops_LDADD = $(car_library) $(mpi_test_libs)
tests_mpi_outstanding_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_outstanding_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_outstanding_LDADD = $(mpi_test_libs)
tests_mpi_persistent_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_persistent_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_persistent_LDADD = $(mpi_test_libs)
tests_mpi_progress_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_progress_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_progress_LDADD = $(mpi_test_libs)
tests_mpi_reset_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_reset_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_reset_LDADD = $(mpi_test_libs)
tests_mpi_sessions_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_sessions_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_sessions_LDADD = $(mpi_test_libs)
tests_mpi_spawn_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_spawn_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_spawn_LDADD = $(mpi_test_libs)
tests_mpi_stay_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_stay_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_stay_LDADD = $(mpi_test_libs)
tests_mpi_stream_order_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_stream_order_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_stream_order_LDADD = $(mpi_test_libs)
tests_mpi_types_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_types_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_types_LDADD = $(mpi_test_libs)
tests_mpi_unsupported_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_unsupported_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_unsupported_LDADD = $(mpi_test_libs)
tests_mpi_threads_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_threads_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_threads_LDADD = $(mpi_test_libs)
tests_mpi_whole_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_whole_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_whole_LDADD = $(mpi_test_libs)
tests_mpi_window_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_window_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_window_LDADD = $(mpi_test_libs)
tests_mpi_zero_copy_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_zero_copy_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_zero_copy_LDADD = $(mpi_test_libs)


# The component and threads once more, for tests/suite/test_threads.py, which makes them: data races are looked for with
# ThreadSanitizer. Kernels of real GPUs play no part.
tsan_cflags = -std=gnu11 $(CAR_WARNINGS) -Wno-tsan -g -O1 -fsanitize=thread
EXTRA_LTLIBRARIES = tests/tsan/mca_coll_car.la
EXTRA_PROGRAMS = tests/tsan/threads
tests_tsan_mca_coll_car_la_SHORTNAME = tsan
tests_tsan_mca_coll_car_la_SOURCES = $(coll_car_mca_coll_car_la_SOURCES)
tests_tsan_mca_coll_car_la_CPPFLAGS = $(coll_car_mca_coll_car_la_CPPFLAGS) -UCAR_HAVE_FATBINS -DCAR_HAVE_FATBINS=0
tests_tsan_mca_coll_car_la_CFLAGS = $(tsan_cflags) -fvisibility=hidden
tests_tsan_mca_coll_car_la_LDFLAGS = $(coll_car_mca_coll_car_la_LDFLAGS) -rpath /nowhere
tests_tsan_mca_coll_car_la_LIBADD = $(coll_car_mca_coll_car_la_LIBADD)
tests_tsan_threads_SHORTNAME = tsan
tests_tsan_threads_SOURCES = tests/mpi/threads.c $(mpi_test_common)
tests_tsan_threads_CPPFLAGS = $(mpi_test_cppflags) -UCAR_HAVE_FATBINS -DCAR_HAVE_FATBINS=0
tests_tsan_threads_CFLAGS = $(tsan_cflags)
tests_tsan_threads_LDADD = $(MPI_LIBS) -ldl -lm -lpthread
CLEANFILES += tests/tsan/mca_coll_car.la tests/tsan/threads

# The component and a few programs once more, for tests/suite/test_sanitizers.py: with AddressSanitizer, which looks for
# leaks at the end, too, and UndefinedBehaviorSanitizer.
asan_cflags = -std=gnu11 -ffp-contract=off $(CAR_WARNINGS) -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=undefined
asan_cppflags = -UCAR_HAVE_FATBINS -DCAR_HAVE_FATBINS=0
asan_programs = tests/asan/allreduce tests/asan/broken tests/asan/fuzz tests/asan/lifecycle
EXTRA_LTLIBRARIES += tests/asan/mca_coll_car.la tests/asan/libcommon.la
EXTRA_PROGRAMS += $(asan_programs)
tests_asan_mca_coll_car_la_SHORTNAME = asan
tests_asan_mca_coll_car_la_SOURCES = $(coll_car_mca_coll_car_la_SOURCES)
tests_asan_mca_coll_car_la_CPPFLAGS = $(coll_car_mca_coll_car_la_CPPFLAGS) $(asan_cppflags)
tests_asan_mca_coll_car_la_CFLAGS = $(asan_cflags) -fvisibility=hidden
tests_asan_mca_coll_car_la_LDFLAGS = $(coll_car_mca_coll_car_la_LDFLAGS) -rpath /nowhere
tests_asan_mca_coll_car_la_LIBADD = $(coll_car_mca_coll_car_la_LIBADD)
tests_asan_libcommon_la_SHORTNAME = asan
tests_asan_libcommon_la_SOURCES = $(mpi_test_common) tests/mpi/borders.c tests/mpi/borders.h coll_car/car_plan.c coll_car/car_thresholds.c
tests_asan_libcommon_la_CPPFLAGS = $(mpi_test_cppflags) $(asan_cppflags)
tests_asan_libcommon_la_CFLAGS = $(asan_cflags)
asan_libs = tests/asan/libcommon.la $(MPI_LIBS) -ldl -lm -lpthread
tests_asan_allreduce_SHORTNAME = asan
tests_asan_allreduce_SOURCES = tests/mpi/allreduce.c
tests_asan_allreduce_CPPFLAGS = $(mpi_test_cppflags)
tests_asan_allreduce_CFLAGS = $(asan_cflags)
tests_asan_allreduce_LDADD = $(asan_libs)
tests_asan_broken_SHORTNAME = asan
tests_asan_broken_SOURCES = tests/mpi/broken.c
tests_asan_broken_CPPFLAGS = $(mpi_test_cppflags)
tests_asan_broken_CFLAGS = $(asan_cflags)
tests_asan_broken_LDADD = $(asan_libs)
tests_asan_fuzz_SHORTNAME = asan
tests_asan_fuzz_SOURCES = tests/mpi/fuzz.c tests/mpi/fuzz_draw.c tests/mpi/fuzz_pending.c
tests_asan_fuzz_CPPFLAGS = $(mpi_test_cppflags)
tests_asan_fuzz_CFLAGS = $(asan_cflags)
tests_asan_fuzz_LDADD = $(asan_libs)
tests_asan_lifecycle_SHORTNAME = asan
tests_asan_lifecycle_SOURCES = tests/mpi/lifecycle.c
tests_asan_lifecycle_CPPFLAGS = $(mpi_test_cppflags)
tests_asan_lifecycle_CFLAGS = $(asan_cflags)
tests_asan_lifecycle_LDADD = $(asan_libs)
CLEANFILES += tests/asan/mca_coll_car.la tests/asan/libcommon.la $(asan_programs)
