"""``l2reg rank``: rank teams by the challenge's rules."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        help="scores.json files of l2reg evaluate, of one task or several, of all teams or some",
    )
    parser.add_argument(
        "--method",
        choices=("official", "page"),
        default="official",
        help="official (default): as the organisers' code; page: as the challenge's page describes",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        help="number of bootstrap resamples of the pairs, for the stability of the places",
    )


def run(options: argparse.Namespace) -> None:
    """Print the ranking."""
    from l2reg.ranking.rank import rank
    from l2reg.ranking.standings import ranking_text
    from l2reg.ranking.team_scores import read_tasks

    tasks = read_tasks(options.results)
    ranking = rank(tasks, options.method, resamples=options.resamples)
    print(ranking_text(ranking, tasks))
