"""Every error that a user can put right. Its message is one line that names the thing and the remedy.

StudentError
├── BadSettings              a setting that is missing, unknown or out of range
│   └── UsageError           a command line that cannot be parsed
├── ConfigError              settings of a trainer that are wrong, or do not go together
├── BatchError               batch sizes that do not go together, or exceed the GPU's memory
├── OtherRun                 an output that other settings began
├── InUse                    an output that another process writes
├── PromptsError             data that cannot be read, or that holds no prompt
├── JsonLinesError           a line of another shape, or a file that cannot be written
├── DatasetError             rows that cannot be trained on
├── UnsupportedModel         a model whose log-likelihoods cannot be computed here
├── RewardError              a number that a reward needs is missing or impossible
├── NothingSampled           too few prompts of a step got a usable response
├── SamplingError            the student cannot sample as asked
│   └── SamplerError         the sampling server failed: the classes of sampling/vllm_server.py
│       ├── SamplerUnreachable   no server answers
│       ├── SamplerRefused       it refuses the weights, or a prompt
│       ├── SamplerNonsense      its reply is not one of vLLM's
│       └── StaleWeights         its responses are not of the student's weights
├── TeacherError             the teacher gave no usable answer: the classes of teacher/errors.py
│   ├── TeacherUnreachable   dead, refused, too slow, overloaded or failing, after all retries
│   │   └── TeacherSlow      no answer within the timeout
│   ├── TeacherRefused       a permanent 4xx, with its ``code`` and ``where``; never retried
│   │   └── TooManyRefused   a larger share of the sets than may be left out
│   ├── TeacherChanged       another fingerprint than the run began with
│   │   └── TeachersDiffer   two replicas with different fingerprints
│   └── TeacherNonsense      a reply that is not JSON, of another shape, or with impossible numbers
├── TrackerMissing           ``report_to`` names a tracker that is not installed
├── DiskFull                 a checkpoint did not fit
├── EvaluationError          no usable grader, or nothing to evaluate
│   └── BelowRequired        an audit found less than is required
├── QuestionsError           a question file of another form than the benchmark's
├── ReportError              a directory without a run, or a file in it that cannot be read
└── EndedByAnother           another process of the run failed, and reports the reason itself
"""


class StudentError(Exception):
    """Something outside the program is wrong: a file, a setting, a teacher."""


class BadSettings(StudentError):
    """A setting that is missing, unknown or out of range."""


class UsageError(BadSettings):
    """A command line that cannot be parsed."""


class ConfigError(StudentError):
    """Settings of a trainer that are wrong, or do not go together."""


class BatchError(StudentError):
    """Batch sizes that do not go together, or exceed the GPU's memory."""


class OtherRun(StudentError):
    """An output that other settings began."""


class InUse(StudentError):
    """An output that another process writes at this moment."""


class PromptsError(StudentError):
    """Data that cannot be read, or that holds no prompt; names the data, the row and the remedy."""


class JsonLinesError(StudentError):
    """A line of another shape than expected, or a file that cannot be written."""


class DatasetError(StudentError):
    """Rows that cannot be trained on."""


class UnsupportedModel(StudentError, ValueError):
    """A model whose decoder body and output head do not give its log-likelihoods."""


class RewardError(StudentError, ValueError):
    """A number that a reward needs is missing, zero, out of range or not finite."""


class NothingSampled(StudentError):
    """Fewer prompts of a step got a response that the teacher could score than the step has micro-batches."""


class SamplingError(StudentError):
    """The student cannot sample as asked."""


class TrackerMissing(StudentError):
    """``report_to`` names a tracker that is not installed."""


class DiskFull(StudentError):
    """A checkpoint did not fit."""


class EvaluationError(StudentError):
    """The grader cannot be found or used, or there is nothing to evaluate."""


class BelowRequired(EvaluationError):
    """The best signal of a teacher ranks the better response first less often than is required."""


class QuestionsError(StudentError):
    """A question file of another form than the benchmark's."""


class ReportError(StudentError):
    """A directory that holds no run, or a file in it that cannot be read."""


class EndedByAnother(StudentError):
    """Another process of the run failed, and reports the reason itself."""
