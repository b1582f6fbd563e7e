# libcar: MPI operations on 16-bit floats, for programs. Included by the top Makefile.am. It needs no more than an MPI: no
# header of Open MPI's internals, nothing of the component.
car_library = lib/libcar.la
car_archive = lib/libcar.a
car_library_headers = lib/car.h
if INSTALL_LIBCAR
lib_LTLIBRARIES = $(car_library)
lib_LIBRARIES = $(car_archive)
include_HEADERS = $(car_library_headers)
pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = lib/car.pc
else
# The tests use it all the same, as the shared library that it would be.
check_LTLIBRARIES += $(car_library)
car_library_rpath = -rpath $(libdir)
endif

car_library_sources = lib/car.h lib/car_float16.h lib/car_ops.c
car_library_cppflags = -I$(srcdir)/lib $(MPI_CPPFLAGS)
car_library_cflags = -std=c11 $(CAR_WARNINGS)

lib_libcar_la_SOURCES = $(car_library_sources)
lib_libcar_la_CPPFLAGS = $(car_library_cppflags)
lib_libcar_la_CFLAGS = $(car_library_cflags)
lib_libcar_la_LDFLAGS = -shared $(car_library_rpath) -version-info 0:0:0 -no-undefined \
	-Wl,--version-script=$(srcdir)/lib/libcar.map
lib_libcar_la_LIBADD = $(MPI_LIBS)
lib_libcar_la_DEPENDENCIES = $(srcdir)/lib/libcar.map

# Not by libtool, which builds no archives here (LT_INIT): the component has no use for one. Position-independent, as it
# may end up in somebody's shared library.
lib_libcar_a_SOURCES = $(car_library_sources)
lib_libcar_a_CPPFLAGS = $(car_library_cppflags)
lib_libcar_a_CFLAGS = $(car_library_cflags) -fPIC
lib_libcar_a_AR = $(AR) cr

EXTRA_DIST += lib/libcar.map

# --- the example, as a program of the tests ----------------------------------------------------------------------------

check_PROGRAMS += examples/bf16_allreduce
suite_programs = examples/bf16_allreduce
examples_bf16_allreduce_CPPFLAGS = -I$(srcdir)/lib $(MPI_CPPFLAGS)
examples_bf16_allreduce_CFLAGS = -std=c11 $(CAR_WARNINGS)
# No wrapper script: mpirun starts the program itself.
examples_bf16_allreduce_LDFLAGS = -no-install
examples_bf16_allreduce_LDADD = $(car_library) $(MPI_LIBS)

dist_check_SCRIPTS += tests/build/check-libcar
TESTS += tests/build/check-libcar
