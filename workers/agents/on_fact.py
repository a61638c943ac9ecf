"""What an agent does with a fact that a service publishes for its member: its folder's `on_fact`. Pure.

    on_fact = "remember"            one policy for every kind of fact

    [on_fact]                       or one for each kind
    "payment.failed" = "steer"
    "job.*" = "tell"
    default = "ignore"              of all others; "remember" when it is not said

A kind is met by its own name first, then by the longest pattern that ends in `*`, then by `default`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

Policy = Literal["ignore", "remember", "tell", "steer", "open"]
POLICIES: Final[tuple[str, ...]] = get_args(Policy)
OnFact = Policy | dict[str, Policy]
DEFAULT: Final = "default"
USUAL: Final[Policy] = "remember"
SPEAKING: Final = frozenset({"tell", "steer", "open"})  # policies that need a prompt to show the fact


def policy_of(on_fact: OnFact, kind: str) -> Policy:
    """The policy for a fact of this kind."""
    if isinstance(on_fact, str):
        return on_fact
    if kind in on_fact and kind != DEFAULT:
        return on_fact[kind]
    patterns = [key for key in on_fact if key.endswith("*") and kind.startswith(key[:-1])]
    return on_fact[max(patterns, key=len)] if patterns else on_fact.get(DEFAULT, USUAL)


def policies(on_fact: OnFact) -> frozenset[str]:
    """Every policy that a fact may meet."""
    if isinstance(on_fact, str):
        return frozenset({on_fact})
    return frozenset({on_fact.get(DEFAULT, USUAL), *on_fact.values()})


def wrong_keys(on_fact: OnFact) -> list[str]:
    """Keys that are neither a kind nor a pattern: empty, or with a `*` anywhere but at the end."""
    keys: Mapping[str, Policy] = {} if isinstance(on_fact, str) else on_fact
    return [key for key in keys if not key or "*" in key[:-1]]
