"""Scans of several channels: whether a network takes them, and features that compare them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from l2reg.config.task_nodes import SCAN_CHANNELS, node_name, scan_channels
from l2reg.features.channel_features import ChannelFeatures
from l2reg.inference.method import Method
from l2reg.optimisation.convex import Convex
from l2reg.own_data.own_table import OwnTable
from l2reg.problems import Problem
from l2reg.wording import quantity


def channel_problems(table: OwnTable, network: Mapping[str, Any]) -> Sequence[Problem]:
    """Return a problem if the scans of a table do not have the channels that a network takes.

    Args:
        table: The table.
        network: Config node of the network.
    """
    taken = scan_channels(network)
    if taken == table.n_channels:
        return []
    return [
        Problem(
            where=str(table.path),
            what="has another number of channels than the network takes",
            expected=f"{quantity(taken, 'channel')} of each scan for model={node_name(network)}",
            found=f"{table.n_channels}",
            remedy=f"train with model.{SCAN_CHANNELS}={table.n_channels} (model=unet or "
            "model=pyramid); a network that is trained takes as many as then (docs/own_data.md)",
        )
    ]


def compare_all_channels(method: Method, n_channels: int) -> Method:
    """Return a method that compares each pair of channels by the features of the first.

    Args:
        method: Method whose features are those of images of one channel.
        n_channels: Number of channels of each scan.
    """
    if n_channels == 1:
        return method
    if isinstance(method.model, Convex):
        method.model.features = ChannelFeatures([method.model.features] * n_channels)
    if method.refinement is None:
        return method
    features = ChannelFeatures([method.refinement.features] * n_channels)
    return replace(method, refinement=replace(method.refinement, features=features))
