from . import autograd as autograd
from . import jax as jax
from . import scipy as scipy
from . import torch as torch
from .answer import InconclusiveWarning as InconclusiveWarning
from .policies import Policy as Policy
from .policies import policy as policy
from .policies import set_policy as set_policy
