# A stand-in for libucm, and a folder tests/ucm/lib of the build tree where it lies as UCX's libraries do: its module for CUDA
# in ucx/. Included by the top Makefile.am.
check_LTLIBRARIES += tests/ucm/libcar_standin_ucm.la
tests_ucm_libcar_standin_ucm_la_SOURCES = tests/ucm/standin.c tests/ucm/standin.h
tests_ucm_libcar_standin_ucm_la_CPPFLAGS = -I$(srcdir)/coll_car
tests_ucm_libcar_standin_ucm_la_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_ucm_libcar_standin_ucm_la_LDFLAGS = -rpath /nowhere -module -avoid-version -no-undefined

ucm_links = tests/ucm/lib/libcar_standin_ucm.so tests/ucm/lib/ucx/libucm_cuda.so.0
check_DATA += $(ucm_links)
CLEANFILES += $(ucm_links)

tests/ucm/lib/libcar_standin_ucm.so: tests/ucm/libcar_standin_ucm.la
	$(AM_V_GEN)$(MKDIR_P) $(@D) && ln -sf ../.libs/libcar_standin_ucm.so $@

tests/ucm/lib/ucx/libucm_cuda.so.0: tests/ucm/libcar_standin_ucm.la
	$(AM_V_GEN)$(MKDIR_P) $(@D) && ln -sf ../../.libs/libcar_standin_ucm.so $@
