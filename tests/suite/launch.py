"""Builds of coll/car, and jobs on them: one place that knows how mpirun is told what to run on which GPUs."""
import dataclasses
import importlib.machinery
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time

PROGRAMS = "tests/mpi"

# What a message needs the sender's help for, so that tests of progress mean something: no copies by the receiver alone.
NO_SINGLE_COPY = {
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    "OMPI_MCA_smsc": "^cma",
    "UCX_TLS": "posix,self",
}


@dataclasses.dataclass(frozen=True)
class Build:
    """A build tree; openmpi.env in it says for which Open MPI."""

    path: str
    version: str
    pkglibdir: str
    mpirun: str
    ompi_info: str
    nvcc: str
    moved_to: str = ""  # the prefix of an Open MPI that is no longer where it was installed

    @property
    def component(self):
        return os.path.join(self.path, "coll_car/.libs/mca_coll_car.so")

    @property
    def cuda_aware(self):
        """Whether this Open MPI can read device memory by itself; then it has a component that needs libcuda."""
        return os.path.exists(os.path.join(self.pkglibdir, "mca_accelerator_cuda.so"))


def named_paths(variable):
    """{version: path} from an environment variable like COLL_CAR_BUILDS="4.1.4=PATH:5.0.7=PATH"."""
    entries = filter(None, os.environ.get(variable, "").split(":"))
    return {version: os.path.abspath(path) for version, path in (entry.split("=", 1) for entry in entries)}


def build_at(path):
    """The build tree there; COLL_CAR_OPENMPI names Open MPIs that have moved, by version, as COLL_CAR_BUILDS does build trees."""
    path = os.path.abspath(path)
    if not os.path.isfile(os.path.join(path, "openmpi.env")):
        raise OSError(f"{path} is no build tree: it has no openmpi.env")
    with open(os.path.join(path, "openmpi.env"), encoding="utf-8") as lines:
        said = dict(line.strip().split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    prefix = named_paths("COLL_CAR_OPENMPI").get(said["VERSION"], "")
    if prefix:
        said.update({"OPENMPI_PKGLIBDIR": prefix + "/lib/openmpi", "MPIRUN": prefix + "/bin/mpirun",
                     "OMPI_INFO": prefix + "/bin/ompi_info"})
    return Build(path, said["VERSION"], said["OPENMPI_PKGLIBDIR"], said["MPIRUN"], said["OMPI_INFO"], said["NVCC"], prefix)


def builds():
    """The build trees of COLL_CAR_BUILDS."""
    return [build_at(path) for path in named_paths("COLL_CAR_BUILDS").values()]


def load_script(path):
    """A Python script without .py in its name, as a module."""
    loader = importlib.machinery.SourceFileLoader(os.path.basename(path), path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@dataclasses.dataclass
class Result:
    command: str
    status: object  # exit status; None: it ran into its time limit
    output: str
    seconds: float

    def line(self, start):
        """The first line that begins so, or None."""
        return next((line for line in self.output.splitlines() if line.startswith(start)), None)

    def lines_of_car(self):
        """What the component said."""
        return [line for line in self.output.splitlines() if "coll/car:" in line]

    @property
    def passed(self):
        return self.status == 0 and self.line("ok ") is not None

    @property
    def skipped(self):
        """Why the program says that it cannot run here, or None."""
        line = self.line("skip ")
        return line if self.status == 0 else None

    @property
    def digest(self):
        return re.search(r"digest ([0-9a-f]+)", self.output).group(1)

    def __str__(self):
        ended = "ran into its time limit" if self.status is None else f"ended with status {self.status}"
        return f"{self.command}\n{ended} after {self.seconds:.1f} s\n{self.output}"


def descendants(root):
    """The processes below one, from /proc: launchers put ranks into process groups of their own."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                parent = int(stat.read().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(name))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def kill_all(process):
    """The launcher may clean up; what is left of it and of the ranks after that is killed."""
    known = descendants(process.pid)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass
    for pid in known + [process.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def execute(command, environment, timeout):
    start = time.monotonic()
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            kill_all(process)
            output, _ = process.communicate()
            status = None
    return Result(" ".join(command), status, output.decode(errors="replace").replace("\0", ""),
                  time.monotonic() - start)


def moved_libraries(build):
    """Where the libraries of a build tree are that is not where it was made: its programs name the folders of then."""
    return [f"{build.moved_to}/lib", f"{build.path}/lib/.libs"] if build.moved_to else []


def environment_of(build, folder=None):
    """Root may run jobs; the component of the build tree, or of another folder, is found behind Open MPI's own."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("OMPI_", "PMIX_", "PRTE_", "SIMGPU_", "UCX_"))}
    environment.update({
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_mca_base_component_path": build.pkglibdir + ":" + (folder or os.path.dirname(build.component)),
        # PMIx of Open MPI 5 searches that path too, and complains of what is not its own; and CUDA's components cannot
        # be loaded where there is no libcuda.
        "OMPI_MCA_mca_base_component_show_load_errors": "0",
        "PMIX_MCA_pmix_mca_base_component_show_load_errors": "0",
    })
    if build.moved_to:
        environment.update({name: build.moved_to for name in ("OPAL_PREFIX", "PMIX_PREFIX", "PRTE_PREFIX")})
        environment["LD_LIBRARY_PATH"] = ":".join([*moved_libraries(build), environment.get("LD_LIBRARY_PATH", "")])
    return environment


def pml_options(pml):
    if pml != "ucx":
        return {"OMPI_MCA_pml": pml}
    # It takes itself out where there is no fast network, unless told otherwise.
    return {"OMPI_MCA_pml": "ucx", "OMPI_MCA_opal_common_ucx_tls": "any", "OMPI_MCA_opal_common_ucx_devices": "any"}


def unshared(*namespaces):
    """What before a program gives each rank namespaces of its own ("--pid" and the like), or None where that is not allowed."""
    words = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), *namespaces, "--fork"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        return None
    return words


def two_nodes(build, folder, ranks_each=2):
    """
    (options of mpirun, environment) for a job on two nodes that are this machine; None where it cannot be had. What the
    two would have in common, such as names in shared memory, goes below `folder`.
    """
    probe = ["unshare", "-u" if os.geteuid() == 0 else "-Uru", "hostname", "elsewhere"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        return None
    as_node = os.path.join(os.path.dirname(os.path.abspath(__file__)), "as_node")
    agent = ["--mca", "plm_rsh_agent"] if build.version.startswith("4.") else ["--prtemca", "plm_ssh_agent"]
    options = [*agent, as_node, "--host", f"nodeA:{ranks_each},nodeB:{ranks_each}", "--mca", "btl_tcp_if_include", "lo"]
    return options, {"COLL_CAR_NODES": str(folder)}


def run(build, program, *arguments, ranks=2, pml="ob1", car=None, options=(), env=None, rank_env=None, gpus=None,
        folder=None, under=(), timeout=90):
    """
    Runs a test program. `car`: parameters of coll/car; `options`: of mpirun; `rank_env`: {rank: {name: value}};
    `gpus`: environment that chooses them (see simulated() below; real ones need none); `under`: a tool before it.
    """
    environment = environment_of(build, folder)
    environment.update(pml_options(pml))
    environment.update(gpus or {})
    environment.update({f"OMPI_MCA_coll_car_{name}": str(value) for name, value in (car or {}).items()})
    environment.update(env or {})
    command = [build.mpirun, "--oversubscribe", "--bind-to", "none", *options, "-np", str(ranks)]
    if rank_env:
        cases = "".join(f"{rank}) export {' '.join(f'{n}={v}' for n, v in values.items())};; "
                        for rank, values in rank_env.items())
        command += ["sh", "-c", f'case $OMPI_COMM_WORLD_RANK in {cases}esac; exec "$@"', "rank"]
    command += [*under, os.path.join(build.path, PROGRAMS, program), *map(str, arguments)]
    return execute(command, environment, timeout)


def simulated(build, devices=1, topology="nvlink", **more):
    """The environment of simulated GPUs; `more` sets SIMGPU_<NAME>."""
    libraries = [os.path.join(build.path, "tests/simgpu/lib"), *moved_libraries(build)]
    environment = {"LD_LIBRARY_PATH": ":".join(libraries),
                   "SIMGPU_DEVICES": str(devices), "SIMGPU_TOPOLOGY": topology,
                   # Their times mean nothing, so none decides which way kernels are launched.
                   "OMPI_MCA_coll_car_launch": "graph",
                   # A rank that polls leaves its core to the threads that run kernels.
                   "OMPI_MCA_mpi_yield_when_idle": "1"}
    if not build.version.startswith("4."):
        # Its PMIx maps shared memory where the server found a place, which at times is where simgpu's device memory lies,
        # or what ThreadSanitizer needs.
        environment["PMIX_MCA_gds"] = "hash"
    environment.update({f"SIMGPU_{name.upper()}": str(value) for name, value in more.items()})
    return environment
