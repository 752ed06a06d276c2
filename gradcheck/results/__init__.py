"""The results of a run, as frozen data that can be written to JSON and read back without loss."""

from gradcheck.glossary.verdicts import Reason as Reason
from gradcheck.glossary.verdicts import Verdict as Verdict
from gradcheck.results.case import CheckResult as CheckResult
from gradcheck.results.case import CheckTable as CheckTable
from gradcheck.results.case import Contract as Contract
from gradcheck.results.case import Intent as Intent
from gradcheck.results.case import Law as Law
from gradcheck.results.case import LayerResult as LayerResult
from gradcheck.results.case import Row as Row
from gradcheck.results.case import Search as Search
from gradcheck.results.comparison import Comparison as Comparison
from gradcheck.results.comparison import Estimate as Estimate
from gradcheck.results.comparison import Partial as Partial
from gradcheck.results.comparison import Picture as Picture
from gradcheck.results.comparison import SelfTest as SelfTest
from gradcheck.results.comparison import Whereabouts as Whereabouts
from gradcheck.results.comparison import WrongEntry as WrongEntry
from gradcheck.results.run import RunResult as RunResult
from gradcheck.results.run import Shard as Shard
from gradcheck.results.serialise import SCHEMA_VERSION as SCHEMA_VERSION
