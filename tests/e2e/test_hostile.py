"""A thousand requests that mean harm: none opens a gate, and the next good one is served at once.

Many are refused by the API server, which is as good; what it lets in has to end as Rejected, or to
wait for what will never come.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import json
import pathlib
import random
import time
from typing import Any

import pytest

from tests.controlplane import client
from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json, rule, step
from tests.e2e.support.process import Operator

COUNT = 1000
PREY = "prey"
TASK = "131"
MAX_RESIDENT_MIB = 300

PATTERNS = (
    "^(a+)+$",
    "(.*a){25}",
    r"(\w+\s?)*$",
    "((a{0,30}){0,30}){0,30}",
    "(" * 128,
    "(?=a)",
    r"(a)\1",
    "[" * 256,
    "(?:" + "a?" * 80 + ")" + "a" * 80,
    r"\pN" * 80,
    ".{1000}" * 30,
    "\x00",
)
LADEN = ("(?:.{1,80}){1,10}z", "(?:.{1,3}){1,20}z", "((a?){30}a{30}){8}")
LABEL_VALUES: tuple[object, ...] = (
    f"{TASK},current-stage!=x",
    f"{TASK})",
    f"{TASK} in (a,b)",
    "!task-id",
    "*",
    "",
    " ",
    f"{TASK}\n",
    f"{TASK}\x00",
    "{{workflow.name}}",
    "5" * 64,
    "\u0665",
    "../" + TASK,
    -1,
    1.5,
    True,
    None,
    [TASK],
    {"$ne": None},
    2**70,
)
SELECTORS = (
    "a in (",
    ",,,",
    "!",
    "a==b==c",
    "()",
    "a notin (b",
    "\x1b[2J",
    "{{x}}",
    "a" * 1025,
    "task-id=131,task-id=132",
    "metadata.name=prey;drop",
    "a>1>2",
)
NODE_SELECTORS = (
    "metadata.name=x",
    "phase=Succeeded",
    "displayName=a,displayName=b",
    "displayName!=wait",
    "inputs.parameters.x=1",
    "=",
    "displayName=\\",
    "a" * 2000,
)
PATHS = (
    "event..a",
    "event." + "a." * 200 + "b",
    "a[99999999].b",
    'event."',
    "event.[]",
    "[][][].a",
    "labels.",
    "workflow.metadata.name.x[].y",
    "event." + "[]" * 60,
    "\u202eevent.a",
    "__class__.__mro__",
)
NAMES = ("../etc/passwd", "a/b", "Prey", "a" * 254, "-a", "prey\n", "prey?x=y", "%2e%2e")
TEXTS = (
    "\x00\x07\x1b]0;owned\x07",
    "\u202e\u2066 txt",
    "\ud800",
    "A" * 8192,
    "%s%s%n {0.__class__} ${jndi:ldap://x}",
    "line\nlevel=critical event=forged",
    "<!channel> <script>",
)


def deep(levels: int) -> Json:
    """An object in an object in an object."""
    found: Json = {}
    for _ in range(levels):
        found = {"a": found}
    return found


def planted(at: str, value: object) -> Json:
    """A request for the open gate that is fine but for one field of its spec."""
    request = manifests.resume("", PREY, task=TASK, rules=[rule("team", "equals", "nobody")])
    here: Any = request["spec"]
    *way, last = at.split(".")
    for part in way:
        here = here[part]
    here[last] = value
    return request


def ruled(field: str, operator: str | None, value: object, event: Json | None = None) -> Json:
    """A request with a rule that means harm, and one that no workflow fulfils."""
    request = planted("validationRules", [{"field": field, "operator": operator, "value": value}])
    request["spec"]["validationRules"].append(rule("team", "equals", "nobody"))
    request["spec"]["correlationData"]["githubEvent"] = event or {"a": "a" * 30 + "!"}
    return request


def laden(pattern: str) -> Json:
    """A request with as many rules as there may be, all of them true and heavy to search for."""
    text = ("a" * 8191 if "a" in pattern else "\N{LATIN SMALL LETTER E WITH ACUTE}" * 8191) + "z"
    rules = [rule("team", "equals", "nobody"), *[rule("event.t", "regex", pattern)] * 31]
    request = planted("validationRules", rules)
    request["spec"]["correlationData"]["githubEvent"] = {"t": text}
    return request


def whole(chance: random.Random) -> Json:
    """A request that is wrong as a whole."""
    request = planted("dryRun", False)
    match chance.randrange(5):
        case 0:
            request["spec"] = chance.choice([[], "spec", 5, None, {}, {"correlationData": []}])
        case 1:
            request["metadata"]["finalizers"] = ["nobody.example.com/removes-me"]
            request["spec"]["correlationData"]["taskId"] = "no-such-task"
        case 2:
            request["status"] = {"phase": "Succeeded", "outcome": "Resumed"}
        case 3:
            request["metadata"]["annotations"] = {
                "kopf.zalando.org/last-handled-configuration": "{" * 1000,
                f"stage.resumer.argoproj.io/{manifests.PR_CREATED}": "[]",
            }
        case _:
            request["spec"] |= {f"unknown-{number}": chance.choice(TEXTS) for number in range(50)}
    return request


def huge(chance: random.Random) -> Json:
    """A request that is large, deep or wide."""
    labels = [{"name": f"task-{number}"} for number in range(chance.choice([900, 1001, 30_000]))]
    event: Json = chance.choice(
        [
            deep(chance.choice([90, 500])),
            {"a": "a" * chance.choice([100_000, 1_000_000, 2_000_000])},
            {"pull_request": {"labels": labels}},
            {f"key-{number}": number for number in range(5000)},
            {"labels": [[["task-131"]] * 300] * 300},
            {"a": [{"b": [{"c": number} for number in range(100)]}] * 100},
        ]
    )
    return ruled("event.a[].b[].c", "equals", "1", event)


def hostile(seed: int) -> Json:
    """One request that means harm, the same for the same seed."""
    chance = random.Random(seed)
    pick = chance.choice
    makers = (
        lambda: ruled(
            "event.a", "regex", pick(PATTERNS), {"a": pick(["a" * 30 + "!", "a" * 8000])}
        ),
        lambda: laden(pick(LADEN)),
        lambda: ruled(pick(PATHS), pick(["exists", "equals", "regex", "gt"]), "x"),
        lambda: ruled("event.a", pick(["gt", "lt", "in", "nope", "", None]), pick(TEXTS)),
        lambda: planted("correlationData.taskId", pick(LABEL_VALUES)),
        lambda: planted("correlationData.eventType", pick(LABEL_VALUES)),
        lambda: planted("targetStage", pick(LABEL_VALUES)),
        lambda: planted("labelSelector", pick(SELECTORS)),
        lambda: planted("nodeFieldSelector", pick(NODE_SELECTORS)),
        lambda: planted("workflowName", pick(NAMES)),
        lambda: planted("policyName", pick(NAMES)),
        lambda: planted("setLabels", {pick(["a b", "argoproj.io/x", "a"]): pick(LABEL_VALUES)}),
        lambda: planted("resumeParameters", [{"name": pick(TEXTS), "value": pick(TEXTS)}]),
        lambda: planted("resumeParameters", [{"name": "a", "value": "{{=toJson(workflow)}}"}] * 2),
        lambda: planted("validationRules", pick(["all", {}, [[]], [None], [{"field": "a"}] * 40])),
        lambda: planted(
            pick(["deadlineSeconds", "ttlSecondsAfterFinished"]), pick([-1, "1s", 1e99])
        ),
        lambda: planted(
            "correlationData.githubEvent", {"action": pick(TEXTS), "labels": pick(TEXTS)}
        ),
        lambda: huge(chance) if chance.random() < 0.4 else whole(chance),
        lambda: whole(chance),
    )
    request = makers[seed % len(makers)]()
    request["metadata"]["name"] = f"hostile-{seed}"
    return request


def refused(home: Home, seed: int) -> bool:
    """Creates a request; whether the API server would not have it."""
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{home.namespace}/workflowresumes"
    try:
        home.cluster.request("POST", path, body=hostile(seed))
    except client.ApiError as error:
        # Of the right size for the API server, it may still be too large for etcd: a 500.
        if error.status < 500 or "too large" in str(error):
            return True
        raise
    return False


def unanswered(home: Home) -> list[str]:
    """The requests that were not looked at yet."""
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{home.namespace}/workflowresumes"
    found = home.cluster.request("GET", path, query={"fieldSelector": "status.phase=Pending"})
    return [body["metadata"]["name"] for body in found["items"]]


def resident_mib(pid: int) -> int:
    """The most memory that a process ever held."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


@pytest.mark.timeout(240)
def test_a_thousand_hostile_requests_open_nothing_and_hold_up_nobody(
    home: Home, operator: Operator
) -> None:
    gates = manifests.dag(step("wait", "gate"), step("other", "gate"))
    before = home.submit(
        manifests.workflow(PREY, gates, manifests.gate(), task=TASK, labels={"team": "blue"}),
        gates=2,
    )
    home.submit(manifests.workflow("good", task="132"))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(refused, itertools.repeat(home), range(COUNT)))
    home.ask(manifests.resume("good", task="132"))
    home.resumed("good")
    home.ended("good")
    deadline = time.monotonic() + 3 * homes.TIMEOUT
    while left := unanswered(home):
        assert time.monotonic() < deadline, f"{len(left)} are not answered: {left[:10]}"
        time.sleep(0.5)
    found = [
        body
        for body in home.cluster.list_all(homes.RESUME, home.namespace)
        if body["metadata"]["name"].startswith("hostile-")
    ]
    assert len(found) == answers.count(False)
    outcomes = collections.Counter(one["status"]["outcome"] for one in found)
    assert outcomes.keys() <= {"Rejected", "Waiting", "Ambiguous"}, outcomes
    assert outcomes["Rejected"] > 100
    assert answers.count(True) > 100
    assert home.workflow(PREY) == before
    assert operator.alive
    assert {line["level"] for line in operator.log()} <= {"info", "warning"}
    assert resident_mib(operator.pid) < MAX_RESIDENT_MIB
    for body in found:
        text = json.dumps(body["status"])
        assert len(text) < 64 * 1024, body["metadata"]["name"]
        if body["metadata"].get("finalizers"):
            home.cluster.patch(
                homes.RESUME,
                body["metadata"]["name"],
                home.namespace,
                {"metadata": {"finalizers": None}},
            )
