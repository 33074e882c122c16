"""The verbs of the `s2s` command by name."""

from s2s.cli.compare import Compare
from s2s.cli.completion import Completion
from s2s.cli.doctor import Doctor
from s2s.cli.evaluate import Evaluate
from s2s.cli.export import Export
from s2s.cli.inspect import Inspect
from s2s.cli.key import Key
from s2s.cli.prepare import Prepare
from s2s.cli.report import Report
from s2s.cli.serve import Serve
from s2s.cli.shortlist import Shortlist
from s2s.cli.submit import Submit
from s2s.cli.train import Train
from s2s.cli.translate import Translate
from s2s.cli.tune import Tune
from s2s.cli.verb import Verb

VERBS: dict[str, type[Verb]] = {
    "prepare": Prepare,
    "inspect": Inspect,
    "train": Train,
    "tune": Tune,
    "evaluate": Evaluate,
    "report": Report,
    "compare": Compare,
    "shortlist": Shortlist,
    "translate": Translate,
    "export": Export,
    "serve": Serve,
    "submit": Submit,
    "key": Key,
    "doctor": Doctor,
    "completion": Completion,
}
