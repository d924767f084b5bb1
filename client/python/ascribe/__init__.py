"""ascribe - which training examples made the model say that? The client of `ascribed`.

    import ascribe
    client = ascribe.Client("http://127.0.0.1:7171", store="/data/store")
    print(client.corpus("wordnet").query(gradient, k=10))

ascribe.projection    the random projection, the same numbers as the server's C code
ascribe.moment        division by an optimiser's second moment
ascribe.torch         gradients out of a PyTorch model, into batches (needs torch)
ascribe.encoder       a model of yours behind the server: `python3 -m ascribe.encoder`
ascribe.safetensors   reading and writing safetensors files
Needs numpy; shows progress with tqdm where that is installed.
"""
from .client import Client
from .corpus import Corpus
from .errors import (AnswerError, ArgumentError, AscribeError, BadInput, Busy, Conflict, FormatError,
                     JobFailed, NetworkError, NotFound, ProtocolError, Refused, ServerFailed,
                     Unauthorized)
from .records import (CorpusInfo, Damage, EncodedQuery, Encoder, Encoding, Example, Explanation,
                      Ingested, Job, Key, Page, Receipt, SavedQuery, Task, TokenShare)
from .results import Answer, Found, Group, Hit, QueryResult, Scores, ScoreStream

__version__ = "0.1.0"

__all__ = [
    "Answer", "AnswerError", "ArgumentError", "AscribeError", "BadInput", "Busy", "Client",
    "Conflict", "Corpus", "CorpusInfo", "Damage", "EncodedQuery", "Encoder", "Encoding", "Example",
    "Explanation", "FormatError", "Found", "Group", "Hit", "Ingested", "Job", "JobFailed", "Key",
    "NetworkError", "NotFound", "Page", "ProtocolError", "QueryResult", "Receipt", "Refused",
    "SavedQuery", "Scores", "ScoreStream", "ServerFailed", "Task", "TokenShare", "Unauthorized",
]
