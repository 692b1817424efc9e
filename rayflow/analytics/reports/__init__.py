"""Reports on a period of the log: made of the figures of `rayflow.analytics.kpis`, for the terminal, for a page, or as
data. Nothing in here imports DuckDB or Arrow."""

from rayflow.analytics.reports.recommendations import Facts, Recommendation, recommend
from rayflow.analytics.reports.report import Measure, Report, Table, build, measured

__all__ = ["Facts", "Measure", "Recommendation", "Report", "Table", "build", "measured", "recommend"]
