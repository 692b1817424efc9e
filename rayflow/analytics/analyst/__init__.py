"""Questions about the log, answered by processes that end with their question.

Whoever serves imports neither DuckDB nor Arrow and runs nobody's SQL: it asks an `Analyst`. At the first question this
starts a process that has both libraries loaded and forks for every question. The fork shuts itself in (no files but
the log, no network, so much memory, so much time), answers and is gone, so no question ever meets what another one
left behind. After a while without questions, the process that forks ends as well.

    analyst = Analyst(root, sandbox="required")
    answer = await analyst.ask(Question("SELECT count(*) AS runs FROM runs"))
    answer.records()  # [{"runs": 12}]
    await analyst.close()
"""

from rayflow.analytics.analyst.pool import Analyst
from rayflow.analytics.analyst.question import Answer, Column, Limits, Question

__all__ = ["Analyst", "Answer", "Column", "Limits", "Question"]
