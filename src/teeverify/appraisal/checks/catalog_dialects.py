"""The checks about dialects: nodes, chains, the application's identity, the model's names."""

from __future__ import annotations

from teeverify.encoding.checks import Check

__all__ = ["DIALECT_CHECKS"]

DIALECT_CHECKS = (
    Check(
        id="answer.unsigned",
        claim="answer",
        proves="Nothing: no key that the evidence binds signs answers, so none can be verified "
        "later or by others.",
        fix="Talk to the attested TLS key yourself, or encrypt to the attested key; keep no "
        "receipt of it.",
    ),
    Check(
        id="endpoint.certificate",
        claim="channel",
        proves="The certificate that shows the enclave's key without a connection is in its dates.",
        fix="Get the enclave's evidence anew.",
    ),
    Check(
        id="encryption.key-bound",
        claim="channel",
        proves="A key to which requests can be encrypted is in the quote, or signed by a key that "
        "is.",
        fix="Do not encrypt to this key; ask for evidence that binds it.",
    ),
    Check(
        id="nodes.set-aside",
        claim="key",
        proves="Nothing: a node of the list has evidence that does not count, and was set aside.",
        fix="Only answers signed by the key of a node that counts are accepted.",
    ),
    Check(
        id="chain.gateway",
        claim="key",
        proves="The gateway and the node behind it have their keys from one operator's key "
        "service.",
        fix="Ask for the report again: a gateway was shown with another operator's node.",
    ),
    Check(
        id="engine.location",
        claim="code",
        proves="The attested server says that it started the engine, and watches it.",
        fix="Have the server start the engine (teeverify serve --vllm).",
    ),
    Check(
        id="chain.path",
        claim="channel",
        proves="Nothing by itself: it tells the hops, where the chain ends, and who saw the "
        "request in plain text.",
        fix="Send the request to the model's machine itself, or encrypted to its attested key.",
    ),
    Check(
        id="code.dstack",
        claim="code",
        proves="What dstack's OS wrote into RTMR3 before the application started.",
        fix="List the values that you expect (dstack.app_ids and others).",
    ),
    Check(
        id="code.device",
        claim="code",
        proves="Nothing: which device it is, the report alone says.",
        fix="To name machines, list PPIDs in platform.allow.",
    ),
    Check(
        id="code.dstack-listed",
        claim="code",
        proves="App id, compose hash, OS image, key provider and instance are ones that you "
        "listed.",
        fix="Compare with what the operator published; another application runs there.",
    ),
    Check(
        id="model.requested",
        claim="model",
        proves="Which model was asked for.",
        fix="Pass --model.",
    ),
    Check(
        id="model.reported",
        claim="model",
        proves="Nothing: the report's name of the model is signed by nobody.",
        fix="Compare it with the signed text and with what was deployed.",
    ),
    Check(
        id="model.signed",
        claim="model",
        proves="The attested key signed a text or an answer that names the model.",
        fix="Compare the code with what its maker published: what the name stands for is its word.",
    ),
    Check(
        id="model.deployed",
        claim="model",
        proves="The compose-manager's quoted log deployed these files, and only listed ones if "
        "you list any (model.deployments).",
        fix="Read the file that has this hash; it says which weights are served.",
    ),
)
