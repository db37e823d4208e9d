"""What of PyTorch cuts gradient, what carries it, and what holds parameters: tables to extend."""

from __future__ import annotations

__all__ = [
    "CAST",
    "CREATES",
    "CUTS",
    "INDEXED",
    "INPLACE_CUTS",
    "LIKE",
    "LOG_PROBABILITIES",
    "LOSSES",
    "PARAMETRIC",
    "REDUCES",
    "REFERENCE",
    "RESHAPES",
    "SAME",
    "VALUES_AND_INDICES",
    "WRAPPERS",
]

# Functions and methods whose result carries no gradient.
CUTS = frozenset(
    [
        "argmax",
        "argmin",
        "argsort",
        "argwhere",
        "nonzero",
        "eq",
        "ne",
        "gt",
        "lt",
        "ge",
        "le",
        "equal",
        "isnan",
        "isinf",
        "isfinite",
        "isclose",
        "allclose",
        "logical_and",
        "logical_or",
        "logical_not",
        "logical_xor",
        "bitwise_and",
        "bitwise_or",
        "any",
        "all",
        "multinomial",
        "bernoulli",
        "one_hot",
        "searchsorted",
        "bucketize",
        "histc",
        "bincount",
        "unique",
        "unique_consecutive",
        "randperm",
        "numpy",
        "tolist",
        "item",
        "long",
        "int",
        "short",
        "byte",
        "bool",
        "char",
        "size",
        "dim",
        "numel",
        "ndimension",
        "element_size",
        "stride",
        "is_floating_point",
        "get_device",
        "nelement",
        "count_nonzero",
        "is_contiguous",
        "stop_gradient",
        "sign_",
        "isin",
        "greater",
        "less",
        "greater_equal",
        "less_equal",
    ]
)

# Functions that make a tensor from shapes and numbers.
CREATES = frozenset(
    [
        "zeros",
        "ones",
        "full",
        "empty",
        "rand",
        "randn",
        "randint",
        "normal",
        "arange",
        "linspace",
        "logspace",
        "eye",
        "tensor",
        "from_numpy",
        "frombuffer",
        "triu_indices",
        "tril_indices",
        "manual_seed",
        "device",
        "dtype",
        "Size",
        "Generator",
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "rand_like",
        "randn_like",
        "randint_like",
        "FloatTensor",
        "LongTensor",
        "BoolTensor",
        "Tensor",
        "IntTensor",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "new_tensor",
    ]
)

# Methods whose arguments only say of which shape or type the result is to be.
REFERENCE = frozenset(["type_as", "expand_as", "view_as", "reshape_as", "to", "type", "resize_as"])
LIKE = frozenset(
    [
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "rand_like",
        "randn_like",
        "randint_like",
    ]
)

CAST = frozenset(["long", "int", "short", "byte", "bool", "char"])
INPLACE_CUTS = frozenset({"detach_", "requires_grad_"})

RESHAPES = frozenset(
    [
        "view",
        "reshape",
        "squeeze",
        "unsqueeze",
        "flatten",
        "unflatten",
        "permute",
        "transpose",
        "t",
        "contiguous",
        "expand",
        "expand_as",
        "view_as",
        "repeat",
        "clone",
        "to",
        "cpu",
        "cuda",
        "float",
        "double",
        "half",
        "bfloat16",
        "type",
        "type_as",
        "movedim",
        "swapaxes",
        "chunk",
        "split",
        "unbind",
        "narrow",
        "select",
        "masked_select",
        "gather",
        "take_along_dim",
        "index_select",
        "roll",
        "flip",
        "cat",
        "stack",
        "concat",
        "concatenate",
        "hstack",
        "vstack",
        "diagonal",
        "masked_fill",
        "nan_to_num",
    ]
)
REDUCES = frozenset(["mean", "sum", "nanmean", "nansum"])
SAME = {
    "negative": "neg",
    "neg": "neg",
    "add": "add",
    "sub": "sub",
    "subtract": "sub",
    "mul": "mult",
    "multiply": "mult",
    "div": "div",
    "divide": "div",
    "true_divide": "div",
}

LOG_PROBABILITIES = frozenset(
    {"log_prob", "log_softmax", "logsigmoid", "LogSoftmax", "LogSigmoid", "log_probs"}
)

# Functions and methods that return values and indices where a dimension is given.
VALUES_AND_INDICES = frozenset(
    ["max", "min", "topk", "sort", "kthvalue", "mode", "median", "cummax", "cummin"]
)
INDEXED = frozenset(
    ["gather", "index_select", "take_along_dim", "scatter", "scatter_", "scatter_add", "embedding"]
)

# Losses that compare a prediction with a target, by the name of the function.
LOSSES = {
    "MSELoss": "mse_loss",
    "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
    "CrossEntropyLoss": "cross_entropy",
    "NLLLoss": "nll_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "KLDivLoss": "kl_div",
    "GaussianNLLLoss": "gaussian_nll_loss",
    "PoissonNLLLoss": "poisson_nll_loss",
    "CosineSimilarity": "cosine_similarity",
    "LogSoftmax": "log_softmax",
    "LogSigmoid": "logsigmoid",
}

# Layers that hold parameters; everything else under torch.nn holds none.
PARAMETRIC = frozenset(
    [
        "Linear",
        "LazyLinear",
        "Bilinear",
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "LazyConv1d",
        "LazyConv2d",
        "LazyConv3d",
        "Embedding",
        "EmbeddingBag",
        "RNN",
        "LSTM",
        "GRU",
        "RNNCell",
        "LSTMCell",
        "GRUCell",
        "BatchNorm1d",
        "BatchNorm2d",
        "BatchNorm3d",
        "SyncBatchNorm",
        "LayerNorm",
        "GroupNorm",
        "RMSNorm",
        "MultiheadAttention",
        "Transformer",
        "TransformerEncoder",
        "TransformerDecoder",
        "TransformerEncoderLayer",
        "TransformerDecoderLayer",
        "PReLU",
        "NonDynamicallyQuantizableLinear",
        "AdaptiveLogSoftmaxWithLoss",
        "LazyBatchNorm1d",
        "LazyBatchNorm2d",
    ]
)

# What takes a model and behaves as it.
WRAPPERS = frozenset(
    [
        "DataParallel",
        "DistributedDataParallel",
        "FullyShardedDataParallel",
        "DDP",
        "FSDP",
        "DistributedModel",
    ]
)
