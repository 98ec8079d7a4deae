"""What services rely on, promised by the fakes in memory and by the adapters on an API server.

`Promises` is the one suite for `ports.Workflows`, `ports.ResumeBackend`, `ports.Requests` and
`ports.Breakers`; `TestFakes` and `TestCluster` run it. A label keeps Argo's controller away from
the Workflows here: they stay as they are written.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import pytest

from resumer import errors, ports
from resumer.adapters import argo, kube
from resumer.adapters.breakers import KubeBreakers, object_name
from resumer.adapters.requests import KubeRequests
from resumer.api import constants, resume
from resumer.api.breaker import BreakerState
from resumer.core import decision, workflows
from resumer.core.breaker import Breaker, Probe
from resumer.core.keys import Key
from resumer.core.observation import Observation, Resume, ResumeOrder
from tests import builders, fakes
from tests.contract import faulty_server
from tests.controlplane import client as cluster_client

WORKFLOWS, REQUESTS = constants.WORKFLOW_PLURAL, constants.RESUME_PLURAL
INSTANCE = "contract-tests"
POLICY = builders.three_stages()
FAILING = Breaker(consecutive_failures=2, last_failure_at=builders.NOW, last_failure_reason="503")


class Hand(Protocol):
    """What somebody else does to objects, and sees of them."""

    async def create(self, plural: str, body: builders.Json) -> builders.Json: ...

    async def get(self, plural: str, name: str) -> builders.Json: ...

    async def merge(self, plural: str, name: str, patch: builders.Json) -> builders.Json: ...

    async def delete(self, plural: str, name: str) -> None: ...

    async def delete_breaker(self, stage: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Outside:
    """The ports, and a hand that sets the scene."""

    namespace: str
    workflows: ports.Workflows
    backend: ports.ResumeBackend
    requests: ports.Requests
    breakers: ports.Breakers
    hand: Hand

    def key(self, name: str) -> Key:
        return Key(self.namespace, name)

    async def put(self, builder: builders.WorkflowBuilder | builders.RequestBuilder) -> Any:
        """Creates what a builder says, here."""
        body = copy.deepcopy(builder.build())
        workflow = isinstance(builder, builders.WorkflowBuilder)
        metadata = body["metadata"]
        for field in ("uid", "resourceVersion", "creationTimestamp", "generation"):
            metadata.pop(field, None)
        metadata["namespace"] = self.namespace
        if workflow:
            # A template without steps does not pass Argo's full schemas.
            body["spec"]["templates"][0]["steps"] = [[{"name": "wait", "template": "approve"}]]
            labels = {constants.LABEL_INSTANCE_ID: INSTANCE, **(metadata.get("labels") or {})}
            metadata["labels"] = {key: value for key, value in labels.items() if value}
        return await self.hand.create(WORKFLOWS if workflow else REQUESTS, body)

    async def workflow(self, name: str = "play") -> builders.Json:
        """A Workflow as it now is, without what the API server keeps for itself."""
        body = await self.hand.get(WORKFLOWS, name)
        for field in ("managedFields", "resourceVersion", "generation"):
            body["metadata"].pop(field, None)
        return body

    async def version(self, plural: str, name: str) -> str:
        return str((await self.hand.get(plural, name))["metadata"]["resourceVersion"])


class FakeHand:
    """Implements `Hand` on `fakes.FakeApi`."""

    def __init__(self, api: fakes.FakeApi, breakers: fakes.FakeBreakers) -> None:
        self._api = api
        self._breakers = breakers

    async def create(self, plural: str, body: builders.Json) -> builders.Json:
        return self._api.create(plural, body)

    async def get(self, plural: str, name: str) -> builders.Json:
        return self._api.get(plural, Key(builders.NAMESPACE, name))

    async def merge(self, plural: str, name: str, patch: builders.Json) -> builders.Json:
        return self._api.change(
            plural, Key(builders.NAMESPACE, name), lambda body: _merge(body, patch)
        )

    async def delete(self, plural: str, name: str) -> None:
        self._api.delete(plural, Key(builders.NAMESPACE, name))

    async def delete_breaker(self, stage: str) -> None:
        self._breakers.delete(builders.NAMESPACE, stage)


class ClusterHand:
    """Implements `Hand` on a cluster."""

    def __init__(self, client: kube.KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def create(self, plural: str, body: builders.Json) -> builders.Json:
        return await self._client.create(self._path(plural), body)

    async def get(self, plural: str, name: str) -> builders.Json:
        return await self._client.get(self._path(plural, name))

    async def merge(self, plural: str, name: str, patch: builders.Json) -> builders.Json:
        return await self._client.patch(self._path(plural, name), patch, kube.PatchType.MERGE)

    async def delete(self, plural: str, name: str) -> None:
        uid = (await self.get(plural, name))["metadata"]["uid"]
        await self._client.delete(self._path(plural, name), uid=uid)

    async def delete_breaker(self, stage: str) -> None:
        await self.delete(constants.BREAKER_PLURAL, object_name(stage))

    def _path(self, plural: str, name: str = "") -> kube.Path:
        return kube.path(constants.API_VERSION, plural, self._namespace, name)


def _merge(body: builders.Json, patch: builders.Json) -> None:
    """A JSON merge patch (RFC 7386)."""
    for name, value in patch.items():
        if value is None:
            body.pop(name, None)
        elif isinstance(value, dict):
            _merge(body.setdefault(name, {}), value)
        else:
            body[name] = value


def order_for(
    body: builders.Json, request: builders.RequestBuilder | None = None, uid: str = "uid-of-wake"
) -> ResumeOrder:
    """What the operator would do about a Workflow, decided by the operator's own core."""
    asked = (request or builders.a_request("wake")).build()
    asked["metadata"]["uid"] = uid
    seen = Observation(
        resume.WorkflowResume.from_json(asked),
        (POLICY.resolved(),),
        (workflows.view(body, unpack=True),),
        fresh=True,
    )
    decided = decision.decide(seen, builders.NOW).what
    assert isinstance(decided, Resume), decided
    return decided.order


def node_of(body: builders.Json, gate: str = "wait") -> builders.Json:
    found: builders.Json = next(
        node for node in workflows.nodes(body).values() if node["displayName"] == gate
    )
    return found


class Promises:
    """The suite."""

    # --- ports.Workflows ---

    async def test_a_workflow_is_read_as_it_is(self, outside: Outside) -> None:
        created = await outside.put(builders.at_review())
        body = await outside.workflows.read(outside.key("play"))
        assert body is not None
        assert body["metadata"]["uid"] == created["metadata"]["uid"]
        assert body["metadata"]["resourceVersion"]
        assert node_of(dict(body))["phase"] == "Running"

    async def test_a_workflow_that_is_not_there_or_not_ours_reads_as_none(
        self, outside: Outside
    ) -> None:
        foreign = {constants.LABEL_INSTANCE_ID: "another"}
        await outside.put(builders.at_review("foreign").with_labels(foreign))
        unlabelled = builders.at_review("nobodys").with_labels({constants.LABEL_INSTANCE_ID: ""})
        await outside.put(unlabelled.suspended())
        for name in ("missing", "foreign", "nobodys"):
            assert await outside.workflows.read(outside.key(name)) is None

    async def test_workflows_are_found_by_their_label_live_and_finished(
        self, outside: Outside
    ) -> None:
        for builder in (
            builders.at_review("live"),
            builders.at_review("finished").finished(),
            builders.at_review("other-task").labelled(task="8"),
            builders.a_bare_workflow("unlabelled"),
            builders.at_review("foreign").with_labels({constants.LABEL_INSTANCE_ID: "another"}),
        ):
            await outside.put(builder)
        found = await find(outside, outside.namespace, "7")
        assert sorted(body["metadata"]["name"] for body in found) == ["finished", "live"]
        assert all(body["metadata"]["resourceVersion"] for body in found)
        assert await find(outside, "default", "7") == []
        assert await find(outside, outside.namespace, "9") == []

    async def test_only_live_workflows_are_found_when_told(self, outside: Outside) -> None:
        await outside.put(builders.at_review("finished").finished())
        for name in ("a", "b", "c", "d"):
            await outside.put(builders.at_review(name))
        pages = outside.workflows.find(outside.namespace, "task-id", "7", live=True)
        found = [body["metadata"]["name"] async for page in pages for body in page]
        assert found == ["a", "b", "c", "d"]

    async def test_terminating_tells_argo_to_stop_and_changes_nothing_else(
        self, outside: Outside
    ) -> None:
        uid = (await outside.put(builders.at_review()))["metadata"]["uid"]
        before = await outside.workflow()
        for _ in range(2):
            await outside.workflows.terminate(outside.key("play"), uid)
        before["spec"]["shutdown"] = "Terminate"
        assert await outside.workflow() == before

    async def test_terminating_what_is_gone_or_another_is_no_error_and_stops_nothing(
        self, outside: Outside
    ) -> None:
        await outside.put(builders.at_review())
        before = await outside.workflow()
        await outside.workflows.terminate(outside.key("play"), "another")
        await outside.workflows.terminate(outside.key("missing"), "another")
        assert await outside.workflow() == before

    # --- ports.ResumeBackend ---

    async def test_a_resume_opens_its_gate_and_changes_nothing_else(self, outside: Outside) -> None:
        workflow = builders.at_review().gate("other", template="other")
        await outside.put(workflow)
        before = await outside.workflow()
        request = builders.a_request("wake").at_gate("displayName=wait")
        order = order_for(await outside.hand.get(WORKFLOWS, "play"), request)

        await outside.backend.resume(order)

        expected = copy.deepcopy(before)
        node_of(expected).update(
            phase="Succeeded",
            finishedAt=order.finished_at,
            message="Resumed by: workflowresume/wake (uid uid-of-wake)",
        )
        expected["metadata"]["labels"].update(order.labels)
        expected["metadata"]["annotations"] = {order.marker_key: order.marker.encode()}
        assert await outside.workflow() == expected

    async def test_a_resume_hands_values_on_byte_for_byte(self, outside: Outside) -> None:
        outputs = {
            "given": builders.supplied(),
            "defaulted": builders.supplied("as it was"),
            "known": builders.given("since long"),
        }
        await outside.put(builders.at_review(outputs=outputs))
        value = "quotes \" ' and \\, a line\nbreak, ümläuts, 日本語, {one brace}"
        request = builders.a_request("wake").parameter("given", value)
        await outside.backend.resume(order_for(await outside.hand.get(WORKFLOWS, "play"), request))
        assert node_of(await outside.workflow())["outputs"]["parameters"] == [
            {"name": "given", "value": value},
            {"name": "defaulted", "value": "as it was"},
            {"name": "known", "value": "since long"},
        ]

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param(None, [("answer", "yes")], id="no outputs"),
            pytest.param([], [("answer", "yes")], id="empty outputs"),
            pytest.param([("other", "1")], [("other", "1"), ("answer", "yes")], id="another"),
            pytest.param([("answer", "no")], [("answer", "yes")], id="the same"),
        ],
    )
    async def test_an_output_with_a_global_name_is_exported_to_the_workflow(
        self,
        outside: Outside,
        before: list[tuple[str, str]] | None,
        after: list[tuple[str, str]],
    ) -> None:
        output = {**builders.supplied("no"), "globalName": "answer"}
        workflow = builders.at_review(outputs={"given": output})
        if before is not None:
            found = [{"name": name, "value": value} for name, value in before]
            workflow.with_status(outputs={"parameters": found} if found else {})
        await outside.put(workflow)
        request = builders.a_request("wake").parameter("given", "yes")
        await outside.backend.resume(order_for(await outside.hand.get(WORKFLOWS, "play"), request))
        written = (await outside.workflow())["status"]["outputs"]["parameters"]
        assert [(one["name"], one["value"]) for one in written] == after

    async def test_exported_outputs_that_changed_meanwhile_are_not_overwritten(
        self, outside: Outside
    ) -> None:
        output = {**builders.supplied("no"), "globalName": "answer"}
        await outside.put(builders.at_review(outputs={"given": output}))
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        theirs = {"outputs": {"parameters": [{"name": "other", "value": "1"}]}}
        await outside.hand.merge(WORKFLOWS, "play", {"status": theirs})
        await self.refused(outside, order)

    async def test_a_resume_is_carried_out_once(self, outside: Outside) -> None:
        await outside.put(builders.at_review())
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        await outside.backend.resume(order)
        version = await outside.version(WORKFLOWS, "play")
        with pytest.raises(errors.PreconditionError):
            await outside.backend.resume(order)
        assert await outside.version(WORKFLOWS, "play") == version

    @pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
    async def test_of_many_resumes_at_once_one_is_carried_out(
        self, outside: Outside, compressed: bool
    ) -> None:
        workflow = builders.at_review()
        await outside.put(workflow.compressed() if compressed else workflow)
        body = await outside.hand.get(WORKFLOWS, "play")
        orders = [order_for(body, uid=f"uid-{number}") for number in range(6)]
        results = await asyncio.gather(
            *(outside.backend.resume(order) for order in orders), return_exceptions=True
        )
        refused = [one for one in results if isinstance(one, errors.PreconditionError)]
        assert (results.count(None), len(refused)) == (1, 5), results
        winner = results.index(None)
        assert f"(uid uid-{winner})" in node_of(await outside.workflow())["message"]

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"phase": "Succeeded"}, id="opened"),
            pytest.param({"phase": "Failed"}, id="failed"),
            pytest.param({"startedAt": builders.at(-5)}, id="started anew"),
            pytest.param({"type": "Pod"}, id="another type"),
        ],
    )
    @pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
    async def test_a_gate_that_is_not_as_it_was_is_left_alone(
        self, outside: Outside, change: dict[str, str], compressed: bool
    ) -> None:
        def scene(**fields: Any) -> builders.WorkflowBuilder:
            workflow = builders.at_review(**fields)
            return workflow.compressed() if compressed else workflow

        await outside.put(scene())
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        status = scene(**change).build()["status"]
        await outside.hand.merge(WORKFLOWS, "play", {"status": status})
        await self.refused(outside, order)

    async def test_a_gate_that_is_not_there_any_more_is_not_made_up(self, outside: Outside) -> None:
        workflow = builders.at_review()
        await outside.put(workflow)
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        without = {"status": {"nodes": {workflow.node_id("wait"): None}}}
        await outside.hand.merge(WORKFLOWS, "play", without)
        await self.refused(outside, order)

    async def test_a_workflow_recreated_under_its_name_is_left_alone(
        self, outside: Outside
    ) -> None:
        await outside.put(builders.at_review())
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        await outside.hand.delete(WORKFLOWS, "play")
        await outside.put(builders.at_review())
        await self.refused(outside, order)

    @pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
    async def test_a_workflow_that_is_gone_is_not_found(
        self, outside: Outside, compressed: bool
    ) -> None:
        workflow = builders.at_review()
        await outside.put(workflow.compressed() if compressed else workflow)
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        await outside.hand.delete(WORKFLOWS, "play")
        with pytest.raises(errors.NotFoundError):
            await outside.backend.resume(order)

    async def test_an_output_that_somebody_else_has_set_is_not_overwritten(
        self, outside: Outside
    ) -> None:
        await outside.put(builders.at_review(outputs={"given": builders.supplied("default")}))
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        status = builders.at_review(outputs={"given": builders.given("theirs")}).build()["status"]
        await outside.hand.merge(WORKFLOWS, "play", {"status": status})
        await self.refused(outside, order)

    async def test_a_change_of_something_else_does_not_keep_a_resume_from_its_gate(
        self, outside: Outside
    ) -> None:
        await outside.put(builders.at_review().annotated("kept", "as it is"))
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        change = {"metadata": {"labels": {"new": "label"}}, "status": {"progress": "1/2"}}
        await outside.hand.merge(WORKFLOWS, "play", change)
        await outside.backend.resume(order)
        body = await outside.workflow()
        assert node_of(body)["phase"] == "Succeeded"
        assert body["metadata"]["labels"]["new"] == "label"
        assert body["metadata"]["annotations"]["kept"] == "as it is"

    async def test_annotations_that_came_meanwhile_are_not_lost(self, outside: Outside) -> None:
        """The order makes the annotations where there were none: not over somebody else's."""
        await outside.put(builders.at_review())
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        change = {"metadata": {"annotations": {"new": "annotation"}}}
        await outside.hand.merge(WORKFLOWS, "play", change)
        await self.refused(outside, order)

    async def test_the_labels_of_an_earlier_actor_do_not_stay(self, outside: Outside) -> None:
        labels = {constants.LABEL_ACTOR: "before", constants.LABEL_ACTOR_EMAIL: "a.b.example.com"}
        await outside.put(builders.at_review().with_labels(labels))
        await outside.backend.resume(order_for(await outside.hand.get(WORKFLOWS, "play")))
        found = (await outside.workflow())["metadata"]["labels"]
        assert found[constants.LABEL_ACTION] == "Resume"
        assert found.keys().isdisjoint(labels)

    async def test_compressed_nodes_are_opened_and_packed_again(self, outside: Outside) -> None:
        workflow = builders.at_review(outputs={"given": builders.supplied("default")})
        await outside.put(workflow.gate("other", template="other").compressed())
        before = workflows.nodes(await outside.workflow())
        request = builders.a_request("wake").at_gate("displayName=wait")
        order = order_for(await outside.hand.get(WORKFLOWS, "play"), request)

        await outside.backend.resume(order)

        body = await outside.workflow()
        assert not body["status"].get("nodes")
        expected = copy.deepcopy(dict(before))
        expected[workflow.node_id("wait")].update(
            phase="Succeeded",
            finishedAt=order.finished_at,
            message="Resumed by: workflowresume/wake (uid uid-of-wake)",
            outputs={"parameters": [{"name": "given", "value": "default"}]},
        )
        assert workflows.nodes(body) == expected
        assert order.marker_key in body["metadata"]["annotations"]

    async def test_compressed_nodes_that_nobody_can_read_any_more_are_to_be_looked_at_again(
        self, outside: Outside
    ) -> None:
        await outside.put(builders.at_review().compressed())
        order = order_for(await outside.hand.get(WORKFLOWS, "play"))
        await outside.hand.merge(WORKFLOWS, "play", {"status": {"compressedNodes": "garbage"}})
        await self.refused(outside, order)

    async def test_a_suspended_workflow_as_a_whole_is_resumed_once(self, outside: Outside) -> None:
        await outside.put(builders.a_workflow().suspended())
        request = builders.a_request("wake").for_stage(None).of_event("asked")
        order = order_for(await outside.hand.get(WORKFLOWS, "play"), request)
        await outside.backend.resume(order)
        body = await outside.workflow()
        assert "suspend" not in body["spec"]
        assert order.marker_key in body["metadata"]["annotations"]
        await self.refused(outside, order)

    async def test_several_gates_are_opened_together_or_not_at_all(self, outside: Outside) -> None:
        workflow = builders.at_review().gate("second", template="second")
        await outside.put(workflow)
        request = builders.a_request("wake").with_spec(allGates=True)
        order = order_for(await outside.hand.get(WORKFLOWS, "play"), request)
        assert len(order.gates) == 2
        opened = {"status": {"nodes": {workflow.node_id("second"): {"phase": "Succeeded"}}}}
        await outside.hand.merge(WORKFLOWS, "play", opened)
        await self.refused(outside, order)

        closed = {"status": {"nodes": {workflow.node_id("second"): {"phase": "Running"}}}}
        await outside.hand.merge(WORKFLOWS, "play", closed)
        await outside.backend.resume(order)
        body = await outside.workflow()
        assert {node_of(body, gate)["phase"] for gate in ("wait", "second")} == {"Succeeded"}

    async def refused(self, outside: Outside, order: ResumeOrder) -> None:
        """An order that does not fit any more is refused, and nothing of it is written."""
        before = await outside.workflow()
        with pytest.raises(errors.PreconditionError):
            await outside.backend.resume(order)
        assert await outside.workflow() == before

    # --- ports.Requests ---

    async def test_a_status_is_written_first_and_then_replaced(self, outside: Outside) -> None:
        uid = (await outside.put(builders.a_request("wake")))["metadata"]["uid"]
        key = outside.key("wake")
        waiting = {"phase": "Waiting", "outcome": "Waiting", "message": "no gate yet"}
        resumed = {"phase": "Succeeded", "outcome": "Resumed"}
        first = await outside.requests.write_status(key, uid, None, waiting)
        second = await outside.requests.write_status(key, uid, "Waiting", resumed)
        assert (first["status"], second["status"]) == (waiting, resumed)
        assert first["metadata"]["generation"] == second["metadata"]["generation"]
        assert second["spec"] == first["spec"]
        assert await outside.hand.get(REQUESTS, "wake") == second

    async def test_writing_the_same_status_again_makes_no_new_version(
        self, outside: Outside
    ) -> None:
        uid = (await outside.put(builders.a_request("wake")))["metadata"]["uid"]
        status = {"phase": "Waiting", "outcome": "Waiting"}
        versions = {
            (await outside.requests.write_status(outside.key("wake"), uid, before, status))[
                "metadata"
            ]["resourceVersion"]
            for before in (None, "Waiting")
        }
        assert len(versions) == 1

    async def test_what_somebody_else_decided_meanwhile_is_not_overwritten(
        self, outside: Outside
    ) -> None:
        uid = (await outside.put(builders.a_request("wake")))["metadata"]["uid"]
        key = outside.key("wake")
        with pytest.raises(errors.PreconditionError):
            await outside.requests.write_status(key, uid, "Waiting", {"phase": "Waiting"})
        decided = {"phase": "Succeeded", "outcome": "Resumed"}
        await outside.requests.write_status(key, uid, None, decided)
        for before in (None, "Waiting"):
            with pytest.raises(errors.PreconditionError):
                await outside.requests.write_status(key, uid, before, {"phase": "Waiting"})
        assert (await outside.hand.get(REQUESTS, "wake"))["status"] == decided

    @pytest.mark.parametrize("found", [{}, {"phase": "Pending"}, {"message": "by hand"}])
    async def test_a_status_without_an_outcome_is_replaced_once(
        self, outside: Outside, found: dict[str, Any]
    ) -> None:
        uid = (await outside.put(builders.a_request("wake")))["metadata"]["uid"]
        key, decided = outside.key("wake"), {"phase": "Succeeded", "outcome": "Resumed"}
        await outside.requests.write_status(key, uid, None, found)
        with pytest.raises(errors.PreconditionError):
            await outside.requests.write_status(key, uid, "Waiting", decided)

        written = await outside.requests.write_status(key, uid, None, decided)

        assert written["status"] == decided
        with pytest.raises(errors.PreconditionError):
            await outside.requests.write_status(key, uid, None, {"phase": "Waiting"})

    async def test_the_status_of_another_or_of_nobody_is_not_written(
        self, outside: Outside
    ) -> None:
        await outside.put(builders.a_request("wake"))
        status = {"phase": "Waiting", "outcome": "Waiting"}
        with pytest.raises(errors.PreconditionError):
            await outside.requests.write_status(outside.key("wake"), "another", None, status)
        assert "outcome" not in (await outside.hand.get(REQUESTS, "wake")).get("status", {})
        with pytest.raises(errors.NotFoundError):
            await outside.requests.write_status(outside.key("missing"), "uid", None, status)

    async def test_exactly_the_version_that_was_looked_at_is_deleted(
        self, outside: Outside
    ) -> None:
        metadata = (await outside.put(builders.a_request("wake")))["metadata"]
        key, uid, version = outside.key("wake"), metadata["uid"], metadata["resourceVersion"]
        await outside.hand.merge(REQUESTS, "wake", {"metadata": {"labels": {"keep": "me"}}})

        await outside.requests.delete(key, "another", version)
        with pytest.raises(errors.PreconditionError):
            await outside.requests.delete(key, uid, version)
        newest = await outside.version(REQUESTS, "wake")
        await outside.requests.delete(key, uid, newest)

        with pytest.raises(errors.NotFoundError):
            await outside.hand.get(REQUESTS, "wake")
        await outside.requests.delete(key, uid, newest)

    async def test_only_what_succeeded_or_failed_is_finished(self, outside: Outside) -> None:
        phases = {"a": "Succeeded", "b": "Failed", "c": "Waiting", "d": "Pending"}
        for name, phase in phases.items():
            uid = (await outside.put(builders.a_request(name)))["metadata"]["uid"]
            await outside.requests.write_status(outside.key(name), uid, None, {"phase": phase})
        await outside.put(builders.a_request("new"))
        found = [body["metadata"]["name"] async for body in outside.requests.finished()]
        assert sorted(found) == ["a", "b"]

    # --- ports.Breakers ---

    async def test_a_breaker_that_is_not_stored_is_closed_and_without_a_version(
        self, outside: Outside
    ) -> None:
        assert await outside.breakers.read(outside.namespace, "review") == (Breaker(), "")

    @pytest.mark.parametrize("stage", ["review", "", "Review_1"])
    async def test_what_is_stored_of_a_breaker_is_read_again(
        self, outside: Outside, stage: str
    ) -> None:
        half_open = Breaker(
            state=BreakerState.HALF_OPEN,
            consecutive_failures=5,
            opened_at=builders.NOW,
            open_until=builders.NOW + timedelta(seconds=30.5),
            probes=(Probe("uid-1", builders.NOW), Probe("uid-2", builders.NOW)),
        )
        version = ""
        for breaker in (FAILING, half_open, Breaker()):
            version = await outside.breakers.write(outside.namespace, stage, breaker, version)
            assert await outside.breakers.read(outside.namespace, stage) == (breaker, version)

    async def test_of_many_who_write_on_one_version_one_wins(self, outside: Outside) -> None:
        version = ""
        for numbers in (range(1, 7), range(11, 17)):
            results = await asyncio.gather(
                *(
                    outside.breakers.write(
                        outside.namespace,
                        "review",
                        Breaker(consecutive_failures=number),
                        version,
                    )
                    for number in numbers
                ),
                return_exceptions=True,
            )
            won = [one for one in results if isinstance(one, str)]
            lost = [one for one in results if isinstance(one, errors.PreconditionError)]
            assert (len(won), len(lost)) == (1, 5), results
            breaker, version = await outside.breakers.read(outside.namespace, "review")
            assert version == won[0]
            assert breaker.consecutive_failures == numbers[results.index(won[0])]

    async def test_writing_the_same_breaker_again_makes_no_new_version(
        self, outside: Outside
    ) -> None:
        version = await outside.breakers.write(outside.namespace, "review", FAILING, "")
        again = await outside.breakers.write(outside.namespace, "review", FAILING, version)
        assert again == version

    async def test_a_breaker_that_was_deleted_is_to_be_read_again(self, outside: Outside) -> None:
        version = await outside.breakers.write(outside.namespace, "review", FAILING, "")
        await outside.hand.delete_breaker("review")
        with pytest.raises(errors.PreconditionError):
            await outside.breakers.write(outside.namespace, "review", FAILING, version)
        assert await outside.breakers.read(outside.namespace, "review") == (Breaker(), "")

    async def test_breakers_of_other_stages_and_namespaces_are_others(
        self, outside: Outside
    ) -> None:
        await outside.breakers.write(outside.namespace, "review", FAILING, "")
        assert await outside.breakers.read(outside.namespace, "Review") == (Breaker(), "")
        assert await outside.breakers.read("default", "review") == (Breaker(), "")


async def find(outside: Outside, namespace: str, task: str) -> list[ports.Body]:
    """The workflows of a task."""
    pages = outside.workflows.find(namespace, "task-id", task)
    return [body async for page in pages for body in page]


class TestFakes(Promises):
    """The promises on the fakes that the unit tests use."""

    @pytest.fixture
    def outside(self) -> Outside:
        api, breakers = fakes.FakeApi(fakes.FakeClock(builders.NOW)), fakes.FakeBreakers()
        return Outside(
            namespace=builders.NAMESPACE,
            workflows=fakes.FakeWorkflows(api, instance_id=INSTANCE),
            backend=fakes.FakeBackend(api),
            requests=fakes.FakeRequests(api, namespaces=(builders.NAMESPACE,)),
            breakers=breakers,
            hand=FakeHand(api, breakers),
        )


class TestCluster(Promises):
    """The promises on the adapters and a real API server."""

    @pytest.fixture
    async def outside(
        self, cluster: cluster_client.Cluster, namespace: str
    ) -> AsyncIterator[Outside]:
        async with faulty_server.connected(str(cluster.kubeconfig)) as link:
            client = link.client(timeout=20.0, max_connections=8)
            yield Outside(
                namespace=namespace,
                workflows=argo.KubeWorkflows(client, INSTANCE),
                backend=argo.KubeResumeBackend(client),
                requests=KubeRequests(client, (namespace,)),
                breakers=KubeBreakers(client),
                hand=ClusterHand(client, namespace),
            )
