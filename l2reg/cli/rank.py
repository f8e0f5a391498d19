"""``l2reg rank``: rank teams as the challenge does."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        help="scores.json of evaluate.py; of one task or several, of all teams or some",
    )
    parser.add_argument(
        "--method",
        choices=("official", "page"),
        default="official",
        help="page: as the challenge's page says",
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, help="draws of the pairs, for the stability"
    )


def run(options: argparse.Namespace) -> None:
    """Print the ranking."""
    from l2reg.ranking.rank import rank
    from l2reg.ranking.standings import ranking_text
    from l2reg.ranking.team_scores import read_tasks

    tasks = read_tasks(options.results)
    ranking = rank(tasks, options.method, resamples=options.resamples)
    print(ranking_text(ranking, tasks))
