"""What do we know? From observations to predictions with uncertainty.

`fit_surrogate` gives one independent Gaussian process per metric, `fit_feasibility` the probability
that a trial succeeds at all. Neither knows what a design is: both see feature vectors.
"""

from surrogates.feasibility import Feasibility, fit_feasibility
from surrogates.surrogate import Surrogate, feature_bounds, fit_surrogate

__all__ = ["Feasibility", "Surrogate", "feature_bounds", "fit_feasibility", "fit_surrogate"]
