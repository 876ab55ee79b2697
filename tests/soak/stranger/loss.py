"""What an attempt is allowed to cost."""

from enum import Enum


class Loss(Enum):
    """What ends with an attempt, and must not be taken for a failure."""

    NOTHING = "nothing"
    WORKER = "a worker process other than the bystander's, ended on purpose"
    BYSTANDER = "the bystander's worker, ended on purpose: a new session must be let in afterwards"
