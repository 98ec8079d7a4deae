"""Label selectors mean what they mean to the API server; node selectors what they mean to Argo.

The tables were compared with apimachinery's `labels.Parse` and `fields.ParseSelector` (v0.36).
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumer.core import requirements
from resumer.core.requirements import Operator, Requirement
from resumer.core.selectors import FieldTerm, LabelSelector, NodeFieldSelector
from resumer.errors import InvalidError

NAMES = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9_.-]{0,6}[A-Za-z0-9])?\Z")
KEYS = st.one_of(NAMES, st.builds("{}/{}".format, st.sampled_from(["a", "x.io", "a-b.c1"]), NAMES))
VALUES = st.one_of(st.just(""), NAMES)


@st.composite
def any_requirements(draw: st.DrawFn) -> Requirement:
    operator: Operator = draw(st.sampled_from(list(Operator)))
    values: set[str] = set()
    match operator:
        case Operator.IN | Operator.NOT_IN:
            values = draw(st.sets(VALUES, min_size=1, max_size=4))
        case Operator.EQUALS | Operator.NOT_EQUALS:
            values = {draw(VALUES)}
        case Operator.GREATER_THAN | Operator.LESS_THAN:
            values = {str(draw(st.integers(0, 2**63 - 1)))}
        case Operator.EXISTS | Operator.DOES_NOT_EXIST:
            pass
    return Requirement(draw(KEYS), operator, tuple(sorted(values)))


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("a=b", {"a": "b"}, True),
        ("a=b", {"a": "c"}, False),
        ("a=b", {}, False),
        ("a==b", {"a": "b"}, True),
        ("a!=b", {"a": "b"}, False),
        ("a!=b", {"a": "c"}, True),
        ("a!=b", {}, True),
        ("a=", {"a": ""}, True),
        ("a=", {}, False),
        ("a!=", {"a": ""}, False),
        ("a in (x,y)", {"a": "y"}, True),
        ("a in (x,y)", {"a": "z"}, False),
        ("a in (x,y)", {}, False),
        ("a notin (x)", {"a": "x"}, False),
        ("a notin (x)", {"a": "y"}, True),
        ("a notin (x)", {}, True),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {"a": "b"}, False),
        ("!a", {}, True),
        ("a>5", {"a": "7"}, True),
        ("a>5", {"a": "5"}, False),
        ("a<5", {"a": "4"}, True),
        ("a<5", {"a": "many"}, False),
        ("a>5", {}, False),
        ("a=b,c", {"a": "b", "c": "d"}, True),
        ("a=b,c", {"a": "b"}, False),
        (" a = b ,\t! c\n", {"a": "b"}, True),
        ("a in()", {"a": ""}, True),
        ("a in (,x)", {"a": ""}, True),
        ("a in (x,,y)", {"a": ""}, True),
        ("in in (in,notin)", {"in": "notin"}, True),
        ("in=in", {"in": "in"}, True),
        ("workflows.argoproj.io/completed!=true", {}, True),
    ],
)
def test_a_label_selector_matches_what_it_matches_for_the_api_server(
    text: str, labels: Mapping[str, str], matches: bool
) -> None:
    assert LabelSelector.parse(text).matches(labels) is matches


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a=b c", "found 'c' at character 5, expected ','"),
        ("a=b,", "found the end at character 5, expected a label key or '!'"),
        (",a", "found ',' at character 1, expected a label key or '!'"),
        ("!", "found the end at character 2, expected a label key after '!'"),
        ("!a=b", "found '=' at character 3, expected ','"),
        ("a ~ b", "found '~' at character 3, expected one of =, ==, !=, in, notin, >, <"),
        ("a in x", "found 'x' at character 6, expected '('"),
        ("a in (x", "found the end at character 8, expected ',' or ')'"),
        ("a in (x y)", "found 'y' at character 9, expected ',' or ')'"),
        ("a in (!", "found '!' at character 7, expected a value, ',' or ')'"),
        ("a===b", "found '=' at character 4, expected a value"),
        ("a=(b)", "found '(' at character 3, expected a value"),
        ("a=task-{{id}}", "'task-{{id}}' is not a value of the label a"),
        (f"a={'b' * 64}", "is not a value of the label a"),
        ("-a=b", "'-a' is not a label key"),
        ("A.b/c=d", "'A.b/c' is not a label key"),
        ("/c=d", "'/c' is not a label key"),
        ("a..b/c", "'a..b/c' is not a label key"),
        (f"{'a' * 254}/c", "is not a label key"),
        (f"{'a' * 64}", "is not a label key"),
        ("a>b", "a> needs an integer, found 'b'"),
        ("a<", "a< needs an integer, found ''"),
        ("a>9223372036854775808", "needs an integer"),
        ("", "is empty: it would match every workflow"),
        (" \t", "is empty: it would match every workflow"),
    ],
)
def test_a_label_selector_that_cannot_be_read_is_refused_by_what_and_where(
    text: str, complaint: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        LabelSelector.parse(text, field="spec.labelSelector")
    assert complaint in str(caught.value)
    assert caught.value.field == "spec.labelSelector"
    assert "spec.labelSelector" in str(caught.value)


@given(st.lists(any_requirements(), min_size=1, max_size=5))
def test_what_a_label_selector_writes_reads_back_as_the_same(items: list[Requirement]) -> None:
    selector = LabelSelector(tuple(sorted(items)))
    assert LabelSelector.parse(str(selector)) == selector


@given(st.text(alphabet="ab/.-=!(),<> \tin5é", max_size=20))
def test_any_text_is_a_label_selector_or_an_error_and_matches_as_it_is_written_back(
    text: str,
) -> None:
    try:
        selector = LabelSelector.parse(text)
    except InvalidError:
        return
    for labels in ({}, {"a": "b"}, {"b": "5"}, {"a": "", "b": "in"}):
        again = LabelSelector.parse(str(selector))
        assert again.matches(labels) == selector.matches(labels)


@given(any_requirements(), st.dictionaries(KEYS, VALUES, max_size=3))
def test_an_operator_and_its_negation_never_agree(
    item: Requirement, labels: dict[str, str]
) -> None:
    negations = {
        Operator.EQUALS: Operator.NOT_EQUALS,
        Operator.IN: Operator.NOT_IN,
        Operator.EXISTS: Operator.DOES_NOT_EXIST,
    }
    for operator, negation in negations.items():
        if item.operator is operator:
            assert item.matches(labels) != Requirement(item.key, negation, item.values).matches(
                labels
            )


def test_the_stage_label_can_be_taken_out_of_a_label_selector() -> None:
    selector = LabelSelector.parse("workflow-type=play,current-stage in (b,a),current-stage!=c")
    rest, stage = selector.without("current-stage")
    assert str(rest) == "workflow-type=play"
    assert sorted(map(str, stage)) == ["current-stage in (a,b)", "current-stage!=c"]
    assert rest.without("current-stage") == (rest, ())


def test_equality_and_a_single_value_imply_labels() -> None:
    selector = LabelSelector.parse("a=b,c in (d),e in (f,g),h!=i,j,!k,l=")
    assert selector.implied() == {"a": "b", "c": "d", "l": ""}


def test_a_metav1_label_selector_is_understood() -> None:
    selector = LabelSelector.from_mapping(
        {
            "matchLabels": {"workflow-type": "play"},
            "matchExpressions": [
                {"key": "team", "operator": "In", "values": ["b", "a"]},
                {"key": "tier", "operator": "NotIn", "values": ["test"]},
                {"key": "owner", "operator": "Exists"},
                {"key": "hold", "operator": "DoesNotExist", "values": []},
            ],
        }
    )
    assert str(selector) == "!hold,owner,team in (a,b),tier notin (test),workflow-type=play"
    assert selector.matches({"workflow-type": "play", "team": "a", "owner": ""})
    assert not selector.matches({"workflow-type": "play", "team": "a", "owner": "", "hold": "x"})


@pytest.mark.parametrize(
    ("selector", "field"),
    [
        ({"matchLabels": ["a"]}, "s.matchLabels"),
        ({"matchLabels": {"a": 5}}, "s.matchLabels"),
        ({"matchLabels": {"-": "b"}}, "s.matchLabels"),
        ({"matchExpressions": "a in (b)"}, "s.matchExpressions"),
        ({"matchExpressions": ["a"]}, "s.matchExpressions[0]"),
        ({"matchExpressions": [{"key": "a", "operator": "Gt"}]}, "s.matchExpressions[0].operator"),
        ({"matchExpressions": [{"key": "a", "operator": "In"}]}, "s.matchExpressions[0].values"),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": "b"}]},
            "s.matchExpressions[0].values",
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
            "s.matchExpressions[0].values",
        ),
        ({"matchExpressions": [{"operator": "Exists"}]}, "s.matchExpressions[0]"),
    ],
)
def test_a_metav1_label_selector_that_is_wrong_names_its_field(
    selector: Mapping[str, object], field: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        LabelSelector.from_mapping(selector, field="s")
    assert caught.value.field == field
    assert field in str(caught.value)


@pytest.mark.parametrize("selector", [{}, {"matchLabels": None, "matchExpressions": None}])
def test_an_empty_metav1_label_selector_matches_everything(
    selector: Mapping[str, object],
) -> None:
    assert LabelSelector.from_mapping(selector).matches({"a": "b"})


@given(any_requirements())
def test_the_two_grammars_agree(item: Requirement) -> None:
    names = {
        Operator.IN: "In",
        Operator.NOT_IN: "NotIn",
        Operator.EXISTS: "Exists",
        Operator.DOES_NOT_EXIST: "DoesNotExist",
    }
    if item.operator in names:
        expression = {"key": item.key, "operator": names[item.operator], "values": item.values}
        read = requirements.from_mapping({"matchExpressions": [expression]}, "s")
        assert list(read) == list(requirements.parse(str(item), "s")) == [item]


NODE = {
    "displayName": "wait(0:a,b=c)",
    "templateName": "suspend-for-webhook",
    "phase": "Running",
    "name": "play[0].wait",
    "id": "play-123",
    "inputs.parameters.stage.value": r"back\slash",
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("templateName=suspend-for-webhook", True),
        ("templateName==suspend-for-webhook", True),
        ("templateName!=suspend-for-webhook", False),
        ("templateName=suspend-for-webhook,phase=Running", True),
        ("templateName=suspend-for-webhook,phase!=Running", False),
        (",templateName=suspend-for-webhook,,", True),
        (r"displayName=wait(0:a\,b\=c)", True),
        (r"inputs.parameters.stage.value=back\\slash", True),
        ("templateName= suspend-for-webhook", False),
        ("templateRef.name=", True),
        ("templateRef.template!=", False),
        ("templateRef.template!=x", True),
        ("inputs.parameters.other.value=", True),
    ],
)
def test_a_node_selector_matches_what_it_matches_for_argo(text: str, matches: bool) -> None:
    selector = NodeFieldSelector.parse(text)
    assert selector.matches(NODE) is matches
    assert selector.matches(lambda field: NODE.get(field, "")) is matches


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no terms: it would match every gate"),
        (",", "has no terms: it would match every gate"),
        ("name", "the term 'name' has none of '=', '==', '!='"),
        ("kind=Suspend", "'kind' is not a field of a node; there are displayName, templateName"),
        ("phase=Running, name=x", "' name' is not a field of a node"),
        ("=x", "'' is not a field of a node"),
        ("name!!=x", "'name!' is not a field of a node"),
        ("inputs.parameters..value=x", "is not a field of a node"),
        ("name=a=b", r"'=' in the value 'a=b' must be written '\='"),
        ("name===b", r"must be written '\='"),
        (r"name=a\b", r"'\b' in the value"),
        ("name=a\\", "is not an escape"),
    ],
)
def test_a_node_selector_that_cannot_be_read_is_refused_by_what_is_wrong(
    text: str, complaint: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        NodeFieldSelector.parse(text)
    assert complaint in str(caught.value)
    assert caught.value.field == "nodeFieldSelector"


@given(
    st.lists(
        st.builds(
            FieldTerm,
            st.sampled_from(["name", "phase", "templateRef.name", "inputs.parameters.a-b.value"]),
            st.booleans(),
            st.text(),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_a_node_selector_writes_reads_back_as_the_same(terms: list[FieldTerm]) -> None:
    selector = NodeFieldSelector(tuple(terms))
    assert NodeFieldSelector.parse(str(selector)) == selector


@given(st.text(alphabet="name=!\\,x", max_size=20))
def test_any_text_is_a_node_selector_or_an_error(text: str) -> None:
    try:
        selector = NodeFieldSelector.parse(text)
    except InvalidError:
        return
    assert NodeFieldSelector.parse(str(selector)) == selector
