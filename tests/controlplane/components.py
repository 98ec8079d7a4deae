"""What the local control plane is made of: one row for each program that `build` compiles.

Each row names a folder under `modules/`, whose `go.mod` and `go.sum` pin the exact versions. To add
a program, add a row here and, where its requirements clash with those of the others, a folder.
"""

from __future__ import annotations

import dataclasses
import pathlib

MODULES = pathlib.Path(__file__).parent / "modules"

_KUBERNETES_VERSION = "v1.36.3"
_ARGO_VERSION = "v4.0.2"
_ARGO_COMMIT = "32afec3c401c0920517bf1e890fa7dba6170cdf2"


@dataclasses.dataclass(frozen=True, slots=True)
class DataFolder:
    """Files that lie in a Go module and are copied beside the binary.

    Arguments:
        module: path of the Go module, as in `go.mod`
        source: folder in the module
        target: folder in the component's folder of the cache
        json: also write each YAML document as JSON, which loads fifty times as fast
    """

    module: str
    source: str
    target: str
    json: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Component:
    """One program of the control plane.

    Arguments:
        name: of the program and of its folder in the cache
        module: folder under `modules/` whose pins it is built from
        package: import path of its main package
        variables: string variables which the linker sets, by import path
        data: files to copy from the module
    """

    name: str
    module: str
    package: str
    variables: tuple[tuple[str, str], ...] = ()
    data: tuple[DataFolder, ...] = ()

    @property
    def module_folder(self) -> pathlib.Path:
        return MODULES / self.module


# Without these the server calls itself v0.0.0-master, which kubectl and Helm refuse to talk to.
_KUBERNETES_VARIABLES = (
    ("k8s.io/component-base/version.gitVersion", _KUBERNETES_VERSION),
    ("k8s.io/component-base/version.gitMajor", "1"),
    ("k8s.io/component-base/version.gitMinor", "36"),
    ("k8s.io/component-base/version.gitTreeState", "clean"),
    # The module proxy does not say which commit it packed.
    ("k8s.io/component-base/version.gitCommit", "unknown"),
    ("k8s.io/component-base/version.buildDate", "1970-01-01T00:00:00Z"),
)

_ARGO_MODULE = "github.com/argoproj/argo-workflows/v4"

ETCD = Component(
    name="etcd",
    module="etcd",
    package="go.etcd.io/etcd/server/v3",
)
API_SERVER = Component(
    name="kube-apiserver",
    module="kubernetes",
    package="k8s.io/kubernetes/cmd/kube-apiserver",
    variables=_KUBERNETES_VARIABLES,
)
CONTROLLER_MANAGER = Component(
    name="kube-controller-manager",
    module="kubernetes",
    package="k8s.io/kubernetes/cmd/kube-controller-manager",
    variables=_KUBERNETES_VARIABLES,
)
ARGO = Component(
    name="workflow-controller",
    module="argo",
    package=f"{_ARGO_MODULE}/cmd/workflow-controller",
    variables=(
        (f"{_ARGO_MODULE}.version", _ARGO_VERSION),
        (f"{_ARGO_MODULE}.gitTag", _ARGO_VERSION),
        (f"{_ARGO_MODULE}.gitCommit", _ARGO_COMMIT),
        (f"{_ARGO_MODULE}.gitTreeState", "clean"),
    ),
    data=(
        DataFolder(_ARGO_MODULE, "manifests/base/crds/full", "crds/full", json=True),
        DataFolder(_ARGO_MODULE, "manifests/base/crds/minimal", "crds/minimal", json=True),
        DataFolder(
            _ARGO_MODULE, "manifests/base/workflow-controller", "install/workflow-controller"
        ),
        DataFolder(
            _ARGO_MODULE,
            "manifests/cluster-install-no-crds/workflow-controller-rbac",
            "install/workflow-controller-rbac",
        ),
    ),
)

# Not of the control plane: `tests.bench` compares with it.
ARGO_RESUME = Component(name="argo-resume", module="argo-resume", package=".")

ARGO_VERSION = _ARGO_VERSION

# What `build` compiles unless told otherwise, and what `launcher` needs.
CONTROL_PLANE = (ETCD, API_SERVER, CONTROLLER_MANAGER, ARGO)
