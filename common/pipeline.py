"""Photos or crops in, ages out, in a few lines of Python."""

from common.base.regressor import RELEASED as RELEASED
from common.base.regressor import AgePredictBasicPipeline as AgePredictBasicPipeline
from common.base.regressor import AgePrediction as AgePrediction
from common.base.regressor import pick_device as pick_device
