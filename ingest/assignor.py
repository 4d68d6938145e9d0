"""Who of a group reads what: partitions dealt out evenly."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle
from typing import Any

with warnings.catch_warnings():
    # The library warns about itself on import.
    warnings.simplefilter("ignore")
    from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from kafka.coordinator.consumer import ConsumerProtocolAssignment


class Even(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """The library's round robin, under its name and with its outcome. kafka-python 3.0.12's own ends with a KeyError
    where members name different topics, as each time when a new topic is known to one of them and not yet to another.
    """

    @classmethod
    def assign(cls, cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        """Deal the partitions out, each to the next member that has named its topic."""
        named = {member.member_id: set(member.metadata.topics) for member in members}
        dealt: dict[str, dict[str, list[int]]] = {member: defaultdict(list) for member in named}
        turn = cycle(sorted(named))
        for topic in sorted(set().union(*named.values())):
            for partition in sorted(cluster.partitions_for_topic(topic) or ()):
                member = next(member for member in turn if topic in named[member])
                dealt[member][topic].append(partition)
        return {
            member: ConsumerProtocolAssignment(cls.version, sorted(given.items()), b"")
            for member, given in dealt.items()
        }
