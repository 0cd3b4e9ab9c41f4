"""Records of finished runs, and the tables made from them."""

from lt_bench.leaderboard.board import build, check, print_tables
from lt_bench.leaderboard.changes import Change, changes
from lt_bench.leaderboard.comparison import Comparison, compare, compare_all
from lt_bench.leaderboard.frames import frame, per_class_frame
from lt_bench.leaderboard.record import Record, find_record, load_predictions, load_record, load_records, write_record

__all__ = [
    "Change",
    "Comparison",
    "Record",
    "build",
    "changes",
    "check",
    "compare",
    "compare_all",
    "find_record",
    "frame",
    "load_predictions",
    "load_record",
    "load_records",
    "per_class_frame",
    "print_tables",
    "write_record",
]
