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
_ARGO_EVENTS_VERSION = "v1.9.7"
_ARGO_EVENTS_COMMIT = "c695dbf57162e04e7d30b2134d4724feccf878a3"
_HELM_3_VERSION = "v3.22.0"
_HELM_4_VERSION = "v4.3.1"


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
class Replacement:
    """A text in a Go module that is another one in the build here; the module stays as it is.

    For what a program has no option for, such as a fixed port or an absolute path, so that it runs
    beside others and without being root.

    Arguments:
        module: path of the Go module, as in `go.mod`
        file: in the module
        old: text that stands in the file exactly once
        new: what the compiler sees instead
    """

    module: str
    file: str
    old: str
    new: str


@dataclasses.dataclass(frozen=True, slots=True)
class Component:
    """One program of the control plane.

    Arguments:
        name: of the program and of its folder in the cache
        module: folder under `modules/` whose pins it is built from
        package: import path of its main package
        variables: string variables which the linker sets, by import path
        data: files to copy from the module
        replacements: what the compiler sees otherwise than it stands in the modules
        tags: build tags
    """

    name: str
    module: str
    package: str
    variables: tuple[tuple[str, str], ...] = ()
    data: tuple[DataFolder, ...] = ()
    # Not in the repr, which names the folder in the cache: those without any keep theirs.
    replacements: tuple[Replacement, ...] = dataclasses.field(default=(), repr=False)
    tags: tuple[str, ...] = dataclasses.field(default=(), repr=False)

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


def _argo_variables(module: str, version: str, commit: str) -> tuple[tuple[str, str], ...]:
    """What the programs of Argo are told about themselves."""
    return (
        (f"{module}.version", version),
        (f"{module}.gitTag", version),
        (f"{module}.gitCommit", commit),
        (f"{module}.gitTreeState", "clean"),
    )


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
    variables=_argo_variables(_ARGO_MODULE, _ARGO_VERSION, _ARGO_COMMIT),
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

_EVENTS_MODULE = "github.com/argoproj/argo-events"

# Argo Events is made to have a container of its own: both servers listen on port 7777 on every
# address for their metrics, and all read and write below fixed folders. ARGO_EVENTS_ROOT stands
# before those folders here, and the metrics port is a free one on loopback.
_ANY_METRICS_PORT = 'fmt.Sprintf("127.0.0.1:%s", os.Getenv("ARGO_EVENTS_METRICS_PORT"))'
_ROOT = 'os.Getenv("ARGO_EVENTS_ROOT")'
_EVENTS_REPLACEMENTS = (
    Replacement(
        _EVENTS_MODULE,
        "pkg/eventsources/cmd/start.go",
        'fmt.Sprintf(":%d", v1alpha1.EventSourceMetricsPort)',
        _ANY_METRICS_PORT,
    ),
    Replacement(
        _EVENTS_MODULE,
        "pkg/sensors/cmd/start.go",
        'fmt.Sprintf(":%d", v1alpha1.SensorMetricsPort)',
        _ANY_METRICS_PORT,
    ),
    Replacement(
        _EVENTS_MODULE,
        "pkg/shared/util/util.go",
        'fmt.Sprintf("/argo-events/secrets/%s/%s", selector.Name, selector.Key)',
        f'fmt.Sprintf("%s/argo-events/secrets/%s/%s", {_ROOT}, selector.Name, selector.Key)',
    ),
    Replacement(
        _EVENTS_MODULE,
        "pkg/shared/leaderelection/leaderelection.go",
        '"/tmp/graft.log"',
        f'{_ROOT}+"/tmp/graft.log"',
    ),
    Replacement(
        _EVENTS_MODULE,
        "pkg/reconciler/config.go",
        '"/etc/argo-events"',
        f'{_ROOT} + "/etc/argo-events"',
    ),
    Replacement(_EVENTS_MODULE, "pkg/reconciler/config.go", '\t"fmt"\n', '\t"fmt"\n\t"os"\n'),
)

# Not of the control plane: the other way to use the operator, through Argo Events and its bus.
ARGO_EVENTS = Component(
    name="argo-events",
    module="argo-events",
    package=f"{_EVENTS_MODULE}/cmd",
    variables=_argo_variables(_EVENTS_MODULE, _ARGO_EVENTS_VERSION, _ARGO_EVENTS_COMMIT),
    data=(
        DataFolder(_EVENTS_MODULE, "manifests/base/crds", "crds", json=True),
        DataFolder(_EVENTS_MODULE, "manifests/base/controller-manager", "controller"),
        DataFolder(_EVENTS_MODULE, "api/jsonschema", "schema"),
    ),
    replacements=_EVENTS_REPLACEMENTS,
)
NATS = Component(name="nats-server", module="nats", package="github.com/nats-io/nats-server/v2")

# Runs the jq of a Sensor by itself: Argo Events has it built in.
GOJQ = Component(name="gojq", module="gojq", package="github.com/itchyny/gojq/cmd/gojq")

# Not of the control plane: tests and `tests.bench` set Argo's own way of resuming beside ours.
ARGO_RESUME = Component(name="argo-resume", module="argo-resume", package=".")

# Not of the control plane: what installs the chart, and what writes its README.
HELM_3 = Component(
    name="helm3",
    module="helm",
    package="helm.sh/helm/v3/cmd/helm",
    variables=(("helm.sh/helm/v3/internal/version.version", _HELM_3_VERSION),),
)
HELM_4 = Component(
    name="helm4",
    module="helm",
    package="helm.sh/helm/v4/cmd/helm",
    variables=(("helm.sh/helm/v4/internal/version.version", _HELM_4_VERSION),),
)
HELM_DOCS = Component(
    name="helm-docs", module="helm-docs", package="github.com/norwoodj/helm-docs/cmd/helm-docs"
)

_PROMETHEUS_MODULE = "github.com/prometheus/prometheus"

# Targets are given by address here. Without what finds them elsewhere, the Kubernetes client above
# all, which is only compiled in for one log message and one check, the build takes half the time.
_PROMETHEUS_TAGS = ("remove_all_sd",)
_PROMETHEUS_REPLACEMENTS = (
    Replacement(_PROMETHEUS_MODULE, "cmd/prometheus/main.go", '\t"k8s.io/client-go/rest"\n', ""),
    Replacement(
        _PROMETHEUS_MODULE,
        "cmd/prometheus/main.go",
        "rest.SetDefaultWarningHandlerWithContext(logging.NewDedupDeprecationWarningLogger())",
        "",
    ),
    Replacement(_PROMETHEUS_MODULE, "util/logging/dedupe.go", '\t"k8s.io/client-go/rest"\n', ""),
    Replacement(
        _PROMETHEUS_MODULE,
        "util/logging/dedupe.go",
        "logger rest.WarningHandlerWithContext",
        "logger interface { HandleWarningHeaderWithContext(context.Context, int, string, string) }",
    ),
    Replacement(
        _PROMETHEUS_MODULE, "util/logging/dedupe.go", "\t\tlogger: rest.WarningLogger{},\n", ""
    ),
    Replacement(
        _PROMETHEUS_MODULE,
        "cmd/promtool/main.go",
        f'\t"{_PROMETHEUS_MODULE}/discovery/kubernetes"\n',
        "",
    ),
    Replacement(
        _PROMETHEUS_MODULE,
        "cmd/promtool/main.go",
        "\t\t\tcase *kubernetes.SDConfig:\n"
        "\t\t\t\tif err := checkTLSConfig("
        "c.HTTPClientConfig.TLSConfig, checkSyntaxOnly); err != nil {\n"
        "\t\t\t\t\treturn nil, nil, err\n"
        "\t\t\t\t}\n",
        "",
    ),
)

# Not of the control plane: what scrapes the operator, and what tests its alerts.
PROMETHEUS = Component(
    name="prometheus",
    module="prometheus",
    package=f"{_PROMETHEUS_MODULE}/cmd/prometheus",
    replacements=_PROMETHEUS_REPLACEMENTS,
    tags=_PROMETHEUS_TAGS,
)
PROMTOOL = Component(
    name="promtool",
    module="prometheus",
    package=f"{_PROMETHEUS_MODULE}/cmd/promtool",
    replacements=_PROMETHEUS_REPLACEMENTS,
    tags=_PROMETHEUS_TAGS,
)

ARGO_VERSION = _ARGO_VERSION

EVENTS = (NATS, ARGO_EVENTS, GOJQ)
HELM = (HELM_4, HELM_3, HELM_DOCS)
MONITORING = (PROMETHEUS, PROMTOOL)

# What `build --all` adds, so that nothing is compiled while tests run against their deadlines.
OTHERS = (*EVENTS, *HELM, *MONITORING, ARGO_RESUME)

# What `build` compiles unless told otherwise, and what `launcher` needs.
CONTROL_PLANE = (ETCD, API_SERVER, CONTROLLER_MANAGER, ARGO)
