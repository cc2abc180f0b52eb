"""What is written is what Kubernetes would take, and comes back as it was."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from jobtrail.worker_config import syntax
from jobtrail.worker_config.syntax import PartError, Toleration

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", fullmatch=True)
KEYS = st.builds("{}{}".format, st.sampled_from(["", "airbyte.io/", "a.b-c.example/"]), NAMES)
VALUES = NAMES | st.just("")


@given(st.dictionaries(KEYS, VALUES))
@hypothesis_settings(deadline=None)
def test_selectors_and_labels_come_back_as_they_were(pairs: dict[str, str]) -> None:
    assert syntax.label_pairs(syntax.pairs_text(pairs)) == pairs


TEXT = st.text(st.characters(exclude_characters=",{}", exclude_categories=["C"])).map(str.strip)
JSON_LIKE = st.recursive(
    TEXT, lambda inner: st.lists(inner, max_size=3).map(lambda some: f"{{{','.join(some)}}}")
)


@given(st.dictionaries(KEYS, JSON_LIKE))
@hypothesis_settings(deadline=None)
def test_annotations_hold_any_text_and_commas_in_braces(pairs: dict[str, str]) -> None:
    assert syntax.annotation_pairs(syntax.pairs_text(pairs)) == pairs


EFFECTS = st.none() | st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"])
TOLERATIONS = st.builds(
    Toleration, key=st.none() | KEYS, operator=st.just("Exists"), effect=EFFECTS, value=st.none()
) | st.builds(Toleration, key=KEYS, operator=st.just("Equal"), effect=EFFECTS, value=st.none() | NAMES)


@given(st.lists(TOLERATIONS).map(tuple))
@hypothesis_settings(deadline=None)
def test_tolerations_come_back_as_they_were(tolerations: tuple[Toleration, ...]) -> None:
    assert syntax.tolerations(syntax.tolerations_text(tolerations)) == tolerations


@given(st.text())
@hypothesis_settings(deadline=None)
def test_whatever_is_written_is_read_or_refused_by_its_part(text: str) -> None:
    """No other error than PartError, which has a part of what was written."""
    parsers: tuple[Callable[[str], Any], ...] = (
        syntax.label_pairs,
        syntax.annotation_pairs,
        syntax.tolerations,
        syntax.cpu,
        syntax.memory,
        syntax.pull_policy,
        syntax.pull_secrets,
        syntax.image,
        syntax.dns_label,
        syntax.variable_name,
    )
    refused = []
    for parse in parsers:
        try:
            parse(text)
        except PartError as error:
            refused.append(error.part)
    assert all(part in text for part in refused)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("disk=ssd,zone=eu-1", {"disk": "ssd", "zone": "eu-1"}),
        (" disk = ssd , zone = eu-1 ,", {"disk": "ssd", "zone": "eu-1"}),
        ("topology.kubernetes.io/zone=a", {"topology.kubernetes.io/zone": "a"}),
        ("spot=", {"spot": ""}),
        ("", {}),
    ],
)
def test_pairs_as_airbyte_writes_them(text: str, pairs: dict[str, str]) -> None:
    assert syntax.label_pairs(text) == pairs


def test_an_annotation_may_be_json_as_in_todays_airbyte() -> None:
    """Its key may have capitals before the slash, which a label's may not."""
    text = 'Vault.io/config={"role": "sync", "more": {"a": 1, "b": 2}}, url=http://h?a=b&c=d'
    assert syntax.annotation_pairs(text) == {
        "Vault.io/config": '{"role": "sync", "more": {"a": 1, "b": 2}}',
        "url": "http://h?a=b&c=d",
    }


@pytest.mark.parametrize(
    ("text", "part", "why"),
    [
        ("disk=ssd,zone", "zone", "has no '='"),
        ("disk=ssd,disk=hdd", "disk=hdd", "a second time"),
        ("=ssd", "=ssd", "has the key ''"),
        ("a=b,-disk=ssd", "-disk=ssd", "has the key '-disk'"),
        ("disk=two words", "disk=two words", "has the value 'two words'"),
        (f"disk={'x' * 64}", f"disk={'x' * 64}", "has the value"),
        (f"{'x' * 64}=a", f"{'x' * 64}=a", "has the key"),
        ("Zone.io/a=b", "Zone.io/a=b", "prefix 'Zone.io' is no DNS name"),
        ("/a=b", "/a=b", "prefix '' is no DNS name"),
        ("disk=s\nd", "disk=s\nd", "has the value"),
        ("disk=größe", "disk=größe", "has the value"),
        ("a=b,c={d", "c={d", "brace"),
        ("a=b,c=d}", "c=d}", "brace"),
    ],
)
def test_a_malformed_pair_is_named(text: str, part: str, why: str) -> None:
    with pytest.raises(PartError) as caught:
        syntax.label_pairs(text)
    assert caught.value.part == part
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("text", "tolerations"),
    [
        (
            "key=airbyte,operator=Exists,effect=NoSchedule;key=kind,operator=Equal,value=sync,effect=NoExecute;",
            (
                Toleration(key="airbyte", operator="Exists", effect="NoSchedule"),
                Toleration(key="kind", operator="Equal", value="sync", effect="NoExecute"),
            ),
        ),
        (" key = a , effect = NoSchedule ", (Toleration(key="a", operator="Equal", effect="NoSchedule"),)),
        ("operator=Exists", (Toleration(operator="Exists"),)),
        ("key=a,operator=Exists,value=,effect=", (Toleration(key="a", operator="Exists"),)),
        (";;", ()),
    ],
)
def test_tolerations_by_kubernetes_rules(text: str, tolerations: tuple[Toleration, ...]) -> None:
    assert syntax.tolerations(text) == tolerations


@pytest.mark.parametrize(
    ("part", "why"),
    [
        # Airbyte's own documentation has it so; Kubernetes refuses the pod.
        (
            "key=a,operator=Equals,value=b,effect=NoSchedule",
            "operator=Equals, which is none of Exists, Equal",
        ),
        ("key=a,operator=exists", "none of Exists, Equal"),
        ("key=a,effect=NoScheduling", "none of NoSchedule, PreferNoSchedule, NoExecute"),
        ("key=a,operator=Exists,value=b", "which the operator Exists does not take"),
        ("operator=Equal,value=b", "has no key"),
        ("effect=NoSchedule", "has no key"),
        ("key=a,seconds=3", "'seconds=3', which is none of key="),
        ("key=a,key=b", "has key= twice"),
        ("key=a,", "'', which is none of key="),
        ("a:NoSchedule", "which is none of key="),
        ("key=a b", "has the key 'a b'"),
        ("key=a,value=b c", "has the value 'b c'"),
    ],
)
def test_a_malformed_toleration_is_named(part: str, why: str) -> None:
    with pytest.raises(PartError) as caught:
        syntax.tolerations(f"key=good,operator=Exists;{part}")
    assert caught.value.part == part
    assert why in caught.value.why


SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti", "e3", "E2", "e-2"]


@given(st.decimals(0, 9999, places=3), st.sampled_from(SUFFIXES))
@hypothesis_settings(deadline=None)
def test_quantities_are_what_the_official_client_makes_of_them(number: Decimal, suffix: str) -> None:
    text = f"{number}{suffix}"
    assert syntax.amount(text) == parse_quantity(text)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "text", ["", "1 Gi", "-1", "1gi", "1GB", "one", "1e", "1Kim", "\u0661", "1e999", "9999Ei", "0x1", "."]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(PartError):
        syntax.amount(text)


@pytest.mark.parametrize(("text", "whole"), [("512Mi", True), ("1.5Gi", True), ("1G", True), ("400m", False)])
def test_memory_is_whole_bytes(text: str, whole: bool) -> None:
    """400m is 0.4 bytes to Kubernetes, and always a mistake."""
    if whole:
        assert syntax.memory(text) == text
    else:
        with pytest.raises(PartError, match="a mebibyte is Mi"):
            syntax.memory(text)


def test_names_are_those_that_kubernetes_takes() -> None:
    assert syntax.pull_secrets("regcred, other.example") == ("regcred", "other.example")
    for parse, wrong in (
        (syntax.pull_secrets, "Reg_cred"),
        (syntax.pull_secrets, "a" * 254),
        (syntax.dns_label, "a.b"),
        (syntax.dns_label, "-a"),
        (syntax.dns_label, "a" * 64),
        (syntax.dns_label, "a\n"),
        (syntax.image, ""),
        (syntax.image, "a b"),
        (syntax.image, "a\n"),
        (syntax.variable_name, ""),
        (syntax.variable_name, "1A"),
        (syntax.variable_name, "A=B"),
        (syntax.pull_policy, "always"),
    ):
        with pytest.raises(PartError):
            parse(wrong)
