"""The settings refuse what cannot work, and say which field, what was found and what is allowed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from resumer import errors, settings


def test_the_defaults_are_allowed() -> None:
    assert settings.Settings().namespaces == ()


def test_with_the_defaults_the_process_ends_within_ten_seconds_of_sigterm() -> None:
    assert settings.Settings().drain_seconds <= 8


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("namespaces", ("a", "B"), "'B' is not the name of a namespace: 1 to 63 of a-z"),
        ("namespaces", ("",), "'' is not the name of a namespace"),
        ("namespaces", ("-a",), "'-a' is not the name of a namespace"),
        ("namespaces", ("a\n",), "is not the name of a namespace"),
        ("namespaces", ("a" * 64,), "is not the name of a namespace"),
        ("namespaces", ("a", "b", "a"), "'a' is given more than once"),
        ("instance_id", "a b", "'a b' is not a label value"),
        ("metrics_port", 65536, "65536 is not within 0 and 65535"),
        ("metrics_port", -1, "-1 is not within 0 and 65535"),
        ("workers", 0, "0 is not within 1 and 1000"),
        ("workers", 1001, "1001 is not within 1 and 1000"),
        ("api_connections", 0, "0 is not within 1 and 1000"),
        ("api_rate", -1.0, "-1 is not within 0 and 100000"),
        ("api_burst", 0, "0 is not within 1 and 100000"),
        ("request_timeout", 0.0, "0 is not within 0.1 and 60"),
        ("request_timeout", float("nan"), "nan is not within 0.1 and 60"),
        ("reconcile_timeout", 9.0, "9 is not within 10 and 3600"),
        ("cleanup_interval", -1.0, "-1 is not within 0 and 86400"),
        ("drain_seconds", float("inf"), "inf is not within 0 and 600"),
        ("stale_seconds", 5.0, "5 is not within 10 and 3600"),
        ("leader_elect_lease_name", "", "'' is not the name of a Lease: 1 to 253 of a-z"),
        ("leader_elect_lease_name", "Blue", "'Blue' is not the name of a Lease"),
        ("leader_elect_lease_name", "a..b", "'a..b' is not the name of a Lease"),
        ("leader_elect_lease_name", "a.-b", "'a.-b' is not the name of a Lease"),
        ("leader_elect_lease_name", "a" * 254, "is not the name of a Lease"),
        ("leader_elect_namespace", "a.b", "'a.b' is not the name of a namespace"),
        ("lease_seconds", 0.5, "0.5 is not within 1 and 3600"),
        ("lease_renew_seconds", 10.0, "10 is not less than the lease, 10"),
        ("lease_renew_seconds", float("nan"), "nan is not less than the lease, 10"),
        ("lease_retry_seconds", 7.0, "7 is not less than the time to renew, 7"),
        ("lease_retry_seconds", 0.0, "0 is not within 0.1 and 3600"),
    ],
)
def test_a_value_that_cannot_work_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(errors.SettingsError) as refused:
        dataclasses.replace(settings.Settings(), **{field: value})
    assert refused.value.field == field
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("namespaces", ("a" * 63, "0", "a-b")),
        ("instance_id", "My_controller.1"),
        ("metrics_port", None),
        ("metrics_port", 0),
        ("api_rate", 0.0),
        ("cleanup_interval", 0.0),
        ("drain_seconds", 0.0),
        ("leader_elect_lease_name", "a.b-c"),
        ("lease_seconds", 3600.0),
        ("lease_renew_seconds", 9.9),
        ("lease_retry_seconds", 0.1),
    ],
)
def test_a_value_at_the_edge_is_taken(field: str, value: Any) -> None:
    chosen = dataclasses.replace(settings.Settings(), **{field: value})
    assert getattr(chosen, field) == value
