"""
Options and fixtures. Builds are named by COLL_CAR_BUILDS="4.1.4=PATH:5.0.7=PATH" (build trees of coll/car, made with
`make all` and `make check`). docs/testing.md tells more.
"""
import collections
import os
import subprocess

import pytest

import launch


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the whole matrix, and everything slow")


def pytest_configure(config):
    config.addinivalue_line("markers", "by_turns: no matter of Open MPI's: by default each case on one build, by turns")
    config.addinivalue_line("markers", "on_one(n): likewise, all on the n-th build, as what they need is made for it")
    config.addinivalue_line("markers", "slow: only with --full")
    if not launch.builds():
        raise pytest.UsageError('COLL_CAR_BUILDS names no build: COLL_CAR_BUILDS="4.1.4=PATH:5.0.7=PATH"')


def pytest_generate_tests(metafunc):
    """A test with the parameter `build` runs once for each Open MPI."""
    if "build" in metafunc.fixturenames:
        found = launch.builds()
        metafunc.parametrize("build", found, ids=[build.version for build in found])


def only_build_of(item, cases):
    """
    The build that an item is to run on alone, or None. `cases`: numbers of those of the same test so far, a case being
    an item but for its build.
    """
    found = launch.builds()
    one, turns = item.get_closest_marker("on_one"), item.get_closest_marker("by_turns")
    if len(found) == 1 or (one is None and turns is None):
        return None
    if one is not None:
        return found[one.args[0] % len(found)]
    case = item.nodeid.replace(item.callspec.params["build"].version, "", 1)
    number = cases.setdefault(case, len(cases))
    # Tests begin with one or the other; the sum of the digits, so that no parameter's values fall in with the turns.
    turn = len(item.originalname)
    while number > 0:
        turn += number % len(found)
        number //= len(found)
    return found[turn % len(found)]


def pytest_collection_modifyitems(config, items):
    if config.getoption("--full"):
        return
    cases = collections.defaultdict(dict)
    left, chosen = [], []
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes long: --full"))
        build = getattr(item, "callspec", None) and item.callspec.params.get("build")
        only = build and only_build_of(item, cases[item.originalname])
        (chosen if only in (None, build) else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = chosen


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


# What of the build tree is made again, and with which sanitizers (tests/mpi/mpi.mk).
INSTRUMENTED = {"asan": ("address,undefined", ["allreduce", "broken", "fuzz", "lifecycle"]),
                "tsan": ("thread", ["threads"])}


@pytest.fixture(scope="session")
def instrumented(request, tmp_path_factory):
    """With a key of INSTRUMENTED as parameter: makes a build's component and programs; returns the component's folder."""
    name = request.param
    sanitizers, programs = INSTRUMENTED[name]
    probe = tmp_path_factory.mktemp(name)
    (probe / "empty.c").write_text("int main(void) { return 0; }\n")
    compiled = subprocess.run(["gcc", f"-fsanitize={sanitizers}", "empty.c", "-o", "empty"], cwd=probe, check=False,
                              capture_output=True, timeout=60)
    works = compiled.returncode == 0 and subprocess.run([probe / "empty"], check=False, timeout=60).returncode == 0

    def make(build):
        if not works:
            pytest.skip(f"gcc -fsanitize={sanitizers} makes no program that runs here")
        targets = [f"tests/{name}/{target}" for target in ["mca_coll_car.la", *programs]]
        made = subprocess.run(["make", "-s", "-C", build.path, "-j2", *targets], check=False, capture_output=True,
                              text=True, timeout=300)
        assert made.returncode == 0, made.stdout + made.stderr
        return os.path.join(build.path, f"tests/{name}/.libs")
    return make
