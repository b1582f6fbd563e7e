"""tools/pack: what a machine without compilers needs, in a folder that runs wherever it is put."""
import os
import shutil
import subprocess

import pytest

import launch
from launch import run, simulated

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def pack(*words, expect=0):
    done = subprocess.run([os.path.join(ROOT, "tools/pack"), *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done
    return done.stdout + done.stderr


def is_of_the_distribution(build):
    return build.mpirun.startswith("/usr/bin/")


def test_a_pack_runs_where_it_is_put(build, check, tmp_path, monkeypatch):
    if is_of_the_distribution(build):
        pytest.skip("the distribution's Open MPI is packed by nobody")
    said = pack(build.path, tmp_path / "made")
    shutil.move(tmp_path / "made", tmp_path / "pack")
    assert f"COLL_CAR_OPENMPI={build.version}={tmp_path}/made/openmpi" in said
    monkeypatch.setenv("COLL_CAR_OPENMPI", f"{build.version}={tmp_path}/pack/openmpi")
    packed = launch.build_at(tmp_path / "pack/build")
    assert packed.mpirun == f"{tmp_path}/pack/openmpi/bin/mpirun"
    check(run(packed, "allreduce", "--cases", 20, "--max-bytes", 20000, ranks=2, gpus=simulated(packed, 2)))
    for environment in (launch.environment_of(packed), {**launch.environment_of(packed), **simulated(packed)}):
        libraries = subprocess.run(["ldd", os.path.join(packed.path, "tests/mpi/ops")], env=environment, capture_output=True, text=True, check=True)
        for library in ("openmpi/lib/libmpi.so", "build/lib/.libs/libcar.so"):
            assert f"{tmp_path}/pack/{library}" in libraries.stdout, libraries
    weighs = sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(tmp_path / "pack") for name in names)
    assert weighs < 60 << 20, weighs


def test_what_cannot_be_packed_is_refused_in_words(build, tmp_path):
    assert "tools/pack BUILD-TREE FOLDER" in pack(expect=2)
    assert "no build tree" in pack(tmp_path, tmp_path / "to", expect=2)
    assert "is there already" in pack(build.path, tmp_path, expect=2)
    if is_of_the_distribution(build):
        assert "belongs to the distribution" in pack(build.path, tmp_path / "to", expect=2)
    (tmp_path / "tree").mkdir()
    shutil.copy(os.path.join(build.path, "openmpi.env"), tmp_path / "tree")
    assert "lacks programs" in pack(tmp_path / "tree", tmp_path / "to", expect=2)
    assert not (tmp_path / "to").exists()
