"""
Options and fixtures. Builds are named by COLL_CAR_BUILDS="4.1.4=PATH:5.0.7=PATH" (build trees of coll/car, made with
`make all` and `make check`). docs/testing.md tells more.
"""
import pytest

import launch


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the whole matrix, and everything slow")


def pytest_configure(config):
    del config
    if not launch.builds():
        raise pytest.UsageError('COLL_CAR_BUILDS names no build: COLL_CAR_BUILDS="4.1.4=PATH:5.0.7=PATH"')


def pytest_generate_tests(metafunc):
    """A test with the parameter `build` runs once for each Open MPI."""
    if "build" in metafunc.fixturenames:
        found = launch.builds()
        metafunc.parametrize("build", found, ids=[build.version for build in found])


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


@pytest.fixture
def check():
    """Fails the test with all that the job said unless it passed; what a program skips is skipped here too."""
    def checked(result):
        if result.skipped:
            pytest.skip(result.skipped)
        if not result.passed:
            pytest.fail(str(result), pytrace=False)
        return result
    return checked
