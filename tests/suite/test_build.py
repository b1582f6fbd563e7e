"""What a build in several jobs relies on: each dependency is written down. One that is missing fails by chance only."""
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def embedded_images():
    """Each image of kernels that a source embeds (coll_car/car_embed.h), with that source."""
    return [(str(source.relative_to(ROOT)), image)
            for folder in ("coll_car", "bench", "tests/mpi") for source in sorted((ROOT / folder).glob("*.c"))
            for image in re.findall(r'^\s*CAR_EMBED\(\w+, "([^"]+)"\)', source.read_text(), re.M)]


def test_there_are_embedded_images():
    assert len(embedded_images()) >= 3


@pytest.mark.by_turns
def test_check_waits_for_all(build):
    """`make -j all check` is one make then, not two that write the same files."""
    rules = subprocess.run(["make", "-pnq", "check"], cwd=build.path, check=False, capture_output=True,
                           text=True).stdout
    assert re.search(r"^check:.* all\b", rules, re.M), re.findall("^check:.*", rules, re.M)


@pytest.mark.parametrize("source, image", embedded_images())
def test_an_object_waits_for_the_image_that_it_embeds(build, source, image):
    rules = pathlib.Path(build.path, "Makefile").read_text()
    if not re.search("^car_have_fatbins = 1", rules, re.M):
        pytest.skip("this build has no kernels for real GPUs")
    objects = re.findall(rf"^(\S+\.l?o): {re.escape(source)}\b", rules, re.M)
    # Builds with a sanitizer (mpi.mk) and unit tests (engine.mk) leave the images out.
    objects = [name for name in objects if not re.search("/([at]san|tests_unit_\\w+)-", name)]
    assert objects, f"no rule makes an object of {source}"
    for target in objects:
        # As make calls the sources: configure may have been told of them by a relative path.
        kernels = pathlib.Path(re.search("^srcdir = (.*)$", rules, re.M)[1], image.replace(".fatbin", ".cu"))
        made = subprocess.run(["make", "-n", "-W", kernels, target], cwd=build.path,
                              check=True, capture_output=True, text=True).stdout
        assert f"-o {image} " in made, f"{target} does not depend on {image}:\n{made}"
