# MPI test programs, which tests/suite and tests/gpu/run start. Included by the top Makefile.am.
mpi_tests = \
	tests/mpi/allreduce tests/mpi/big tests/mpi/broken tests/mpi/context tests/mpi/late tests/mpi/lifecycle tests/mpi/mixed \
	tests/mpi/nocuda tests/mpi/ops tests/mpi/progress tests/mpi/stream_order tests/mpi/whole
check_PROGRAMS += $(mpi_tests)

mpi_test_common = \
	tests/mpi/data.c tests/mpi/data.h tests/mpi/gpu.c tests/mpi/gpu.h tests/mpi/test_images.c \
	tests/mpi/test_images.h tests/mpi/testing.c tests/mpi/testing.h
mpi_test_cppflags = \
	-I$(srcdir)/tests/mpi -I$(srcdir)/tests/kernels -I$(srcdir)/coll_car -I$(srcdir)/kernels $(MPI_CPPFLAGS) \
	-DCAR_HAVE_FATBINS=$(car_have_fatbins)

# The common sources once, not once per program; car_bench, which is no check program, uses them too.
noinst_LTLIBRARIES += tests/mpi/libcommon.la
tests_mpi_libcommon_la_SOURCES = $(mpi_test_common)
tests_mpi_libcommon_la_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_libcommon_la_CFLAGS = -std=gnu11 $(CAR_WARNINGS)

if HAVE_NVCC
tests_mpi_images_object = tests/mpi/libcommon_la-test_images.lo
$(tests_mpi_images_object): tests/kernels/test_kernels.fatbin
-include tests/kernels/test_kernels.fatbin.d
CLEANFILES += tests/kernels/test_kernels.fatbin tests/kernels/test_kernels.fatbin.d
endif

mpi_test_libs = tests/mpi/libcommon.la $(MPI_LIBS) -ldl -lm -lpthread

tests_mpi_allreduce_SOURCES = tests/mpi/allreduce.c tests/mpi/borders.c tests/mpi/borders.h coll_car/car_plan.c
tests_mpi_allreduce_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_allreduce_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_allreduce_LDADD = $(mpi_test_libs)
tests_mpi_big_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_big_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_big_LDADD = $(mpi_test_libs)
tests_mpi_broken_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_broken_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_broken_LDADD = $(mpi_test_libs)
tests_mpi_context_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_context_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_context_LDADD = $(mpi_test_libs)
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
tests_mpi_progress_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_progress_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_progress_LDADD = $(mpi_test_libs)
tests_mpi_stream_order_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_stream_order_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_stream_order_LDADD = $(mpi_test_libs)
tests_mpi_whole_CPPFLAGS = $(mpi_test_cppflags)
tests_mpi_whole_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_mpi_whole_LDADD = $(mpi_test_libs)

