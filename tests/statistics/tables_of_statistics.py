"""The schema of every table that is written to `statistics/`, by its name, as the code has it."""

import pyarrow as pa

from pipelines.marks.apply import TALLY as MARKS
from pipelines.marks.summary import SITES
from pipelines.repeats.tally import REPEATS, SHARES
from pipelines.statistics.diversity import DIVERSITY
from pipelines.statistics.false_positives import FALSE_POSITIVES
from pipelines.statistics.panel.table import PANEL_TABLE
from pipelines.statistics.panel.tally import PANEL, without_texts
from pipelines.statistics.prevalence import PREVALENCE
from pipelines.statistics.series import SERIES
from pipelines.statistics.tables import ACCOUNTING
from pipelines.statistics.tally import SIGNALS

_NAMES = [pa.field(name, pa.string(), nullable=False) for name in ("scheme", "variant", "key_hash")]
WATERMARKS = pa.schema([MARKS.field(0), *_NAMES, *list(MARKS)[1:], pa.field("sites", pa.int64(), nullable=False)])

SCHEMAS = {
    "prevalence": PREVALENCE,
    "diversity": DIVERSITY,
    "signals": SIGNALS,
    "accounting": ACCOUNTING,
    "false_positives": FALSE_POSITIVES,
    "repeats": REPEATS,
    "repeated": SHARES,
    "watermarks": WATERMARKS,
    "watermark_sites": SITES,
    "panel": PANEL_TABLE,
    "sketches": without_texts(PANEL.empty_table()).schema,
    "series": SERIES,
}
