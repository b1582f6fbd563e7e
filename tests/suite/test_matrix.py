"""
The matrix of Open MPI versions, PMLs, topologies, rank counts, forms of a call and ways to do it: by default every pair of
values of any two of these, with --full all of it. Each run is the program allreduce, and all on one Open MPI that differ only
in the form or the way to do a call must print the same digest.
"""
import pytest

import launch
import pairs

FACTORS = {
    "version": [build.version for build in launch.builds()],
    "pml": ["ob1", "ucx"],
    "topology": ["nvlink", "pairs", "pcie", "shared"],
    "ranks": [2, 3, 4, 8],
    "links": ["auto", "p2p"],
    "algorithm": ["auto", "one_shot_push", "two_shot_push", "one_shot_pull", "two_shot"],
    "launch": ["graph", "plain"],
    "form": ["blocking", "nonblocking", "persistent"],
}

digests = {}


def served(row):
    """Whether coll/car connects these GPUs: all by NVLink, or two over PCIe, or over anything if told so."""
    if row["topology"] in ("nvlink", "shared") or row["links"] == "p2p":
        return True
    return row["ranks"] == 2


def name(row):
    return "-".join(str(value) for value in row.values())


def pytest_generate_tests(metafunc):
    if "row" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        chosen = pairs.rows(FACTORS) if full else pairs.covering(FACTORS, served)
        metafunc.parametrize("row", chosen, ids=name)


def arguments(row):
    if served(row):
        return ["--cases", 60]
    return ["--cases", 20, "--expect", "declined"]


def test_allreduce(row, check):
    build = next(build for build in launch.builds() if build.version == row["version"])
    shared = row["topology"] == "shared"
    gpus = launch.simulated(build, devices=1 if shared else row["ranks"],
                            topology="nvlink" if shared else row["topology"])
    result = check(launch.run(build, "allreduce", *arguments(row), ranks=row["ranks"], pml=row["pml"], gpus=gpus,
                              car={k: row[k] for k in ("links", "algorithm", "launch")}, env={"CAR_TEST_FORM": row["form"]}))
    if served(row):
        # One device has no memory of another to try, and each Open MPI has types of its own, so these make other calls.
        assert digests.setdefault((build.version, row["ranks"], shared), result.digest) == result.digest, result


@pytest.mark.by_turns
def test_sixteen_ranks(build, check):
    check(launch.run(build, "allreduce", "--cases", 60, ranks=16, gpus=launch.simulated(build, devices=4)))
