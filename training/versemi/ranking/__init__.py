"""Which case of a library to correct next."""

from versemi.ranking.library import Ranked, Ranking, rank
from versemi.ranking.order import RULE

__all__ = ["RULE", "Ranked", "Ranking", "rank"]
